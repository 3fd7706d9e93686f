"""Requests in the journal: signed by their writer, chained, never changed."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from rotator.core.access import (
    Access,
    Actor,
    ApprovalRule,
    Grant,
    Permission,
    Role,
    Selector,
    Subject,
)
from rotator.core.errors import JournalError, NeedsApproval, NotPermitted, UsageError
from rotator.core.requests import EntryKind, RequestState
from rotator.core.secret import Secret
from rotator.journal import audit, chain, tables
from rotator.journal.event_key import EventKey
from rotator.journal.requests import SqlRequests, Writer
from rotator.journal.sql import SqlJournal
from rotator.requests import Requests
from rotator.testing.fakes import ManualClock, SeededEntropy
from tests.journal.attacker import drop_triggers

ALICE = Actor(subject="alice", method="os", face="cli", host="vm")
BEN = Actor(subject="ben", method="oidc", face="web", host="10.0.0.8")
CAROL = Actor(subject="carol", method="oidc", face="web", host="10.0.0.7", groups=("leads",))
MALLORY = Actor(subject="mallory", method="oidc", face="web", host="10.0.0.9")
ACCESS = Access(
    grants=(
        Grant(role=Role.OPERATOR, subjects=("alice",)),
        Grant(role=Role.APPROVER, groups=("leads",)),
        Grant(role=Role.BREAKER, subjects=("ben",)),
    ),
    rules=(
        ApprovalRule(
            actions=(Permission.REVOKE,),
            where=Selector(tags=("prod",)),
            expires=timedelta(hours=1),
        ),
    ),
)


class Installation:
    """A journal with engines and a console, each with its key."""

    def __init__(self, journal: SqlJournal, clock: ManualClock, signing_key: Secret) -> None:
        self.journal, self.clock = journal, clock
        self.console_key = chain.new_signing_key()
        writers = {"console": chain.public_key(self.console_key)}
        event_key = EventKey.derive(signing_key)
        self.engine_log = SqlRequests(journal, clock, writers=writers, event_key=lambda: event_key)
        self.engine = self._requests(self.engine_log)
        self.console = self._requests(self.log_of("console", self.console_key))
        self._entropy = SeededEntropy(1)

    def log_of(self, name: str, key: Secret) -> SqlRequests:
        public = chain.public_key(self.console_key)
        writers = {"console": public}
        return SqlRequests(
            self.journal, self.clock, own=lambda: Writer(name=name, key=key), writers=writers
        )

    def requests(self, log: SqlRequests) -> Requests:
        return self._requests(log)

    def _requests(self, log: SqlRequests) -> Requests:
        return Requests(
            log=log,
            access=ACCESS,
            clock=self.clock,
            entropy=SeededEntropy(len(vars(self))),
            subject=lambda name: Subject(name=name, tags=("prod",)),
        )

    def damage(self) -> list[str]:
        report = audit.verify(self.journal, trusts=self.engine_log.trusts)
        found = [one for one in report.damage if not one.where.startswith("trigger ")]
        return [f"{one.where}: {one.what}" for one in found]


@pytest.fixture
def place(journal: SqlJournal, clock: ManualClock, signing_key: Secret) -> Installation:
    return Installation(journal, clock, signing_key)


def test_an_engine_finds_what_a_console_requests(place: Installation):
    asked = place.console.ask(Permission.ROTATE, "shop", actor=ALICE, reason="left the team")
    [found] = place.engine.ready()
    assert (found.id, found.action, found.secret) == (asked.id, Permission.ROTATE, "shop")
    assert (found.actor, found.reason) == (ALICE, "left the team")
    assert place.damage() == []


def test_a_request_waits_for_its_approval_and_not_for_the_requesters_own(place: Installation):
    asked = place.console.ask(Permission.REVOKE, "shop", actor=ALICE, reason="leaked")
    assert place.engine.ready() == []
    assert place.engine.state(asked) is RequestState.NEEDS_APPROVAL
    with pytest.raises(NotPermitted):
        place.console.approve(asked.id, actor=ALICE, reason="mine")
    _ = place.console.approve(asked.id, actor=CAROL, reason="agreed")
    with pytest.raises(UsageError, match="already"):
        place.console.approve(asked.id, actor=CAROL, reason="agreed")
    [found] = place.engine.ready()
    assert [one.actor.subject for one in found.approvals] == ["carol"]
    assert found.as_data()["approved_by"] == [CAROL.as_data()]


def test_glass_is_broken_by_its_role_alone(place: Installation):
    """The engine asks its own configuration: an option that a console wrote is not enough."""
    with pytest.raises(NotPermitted, match="break glass"):
        place.console.ask(Permission.REVOKE, "shop", actor=ALICE, reason="leaked", break_glass=True)
    _ = place.console.ask(
        Permission.REVOKE, "shop", actor=ALICE, reason="leaked", options={"break_glass": True}
    )
    assert place.engine.ready() == []
    _ = place.console.ask(Permission.REVOKE, "shop", actor=BEN, reason="leaked", break_glass=True)
    [found] = place.engine.ready()
    assert (found.actor, found.as_data()["break_glass"]) == (BEN, True)


def test_a_request_expires_and_then_nobody_can_approve_it(place: Installation):
    asked = place.console.ask(Permission.REVOKE, "shop", actor=ALICE, reason="leaked")
    place.clock.advance(timedelta(hours=1))
    assert place.engine.state(asked) is RequestState.EXPIRED
    assert place.engine.open() == []
    with pytest.raises(UsageError, match="expired"):
        place.console.approve(asked.id, actor=CAROL, reason="agreed")


def test_a_refused_or_withdrawn_request_is_not_carried_out(place: Installation):
    first = place.console.ask(Permission.REVOKE, "shop", actor=ALICE, reason="leaked")
    second = place.console.ask(Permission.ROTATE, "shop", actor=ALICE, reason="old")
    assert place.console.refuse(first.id, actor=CAROL, reason="no").ended is not None
    assert place.console.refuse(second.id, actor=ALICE, reason="mistake").ended is not None
    assert place.engine.open() == []
    states = [place.engine.state(one) for one in place.engine.recent()]
    assert states == [RequestState.REFUSED] * 2


def test_a_denied_attempt_is_recorded(place: Installation):
    with pytest.raises(NotPermitted) as caught:
        place.console.ask(Permission.ROTATE, "shop", actor=MALLORY, reason="let me")
    assert "operator, admin" in caught.value.hint
    assert place.engine.recent() == []
    [entry] = place.engine_log.recent(10)
    assert (entry.kind, entry.action) == (EntryKind.DENIED, Permission.ROTATE)
    assert (entry.actor.subject, entry.secret) == ("mallory", "shop")


def test_a_request_needs_a_reason(place: Installation):
    with pytest.raises(UsageError, match="reason"):
        place.console.ask(Permission.ROTATE, "shop", actor=ALICE, reason="  ")


def test_a_rule_sends_a_direct_command_to_a_request(place: Installation):
    place.engine.require_no_approval(Permission.ROTATE, "shop")
    with pytest.raises(NeedsApproval) as caught:
        place.engine.require_no_approval(Permission.REVOKE, "shop")
    assert "rotator request revoke shop" in caught.value.hint


# -- forgery ---------------------------------------------------------------------------------------


def test_an_engine_ignores_a_writer_whose_key_it_does_not_know(place: Installation):
    """Also under the name of one that it knows, and under the engines' own."""
    for name in ("console", "somebody", "rotator"):
        forger = place.requests(place.log_of(name, chain.new_signing_key()))
        _ = forger.ask(Permission.ROTATE, "shop", actor=ALICE, reason="forged")
    assert place.engine.open() == []
    assert len(place.damage()) == 3


def test_a_writer_cannot_say_what_an_engine_did(place: Installation):
    asked = place.console.ask(Permission.ROTATE, "shop", actor=ALICE, reason="old")
    place.console.end(asked, EntryKind.TAKEN, ALICE, {})
    [found] = place.engine.recent()
    assert found.ended is None


def test_a_changed_or_removed_entry_is_found_and_not_carried_out(place: Installation):
    for name in ("shop", "web", "mail"):
        _ = place.console.ask(Permission.ROTATE, name, actor=ALICE, reason="old")
    drop_triggers(place.journal)
    table = tables.requests
    with place.journal.writing() as db:
        db.execute(sa.update(table).where(table.c.secret == "shop").values(secret="bank"))
        db.execute(sa.delete(table).where(table.c.secret == "web"))
    assert [one.secret for one in place.engine.ready()] == ["mail"]
    damage = " ".join(place.damage())
    assert "entry 1: was changed" in damage
    assert "entry 2: missing" in damage


@pytest.mark.parametrize("statement", ["UPDATE requests SET secret = 'x'", "DELETE FROM requests"])
def test_the_table_takes_no_change(place: Installation, statement: str):
    _ = place.console.ask(Permission.ROTATE, "shop", actor=ALICE, reason="old")
    with pytest.raises(JournalError), place.journal.writing() as db:
        db.exec_driver_sql(statement)


def test_a_process_without_a_key_cannot_request_where_others_have_one(
    make_journal,
    clock: ManualClock,
    signing_key: Secret,  # type: ignore[no-untyped-def]
):
    """Else its request would only be ignored."""
    from tests.journal.test_writers import _provider

    keyed = make_journal(key=_provider(signing_key))
    lock = keyed.acquire("shop", "somebody", timedelta(minutes=1))
    keyed.release(lock)
    log = SqlRequests(make_journal(), clock)
    requests = Requests(
        log=log,
        access=Access(),
        clock=clock,
        entropy=SeededEntropy(1),
        subject=lambda name: Subject(name=name),
    )
    with pytest.raises(JournalError, match="no key"):
        requests.ask(Permission.ROTATE, "shop", actor=ALICE, reason="old")
