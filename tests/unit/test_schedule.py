"""When a secret is due: unknown is never 'now'."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotator.core.history import SecretRecord
from rotator.core.model import Policy
from rotator.core.schedule import is_due, next_due
from rotator.testing.fakes import START

_MONTH = timedelta(days=30)
_MOMENT = timedelta(microseconds=1)


def test_a_rotated_secret_is_due_a_period_later():
    """The period counts from the last rotation or adoption."""
    assert next_due(Policy(every=_MONTH), START) == START + _MONTH


def test_without_a_period_nothing_is_ever_due():
    """Rotated on demand only."""
    assert next_due(Policy(every=None), START) is None


def test_what_was_never_rotated_has_no_due_date():
    """Unknown is not 'now': a new configuration does not rotate everything at once."""
    assert next_due(Policy(every=_MONTH), None) is None


@pytest.mark.parametrize(
    ("record", "due"),
    [
        (None, False),
        (SecretRecord(name="app"), False),
        (SecretRecord(name="app", next_due=None, rotated_at=START), False),
        (SecretRecord(name="app", next_due=START + _MOMENT), False),
        (SecretRecord(name="app", next_due=START), True),
        (SecretRecord(name="app", next_due=START - 12 * _MONTH), True),
        (SecretRecord(name="app", next_due=START - _MONTH, parked="denied"), False),
    ],
    ids=[
        "unknown to the journal",
        "known, without a date",
        "rotated, without a date",
        "a moment too early",
        "on the moment",
        "long overdue",
        "overdue but parked",
    ],
)
def test_whether_a_secret_is_due(*, record: SecretRecord | None, due: bool):
    """Only a date that the journal holds, and that has come, makes a secret due."""
    assert is_due(record, START) is due
