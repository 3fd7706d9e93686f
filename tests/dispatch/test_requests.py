"""A daemon carries out what was requested: within a tick, exactly once, also after a death at any point."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from rotator.core.access import Access, Actor, ApprovalRule, Grant, Permission, Role, Subject
from rotator.core.history import taken_up
from rotator.core.model import Kind, Policy
from rotator.core.requests import ENDS, Entry, EntryKind, Request, RequestState
from rotator.requests import Requests
from rotator.testing.fakes import ManualClock, SeededEntropy
from tests.dispatch import sandboxes
from tests.dispatch.sandboxes import Place

ALICE = Actor(subject="alice", method="oidc", face="web", host="10.0.0.7")
CAROL = Actor(subject="carol", method="oidc", face="web", host="10.0.0.8")
GRANTS = (
    Grant(role=Role.OPERATOR, subjects=("alice",)),
    Grant(role=Role.BREAKER, subjects=("alice",)),
    Grant(role=Role.APPROVER, subjects=("carol",)),
)
_POLICY = Policy(every=None, grace=timedelta(hours=1))
_MINUTE = timedelta(minutes=1)


@dataclass
class MemoryRequests:
    """The log of requests in memory."""

    clock: ManualClock
    entries: list[Entry] = field(default_factory=list)
    before_append: Any = None

    def append(self, entry: Entry) -> Entry:
        kept = replace(entry, at=self.clock.now(), seq=len(self.entries) + 1)
        self.entries.append(kept)
        return kept

    def open(self) -> list[Entry]:
        ended = {one.request for one in self.entries if one.kind in ENDS}
        return [one for one in self.entries if one.request not in ended]

    def of(self, request: str) -> list[Entry]:
        return [one for one in self.entries if one.request == request]

    def recent(self, limit: int, secret: str | None = None) -> list[Entry]:
        return [one for one in self.entries if secret in (None, one.secret)][-limit:]


def _place(*rules: ApprovalRule, rotated: int = 1) -> tuple[Place, Requests]:
    """Return one secret that was rotated so often, its grace periods over, and its requests."""
    place = Place(entries={"shop": sandboxes.Entry(policy=_POLICY)})
    for _ in range(rotated):
        place.engine.rotate(place.secret("shop"))
        place.clock.advance(timedelta(hours=2))
        place.engine.resume(place.secret("shop"))
    place.requests = requests = Requests(
        log=MemoryRequests(place.clock),
        access=Access(grants=GRANTS, rules=rules),
        clock=place.clock,
        entropy=SeededEntropy(7),
        subject=lambda name: Subject(name=name),
    )
    return place, requests


def _ask(requests: Requests, action: Permission = Permission.ROTATE, **options: Any) -> Request:
    return requests.ask(action, "shop", actor=ALICE, reason="left the team", options=options)


def _acts(place: Place, request: Request) -> list[Kind]:
    """Return the kinds of the events that carry the request."""
    events = place.journal.events("shop")
    return [one.kind for one in events if one.data.get("request") == request.id]


def test_a_daemon_carries_a_request_out_at_its_next_tick():
    place, requests = _place()
    daemon = place.daemon()
    daemon.tick()
    asked = _ask(requests)
    place.clock.advance(timedelta(seconds=1))
    daemon.tick()
    assert requests.state(requests.get(asked.id)) is RequestState.TAKEN
    event = taken_up(place.journal.events("shop"), asked.id)
    assert event is not None
    assert event.data["by"] == ALICE.as_data()
    assert event.data["reason"] == "left the team"
    for _ in range(5):
        daemon.tick()
    assert _acts(place, asked) == [Kind.REQUESTED]


@pytest.mark.parametrize(
    ("action", "options", "expected"),
    [
        (Permission.ROLLBACK, {}, Kind.ROLLBACK_REQUESTED),
        (Permission.REVOKE, {"end_sessions": True}, Kind.REVOKE_REQUESTED),
        (Permission.PARK, {}, Kind.PARKED),
        (Permission.UNPARK, {}, Kind.UNPARKED),
        (Permission.INCIDENT, {"mode": "map"}, Kind.LEAKED),
        (Permission.INCIDENT, {"mode": "move"}, Kind.LEAKED),
        (Permission.KILL, {"mode": "kill"}, Kind.LEAKED),
    ],
)
def test_each_action_becomes_one_event_of_the_secret(action, options, expected):  # type: ignore[no-untyped-def]
    """In the grace period of a rotation, where each of them has something to do."""
    place, requests = _place()
    place.engine.rotate(place.secret("shop"))
    asked = _ask(requests, action, **options)
    place.daemon().tick()
    ended = requests.get(asked.id).ended
    assert ended is not None
    assert ended.kind is EntryKind.TAKEN, ended
    assert _acts(place, asked)[0] is expected


def test_an_incident_that_is_requested_without_the_right_to_kill_never_kills():
    """Whatever its options are."""
    place, requests = _place()
    asked = _ask(requests, Permission.INCIDENT, mode="kill")
    place.daemon().tick()
    event = taken_up(place.journal.events("shop"), asked.id)
    assert event is not None
    assert event.data["mode"] == "map"


def test_a_requested_incident_is_contained_at_the_next_tick():
    """The leaked password does not stay valid until the daemon looks at everything again."""
    place, requests = _place()
    daemon = place.daemon()
    daemon.tick()
    leaked = place.backend.current("shop")
    _ = _ask(requests, Permission.INCIDENT, mode="move")
    place.clock.advance(timedelta(seconds=1))
    daemon.tick()
    daemon.tick()
    assert place.backend.current("shop") != leaked


def test_a_request_waits_while_somebody_else_works_on_the_secret():
    place, requests = _place()
    daemon = place.daemon()
    lock = place.journal.acquire("shop", "another", timedelta(minutes=30))
    asked = _ask(requests)
    for _ in range(5):
        daemon.tick()
        place.clock.advance(_MINUTE)
    assert requests.state(requests.get(asked.id)) is RequestState.QUEUED
    place.journal.release(lock)
    daemon.tick()
    assert requests.state(requests.get(asked.id)) is RequestState.TAKEN


def test_a_request_without_its_approval_is_not_carried_out_and_with_it_once():
    place, requests = _place(ApprovalRule(actions=(Permission.ROTATE,)))
    daemon = place.daemon()
    asked = _ask(requests)
    daemon.tick()
    assert _acts(place, asked) == []
    _ = requests.approve(asked.id, actor=CAROL, reason="agreed")
    daemon.tick()
    event = taken_up(place.journal.events("shop"), asked.id)
    assert event is not None
    assert event.data["approved_by"] == [CAROL.as_data()]


def test_a_request_that_has_expired_is_not_carried_out():
    place, requests = _place()
    asked = _ask(requests)
    place.clock.advance(timedelta(days=1))
    place.daemon().tick()
    assert _acts(place, asked) == []


def test_an_engine_asks_its_own_roles_again():
    """A console may have other ones, or be taken over."""
    place, requests = _place()
    asked = _ask(requests)
    place.requests = replace(requests, access=Access(grants=()))
    place.daemon().tick()
    ended = requests.get(asked.id).ended
    assert ended is not None
    assert (ended.kind, ended.data["kind"]) == (EntryKind.FAILED, "not-permitted")
    assert _acts(place, asked) == []


def test_a_request_that_cannot_be_done_says_why_and_parks_nothing():
    place, requests = _place()
    asked = _ask(requests, Permission.ROLLBACK)
    place.daemon().tick()
    ended = requests.get(asked.id).ended
    assert ended is not None
    assert ended.kind is EntryKind.FAILED
    assert "nothing to roll back" in str(ended.data["what"])
    record = place.journal.secret("shop")
    assert record is not None
    assert record.parked is None


# -- deaths ----------------------------------------------------------------------------------------


class Died(BaseException):
    """The process was killed."""


def _dying(inner: Any, counter: list[int], at: int, *, after: bool) -> Any:
    def call(*args: Any, **named: Any) -> Any:
        counter[0] += 1
        if counter[0] == at and not after:
            raise Died
        found = inner(*args, **named)
        if counter[0] == at:
            raise Died
        return found

    return call


@pytest.mark.parametrize("action", [Permission.ROTATE, Permission.PARK, Permission.REVOKE])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_request_is_carried_out_once_wherever_its_engine_dies(action: Permission, after: bool):  # noqa: FBT001 # a parameter
    """At each write to the journal and to the log of requests, before it and after it."""
    at, died = 0, True
    while died:
        at += 1
        place, requests = _place()
        if action is Permission.REVOKE:
            place.engine.rotate(place.secret("shop"))
        asked = _ask(requests, action)
        counter = [0]
        journal, log = place.journal, requests.log
        kept = journal.append, log.append
        journal.append = _dying(kept[0], counter, at, after=after)  # type: ignore[method-assign]
        log.append = _dying(kept[1], counter, at, after=after)  # type: ignore[method-assign]
        died = False
        try:
            place.daemon().tick()
        except Died:
            died = True
        journal.append, log.append = kept  # type: ignore[method-assign]
        # The lock of the dead ends, and another process goes on.
        place.clock.advance(10 * _MINUTE)
        daemon = place.daemon()
        for _ in range(4):
            daemon.tick()
            place.clock.advance(_MINUTE)
        found = requests.get(asked.id)
        assert requests.state(found) is RequestState.TAKEN, at
        assert len(_acts(place, asked)) == 1, at
        kinds = [one.kind for one in place.journal.events("shop")]
        expected = 2 if action is not Permission.PARK else 1
        assert kinds.count(Kind.REQUESTED) == expected, at
    assert at > 2
