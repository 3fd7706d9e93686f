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
from rotator.faces.aws_lambda.state_tag import Memory, Phase, StateTag
from rotator.journal.log import Head, LogJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.backends.aws.aws_driven import AwsDrivenBackend
    from rotator.core.model import Event, Json, Lock, Version
    from rotator.core.ports import Clock
    from rotator.engine import ManagedSecret
    from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
    from rotator.journal.event_key import EventKey

REASON: Final = "AWS Secrets Manager rotates it"
# How long a statement that closes a login may still wait for a lock after its step's time is up.
_LOCK: Final = timedelta(seconds=10)
# A rotation in these phases has published nothing.
_BEFORE_PUBLISH: Final = (Phase.BEGUN, Phase.CREATED, Phase.VERIFIED)
_FORWARD: Final = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH)
_BACKWARD: Final = (Step.WITHDRAW, Step.DISCARD, Step.RESTORE)
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
        clock, memory = invocation.clock, known.memory
        super().__init__(
            clock=clock,
            actor=actor,
            request=memory.request or invocation.request,
            line=line,
            keep=self._keep_tags,
            key=key,
        )
        self._managed: ManagedSecret = secret
        self._backend: AwsDrivenBackend = backend
        self._invocation: Invocation = invocation
        self._token: str | None = token
        self._invoked: str = invocation.request
        self._tags: tuple[str | None, str | None] = memory.tags
        self._kept_state: StateTag = StateTag.parse(memory.tags[1]) or StateTag()
        self._state: StateTag = memory.state or StateTag()
        # Whether this process has done every step of the rotation since its tags were written.
        self._continues: bool = memory.request is not None
        self._unwritten += memory.lines
        replay = _Replay(secret, backend, known, clock)
        replayed = replay.events(self._state)
        self._unrecorded: list[NewEvent] = []
        if not self._continues and self._kept_state.state is Phase.BEGUN:
            # An earlier process has staged the value. Its record of that went with it.
            self._unrecorded = [event for event, _ in replayed if _is_staged(event)]
        self.recall(known.name, memory.head or Head(), replayed)

    def append(self, lock: Lock, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write all the events or none, after what an earlier process could not record."""
        before = self._unrecorded if events else []
        written = super().append(lock, [*before, *events], ttl)
        if events:
            self._unrecorded = []
        return written[len(before) :]

    def leave(self) -> Memory | None:
        """End an invocation that has done its step; return what the next one is to remember.

        The tags are written unless they name this rotation as open already and it is not published:
        then what happened since is kept by this process, and a new one does it again.
        """
        state, secret = self._state.after(self._unkept), self._managed.name
        is_under_way = state.is_open and state.rotation == self._token
        is_under_way = is_under_way and state.state in _BEFORE_PUBLISH
        if not is_under_way or not self._continues:
            self.close()
        if not is_under_way:
            return None
        if not self._has_kept:
            self._write_lines()
        last = self.books[secret].record
        return Memory(
            tags=self._tags,
            head=Head(seq=last.seq, hash=last.head),
            state=state,
            lines=tuple(self._unwritten),
            request=self._request,
        )

    def _closes_a_login(self, event: Event) -> bool:
        overlaps = self._managed.rotation.overlaps
        return overlaps and event.kind is Kind.STARTED and event.step is Step.REVOKE

    def _can_wait(self, events: list[Event]) -> bool:
        """The result of what a rotation began with: where this process goes on, it is written then.

        Another process does not know of it, and would go on from the event before.
        """
        begins = self._has_kept and self._continues
        return begins and not any(event.kind is Kind.STARTED for event in events)

    def _must_keep(self, events: list[Event]) -> bool:
        if any(map(self._closes_a_login, events)):
            return True
        kept, event = self._kept_state, events[-1]
        # As long as the tags name a rotation as open, any process can complete or undo it.
        is_named = kept.is_open and kept.rotation == event.rotation_id
        if event.step in _FORWARD:
            return not is_named
        if event.kind is Kind.ADOPTED or (is_named and not self._managed.rotation.overlaps):
            # An adoption has no effect, and without an overlap neither has closing the old login.
            return not self._has_kept and event.step in _BACKWARD
        return not self._has_kept

    def _keep_tags(self, head: Head, events: list[Event]) -> None:
        self._state = replace(self._state.after(events), busy_until=None)
        if closing := self._closes_a_login(events[-1]):
            step = self._managed.policy.step_timeout
            longest = min(step, timedelta(seconds=self._invocation.left))
            until = self._invocation.clock.now() + longest + _LOCK
            self._state = replace(self._state, busy_until=until)
        tags = {aws_driven.HEAD_TAG: head.text(), aws_driven.STATE_TAG: self._state.text()}
        self._backend.keep_tags(self._managed.path, tags)
        self._tags, self._kept_state = (head.text(), self._state.text()), self._state
        self._continues = any(event.kind is Kind.REQUESTED for event in events)
        self._request = self._invoked
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
    known: AwsSecret
    clock: Clock

    @property
    def current(self) -> Version:
        """The version that is current."""
        return self.known.current

    def events(self, state: StateTag) -> _Replayed:
        """Return the events that lead to this state."""
        state, now = self._without_foreign_values(state), self.clock.now()
        overlaps = self.secret.rotation.overlaps
        versions = [state.old, state.before, state.earlier] if overlaps else [state.old]
        replayed: _Replayed = []
        logins: dict[str | None, str] = {}
        for name in (None if state.is_open else state.rotation, *versions):
            version = self._version(name) if name is not None else None
            if version is not None:
                login = logins[version.id] = version.credential.username
                data: dict[str, Json] = {"login": login, "version": version.id}
                replayed.insert(0, (NewEvent(kind=Kind.ADOPTED, data=data), now))
            if self.known.about.pair and {*self.known.about.pair} <= {*logins.values()}:
                # Whatever is older is of one of these two.
                break
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
        if state.is_open and self.known.may_be_published and self.current.id not in known:
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


def _is_staged(event: NewEvent) -> bool:
    return event.kind is Kind.FINISHED and event.step is Step.STAGE
