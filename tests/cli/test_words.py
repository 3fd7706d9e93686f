"""How outcomes are told: what happened, is the application safe, what comes next."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from rotator.core.errors import Denied, Refused, Transient
from rotator.core.model import Outcome, Step
from rotator.engine import Result
from rotator.faces.cli.render import messages
from rotator.faces.cli.render.console import Screen, plural, relative, span
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from rotator.core.errors import RotatorError


def _said(command: str = "rotate", **given: Any) -> str:
    result = Result(secret="app", rotation_id="r1", **given)
    console = Console(file=io.StringIO(), width=200)
    for line in messages.of_result(Screen(color=False), result, command, START):
        console.print(line)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _failed(error: RotatorError) -> RotatorError:
    error.secret, error.step = "app", "create"
    error.safety = "The application is safe."
    return error


_PUBLISHED: dict[str, Any] = {
    "published": True,
    "login": "app_2",
    "old_login": "app_1",
    "version": "7",
}


def test_a_proof_is_told_as_a_proof():
    """That the old login was tried and refused is said only where it was."""
    done: dict[str, Any] = {**_PUBLISHED, "outcome": Outcome.DONE}
    assert "Login app_1 is proven dead" in _said(**done, old_refused=True)
    assert "a login with it was not tried" in _said(**done, old_refused=None)


def test_one_login_with_two_passwords_is_told_by_its_passwords():
    """Where the login stays, it is its old password that goes."""
    same: dict[str, Any] = {
        **_PUBLISHED,
        "old_login": "app_2",
        "outcome": Outcome.DONE,
        "old_refused": True,
    }
    assert "The old password of app_2 is proven dead" in _said(**same)


def test_grace_and_open_sessions_are_told_apart():
    """During the grace period the old login is valid until then; afterwards its sessions hold it."""
    waiting: dict[str, Any] = {**_PUBLISHED, "until": START + timedelta(hours=2)}
    grace = _said(**waiting, step=Step.PUBLISH, waiting="the old credential is in its grace period")
    assert "Login app_1 stays valid until 2026-01-01 02:00 UTC (in 2 h)" in grace
    held = _said("revoke", **waiting, step=Step.REVOKE, waiting="it still has open sessions")
    assert "is not revoked yet" in held
    assert "--terminate" in held


def test_a_rollback_is_told_from_its_own_side():
    """What stays is the older login, what goes is the newer."""
    told_ = _said(
        "rollback", **_PUBLISHED, rolling_back=True, outcome=Outcome.ROLLED_BACK, old_refused=True
    )
    assert "Login app_1 is the current one again" in told_
    assert "Login app_2 is proven dead" in told_


def test_a_failure_says_what_and_is_it_safe_and_what_next():
    """Each of the three has its line."""
    error = _failed(Refused("the password is too short.", hint="Look at the password policy."))
    said = _said(outcome=Outcome.UNDONE, error=error)
    assert "everything it had begun is undone" in said
    assert "step create: the password is too short." in said
    assert "The application is safe." in said
    assert "Next: Look at the password policy." in said


@pytest.mark.parametrize(
    ("outcome", "verb"), [(Outcome.UNDONE, "rotate"), (Outcome.PARKED, "resume")]
)
def test_what_is_parked_says_how_to_go_on(outcome: Outcome, verb: str):
    """An undone rotation is begun anew, an open one is resumed."""
    said = _said(outcome=outcome, parked=True, error=_failed(Denied("no right", hint="Grant it.")))
    assert f"Grant it. Then: rotator unpark app --reason mended && rotator {verb} app" in said


def test_an_open_failure_is_resumed():
    """A step that failed and waits for its next try says so."""
    waiting: dict[str, Any] = {
        "until": START,
        "waiting": "waiting to try again",
        "step": Step.CREATE,
    }
    said = _said(**waiting, error=_failed(Transient("no answer")))
    assert "tried again later" in said
    assert "Next: rotator resume app" in said


def test_durations_are_told_in_their_two_largest_units():
    """Near enough for a person, and never negative."""
    assert span(timedelta(days=3, hours=4, minutes=5)) == "3 d 4 h"
    assert span(timedelta(days=3, minutes=5)) == "3 d"
    assert span(timedelta(seconds=61)) == "1 min 1 s"
    assert span(timedelta(seconds=-5)) == "0 s"
    assert relative(START + timedelta(hours=1), START) == "in 1 h"
    assert relative(START - timedelta(minutes=2), START) == "2 min ago"
    assert relative(None, START) == "-"
    assert plural(1, "secret") == "1 secret"
    assert plural(0, "secret") == "0 secrets"
