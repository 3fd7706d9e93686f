"""The demo's chapter on a leaked password: found in code, moved, made invalid, and shown as rejected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, Final

import psycopg

from rotator.core.errors import RotatorError, UsageError
from rotator.demo.play import configure, leaving_when_told, scene_of
from rotator.demo.report import Scene
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_CONFIG: Final = """\
secrets:
  shop: {{target: shop, backend: local, strategy: single-user, options: {{username: shop_app}}}}
"""
_SOURCE: Final = '''\
"""Count the orders of the shop."""

import psycopg

with psycopg.connect(
    host="{host}",
    port={port},
    dbname="shop",
    user="shop_app",
    password="{password}",
) as connection:
    print(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
'''
_TABLES: Final = """
CREATE ROLE shop_app LOGIN PASSWORD '{password}';
CREATE TABLE orders (id bigserial PRIMARY KEY);
ALTER TABLE orders OWNER TO shop_app;
"""
_GIT: Final = (
    "git",
    "-c",
    "user.name=demo",
    "-c",
    "user.email=demo@localhost",
    "-c",
    "core.hooksPath=/",
)
# Of `rotator find`: a candidate is valid.
_FOUND: Final = 1
_SECONDS: Final = 120


@dataclass(slots=True, kw_only=True)
class LeakReport:
    """What the chapter has shown. Seconds count from the command that reported the leak."""

    server: str = ""
    seconds: float = 0.0
    scenes: list[Scene] = field(default_factory=list[Scene])
    rejected_after: float | None = None
    proven_after: float | None = None
    sessions_ended: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything went as it must."""
        return all(one.ok for one in self.scenes) and self.proven_after is not None

    def data(self) -> dict[str, object]:
        """Return it as JSON-ready data; the keys are documented in docs/reference/cli.md."""
        return {
            "server": self.server,
            "seconds": round(self.seconds, 1),
            "rejected_after": self.rejected_after,
            "proven_after": self.proven_after,
            "sessions_ended": self.sessions_ended,
            "scenes": [one.data() for one in self.scenes],
        }


def play(tell: Callable[[Scene], None]) -> LeakReport:
    """Run the chapter. `tell` gets each scene as it ends. Leaves nothing behind."""
    if which("git") is None:
        raise UsageError("this part of the demo needs git.", hint="On Debian: apt install git")
    report, begun = LeakReport(), time.monotonic()
    with leaving_when_told() as leave, ExitStack() as stack:

        def tell_and_leave(scene: Scene) -> None:
            tell(scene)
            leave()

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rotator-demo-")))
        server = stack.enter_context(ScratchPostgres())
        _Chapter(folder, server, report, tell_and_leave).run()
    report.seconds = time.monotonic() - begun
    return report


class _Chapter:
    def __init__(
        self,
        folder: Path,
        server: ScratchPostgres,
        report: LeakReport,
        tell: Callable[[Scene], None],
    ) -> None:
        self._server: ScratchPostgres = server
        self._report: LeakReport = report
        self._tell: Callable[[Scene], None] = tell
        self._config: Path = folder / "rotator.yaml"
        self._code: Path = folder / "shop"
        self._password: str = os.urandom(9).hex()

    def run(self) -> None:
        with self._scene("An application with its password in the code, in Git") as scene:
            self._prepare()
            scene.said = f"{self._report.server}; shop.py runs: {self._runs(sys.executable)} orders"
        with self._thief() as thief:
            with self._scene("Found and moved: rotator find shop --git --try --fix") as scene:
                options = ("--git", "--try", "--fix", "--branch", "no-passwords")
                found = self._rotator("find", str(self._code), *options, code=_FOUND)
                valid = [one for one in found["candidates"] if one["verdict"] == "valid"]
                text = self._git("show", "no-passwords:shop.py")
                line = next((one.strip() for one in text.splitlines() if "environ[" in one), "")
                logins = {one["login"] for one in valid}
                scene.ok = logins == {"shop_app"} and bool(line) and self._password not in text
                place = f"shop.py:{valid[0]['line']}" if valid else "nothing"
                scene.said = f"{place} logs in as shop_app; on the branch no-passwords: {line}"
            with self._scene("Killed: rotator incident open shop --mode kill") as scene:
                reason = ("--reason", "in the history of Git")
                done = self._rotator("incident", "open", "shop", "--mode", "kill", *reason)
                (result,) = done["results"]
                self._report.rejected_after = result["seconds"]["rejected"]
                self._report.proven_after = result["seconds"]["proven"]
                self._report.sessions_ended = result["sessions_ended"]
                scene.ok = bool(result["proven"]) and self._is_over(thief)
                scene.said = (
                    f"rejected after {self._report.rejected_after:.1f} s, proven after"
                    f" {self._report.proven_after:.1f} s; {result['sessions_ended']} open session ended"
                )
        with self._scene("The leaked password, and the application without it") as scene:
            rejected = not self._logs_in()
            _ = self._git("checkout", "--quiet", "no-passwords")
            variable = ("--env", "SHOP_PASSWORD={password}")
            command = (sys.executable, "-m", "rotator", "-c", str(self._config), "exec", "shop")
            count = self._runs(*command, *variable, "--", sys.executable)
            scene.ok = rejected and count == "0"
            scene.said = (
                f"a login with it is rejected; rotator exec shop -- python shop.py: {count} orders"
            )
        with self._scene("The receipt: every step with its event, signed") as scene:
            receipt = str(self._config.parent / "receipt")
            shown = self._rotator("incident", "show", "shop", "--receipt", receipt)
            _ = self._rotator("audit", "verify", "--export", receipt)
            count = len(shown["incidents"][0]["events"])
            scene.said = f"{count} events, verified by rotator audit verify --export receipt"

    def _prepare(self) -> None:
        server, folder = self._server, self._config.parent
        with server.connect() as admin:
            _ = admin.execute("CREATE DATABASE shop")
            row = admin.execute("SHOW server_version").fetchone()
        self._report.server = f"PostgreSQL {row[0]}" if row else "PostgreSQL"
        with server.connect("shop") as admin:
            _ = admin.execute(_TABLES.format(password=self._password).encode())
        _ = configure(folder, server, _CONFIG)
        self._code.mkdir()
        source = _SOURCE.format(host=server.host, port=server.port, password=self._password)
        _ = (self._code / "shop.py").write_text(source)
        for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "Count")):
            _ = self._git(*command)

    def _git(self, *arguments: str) -> str:
        return _run([*_GIT, *arguments], self._code)

    def _runs(self, *command: str) -> str:
        """Return what the application prints."""
        return _run([*command, "shop.py"], self._code).strip()

    def _rotator(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command of rotator; return its data."""
        command = [sys.executable, "-m", "rotator", "-c", str(self._config), *arguments, "--json"]
        return json.loads(_run(command, self._config.parent, code=code))["data"]

    @contextmanager
    def _thief(self) -> Generator[psycopg.Connection]:
        """Hold a session that began with the leaked password."""
        with self._connect() as session:
            yield session

    def _connect(self) -> psycopg.Connection:
        host, port = self._server.host, self._server.port
        return psycopg.connect(
            host=host, port=port, dbname="shop", user="shop_app", password=self._password
        )

    def _logs_in(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    @staticmethod
    def _is_over(session: psycopg.Connection) -> bool:
        try:
            _ = session.execute("SELECT 1")
        except psycopg.Error:
            return True
        return False

    @contextmanager
    def _scene(self, title: str) -> Generator[Scene]:
        with scene_of(self._report.scenes, self._tell, title) as scene:
            yield scene


def _run(command: list[str], folder: Path, *, code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != code:
        what = f"{' '.join(command[:6])} exited with {done.returncode}: {done.stderr[-500:]}"
        raise RotatorError(what)
    return done.stdout
