"""Wires requests: which key signs those of this process, and whose are accepted.

A console needs no more than this: a journal opened without a key, and `requests_of`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rotator import system
from rotator.core.access import Subject
from rotator.core.errors import UsageError
from rotator.journal import chain
from rotator.journal.requests import SqlRequests, Writer
from rotator.references import Resolver
from rotator.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.config import Settings
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.secret import Secret
    from rotator.journal.event_key import EventKey
    from rotator.journal.sql import SqlJournal


def requests_of(
    settings: Settings,
    journal: SqlJournal,
    *,
    resolve: Callable[[str], Secret] | None = None,
    event_key: Callable[[], EventKey | None] | None = None,
    engine: bool = False,
) -> Requests:
    """Return the requests of an installation. Nothing is read before it is needed.

    `resolve` looks references up; without it only `file:` and `env:` are. `event_key` returns the key
    of all engines, for a process that may read the signing key. `engine`: this process carries requests
    out, so it always uses that one.
    """
    clock = system.SystemClock()
    resolve = resolve or Resolver(_no_backend, settings.base, os.environ).secret

    def own() -> Writer | None:
        return None if engine else _own_key(settings, resolve, has_other=event_key is not None)

    return Requests(
        log=SqlRequests(
            journal,
            clock,
            own=own,
            writers=settings.requests.writers,
            event_key=event_key,
        ),
        access=settings.access,
        clock=clock,
        entropy=system.SystemEntropy(),
        subject=lambda name: _subject(settings, journal, name),
        lasts=settings.requests.expires,
    )


def _own_key(
    settings: Settings, resolve: Callable[[str], Secret], *, has_other: bool
) -> Writer | None:
    """Return the key of this machine. A file of all machines may name one that only some have."""
    reference = settings.requests.key
    if reference is None:
        return None
    try:
        key = resolve(reference)
    except UsageError:
        if has_other:
            return None
        raise
    public = chain.public_key(key)
    for name, one in settings.requests.writers.items():
        if chain.key_id(one) == chain.key_id(public):
            return Writer(name=name, key=key)
    raise UsageError(
        "no engine would accept the request: `requests.writers` does not hold the public half of"
        " `requests.key`.",
        safety="Nothing was requested.",
        hint="Add it to the configuration of the engines. See `rotator docs roles`.",
    )


def _subject(settings: Settings, journal: SqlJournal, name: str) -> Subject:
    """Return what rules know of a secret, also of one that only the journal knows."""
    chosen = settings.secrets.get(name)
    if chosen is not None:
        return Subject(name=name, tags=chosen.tags)
    if journal.secret(name) is not None:
        return Subject(name=name)
    return Subject(name=settings.secret(name).name)


def _no_backend(name: str) -> SecretBackend:
    raise UsageError(
        f"this process has no access to backend {name!r}.",
        hint="Set `requests.key` to a reference with `file:` or `env:`.",
    )
