"""A rotation function that is frozen, kept waiting, or led to another server."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import Transient

if TYPE_CHECKING:
    from tests.aws_lambda.sandboxes import Sandbox


def test_a_journal_whose_session_ended_while_the_function_was_frozen_is_reached_again(
    sandbox: Sandbox,
):
    """Between any two steps: the next one does not fail, and there is never more than one session."""
    sandbox.keep_journal_in(sandbox.server)
    sandbox.secret(masterarn=sandbox.master())
    sessions = "SELECT pid FROM pg_stat_activity WHERE datname = 'journal'"
    with closing(sandbox.function()) as warm, sandbox.server.connect() as admin:

        def step(event: dict[str, Any]) -> None:
            warm.handle(event, sandbox.context())
            found = admin.execute(sessions.encode()).fetchall()
            assert len(found) == 1
            admin.execute(b"SELECT pg_terminate_backend(%s, 5000)", found[0])

        sandbox.aws.secret(sandbox.name).function = step
        for expected in ("app_clone", "app"):
            assert sandbox.rotate() == []
            assert sandbox.served()["username"] == expected
            warm.sweep({}, sandbox.context())


def test_a_function_without_the_key_of_the_writers_does_nothing(sandbox: Sandbox):
    """The events of its journal are authenticated; what it wrote would be found as forged."""
    sandbox.keep_journal_in(sandbox.server)
    del sandbox.environ["ROTATOR_JOURNAL_SIGNING_KEY"]
    sandbox.secret(masterarn=sandbox.master())
    before = sandbox.served()
    refused = sandbox.rotate()
    assert "has no key" in str(refused[0])
    assert "ROTATOR_JOURNAL_SIGNING_KEY" in str(refused[0])
    assert sandbox.served() == before


def test_a_secrets_manager_that_is_silent_is_told_in_time(sandbox: Sandbox):
    """Within the function's own time, with where it was looked for and what to look at."""
    arn = sandbox.secret()
    event = {"Step": "createSecret", "SecretId": arn, "ClientRequestToken": "t" * 32}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sandbox.environ["SECRETS_MANAGER_ENDPOINT"] = url
        sandbox.seconds = 10.0
        begun = time.monotonic()
        with pytest.raises(Transient, match=url) as caught:
            sandbox.call(event)
        assert time.monotonic() - begun < 9
    assert "VPC endpoint for Secrets Manager" in str(caught.value)


def test_what_should_be_changed_in_the_environment_is_said_in_the_log(sandbox: Sandbox):
    """Once for each cold start."""
    sandbox.environ["PASSWORD_LENGTH"] = "16"
    sandbox.function().close()
    (line,) = [one for one in sandbox.log.lines if "settings" in str(one)]
    assert "PASSWORD_LENGTH" in str(line)
