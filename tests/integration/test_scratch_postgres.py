"""The scratch PostgreSQL that other tests and `rotator demo` believe in."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rotator.core.errors import UsageError
from rotator.testing.postgres import ScratchPostgres, find_binaries

_SCRATCH = """
import os
from rotator.testing.postgres import ScratchPostgres
with ScratchPostgres() as server:
    print(os.geteuid(), server.version)
"""


def test_a_wrong_password_is_refused() -> None:
    """A login with a wrong password is refused by TCP and by the socket; the right one works."""
    with ScratchPostgres() as server:
        for host in (server.host, str(server.folder)):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                _login(server.dsn(password="wrong"), host=host).close()
        with server.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert "trust" not in (server.folder / "data/pg_hba.conf").read_text()


def test_it_leaves_nothing_behind() -> None:
    """After the block, the folder is gone, the port is closed, and no process names it."""
    with ScratchPostgres() as server:
        folder, dsn = server.folder, server.dsn()
        assert _commands_naming(folder)
    assert not folder.exists()
    assert not _commands_naming(folder)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**dsn).close()


def test_its_password_is_on_no_command_line() -> None:
    """The superuser's password is in no command line and not in the server's log."""
    with ScratchPostgres(settings={"log_statement": "all"}) as server:
        with server.connect() as connection:
            _ = connection.execute("SELECT 'seen'")
        commands = _command_lines()
        assert not any(server.superuser_password.encode() in command for command in commands)
        assert "SELECT 'seen'" in server.log_text()
        assert server.superuser_password not in server.log_text()


def test_it_recovers_from_a_kill() -> None:
    """What was committed before a SIGKILL is there after a restart, on the same port."""
    with ScratchPostgres(durable=True) as server:
        port = server.port
        with server.connect() as connection:
            _ = connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            server.connect().close()
        server.restart()
        assert server.port == port
        with server.connect() as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_it_speaks_tls() -> None:
    """With `tls`, a client that verifies the host's name and the authority gets in."""
    try:
        _ = find_binaries(tls=True)
    except UsageError as error:
        pytest.skip(str(error))
    hba = ("hostssl all all 127.0.0.1/32 scram-sha-256",)
    with ScratchPostgres(tls=True, hba=hba) as server:
        ca = str(server.ca_file)
        with _login(server.dsn(), sslmode="verify-full", sslrootcert=ca) as connection:
            row = connection.execute(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
            assert row == (True,)
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            _login(server.dsn(), sslmode="disable").close()


def test_a_setting_may_hold_a_quote() -> None:
    """A setting's value reaches the server as it is."""
    with ScratchPostgres(settings={"cluster_name": "o'neil"}) as server, server.connect() as conn:
        assert conn.execute("SHOW cluster_name").fetchone() == ("o'neil",)


def test_a_long_folder_name_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temporary folder's path is too long for a socket, a shorter one is taken."""
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with ScratchPostgres() as server:
        assert not server.folder.is_relative_to(deep)


def test_a_missing_server_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the named folder holds no programs, the error tells what to install."""
    monkeypatch.setenv("ROTATOR_PG_BIN", str(tmp_path))
    with pytest.raises(UsageError, match=r"credential-rotator\[demo\]"):
        ScratchPostgres().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_can_use_programs_that_are_closed_to_others(tmp_path: Path) -> None:
    """Made by root, it runs as somebody else, also from programs that only root may read."""
    closed = tmp_path / "closed"
    programs = find_binaries()
    package = programs.parents[1]
    _ = shutil.copytree(programs.parent, closed / package.name / programs.parent.name)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        _ = shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    binaries = closed / package.name / programs.parent.name / "bin"
    with ScratchPostgres(binaries=binaries) as server:
        assert server.folder.stat().st_uid != 0
        assert server.version


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_runs_it_too() -> None:
    """The user nobody starts one from the same environment."""
    if _as_nobody("import rotator, psycopg").returncode:
        pytest.skip("this environment is closed to the user nobody")
    done = _as_nobody(_SCRATCH)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{pwd.getpwnam('nobody').pw_uid} ")


def _login(dsn: dict[str, Any], **changed: str) -> psycopg.Connection[tuple[Any, ...]]:
    arguments: dict[str, Any] = {**dsn, **changed}
    return psycopg.connect(**arguments)


def _as_nobody(code: str) -> subprocess.CompletedProcess[str]:
    nobody = pwd.getpwnam("nobody")
    # Of its own, as not every machine lets everybody write to /tmp.
    folder = tempfile.mkdtemp(prefix="rotator-nobody-", dir="/tmp")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    try:
        return subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={"PATH": os.environ["PATH"], "TMPDIR": folder},
        )
    except PermissionError as error:
        return subprocess.CompletedProcess([], 126, "", str(error))
    finally:
        shutil.rmtree(folder)


def _command_lines() -> list[bytes]:
    lines: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It ended while we looked.
            lines.append(path.read_bytes())
    return lines


def _commands_naming(folder: Path) -> list[bytes]:
    return [line for line in _command_lines() if os.fsencode(folder) in line]
