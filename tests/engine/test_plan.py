"""`Engine.plan`: what a rotation would do, without doing it."""

from __future__ import annotations

from rotator.core.model import Planned, Step
from rotator.testing.fake_rotations import NewUser
from tests.engine.sandboxes import DAY, EngineSandbox


def _steps(sandbox: EngineSandbox) -> list[Step]:
    return [one.step for one in sandbox.engine.plan(sandbox.secret).steps]


def test_a_plan_changes_nothing(rotated: EngineSandbox):
    """On the target, in the backend and in the journal."""
    before = rotated.everything()
    rotated.engine.plan(rotated.secret)
    assert rotated.everything() == before


def test_the_plan_of_a_first_rotation_ends_with_publish(sandbox: EngineSandbox):
    """There is no old credential."""
    assert _steps(sandbox) == [Step.STAGE, Step.PUBLISH]
    assert sandbox.engine.plan(sandbox.secret).login is None


def test_the_plan_of_a_later_rotation_ends_with_a_rejected_login(rotated: EngineSandbox):
    """That is the proof that the journal keeps."""
    plan = rotated.engine.plan(rotated.secret)
    assert plan.login == rotated.served.username
    assert _steps(rotated) == [Step.STAGE, Step.PUBLISH, Step.DRAIN, Step.REVOKE]
    assert "require that it is refused" in plan.steps[-1].text


def test_a_plan_shows_what_the_plugin_explains_in_the_order_of_the_steps(rotated: EngineSandbox):
    """Between what the engine does itself."""

    class Explaining(NewUser):
        def explain(self, current, ctx):
            return [
                Planned(step=Step.REVOKE, text="DROP ROLE"),
                Planned(step=Step.CREATE, text="CREATE ROLE"),
            ]

    rotated.rotation = Explaining(rotated.target)
    assert _steps(rotated) == [
        Step.STAGE,
        Step.CREATE,
        Step.PUBLISH,
        Step.DRAIN,
        Step.REVOKE,
        Step.REVOKE,
    ]


def test_a_plan_names_the_open_rotation_and_the_due_date(in_grace: EngineSandbox):
    """Both are reasons not to rotate now."""
    plan = in_grace.engine.plan(in_grace.secret)
    assert plan.open_rotation == in_grace.opened.id
    assert plan.next_due == in_grace.clock.now() + 30 * DAY


def test_a_plan_without_overlap_has_nothing_to_drain():
    """The old password stops working when the new one is set."""
    sandbox = EngineSandbox("single-user")
    sandbox.rotate_wholly()
    drain = next(one for one in sandbox.engine.plan(sandbox.secret).steps if one.step is Step.DRAIN)
    assert drain.text.startswith("nothing")
