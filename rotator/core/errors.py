"""What can go wrong. The type of an error alone decides what the engine does next."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rotator.core.model import Json
    from rotator.core.session import Session


# What a text may end with that is no end of a sentence: a quotation or parenthesis from a server.
_OPEN_ENDS: Final = tuple("\"'`)]}")


class RotatorError(Exception):
    """An error, written for an operator at 3 a.m.

    `what` is what happened, `hint` what to do next. The engine adds `secret` and `step`, in
    `safety` whether the application can still log in, and in `origin` whose error it is: `target
    NAME` or `backend NAME`. `cause`: that of the `Rejection`, where a plugin knows why a login failed.
    """

    kind: ClassVar[str] = "error"

    def __init__(self, what: str, *, hint: str = "", safety: str = "") -> None:
        self.what: str = _sentence(scrub(what))
        # Loggers and error trackers take `args` as they are.
        super().__init__(self.what)
        self.hint: str = scrub(hint)
        self.safety: str = safety
        self.secret: str | None = None
        self.step: str | None = None
        self.origin: str | None = None
        self.cause: str = ""

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.secret, self.step and f"step {self.step}") if part)
        lead = f"{where}: {self.what}" if where else self.what
        return scrub(" ".join(part for part in (lead, self.safety, self.hint) if part))


def _sentence(text: str) -> str:
    """Return a text as a whole sentence: what follows it is another one."""
    return f"{text}." if text[-1:].isalnum() or text[-1:] in _OPEN_ENDS else text


class UsageError(RotatorError):
    """The request is invalid: no such secret, a bad option, a broken configuration."""

    kind = "usage"


class LeaseEnded(UsageError):
    """The lease has ended: its login is no longer valid, and it cannot be renewed."""

    kind = "ended"


class NotPermitted(RotatorError):
    """No role allows this actor to do it: nothing was done, and the attempt is recorded."""

    kind = "not-permitted"


class NeedsApproval(RotatorError):
    """A rule wants an approval first: nothing was done."""

    kind = "needs-approval"


class AlreadyTaken(RotatorError):
    """A request was carried out before."""

    kind = "already-taken"


class StepError(RotatorError):
    """A step of a rotation did not succeed."""

    kind = "step"


class Transient(StepError):
    """It did not happen and may well work later: retry with backoff."""

    kind = "transient"


class Unavailable(Transient):
    """The target or the backend as a whole cannot be used, by no secret: all of its secrets wait.

    The admin is rejected or lacks a right that every rotation needs, a disk is full, a backend is
    sealed. Nothing was changed. It uses up no secret's retries; `hint` is the remedy.
    """

    kind = "unavailable"


class InUse(Transient):
    """The old credential is still in use: wait, by the policy's drain rules.

    `sessions`: the open sessions of the old login. `consumers`: the verdict on the consumers, where
    their gate holds the revoke.
    """

    kind = "in-use"

    def __init__(
        self,
        what: str,
        *,
        sessions: Sequence[Session] = (),
        consumers: Mapping[str, Json] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(what, hint=hint)
        self.sessions: tuple[Session, ...] = tuple(sessions)
        self.consumers: Mapping[str, Json] | None = consumers


class Refused(StepError):
    """The target rejected this candidate: discard it, propose another one, and count the attempt."""

    kind = "refused"


class Denied(StepError):
    """Our own access lacks a right: park the secret and name the missing right."""

    kind = "denied"


class CurrentRejected(Denied):
    """A step tried what the backend serves, and the target rejected it."""

    kind = "current-rejected"


class Unprovable(Denied):
    """The target accepts a login that it must reject, so no check on it proves anything."""

    kind = "unprovable"


class Conflict(StepError):
    """Somebody else wrote, or owns, what we were about to write: stop, overwrite nothing."""

    kind = "conflict"


class Unknown(StepError):
    """It was sent and the answer was lost: find out before acting."""

    kind = "unknown"


class LockLost(RotatorError):
    """Another engine has taken over this secret: stop before the next effect."""

    kind = "lock-lost"


class Busy(RotatorError):
    """Another engine is at work on this secret right now."""

    kind = "busy"


class NotDue(RotatorError):
    """There is nothing to do yet: the secret is not due, or is in its grace period."""

    kind = "not-due"

    def __init__(self, what: str, *, until: datetime | None = None, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.until: datetime | None = until


class Parked(RotatorError):
    """The secret's automatic retries are used up: nothing is lost, an operator must decide."""

    kind = "parked"


class JournalError(RotatorError):
    """The audit journal cannot be used. Without a journal there is no effect."""

    kind = "journal"


class JournalBroken(JournalError):
    """The audit journal no longer holds what was once written into it."""

    kind = "journal-broken"


class NoKey(JournalError):
    """This process has no key that signs what it would append to the journal: nothing was appended."""

    kind = "no-key"


# What the engine retries by itself; every other step error needs a decision first.
RETRIED: Final = frozenset({Transient.kind, Unavailable.kind, Unknown.kind})
