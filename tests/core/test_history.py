"""Records are nothing but folds over events, one event at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core.history import (
    RotationFold,
    RotationRecord,
    SecretFold,
    SecretRecord,
    fold_rotation,
    fold_secret,
    newest_step,
)
from rotator.core.model import Event, Kind, Outcome, Step
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.core.model import Json

_ID = "00000000-0000-4000-8000-000000000001"
_OTHER = "00000000-0000-4000-8000-000000000002"

_REQUEST: dict[str, Json] = {
    "plugin": "postgresql",
    "strategy": "new-user",
    "reason": "a person left",
    "old_version": "1",
    "old_login": "app_r1",
}


def _event(
    seq: int,
    kind: Kind,
    step: Step | None = None,
    data: dict[str, Json] | None = None,
    rotation_id: str | None = _ID,
) -> Event:
    return Event(
        secret="app",
        seq=seq,
        at=START + timedelta(seconds=seq),
        actor="cli:somebody",
        fence=1,
        kind=kind,
        rotation_id=rotation_id,
        step=step,
        data=data or {},
        prev_hash=f"hash-{seq - 1}",
        hash=f"hash-{seq}",
    )


_FORWARD = [
    _event(1, Kind.REQUESTED, data=_REQUEST),
    _event(2, Kind.STARTED, Step.STAGE),
    _event(3, Kind.FINISHED, Step.STAGE, {"login": "app_r2"}),
    _event(4, Kind.STARTED, Step.PUBLISH),
    _event(
        5,
        Kind.FINISHED,
        Step.PUBLISH,
        {"version": "2", "login": "app_r2", "next_due": "2026-01-31T00:00:00+00:00"},
    ),
    _event(6, Kind.STARTED, Step.REVOKE),
    _event(7, Kind.FINISHED, Step.REVOKE, {"login": "app_r1", "refused": True}),
    _event(8, Kind.ENDED, data={"outcome": "done"}),
]


def _rotation(events: Sequence[Event]) -> RotationRecord | None:
    record = None
    for event in events:
        record = fold_rotation(record, event)
    return record


def _secret(events: Sequence[Event], record: SecretRecord | None = None) -> SecretRecord:
    for event in events:
        record = fold_secret(record, event)
    assert record is not None
    return record


def test_a_completed_rotation_has_a_complete_record():
    """Old and new login and version, when it was published, the proof, and how it ended."""
    assert _rotation(_FORWARD) == RotationRecord(
        id=_ID,
        secret="app",
        plugin="postgresql",
        strategy="new-user",
        reason="a person left",
        actor="cli:somebody",
        started_at=START + timedelta(seconds=1),
        old_version="1",
        old_login="app_r1",
        new_version="2",
        new_login="app_r2",
        published_at=START + timedelta(seconds=5),
        old_refused=True,
        ended_at=START + timedelta(seconds=8),
        outcome=Outcome.DONE,
    )


def test_a_rotation_under_way_shows_its_newest_step():
    """The last event of a step; the record of the rotation has no end yet."""
    history = [*_FORWARD[:4], _event(5, Kind.FAILED, Step.PUBLISH)]
    newest = newest_step([*history, _event(6, Kind.PARKED)])
    assert newest is not None
    assert (newest.step, newest.kind) == (Step.PUBLISH, Kind.FAILED)
    assert newest_step(_FORWARD[:1]) is None
    record = _rotation(history)
    assert record is not None
    assert (record.ended_at, record.outcome, record.published_at) == (None, None, None)


def test_events_that_belong_to_no_rotation_begin_none():
    """Adoptions and checks are about the secret alone."""
    assert _rotation([_event(1, Kind.CHECKED, rotation_id=None)]) is None


def test_events_of_another_rotation_do_not_touch_it():
    """Each rotation folds its own."""
    record = _rotation(_FORWARD)
    other = _event(9, Kind.FINISHED, Step.STAGE, {"login": "x"}, rotation_id=_OTHER)
    assert fold_rotation(record, other) == record


def test_an_untried_old_credential_is_not_recorded_as_rejected():
    """When nobody could try the old credential, the record holds None, not False."""
    record = _rotation([*_FORWARD[:6], _event(7, Kind.FINISHED, Step.REVOKE, {"refused": None})])
    assert record is not None
    assert record.old_refused is None


def test_a_secret_knows_what_was_published_and_when_it_is_due():
    """After a good rotation nothing is open and no failure is counted."""
    assert _secret(_FORWARD) == SecretRecord(
        name="app",
        version="2",
        login="app_r2",
        rotated_at=START + timedelta(seconds=5),
        next_due=START + timedelta(days=30),
        since=START + timedelta(seconds=5),
        last_outcome=Outcome.DONE,
        open_rotation=None,
        seq=8,
        head="hash-8",
    )


def test_an_open_rotation_is_known_to_its_secret():
    """From the request to the end."""
    assert _secret(_FORWARD[:1]).open_rotation == _ID
    assert _secret(_FORWARD[:7]).open_rotation == _ID
    assert _secret(_FORWARD).open_rotation is None


def test_a_rollback_brings_back_version_login_and_age():
    """What is served again is as old as it is: due a period after its own publication."""
    published = _event(5, Kind.FINISHED, Step.PUBLISH, {"version": "3", "login": "app_r1"})
    again = [replace(one, seq=one.seq + 10, at=one.at + timedelta(days=29)) for one in _FORWARD[:5]]
    later = START + timedelta(days=29, seconds=60)
    restored = _event(16, Kind.FINISHED, Step.RESTORE, {"version": "3", "login": "app_r1"})
    record = _secret([*_FORWARD[:4], published, *again, replace(restored, at=later)])
    assert (record.version, record.login) == ("3", "app_r1")
    assert record.rotated_at == record.since == START + timedelta(seconds=5)


def test_a_rollback_to_an_adopted_login_has_no_known_age():
    """It is due from when it was taken over, and its password may be older."""
    adopted = _event(1, Kind.ADOPTED, data={"version": "1", "login": "a"}, rotation_id=None)
    restored = _event(6, Kind.FINISHED, Step.RESTORE, {"version": "1", "login": "a"})
    record = _secret([adopted, *_FORWARD[:5], restored])
    assert record.rotated_at is None
    assert record.since == START + timedelta(seconds=1)


def test_a_failure_moves_the_next_try_and_keeps_the_due_date():
    """Also as an older release wrote it, which moved the due date itself."""
    due, tried = START + timedelta(days=30), START + timedelta(days=31)
    stamp = {"next_due": due.isoformat(), "timing": "t"}
    adopted = _event(1, Kind.ADOPTED, data={"version": "1", **stamp}, rotation_id=None)
    ended: dict[str, Json] = {"outcome": "undone", "cause": "transient"}
    for moved in ({"next_try": tried.isoformat()}, {"next_due": tried.isoformat(), "timing": "t"}):
        record = _secret([adopted, _event(9, Kind.ENDED, data={**ended, **moved})])
        assert (record.next_due, record.due) == (tried, due)
    published = _event(10, Kind.FINISHED, Step.PUBLISH, {"version": "2", **stamp})
    assert _secret([published], record).due_since is None


def test_an_adopted_login_stays_known_as_adopted():
    """No mark on the target shows that it is ours, so the journal remembers each of them."""
    first = _event(1, Kind.ADOPTED, data={"version": "1", "login": "b"}, rotation_id=None)
    second = _event(2, Kind.ADOPTED, data={"version": "9", "login": "a"}, rotation_id=None)
    record = _secret([first, second])
    assert record.adopted == ("a", "b")
    assert (record.version, record.login) == ("9", "a")
    assert _secret(_FORWARD, record).adopted == ("a", "b")


@pytest.mark.parametrize(
    ("endings", "failures"),
    [
        (["undone", "undone"], 2),
        (["undone", "done"], 0),
        (["undone", "rolled-back"], 0),
        (["undone", "done", "undone"], 1),
    ],
)
def test_failures_in_a_row_are_counted(endings: list[str], failures: int):
    """Each good end begins the count anew."""
    events = [
        _event(number, Kind.ENDED, data={"outcome": outcome, "cause": "transient"})
        for number, outcome in enumerate(endings, 1)
    ]
    assert _secret(events).failures == failures


def test_a_rotation_that_an_operator_called_off_is_no_failure():
    """Rolling back before publish does not bring the secret nearer to being parked."""
    called_off = _event(1, Kind.ENDED, data={"outcome": "undone", "cause": "aborted"})
    assert _secret([called_off]).failures == 0


def test_a_parked_secret_has_its_reason_until_it_is_unparked():
    """Unparking forgets the failures too."""
    ended = _event(1, Kind.ENDED, data={"outcome": "undone", "cause": "denied"})
    parked = _event(2, Kind.PARKED, data={"reason": "denied: no CREATEROLE"}, rotation_id=None)
    unparked = _event(3, Kind.UNPARKED, data={"reason": "granted"}, rotation_id=None)
    assert _secret([ended, parked]).parked == "denied: no CREATEROLE"
    assert _secret([ended, parked]).failures == 1
    assert _secret([ended, parked, unparked]).parked is None
    assert _secret([ended, parked, unparked]).failures == 0


def test_a_parked_secret_is_parked_also_without_a_reason():
    """An empty reason is not taken for 'not parked'."""
    assert _secret([_event(1, Kind.PARKED, rotation_id=None)]).parked


def test_any_event_may_move_the_due_date_and_null_removes_it():
    """Absent leaves it as it is; null means 'not due'."""
    due: dict[str, Json] = {"next_due": "2026-02-01T00:00:00+00:00"}
    scheduled = _event(1, Kind.SCHEDULED, data=due, rotation_id=None)
    checked = _event(2, Kind.CHECKED, rotation_id=None)
    cleared = _event(3, Kind.SCHEDULED, data={"next_due": None}, rotation_id=None)
    assert _secret([scheduled, checked]).next_due == START + timedelta(days=31)
    assert _secret([scheduled, checked, cleared]).next_due is None


def test_folding_in_pieces_is_folding_at_once():
    """Where a fold is cut makes no difference: that is what lets a table keep it."""
    for cut in range(len(_FORWARD) + 1):
        first = _FORWARD[:cut]
        record = _secret(first) if first else None
        assert _secret(_FORWARD[cut:], record) == _secret(_FORWARD)


_REFUSED = (Kind.CHECKED, None, {"version": "2", "login": "app", "accepted": False, "known": True})


@pytest.mark.parametrize(
    ("kind", "step", "data"),
    [
        (Kind.CHECKED, None, {"version": "2", "accepted": True, "known": True}),
        (Kind.ADOPTED, None, {"version": "3", "login": "app"}),
        (Kind.FINISHED, Step.PUBLISH, {"version": "3", "login": "app_r2"}),
        (Kind.FINISHED, Step.RESTORE, {"version": "3", "login": "app_r1"}),
        (Kind.FINISHED, Step.REVOKE, {"login": "app_r1", "refused": True}),
        (Kind.FINISHED, Step.WITHDRAW, {"current_accepted": True}),
        (Kind.FOLLOWED, None, {"version": "3", "login": "app"}),
        (Kind.RETIRED, None, {"reason": "gone"}),
    ],
)
def test_a_refused_credential_is_refused_until_a_login_succeeds(
    kind: Kind, step: Step | None, data: dict[str, Json]
):
    """What a check saw is kept with the time of the first refusal; a later proof clears it."""
    refused = _secret([_event(1, *_REFUSED), _event(2, *_REFUSED), _event(3, Kind.SCHEDULED)])
    assert refused.refused == (
        "the target rejects login 'app' with the password that the backend serves."
    )
    assert refused.refused_at == START + timedelta(seconds=1)
    proven = _secret([_event(1, *_REFUSED), _event(2, kind, step, data)])
    assert (proven.refused, proven.refused_at) == (None, None)


@pytest.mark.parametrize("step", [Step.WITHDRAW, Step.REVOKE])
def test_a_rotation_that_sees_a_refusal_records_it_for_its_secret(step: Step):
    """A step that tried what is served and was refused makes the secret refused."""
    kind = Kind.FINISHED if step is Step.WITHDRAW else Kind.FAILED
    data: dict[str, Json] = {"what": "the target refuses it.", "current_accepted": False}
    assert _secret([_event(1, kind, step, data)]).refused == "the target refuses it."


def test_a_retired_secret_is_neither_due_nor_refused():
    """What a check sees afterwards is no longer its matter, until it is adopted again."""
    retired = [_event(1, *_REFUSED), _event(2, Kind.RETIRED, data={"reason": "INC"})]
    record = _secret([*retired, _event(3, *_REFUSED)])
    assert (record.retired, record.refused, record.next_due, record.login) == (
        "INC",
        None,
        None,
        None,
    )
    adopted = _event(3, Kind.ADOPTED, data={"version": "3", "login": "app"})
    assert _secret([*retired, adopted]).retired is None


def test_a_new_name_takes_over_what_the_old_one_had():
    """The old chain is left with a pointer, the new one with version, login and former names."""
    data: dict[str, Json] = {"from": "old", "former_names": ["old"], "version": "2", "login": "x"}
    record = _secret([_event(1, Kind.RENAMED, data=data)])
    assert (record.version, record.login, record.former_names) == ("2", "x", ("old",))
    left = _secret([*_FORWARD, _event(9, Kind.RENAMED, data={"to": "new"})])
    assert (left.renamed_to, left.version, left.next_due) == ("new", None, None)


_TEXTS = (
    *("plugin", "strategy", "version", "login", "reason", "hint", "why", "to", "from", "parked"),
    *("timing", "mode", "incident", "moment", "request", "cause"),
)
_FLAGS = (
    *("served", "same", "counts", "accepted", "known", "current_accepted", "ok", "refused"),
    "drop_login",
)
_TIMES = ("next_due", "next_try", "due_since", "rotated_at", "since", "next")
_DATA = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_TEXTS, st.sampled_from([None, "a", "map"])),
        **dict.fromkeys(_FLAGS, st.none() | st.booleans()),
        **dict.fromkeys(_TIMES, st.sampled_from([None, "2026-01-31T00:00:00+00:00"])),
        **dict.fromkeys(("stale", "adopted"), st.lists(st.sampled_from("xy"), max_size=2)),
        "outcome": st.sampled_from([one.value for one in Outcome]),
    },
)
_CHANGES = st.tuples(
    st.sampled_from(Kind),
    st.none() | st.sampled_from(Step),
    _DATA,
    st.sampled_from([None, _ID, _OTHER]),
)


@given(st.lists(_CHANGES, max_size=12))
def test_a_fold_in_place_gives_the_record_of_the_pure_fold(
    changes: list[tuple[Kind, Step | None, dict[str, Json], str | None]],
):
    """`audit verify` folds millions of events in place; what it compares with must be the same."""
    in_place, rotation_in_place = SecretFold("app"), RotationFold()
    record, rotation, has_rotation = SecretRecord(name="app"), None, False
    for seq, (kind, step, data, rotation_id) in enumerate(changes, 1):
        if kind is Kind.ENDED:
            data.setdefault("outcome", Outcome.DONE.value)
        event = _event(seq, kind, step, data, rotation_id)
        record, rotation = fold_secret(record, event), fold_rotation(rotation, event)
        in_place.add(event)
        has_rotation = rotation_in_place.add(event)
    assert in_place.record(seq=record.seq, head=record.head) == record
    assert has_rotation is (rotation is not None)
    assert rotation is None or rotation_in_place.record() == rotation
