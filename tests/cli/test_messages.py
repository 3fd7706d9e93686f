"""Messages about outcomes: what happened, whether the application is safe, the next command."""

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
from rotator.faces.cli.render.console import Screen
from rotator.faces.cli.render.json_output import Fault
from rotator.faces.wording import plural, relative, span
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rotator.core.errors import RotatorError


def _said(command: str = "rotate", **given: Any) -> str:
    result = Result(secret="app", rotation_id="r1", **given)
    return _text(messages.of_result(Screen(color=False), result, command, START))


def _text(lines: list[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for line in lines:
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


def test_a_rejection_is_reported_only_if_it_was_tested():
    """Otherwise the message states that it was not tested."""
    done: dict[str, Any] = {**_PUBLISHED, "outcome": Outcome.DONE}
    assert "Login app_1 is revoked: a login attempt with it was rejected" in _said(
        **done, old_refused=True
    )
    assert "but not tested" in _said(**done, old_refused=None)


def test_a_dual_password_login_is_reported_by_its_passwords():
    """The login stays and its old password is revoked."""
    same: dict[str, Any] = {
        **_PUBLISHED,
        "old_login": "app_2",
        "outcome": Outcome.DONE,
        "old_refused": True,
    }
    assert "The old password of app_2 is revoked: a login attempt with it was rejected" in _said(
        **same
    )


def test_grace_and_open_sessions_have_different_messages():
    """During the grace period the message has its end; afterwards it names the sessions."""
    waiting: dict[str, Any] = {**_PUBLISHED, "until": START + timedelta(hours=2)}
    grace = _said(**waiting, step=Step.PUBLISH, waiting="the old credential is in its grace period")
    assert "Login app_1 stays valid until 2026-01-01 02:00 UTC (in 2 h)" in grace
    held = _said("revoke", **waiting, step=Step.REVOKE, waiting="it still has open sessions")
    assert "is not revoked yet" in held
    assert "--terminate" in held


def test_a_rollback_is_reported_with_the_older_login_as_current():
    """The newer login is revoked."""
    told_ = _said(
        "rollback", **_PUBLISHED, rolling_back=True, outcome=Outcome.ROLLED_BACK, old_refused=True
    )
    assert "Login app_1 is the current one again" in told_
    assert "Login app_2 is revoked: a login attempt with it was rejected" in told_


def test_a_failure_reports_cause_safety_and_next_command():
    """One line each."""
    error = _failed(Refused("the password is too short.", hint="Look at the password policy."))
    said = _said(outcome=Outcome.UNDONE, error=error)
    assert "all changes are undone" in said
    assert "step create: the password is too short." in said
    assert "The application is safe." in said
    assert "Next: Look at the password policy." in said


@pytest.mark.parametrize(
    ("outcome", "verb"), [(Outcome.UNDONE, "rotate"), (Outcome.PARKED, "resume")]
)
def test_a_parked_secret_names_the_next_command(outcome: Outcome, verb: str):
    """`rotate` after an undone rotation, `resume` for an open one."""
    said = _said(outcome=outcome, parked=True, error=_failed(Denied("no right", hint="Grant it.")))
    assert f"Grant it. Then: rotator unpark app --reason mended && rotator {verb} app" in said


def test_an_open_failure_suggests_resume():
    """The message states that the step will be retried."""
    waiting: dict[str, Any] = {
        "until": START,
        "waiting": "waiting to try again",
        "step": Step.CREATE,
    }
    said = _said(**waiting, error=_failed(Transient("no answer")))
    assert "will be retried" in said
    assert "Next: rotator resume app" in said


def test_durations_are_shown_in_their_two_largest_units():
    """They are never negative."""
    assert span(timedelta(days=3, hours=4, minutes=5)) == "3 d 4 h"
    assert span(timedelta(days=3, minutes=5)) == "3 d"
    assert span(timedelta(seconds=61)) == "1 min 1 s"
    assert span(timedelta(seconds=-5)) == "0 s"
    assert relative(START + timedelta(hours=1), START) == "in 1 h"
    assert relative(START - timedelta(minutes=2), START) == "2 min ago"
    assert relative(None, START) == "-"
    assert plural(1, "secret") == "1 secret"
    assert plural(0, "secret") == "0 secrets"


def test_the_same_mistake_in_many_entries_is_shown_three_times():
    """What differs stays visible, and so does the number of all."""
    mistakes = [
        Fault(
            kind="config",
            what="missing key.",
            hint="Which backend.",
            file="f.yaml",
            line=at,
            key=key,
        )
        for at, key in enumerate((f"secrets.app.{one}.backend" for one in range(10)), start=5)
    ]
    other = Fault(
        kind="config", what="unknown key.", file="f.yaml", line=40, key="secrets.app.1.hots"
    )
    found = _text(messages.of_faults(Screen(color=False), [*mistakes, other], 250))
    assert found.splitlines() == [
        "✗ the configuration is invalid: 250 problems.",
        "  f.yaml:5  secrets.app.0.backend: missing key.",
        "  f.yaml:6  secrets.app.1.backend: missing key.",
        "  f.yaml:7  secrets.app.2.backend: missing key.",
        "  and 7 more like it, up to f.yaml:14",
        "    Which backend.",
        "  f.yaml:40  secrets.app.1.hots: unknown key.",
        "  239 further problems not shown.",
        "  Nothing was changed.",
    ]
