"""A step ends when its time is up, and the server can no longer act on it then."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret, Transient, Unavailable, Unknown
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from rotator.testing.holding_proxy import HoldingProxy
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.api import Rotation, StepContext, Target

_OLD = Credential(username="app", password=Secret("the-old-password"))
_NEW = Credential(username="app", password=Secret("the-new-password"))
_SECONDS = 2.0
# A second more than the step may last, and what a busy machine takes for it.
_MOST = _SECONDS + 1.5
_HBA = (
    "local all all scram-sha-256",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    """A server of these tests' own: it is frozen, and waits for standbys."""
    with ScratchPostgres(hba=_HBA) as made:
        yield made


@pytest.fixture
def rotation(server: ScratchPostgres) -> Iterator[Callable[..., Rotation]]:
    """Return what makes a single-user rotation of login `app`, which is there."""
    opened: list[Target] = []

    def make(**options: object) -> Rotation:
        given = {"port": server.port} | options
        admin = Credential(username=server.superuser, password=Secret(server.superuser_password))
        opened.append(PLUGIN.target("main", TargetOptions(**given), lambda: admin))  # pyright: ignore[reportArgumentType]
        return opened[-1].rotation("single-user", SecretOptions(username="app"))

    with server.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS app")
        admin.execute("CREATE ROLE app LOGIN PASSWORD 'the-old-password'")
    yield make
    for one in opened:
        one.close()


def _ctx(seconds: float = _SECONDS) -> StepContext:
    return step_context(
        secret="app",
        clock=SystemClock(),
        timeout=seconds,
        current=_OLD,
        adopted=frozenset({"app"}),
    )


def _logs_in(server: ScratchPostgres, who: Credential) -> bool:
    try:
        server.connect(user=who.username, password=who.password.reveal()).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


@contextmanager
def _stopped(server: ScratchPostgres) -> Iterator[None]:
    """Freeze every process of the server, as a suspended host would."""
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    with server.connect() as watcher:
        found = watcher.execute(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        ).fetchall()
    processes = [postmaster, *(row[0] for row in found)]
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: list[int], sign: signal.Signals) -> None:
    for one in processes:
        with suppress(ProcessLookupError):
            os.kill(one, sign)


@pytest.mark.parametrize("call", ["create", "verify", "probe", "sessions", "withdraw", "rejection"])
@pytest.mark.parametrize("warm", ["open connection", "new connection"])
def test_a_frozen_server_costs_no_more_than_the_step(
    server: ScratchPostgres, rotation: Callable[..., Rotation], call: str, warm: str
):
    """Each call of the plugin ends in time, whether it has a connection already or not."""
    made = rotation()
    if warm == "open connection":
        _ = made.sessions("app", _ctx())  # pyright: ignore[reportAttributeAccessIssue]
    asked = "app" if call == "sessions" else _NEW
    with _stopped(server), _within(_MOST):
        if call == "rejection":
            assert getattr(made, call)(asked, _ctx()).cause == "unreachable"
        else:
            with pytest.raises((Transient, Unknown)):
                _ = getattr(made, call)(asked, _ctx())


def test_a_server_that_accepts_and_then_is_silent_costs_no_more_than_the_step(
    server: ScratchPostgres, rotation: Callable[..., Rotation]
):
    """As behind a proxy whose server is gone."""
    with HoldingProxy(server.host, server.port) as proxy:
        proxy.silent = True
        with _within(_MOST), pytest.raises(Transient, match="is unreachable"):
            rotation(port=proxy.port).create(_NEW, _ctx())


def test_a_name_server_that_is_silent_costs_no_more_than_the_step(
    rotation: Callable[..., Rotation], monkeypatch: pytest.MonkeyPatch
):
    """The look-up of a host's name is outside of every limit of libpq's."""
    from rotations.postgresql import connection

    monkeypatch.setattr(connection.socket, "getaddrinfo", lambda *_, **__: time.sleep(6) or [])
    with _within(_MOST), pytest.raises(Transient):
        _ = rotation(host="db.example.org", sslmode="disable").probe(_NEW, _ctx())


def test_a_step_that_waits_for_a_lock_leaves_nothing_that_could_act_later(
    server: ScratchPostgres, rotation: Callable[..., Rotation]
):
    """The server gives up first, so nothing happens once the lock is gone."""
    with server.connect() as holder:
        with holder.transaction():
            holder.execute("LOCK TABLE pg_authid IN SHARE MODE")
            with _within(_MOST), pytest.raises(Transient):
                rotation().create(_NEW, _ctx())
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^rotator .' AND state = 'active'"
        assert holder.execute(waiting).fetchone() == (0,)
    assert _logs_in(server, _OLD)
    assert not _logs_in(server, _NEW)


def test_an_earlier_try_that_still_waits_is_ended_first(
    server: ScratchPostgres, rotation: Callable[..., Rotation]
):
    """What a killed process left on the server cannot undo what its successor does."""
    made = rotation()
    label = _label_of(server, made)
    with server.connect() as left_behind:
        pid = left_behind.info.backend_pid
        _ = left_behind.execute("SELECT set_config('application_name', %s, false)", [label])
        made.create(_NEW, _ctx())
        with pytest.raises(psycopg.OperationalError):
            _ = left_behind.execute("ALTER ROLE app PASSWORD 'from-the-grave'")
    with server.connect() as watcher:
        found = watcher.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall()
    assert not found
    assert _logs_in(server, _NEW)


def test_an_earlier_try_that_cannot_be_ended_is_not_called_undone(
    server: ScratchPostgres, rotation: Callable[..., Rotation]
):
    """Its process is stopped on the server's host: what it will do is not known."""
    made = rotation()
    label = _label_of(server, made)
    with server.connect() as left_behind:
        pid = left_behind.info.backend_pid
        _ = left_behind.execute("SELECT set_config('application_name', %s, false)", [label])
        os.kill(pid, signal.SIGSTOP)
        try:
            for call in (made.create, made.withdraw):
                with _within(_MOST), pytest.raises(Unknown, match=f"{pid} .*does not end"):
                    call(_NEW, _ctx())
        finally:
            os.kill(pid, signal.SIGCONT)
    assert _logs_in(server, _OLD)


def _label_of(server: ScratchPostgres, rotation: Rotation) -> str:
    """Return the application name under which a rotation changes the login."""
    from rotations.postgresql import server as module

    _ = server, rotation
    return module._label(_ctx())  # pyright: ignore[reportPrivateUsage]


# -- synchronous standbys --------------------------------------------------------------------------


@contextmanager
def _waiting_for(server: ScratchPostgres, names: str) -> Iterator[None]:
    with server.connect() as admin:
        admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        admin.execute("SELECT pg_reload_conf()")
        while admin.execute("SHOW synchronous_standby_names").fetchone() != (names,):
            time.sleep(0.01)
        try:
            yield
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            # The next test must not wait for a standby that nobody has.
            while admin.execute("SHOW synchronous_standby_names").fetchone() != ("",):
                time.sleep(0.01)


@pytest.mark.parametrize("names", ["gone", "FIRST 1 (gone, away)", "ANY 2 (a, b, c)", "2 (a, b)"])
def test_a_standby_that_is_away_makes_the_target_wait(
    server: ScratchPostgres, rotation: Callable[..., Rotation], names: str
):
    """Seen before anything is sent, by create, plan and doctor alike."""
    made = rotation()
    with _waiting_for(server, names):
        with _within(_MOST), pytest.raises(Unavailable, match="synchronous standby") as caught:
            made.create(_NEW, _ctx())
        assert "synchronous_standby_names" in caught.value.hint
        with pytest.raises(Unavailable, match="synchronous standby"):
            _ = made.explain(_OLD, _ctx())  # pyright: ignore[reportAttributeAccessIssue]
        found = made.examine(_OLD, _ctx())  # pyright: ignore[reportAttributeAccessIssue]
        assert any("synchronous standby" in one.message and one.remedy for one in found)
        with _within(_MOST):
            made.withdraw(_NEW, _ctx())  # it writes nothing, so it waits for nothing
        assert _logs_in(server, _OLD)


def test_a_standby_that_goes_away_in_the_middle_leaves_the_served_password_valid(
    server: ScratchPostgres,
    rotation: Callable[..., Rotation],
    monkeypatch: pytest.MonkeyPatch,
):
    """The commit that waits is cancelled, and the current password is set again at once."""
    from rotations.postgresql import preflight

    monkeypatch.setattr(preflight, "require_ready", lambda *_, **__: None)
    made = rotation()
    with _waiting_for(server, "gone"):
        with _within(_MOST), pytest.raises(Unavailable, match="no standby confirmed"):
            made.create(_NEW, _ctx())
        assert _logs_in(server, _OLD)
        assert not _logs_in(server, _NEW)
    assert _logs_in(server, _OLD)


# -- standbys ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(server: ScratchPostgres) -> Iterator[ScratchPostgres]:
    """A replica whose replay can be paused."""
    with ScratchPostgres(of=server, hba=_HBA) as made:
        yield made


def test_a_standby_as_host_is_named(
    standby: ScratchPostgres, rotation: Callable[..., Rotation], caplog: pytest.LogCaptureFixture
):
    """As a fault of the target, with the remedy, by doctor too; and psycopg logs nothing."""
    _caught_up(standby)
    made = rotation(port=standby.port)
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable, match="is a standby") as caught:
        made.create(_NEW, _ctx())
    assert "primary" in caught.value.hint
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    found = made.examine(_OLD, _ctx())  # pyright: ignore[reportAttributeAccessIssue]
    assert any("is a standby" in one.message for one in found)


def test_a_new_login_is_not_proven_before_each_reader_accepts_it(
    server: ScratchPostgres, standby: ScratchPostgres, rotation: Callable[..., Rotation]
):
    """A reader that lags is named by verify and doctor, and the step is tried again."""
    made = rotation(readers=(f"127.0.0.1:{standby.port}",))
    _caught_up(standby)
    made.create(_NEW, _ctx(10))
    assert any("127.0.0.1" in one.name for one in made.verify(_NEW, _ctx(10)).checks)
    newer = Credential(username="app", password=Secret("a-third-password"))
    with standby.connect() as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        while replica.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
            time.sleep(0.01)
        try:
            with server.connect() as admin:
                admin.execute("ALTER ROLE app PASSWORD 'a-third-password'")
            with pytest.raises(Transient, match=f"still rejected by 127.0.0.1:{standby.port}"):
                _ = made.verify(newer, _ctx())
            with pytest.raises(Transient, match="still rejected"):
                _ = made.probe(newer, _ctx())
            with pytest.raises(Transient, match="still accepted"):
                _ = made.probe(_NEW, _ctx())
            found = made.examine(newer, _ctx())  # pyright: ignore[reportAttributeAccessIssue]
            assert any("rejects the current login 'app'" in one.message for one in found)
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")
    assert made.probe(newer, _ctx(10))
    assert not made.probe(_NEW, _ctx(10))


def _caught_up(standby: ScratchPostgres) -> None:
    """Wait until the replica has login `app` as the primary has it."""
    ends = time.monotonic() + 20
    while not _logs_in(standby, _OLD):
        assert time.monotonic() < ends
        time.sleep(0.02)
