"""The rights that `rotator policy aws` prints for a rotation function: enough, and none too many."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from rotator.api import Access, RotatorError
from rotator.backends.aws.backend import PLUGIN
from rotator.backends.aws.options import AwsOptions
from rotator.testing.iam import allows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws_lambda.worlds import World

_OPTIONS = AwsOptions(
    region="eu-central-1", account="123456789012", masters=("prod/db/master",), function="rotator"
)
_APP = Access(rotated=("prod/db/app",), read=("prod/journal",))
_MANAGED = "aws:rds:primaryDBInstanceArn"
_INSTANCE = "arn:aws:rds:eu-central-1:123456789012:db:shop"
_ANSWER = """
<DescribeDBInstancesResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeDBInstancesResult>
<DBInstances><DBInstance><Endpoint><Address>127.0.0.1</Address></Endpoint></DBInstance></DBInstances>
</DescribeDBInstancesResult></DescribeDBInstancesResponse>
"""
_DENIED = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"


@pytest.fixture
def rds(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RDS, as far as it is asked for the host of a secret that it manages."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            policy, action = world.aws.policy, f"rds:{said['Action'][0]}"
            allowed = policy is None or allows(policy, action, _INSTANCE)
            content = (_ANSWER if allowed else _DENIED).strip().encode()
            self.send_response_only(200 if allowed else 403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()


def _policies(access: Access) -> dict[str, str]:
    return {of: PLUGIN.policy(_OPTIONS, access, of=of) for of in ("lambda", "lambda-sweep")}


def _without(policy: str, sid: str) -> str:
    read = json.loads(policy)
    kept = [one for one in read["Statement"] if one["Sid"] != sid]
    assert len(kept) == len(read["Statement"]) - 1
    return json.dumps({**read, "Statement": kept})


def _rotate_and_sweep(world: World, policies: dict[str, str]) -> None:
    """With each role as it is printed. Raises what went wrong."""
    world.aws.policy = policies["lambda"]
    failed = world.rotate()
    world.aws.policy = policies["lambda-sweep"]
    if failed:
        raise failed[0]
    world.sweep()


def _ready_again(world: World) -> None:
    """Have AWS give up a rotation that came to nothing; end what may be ended."""
    world.aws.policy = None
    versions = world.aws.secret(world.name).versions
    for empty in [name for name, one in versions.items() if one.value is None]:
        del versions[empty]
    world.sweep()


def _statements(policy: str) -> dict[str, dict[str, Any]]:
    return {one["Sid"]: one for one in json.loads(policy)["Statement"]}


def test_a_single_user_is_rotated_by_its_own_secret_alone(world: World):
    """No admin, no other secret."""
    policies = _policies(Access(rotated=_APP.rotated))
    world.secret()
    for _ in range(2):
        old = world.served()
        _rotate_and_sweep(world, policies)
        assert world.accepts(world.served())
        assert not world.accepts(old)


@pytest.mark.usefixtures("rds")
def test_with_the_printed_rights_everything_is_done_and_without_any_statement_it_is_not(
    world: World,
):
    """Two users by the admin that RDS manages, whose secret names no host; the log is the journal."""
    policies = _policies(_APP)
    master = world.master(engine=None, host=None)
    world.aws.secret("prod/db/master").tags[_MANAGED] = _INSTANCE
    world.secret(masterarn=master)
    tried: list[tuple[str, str]] = []
    for of, policy in policies.items():
        for sid in _statements(policy):
            if sid == "Read":
                continue
            with pytest.raises(RotatorError):
                _rotate_and_sweep(world, policies | {of: _without(policy, sid)})
            tried.append((of, sid))
            _ready_again(world)
    assert len(tried) == 9
    for _ in range(2):
        old = world.served()
        _rotate_and_sweep(world, policies)
        assert world.accepts(world.served())
        assert not world.accepts(old)


def test_the_journals_password_may_be_read_where_there_is_one(world: World):
    """From Secrets Manager; then neither a tag is written nor the list of all secrets read."""
    world.keep_journal_in(world.server)
    value = {"username": "postgres", "password": world.environ["JOURNAL_PASSWORD"]}
    world.aws.by_hand("prod/journal", json.dumps(value))
    world.environ["ROTATOR_JOURNAL_PASSWORD"] = "aws:prod/journal#password"
    policies = _policies(_APP)
    world.secret(masterarn=world.master())
    for of, policy in policies.items():
        with pytest.raises(RotatorError):
            _rotate_and_sweep(world, policies | {of: _without(policy, "Read")})
        _ready_again(world)
    fewer = {of: _without(policy, "Journal") for of, policy in policies.items()}
    fewer["lambda-sweep"] = _without(fewer["lambda-sweep"], "Find")
    old = world.served()
    _rotate_and_sweep(world, fewer)
    assert world.accepts(world.served())
    assert not world.accepts(old)
