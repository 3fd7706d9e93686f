"""PgBouncer, for real: its users change, and no server connection of the old login is left."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from rotator.agent.errors import SinkError
from rotator.agent.sinks import Sink
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agent.conftest import Host

_PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
pytestmark = pytest.mark.skipif(
    not Path(_PROGRAM).exists(), reason="Debian's package pgbouncer is not there"
)
_WAIT = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as server:
        yield server


@pytest.fixture
def pooler(host: Host, server: ScratchPostgres) -> Iterator[int]:
    """Run PgBouncer before the server; yield its port."""
    with server.connect() as admin:
        admin.autocommit = True
        admin.execute("DROP ROLE IF EXISTS shop")
        admin.execute("CREATE ROLE shop LOGIN PASSWORD 'first-Kq83zx'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Another user runs it and reads its files again: each folder down to them must be open.
    for folder in (host.folder, *host.folder.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode & 0o7777 | 0o055)
    users = host.folder / "userlist.txt"
    users.write_text('"shop" "first-Kq83zx"\n')
    rules = host.folder / "hba.conf"
    # Its console has no password, as with `peer`.
    rules.write_text(
        "host pgbouncer all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    config = host.folder / "pgbouncer.ini"
    config.write_text(f"""[databases]
postgres = host={server.host} port={server.port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = hba
auth_hba_file = {rules}
auth_file = {users}
admin_users = shop
pool_mode = transaction
server_tls_sslmode = disable
""")
    run = [_PROGRAM, *(["-u", "nobody"] if os.geteuid() == 0 else []), str(config)]
    users.chmod(0o644)
    log = host.folder / "pgbouncer.log"
    with log.open("wb") as said, subprocess.Popen(run, stderr=said, stdout=said) as process:
        try:
            deadline = time.monotonic() + _WAIT
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            # Shown beside a test that fails.
            print(log.read_text(), server.log_text()[-5_000:])


def _through(port: int) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        dbname="postgres",
        user="shop",
        password="first-Kq83zx",
        autocommit=True,
    )


def _sink(
    host: Host,
    port: int,
    wait: str = "10s",
    *,
    file: str = "userlist.txt",
    database: str = "postgres",
) -> Sink:
    consumer = host.consumer(f"""
        secrets:
          shop:
            sinks:
              - file: {file}
                format: userlist
                owner: {"nobody" if os.geteuid() == 0 else str(os.geteuid())}
                reload: {{pgbouncer: {{port: {port}, user: shop, wait: {wait}, database: {database}}}}}
    """)
    return Sink("shop", consumer.options.secrets["shop"].sinks[0], consumer.resolve)


def _login(host: Host):
    return host.consumer("secrets: {shop: {}}").credentials["shop"].current()


def test_a_new_password_is_used_once_no_old_server_connection_is_left(host, server, pooler):
    host.publish("shop", "second-Kq83zx")
    with _through(pooler) as client, server.connect() as admin:
        admin.autocommit = True
        (before,) = client.execute("SELECT pg_backend_pid()").fetchone()
        admin.execute("ALTER ROLE shop PASSWORD 'second-Kq83zx'")
        with client.transaction():
            client.execute("SELECT 1")
            # A transaction keeps its server connection: the reload is not complete.
            with pytest.raises(SinkError, match="1 server connections of the old login"):
                _sink(host, pooler, "1s").apply(_login(host))
        level = _sink(host, pooler).apply(_login(host))
        (after,) = client.execute("SELECT pg_backend_pid()").fetchone()
        assert after != before
        assert level == "used"
        rows = admin.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'shop'").fetchall()
        assert rows == [(after,)]


def test_a_console_that_is_unreachable_is_named_without_the_password(host):
    host.publish("shop", "s3cret-value")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SinkError, match="admin console") as raised:
            _sink(host, free.getsockname()[1]).apply(_login(host))
    assert "s3cret" not in str(raised.value)


def test_a_pooler_that_did_not_read_the_file_has_not_loaded_it(host, server, pooler):
    """RELOAD succeeds all the same. Here PgBouncer reads another file than the one that is written."""
    host.publish("shop", "second-Kq83zx")
    with server.connect() as admin:
        admin.autocommit = True
        admin.execute("ALTER ROLE shop PASSWORD 'second-Kq83zx'")
    sink = _sink(host, pooler, file="other.txt")
    with pytest.raises(SinkError, match="does not accept login 'shop'") as raised:
        sink.apply(_login(host))
    assert "auth_file" in raised.value.hint
    assert "second-Kq83zx" not in str(raised.value)
    (host.folder / "userlist.txt").write_text('"shop" "second-Kq83zx"\n')
    assert sink.apply(_login(host)) == "used"


def test_a_pooler_that_takes_any_password_proves_nothing(host, server, pooler):
    """Nor does one without the database: the file is read as far as anybody knows, no more."""
    host.publish("shop", "first-Kq83zx")
    assert _sink(host, pooler, database="absent").apply(_login(host)) == "read"
    (host.folder / "hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    assert _sink(host, pooler, file="other.txt").apply(_login(host)) == "read"
