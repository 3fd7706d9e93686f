"""What faces do with requests: append one, approve or refuse it, and ask whether an actor may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

from rotator.core.access import REQUEST_LASTS, Actor, Permission, Subject
from rotator.core.errors import NeedsApproval, NoKey, NotPermitted, UsageError
from rotator.core.identifiers import new_id
from rotator.core.requests import (
    GLASS,
    KINDS,
    OPEN_STATES,
    Entry,
    EntryKind,
    Request,
    RequestState,
    fold,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rotator.core.access import Access
    from rotator.core.model import Json
    from rotator.core.ports import Clock, Entropy
    from rotator.core.requests import RequestLog

_UNCHANGED: Final = "Nothing was changed."
# An attempt that is repeated within this time is recorded once.
_SAME_ATTEMPT: Final = timedelta(hours=1)
# No reason is a document.
_LONGEST_REASON: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """The requests of an installation, for one process.

    `subject` returns what rules know of a secret; it raises `UsageError` for an unknown one. `lasts`:
    how long a request waits, where no approval rule says otherwise.
    """

    log: RequestLog
    access: Access
    clock: Clock
    entropy: Entropy
    subject: Callable[[str], Subject]
    lasts: timedelta = REQUEST_LASTS

    # -- what an actor may do ------------------------------------------------------------------

    def may(self, actor: Actor, permission: Permission, secret: str | None = None) -> bool:
        """Return whether an actor may do this to a secret; without one: to any secret at all."""
        return self.access.may(actor, permission, None if secret is None else self._subject(secret))

    def require(self, actor: Actor, permission: Permission, secret: str | None = None) -> None:
        """Raise `NotPermitted` unless an actor may do this; the attempt is then recorded."""
        if not self.may(actor, permission, secret):
            self.deny(actor, permission, secret or "", secret=secret)

    def deny(
        self, actor: Actor, permission: Permission, what: str, *, secret: str | None = None
    ) -> NoReturn:
        """Raise `NotPermitted`, and record the attempt: one of each kind in an hour.

        A process without a key cannot record it, and refuses all the same. `what`: what the actor may not do it to, in words.
        """
        entry = Entry(
            request=new_id(self.entropy),
            kind=EntryKind.DENIED,
            secret=secret or "",
            actor=self.access.known_groups(actor),
            action=permission,
        )
        recorded = "The attempt was recorded."
        try:
            if not self._is_recorded(entry):
                _ = self.log.append(entry)
        except NoKey:
            recorded = "The attempt was not recorded, because this process has no key."
        error = NotPermitted(
            f"{actor} may not {_VERBS[permission]}{f' {what}' if what else ''}.",
            safety=_UNCHANGED,
            hint=f"{recorded} Roles that allow it: {self.access.allowed_to(permission)}"
            " (section `roles` of the configuration).",
        )
        error.secret = secret
        raise error

    def _is_recorded(self, entry: Entry) -> bool:
        """Return whether the last hour has an attempt of the same actor to do the same."""
        return any(
            one.trusted
            and (one.actor.subject, one.actor.method) == (entry.actor.subject, entry.actor.method)
            and (one.secret, one.action) == (entry.secret, entry.action)
            for one in self.log.denied(self.clock.now() - _SAME_ATTEMPT)
        )

    def require_no_approval(self, permission: Permission, secret: str, *, kept: str = "") -> None:
        """Raise `NeedsApproval` where a rule wants an approval before this is done to a secret."""
        if not self.access.rules_for(permission, self._subject(secret)):
            return
        verb = permission.value.removesuffix("-now")
        error = NeedsApproval(
            f"{_VERBS[permission]} needs an approval.",
            safety=kept or _UNCHANGED,
            hint=f"Request it: rotator request {verb} {secret} --reason 'WHY'\n"
            "In an emergency, with the role breaker: add --break-glass --reason 'WHY'",
        )
        error.secret = secret
        raise error

    # -- requests ------------------------------------------------------------------------------

    def ask(
        self,
        action: Permission,
        secret: str,
        *,
        actor: Actor,
        reason: str,
        options: Mapping[str, Json] | None = None,
        break_glass: bool = False,
    ) -> Request:
        """Append a request; an engine acts on it. Raises `NotPermitted` or `UsageError`.

        `options`: `end_sessions` (bool) of `revoke-now`, `mode` (`move`, `kill`, `map`) of an incident.
        `break_glass`: without the approvals that rules want; everybody is notified.
        """
        if action not in KINDS:
            raise UsageError(f"`{action}` cannot be requested.", safety=_UNCHANGED)
        _require_reason(reason)
        self.require(actor, action, secret)
        if break_glass:
            self.require(actor, Permission.BREAK_GLASS, secret)
        entry = Entry(
            request=new_id(self.entropy),
            kind=KINDS[action],
            secret=secret,
            actor=self.access.known_groups(actor),
            reason=reason,
            action=action,
            data={**(options or {}), **({GLASS: True} if break_glass else {})},
        )
        written = self.log.append(entry)
        return fold([written])[0]

    def rotate_after_reveal(self, secret: str, *, actor: Actor) -> None:
        """Request the rotation that a policy wants after somebody has read the value of a secret."""
        _ = self.log.append(
            Entry(
                request=new_id(self.entropy),
                kind=KINDS[Permission.ROTATE],
                secret=secret,
                actor=self.access.known_groups(actor),
                reason="its value was revealed (after_reveal: now)",
                action=Permission.ROTATE,
            )
        )

    def approve(self, request: str, *, actor: Actor, reason: str) -> Request:
        """Approve a request. Raises `NotPermitted`, or `UsageError` where that has no effect."""
        asked = self._decided(request, actor, reason, "approve")
        rules = asked.rules(self.access, self._subject(asked.secret))
        own = actor.subject == asked.actor.subject
        if own and rules and all(rule.not_self for rule in rules):
            raise NotPermitted(
                "nobody can approve their own request.",
                safety=_UNCHANGED,
                hint="Somebody else with the role approver can.",
            )
        if actor.subject in [one.actor.subject for one in asked.approvals]:
            raise UsageError("you have approved this request already.", safety=_UNCHANGED)
        return self._add(asked, EntryKind.APPROVED, actor, reason)

    def refuse(self, request: str, *, actor: Actor, reason: str) -> Request:
        """Refuse a request, or withdraw one's own."""
        asked = self._decided(request, actor, reason, "refuse")
        return self._add(asked, EntryKind.REFUSED, actor, reason)

    def get(self, request: str) -> Request:
        """Return a request by its id. Raises `UsageError` where there is none."""
        found = fold(self.log.of(request))
        if not found:
            raise UsageError(
                "there is no request with this id.", hint="See the open ones: rotator requests"
            )
        return found[0]

    def open(self) -> list[Request]:
        """Return the requests that wait for an approval or an engine, oldest first."""
        return [one for one in fold(self.log.open()) if self.state(one) in OPEN_STATES]

    def recent(self, limit: int = 50, secret: str | None = None) -> list[Request]:
        """Return the newest requests, newest first."""
        return fold(self.log.recent(limit, secret))[::-1]

    def state(self, request: Request) -> RequestState:
        """Return how far a request is."""
        subject, now = self._known(request.secret), self.clock.now()
        return request.state(self.access, subject, now, self.lasts)

    def missing(self, request: Request) -> int:
        """Return how many approvals a request still needs."""
        return request.missing(self.access, self._known(request.secret))

    def expires(self, request: Request) -> datetime:
        """Return when a request is not carried out any more."""
        return request.expires(self.access, self._known(request.secret), self.lasts)

    # -- for engines ---------------------------------------------------------------------------

    def ready(self) -> list[Request]:
        """Return the requests that an engine can carry out now, oldest first."""
        return [one for one in self.open() if self.state(one) is RequestState.QUEUED]

    def permitted(self, request: Request) -> bool:
        """Return whether the requester may do what is requested, by the configuration of today."""
        return self.access.may(request.actor, request.action, self._subject(request.secret))

    def end(
        self, request: Request, kind: EntryKind, actor: Actor, data: Mapping[str, Json]
    ) -> None:
        """Record that an engine has acted, or cannot."""
        _ = self.log.append(
            Entry(request=request.id, kind=kind, secret=request.secret, actor=actor, data=data)
        )

    def _decided(self, request: str, actor: Actor, reason: str, verb: str) -> Request:
        """Return a request that an actor may decide on now."""
        asked = self.get(request)
        _require_reason(reason)
        if not (verb == "refuse" and actor.subject == asked.actor.subject):
            self.require(actor, Permission.APPROVE, asked.secret)
        state = self.state(asked)
        if state not in OPEN_STATES:
            raise UsageError(
                f"the request cannot be {verb}d: it is {state.value}.",
                safety=_UNCHANGED,
                hint="See: rotator requests --all",
            )
        return asked

    def _add(self, asked: Request, kind: EntryKind, actor: Actor, reason: str) -> Request:
        entry = Entry(
            request=asked.id,
            kind=kind,
            secret=asked.secret,
            actor=self.access.known_groups(actor),
            reason=reason,
        )
        _ = self.log.append(entry)
        return self.get(asked.id)

    def _subject(self, secret: str) -> Subject:
        return self.subject(secret)

    def _known(self, secret: str) -> Subject:
        """Return what rules know of the secret of a request, also where nothing knows it today."""
        try:
            return self.subject(secret)
        except UsageError:
            return Subject(name=secret)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise UsageError("a reason is required.", hint="Add --reason 'WHY'.", safety=_UNCHANGED)
    if len(reason) > _LONGEST_REASON:
        raise UsageError(
            f"the reason is longer than {_LONGEST_REASON} characters.", safety=_UNCHANGED
        )


_VERBS: Final[Mapping[Permission, str]] = {
    Permission.VIEW: "view",
    Permission.ROTATE: "rotate",
    Permission.ROLLBACK: "roll back",
    Permission.REVOKE: "revoke the old credential of",
    Permission.PARK: "park",
    Permission.UNPARK: "unpark",
    Permission.INCIDENT: "open or continue an incident of",
    Permission.KILL: "make invalid at once the password of",
    Permission.APPROVE: "approve requests for",
    Permission.BREAK_GLASS: "break glass for",
    Permission.AUDIT: "audit",
    Permission.REVEAL: "read the values of",
    Permission.LEASE: "take leases of",
    Permission.END_LEASE: "end leases of",
    Permission.MANAGE: "manage",
}
