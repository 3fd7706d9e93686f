"""A rotation function that is frozen, kept waiting, or led to another server."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import Transient

if TYPE_CHECKING:
    from tests.aws_lambda.worlds import World


def test_a_journal_whose_session_ended_while_the_function_was_frozen_is_reached_again(
    world: World,
):
    """Between any two steps: the next one does not fail, and there is never more than one session."""
    world.keep_journal_in(world.server)
    world.secret(masterarn=world.master())
    sessions = "SELECT pid FROM pg_stat_activity WHERE datname = 'journal'"
    with closing(world.function()) as warm, world.server.connect() as admin:

        def step(event: dict[str, Any]) -> None:
            warm.handle(event, world.context())
            found = admin.execute(sessions.encode()).fetchall()
            assert len(found) == 1
            admin.execute(b"SELECT pg_terminate_backend(%s, 5000)", found[0])

        world.aws.secret(world.name).function = step
        for expected in ("app_clone", "app"):
            assert world.rotate() == []
            assert world.served()["username"] == expected
            warm.sweep({}, world.context())


def test_a_function_without_the_key_of_the_writers_does_nothing(world: World):
    """The events of its journal are authenticated; what it wrote would be found as forged."""
    world.keep_journal_in(world.server)
    del world.environ["ROTATOR_JOURNAL_SIGNING_KEY"]
    world.secret(masterarn=world.master())
    before = world.served()
    refused = world.rotate()
    assert "has no key" in str(refused[0])
    assert "ROTATOR_JOURNAL_SIGNING_KEY" in str(refused[0])
    assert world.served() == before


def test_a_secrets_manager_that_is_silent_is_told_in_time(world: World):
    """Within the function's own time, with where it was looked for and what to look at."""
    arn = world.secret()
    event = {"Step": "createSecret", "SecretId": arn, "ClientRequestToken": "t" * 32}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        world.environ["SECRETS_MANAGER_ENDPOINT"] = url
        world.seconds = 10.0
        begun = time.monotonic()
        with pytest.raises(Transient, match=url) as caught:
            world.call(event)
        assert time.monotonic() - begun < 9
    assert "VPC endpoint for Secrets Manager" in str(caught.value)


def test_what_should_be_changed_in_the_environment_is_said_in_the_log(world: World):
    """Once for each cold start."""
    world.environ["PASSWORD_LENGTH"] = "16"
    world.function().close()
    (line,) = [one for one in world.log.lines if "settings" in str(one)]
    assert "PASSWORD_LENGTH" in str(line)
