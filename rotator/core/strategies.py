"""What strategies have in common on every target: which login comes next, and which is left alone."""

from __future__ import annotations

import hashlib
import json
from shlex import quote
from typing import TYPE_CHECKING, Final

from rotator.core.errors import Conflict, Denied, Refused, UsageError
from rotator.core.model import Credential, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Check

_PAIR: Final = 2
_DIGITS: Final = 16


def candidate(username: str, current: Credential | None, ctx: StepContext) -> Credential:
    """Return the next credential: this login, a new password, and all else as it is now."""
    fields = dict(current.fields) if current else {}
    return Credential(username=username, password=ctx.new_password(), fields=fields)


def same_login(current: Credential | None, username: str | None) -> str:
    """Return the login whose password changes: the current one, or at first the option `username`.

    Raises `Denied` when neither is there.
    """
    name = current.username if current else username
    if name is None:
        raise Denied(
            "nothing is published yet, so the login's name is not known.",
            hint="Set `username` in the secret's options.",
        )
    return name


def next_of_pair(users: Sequence[str], current: Credential | None) -> str:
    """Return which of two logins that take turns comes next."""
    first, second = users
    return second if current is not None and current.username == first else first


def require_pair(users: Sequence[str]) -> None:
    """Raise `UsageError` unless the option `users` names two different logins."""
    if len(users) != _PAIR or len(set(users)) != _PAIR:
        raise UsageError("strategy alternating-users needs `users`: two different login names.")


def passed(login: str, checks: Sequence[Check]) -> Evidence:
    """Return the evidence that a new login does its work; raise `Refused` with what it could not do."""
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.ok]
    if failed:
        raise Refused(
            f"the new login {login!r} could not do the work of the old one: {'; '.join(failed)}",
            hint="Give it, or its group, what is missing, or change the options, and rotate again.",
        )
    return Evidence(checks=tuple(checks))


def counted_rights(rights: Iterable[Sequence[str]]) -> str:
    """Return how many rights of each kind there are, and a digest of them all: evidence that is short.

    Each right begins with its kind.
    """
    found = sorted(map(list, set(map(tuple, rights))))
    kinds = sorted({one[0] for one in found})
    counts = ", ".join(f"{sum(one[0] == kind for one in found)} {kind}" for kind in kinds)
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:_DIGITS]
    return f"{counts or 'none'} (sha256 {digest})"


def require_not_current(name: str, ctx: StepContext) -> None:
    """Raise `Conflict` for the login that consumers use: nothing may take it away."""
    if ctx.current is not None and ctx.current.username == name:
        raise Conflict(
            f"login {name!r} is the one that the backend serves, so it was left alone.",
            safety="The application is safe: what the backend serves logs in.",
        )


def not_ours(
    what: str,
    login: str,
    ctx: StepContext,
    *,
    pair: Sequence[str] = (),
    owner: str | None = None,
) -> Conflict:
    """Return the error for a login that exists and that rotator neither made nor adopted.

    `what` names it, with where it is; `pair`: the two logins that take turns, of which it may be one;
    `owner`: the secret whose mark it carries.
    """
    if owner is not None:
        return Conflict(
            f"{what} belongs to secret {owner!r}, so it was left alone.",
            hint="Give each secret logins of its own: change the options of one of the two.",
        )
    if login in pair:
        hint = (
            f"If it is the second login of this secret, take both over: rotator adopt {ctx.secret} --pair."
            " Otherwise name another one in `users`."
        )
    else:
        hint = (
            "If it is this secret's login, take it over:"
            f" rotator adopt {ctx.secret} --username {quote(login)} --password-from prompt."
            " Otherwise name another login in the options."
        )
    return Conflict(
        f"{what} exists and rotator neither made nor adopted it, so it was left alone.", hint=hint
    )
