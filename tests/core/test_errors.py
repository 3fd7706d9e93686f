"""Errors are read by an operator at 3 a.m., and their type alone decides what the engine does."""

from __future__ import annotations

import pytest

from rotator.core import errors
from rotator.core.errors import (
    RETRIED,
    Denied,
    InUse,
    NotDue,
    RotatorError,
    StepError,
    Transient,
    Unprovable,
)
from rotator.core.session import Session
from rotator.testing.fakes import START

_ALL = [
    one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RotatorError)
]


@pytest.mark.parametrize("kind", _ALL)
def test_each_error_class_has_one_sentence_that_explains_it(kind: type[RotatorError]):
    """The docstring is the meaning; an operator finds it by the error's name."""
    assert kind.__doc__
    assert kind.__doc__.split("\n")[0].endswith(".")


def test_each_error_class_has_a_kind_of_its_own():
    """The journal keeps the name of the kind, and decides by it after a restart."""
    assert len({one.kind for one in _ALL}) == len(_ALL)


def test_a_message_has_place_event_safety_and_remedy():
    """Secret and step first, then what happened, whether the application is safe, what to do."""
    error = Transient(
        "the server did not answer.",
        hint="It is tried again in a minute.",
        safety="The application is safe.",
    )
    error.secret, error.step = "orders-db", "verify"
    assert str(error) == (
        "orders-db, step verify: the server did not answer. The application is safe."
        " It is tried again in a minute."
    )


def test_a_message_without_a_place_is_the_event_alone():
    """Before the engine adds secret and step there is no dangling comma."""
    assert str(Denied("no right.")) == "no right."


def test_the_engine_retries_only_errors_that_may_pass():
    """A lost answer, a passing failure, a target that nobody can use; all else needs a decision."""
    assert {"transient", "unavailable", "unknown"} == RETRIED


def test_in_use_lists_each_session():
    """The drain shows who is still logged in."""
    session = Session(login="app", client="10.0.0.7", application="billing", since=START)
    error = InUse("2 sessions.", sessions=[session, session])
    assert error.sessions == (session, session)
    assert isinstance(error, Transient)


def test_unprovable_is_a_kind_of_denied():
    """`trust` in pg_hba parks the secret, as a missing right does."""
    assert issubclass(Unprovable, Denied)


def test_not_due_carries_its_moment():
    """The caller may want to come back."""
    assert NotDue("in its grace period.", until=START).until == START


def test_step_errors_have_a_base_class_of_their_own():
    """What happens to a step goes into its history; what happens to the journal cannot."""
    in_history = {one.kind for one in _ALL if issubclass(one, StepError)}
    assert in_history.isdisjoint({"lock-lost", "journal", "busy", "usage", "parked", "not-due"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Connection refused", "Connection refused."),
        ('no role "app"', 'no role "app".'),
        ("no answer (111)", "no answer (111)."),
        ("it is over.", "it is over."),
        ("is it?", "is it?"),
        ("problems:\n  one\n", "problems:\n  one\n"),
        ("", ""),
    ],
)
def test_what_happened_is_a_sentence_of_its_own(given: str, expected: str):
    """A server's words have no full stop, and the hint follows them."""
    error = Transient(given, hint="Try again.")
    assert error.what == expected
    assert str(error) == " ".join(one for one in (expected, "Try again.") if one)
