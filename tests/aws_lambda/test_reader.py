"""A secret whose host is a read replica: changed where writes go, and tried where it is used."""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from rotator.core.errors import Conflict, Transient
from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.conftest import empty
from tests.aws_lambda.sandboxes import ROLES, Client, Sandbox
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator

_HBA = (
    "local all all scram-sha-256",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
)
# Two names of one machine: RDS tells them apart, as the ports do.
_READER = "localhost"
_INSTANCES = {"localhost": (_READER, "shop"), "shop": ("127.0.0.1", None)}
_ANSWER = (
    '<DescribeDBInstancesResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/">'
    "<DescribeDBInstancesResult><DBInstances><DBInstance><Endpoint><Address>{host}</Address></Endpoint>"
    "{source}</DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>"
)
_SOURCE = "<ReadReplicaSourceDBInstanceIdentifier>{}</ReadReplicaSourceDBInstanceIdentifier>"
_NONE = "<ErrorResponse><Error><Code>DBInstanceNotFound</Code></Error></ErrorResponse>"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ScratchPostgres, ScratchPostgres]]:
    """A primary and what follows it."""
    with ScratchPostgres(hba=_HBA) as writer, ScratchPostgres(of=writer) as reader:
        yield writer, reader


class Read(Sandbox):
    """A sandbox whose application reads from a replica."""

    reader: ScratchPostgres

    @property
    def used(self) -> ScratchPostgres:
        return self.reader

    def follow(self, *, on: bool) -> None:
        """Have the replica follow, or stand still."""
        what = "resume" if on else "pause"
        with self.reader.connect() as admin:
            admin.execute(f"SELECT pg_wal_replay_{what}()".encode())


@pytest.fixture
def sandbox(
    servers: tuple[ScratchPostgres, ScratchPostgres], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Read]:
    """The secret names the replica, and its admin's secret the primary."""
    writer, reader = servers

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            found = _INSTANCES.get(said.get("DBInstanceIdentifier", [""])[0])
            text = _NONE
            if found is not None:
                source = _SOURCE.format(found[1]) if found[1] else ""
                text = _ANSWER.format(host=found[0], source=source)
            self.send_response_only(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    empty(writer)
    with writer.connect() as admin:
        admin.execute(ROLES.encode())
    with SecretsManager() as aws:
        made = Read(server=writer, aws=aws, dbname="postgres")
        made.reader = reader
        made.secret(host=_READER, port=reader.port, masterarn=made.master(port=writer.port))
        while not made.accepts(made.served()):
            time.sleep(0.01)
        yield made
    server.shutdown()
    server.server_close()
    made.follow(on=True)


def test_it_is_changed_on_the_primary_and_proven_on_the_replica(sandbox: Read):
    """Old and new log in there until the sweep; an application never sees a refusal."""
    with Client(sandbox) as client:
        for expected in ("app_clone", "app", "app_clone"):
            old = sandbox.served()
            assert sandbox.rotate() == []
            new = sandbox.served()
            assert new["username"] == expected
            assert (new["host"], new["port"]) == (_READER, sandbox.reader.port)
            assert sandbox.accepts(new)
            assert sandbox.accepts(old)
            assert sandbox.sweep()["ended"] == 1
            assert not sandbox.accepts(old)
    assert client.logins > 10
    assert client.refused == 0


def test_nothing_is_published_before_the_replica_has_it(sandbox: Read):
    """One that stands still keeps what is current; once it goes on, AWS's next try gets through."""
    sandbox.follow(on=False)
    # Time enough to stage the password also where others are at work.
    sandbox.seconds = 4.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    old = sandbox.served()
    failed = sandbox.rotate()
    assert isinstance(failed[-1], Transient)
    assert "still rejected by localhost" in str(failed[-1])
    assert sandbox.served() == old
    assert sandbox.accepts(old)
    sandbox.follow(on=True)
    sandbox.seconds = 60.0
    sandbox.again()
    assert sandbox.served() != old
    assert sandbox.accepts(sandbox.served())


def test_the_old_login_stays_while_somebody_uses_it_on_the_replica(sandbox: Read):
    """Only there is it seen; it cannot be ended from the primary."""
    old, arn = sandbox.served(), sandbox.aws.secret(sandbox.name).arn
    with sandbox.reader.connect("postgres", old["username"], old["password"]) as session:
        assert sandbox.rotate() == []
        assert sandbox.sweep() == {"ended": 0, "waiting": 1, "failed": []}
        with pytest.raises(Transient, match="1 open session"):
            sandbox.sweep(SecretId=arn, now=True)
        assert session.execute(b"SELECT 1").fetchall() == [(1,)]
        assert sandbox.accepts(old)
    assert sandbox.sweep(SecretId=arn, now=True)["ended"] == 1
    assert not sandbox.accepts(old)


@pytest.mark.parametrize("elsewhere", ["other.example.org", "shop"])
def test_a_host_that_is_no_reader_of_the_admins_gets_no_password(sandbox: Read, elsewhere: str):
    """Whoever writes the secret could else have the admin's password sent anywhere."""
    arn = sandbox.aws.secret(sandbox.name).arn
    sandbox.secret(host=elsewhere, masterarn=sandbox.master(port=sandbox.server.port))
    failed = sandbox.rotate()
    assert isinstance(failed[-1], Conflict)
    assert "RDS knows it as no reader of that one" in str(failed[-1])
    assert "Nothing was sent to it" in str(failed[-1])
    assert arn == sandbox.aws.secret(sandbox.name).arn


def test_an_rds_that_cannot_be_asked_is_said(sandbox: Read, monkeypatch: pytest.MonkeyPatch):
    """The hosts differ, and nobody says that they belong together."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", "http://127.0.0.1:9")
    failed = sandbox.rotate()
    assert isinstance(failed[-1], Conflict)
    assert "is not known: RDS did not answer at http://127.0.0.1:9" in str(failed[-1])
