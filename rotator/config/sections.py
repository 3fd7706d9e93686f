"""The sections for the daemon as settings, refused where their parts do not agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.config.daemon_sections import DaemonDocument, ReportsDocument
from rotator.config.document import ConsumerDocument
from rotator.config.model import ConsumerSettings
from rotator.core.consumers import Consumer
from rotator.core.daemon_settings import (
    BreakerSettings,
    DaemonSettings,
    Dispatch,
    Limits,
    ReportListener,
    SpacingGroup,
    Subscriber,
)
from rotator.core.net import is_local
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rotator.config.document import Document
    from rotator.config.positions import Positions


def daemon(source: Positions, document: Document, journal: str, base: Path) -> DaemonSettings:
    """Return how the daemon works. `journal`: the URL of its database. Files are relative to `base`."""
    given = document.daemon or DaemonDocument()
    limits = Limits(**given.limits.model_dump())
    if limits.per_target >= limits.total and limits.total > 1:
        source.problem(
            ("daemon", "limits"),
            f"one target may take all {limits.total} places: if it hangs, all others wait.",
            "Make `per_target` smaller than `total`.",
        )
    if given.breaker.longest < given.breaker.wait:
        source.problem(
            ("daemon", "breaker", "longest"),
            "the longest wait is shorter than the first wait.",
            "Raise `longest` or lower `wait`.",
        )
    if given.dispatch is Dispatch.PROCRASTINATE and not journal.startswith("postgres"):
        source.problem(
            ("daemon", "dispatch"),
            "the queue is in the journal's database, and this journal is not in PostgreSQL.",
            "Keep the journal in PostgreSQL, or write `dispatch: threads`.",
        )
    return DaemonSettings(
        reports=_reports(source, given.reports, base),
        dispatch=given.dispatch,
        limits=limits,
        catch_up=given.catch_up,
        verify_every=given.verify_every,
        checkpoint_every=given.checkpoint_every,
        listen=given.listen,
        shutdown=given.shutdown,
        breaker=BreakerSettings(**given.breaker.model_dump()),
    )


def _reports(source: Positions, given: ReportsDocument, base: Path) -> ReportListener | None:
    """Return where consumers report; None for nowhere."""
    keys = ("daemon", "reports")
    leaks = given.leaks.model_dump(exclude_none=True)
    if given.listen == "none":
        if leaks:
            said = "no source can report: `listen` is `none`."
            source.problem((*keys, "leaks"), said, "Set `listen`, such as `0.0.0.0:9465`.")
        return None
    host = given.listen.rpartition(":")[0].strip("[]")
    if (given.certificate is None) is not (given.key is None):
        said = "`certificate` and `key` belong together."
        source.problem(keys, said, "Set both, or neither.", at_key=True)
    elif given.certificate is None and not is_local(host):
        said = "tokens would cross the network unencrypted."
        remedy = "Set `certificate` and `key`, or listen on 127.0.0.1."
        source.problem((*keys, "listen"), said, remedy)
    certificate, key = (
        base / one if one is not None else None for one in (given.certificate, given.key)
    )
    return ReportListener(listen=given.listen, certificate=certificate, key=key, leaks=leaks)


def partners(
    source: Positions, document: Document, secrets: Iterable[str]
) -> dict[str, SpacingGroup]:
    """Return the group of each secret that has partners."""
    known, found = set(secrets), dict[str, SpacingGroup]()
    for name, given in (document.partners or {}).items():
        group = SpacingGroup(name=name, apart=given.apart, secrets=tuple(given.secrets))
        for number, one in enumerate(given.secrets):
            keys = ("partners", name, "secrets", number)
            if one not in known:
                source.problem(keys, f"unknown secret `{one}`.", near(one, known) or "Add it.")
            elif one in found:
                said = f"secret `{one}` is already in group `{found[one].name}`."
                source.problem(keys, said, "A secret can be in only one group.")
            found.setdefault(one, group)
    return found


def consumers(document: Document) -> dict[str, ConsumerSettings]:
    """Return the applications that use credentials, by name."""
    found: dict[str, ConsumerSettings] = {}
    for name, entry in (document.consumers or {}).items():
        # With all its keys commented out, an entry is nothing.
        given = entry or ConsumerDocument()
        consumer = Consumer(
            name=name,
            instances=given.instances,
            gate=given.gate,
            wait=given.wait,
            identities=tuple(given.identities),
        )
        found[name] = ConsumerSettings(consumer=consumer, token=given.token)
    return found


def notifications(source: Positions, document: Document) -> tuple[Subscriber, ...]:
    """Return who is told."""
    found: list[Subscriber] = []
    for number, given in enumerate(document.notifications or []):
        keys = ("notifications", number)
        if given.type == "webhook" and given.url is None:
            source.problem(keys, "a webhook requires `url`.", "Write `url: https://HOST/PATH`.")
        if given.type == "apprise" and (given.secret is None or given.url is not None):
            source.problem(
                keys,
                "Apprise requires `secret` and accepts no `url`, because its URLs contain"
                " passwords.",
                "Store the URL in a file: `secret: file:apprise-url`.",
            )
        found.append(
            Subscriber(
                type=given.type,
                topics=frozenset(given.events),
                url=given.url,
                secret=given.secret,
            )
        )
    return tuple(found)
