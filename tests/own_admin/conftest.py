"""A target whose admin is itself a managed secret, configured and run as an operator does it."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator import logs
from rotator.api import Credential, Secret
from rotator.backends.local import LocalBackend
from rotator.bootstrap import App, initialise, open_app
from rotator.core.model import Outcome
from rotator.journal.sql import SqlJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rotator.engine import Result
    from rotator.testing.postgres import ScratchPostgres

_CONFIG = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
{targets}
policies:
  default: {{grace: 0s, step_timeout: 10s, drain: {{wait: 0s, then: terminate, poll: 20ms}}, retry: {{attempts: 4, backoff: 20ms, backoff_cap: 50ms}}}}
secrets:
{secrets}
"""
PATIENCE = timedelta(seconds=20)
# Calls through a port of the application: before and after each of them a process may die.
_PORTS: tuple[tuple[type, str], ...] = (
    (LocalBackend, "stage"),
    (LocalBackend, "publish"),
    (LocalBackend, "discard"),
    (SqlJournal, "append"),
)


@dataclass(slots=True, kw_only=True)
class OwnAdmin:
    """One configuration. `first` is the admin before its first rotation."""

    folder: Path
    first: Credential
    name: str = "main-admin"
    statements: tuple[type, str] = (psycopg.Connection, "execute")
    logs_in: Callable[[Credential], bool] = field(default=lambda _credential: False)
    scratch_logins: Callable[[], list[str]] = field(default=list)

    @property
    def config(self) -> Path:
        return self.folder / "rotator.yaml"

    def write(self, targets: str, secrets: str) -> None:
        """Write the configuration."""
        logs.set_up(level="off")
        initialise(self.config, _CONFIG.format(targets=targets, secrets=secrets))

    def configure(self, targets: str, secrets: str) -> None:
        """Write the configuration, and adopt the admin."""
        self.write(targets, secrets)
        with self.app() as app:
            app.begin_with(self.name, self.first)
            app.engine.adopt(app.secret(self.name), first=self.first)

    def app(self) -> App:
        return open_app(self.config, face="test")

    def rotate(self, name: str | None = None, app: App | None = None) -> Result:
        """Rotate the admin, or another secret, in a process of its own or in that of `app`."""
        with ExitStack() as stack:
            app = app or stack.enter_context(self.app())
            return app.engine.rotate(app.secret(name or self.name), patience=PATIENCE)

    def held(self) -> list[Credential]:
        """Return what the backend holds of the admin: what it serves, and what is staged there."""
        with self.app() as app:
            secret = app.secret(self.name)
            current = secret.backend.current(secret.path)
            staged = (
                secret.backend.staged(secret.path, one)
                for one in secret.backend.rotation_ids(secret.path)  # pyright: ignore[reportAttributeAccessIssue]
            )
            found = [current.credential if current else None, *staged]
            return [one for one in found if one is not None]

    def count(self) -> int:
        """Rotate, and return before and after how many calls a process could have died."""
        # The first rotation of a pair creates its second login, the others do not.
        assert self.rotate().error is None
        return self._in_child(0, (*_PORTS, self.statements))

    def kill_at(self, point: int) -> None:
        """Rotate in a process that is killed by SIGKILL at this point."""
        assert self._in_child(point, (*_PORTS, self.statements)) == point

    def kill_after(self, owner: type, name: str) -> None:
        """Rotate in a process that is killed by SIGKILL once this method has done its work."""
        assert self._in_child(2, ((owner, name),)) == 2

    def expect_survival(self, points: Iterable[int]) -> None:
        """Kill a rotation at each point: the admin still logs in, and the rotation goes on by itself."""
        for point in points:
            self.kill_at(point)
            assert any(map(self.logs_in, self.held())), f"locked out at point {point}"
            finished = self.finish()
            assert finished is None or finished.outcome is Outcome.DONE, f"{point}: {finished}"
        assert self.scratch_logins() == []

    def expect_others_to_follow(self) -> None:
        """Rotate the admin twice, and the secret `shop` by another process before and after each time."""
        with self.app() as other:
            for _ in range(2):
                assert self.rotate("shop", other).error is None
                result = self.rotate()
                assert (result.outcome, result.old_refused) == (Outcome.DONE, True), result.error
            assert self.rotate("shop", other).error is None
        assert self.scratch_logins() == []

    def finish(self) -> Result | None:
        """Go on as a daemon does after a restart: nobody helps."""
        with self.app() as app:
            return app.engine.resume(app.secret(self.name), patience=PATIENCE)

    def _in_child(self, point: int, watched: Iterable[tuple[type, str]]) -> int:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            passed = itertools.count(1)

            def pass_by() -> None:
                number = next(passed)
                _ = os.write(write, b".")
                if number == point:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                for owner, name in watched:
                    setattr(owner, name, _between(pass_by, getattr(owner, name)))
                result = self.rotate()
                code = 0 if result.error is None else 1
            except BaseException:  # noqa: BLE001 # a child must not run the tests
                code = 2
            os._exit(code)
        os.close(write)
        told = b""
        while part := os.read(read, 65_536):
            told += part
        os.close(read)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) == bool(point), f"exit status {status}"
        assert point or os.WEXITSTATUS(status) == 0
        return len(told)


def _between(pass_by: Callable[[], None], call: Callable[..., Any]) -> Callable[..., Any]:
    def between(*args: Any, **given: Any) -> Any:
        pass_by()
        result = call(*args, **given)
        pass_by()
        return result

    return between


_numbers = itertools.count(1)


@pytest.fixture
def own(postgres: ScratchPostgres, tmp_path: Path) -> Iterator[OwnAdmin]:
    """A PostgreSQL target whose admin is not a superuser, and a group for applications."""
    number = next(_numbers)
    admin, group = f"admin_{number}", f"apps_{number}"
    first = Credential(username=admin, password=Secret(secrets.token_urlsafe(18)))
    with postgres.connect() as link:
        link.execute(
            f"CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD '{first.password.reveal()}'".encode()
        )
        link.execute(
            f"CREATE ROLE {group} NOLOGIN; GRANT {group} TO {admin} WITH ADMIN OPTION".encode()
        )

    def logs_in(credential: Credential) -> bool:
        try:
            postgres.connect("postgres", credential.username, credential.password.reveal()).close()
        except psycopg.OperationalError:
            return False
        return True

    def scratch_logins() -> list[str]:
        with postgres.connect() as link:
            found = link.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^rotator_proof'")
            return [name for (name,) in found.fetchall()]

    yield OwnAdmin(folder=tmp_path, first=first, logs_in=logs_in, scratch_logins=scratch_logins)
    with postgres.connect() as link:
        names = link.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ %s ORDER BY rolname DESC",
            [f"^(app_{number}|admin_{number}|apps_{number}|rotator_proof)"],
        ).fetchall()
        for (name,) in names:
            link.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())
