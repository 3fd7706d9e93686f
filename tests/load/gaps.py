"""How long single-user leaves an application outside: `make gaps`.

A login's password is changed in place again and again, most times beside a trouble that a real
server knows: its connections are used up, a probe fails, a lock or a backup is held, users cannot
be saved. A client tries what the backend serves without a pause. Each rotation's gap is the longest
time in which the server refused the served password; the undisturbed ones are the measure.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator import logs
from rotator.bootstrap import App, initialise, open_app
from rotator.core.errors import Parked, RotatorError
from rotator.testing.postgres import ScratchPostgres
from tests.load.chaos import serves
from tests.load.chaos_targets import PostgresChaosTarget, chaos_target_of
from tests.load.programs import end_in_order, scratch_folder
from tests.load.troubles import postgres_troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from multiprocessing.process import BaseProcess
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from rotator.api import Credential
    from tests.load.chaos_targets import ChaosTarget, Line
    from tests.load.troubles import Trouble

_CONFIG: Final = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
  shop: {target}
policies:
  default: {{grace: 0s, step_timeout: 2s, retry: {{attempts: 3, backoff: 50ms, backoff_cap: 1s}}}}
secrets:
  single: {{target: shop, backend: local, strategy: single-user, options: {options}}}
"""
# Of refused logins: a wrong password, and nothing else.
_WRONG_PASSWORD: Final = (
    "password authentication failed",
    "Access denied",
    "invalid username-password",
)
_QUIET: Final = "undisturbed"


@dataclass(slots=True, kw_only=True)
class GapReport:
    """Milliseconds by trouble, and how the rotations ended."""

    plugin: str
    seed: int
    rotations: int = 0
    logins: int = 0
    gaps_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    longest_ratio: float = 0.0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the longest gap of all is at most three undisturbed ones."""
        return self.longest_ratio <= 3


class Applicant:
    """A client that logs in without a pause, and knows how long it was refused.

    It is a process of its own: as a thread it would take the interpreter from the engine, and the
    gap would be its own doing.
    """

    def __init__(self, connect: Callable[[Credential], Line], config: Path) -> None:
        """`connect` raises the driver's error where it is refused."""
        context = get_context("fork")
        self._stop: Event = context.Event()
        self._longest: Synchronized[float] = context.Value("d", 0.0)
        self._logins: Synchronized[int] = context.Value("L", 0)
        self._process: BaseProcess = context.Process(
            target=self._work, args=(connect, config), daemon=True
        )

    def __enter__(self) -> Applicant:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join()

    @property
    def logins(self) -> int:
        """How often it got in."""
        return self._logins.value

    def take(self) -> float:
        """Return the longest gap in seconds since the last call."""
        with self._longest.get_lock():
            longest, self._longest.value = self._longest.value, 0.0
        return longest

    def _work(self, connect: Callable[[Credential], Line], config: Path) -> None:
        with open_app(config, face="gaps-client") as app:
            since: float | None = None
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    connect(serves(app, "single")).close()
                except Exception as error:  # noqa: BLE001 # told apart by its text, as a test may
                    if any(one in str(error) for one in _WRONG_PASSWORD):
                        since = since or begun
                        self._note(since)
                        continue
                else:
                    self._logins.value += 1
                if since is not None:
                    self._note(since)
                    since = None

    def _note(self, since: float) -> None:
        with self._longest.get_lock():
            self._longest.value = max(self._longest.value, time.monotonic() - since)


def run(plugin: str, rotations: int, seed: int, target: str | None = None) -> GapReport:
    """Rotate `rotations` times, every third time undisturbed."""
    logs.set_up(level="off")
    chance, begun = random.Random(seed), time.monotonic()
    report = GapReport(plugin=plugin, seed=seed, rotations=rotations)
    gaps: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-gaps-"))
        server = stack.enter_context(ScratchPostgres()) if plugin == "postgresql" else None
        chaos_target = stack.enter_context(
            PostgresChaosTarget(server) if server else chaos_target_of(plugin, target)
        )
        (folder / "admin-password").touch(mode=0o600)
        (folder / "admin-password").write_text(chaos_target.password)
        options, troubles = _PREPARED[plugin](chaos_target)
        config = folder / "rotator.yaml"
        initialise(config, _CONFIG.format(target=chaos_target.target, options=options))
        app = stack.enter_context(open_app(config, face="gaps"))
        secret = app.secret("single")
        assert app.engine.rotate(secret).published

        def served() -> Credential:
            return serves(app, "single")

        client = stack.enter_context(Applicant(chaos_target.connect, config))
        while not client.logins:
            time.sleep(0.01)
        for turn in range(rotations):
            name = chance.choice(sorted(troubles)) if turn % 3 else _QUIET
            with troubles[name](served()) if name in troubles else nullcontext():
                ended = _rotate(app)
            again = _rotate(app) if app.journal.open_rotation("single") else None
            time.sleep(0.01)
            gaps.setdefault(name, []).append(client.take() * 1000)
            counted = report.outcomes.setdefault(name, {})
            for one in (ended, again):
                if one is not None:
                    counted[one] = counted.get(one, 0) + 1
        report.logins = client.logins
    undisturbed = [gap for gap in gaps[_QUIET] if gap]
    middle = statistics.median(undisturbed) if undisturbed else 0.0
    for name, found in sorted(gaps.items()):
        report.gaps_ms[name] = {
            "rotations": len(found),
            "median": round(statistics.median(found), 1),
            "longest": round(max(found), 1),
        }
    longest = max(max(found) for found in gaps.values())
    report.longest_ratio = round(longest / middle, 2) if middle else float("inf")
    report.seconds = round(time.monotonic() - begun, 1)
    return report


def _rotate(app: App) -> str:
    secret = app.secret("single")
    try:
        if app.journal.open_rotation("single"):
            result = app.engine.resume(secret)
        else:
            result = app.engine.rotate(secret)
    except Parked:
        app.engine.unpark(secret, reason="the trouble is over")
        return "parked"
    except RotatorError as error:
        return error.kind
    if result is None:
        return "nothing"
    if result.parked:
        app.engine.unpark(secret, reason="the trouble is over")
        return "parked"
    return str(
        result.outcome or f"waiting: {result.error.kind if result.error else result.waiting}"
    )


# -- what each server knows of troubles --------------------------------------------------------------


def _of_postgres(
    chaos_target: ChaosTarget,
) -> tuple[str, Mapping[str, Callable[[Credential], Any]]]:
    assert isinstance(chaos_target, PostgresChaosTarget)
    server = chaos_target.server
    with server.connect("shop") as admin:
        admin.execute("CREATE TABLE probed (id int)")
        admin.execute("GRANT SELECT ON probed TO PUBLIC")

    def sql(statement: str, database: str = "shop") -> None:
        with server.connect(database) as admin:
            admin.execute(statement.encode())

    @contextmanager
    def used_up(limited: str, served: Credential) -> Generator[None]:
        with ExitStack() as pool:
            for _ in range(3):
                line = chaos_target.connect(served)
                pool.callback(line.close)
            sql(f"ALTER {limited} CONNECTION LIMIT 3")
            try:
                yield
            finally:
                sql(f"ALTER {limited} CONNECTION LIMIT -1")

    @contextmanager
    def probe_fails(_: Credential) -> Generator[None]:
        sql("ALTER TABLE probed RENAME TO gone")
        try:
            yield
        finally:
            sql("ALTER TABLE gone RENAME TO probed")

    others = postgres_troubles(server)
    return (
        '{username: single, group: app_owner, login_dbname: shop, probes: ["SELECT 1 FROM probed"]}',
        {
            "login's connections used up": lambda served: used_up("ROLE single", served),
            "database's connections used up": lambda served: used_up("DATABASE shop", served),
            "probe fails": probe_fails,
            "catalog locked": lambda _: _released(others["catalog locked"]),
            "standby away": lambda _: _released(others["standby away"]),
        },
    )


def _of_mysql(chaos_target: ChaosTarget) -> tuple[str, Mapping[str, Callable[[Credential], Any]]]:
    server: Any = getattr(chaos_target, "server")  # noqa: B009 # MariaDB's and MySQL's chaos_targets have one
    server.run("CREATE TABLE shop.probed (id int)")

    @contextmanager
    def used_up(served: Credential) -> Generator[None]:
        with ExitStack() as pool:
            for _ in range(3):
                line = chaos_target.connect(served)
                pool.callback(line.close)
            server.run("ALTER USER single@'%' WITH MAX_USER_CONNECTIONS 3")
            try:
                yield
            finally:
                server.run("ALTER USER single@'%' WITH MAX_USER_CONNECTIONS 90")

    @contextmanager
    def probe_fails(_: Credential) -> Generator[None]:
        server.run("RENAME TABLE shop.probed TO shop.gone")
        try:
            yield
        finally:
            server.run("RENAME TABLE shop.gone TO shop.probed")

    others = chaos_target.troubles()
    return (
        '{username: single, like: model, probes: ["SELECT 1 FROM shop.probed"]}',
        {
            "login's connections used up": used_up,
            "probe fails": probe_fails,
            **{name: lambda _, name=name: _released(others[name]) for name in others},
        },
    )


def _of_valkey(chaos_target: ChaosTarget) -> tuple[str, Mapping[str, Callable[[Credential], Any]]]:
    server: Any = getattr(chaos_target, "server")  # noqa: B009 # as above
    others = chaos_target.troubles()

    @contextmanager
    def cannot_save(_: Credential) -> Generator[None]:
        file = Path(server.client().config_get("aclfile")["aclfile"])
        kept = file.read_text()
        file.unlink()
        # A folder cannot be replaced by a file.
        file.mkdir()
        (file / "in-the-way").touch()
        try:
            yield
        finally:
            (file / "in-the-way").unlink()
            file.rmdir()
            file.write_text(kept)

    @contextmanager
    def no_connection_left(_: Credential) -> Generator[None]:
        admin = server.client()
        admin.config_set("maxclients", admin.info("clients")["connected_clients"])
        try:
            yield
        finally:
            admin.config_set("maxclients", 10_000)
            admin.close()

    @contextmanager
    def probe_fails(_: Credential) -> Generator[None]:
        server.run("ACL SETUSER", "single", "-exists")
        try:
            yield
        finally:
            server.run("ACL SETUSER", "single", "+exists")

    server.run("ACL SETUSER", "model", "allkeys", "+exists")
    return (
        '{username: single, like: model, probes: ["EXISTS probed"]}',
        {
            "users cannot be saved": cannot_save,
            "no free connection": no_connection_left,
            "probe fails": probe_fails,
            **{name: lambda _, name=name: _released(others[name]) for name in others},
        },
    )


@contextmanager
def _released(trouble: Trouble) -> Generator[None]:
    """Hold it for a moment that ends within the rotation's retries, as a backup's lock may."""
    ready, stop = threading.Event(), threading.Event()

    def hold() -> None:
        with trouble():
            ready.set()
            _ = stop.wait(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    _ = ready.wait(10)
    try:
        yield
    finally:
        stop.set()
        holder.join()


_PREPARED: Final = {
    "postgresql": _of_postgres,
    "mysql": _of_mysql,
    "valkey": _of_valkey,
}


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--plugin", choices=list(_PREPARED), default="postgresql")
    parser.add_argument("--server", choices=["mariadb", "mysql"], help="of the plugin mysql")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    report = run(given.plugin, given.rotations, seed, given.server)
    print(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))
    sys.exit(not report.ok)


if __name__ == "__main__":
    end_in_order()
    main()
