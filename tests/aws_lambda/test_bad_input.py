"""What a rotation function is given that makes no sense: said clearly, and nothing is changed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import RotatorError, UsageError
from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.sandboxes import ACCESS, ROLES, Context, Sandbox
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Mapping

DEBIAN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def _pending(sandbox: Sandbox) -> str:
    return next(one for one, labels in sandbox.stages().items() if "AWSPENDING" in labels)


_TOKEN = "11111111-2222-4333-8444-555555555555"


def _event(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    kept = sandbox.aws.secret(sandbox.name)
    event = {"Step": "createSecret", "SecretId": kept.arn, "ClientRequestToken": _TOKEN, **more}
    return {key: one for key, one in event.items() if one is not None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Step": None}, "names no step"),
        ({"Step": "createSecrets"}, "step that is not known"),
        ({"Step": 1}, "step that is not known"),
        ({"SecretId": "prod/db/app"}, "not the ARN"),
        ({"SecretId": "arn:aws:s3:::bucket"}, "not the ARN"),
        ({"SecretId": None}, "not the ARN"),
        ({"ClientRequestToken": None}, "ClientRequestToken"),
        (
            {"SecretId": "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-abcdef"},
            "us-east-1",
        ),
        (
            {"SecretId": "arn:aws:secretsmanager:eu-central-1:999999999999:secret:app-abcdef"},
            "999999999999",
        ),
        (
            {"SecretId": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nothing-abcdef"},
            "there is no secret",
        ),
        ({}, f"no version {_TOKEN}"),
    ],
)
def test_a_bad_event_is_refused(sandbox: Sandbox, given: Mapping[str, Any], said: str):
    """With what is wrong with it."""
    sandbox.secret()
    before = sandbox.stages()
    with pytest.raises(UsageError, match=said):
        sandbox.call(_event(sandbox, **given))
    assert sandbox.stages() == before
    assert "PutSecretValue" not in sandbox.aws.requests


def test_a_sweep_of_another_accounts_secret_is_refused(sandbox: Sandbox):
    """As each step of its rotation is: nothing is even asked about it."""
    before = len(sandbox.aws.requests)
    with pytest.raises(UsageError, match="999999999999"):
        sandbox.sweep(
            SecretId="arn:aws:secretsmanager:eu-central-1:999999999999:secret:app-abcdef", now=True
        )
    assert len(sandbox.aws.requests) == before


@pytest.mark.parametrize("event", [None, [], "createSecret", {"detail-type": "Scheduled Event"}])
def test_what_is_no_event_of_a_rotation_is_refused(sandbox: Sandbox, event: Any):
    """Such as a schedule that was pointed at the handler."""
    sandbox.secret()
    with pytest.raises(UsageError, match="names no step"):
        sandbox.function().handle(event, Context())


def test_a_secret_without_rotation_is_left_alone(sandbox: Sandbox):
    """Somebody invoked the function by hand."""
    sandbox.secret()
    sandbox.aws.secret(sandbox.name).rotation_enabled = False
    with pytest.raises(UsageError, match="not turned on"):
        sandbox.call(_event(sandbox))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"engine": None}, "'engine'"),
        ({"host": None}, "'host'"),
        ({"engine": "oracle"}, "no plugin for the engine 'oracle'"),
        ({"port": "postgres"}, "'port'"),
        ({"ssl": "maybe"}, "'ssl'"),
        ({"rotator": {"strategy": "dual-pasword"}}, "no strategy 'dual-pasword'"),
        ({"rotator": {"strategy": "alternating-users"}}, "masterarn"),
        ({"rotator": {"options": {"groop": "x"}}}, "Did you mean `group`"),
        ({"password": None}, "password"),
        ({"username": "app; DROP"}, "rejects login"),
        (
            {"masterarn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gone-abcdef"},
            "no current value",
        ),
    ],
)
def test_a_secret_that_makes_no_sense_is_refused(
    sandbox: Sandbox, more: Mapping[str, Any], said: str
):
    """With the key that is wrong, and what would be right."""
    sandbox.secret(**more)
    before = sandbox.aws.secret(sandbox.name).versions[sandbox.current_id()].value
    (error,) = sandbox.rotate()
    assert isinstance(error, RotatorError)
    assert said in str(error)
    assert sandbox.logins() == {"app"}
    assert sandbox.aws.secret(sandbox.name).versions[sandbox.current_id()].value == before


def test_a_secret_that_is_no_json_is_refused(sandbox: Sandbox):
    """As one that was written by hand."""
    sandbox.secret()
    sandbox.aws.by_hand(sandbox.name, "just-a-password")
    (error,) = sandbox.rotate()
    assert "JSON object" in str(error)
    assert "just-a-password" not in sandbox.said()


def test_the_admins_password_goes_to_its_own_host_only(sandbox: Sandbox):
    """Whoever may write the secret could name a host of theirs: the confused deputy."""
    sandbox.secret(masterarn=sandbox.master(host="db.internal"))
    (error,) = sandbox.rotate()
    assert type(error).__name__ == "Conflict"
    assert "'127.0.0.1'" in str(error)
    assert "db.internal" in str(error)
    assert sandbox.aws.secret(sandbox.name).versions[_pending(sandbox)].value is None
    sandbox.aws.by_hand(
        "prod/db/master", json.dumps({"username": "master", "password": "password-of-the-master"})
    )
    sandbox.aws.secret(sandbox.name).versions = {
        name: one
        for name, one in sandbox.aws.secret(sandbox.name).versions.items()
        if one.value is not None
    }
    (error,) = sandbox.rotate()
    assert "no host at all" in str(error)


def test_a_pending_value_that_leads_elsewhere_is_refused(sandbox: Sandbox):
    """It was not us who wrote it."""
    sandbox.secret()
    evil = {**sandbox.served(), "host": "evil.example.org", "password": "x" * 20}
    sandbox.aws.answer(
        "PutSecretValue",
        {
            "SecretId": sandbox.name,
            "SecretString": json.dumps(evil),
            "ClientRequestToken": _TOKEN,
            "VersionStages": ["AWSPENDING"],
        },
    )
    for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
        with pytest.raises(RotatorError, match="another 'host'"):
            sandbox.call(_event(sandbox, Step=step))
    other = {**sandbox.served(), "username": "postgres", "password": "x" * 20}
    token = _TOKEN[::-1]
    sandbox.aws.secret(sandbox.name).versions.pop(_TOKEN)
    sandbox.aws.answer(
        "PutSecretValue",
        {
            "SecretId": sandbox.name,
            "SecretString": json.dumps(other),
            "ClientRequestToken": token,
            "VersionStages": ["AWSPENDING"],
        },
    )
    with pytest.raises(RotatorError, match="for login 'postgres'"):
        sandbox.call(_event(sandbox, Step="setSecret", ClientRequestToken=token))


def test_a_host_that_is_silent_is_told_within_its_time(sandbox: Sandbox):
    """By its name, as one that does not answer: not as a wrong password, and not as a timeout."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        sandbox.secret(port=silent.getsockname()[1])
        sandbox.seconds = 30.0
        begun = time.monotonic()
        (error,) = sandbox.rotate()
        assert time.monotonic() - begun < 15
    assert type(error).__name__ == "Transient"
    assert "127.0.0.1" in str(error)


def test_a_step_that_cannot_end_in_time_is_not_begun(sandbox: Sandbox):
    """The function's own time limit is near."""
    sandbox.secret()
    sandbox.seconds = 2.0
    (error,) = sandbox.rotate()
    assert "no time left" in str(error)
    assert "PutSecretValue" not in sandbox.aws.requests


def test_an_unencrypted_connection_is_made_only_by_the_secrets_own_word(sandbox: Sandbox):
    """The server has no TLS: with `ssl: true` nothing goes to it, with false it may."""
    sandbox.secret(ssl=True)
    (error,) = sandbox.rotate()
    assert isinstance(error, RotatorError)
    assert sandbox.accepts(sandbox.served())
    sandbox.secret(ssl=False)
    sandbox.aws.secret(sandbox.name).versions = {
        name: one
        for name, one in sandbox.aws.secret(sandbox.name).versions.items()
        if one.value is not None
    }
    assert sandbox.rotate() == []


@pytest.mark.skipif(DEBIAN is None, reason="needs a server with TLS: apt-get install postgresql")
def test_a_server_that_another_authority_vouches_for_gets_no_password(
    monkeypatch: pytest.MonkeyPatch,
):
    """It is refused with what to do, and not tried without TLS; by the right authority it is rotated."""
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    settings = {"log_connections": "on"}
    with (
        ScratchPostgres(tls=True, binaries=DEBIAN, settings=settings) as server,
        ScratchPostgres(tls=True, binaries=DEBIAN) as other,
        SecretsManager() as aws,
    ):
        with server.connect() as admin:
            admin.execute(ROLES.encode())
        sandbox = Sandbox(server=server, aws=aws, dbname="postgres")
        sandbox.environ["ROTATOR_SSLROOTCERT"] = str(other.ca_file)
        sandbox.secret(ssl=True)
        (error,) = sandbox.rotate()
        assert type(error).__name__ == "Denied"
        assert "certificate" in str(error)
        assert "ROTATOR_SSLROOTCERT" in str(error)
        assert "global-bundle.pem" in str(error)
        assert "user=app" not in server.log_text()
        sandbox.environ["ROTATOR_SSLROOTCERT"] = str(server.ca_file)
        sandbox.aws.secret(sandbox.name).versions.pop(_pending(sandbox))
        assert sandbox.rotate() == []
        mine = [one for one in server.log_text().splitlines() if "authorized: user=app" in one]
        assert mine
        assert all("SSL enabled" in one for one in mine)
        assert sandbox.accepts(sandbox.served())
