"""The demo's scenes, in their order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.bootstrap import initialise, open_app
from rotator.client import Credential
from rotator.core.errors import RotatorError
from rotator.core.history import newest_step
from rotator.core.model import Outcome, Step
from rotator.demo.client import Client, PostgresLine
from rotator.demo.console import console
from rotator.demo.library import BackendSource, LibraryLine, PooledLine, pool_of
from rotator.demo.report import DemoReport, Scene
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.bootstrap import App
    from rotator.core.model import Credential as StoredCredential
    from rotator.core.model import Version
    from rotator.demo.console import Visit
    from rotator.engine import Result

_ROUNDS: Final = 3
_PATIENCE: Final = timedelta(seconds=30)
_QUERY: Final = "INSERT INTO orders (item) VALUES ('tea') RETURNING (SELECT count(*) FROM orders)"
_TABLES: Final = """
CREATE ROLE shop_owner NOLOGIN;
CREATE TABLE orders (id bigserial PRIMARY KEY, item text NOT NULL, at timestamptz DEFAULT now());
ALTER TABLE orders OWNER TO shop_owner;
CREATE ROLE batch_owner NOLOGIN;
GRANT shop_owner TO batch_owner;
"""
# What each chapter's configuration begins with.
_HEAD: Final = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
  shop:
    plugin: postgresql
    host: {host}
    port: {port}
    dbname: shop
    admin: {{username: postgres, password: "file:admin-password"}}
"""
# The grace period is a day in earnest; here it is a second.
_CONFIG: Final = """\
policies:
  default:
    every: 30d
    grace: 500ms
    drain: {{wait: 5s, then: terminate, poll: 200ms}}
    retry: {{attempts: 3, backoff: 50ms}}
consumers:
  pool: {{gate: hold}}
secrets:
  pool:
    target: shop
    backend: local
    strategy: new-user
    options: {{group: shop_owner}}
    policy: {{grace: until-acknowledged}}
    consumers: [pool]
  web:
    target: shop
    backend: local
    strategy: new-user
    options:
      group: shop_owner
      privileges: ["table public.orders: SELECT, INSERT"]
      probes: ["SELECT count(*) FROM orders"]
  batch:
    target: shop
    backend: local
    strategy: alternating-users
    options: {{group: shop_owner, users: [batch_a, batch_b]}}
  legacy:
    target: shop
    backend: local
    strategy: single-user
    options: {{username: legacy, group: shop_owner}}
  greedy:
    target: shop
    backend: local
    strategy: new-user
    options: {{group: batch_owner, privileges: ["table public.payroll: SELECT"]}}
"""
# The roles that are there to stay: groups, and the two users that take turns.
_STANDING: Final = ("postgres", "shop_owner", "batch_owner", "batch_a", "batch_b")
SECRETS: Final = {"new-user": "web", "alternating-users": "batch", "single-user": "legacy"}


def play(tell: Callable[[Scene], None], visit: Visit | None = None) -> DemoReport:
    """Run the demo. `tell` hears of each scene as it ends; with `visit`, it can be seen in a browser.

    Leaves nothing behind.
    """
    report, begun = DemoReport(), time.monotonic()
    with leaving_when_told() as leave, ExitStack() as stack:

        def tell_and_leave(scene: Scene) -> None:
            tell(scene)
            leave()

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rotator-demo-")))
        with _scene(
            report, tell_and_leave, "A real PostgreSQL, every login asked for its password"
        ) as scene:
            server = stack.enter_context(ScratchPostgres(settings={"log_statement": "all"}))
            with server.connect() as admin:
                _ = admin.execute("CREATE DATABASE shop")
                row = admin.execute("SHOW server_version").fetchone()
            report.server = f"PostgreSQL {row[0]}" if row else "PostgreSQL"
            with server.connect("shop") as admin:
                _ = admin.execute(_TABLES.encode())
            scene.said = (
                f"{report.server} on {server.host}:{server.port}, pg_hba.conf: scram-sha-256"
            )
        section = visit.section if visit is not None else ""
        config = configure(folder, server, _CONFIG + section)
        app = stack.enter_context(open_app(config, face="demo"))
        if visit is not None:
            stack.enter_context(console(config, visit))
        _play(app, config, server, report, tell_and_leave)
        report.seconds = time.monotonic() - begun
        if visit is not None:
            visit.ended(report)
    return report


def _play(
    app: App,
    config: Path,
    server: ScratchPostgres,
    report: DemoReport,
    tell: Callable[[Scene], None],
) -> None:
    passwords: list[StoredCredential] = []
    with _scene(report, tell, "First credentials") as scene:
        for name in SECRETS.values():
            _count(report, app.engine.rotate(app.secret(name), reason="demo"))
            passwords.append(_serves(app, name))
        scene.said = ", ".join(
            f"{name}: {_serves(app, name).username}" for name in SECRETS.values()
        )
    _grant_single(server)
    for strategy, name in SECRETS.items():
        connect = partial(PostgresLine, server, _QUERY, strategy)
        client = Client(strategy, connect, lambda name=name: _serves(app, name))
        report.clients.append(client.report)
        with client, _beside(app, server, report, strategy, name) as library:
            _wait_for(lambda client=client: client.report.logins > 5)  # noqa: PLR2004 # it is at work
            with _scene(report, tell, f"{_ROUNDS} rotations, strategy {strategy}") as scene:
                for _ in range(_ROUNDS):
                    _count(
                        report,
                        app.engine.rotate(app.secret(name), reason="demo", patience=_PATIENCE),
                    )
                    passwords.append(_serves(app, name))
                scene.said = (
                    f"{client.report.logins} logins meanwhile, {client.report.failures} refused"
                )
                if library is not None:
                    seen = library.report
                    scene.said += (
                        f"; with the client library {seen.logins} logins, {seen.failures} errors"
                    )
            if strategy == "new-user":
                _rollback(app, name, report, tell)
                _kill(app, config, name, report, tell)
                passwords.append(_serves(app, name))
            _wait_for(
                lambda client=client, seen=client.report.logins: client.report.logins > seen + 5
            )
    _pooled(app, server, report, tell, passwords)
    _refused(app, report, tell)
    with _scene(report, tell, "What is left on the server") as scene:
        in_use = (*SECRETS.values(), "pool")
        expected = {*_STANDING, *(_serves(app, name).username for name in in_use)}
        report.orphans = sorted(_roles(server) - expected)
        scene.ok = not report.orphans
        scene.said = "no login but those in use" if scene.ok else ", ".join(report.orphans)
    with _scene(report, tell, "The server's own log, with log_statement=all") as scene:
        log = server.log_text()
        found = sum(one.password.reveal() in log for one in passwords)
        report.password_in_server_log = bool(found)
        scene.said = (
            f"{len(passwords)} passwords looked for in {len(log) // 1024} KiB: {found} found"
        )
        scene.ok = not found
    with _scene(report, tell, "The journal") as scene:
        _ = app.checkpoint()
        audited = app.verify_journal()
        report.audit_events, report.audit_ok = audited.events, audited.ok
        report.audit_checkpoints = audited.checkpoints
        scene.ok = audited.ok
        scene.said = f"{audited.events} events in {audited.secrets} chains, signed and verified"


@contextmanager
def _beside(
    app: App, server: ScratchPostgres, report: DemoReport, strategy: str, name: str
) -> Generator[Client | None]:
    """Let a second application, with the client library, use a login that has no overlap."""
    if strategy != "single-user":
        yield None
        return
    credential = Credential(BackendSource(lambda: _current(app, name)))
    client = Client(
        f"{strategy} with the client library",
        partial(LibraryLine, credential, server, _QUERY),
        lambda: _serves(app, name),
        Exception,
    )
    report.clients.append(client.report)
    with closing(credential), client:
        _wait_for(lambda: client.report.logins > 5)  # noqa: PLR2004 # it is at work
        yield client


def _pooled(
    app: App,
    server: ScratchPostgres,
    report: DemoReport,
    tell: Callable[[Scene], None],
    passwords: list[StoredCredential],
) -> None:
    with _scene(report, tell, "A pool that nobody restarts; proof ends the grace period") as scene:
        _count(report, app.engine.rotate(app.secret("pool"), reason="demo"))
        passwords.append(_serves(app, "pool"))
        credential = Credential(BackendSource(lambda: _current(app, "pool")))
        with closing(credential), pool_of(credential, server, "pool") as pool:
            connect = partial(PooledLine, pool, _QUERY)
            client = Client("pool", connect, lambda: _serves(app, "pool"), Exception)
            report.clients.append(client.report)
            with client:
                _wait_for(lambda: client.report.logins > 5)  # noqa: PLR2004 # it is at work
                result = app.engine.rotate(app.secret("pool"), reason="demo", patience=_PATIENCE)
                _count(report, result)
                passwords.append(_serves(app, "pool"))
        rotation = app.journal.rotations("pool", 1)[0]
        scene.ok = result.outcome is Outcome.DONE and not client.report.failures
        took = (
            (rotation.ended_at - rotation.published_at).total_seconds()
            if rotation.ended_at and rotation.published_at
            else 0.0
        )
        scene.said = (
            f"{client.report.logins} queries, {client.report.failures} errors; the old login was"
            f" revoked {took:.1f} s after publish, not 24 h"
        )


def _rollback(app: App, name: str, report: DemoReport, tell: Callable[[Scene], None]) -> None:
    with _scene(report, tell, "Second thoughts: a rollback during the grace period") as scene:
        before = _serves(app, name)
        _count(report, app.engine.rotate(app.secret(name), reason="demo"))
        between = _serves(app, name)
        result = app.engine.rollback(app.secret(name), reason="demo", patience=_PATIENCE)
        _count(report, result)
        after = _serves(app, name)
        scene.ok = (
            result.outcome is Outcome.ROLLED_BACK
            and after.username == before.username != between.username
        )
        scene.said = f"{before.username} → {between.username} → {after.username}"


def _kill(
    app: App, config: Path, name: str, report: DemoReport, tell: Callable[[Scene], None]
) -> None:
    with _scene(report, tell, "A rotation killed by SIGKILL half-way, then resumed") as scene:
        before = {one.id for one in app.journal.rotations(name)}
        command = [sys.executable, "-m", "rotator", "-c", str(config), "rotate", name, "--json"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            stopped_in = _kill_after(app, name, process, Step.CREATE)
        finally:
            if process.poll() is None:
                process.kill()
            _ = process.wait()
        result = app.engine.resume(app.secret(name), patience=_PATIENCE)
        if result is None:
            # It was done before the signal arrived: no harm, but nothing was shown either.
            scene.ok, scene.said = False, "it was faster than the signal"
            return
        _count(report, result)
        report.resumed += 1
        new = [one for one in app.journal.rotations(name) if one.id not in before]
        scene.ok = result.outcome is Outcome.DONE and len(new) == 1
        scene.said = f"killed in step {stopped_in}, then resumed: {result.outcome}"


def _kill_after(app: App, name: str, process: subprocess.Popen[bytes], step: Step) -> str:
    """Kill the process as soon as the journal shows that it is at or past a step."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if _open_at(app, name) not in (None, Step.STAGE):
            process.send_signal(signal.SIGKILL)
            _ = process.wait()
            return str(_open_at(app, name) or step)
        time.sleep(0.0005)
    return "nothing"


def _open_at(app: App, name: str) -> Step | None:
    opened = app.journal.open_rotation(name)
    last = newest_step(app.journal.history(opened.id)) if opened is not None else None
    return last.step if last is not None else None


def _refused(app: App, report: DemoReport, tell: Callable[[Scene], None]) -> None:
    with _scene(report, tell, "A login that could not do its work is never published") as scene:
        try:
            result = app.engine.rotate(app.secret("greedy"), reason="demo", patience=_PATIENCE)
        except RotatorError as error:
            scene.ok, scene.said = False, error.what
            return
        report.undone += 1
        scene.ok = result.outcome is Outcome.UNDONE and not result.published
        said = result.error.what if result.error else ""
        scene.said = f"refused before publish, and undone: {said.rpartition(': ')[2] or said}"


# -- helpers -----------------------------------------------------------------------------------


def configure(folder: Path, server: ScratchPostgres, text: str) -> Path:
    """Write a configuration with its keys, and the file of the admin's password."""
    password = folder / "admin-password"
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        _ = file.write(server.superuser_password)
    config = folder / "rotator.yaml"
    initialise(config, (_HEAD + text).format(host=server.host, port=server.port))
    return config


def _grant_single(server: ScratchPostgres) -> None:
    # A single user acts as itself: it has the rights of the group by membership.
    with server.connect("shop") as admin:
        _ = admin.execute("GRANT shop_owner TO legacy")


def _current(app: App, name: str) -> Version | None:
    chosen = app.settings.secret(name)
    return app.backend(chosen.backend).current(chosen.path)


def _serves(app: App, name: str) -> StoredCredential:
    current = _current(app, name)
    if current is None:
        raise RotatorError(f"the backend holds nothing for {name}.")
    return current.credential


def _roles(server: ScratchPostgres) -> set[str]:
    with server.connect() as admin:
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").fetchall()
    return {str(row[0]) for row in found}


def _count(report: DemoReport, result: Result) -> None:
    if result.outcome is Outcome.ROLLED_BACK:
        report.rolled_back += 1
    elif result.published:
        report.rotations += 1
    if result.outcome in (Outcome.DONE, Outcome.ROLLED_BACK) and result.old_login is not None:
        report.old_revoked += 1
        report.old_refused += bool(result.old_refused)
    if result.error is not None:
        raise result.error


def _wait_for(reached: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)


@contextmanager
def _scene(report: DemoReport, tell: Callable[[Scene], None], title: str) -> Generator[Scene]:
    with scene_of(report.scenes, tell, title) as scene:
        yield scene


@contextmanager
def scene_of(scenes: list[Scene], tell: Callable[[Scene], None], title: str) -> Generator[Scene]:
    """Time one scene, and add it to the others."""
    scene, begun = Scene(title=title, said="", ok=True), time.monotonic()
    yield scene
    scene.seconds = time.monotonic() - begun
    scenes.append(scene)
    tell(scene)


@contextmanager
def leaving_when_told() -> Generator[Callable[[], None]]:
    """Leave on Ctrl-C and SIGTERM, through all the cleaning up. Yields what leaves if it was told to.

    An interrupt may strike inside a library that swallows it or fails by it; whatever comes of
    that, it ends as an interrupt.
    """
    told: list[int] = []

    def leave(number: int = 0, _frame: object = None) -> None:
        if number:
            told.append(number)
        if told[:1] == [signal.SIGINT]:
            raise KeyboardInterrupt
        if told:
            sys.exit(128 + told[0])

    before = {one: signal.signal(one, leave) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield leave
    except Exception:
        leave()
        raise
    finally:
        for one, handler in before.items():
            _ = signal.signal(one, handler)
