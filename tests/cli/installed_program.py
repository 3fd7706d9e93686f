"""The real program over a real PostgreSQL, in this process or as one of its own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from rotator.bootstrap import open_app
from rotator.faces.cli import program
from tests.cli.conftest import Outcome, check_lines

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.bootstrap import App
    from rotator.testing.postgres import ScratchPostgres

ADMIN_PASSWORD = "admin-password-of-the-tests"
APP_PASSWORD = "first-password-of-the-app"

_ROLES = f"""
    CREATE ROLE rotator_admin LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}';
    CREATE ROLE weak_admin LOGIN PASSWORD '{ADMIN_PASSWORD}';
    CREATE ROLE app LOGIN PASSWORD '{APP_PASSWORD}';
    CREATE ROLE stranger_a LOGIN PASSWORD 'not-ours-at-all';
    GRANT app TO rotator_admin WITH ADMIN OPTION;
    CREATE TABLE orders (id int);
    ALTER TABLE orders OWNER TO app;
"""
_SECTIONS = """
    policies:
      default: {{every: 30d, grace: {grace}, retry: {{attempts: 2, cycles: 2, backoff: 10ms, backoff_cap: 20ms}}}}
    targets:
      main:
        plugin: postgresql
        host: {host}
        port: {port}
        admin: {{username: {admin}, password: "env:ROTATOR_ADMIN_PASSWORD"}}
    secrets:
      app:
        target: main
        backend: local
        strategy: new-user
        options: {{group: app, probes: ["SELECT count(*) FROM orders"]}}
        tags: [prod]
      taken:
        target: main
        backend: local
        strategy: alternating-users
        options: {{group: app, users: [stranger_a, stranger_b]}}
"""


def prepare(server: ScratchPostgres) -> None:
    """Make the roles that an application and its administrator have."""
    with server.connect() as admin:
        admin.execute(_ROLES.encode())


@dataclass(slots=True, kw_only=True)
class Real:
    """A folder with a configuration, and `rotator` as a process in it."""

    folder: Path
    server: ScratchPostgres
    environ: dict[str, str] = field(
        default_factory=lambda: {
            **{key: one for key, one in os.environ.items() if key != "ROTATOR_CONFIG"},
            "ROTATOR_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "APP_PASSWORD": APP_PASSWORD,
            "COLUMNS": "100",
        }
    )

    def __call__(self, *arguments: str, code: int = 0, process: bool = False) -> Outcome:
        """Run `rotator ARGUMENTS`; `process`: as a process of its own, not in this one."""
        outcome = self._process(arguments, "") if process else self._call(arguments)
        return self._checked(outcome, arguments, code)

    def limited(self, *arguments: str, code: int) -> Outcome:
        """Run it as a process that cannot write to any file, as on a full disk."""
        return self._checked(self._process(arguments, "ulimit -f 0;"), arguments, code)

    def _process(self, arguments: tuple[str, ...], before: str) -> Outcome:
        command = ["sh", "-c", f'{before} exec "$@"', "sh", *self.command(*arguments)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def _call(self, arguments: tuple[str, ...]) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            chdir(self.folder),
            mock.patch.dict(os.environ, self.environ, clear=True),
            pytest.raises(SystemExit) as left,
        ):
            program.run(list(arguments))
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, out.getvalue(), err.getvalue())

    @staticmethod
    def _checked(outcome: Outcome, arguments: tuple[str, ...], code: int) -> Outcome:
        assert outcome.code == code, outcome
        assert "Traceback" not in outcome.err
        check_lines(outcome)
        for secret in (ADMIN_PASSWORD, APP_PASSWORD):
            assert "--reveal" in arguments or secret not in outcome.out + outcome.err
        return outcome

    def json(self, *arguments: str, code: int = 0, process: bool = False) -> Outcome:
        """Run it with `--json`; check the answer's shape."""
        outcome = self(*arguments, "--json", code=code, process=process)
        assert outcome.answer["ok"] is (code == 0)
        return outcome

    def open(self) -> App:
        """Open what the commands work on."""
        with mock.patch.dict(os.environ, self.environ, clear=True):
            return open_app(self.folder / "rotator.yaml", face="test")

    def start(self, *arguments: str, **given: Any) -> subprocess.Popen[str]:
        """Start it and go on."""
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.environ, text=True, **given
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the real program."""
        return [sys.executable, "-m", "rotator", *arguments]

    def configure(
        self, *, admin: str = "rotator_admin", grace: str = "1h", **given: object
    ) -> None:
        """Fill in what `init` wrote, as a person would with an editor."""
        config = self.folder / "rotator.yaml"
        kept = re.sub(r"(?m)^(targets|secrets|policies):\n(?:[ #].*\n|\n)*", "", config.read_text())
        place = {"host": self.server.host, "port": self.server.port, **given}
        config.write_text(
            kept + textwrap.dedent(_SECTIONS.format(admin=admin, grace=grace, **place))
        )

    def roles(self) -> list[tuple[Any, ...]]:
        """Return everything that the server knows of its roles, and who is a member of which."""
        with self.server.connect() as admin:
            return admin.execute(
                "SELECT rolname, rolcanlogin, rolpassword, rolconfig, rolconnlimit,"
                " (SELECT array_agg(member::regrole::text ORDER BY 1) FROM pg_auth_members m"
                "  WHERE m.roleid = a.oid) FROM pg_authid a LEFT JOIN LATERAL"
                " (SELECT setconfig AS rolconfig FROM pg_db_role_setting s WHERE s.setrole = a.oid"
                " LIMIT 1) s ON true ORDER BY rolname"
            ).fetchall()
