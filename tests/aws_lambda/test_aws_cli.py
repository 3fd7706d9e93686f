"""AWS's own command line as the one who rotates and reads: it gets what its documentation says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.aws_lambda.worlds import ACCESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws_lambda.worlds import World

# In an environment of its own: it wants another botocore than ours.
_OWN = Path(__file__).parents[2] / ".venv" / ".aws" / "bin" / "aws"
_PROGRAM = str(_OWN) if _OWN.exists() else shutil.which("aws")
_TOKEN = "11111111-2222-4333-8444-555555555555"

pytestmark = pytest.mark.skipif(_PROGRAM is None, reason="no `aws`: make aws-cli")


@pytest.fixture
def aws(world: World) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `aws secretsmanager ...` on the service."""
    environ = ACCESS | {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_PAGER": "",
    }

    def run(operation: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(_PROGRAM), "--endpoint-url", world.aws.endpoint, "--output", "json"]
        command += ["secretsmanager", operation, "--secret-id", world.name, *options]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    return run


def _said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_rotation_that_is_asked_for_is_done_and_can_be_read(
    world: World, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """By `rotate-secret`, `describe-secret` and `get-secret-value`, with and without a stage."""
    arn = world.secret(masterarn=world.master())
    before, old = world.current_id(), world.served()
    asked = _said(aws("rotate-secret", "--client-request-token", _TOKEN))
    assert asked == {"ARN": arn, "Name": world.name, "VersionId": _TOKEN}
    world.aws.wait()
    assert world.aws.failures == []

    about = _said(aws("describe-secret"))
    assert about["RotationEnabled"] is True
    assert "LastRotatedDate" in about
    stages = about["VersionIdsToStages"]
    assert "AWSCURRENT" in stages[_TOKEN]
    assert "AWSPREVIOUS" in stages[before]

    current = _said(aws("get-secret-value"))
    assert current["VersionId"] == _TOKEN
    login = json.loads(current["SecretString"])
    assert login["username"] == "app_clone"
    assert world.accepts(login)
    previous = _said(aws("get-secret-value", "--version-stage", "AWSPREVIOUS"))
    assert previous["VersionId"] == before
    assert json.loads(previous["SecretString"]) == old
    assert _said(aws("get-secret-value", "--version-id", _TOKEN)) == current


def test_a_rotation_that_failed_is_taken_up_again_and_refuses_another_one(
    world: World, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """In the service's own words; what is current stays."""
    world.secret()
    with world.server.connect() as admin:
        admin.execute(b"ALTER ROLE app NOLOGIN")
    _said(aws("rotate-secret", "--client-request-token", _TOKEN))
    world.aws.wait()
    assert len(world.aws.failures) == 1
    empty = aws("get-secret-value", "--version-stage", "AWSPENDING")
    assert empty.returncode != 0
    assert "ResourceNotFoundException" in empty.stderr
    with world.server.connect() as admin:
        admin.execute(b"ALTER ROLE app LOGIN")
    other = aws("rotate-secret", "--client-request-token", _TOKEN[::-1])
    assert other.returncode != 0
    assert "(InvalidRequestException) when calling the RotateSecret operation" in other.stderr
    assert "A previous rotation isn't complete" in other.stderr
    world.aws.wait()
    assert _said(aws("get-secret-value"))["VersionId"] == _TOKEN
    assert world.accepts(world.served())


def test_rotation_is_tried_out_and_turned_off(
    world: World, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """`--no-rotate-immediately` changes nothing; after `cancel-rotate-secret` nothing is rotated."""
    world.secret()
    before, labels = world.served(), world.stages()
    _said(aws("rotate-secret", "--no-rotate-immediately"))
    world.aws.wait()
    assert world.aws.failures == []
    assert (world.served(), world.stages()) == (before, labels)
    _said(aws("cancel-rotate-secret"))
    assert _said(aws("describe-secret"))["RotationEnabled"] is False
