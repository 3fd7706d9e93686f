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
from tests.servers.iam import allows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws_lambda.sandboxes import Sandbox

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
def rds(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RDS, as far as it is asked for the host of a secret that it manages."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            policy, action = sandbox.aws.policy, f"rds:{said['Action'][0]}"
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


def _rotate_and_sweep(sandbox: Sandbox, policies: dict[str, str]) -> None:
    """With each role as it is printed. Raises what went wrong."""
    sandbox.aws.policy = policies["lambda"]
    failed = sandbox.rotate()
    sandbox.aws.policy = policies["lambda-sweep"]
    if failed:
        raise failed[0]
    sandbox.sweep()


def _ready_again(sandbox: Sandbox) -> None:
    """Have AWS give up a rotation that came to nothing; end what may be ended."""
    sandbox.aws.policy = None
    versions = sandbox.aws.secret(sandbox.name).versions
    for empty in [name for name, one in versions.items() if one.value is None]:
        del versions[empty]
    sandbox.sweep()


def _statements(policy: str) -> dict[str, dict[str, Any]]:
    return {one["Sid"]: one for one in json.loads(policy)["Statement"]}


def test_a_single_user_is_rotated_by_its_own_secret_alone(sandbox: Sandbox):
    """No admin, no other secret."""
    policies = _policies(Access(rotated=_APP.rotated))
    sandbox.secret()
    for _ in range(2):
        old = sandbox.served()
        _rotate_and_sweep(sandbox, policies)
        assert sandbox.accepts(sandbox.served())
        assert not sandbox.accepts(old)


@pytest.mark.usefixtures("rds")
def test_with_the_printed_rights_everything_is_done_and_without_any_statement_it_is_not(
    sandbox: Sandbox,
):
    """Two users by the admin that RDS manages, whose secret names no host; the log is the journal."""
    policies = _policies(_APP)
    master = sandbox.master(engine=None, host=None)
    sandbox.aws.secret("prod/db/master").tags[_MANAGED] = _INSTANCE
    sandbox.secret(masterarn=master)
    tried: list[tuple[str, str]] = []
    for of, policy in policies.items():
        for sid in _statements(policy):
            if sid == "Read":
                continue
            with pytest.raises(RotatorError):
                _rotate_and_sweep(sandbox, policies | {of: _without(policy, sid)})
            tried.append((of, sid))
            _ready_again(sandbox)
    assert len(tried) == 9
    for _ in range(2):
        old = sandbox.served()
        _rotate_and_sweep(sandbox, policies)
        assert sandbox.accepts(sandbox.served())
        assert not sandbox.accepts(old)


def test_the_journals_password_may_be_read_where_there_is_one(sandbox: Sandbox):
    """From Secrets Manager; then neither a tag is written nor the list of all secrets read."""
    sandbox.keep_journal_in(sandbox.server)
    value = {"username": "postgres", "password": sandbox.environ["JOURNAL_PASSWORD"]}
    sandbox.aws.by_hand("prod/journal", json.dumps(value))
    sandbox.environ["ROTATOR_JOURNAL_PASSWORD"] = "aws:prod/journal#password"
    policies = _policies(_APP)
    sandbox.secret(masterarn=sandbox.master())
    for of, policy in policies.items():
        with pytest.raises(RotatorError):
            _rotate_and_sweep(sandbox, policies | {of: _without(policy, "Read")})
        _ready_again(sandbox)
    fewer = {of: _without(policy, "Journal") for of, policy in policies.items()}
    fewer["lambda-sweep"] = _without(fewer["lambda-sweep"], "Find")
    old = sandbox.served()
    _rotate_and_sweep(sandbox, fewer)
    assert sandbox.accepts(sandbox.served())
    assert not sandbox.accepts(old)
