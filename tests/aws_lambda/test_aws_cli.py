"""AWS's own command line as the one who rotates and reads: it gets what its documentation says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.aws_lambda.sandboxes import ACCESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws_lambda.sandboxes import Sandbox

# In an environment of its own: it wants another botocore than ours.
_OWN = Path(__file__).parents[2] / ".venv" / ".aws" / "bin" / "aws"
_PROGRAM = str(_OWN) if _OWN.exists() else shutil.which("aws")
_TOKEN = "11111111-2222-4333-8444-555555555555"

pytestmark = pytest.mark.skipif(_PROGRAM is None, reason="no `aws`: make aws-cli")


@pytest.fixture
def aws(sandbox: Sandbox) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `aws secretsmanager ...` on the service."""
    environ = ACCESS | {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_PAGER": "",
    }

    def run(operation: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(_PROGRAM), "--endpoint-url", sandbox.aws.endpoint, "--output", "json"]
        command += ["secretsmanager", operation, "--secret-id", sandbox.name, *options]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    return run


def _said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_rotation_that_is_asked_for_is_done_and_can_be_read(
    sandbox: Sandbox, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """By `rotate-secret`, `describe-secret` and `get-secret-value`, with and without a stage."""
    arn = sandbox.secret(masterarn=sandbox.master())
    before, old = sandbox.current_id(), sandbox.served()
    asked = _said(aws("rotate-secret", "--client-request-token", _TOKEN))
    assert asked == {"ARN": arn, "Name": sandbox.name, "VersionId": _TOKEN}
    sandbox.aws.wait()
    assert sandbox.aws.failures == []

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
    assert sandbox.accepts(login)
    previous = _said(aws("get-secret-value", "--version-stage", "AWSPREVIOUS"))
    assert previous["VersionId"] == before
    assert json.loads(previous["SecretString"]) == old
    assert _said(aws("get-secret-value", "--version-id", _TOKEN)) == current


def test_a_rotation_that_failed_is_taken_up_again_and_refuses_another_one(
    sandbox: Sandbox, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """In the service's own words; what is current stays."""
    sandbox.secret()
    with sandbox.server.connect() as admin:
        admin.execute(b"ALTER ROLE app NOLOGIN")
    _said(aws("rotate-secret", "--client-request-token", _TOKEN))
    sandbox.aws.wait()
    assert len(sandbox.aws.failures) == 1
    empty = aws("get-secret-value", "--version-stage", "AWSPENDING")
    assert empty.returncode != 0
    assert "ResourceNotFoundException" in empty.stderr
    with sandbox.server.connect() as admin:
        admin.execute(b"ALTER ROLE app LOGIN")
    other = aws("rotate-secret", "--client-request-token", _TOKEN[::-1])
    assert other.returncode != 0
    assert "(InvalidRequestException) when calling the RotateSecret operation" in other.stderr
    assert "A previous rotation isn't complete" in other.stderr
    sandbox.aws.wait()
    assert _said(aws("get-secret-value"))["VersionId"] == _TOKEN
    assert sandbox.accepts(sandbox.served())


def test_rotation_is_tried_out_and_turned_off(
    sandbox: Sandbox, aws: Callable[..., subprocess.CompletedProcess[str]]
):
    """`--no-rotate-immediately` changes nothing; after `cancel-rotate-secret` nothing is rotated."""
    sandbox.secret()
    before, labels = sandbox.served(), sandbox.stages()
    _said(aws("rotate-secret", "--no-rotate-immediately"))
    sandbox.aws.wait()
    assert sandbox.aws.failures == []
    assert (sandbox.served(), sandbox.stages()) == (before, labels)
    _said(aws("cancel-rotate-secret"))
    assert _said(aws("describe-secret"))["RotationEnabled"] is False
