"""Keys that the target draws: staged at once, and no key stays whose value was lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import Denied, Transient, Unknown
from rotator.core.model import Kind, Outcome, Step
from rotator.testing.fake_rotations import NEW_KEY, fake_rotation
from tests.engine.sandboxes import DAY, PATH, EngineSandbox, Killed

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def drawing() -> EngineSandbox:
    """A secret whose keys the target draws, rotated once."""
    sandbox = EngineSandbox(NEW_KEY)
    sandbox.engine.rotate(sandbox.secret)
    return sandbox


def _after_draw(sandbox: EngineSandbox, act: Callable[[], None]) -> None:
    """Let something happen between the target's answer and the next thing that the engine does."""
    rotation: Any = sandbox.rotation
    draw = rotation.draw

    def drawn(*args: Any) -> Any:
        rotation.draw = draw
        _ = draw(*args)
        act()
        pytest.fail("it goes on")

    rotation.draw = drawn


def _raise(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def _told(sandbox: EngineSandbox, kind: Kind) -> list[Step | None]:
    return [one.step for one in sandbox.journal.events("app") if one.kind is kind]


def test_create_stages_what_the_target_drew(drawing: EngineSandbox):
    """There is no step `stage`, and the journal names the key."""
    assert _told(drawing, Kind.FINISHED) == [Step.CREATE, Step.VERIFY, Step.PUBLISH]
    created = next(one for one in drawing.journal.events("app") if one.step is Step.CREATE)
    assert created.kind is Kind.STARTED
    assert drawing.accepts(drawing.served)
    assert drawing.journal.rotations("app")[0].new_login == drawing.served.username


def test_a_rotation_ends_with_one_key_and_keeps_the_other_fields(drawing: EngineSandbox):
    """The old one is proven to be rejected."""
    old = drawing.served
    result = drawing.engine.rotate(drawing.secret, patience=2 * DAY)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert drawing.target.usable() == {drawing.served.username}
    assert drawing.served.fields == old.fields
    assert drawing.target.violations == drawing.journal.violations == []


def test_a_key_whose_answer_was_lost_is_ended_before_another_is_drawn(drawing: EngineSandbox):
    """The target accepts two keys, so a third could not be drawn beside the orphan."""
    _after_draw(drawing, _raise(Killed()))
    with pytest.raises(Killed):
        drawing.engine.rotate(drawing.secret)
    assert drawing.target.usable() == {"key1", "key2"}
    drawing.engine = drawing.process()
    result = drawing.engine.resume(drawing.secret)
    assert result is not None
    assert result.published
    assert drawing.target.usable() == {"key1", "key3"}
    created = [one for one in drawing.journal.events("app") if one.step is Step.CREATE][-1]
    assert created.data["orphans"] == ["key2"]


@pytest.mark.parametrize("error", [Unknown("the answer is lost."), Denied("it is full.")])
def test_turning_back_ends_the_key_that_nobody_knows(drawing: EngineSandbox, error: Exception):
    """Withdraw looks for it by its mark."""
    _after_draw(drawing, _raise(error))
    _ = drawing.engine.rotate(drawing.secret)
    if drawing.journal.open_rotation("app") is not None:
        drawing.engine.rollback(drawing.secret)
    assert drawing.target.usable() == {"key1"}
    assert drawing.journal.rotations("app")[0].outcome is Outcome.UNDONE
    assert drawing.backend.pending(PATH) == {}


def test_a_key_that_the_backend_does_not_take_is_ended(drawing: EngineSandbox):
    """It was drawn and is known for a moment, and nobody can use it."""
    stage = drawing.backend.stage

    def full(*_args: Any) -> Any:
        raise Transient("the backend is away.")

    drawing.backend.stage = full
    result = drawing.engine.rotate(drawing.secret)
    assert result.error is not None
    assert drawing.target.usable() == {"key1", "key2"}
    drawing.backend.stage = stage
    _ = drawing.engine.resume(drawing.secret, patience=DAY)
    assert drawing.target.usable() == {drawing.served.username}
    assert drawing.served.username == "key3"


def test_a_key_that_an_earlier_rotation_named_is_no_orphan(drawing: EngineSandbox):
    """It may be left over because an operator let go of its rotation."""
    drawing.engine.rotate(drawing.secret, patience=2 * DAY)
    drawing.target.accounts["key1"] = drawing.target.accounts["key2"]
    result = drawing.engine.rotate(drawing.secret)
    assert isinstance(result.error, Denied)
    assert drawing.target.usable() == {"key1", "key2"}


def test_a_rotation_that_was_begun_so_does_not_go_on_under_another_strategy(
    drawing: EngineSandbox,
):
    """Somebody has changed the configuration meanwhile."""
    _after_draw(drawing, _raise(Killed()))
    with pytest.raises(Killed):
        drawing.engine.rotate(drawing.secret)
    drawing.rotation = fake_rotation("new-user", drawing.target)
    drawing.engine = drawing.process()
    result = drawing.engine.resume(drawing.secret)
    assert result is not None
    assert isinstance(result.error, Denied)
    assert "strategy" in result.error.hint


def test_a_plan_tells_that_the_target_draws_the_key(drawing: EngineSandbox):
    """Nothing is staged before."""
    plan = drawing.engine.plan(drawing.secret)
    assert [one.step for one in plan.steps][:2] == [Step.CREATE, Step.CREATE]
    assert "the target drew" in plan.steps[1].text
