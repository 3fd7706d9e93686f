"""A report of a journal: rotations with proofs, exceptions, incidents, access, coverage, damage."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.access import Actor, Permission
from rotator.core.model import Kind, Step
from rotator.core.requests import Entry, EntryKind
from rotator.journal.requests import SqlRequests
from rotator.report.controls import Framework
from rotator.report.model import Period
from rotator.report.report import build
from rotator.testing.fakes import ManualClock
from tests.journal.attacker import drop_triggers
from tests.report.chains import YEAR, Chain, day

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.journal.sql import SqlJournal

    Write = Callable[[Chain], None]

_QUARTER = Period(since=day(0), until=day(90))


def _read(journal: SqlJournal, period: Period = _QUARTER, **more: Any) -> dict[str, Any]:
    with build(journal, period, **more) as report:
        return report.head | {"secrets": list(report.secrets())}


def _kinds(found: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(one["kind"], one["closed_at"] is None) for one in found["exceptions"]]


def test_a_rotation_comes_with_its_proof(journal: SqlJournal, write: Write):
    """With the number of the event that shows each moment."""
    write(Chain().rotate(0, "1", due=30).rotate(30.5, "2", due=60))
    found = _read(journal, Period(since=day(0), until=day(59)))
    [secret] = found["secrets"]
    second = secret["rotations"][1]
    assert second["event_numbers"] == {"requested": 5, "published": 6, "refused": 7, "ended": 8}
    assert second["head"] == journal.events("app")[-1].hash == secret["head"]
    assert (second["old_refused"], second["outcome"]) == (True, "done")
    assert (second["late_seconds"], second["late"]) == (43_200, False)
    assert (secret["word"], found["totals"]["late"], found["totals"]["rotations"]) == (
        "operated",
        0,
        2,
    )


_EXCEPTIONS = {
    "late, then replaced": (
        Chain().rotate(0, "1", due=30).rotate(32, "2", due=200),
        [("overdue", False)],
    ),
    "due for more than a day": (Chain().rotate(0, "1", due=30), [("overdue", True)]),
    "due for less than a day": (Chain().rotate(0, "1", due=89.5), []),
    "late only after the period": (
        Chain().rotate(0, "1", due=95).rotate(100, "2", due=200),
        [],
    ),
    "late although it is tried again": (
        Chain()
        .rotate(0, "1", due=30)
        .add(33, Kind.SCHEDULED, next_try=day(80).isoformat(), reason="target away"),
        [("overdue", True)],
    ),
    "due later, by another policy, in time": (
        Chain()
        .rotate(0, "1", due=30)
        .add(20, Kind.SCHEDULED, next_due=day(300).isoformat(), timing="t", reason="policy"),
        [],
    ),
    "late until it was retired": (
        Chain().rotate(0, "1", due=30).add(35, Kind.RETIRED, reason="gone"),
        [("overdue", False)],
    ),
    "parked": (
        Chain().rotate(0, "1").add(10, Kind.PARKED, reason="denied"),
        [("parked", True)],
    ),
    "parked for a time": (
        Chain().rotate(0, "1").add(10, Kind.PARKED, reason="x").add(11, Kind.UNPARKED, reason="y"),
        [("parked", False)],
    ),
    "parked before the period": (
        Chain().rotate(-50, "1").add(-20, Kind.PARKED).add(-10, Kind.UNPARKED),
        [],
    ),
    "unparked after the period": (
        Chain().rotate(0, "1").add(10, Kind.PARKED).add(95, Kind.UNPARKED),
        [("parked", True)],
    ),
    "rejected by the target": (
        Chain().rotate(0, "1").add(10, Kind.CHECKED, version="1", accepted=False, known=True),
        [("refused", True)],
    ),
    "drift, then adopted": (
        Chain()
        .rotate(0, "1")
        .add(10, Kind.CHECKED, version="7", accepted=True, known=False)
        .adopt(12, "7"),
        [("drift", False)],
    ),
    "the old credential is still accepted": (
        Chain().request(0, "r1").publish(0, "r1", "1").revoke(1, "r1", refused=False),
        [("old-accepted", False)],
    ),
    "the clock went back": (
        Chain().rotate(5, "1").add(4, Kind.CHECKED, version="1", accepted=True, known=True),
        [("clock", False)],
    ),
}


@pytest.mark.parametrize("case", _EXCEPTIONS.values(), ids=list(_EXCEPTIONS))
def test_exceptions_are_open_or_closed(
    journal: SqlJournal, write: Write, case: tuple[Chain, list[tuple[str, bool]]]
):
    """Each kind, by what the journal holds at the end of the period."""
    chain, expected = case
    write(chain)
    found = _read(journal)
    by_kind = [one for one in _kinds(found) if one[0] != "refused" or ("refused", True) in expected]
    assert by_kind == expected
    assert found["totals"]["late"] == sum(kind == "overdue" for kind, _ in expected)


def test_an_exception_names_its_events(journal: SqlJournal, write: Write):
    """The event that set the due date, and the one that ended the lateness."""
    write(Chain().rotate(0, "1", due=30).rotate(32, "2", due=200))
    [late] = _read(journal)["exceptions"]
    assert (late["opened_event"], late["closed_event"]) == (2, 6)
    assert late["opened_at"] == day(31).isoformat(timespec="microseconds")


def test_who_did_what(journal: SqlJournal, write: Write):
    """Each actor of the period with its requests; events of other times do not count."""
    write(Chain().rotate(-5, "1").rotate(3, "2").add(4, Kind.PARKED, reason="x"))
    [actor] = _read(journal)["access"]
    assert (actor["actor"], actor["events"]) == ("cli:ann", 5)
    assert actor["requests"] == {"parked": 1, "requested": 1}


def test_access_counts_who_decided_with_reveals_broken_glass_and_denied_attempts(
    journal: SqlJournal, write: Write
):
    """Who asked counts, not the process that wrote the event for them."""
    alice = Actor(subject="alice", method="oidc", face="web", host="h")
    by = alice.as_data()
    write(
        Chain()
        .rotate(0, "1")
        .add(3, Kind.REVEALED, reason="x", by=by)
        .add(4, Kind.PARKED, reason="x", by=by, break_glass=True)
    )
    log = SqlRequests(journal, ManualClock(at=day(5)))
    denied = Entry(
        request="r",
        kind=EntryKind.DENIED,
        secret="app",
        actor=replace(alice, subject="mallory"),
        action=Permission.KILL,
    )
    _ = log.append(denied)
    found = {one["actor"]: one["requests"] for one in _read(journal)["access"]}
    assert found["web:alice@h"] == {"break-glass": 1, "parked": 1, "revealed": 1}
    assert found["web:mallory@h"] == {"denied": 1}


def test_an_incident_is_open_until_it_is_proven(journal: SqlJournal, write: Write):
    """With the numbers of its events."""
    chain = Chain().rotate(0, "1", due=200)
    chain.add(10, Kind.LEAKED, incident="I-1", mode="kill", version="1", reason="paste")
    write(chain)
    found = _read(journal)
    [incident] = found["incidents"]
    assert (incident["incident"], incident["state"], incident["event_numbers"]) == (
        "I-1",
        "open",
        [5],
    )
    assert found["totals"]["incidents_open"] == 1


def test_the_report_states_what_it_does_not_cover(journal: SqlJournal, write: Write):
    """Unknown is never good: not an age before adoption, nor a secret without a due date."""
    write(Chain().adopt(10, "1"))
    found = _read(journal)
    [secret] = found["secrets"]
    assert secret["word"] == "not covered"
    assert secret["age_max"] == {"seconds": 80 * 86_400, "exact": False}
    covered = " ".join(found["not_covered"])
    assert "The journal does not know when" in covered.replace("the journal", "The journal")
    assert "begins at 2026-01-11 00:00 UTC" in covered
    assert "Lateness of 1 secrets" in covered


def test_a_renamed_secret_is_in_the_report_under_both_names(journal: SqlJournal, write: Write):
    """The old one until then, the new one from then on, at the same age."""
    write(Chain("old").rotate(0, "1", due=200).add(40, Kind.RENAMED, to="new", reason="x"))
    data = {"from": "old", "version": "1", "login": "a", "rotated_at": day(0).isoformat()}
    write(Chain("new").add(40, Kind.RENAMED, **data, next_due=day(200).isoformat(), timing="t"))
    new, old = _read(journal)["secrets"]
    assert (old["secret"], old["ended"], old["age_max"]["seconds"]) == (
        "old",
        "renamed to new",
        40 * 86_400,
    )
    assert (new["managed_from"][:10], new["age_max"]["seconds"]) == ("2026-02-10", 90 * 86_400)
    assert [new["word"], old["word"]] == ["operated", "operated"]


def test_a_secret_retired_before_the_period_is_not_in_it(journal: SqlJournal, write: Write):
    """Nor one that is managed only later."""
    write(Chain("gone").rotate(-90, "1").add(-50, Kind.RETIRED, reason="x"))
    write(Chain("later").rotate(95, "1"))
    assert _read(journal)["secrets"] == []


def test_a_secret_managed_again_after_the_retirement(journal: SqlJournal, write: Write):
    """Both times count."""
    chain = Chain().rotate(0, "1").add(30, Kind.RETIRED, reason="x").adopt(200, "5", made=190)
    write(chain)
    [secret] = _read(journal, Period(since=day(10), until=day(250)))["secrets"]
    assert (secret["managed_until"], secret["ended"]) == (None, None)
    assert secret["age_max"] == {"seconds": 60 * 86_400, "exact": True}


def test_a_rotation_of_another_system_is_one(journal: SqlJournal, write: Write):
    """With the login attempt of the old credential as its proof."""
    chain = Chain().adopt(0, "1", made=0, next_due=day(30).isoformat(), timing="t")
    data = {"request": "q1", "version": "2", "login": "a", "old_login": "a", "old_refused": True}
    write(chain.add(29, Kind.FOLLOWED, **data, next_due=day(120).isoformat(), timing="t"))
    [secret] = _read(journal)["secrets"]
    [rotation] = secret["rotations"]
    assert (rotation["delegated"], rotation["old_refused"], rotation["late_seconds"]) == (
        True,
        True,
        0,
    )
    assert rotation["event_numbers"] == {"followed": 2}


def test_a_rotation_that_another_system_did_on_request_has_its_own_events(
    journal: SqlJournal, write: Write
):
    """What was proven is what is served since; the login attempt of the old credential is its proof."""
    chain = Chain().adopt(0, "1", made=0, next_due=day(30).isoformat(), timing="t")
    asked = {"delegated": True, "old_version": "1", "old_login": "a", "reason": "due"}
    chain.add(29, Kind.REQUESTED, None, "q1", **asked)
    proven = {"version": "2", "login": "a", "next_due": day(59).isoformat(), "timing": "t"}
    chain.add(29, Kind.FINISHED, Step.PROVE, "q1", **proven)
    chain.add(29, Kind.FINISHED, Step.REVOKE, "q1", login="a", refused=True)
    write(chain.add(29, Kind.ENDED, None, "q1", outcome="done"))
    [secret] = _read(journal)["secrets"]
    [rotation] = secret["rotations"]
    assert (rotation["delegated"], rotation["old_refused"], rotation["late_seconds"]) == (
        *(True, True),
        0,
    )
    assert rotation["event_numbers"] == {"requested": 2, "proven": 3, "refused": 4, "ended": 5}
    assert (rotation["new_version"], rotation["outcome"]) == ("2", "done")


def test_the_same_journal_and_period_give_the_same_bytes(journal: SqlJournal, write: Write):
    """Also once the journal has grown after the period, but for what was checked."""
    for name in ("b", "a", "c"):
        write(Chain(name).rotate(0, "1", due=30).rotate(40, "2", due=70))

    def text() -> str:
        return json.dumps(_read(journal, sample=2, frameworks=[*Framework]))

    first = text()
    assert text() == first
    before = _read(journal)
    write(Chain("a").rotate(100, "3").add(120, Kind.PARKED, reason="x"))
    after = _read(journal)
    assert {**after, "journal": None} == {**before, "journal": None}


def test_a_sample_can_be_drawn_again(journal: SqlJournal, write: Write):
    """By the seed alone; another seed draws others."""
    chain = Chain()
    for number in range(40):
        chain.rotate(number, str(number))
    write(chain)

    def drawn(seed: str) -> list[str]:
        return [one["id"] for one in _read(journal, sample=5, seed=seed)["sample"]["rotations"]]

    assert drawn("1") == drawn("1")
    assert len(set(drawn("1"))) == 5
    assert drawn("1") != drawn("2")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE events SET actor = 'x' WHERE seq = 3", "was changed: its hash does not match"),
        ("UPDATE events SET data = '{' WHERE seq = 2", "is unreadable"),
        ("UPDATE events SET kind = 'odd' WHERE seq = 2", "is unreadable"),
        ("UPDATE events SET at = 'noon' WHERE seq = 2", "is unreadable"),
        ("UPDATE events SET at = '2026-01-01' WHERE seq = 2", "is unreadable"),
        ("UPDATE events SET data = x'ff00' WHERE seq = 2", "is unreadable"),
        ("DELETE FROM events WHERE seq = 3", "does not follow the event before it"),
        ("DELETE FROM events WHERE seq = 8", "its chain does not end where its record states"),
        ("DELETE FROM events", "its events are missing"),
    ],
)
def test_a_damaged_journal_gives_a_report_that_states_it(
    journal: SqlJournal, write: Write, statement: str, what: str
):
    """Whatever was changed, and the undamaged secret is reported as before."""
    write(Chain("other").rotate(0, "1", due=200))
    write(Chain().rotate(0, "1", due=30).rotate(29, "2", due=200))
    drop_triggers(journal)
    where = " AND" if "WHERE" in statement else " WHERE"
    with journal.writing() as db:
        db.exec_driver_sql(f"{statement}{where} secret = 'app'")
    found = _read(journal)
    assert found["journal"]["intact"] is False
    assert any(what in one["what"] and "app" in one["where"] for one in found["journal"]["damage"])
    assert "other" in [one["secret"] for one in found["secrets"]]
    assert list(found)[:2] == ["format", "journal"]


def test_controls_use_three_words(journal: SqlJournal, write: Write):
    """By the figures; what a journal cannot show is not covered."""
    write(Chain().rotate(0, "1", due=89.9).rotate(40, "2", due=200))
    found = _read(journal, frameworks=[Framework.PCI, Framework.NIST])
    words = {
        (one["framework"], one["number"], one["question"][:10]): one["word"]
        for one in found["controls"]
    }
    assert words["pci", "8.6.3", "Credential"] == "operated"
    assert words["pci", "8.6.3", "A leaked c"] == "not covered"
    assert words["pci", "8.3.9", "Passwords "] == "not covered"
    assert words["nist", "AU-9", "Records ar"] == "operated"
    write(Chain("late").rotate(0, "1", due=10))
    late = _read(journal, frameworks=[Framework.PCI])
    assert late["controls"][0]["word"] == "exception"


def test_only_the_chosen_secrets_are_in_the_report(journal: SqlJournal, write: Write):
    """The chains of all are checked, and the report states that others are left out."""
    write(Chain("a").rotate(0, "1"))
    write(Chain("b").rotate(0, "1"))
    found = _read(journal, only={"a"})
    assert [one["secret"] for one in found["secrets"]] == ["a"]
    assert found["journal"]["secrets_checked"] == 2
    assert "Secrets that the filter left out." in found["not_covered"]


def test_an_empty_journal_gives_an_empty_report(journal: SqlJournal):
    """Which covers nothing."""
    found = _read(journal, YEAR, frameworks=[*Framework])
    assert found["secrets"] == []
    assert {one["word"] for one in found["controls"]} == {"not covered"}
    assert "has no events" in found["not_covered"][0]


def test_a_rolled_back_rotation_counts_as_undone(journal: SqlJournal, write: Write):
    """It was published, and something else is served."""
    chain = Chain().rotate(0, "1", due=60).request(20, "r2", "1").publish(20, "r2", "2", due=50)
    write(chain.restore(21, "r2", "1"))
    found = _read(journal, Period(since=day(0), until=day(40)))
    assert found["totals"]["undone"] == 1
    [secret] = found["secrets"]
    assert secret["version"] == "1"
    assert secret["rotations"][1]["event_numbers"]["restored"] == 7
    assert secret["age_max"]["seconds"] == timedelta(days=40).total_seconds()


def test_steps_that_change_nothing_do_not_count_as_exceptions(journal: SqlJournal, write: Write):
    """A step that was tried twice is not an exception."""
    chain = Chain().request(0, "r1").add(0, Kind.STARTED, Step.CREATE, "r1")
    chain.add(0, Kind.FAILED, Step.CREATE, "r1", kind="transient", what="away")
    write(chain.publish(1, "r1", "1", due=200).revoke(2, "r1"))
    assert _read(journal)["exceptions"] == []
