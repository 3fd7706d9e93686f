"""The journal of a function without a database: lines of its log, and a tag beside each secret."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from rotator.backends.aws import aws_driven
from rotator.core.errors import Transient
from rotator.core.model import Kind, NewEvent, Step
from rotator.engine.rotation_request import requested
from rotator.faces.aws_lambda.managed_secret import pending_version
from rotator.faces.aws_lambda.state_tag import Phase, StateTag
from rotator.journal.log import Head, LogJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.backends.aws.aws_driven import AwsDrivenBackend
    from rotator.core.model import Event, Json, Version
    from rotator.core.ports import Clock
    from rotator.engine import ManagedSecret
    from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
    from rotator.journal.event_key import EventKey

REASON: Final = "AWS Secrets Manager rotates it"
# How long a statement that closes a login may still wait for a lock after its step's time is up.
_LOCK: Final = timedelta(seconds=10)
_Replayed = list[tuple[NewEvent, datetime]]


class TagJournal(LogJournal):
    """One invocation's, of one secret. Events go to the log; the tags keep what the next one needs."""

    def __init__(
        self,
        known: AwsSecret,
        secret: ManagedSecret,
        *,
        backend: AwsDrivenBackend,
        invocation: Invocation,
        token: str | None,
        actor: str,
        line: Callable[[str], None],
        key: EventKey | None,
    ) -> None:
        """Go on where the last invocation's ended. `token`: the rotation at which AWS is, if any."""
        clock = invocation.clock
        super().__init__(
            clock=clock,
            actor=actor,
            request=invocation.request,
            line=line,
            keep=self._keep_tags,
            urgent=self._is_urgent,
            key=key,
        )
        self._managed: ManagedSecret = secret
        self._backend: AwsDrivenBackend = backend
        self._invocation: Invocation = invocation
        self._token: str | None = token
        self._state: StateTag = known.state or StateTag()
        replay = _Replay(secret, backend, known.current, clock)
        self.recall(known.name, known.head or Head(), replay.events(self._state))

    def _closes_a_login(self, event: Event) -> bool:
        overlaps = self._managed.rotation.overlaps
        return overlaps and event.kind is Kind.STARTED and event.step is Step.REVOKE

    def _is_urgent(self, event: Event) -> bool:
        publishes = event.kind is Kind.STARTED and event.step is Step.PUBLISH
        return self._closes_a_login(event) or (self._managed.rotation.overlaps and publishes)

    def _keep_tags(self, head: Head, events: list[Event]) -> None:
        self._state = replace(self._state.after(events), busy_until=None)
        if closing := self._closes_a_login(events[-1]):
            step = self._managed.policy.step_timeout
            longest = min(step, timedelta(seconds=self._invocation.left))
            until = self._invocation.clock.now() + longest + _LOCK
            self._state = replace(self._state, busy_until=until)
        tags = {aws_driven.HEAD_TAG: head.text(), aws_driven.STATE_TAG: self._state.text()}
        self._backend.keep_tags(self._managed.path, tags)
        if closing and self._aws_began_another():
            raise Transient(
                "AWS has started another rotation, so the old login was left unchanged.",
                safety="The application is safe: nothing was changed.",
            )

    def _aws_began_another(self) -> bool:
        """Return whether AWS rotates the secret now, to another version than ours.

        AWS sets AWSPENDING before it invokes us. An invocation after this check finds `busy_until`.
        """
        about = self._backend.describe(self._managed.path) or {}
        return pending_version(about.get("VersionIdsToStages", {}), self._token) is not None


@dataclass(frozen=True, slots=True)
class _Replay:
    """Rebuilds the events of a secret from its tag.

    Only the versions that the tag names, by their ids, are under our care; no other, whatever labels
    it has.
    """

    secret: ManagedSecret
    backend: AwsDrivenBackend
    current: Version
    clock: Clock

    def events(self, state: StateTag) -> _Replayed:
        """Return the events that lead to this state."""
        state, now = self._without_foreign_values(state), self.clock.now()
        overlaps = self.secret.rotation.overlaps
        versions = [state.earlier, state.before, state.old] if overlaps else [state.old]
        replayed: _Replayed = []
        logins: dict[str | None, str] = {}
        for name in (*versions, None if state.is_open else state.rotation):
            version = self._version(name) if name is not None else None
            if version is not None:
                login = logins[version.id] = version.credential.username
                data: dict[str, Json] = {"login": login, "version": version.id}
                replayed.append((NewEvent(kind=Kind.ADOPTED, data=data), now))
        if state.is_open and state.rotation is not None:
            replayed += self._rotation(state, state.rotation, logins.get(state.old), now)
        return replayed

    def _version(self, name: str) -> Version | None:
        if name == self.current.id:
            return self.current
        overlaps = self.secret.rotation.overlaps
        return self.backend.read(self.secret.path, name) if overlaps else None

    def _without_foreign_values(self, state: StateTag) -> StateTag:
        """End a published rotation once a foreign value is current: nothing of it may be revoked."""
        known = (state.rotation, state.old)
        if state.is_open and state.may_be_published and self.current.id not in known:
            return replace(state, state=Phase.ENDED, at=None, busy_until=None)
        return state

    def _rotation(
        self, state: StateTag, rotation: str, old_login: str | None, now: datetime
    ) -> _Replayed:
        """Return the events of the open rotation."""
        first = requested(self.secret, rotation, REASON, old_version=state.old, old_login=old_login)
        replayed: _Replayed = [(first, now)]

        def add(step: Step, at: datetime, *kinds: Kind, **data: Json) -> None:
            for kind in kinds:
                given = data if kind is Kind.FINISHED else {}
                event = NewEvent(kind=kind, rotation_id=rotation, step=step, data=given)
                replayed.append((event, at))

        is_current = rotation == self.current.id
        new = (
            self.current.credential
            if is_current
            else self.backend.staged(self.secret.path, rotation)
        )
        login = new.username if new is not None else None
        both = (Kind.STARTED, Kind.FINISHED)
        if new is None and state.state is Phase.BEGUN:
            return replayed
        add(Step.STAGE, now, *both, login=login)
        if state.state is Phase.BEGUN and not is_current:
            # Perhaps not even begun. To withdraw what was never made does no harm, to leave it does.
            add(Step.CREATE, now, Kind.STARTED)
            return replayed
        add(Step.CREATE, now, *both, login=login)
        if state.state is Phase.CREATED and not is_current:
            return replayed
        add(Step.VERIFY, now, *both)
        at = state.at or now
        if state.state is Phase.PUBLISHED:
            add(Step.PUBLISH, at, *both, login=login, version=rotation)
        elif is_current or state.state is Phase.PUBLISHING:
            add(Step.PUBLISH, at, Kind.STARTED)
        return replayed
