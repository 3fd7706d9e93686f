"""Which reads a line of an audit log shows."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rotator.access.log_lines import NOTHING, NotALine, Shown, parser
from rotator.core.errors import UsageError
from rotator.core.reads import LogKind
from tests.access.lines import cloudtrail, vault

if TYPE_CHECKING:
    from rotator.access.log_lines import Parser
    from rotator.core.reads import Read


def settings(kind: str, *paths: str, **options: Any) -> Any:
    """Return the part of a configuration that parsers read: a secret at each path."""
    secrets = {
        path: SimpleNamespace(name=f"s-{number}", paths=lambda _backend, path=path: [path])
        for number, path in enumerate(paths)
    }
    backend = SimpleNamespace(type=kind, options=SimpleNamespace(**options))
    return SimpleNamespace(backends={"b": backend}, secrets=secrets, file="rotator.yaml")


@pytest.fixture
def of_vault() -> Parser:
    return parser(
        LogKind.VAULT, settings("vault", "apps/shop", mount="secret", namespace=None), None
    )


@pytest.fixture
def of_aws() -> Parser:
    return parser(LogKind.CLOUDTRAIL, settings("aws", "apps/shop"), None)


def read_in(shown: Shown) -> Read:
    (found,) = shown.reads
    return found


def test_a_response_shows_who_read_which_version(of_vault: Parser):
    found = of_vault.parse(vault())
    one = read_in(found)
    assert (one.secret, one.version, one.identity, one.address) == (
        "s-0",
        "2",
        "approle/web",
        "10.0.0.1",
    )
    assert one.at.isoformat() == "2026-01-02T12:00:00.168646+00:00"
    assert not found.leaks


def test_a_wrapped_response_shows_no_version(of_vault: Parser):
    """The time will have to do."""
    line = vault(response={"wrap_info": {"ttl": 60, "token": "hmac-sha256:ec"}})
    assert read_in(of_vault.parse(line)).version is None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(vault(kind="request"), id="a request"),
        pytest.param(vault("secret/data/apps/other"), id="another path"),
        pytest.param(vault("secret/metadata/apps/shop"), id="its metadata"),
        pytest.param(vault(operation="update"), id="a write"),
        pytest.param(vault(version=None), id="a secret that is missing"),
        pytest.param(vault(error="permission denied"), id="a request that was denied"),
        pytest.param(vault(namespace={"id": "x", "path": "team/"}), id="another namespace"),
        pytest.param(
            vault("sys/x", error='"path":"secret/data/apps/shop"'), id="a path in another text"
        ),
    ],
)
def test_what_is_no_read_of_a_managed_secret_is_not_counted(of_vault: Parser, line: bytes):
    assert of_vault.parse(line) == NOTHING


def test_a_namespace_is_part_of_the_place():
    own = settings("vault", "apps/shop", mount="/kv/", namespace="team/eu")
    line = vault("kv/data/apps/shop", namespace={"id": "x", "path": "team/eu/"})
    assert read_in(parser(LogKind.OPENBAO, own, None).parse(line)).secret == "s-0"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(vault(password="Correct-horse-9"), id="the value"),
        pytest.param(vault(token="hvs.CAESIJ"), id="a token"),
        pytest.param(vault("secret/data/apps/other", token="hvs.CAESIJ"), id="a token elsewhere"),
        pytest.param(vault(kind="request", token="hvs.CAESIJ"), id="a token in a request"),
    ],
)
def test_plain_text_is_a_leak_and_is_not_kept(of_vault: Parser, line: bytes):
    found = of_vault.parse(line)
    assert found.leaks
    assert "Correct-horse-9" not in repr(found)
    assert "CAESIJ" not in repr(found)


@pytest.mark.parametrize("line", [b"plain text", b'{"path":"secret/data/apps/shop","response"'])
def test_what_is_no_line_of_the_log_is_rejected(of_vault: Parser, line: bytes):
    with pytest.raises(NotALine):
        of_vault.parse(line)


def test_two_servers_with_the_same_path_need_a_name():
    both = settings("vault", "apps/shop", mount="secret", namespace=None)
    both.secrets["again"] = SimpleNamespace(name="other", paths=lambda _backend: ["apps/shop"])
    with pytest.raises(UsageError, match="--backend"):
        parser(LogKind.VAULT, both, None)


def test_a_log_of_another_kind_of_backend_is_rejected():
    with pytest.raises(UsageError, match="no backend is of type aws"):
        parser(LogKind.CLOUDTRAIL, settings("vault", "x", mount="secret", namespace=None), None)


# -- CloudTrail --------------------------------------------------------------------------------

_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:apps/shop"


@pytest.mark.parametrize("identifier", ["apps/shop", _ARN, f"{_ARN}-a1B2c3"])
def test_a_name_and_an_arn_are_one_secret(of_aws: Parser, identifier: str):
    event = cloudtrail(identifier)
    one = read_in(of_aws.parse(json.dumps({"Records": [event]}).encode()))
    assert (one.secret, one.version, one.back) == ("s-0", None, 0)
    assert (one.identity, one.address) == ("arn:aws:iam::123456789012:role/web", "10.0.0.2")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(cloudtrail()),
        json.dumps([cloudtrail()]),
        json.dumps({"eventJson": json.dumps(cloudtrail())}),
        json.dumps({"eventData": cloudtrail()}),
    ],
)
def test_each_export_of_cloudtrail_is_read(of_aws: Parser, text: str):
    assert read_in(of_aws.parse(text.encode())).secret == "s-0"


def test_the_asked_version_is_taken_from_the_event(of_aws: Parser):
    named = json.dumps(cloudtrail(versionId="v-1")).encode()
    assert read_in(of_aws.parse(named)).version == "v-1"
    before = json.dumps(cloudtrail(versionStage="AWSPREVIOUS")).encode()
    assert read_in(of_aws.parse(before)).back == 1


def test_a_value_in_cloudtrail_is_a_leak(of_aws: Parser):
    event = cloudtrail() | {"responseElements": {"secretString": "Correct-horse-9"}}
    found = of_aws.parse(json.dumps(event).encode())
    assert found.leaks
    assert "Correct-horse-9" not in repr(found)
    hidden = cloudtrail() | {
        "requestParameters": {"secretString": "HIDDEN_DUE_TO_SECURITY_REASONS"}
    }
    assert not of_aws.parse(json.dumps(hidden).encode()).leaks


def test_an_error_of_aws_is_no_read(of_aws: Parser):
    event = cloudtrail() | {"errorCode": "AccessDenied"}
    assert of_aws.parse(json.dumps(event).encode()).reads == ()


# -- the agent ---------------------------------------------------------------------------------


def test_the_agents_own_log_shows_its_reads():
    agent = parser(LogKind.AGENT, settings("local", "apps/shop"), None)
    record = {
        "event": "read",
        "path": "apps/shop",
        "version": "7",
        "reader": "agent:app@vm",
        "host": "vm",
        "timestamp": "2026-01-02T12:00:00Z",
    }
    one = read_in(agent.parse(json.dumps(record).encode()))
    assert (one.secret, one.version, one.identity) == ("s-0", "7", "agent:app@vm")
    assert agent.parse(b'{"event":"started"}') == NOTHING
