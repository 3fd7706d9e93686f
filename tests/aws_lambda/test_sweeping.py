"""When a sweep has something to do, when it has not, and who waits for whom."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.backends.aws.aws_driven import STATE_TAG
from rotator.core.errors import Transient, UsageError
from rotator.faces.aws_lambda.state_tag import Memory
from rotator.testing.secrets_manager import PENDING

if TYPE_CHECKING:
    from tests.aws_lambda.worlds import World

_NOTHING = {"ended": 0, "waiting": 0, "failed": []}


def _be_busy(world: World, seconds: float) -> None:
    """Leave the secret as a sweep does that is closing its old login just now."""
    tags = world.aws.secret(world.name).tags
    memory = Memory.parse(tags[STATE_TAG])
    assert memory is not None
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    tags[STATE_TAG] = replace(memory, busy_until=until).text()


def test_an_old_login_is_left_where_somebody_elses_value_is_current(world: World):
    """Nobody can tell whether what is current now is that very login."""
    world.secret(masterarn=world.master())
    old = world.served()
    assert world.rotate() == []
    world.aws.by_hand(world.name, json.dumps(world.served() | {"note": "changed by hand"}))
    assert world.sweep() == _NOTHING
    assert world.accepts(old)
    # AWS takes what was current before, and is still AWSPENDING, for a rotation that is not over.
    assert not any(PENDING in labels for labels in world.stages().values())
    assert world.rotate() == []
    (said,) = [facts for _, event, facts in world.log.lines if event == "not swept"]
    assert "somebody else's value is current" in str(said["why"])


def test_two_sweeps_do_not_close_the_same_login_at_once(world: World):
    """The second one comes back."""
    world.secret(masterarn=world.master())
    old = world.served()
    assert world.rotate() == []
    _be_busy(world, 30)
    assert world.sweep() == _NOTHING | {"waiting": 1}
    assert world.accepts(old)
    _be_busy(world, -1)
    assert world.sweep() == _NOTHING | {"ended": 1}


def test_a_rotation_waits_for_a_sweep_that_closes_the_old_login(world: World):
    """So long as its own time allows; it then sees what the sweep has left."""
    world.secret(masterarn=world.master())
    assert world.rotate() == []
    _be_busy(world, 1.5)
    begun = datetime.now(UTC)
    assert world.rotate() == []
    assert datetime.now(UTC) - begun > timedelta(seconds=1)
    assert world.accepts(world.served())


def test_a_rotation_that_cannot_wait_so_long_says_until_when(world: World):
    """AWS tries it again by itself."""
    world.secret(masterarn=world.master())
    assert world.rotate() == []
    served = world.served()
    _be_busy(world, 300)
    (failed,) = world.rotate()
    assert isinstance(failed, Transient)
    assert "a sweep is closing the login that it had before" in str(failed)
    assert "UTC at the latest" in str(failed)
    assert world.served() == served
    _be_busy(world, -1)
    world.again()
    assert world.served() != served


def test_what_is_left_when_its_time_is_up_is_left_for_the_next_one(either: World):
    """And said: a function with little time would else seem to be done."""
    either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    either.seconds = 3.0
    assert "the next sweep goes on" in either.sweep()["left"]
    assert either.accepts(old)
    either.seconds = 60.0
    assert either.sweep()["ended"] == 1


def test_a_secret_that_is_gone_is_nothing_to_sweep(world: World):
    """Asked for by name, and where the journal still knows it."""
    arn = world.secret()
    assert world.sweep(SecretId=arn.replace("app-", "gone-")) == _NOTHING


def test_a_function_that_rotates_nothing_says_so(world: World):
    """It may look for another one's secrets: ROTATOR_FUNCTION_ARN."""
    assert world.sweep() == _NOTHING
    assert any(event == "nothing to sweep" for _, event, _ in world.log.lines)


def test_a_rotation_that_has_just_begun_is_aws_s_own(either: World):
    """What is staged by AWS has no value yet: nothing is gone on with, and nothing closed."""
    either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    either.aws.secret(either.name).function = lambda _event: None
    assert either.rotate() == []
    assert either.sweep() == _NOTHING
    assert either.accepts(old)


def test_a_version_that_lost_its_label_is_rotated_to_no_more(world: World):
    """Whoever took it away wanted that."""
    arn = world.secret(masterarn=world.master())
    world.aws.secret(world.name).function = lambda _event: None
    assert world.rotate() == []
    token = next(one for one, labels in world.stages().items() if PENDING in labels)
    world.call({"Step": "createSecret", "SecretId": arn, "ClientRequestToken": token})
    given = {"SecretId": arn, "VersionStage": "MINE", "MoveToVersionId": token}
    assert world.aws.answer("UpdateSecretVersionStage", given)[0] == 200
    given = {"SecretId": arn, "VersionStage": PENDING, "RemoveFromVersionId": token}
    assert world.aws.answer("UpdateSecretVersionStage", given)[0] == 200
    old = world.served()
    for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
        with pytest.raises(UsageError, match="AWSPENDING"):
            world.call({"Step": step, "SecretId": arn, "ClientRequestToken": token})
    assert world.served() == old
    assert world.accepts(old)


def test_a_proof_that_must_wait_does_not_fail_what_is_published(world: World):
    """AWS asked for a new current value, and has it; the sweep comes back to the rest."""
    world.secret(masterarn=world.master())
    world.environ["ROTATOR_STRATEGY"] = "single-user"
    calls = {"n": 0}

    def step(event: dict[str, str]) -> None:
        calls["n"] += 1
        world.call(event)
        if calls["n"] == 2:
            # Published already: without overlap that is done at once. No tag can be written now.
            world.aws.denied["TagResource"] = "not allowed any more"

    world.aws.secret(world.name).function = step
    old = world.served()
    assert world.rotate() == []
    assert world.served() != old
    assert world.accepts(world.served())
    assert not world.accepts(old)
    del world.aws.denied["TagResource"]
    assert world.sweep()["failed"] == []
