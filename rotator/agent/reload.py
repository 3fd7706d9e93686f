"""Lets a service read its changed file, and asks it whether it uses the new value. No shell runs."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator.agent.errors import SinkError
from rotator.agent.settings import PgBouncerOptions, ReloadOptions, signal_of

if TYPE_CHECKING:
    import signal

    from rotator.client.login import Login

_TIMEOUT: Final = 60.0
# What a program inherits of the agent's environment. References such as env:NAME stay here.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR")
_POLL: Final = 0.2


def reload(
    options: ReloadOptions, about: Mapping[str, str], resolve: Callable[[str], str], login: Login
) -> str | None:
    """Let the service read the file; return the level that this proves, None where it proves none.

    `about` becomes the environment of a program. `login`: what the file holds. Raises `SinkError`.
    """
    if options.signal is not None:
        _send_signal(options, signal_of(options.signal))
    elif options.command:
        run(options.command, about, "reload")
    elif options.systemd is not None:
        run(("systemctl", "reload-or-restart", "--", options.systemd), about, "reload")
    elif options.http is not None:
        _post(options.http)
    elif options.pgbouncer is not None:
        return _reload_pgbouncer(options.pgbouncer, resolve, login)
    return None


def run(argv: Sequence[str], about: Mapping[str, str], what: str) -> None:
    """Run a program without a shell. Raises `SinkError` unless it exits with 0.

    Its output is discarded: it may repeat the password.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        done = subprocess.run(
            list(argv),
            env={**inherited, **about},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SinkError(f"the {what} {argv[0]!r} did not end within {_TIMEOUT:g} s.") from None
    except OSError as error:
        raise SinkError(f"the {what} {argv[0]!r} could not be started: {error.strerror}.") from None
    if done.returncode:
        raise SinkError(
            f"the {what} {argv[0]!r} failed with exit code {done.returncode}.",
            hint="Run it by hand as the agent's user: its output is not logged, because it may hold the password.",
        )


def _send_signal(options: ReloadOptions, number: signal.Signals) -> None:
    for pid in _processes(options):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            raise SinkError(
                f"the process {pid} of the reload does not exist.",
                hint="Start the service, or correct `pid_file`.",
            ) from None
        except PermissionError:
            raise SinkError(
                f"the process {pid} of the reload belongs to another user.",
                hint="Run the agent as that user, or use `systemd` or `command`.",
            ) from None


def _processes(options: ReloadOptions) -> list[int]:
    if options.pid_file is not None:
        try:
            pid = int(options.pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            pid = 0
        # 0 and negative numbers would be groups of processes, 1 is init.
        if pid <= 1:
            raise SinkError(
                f"{options.pid_file} does not contain the number of a process.",
                hint="Start the service, or correct `pid_file`.",
            )
        return [pid]
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    named = [pid for pid in pids if _name(pid) == options.process and pid != os.getpid()]
    if not named:
        raise SinkError(f"no process has the name {options.process!r}.")
    return named


def _name(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_more: Any) -> None:
        """Follow none: the address that the file names is the one that is asked."""


def _post(url: str) -> None:
    request = urllib.request.Request(url, data=b"", method="POST")  # noqa: S310 # checked with the file
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=_TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        raise SinkError(f"the reload address answered with status {error.code}.") from None
    except (OSError, ValueError) as error:
        raise SinkError(f"the reload address is unreachable: {type(error).__name__}.") from None


# -- PgBouncer -----------------------------------------------------------------------------------


def _reload_pgbouncer(
    options: PgBouncerOptions, resolve: Callable[[str], str], login: Login
) -> str:
    """RELOAD the users, RECONNECT the servers, and wait until no connection of before is left.

    RELOAD succeeds even if PgBouncer cannot read its file of users, so the login is then tried.

    https://www.pgbouncer.org/usage.html#admin-console
    """
    import psycopg  # noqa: PLC0415 # only for this kind of reload

    try:
        with psycopg.connect(
            host=options.host,
            port=options.port,
            user=options.user,
            password=None if options.password is None else resolve(options.password),
            dbname="pgbouncer",
            connect_timeout=10,
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        ) as console:
            console.execute("RELOAD")
            console.execute("RECONNECT")
            deadline = time.monotonic() + options.wait.total_seconds()
            while left := _old_servers(console):
                if time.monotonic() > deadline:
                    raise SinkError(
                        f"PgBouncer still has {left} server connections of the old login.",
                        hint="They end with their transactions, or with their clients' sessions where `pool_mode` is session.",
                    )
                time.sleep(_POLL)
            database = options.database or str(login.fields.get("dbname") or "")
            if database not in [row["name"] for row in _rows(console, "SHOW DATABASES")]:
                return "read"
            if not _accepts(options, login, database):
                return "read"
            is_used = any(
                row["state"] in ("active", "used", "idle", "tested")
                for row in _rows(console, "SHOW SERVERS")
            )
    except psycopg.Error as error:
        raise SinkError(
            f"PgBouncer's admin console at {options.host}:{options.port} failed: {type(error).__name__}.",
            hint="Check `admin_users`, the port and the password.",
        ) from None
    return "used" if is_used else "loaded"


def _accepts(options: PgBouncerOptions, login: Login, database: str) -> bool:
    """Return whether PgBouncer accepts the login for its password. Raises `SinkError` where it does not.

    False where it accepts a wrong password too: then it proves nothing.
    """
    import psycopg  # noqa: PLC0415 # as above

    def connects(password: str) -> bool:
        try:
            psycopg.connect(
                host=options.host,
                port=options.port,
                user=login.username,
                password=password,
                dbname=database,
                connect_timeout=10,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    if not connects(login.password.reveal()):
        raise SinkError(
            f"PgBouncer does not accept login {login.username!r} after its reload.",
            hint="It may be unable to read its `auth_file`: see its log, and the mode of the file and of each"
            " folder above.",
        )
    return not connects(secrets.token_hex(16))


def _rows(console: Any, statement: str) -> list[dict[str, Any]]:
    cursor = console.execute(statement)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _old_servers(console: Any) -> int:
    return sum(1 for row in _rows(console, "SHOW SERVERS") if int(row["close_needed"] or 0))
