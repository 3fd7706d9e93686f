"""A real PgBouncer before a PostgreSQL server, for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.testing.scratch import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rotator.testing.postgres import ScratchPostgres

PROGRAM: Final = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
IS_INSTALLED: Final = Path(PROGRAM).exists()
_START_SECONDS: Final = 20.0


@contextmanager
def scratch_pgbouncer(
    server: ScratchPostgres, users: Mapping[str, str], *, as_superuser: bool = False
) -> Iterator[int]:
    """Run PgBouncer with these users and passwords; yield its port.

    `as_superuser`: its own connections to the server are the superuser's, for every client.
    """
    port = free_port()
    own = f" user={server.superuser} password={server.superuser_password}" if as_superuser else ""
    with tempfile.TemporaryDirectory(prefix="rotator-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lines = [f'"{user}" "{password}"\n' for user, password in users.items()]
        if as_superuser:
            lines.append(f'"{server.superuser}" "{server.superuser_password}"\n')
        (folder / "userlist.txt").write_text("".join(lines))
        (folder / "pgbouncer.ini").write_text(f"""[databases]
* = host={server.host} port={server.port}{own}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder / "userlist.txt"}
pool_mode = session
server_tls_sslmode = disable
""")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with subprocess.Popen(
            [PROGRAM, *user, str(folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_for(process, port)
                yield port
            finally:
                process.terminate()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, "PgBouncer ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < ends, "PgBouncer did not start"
            time.sleep(0.05)
        else:
            return
