"""A daemon, an agent, an exec and an application, each a process of its own, on a real PostgreSQL.

What reaches the application is what the daemon announced: nothing here reads again by itself within an hour.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from rotator.bootstrap import initialise, open_app
from rotator.core.model import Kind, Step
from rotator.testing.guard import Guard
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.scratch import free_port
from tests.load.chaos_targets import PostgresChaosTarget
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from datetime import datetime
    from pathlib import Path

    from rotator.bootstrap import App

_ROTATOR: Final = (sys.executable, "-m", "rotator")
_CONFIG: Final = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
  vault: {{type: vault, address: "{vault}", auth: {{token: "file:vault-token"}}}}
  aws: {{type: aws, region: eu-central-1, endpoint: "{aws}"}}
targets:
  shop: {target}
consumers:
  web: {{instances: 1, gate: hold, token: "file:web-token"}}
policies:
  default: {{grace: until-acknowledged, drain: {{wait: 20s, poll: 20ms}}}}
daemon:
  reports: {{listen: "127.0.0.1:{port}"}}
defaults: {{target: shop, strategy: new-user, options: {{group: app_owner}}, consumers: [web]}}
secrets:
  in-local: {{backend: local}}
  in-vault: {{backend: vault}}
  in-aws: {{backend: aws}}
"""
_AGENT: Final = """\
version: 1
backend: {backend}
refresh: 1h
daemon: {{url: "http://127.0.0.1:{port}", token: "file:web-token"}}
secrets:
  {name}:
    sinks:
      - file: {name}.json
        format: json
        check: [{python}, {application}, {name}.json]
"""
# Logs in with what the file holds, as an application does that reads it for each connection.
_APPLICATION: Final = """\
import json, sys, psycopg
login = json.load(open(sys.argv[1]))
psycopg.connect({place!r}, user=login["username"], password=login["password"]).close()
"""
# Logs in with what its environment holds, and says so; as long as it runs.
_CHILD: Final = """\
import os, sys, time, psycopg
psycopg.connect({place!r}).close()
with open(sys.argv[1], "a") as log:
    log.write(os.environ["PGUSER"] + "\\n")
time.sleep(300)
"""
_ENVIRONMENT: Final = {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
# The promise is two seconds; the machine that runs the tests may be busy.
_PATIENCE: Final = 60.0


class _Site:
    """A folder with rotator.yaml, a daemon that runs, and agent.yaml for each backend."""

    def __init__(self, folder: Path, app: App, place: str, bao: ScratchOpenBao) -> None:
        self.folder: Path = folder
        self.app: App = app
        self.place: str = place
        self.bao: ScratchOpenBao = bao

    def rotate(self, name: str) -> str:
        """Ask the daemon for a rotation; return the login that is then served."""
        before = self.app.secret(name).backend.current(name)
        run = [*_ROTATOR, "request", "rotate", name, "--reason", "a test"]
        _ = subprocess.run(run, cwd=self.folder, check=True, capture_output=True)
        self.wait(lambda: self.current(name) not in (None, before and before.credential.username))
        return self.current(name) or ""

    def current(self, name: str) -> str | None:
        found = self.app.secret(name).backend.current(name)
        return None if found is None else found.credential.username

    def wait(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + _PATIENCE
        while not is_so():
            assert time.monotonic() < ends, (self.folder / "daemon.log").read_text()[-3000:]
            time.sleep(0.02)

    def published(self, name: str) -> datetime:
        """Return when the newest version was published, by the journal."""
        events = self.app.journal.events(name)
        return max(
            one.at for one in events if (one.kind, one.step) == (Kind.FINISHED, Step.PUBLISH)
        )

    def has_revoked(self, name: str) -> bool:
        events = self.app.journal.events(name)
        return bool(events) and events[-1].kind is Kind.ENDED

    @contextmanager
    def running(self, *arguments: str, log: str) -> Generator[subprocess.Popen[bytes]]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [*_ROTATOR, *arguments],
                cwd=self.folder,
                env=os.environ | _ENVIRONMENT,
                stdout=output,
                stderr=output,
            )
        guard = Guard(self.folder)
        guard.watch(process.pid)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                _ = process.wait(30)
            finally:
                process.kill()
                _ = process.wait()
                guard.release()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Site]:
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        server = stack.enter_context(ScratchPostgres())
        target = stack.enter_context(PostgresChaosTarget(server))
        bao = stack.enter_context(ScratchOpenBao())
        aws = stack.enter_context(SecretsManager())
        port = free_port()
        for file, text in {
            "admin-password": target.password,
            "vault-token": bao.root_token,
            "web-token": "of-the-web-application-0123456789",
        }.items():
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(text)
        place = f"host={server.host} port={server.port} dbname=shop"
        (folder / "application.py").write_text(_APPLICATION.format(place=place))
        (folder / "child.py").write_text(_CHILD.format(place=place))
        config = folder / "rotator.yaml"
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        initialise(
            config,
            _CONFIG.format(vault=bao.address, aws=aws.endpoint, target=target.target, port=port),
        )
        backends = {
            "local": '{type: local, path: secrets.db, key: "file:rotator.key"}',
            "vault": f'{{type: vault, address: "{bao.address}", auth: {{token: "file:vault-token"}}}}',
            "aws": f'{{type: aws, region: eu-central-1, endpoint: "{aws.endpoint}"}}',
        }
        for name, backend in backends.items():
            text = _AGENT.format(
                backend=backend,
                port=port,
                name=f"in-{name}",
                python=sys.executable,
                application="application.py",
            )
            (folder / f"{name}.yaml").write_text(text)
        app = stack.enter_context(open_app(config, face="test"))
        made = _Site(folder, app, place, bao)
        stack.enter_context(made.running("daemon", log="daemon.log"))
        yield made


@pytest.mark.parametrize(
    "backend",
    ["local", *(pytest.param(one, marks=pytest.mark.slow) for one in ("vault", "aws"))],
)
def test_a_version_reaches_file_and_child_as_the_daemon_announces_it(site: _Site, backend: str):
    """Both log in with it, and the agent's check is the acknowledgement that ends the grace period."""
    name = f"in-{backend}"
    first = site.rotate(name)
    file, log = site.folder / f"{name}.json", site.folder / f"{name}.log"
    agent = site.running("agent", "run", "-c", f"{backend}.yaml", log="agent.log")
    command = ("exec", "-c", f"{backend}.yaml", name, "--splay", "0s", "--")
    child = (sys.executable, "child.py", str(log))
    with agent, site.running(*command, *child, log="exec.log"):
        site.wait(lambda: _served(file) == first)
        site.wait(lambda: log.exists() and log.read_text().split() == [first])
        second = site.rotate(name)
        site.wait(lambda: _served(file) == second)
        site.wait(lambda: log.read_text().split() == [first, second])
        site.wait(lambda: site.has_revoked(name))
        for what, written in (("file", file), ("child", log)):
            seconds = written.stat().st_mtime - site.published(name).timestamp()
            print(f"{name}: used by the {what} {seconds:.2f} s after publish")
        with pytest.raises(psycopg.OperationalError), psycopg.connect(site.place, user=first):
            pass


def _served(file: Path) -> Any:
    return json.loads(file.read_text())["username"] if file.exists() else None


@pytest.mark.slow
def test_file_and_child_stay_while_the_backend_is_away(site: _Site):
    """OpenBao is sealed. They hold what they had, which logs in; once it is unsealed, the next version arrives."""
    first = site.rotate("in-vault")
    file, log = site.folder / "in-vault.json", site.folder / "away.log"
    agent = site.running("agent", "run", "-c", "vault.yaml", log="agent.log")
    command = ("exec", "-c", "vault.yaml", "in-vault", "--splay", "0s", "--")
    with agent, site.running(*command, sys.executable, "child.py", str(log), log="exec.log"):
        site.wait(lambda: _served(file) == first)
        site.wait(lambda: log.exists() and log.read_text().split() == [first])
        site.wait(lambda: site.has_revoked("in-vault"))
        site.bao.seal()
        application = [sys.executable, "application.py", "in-vault.json"]
        assert subprocess.run(application, cwd=site.folder, check=False).returncode == 0
        assert log.read_text().split() == [first]
        site.bao.unseal()
        second = site.rotate("in-vault")
        site.wait(lambda: _served(file) == second)
        site.wait(lambda: log.read_text().split() == [first, second])
        assert subprocess.run(application, cwd=site.folder, check=False).returncode == 0
