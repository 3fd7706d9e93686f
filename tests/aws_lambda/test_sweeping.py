"""When a sweep has something to do, when it has not, and who waits for whom."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.backends.aws.aws_driven import STATE_TAG
from rotator.core.errors import Transient, UsageError
from rotator.faces.aws_lambda.state_tag import StateTag
from tests.servers.secrets_manager import PENDING

if TYPE_CHECKING:
    from tests.aws_lambda.sandboxes import Sandbox

_NOTHING = {"ended": 0, "waiting": 0, "failed": []}


def _be_busy(sandbox: Sandbox, seconds: float) -> None:
    """Leave the secret as a sweep does that is closing its old login just now."""
    tags = sandbox.aws.secret(sandbox.name).tags
    memory = StateTag.parse(tags[STATE_TAG])
    assert memory is not None
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    tags[STATE_TAG] = replace(memory, busy_until=until).text()


def test_an_old_login_is_left_where_somebody_elses_value_is_current(sandbox: Sandbox):
    """Nobody can tell whether what is current now is that very login."""
    sandbox.secret(masterarn=sandbox.master())
    old = sandbox.served()
    assert sandbox.rotate() == []
    sandbox.aws.by_hand(sandbox.name, json.dumps(sandbox.served() | {"note": "changed by hand"}))
    assert sandbox.sweep() == _NOTHING
    assert sandbox.accepts(old)
    # AWS takes what was current before, and is still AWSPENDING, for a rotation that is not over.
    assert not any(PENDING in labels for labels in sandbox.stages().values())
    assert sandbox.rotate() == []
    (said,) = [facts for _, event, facts in sandbox.log.lines if event == "not swept"]
    assert "somebody else's value is current" in str(said["why"])


def test_two_sweeps_do_not_close_the_same_login_at_once(sandbox: Sandbox):
    """The second one comes back."""
    sandbox.secret(masterarn=sandbox.master())
    old = sandbox.served()
    assert sandbox.rotate() == []
    _be_busy(sandbox, 30)
    assert sandbox.sweep() == _NOTHING | {"waiting": 1}
    assert sandbox.accepts(old)
    _be_busy(sandbox, -1)
    assert sandbox.sweep() == _NOTHING | {"ended": 1}


def test_a_rotation_waits_for_a_sweep_that_closes_the_old_login(sandbox: Sandbox):
    """So long as its own time allows; it then sees what the sweep has left."""
    sandbox.secret(masterarn=sandbox.master())
    assert sandbox.rotate() == []
    _be_busy(sandbox, 1.5)
    begun = datetime.now(UTC)
    assert sandbox.rotate() == []
    assert datetime.now(UTC) - begun > timedelta(seconds=1)
    assert sandbox.accepts(sandbox.served())


def test_a_rotation_that_cannot_wait_so_long_says_until_when(sandbox: Sandbox):
    """AWS tries it again by itself."""
    sandbox.secret(masterarn=sandbox.master())
    assert sandbox.rotate() == []
    served = sandbox.served()
    _be_busy(sandbox, 300)
    (failed,) = sandbox.rotate()
    assert isinstance(failed, Transient)
    assert "a sweep is closing the login that it had before" in str(failed)
    assert "UTC at the latest" in str(failed)
    assert sandbox.served() == served
    _be_busy(sandbox, -1)
    sandbox.again()
    assert sandbox.served() != served


def test_what_is_left_when_its_time_is_up_is_left_for_the_next_one(either: Sandbox):
    """And said: a function with little time would else seem to be done."""
    either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    either.seconds = 3.0
    assert "the next sweep continues" in either.sweep()["left"]
    assert either.accepts(old)
    either.seconds = 60.0
    assert either.sweep()["ended"] == 1


def test_a_secret_that_is_gone_is_nothing_to_sweep(sandbox: Sandbox):
    """Asked for by name, and where the journal still knows it."""
    arn = sandbox.secret()
    assert sandbox.sweep(SecretId=arn.replace("app-", "gone-")) == _NOTHING


def test_a_function_that_rotates_nothing_says_so(sandbox: Sandbox):
    """It may look for another one's secrets: ROTATOR_FUNCTION_ARN."""
    assert sandbox.sweep() == _NOTHING
    assert any(event == "nothing to sweep" for _, event, _ in sandbox.log.lines)


def test_a_rotation_that_has_just_begun_is_aws_s_own(either: Sandbox):
    """What is staged by AWS has no value yet: nothing is gone on with, and nothing closed."""
    either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    either.aws.secret(either.name).function = lambda _event: None
    assert either.rotate() == []
    assert either.sweep() == _NOTHING
    assert either.accepts(old)


def test_a_version_that_lost_its_label_is_rotated_to_no_more(sandbox: Sandbox):
    """Whoever took it away wanted that."""
    arn = sandbox.secret(masterarn=sandbox.master())
    sandbox.aws.secret(sandbox.name).function = lambda _event: None
    assert sandbox.rotate() == []
    token = next(one for one, labels in sandbox.stages().items() if PENDING in labels)
    sandbox.call({"Step": "createSecret", "SecretId": arn, "ClientRequestToken": token})
    given = {"SecretId": arn, "VersionStage": "MINE", "MoveToVersionId": token}
    assert sandbox.aws.answer("UpdateSecretVersionStage", given)[0] == 200
    given = {"SecretId": arn, "VersionStage": PENDING, "RemoveFromVersionId": token}
    assert sandbox.aws.answer("UpdateSecretVersionStage", given)[0] == 200
    old = sandbox.served()
    for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
        with pytest.raises(UsageError, match="AWSPENDING"):
            sandbox.call({"Step": step, "SecretId": arn, "ClientRequestToken": token})
    assert sandbox.served() == old
    assert sandbox.accepts(old)


def test_a_proof_that_must_wait_does_not_fail_what_is_published(sandbox: Sandbox):
    """AWS asked for a new current value, and has it; the sweep comes back to the rest."""
    sandbox.secret(masterarn=sandbox.master())
    sandbox.environ["ROTATOR_STRATEGY"] = "single-user"
    calls = {"n": 0}

    def step(event: dict[str, str]) -> None:
        calls["n"] += 1
        sandbox.call(event)
        if calls["n"] == 2:
            # Published already: without overlap that is done at once. No tag can be written now.
            sandbox.aws.denied["TagResource"] = "not allowed any more"

    sandbox.aws.secret(sandbox.name).function = step
    old = sandbox.served()
    assert sandbox.rotate() == []
    assert sandbox.served() != old
    assert sandbox.accepts(sandbox.served())
    assert not sandbox.accepts(old)
    del sandbox.aws.denied["TagResource"]
    assert sandbox.sweep()["failed"] == []
