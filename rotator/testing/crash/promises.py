"""The promises P1 to P5, looked at before and after every call and again when all is over."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rotator.core.consumers import Gate
from rotator.core.contracts.backend import OffersNext
from rotator.core.contracts.rotation import DrawsKeys
from rotator.core.history import PROVEN, newest_step
from rotator.core.model import Kind, Outcome, PrepareThen, Step
from rotator.core.state_machine import progress

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from rotator.core.errors import RotatorError
    from rotator.core.history import RotationRecord
    from rotator.core.model import Credential, Event, NewEvent, Policy
    from rotator.testing.crash.points import Point
    from rotator.testing.crash.sandbox import Sandbox

_LEAVE_THE_TARGET = frozenset({"journal", "backend", "copy"})
_RESULTS = (Kind.FINISHED, Kind.FAILED, Kind.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How things were before the crashes began."""

    rotations: int
    version: str | None
    led: int = 0
    seq: int = 0


class Promises:
    """What must be true of one sandbox, across all its processes."""

    def __init__(self, sandbox: Sandbox, policy: Policy) -> None:
        self._sandbox: Sandbox = sandbox
        self._policy: Policy = policy
        self._overlaps: bool = sandbox.rotation().overlaps
        # Whether the target draws the keys; and the one that it drew, until it is on its way to the backend.
        self.draws: bool = isinstance(sandbox.rotation(), DrawsKeys)
        self.drawn: Credential | None = None
        # Between its two effects only whoever rotates can keep P1: for it the end is what counts.
        self._is_led: bool = sandbox.is_delegated
        self._where: str = "at the start"
        self._tried: dict[tuple[str, str], bool] = {}
        # While a sandbox is brought to its starting state, for the thousandth time.
        self.resting: bool = False
        self.seen: list[Credential] = []
        self.broken: dict[str, str] = {}
        # Where processes were when they died or something failed.
        self.died_at: list[Point] = []
        # How often somebody found what is served refused, and asked for another one.
        self.looked_again: int = 0
        # While two engines are let loose on purpose, the loser's last effect has no fresh intent.
        self.two_at_work: bool = False

    def start(self) -> Start:
        """Remember how things are now."""
        current = self._sandbox.backend.current(self._sandbox.path)
        if current is not None:
            self.remember(current.credential)
        return Start(
            rotations=len(self._sandbox.journal.rotations(self._sandbox.secret, 1000)),
            version=current.id if current else None,
            led=self._sandbox.rotations() if self._sandbox.rotations is not None else 0,
            seq=len(self._sandbox.journal.events(self._sandbox.secret)),
        )

    def end(self) -> None:
        """Let go of the sandbox: all was seen."""
        self._sandbox.close()

    # -- at every instant ----------------------------------------------------------------------

    def check(self, point: Point | str) -> None:
        """Look at P1 and the first half of P5, and collect what the fakes saw."""
        if self.resting:
            return
        self._where = str(point)
        sandbox = self._sandbox
        if self.drawn is not None and not self.two_at_work:
            self._break(f"P2: {self.drawn.username!r} was drawn, and it is not what is staged next")
        if isinstance(point, str) or point.port not in _LEAVE_THE_TARGET:
            # Only here can what the target accepts have changed; elsewhere a login is spared.
            self._tried.clear()
        current = sandbox.backend.current(sandbox.path)
        opened = sandbox.journal.open_rotation(sandbox.secret)
        history = sandbox.journal.history(opened.id) if opened is not None else []
        if current is not None:
            self.remember(current.credential)
            published_now = opened is not None and current.rotation_id == opened.id
            # A fence makes what is served invalid on purpose, until the next one is published.
            replaced = not self._overlaps and _started(history, Step.CREATE)
            in_gap = (replaced or _started(history, Step.FENCE)) and not published_now
            if not in_gap and not self._is_led and not self._lets_in(current.credential):
                self._break(f"P1: the current login {current.credential.username!r} is refused")
        self._check_copies(history)
        self._check_leaked(history)
        if opened is not None and opened.old_version is not None and self._overlaps:
            self._check_old(opened, history)
        for one in sandbox.told():
            self._break(one)

    def check_intent(self, steps: Collection[Step], point: Point) -> None:
        """P4: an effect of one of the steps needs that step's committed intent, and no result yet."""
        if self.two_at_work:
            return
        opened = self._sandbox.journal.open_rotation(self._sandbox.secret)
        last = newest_step(self._sandbox.journal.history(opened.id)) if opened is not None else None
        if last is None or last.kind is not Kind.STARTED or last.step not in steps:
            said = f"{last.step} {last.kind}" if last is not None else "nothing"
            self._break(f"P4: {point.port}.{point.name} with `{said}` as the newest committed word")

    def check_commit(self, events: Sequence[NewEvent]) -> None:
        """P4: an intent and its own result never share a commit."""
        started = {event.step for event in events if event.kind is Kind.STARTED}
        results = [event.step for event in events if event.kind in _RESULTS]
        order = [event.kind for event in events]
        if any(step in started for step in results) and order.index(Kind.STARTED) < max(
            index for index, kind in enumerate(order) if kind in _RESULTS
        ):
            self._break("P4: an intent and its result share a commit")

    def check_staged(self, new: Credential, rotation_id: str) -> None:
        """P2: what is about to be set on the target can be read again from the backend."""
        backend, path = self._sandbox.backend, self._sandbox.path
        staged, current = backend.staged(path, rotation_id), backend.current(path)
        kept = [staged] if staged is not None else []
        kept += [current.credential] if current is not None else []
        if all(one.password != new.password for one in kept):
            self._break(f"P2: {new.username!r} is about to get a password that nobody keeps")

    def check_create(self, rotation_id: str) -> None:
        """Where consumers read the next version first, they have, or nobody waits for them any more."""
        if self.two_at_work or self._policy.prepare is None or not self._sandbox.consumers:
            return
        history = self._sandbox.journal.history(rotation_id)
        begun = [one for one in history if (one.kind, one.step) == (Kind.STARTED, Step.PREPARE)]
        asked = any(one.kind is Kind.REVOKE_REQUESTED for one in history)
        if not history or not history[0].data.get("prepare"):
            return
        ready = self._sandbox.prepared_for == rotation_id
        ends = begun[0].at + self._policy.prepare.wait if begun else None
        holds = self._policy.prepare.then is PrepareThen.HOLD
        if ready or asked or (ends is not None and not holds and self._sandbox.clock.now() >= ends):
            return
        self._break("the target changes before consumers have read the next version")

    def check_revoke(self, old: Credential) -> None:
        """P5: published, the grace period over or ended by a person, nobody logged in."""
        if self.two_at_work:
            return
        sandbox = self._sandbox
        current = sandbox.backend.current(sandbox.path)
        if current is None or current.credential.password == old.password:
            self._break(f"P5: {old.username!r} is revoked although it is current")
        for copy in sandbox.copies:
            there = copy.current(sandbox.path)
            if there is not None and there.credential.password == old.password:
                self._break(f"P5: {old.username!r} is revoked although a copy holds it")
        opened = sandbox.journal.open_rotation(sandbox.secret)
        history = sandbox.journal.history(opened.id) if opened is not None else []
        pivots = (Step.PUBLISH, Step.RESTORE)
        done = [one for one in history if one.kind is Kind.FINISHED and one.step in pivots]
        asked = [one for one in history if one.kind is Kind.REVOKE_REQUESTED]
        if not done:
            self._break(f"P5: {old.username!r} is revoked before anything was published")
            return
        waived = not self._overlaps or (asked and asked[-1].seq > done[-1].seq)
        waived = waived or progress(history).leak is not None
        moved = [one for one in history if one.kind is Kind.CONSUMERS_READY]
        settled = moved and moved[-1].seq > done[-1].seq
        ends = done[-1].at + self._policy.grace
        if not waived and not settled and sandbox.clock.now() < ends:
            self._break(f"P5: {old.username!r} is revoked in its grace period")
        if not waived and current is not None and self._is_needed(current.id):
            self._break(f"P5: {old.username!r} is revoked although consumers still need it")

    def _is_needed(self, version: str) -> bool:
        """Return whether a consumer that holds the revoke does not use the current version."""
        sandbox = self._sandbox
        holds = any(one.gate is Gate.HOLD for one in sandbox.consumers)
        return holds and not {version, sandbox.repeats.get(version)} & sandbox.moved_to

    @contextmanager
    def nothing_changes(self, what: str) -> Generator[None]:
        """Require that a call which only looks changes nothing on the target."""
        before = self._sandbox.state() if self._sandbox.state else None
        yield
        after = self._sandbox.state() if self._sandbox.state else None
        if before != after and not self.two_at_work:
            self._break(f"rotation.{what} changed something on the target")

    def check_text(self, error: RotatorError) -> None:
        """P6: what a person is told holds no password, and says something."""
        told = f"{error} {error.hint}"
        if not error.what:
            self._break(f"an error of kind {error.kind} says nothing")
        # Of what its keeper shows to nobody, the harness knows no password either.
        known = [one.password.reveal() for one in self.seen]
        if any(one and one in told for one in known):
            self._break("P6: an error holds a password")

    # -- when all is over ----------------------------------------------------------------------

    def check_end(self, start: Start, allowed: frozenset[Outcome]) -> None:
        """P3, P4 and the last part of P5."""
        self.check("at the end")
        sandbox = self._sandbox
        opened = sandbox.journal.open_rotation(sandbox.secret)
        if opened is not None:
            last = newest_step(sandbox.journal.history(opened.id))
            at = f"{last.step} {last.kind}" if last is not None else "its beginning"
            self._break(f"P3: the rotation does not end; it is at {at}")
        self._check_proven()
        current = sandbox.backend.current(sandbox.path)
        valid = [one for one in self.seen if sandbox.lets_in(one)]
        if [_key(one) for one in valid] != ([_key(current.credential)] if current else []):
            names = [one.username for one in valid]
            self._break(
                f"P3: these logins are valid: {names}, and {current.credential.username if current else None!r} is current"
            )
        for copy in sandbox.copies:
            there = copy.current(sandbox.path)
            if current is not None and (
                there is None or _key(there.credential) != _key(current.credential)
            ):
                self._break("P3: a copy does not hold what is current")
            pending = getattr(copy, "pending", None)
            if pending is not None and pending(sandbox.path):
                self._break("P3: a pending value was left behind in a copy")
        usable = sandbox.usable() if sandbox.usable is not None else None
        if usable is not None and usable != ({current.credential.username} if current else set()):
            self._break(f"P3: orphan logins; usable are {sorted(usable)}")
        rotations = sandbox.journal.rotations(sandbox.secret, 1000)
        for one in rotations:
            if sandbox.backend.staged(sandbox.path, one.id) is not None:
                self._break(f"P3: rotation {one.id} left its pending value behind")
        pending = getattr(sandbox.backend, "pending", None)
        if pending is not None and pending(sandbox.path):
            self._break("P3: a pending value was left behind")
        if isinstance(sandbox.backend, OffersNext) and sandbox.backend.next(sandbox.path):
            self._break("P3: a next version was left behind")
        if self._is_led:
            self._check_led(start)
        else:
            new = rotations[: len(rotations) - start.rotations]
            self._check_new_rotations(new, start, allowed)
        self._check_events()

    def _check_proven(self) -> None:
        record = self._sandbox.journal.secret(self._sandbox.secret)
        if record is not None and record.incident is not None and record.incident_state != PROVEN:
            self._break("P3: the leaked password is never proven to be rejected")

    def _check_led(self, start: Start) -> None:
        """What another system has done is known, once, and was not asked for without need."""
        sandbox = self._sandbox
        current = sandbox.backend.current(sandbox.path)
        record = sandbox.journal.secret(sandbox.secret)
        known = record.version if record is not None else None
        if known is not None and known != (current.id if current else None):
            self._break(f"the journal knows version {known}, another is served")
        events = sandbox.journal.events(sandbox.secret)[start.seq :]
        proven = [
            one.rotation_id
            for one in events
            if one.kind is Kind.FINISHED and one.step is Step.PROVE
        ]
        if len(set(proven)) != len(proven):
            self._break("the journal tells of one rotation twice")
        refused = [one for one in events if one.data.get("kind") == "refused"]
        asked = _requests(events)
        if sandbox.rotations is not None:
            made = sandbox.rotations() - start.led
            # One that was cut off between its two effects has to be made again.
            cut_off = sum(one.inner for one in self.died_at)
            if made > asked + cut_off or asked > 1 + len(refused) + self.looked_again:
                self._break(f"{made} rotations were made for one request")

    def _check_new_rotations(
        self, new: Sequence[RotationRecord], start: Start, allowed: frozenset[Outcome]
    ) -> None:
        sandbox = self._sandbox
        current = sandbox.backend.current(sandbox.path)
        record = sandbox.journal.secret(sandbox.secret)
        known = record.version if record is not None else None
        version = current.id if current else None
        if record is None and version == start.version:
            return  # nothing was journalled, and nothing happened
        if version != known:
            self._break(f"the journal knows version {known}, the backend serves another")
        if not new and start.rotations == 0 and version != start.version:
            self._break("something happened although no rotation was journalled")
        for one in new:
            if one.outcome is not None and one.outcome not in allowed:
                self._break(f"rotation {one.id} ended {one.outcome}, which nothing called for")
            ended = one.outcome in (Outcome.DONE, Outcome.ROLLED_BACK)
            if ended and one.old_version is not None and one.old_refused is not True:
                self._break(f"P5: rotation {one.id} has no proof that the old one is refused")

    def _check_events(self) -> None:
        """P4: each result has its intent before it, each intent a result or a repetition after it."""
        events = self._sandbox.journal.events(self._sandbox.secret)
        for one, other in pairwise(events):
            if other.prev_hash != one.hash or other.seq != one.seq + 1 or other.fence < one.fence:
                self._break(f"the chain is broken at {other.seq}")
        for rotation in {event.rotation_id for event in events if event.rotation_id is not None}:
            self._check_history([one for one in events if one.rotation_id == rotation])

    def _check_history(self, history: list[Event]) -> None:
        if history[0].kind is not Kind.REQUESTED:
            self._break(f"P4: a rotation begins with {history[0].kind}")
        if any(one.kind is Kind.ENDED for one in history[:-1]):
            self._break("P4: a rotation goes on after its end")
        begun: Step | None = None
        for event in history:
            if event.kind is Kind.STARTED:
                if begun is not None and begun is not event.step:
                    self._break(f"P4: {event.step} was started with {begun} unanswered")
                begun = event.step
            elif event.kind in _RESULTS:
                if begun is not event.step:
                    self._break(f"P4: {event.step} {event.kind} without its start")
                begun = None
            elif event.kind is Kind.ROLLBACK_REQUESTED and begun is not Step.PUBLISH:
                # A person's word answers it: the withdrawal undoes whatever it did.
                begun = None
        if begun is not None:
            self._break(f"P4: {begun} was never answered")

    def _check_copies(self, history: list[Event]) -> None:
        """P1, for whoever reads a copy: what it holds logs in."""
        replaced = not self._overlaps and _started(history, Step.CREATE)
        in_gap = replaced or _started(history, Step.FENCE)
        for copy in self._sandbox.copies:
            there = copy.current(self._sandbox.path)
            if there is None or there.rotation_id is None:
                continue  # nothing of ours
            if not in_gap and not self._lets_in(there.credential):
                self._break(f"P1: the login {there.credential.username!r} of a copy is refused")

    def _check_leaked(self, history: list[Event]) -> None:
        """Once a leaked password is invalid, nothing makes it valid again."""
        record = self._sandbox.journal.secret(self._sandbox.secret)
        if record is None or record.leaked_version is None:
            return
        fenced = any(one.kind is Kind.FINISHED and one.step is Step.FENCE for one in history)
        if fenced or record.incident_state == PROVEN:
            leaked = self._sandbox.backend.read(self._sandbox.path, record.leaked_version)
            if leaked is not None and self._lets_in(leaked.credential):
                self._break("the leaked password is accepted again")

    # -- helpers -------------------------------------------------------------------------------

    def _check_old(self, opened: RotationRecord, history: list[Event]) -> None:
        """P5: until its revoke begins, the old credential logs in."""
        rolled_back = any(one.step is Step.RESTORE for one in history)
        gone = _started(history, Step.REVOKE) or _started(history, Step.FENCE)
        if gone or rolled_back or opened.old_version is None:
            return
        old = self._sandbox.backend.read(self._sandbox.path, opened.old_version)
        current = self._sandbox.backend.current(self._sandbox.path)
        if old is None:
            if current is None or current.rotation_id is None:
                return  # somebody else wrote, and the backend keeps but one version beside theirs
            self._break("P5: the old credential is no longer held")
        elif not self._lets_in(old.credential):
            self._break(f"P5: the old login {old.credential.username!r} is refused too early")

    def _lets_in(self, credential: Credential) -> bool:
        key = _key(credential)
        if key not in self._tried:
            self._tried[key] = self._sandbox.lets_in(credential)
        return self._tried[key]

    def remember(self, credential: Credential) -> None:
        """Keep a credential in mind, so that it can be tried at the end."""
        if all(_key(credential) != _key(one) for one in self.seen):
            self.seen.append(credential)

    def _break(self, what: str) -> None:
        """Tell it once, with the place where it was first seen."""
        self.broken.setdefault(what, self._where)


def _requests(events: Sequence[Event]) -> int:
    """Return how many rotations were requested; one that is requested again by its id counts once."""
    found, rejected = set[tuple[str | None, int]](), Counter[str | None]()
    for one in events:
        if one.kind is Kind.STARTED and one.step is Step.REQUEST:
            found.add((one.rotation_id, rejected[one.rotation_id]))
        elif one.kind is Kind.FAILED and one.step is Step.PROVE:
            rejected[one.rotation_id] += one.data.get("kind") == "refused"
    return len(found)


def _key(credential: Credential) -> tuple[str, str]:
    return credential.username, credential.password.reveal()


def _started(history: list[Event], step: Step) -> bool:
    return any(one.kind is Kind.STARTED and one.step is step for one in history)
