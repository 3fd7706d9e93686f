"""What is written of the application's safety: only what was just seen."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import Event, Kind, Policy, Step
from rotator.engine.safety import after_failure, after_undo
from rotator.testing.fakes import START
from tests.rotation_events import step_event

if TYPE_CHECKING:
    from rotator.core.model import Json

_POLICY = Policy(
    attempts=4, cycles=3, backoff=timedelta(seconds=1), backoff_cap=timedelta(minutes=5)
)
_FORWARD = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.DRAIN, Step.REVOKE)


def _history(
    *, overlaps: bool, failed: Step, kinds: tuple[str, ...], has_old: bool = True
) -> list[Event]:
    """Return a rotation that has done all before `failed`, which then failed as told."""
    old: dict[str, Json] = {"old_version": "1", "old_login": "app"} if has_old else {}
    events = [step_event(Kind.REQUESTED, overlaps=overlaps, **old)]
    steps = _FORWARD[: _FORWARD.index(failed)]
    for step in steps:
        events += [step_event(Kind.STARTED, step), step_event(Kind.FINISHED, step, login="app")]
    for kind in kinds:
        facts = {"kind": kind, "what": "why", "origin": "target main"}
        events += [step_event(Kind.STARTED, failed), step_event(Kind.FAILED, failed, **facts)]
    return events


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("step", list(_FORWARD))
def test_a_failure_is_called_safe_only_after_a_login_just_before(step: Step, *, overlaps: bool):
    """Elsewhere the text names what was and was not changed."""
    history = _history(overlaps=overlaps, failed=step, kinds=("transient",))
    at_once = after_failure(history, step, START)
    later = after_failure(history, step, START + timedelta(hours=1))
    published = step in (Step.DRAIN, Step.REVOKE)
    assert ("is safe" in at_once) is published
    assert "is safe" not in later
    assert "NOT safe" not in at_once + later
    assert later


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize(
    ("accepted", "phrase"), [(True, "is safe"), (False, "NOT safe"), (None, "")]
)
def test_an_undone_rotation_is_called_safe_only_if_the_served_credential_logged_in(
    phrase: str, *, accepted: bool | None, made: bool, overlaps: bool
):
    """And a new login was withdrawn only where one was made."""
    failed = Step.VERIFY if made else Step.CREATE
    history = _history(overlaps=overlaps, failed=failed, kinds=("refused",))
    history.append(step_event(Kind.STARTED, Step.WITHDRAW))
    history.append(step_event(Kind.FINISHED, Step.WITHDRAW, current_accepted=accepted))
    text = after_undo(history)
    assert phrase in text
    assert text
    if accepted is None:
        assert "safe" not in text
    assert ("was withdrawn" in text) is (made and accepted is True)


def test_the_safety_that_a_plugin_stated_is_kept():
    """A login that is blocked for everybody: nobody tries it again, and the text stays."""
    history = _history(overlaps=True, failed=Step.CREATE, kinds=("denied",))
    seen = {"kind": "denied", "stated": True, "safety": "The application is NOT safe: blocked."}
    history[-1] = step_event(Kind.FAILED, Step.CREATE, **seen)
    assert after_undo(history) == "The application is NOT safe: blocked."
