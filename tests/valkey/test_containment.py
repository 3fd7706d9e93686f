"""A leaked password on real servers: rejected at once, without its sessions, proven on each node."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rotations.valkey.nodes import Node
from rotations.valkey.options import TargetOptions
from rotations.valkey.wire import WireConnection
from rotator import system
from rotator.api import (
    Conflict,
    Contains,
    Credential,
    Denied,
    Secret,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.core.history import PROVEN
from rotator.engine import Engine, LeakReport, Mode
from rotator.system import SystemClock
from rotator.testing.crash.points import Crash
from rotator.testing.fakes import ListLog, step_context
from tests.harness import FIRST
from tests.sampling import sampled
from tests.servers.valkey import ScratchValkey
from tests.valkey.conftest import cluster_of_three
from tests.valkey.harness import Harness, harness_on
from tests.valkey.sandboxes import ADMIN_RULES, STRATEGIES, acl_of, digest, logs_in, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.api import StepContext
    from rotator.engine import ManagedSecret

IN_PLACE = ("dual-password", "single-user")
KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
MOVE = LeakReport(id="INC-1", reason="found in a paste")
LEAKED = Secret(FIRST)
_ADMIN = Credential(username="admin-of-incidents", password=Secret("an-admin-of-incidents"))


def context(harness: Harness, **given: Any) -> StepContext:
    """Return a context in which the user of the harness is adopted."""
    fenced = given.pop("fenced", False)
    made = step_context(adopted=frozenset({harness.name}), clock=SystemClock(), **given)
    return replace(made, fenced=fenced)


def leaked_of(harness: Harness, password: str = FIRST) -> Credential:
    """Return the credential that the user has."""
    return Credential(username=harness.name, password=Secret(password))


def rotation_of(harness: Harness, strategy: str = "dual-password", **target: Any) -> Any:
    """Return a plugin's rotation, to be called directly."""
    nodes = tuple(server.place for server in harness.servers[1:])
    return harness.secret(strategy, nodes=nodes, **target).rotation


@contextmanager
def session(server: ScratchValkey, name: str, password: str) -> Iterator[Any]:
    """Open a session that does not connect again."""
    client = server.client(name, password, single_connection_client=True, retry=None)
    with closing(client):
        assert client.ping()
        yield client


def is_open(client: Any) -> bool:
    """Return whether the session still works."""
    from valkey.exceptions import ConnectionError as Gone

    connection = client.connection
    try:
        connection.send_command("PING", check_health=False)
        return connection.read_response() == "PONG"
    except (Gone, OSError):
        return False


# -- one call of the plugin ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_contains_a_leaked_password(harness: Harness, strategy: str):
    """The engine asks for it by the protocol."""
    assert isinstance(harness.secret(strategy).rotation, Contains)


def test_a_fence_rejects_the_password_on_each_node_and_keeps_all_else(harness_of_two: Harness):
    """Rules, sessions and other users stay; a second fence leaves what the first one left."""
    harness = harness_of_two
    primary = harness.servers[0]
    before = [rules(server, harness.name) for server in harness.servers]
    with session(primary, harness.name, FIRST) as old:
        for _ in range(2):
            _ = rotation_of(harness).fence(leaked_of(harness, ""), context(harness))
            assert not logs_in(harness.servers, leaked_of(harness))
            assert is_open(old)
    for server, rules_before in zip(harness.servers, before, strict=True):
        assert rules(server, harness.name) == rules_before
        (line,) = acl_of(server, f"{harness.name} ")
        assert line.count("#") == 1
        assert digest(FIRST) not in server.users_file.read_text()


def test_only_sessions_that_began_before_the_change_are_ended(harness_of_two: Harness):
    """On each node: it knows the order in which its connections began."""
    harness = harness_of_two
    rotation, new = rotation_of(harness), leaked_of(harness, "the-next-password")
    with ExitStack() as stack:
        old = [
            stack.enter_context(session(server, harness.name, FIRST)) for server in harness.servers
        ]
        before = rotation.fence(leaked_of(harness), context(harness))
        current = leaked_of(harness)
        rotation.create(new, context(harness, current=current, fenced=True))
        later = [
            stack.enter_context(session(server, harness.name, new.password.reveal()))
            for server in harness.servers
        ]
        other = stack.enter_context(session(harness.servers[0], "default", admin_password(harness)))
        ended = rotation.end_sessions(harness.name, before, context(harness))
        assert len(ended) == len(old)
        assert {one.login for one in ended} == {harness.name}
        assert [is_open(client) for client in (*old, *later, other)] == [False] * 2 + [True] * 3
        assert rotation.end_sessions(harness.name, before, context(harness)) == []


def admin_password(harness: Harness) -> str:
    """Return the password of the servers' administrator."""
    return harness.servers[0].password


def test_sessions_of_a_node_that_has_restarted_are_later(program: str, tmp_path: Path):
    """None of them is older than the node, which numbers its connections from the start again."""
    with ScratchValkey(program) as server, harness_on([server], tmp_path) as harness:
        rotation = rotation_of(harness)
        with ExitStack() as stack:
            for _ in range(20):
                _ = stack.enter_context(session(server, harness.name, FIRST))
            before = rotation.moment(context(harness))
        time.sleep(2.1)  # The node counts its uptime in seconds.
        server.restart()
        with session(server, harness.name, FIRST) as later:
            assert rotation.end_sessions(harness.name, before, context(harness)) == []
            assert is_open(later)


def test_sessions_of_a_node_that_the_moment_does_not_name_are_earlier(harness_of_two: Harness):
    """It may not have been fenced: nobody knows with which password they began."""
    harness = harness_of_two
    primary, replica = harness.servers
    alone = harness.secret("dual-password", discover=False).rotation
    before = alone.moment(context(harness))
    with (
        session(primary, harness.name, FIRST) as later,
        session(replica, harness.name, FIRST) as old,
    ):
        (ended,) = rotation_of(harness).end_sessions(harness.name, before, context(harness))
        assert replica.place in ended.application
        assert (is_open(later), is_open(old)) == (True, False)


@pytest.mark.parametrize("strategy", IN_PLACE)
@pytest.mark.parametrize("undo", ["withdraw", "save fails"])
def test_a_fenced_password_stays_invalid_where_the_new_one_is_taken_back(
    harness_of_two: Harness, strategy: str, undo: str, monkeypatch: pytest.MonkeyPatch
):
    """Then neither is valid, and the next attempt sets the new one."""
    harness = harness_of_two
    rotation, new = rotation_of(harness, strategy), leaked_of(harness, "the-next-password")
    _ = rotation.fence(leaked_of(harness, ""), context(harness))
    ctx = context(harness, current=leaked_of(harness), fenced=True)
    if undo == "withdraw":
        rotation.create(new, ctx)
        rotation.withdraw(new, ctx)
    else:
        saves = Node.save

        def save(node: Node, ctx: StepContext, users: Any = None) -> Any:
            if users is None and node.is_replica:
                raise Unavailable("the disk is full.")
            return saves(node, ctx, users)

        with monkeypatch.context() as patch:
            patch.setattr(Node, "save", save)
            with pytest.raises(Unavailable):
                rotation.create(new, ctx)
    assert not logs_in(harness.servers, leaked_of(harness))
    assert not logs_in(harness.servers, new)
    for _ in range(2):
        rotation.create(new, ctx)
        assert logs_in(harness.servers, new)
        assert not logs_in(harness.servers, leaked_of(harness))


def test_a_login_of_somebody_else_is_not_fenced(harness: Harness):
    """Nothing is changed, and its sessions go on."""
    (server,) = harness.servers
    rotation, ctx = rotation_of(harness), step_context(clock=SystemClock())
    before, moment = acl_of(server, harness.name), rotation.moment(ctx)
    with session(server, harness.name, FIRST) as theirs:
        with pytest.raises(Conflict):
            _ = rotation.fence(leaked_of(harness), ctx)
        with pytest.raises(Conflict):
            _ = rotation.end_sessions(harness.name, moment, ctx)
        assert is_open(theirs)
    assert acl_of(server, harness.name) == before


def test_a_login_that_does_not_exist_is_fenced_already(harness: Harness):
    """It is rejected as it is, so that is a success."""
    gone = Credential(username="nobody-has-this-name", password=LEAKED)
    moment = rotation_of(harness).fence(gone, context(harness))
    assert rotation_of(harness).end_sessions(gone.username, moment, context(harness)) == []


def test_the_login_that_rotator_works_with_is_not_fenced(program: str, tmp_path: Path):
    """Else nobody could set the next password."""
    with ScratchValkey(program) as server, harness_on([server], tmp_path) as harness:
        rotation = harness.secret("single-user", username="default").rotation
        own = Credential(username="default", password=Secret(server.password))
        ctx = replace(context(harness), adopted=frozenset({"default"}))
        with pytest.raises(Denied, match="rotator itself logs in") as denied:
            _ = rotation.fence(own, ctx)
        assert "--mode move --within 0s" in denied.value.hint
        assert server.lets_in("default", server.password)


def test_a_password_that_cannot_be_saved_is_rejected_all_the_same(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    """The next step requires that it is saved; the leaked one does not wait for that."""

    def save(node: Node, *_: Any) -> Any:
        raise Unavailable(f"{node} cannot save its users.")

    monkeypatch.setattr(Node, "save", save)
    _ = rotation_of(harness).fence(leaked_of(harness), context(harness, log=harness.log))
    assert not logs_in(harness.servers, leaked_of(harness))
    assert any("not saved" in str(line) for line in harness.log.lines)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_node_that_is_away_is_named_and_the_others_reject_it(
    program: str, tmp_path: Path, how: str
):
    """Within seconds, whatever the node does that is away."""
    with ExitStack() as stack:
        nodes = cluster_of_three(program, stack)
        harness = stack.enter_context(harness_on(nodes, tmp_path))
        rotation, away = rotation_of(harness), nodes[1]
        with session(nodes[0], harness.name, FIRST) as old:
            earlier = rotation.moment(context(harness))
            if how == "stopped":
                away.stop()
            else:
                away.pause()
                _ = stack.callback(away.resume)
            begun = time.monotonic()
            with pytest.raises(Transient, match=away.place):
                _ = rotation.fence(leaked_of(harness), context(harness))
            assert time.monotonic() - begun < 5
            assert not logs_in([nodes[0], nodes[2]], leaked_of(harness))
            with pytest.raises(Transient, match=away.place):
                _ = rotation.end_sessions(harness.name, earlier, context(harness))
            assert not is_open(old)
        entrances = rotation.entrances(leaked_of(harness), None, context(harness))
        by_address = {entrance.address: entrance for entrance in entrances}
        assert len(by_address) == 3
        assert by_address[away.place].leaked is None
        assert by_address[away.place].why
        assert by_address[nodes[0].place].leaked is False


@pytest.mark.parametrize("of", ["pair", "cluster"])
def test_each_node_is_an_entrance(
    of: str, request: pytest.FixtureRequest, tmp_path: Path, program: str
):
    """Current accepted, one of nobody and the leaked one rejected."""
    servers: list[ScratchValkey] = request.getfixturevalue(of)
    with harness_on(servers, tmp_path) as harness:
        entrances = rotation_of(harness).entrances(
            leaked_of(harness, "an-older-password"), leaked_of(harness), context(harness)
        )
    assert program
    assert {entrance.address for entrance in entrances} == {server.place for server in servers}
    assert {(one.current, one.wrong, one.leaked) for one in entrances} == {(True, False, False)}


def test_a_further_address_that_accepts_any_password_is_named(program: str, tmp_path: Path):
    """As a proxy does that asks for none; a node with `nopass` is the same."""
    with (
        ScratchValkey(program) as server,
        ScratchValkey(program) as proxy,
        harness_on([server], tmp_path) as harness,
    ):
        proxy.run("ACL SETUSER", harness.name, "on", "nopass", "+ping")
        rotation = rotation_of(harness, addresses=(proxy.place, "127.0.0.1:1"))
        leaked, current = leaked_of(harness, "an-older-password"), leaked_of(harness)
        entrances = {
            entrance.address: entrance
            for entrance in rotation.entrances(leaked, current, context(harness))
        }
        assert entrances[proxy.place].wrong is True
        assert entrances["127.0.0.1:1"].leaked is None
        assert "unreachable" in entrances["127.0.0.1:1"].why
        assert entrances[server.place].leaked is False


def test_further_addresses_are_tried_where_no_node_answers_the_admin(harness: Harness):
    """Each address is in the result, with its reason."""
    (server,) = harness.servers
    wrong = Credential(username="default", password=Secret("not-the-admin-s"))
    rotation = harness.secret("dual-password", admin=wrong, addresses=("127.0.0.1:1",)).rotation
    entrances = rotation.entrances(leaked_of(harness), leaked_of(harness), context(harness))
    assert [one.address for one in entrances] == [server.place, "127.0.0.1:1"]
    assert [one.leaked for one in entrances] == [True, None]


def test_addresses_are_checked_with_the_configuration():
    """A typing error is found before an incident."""
    with pytest.raises(UsageError, match="not a host and port"):
        _ = TargetOptions(addresses=("proxy:none",))


# -- the engine ----------------------------------------------------------------------------------


@contextmanager
def refusal_clock(harness: Harness, leaked: Credential) -> Iterator[list[float]]:
    """Try the leaked password all the time; the list gets the seconds until it is first rejected."""
    begun, stop, seconds = time.monotonic(), threading.Event(), list[float]()

    def attempts() -> None:
        while not stop.is_set() and not seconds:
            name, password = leaked.username, leaked.password.reveal()
            if not any(server.lets_in(name, password) for server in harness.servers):
                seconds.append(time.monotonic() - begun)
            time.sleep(0.01)

    thread = threading.Thread(target=attempts)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


def with_least_rights(harness: Harness, strategy: str) -> ManagedSecret:
    """Return a secret whose admin has the rights that the documentation names, and no other."""
    for server in harness.servers:
        password = f">{_ADMIN.password.reveal()}"
        server.run("ACL SETUSER", _ADMIN.username, "reset", "on", password, *ADMIN_RULES)
    nodes = tuple(server.place for server in harness.servers[1:])
    secret = harness.secret(strategy, admin=_ADMIN, nodes=nodes)
    harness.adopt(secret)
    return secret


@pytest.mark.parametrize("report", [KILL, MOVE], ids=["kill", "move"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_incident_ends_with_a_proof_in_seconds(
    harness_of_two: Harness, strategy: str, report: LeakReport
):
    """The leaked password is rejected within 5 s and proven dead within 15 s, without a session of before."""
    harness = harness_of_two
    secret = with_least_rights(harness, strategy)
    leaked = harness.serves(secret)
    begun = time.monotonic()
    with ExitStack() as stack:
        old = [
            stack.enter_context(session(server, leaked.username, FIRST))
            for server in harness.servers
        ]
        seconds = stack.enter_context(refusal_clock(harness, leaked))
        harness.engine.open_incident(secret, replace(report, within=MOVE.within * 0))
        contained = harness.engine.contain(secret)
        proven = time.monotonic() - begun
        assert contained.proof is not None, contained
        assert contained.proof.ok, contained.proof.unproven
        assert contained.proof.sessions == 0
        assert not any(is_open(client) for client in old)
        time.sleep(0.2)
    assert seconds[0] < 5
    assert proven < 15
    assert {one.address for one in contained.proof.entrances} == {
        server.place for server in harness.servers
    }
    assert not logs_in(harness.servers, leaked)
    assert logs_in(harness.servers, harness.serves(secret))
    assert harness.journal.secret(secret.name).incident_state == PROVEN  # type: ignore[union-attr]


@pytest.mark.parametrize("strategy", IN_PLACE)
def test_a_password_that_comes_back_in_place_is_made_invalid_again(
    harness_of_two: Harness, strategy: str
):
    """As after a restored copy of the users: the served one is set again, and every session ends."""
    harness = harness_of_two
    secret = with_least_rights(harness, strategy)
    leaked = harness.serves(secret)
    harness.engine.open_incident(secret, KILL)
    assert harness.engine.contain(secret).is_proven
    for server in harness.servers:
        server.run("ACL SETUSER", leaked.username, "resetpass", f">{leaked.password.reveal()}")
    with session(harness.servers[0], leaked.username, leaked.password.reveal()) as client:
        done = harness.engine.contain(secret)
        assert done.revoked == (leaked.username,)
        assert done.is_proven, done
        assert not is_open(client)
    assert not logs_in(harness.servers, leaked)
    assert logs_in(harness.servers, harness.serves(secret))


def test_a_user_without_a_password_is_never_proven(harness: Harness):
    """`nopass` accepts what leaked, and everything else."""
    (server,) = harness.servers
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    harness.engine.open_incident(secret, KILL)
    assert harness.engine.contain(secret).proof is not None
    server.run("ACL SETUSER", harness.name, "nopass")
    contained = harness.engine.contain(secret)
    assert contained.proof is not None
    assert not contained.proof.ok
    assert any("accepts any password" in line for line in contained.proof.unproven)


def test_a_fence_ends_a_user_without_a_password(harness: Harness):
    """What leaked would be accepted for as long as every password is."""
    (server,) = harness.servers
    server.run("ACL SETUSER", harness.name, "nopass")
    _ = rotation_of(harness).fence(leaked_of(harness), context(harness))
    assert not server.lets_in(harness.name, FIRST)
    assert not server.lets_in(harness.name, "anything")


def test_later_sessions_outlive_each_later_proof(harness: Harness):
    """Only those of before the change are ended, a day later too."""
    (server,) = harness.servers
    secret = harness.secret("single-user")
    harness.adopt(secret)
    harness.engine.open_incident(secret, KILL)
    assert harness.engine.contain(secret).proof is not None
    new = harness.serves(secret)
    with session(server, new.username, new.password.reveal()) as later:
        contained = harness.engine.contain(secret)
        assert contained.proof is not None
        assert contained.proof.ok, contained.proof.unproven
        assert is_open(later)


# -- crashes -------------------------------------------------------------------------------------


def _contained_after_a_crash(
    server: ScratchValkey, folder: Path, strategy: str, command: int, *, after: bool
) -> bool:
    """Kill the process at one of its commands; another one has to end the incident. False: it has no such one."""
    calls, counter = WireConnection.call, itertools.count()

    def call(link: WireConnection, *words: Any) -> Any:
        dies = next(counter) == command
        if dies and not after:
            raise Crash
        answer = calls(link, *words)
        if dies:
            raise Crash
        return answer

    with harness_on([server], folder) as harness:
        secret = harness.secret(strategy)
        harness.adopt(secret)
        leaked = harness.serves(secret)
        harness.engine.open_incident(secret, KILL)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WireConnection, "call", call)
            try:
                _ = harness.engine.contain(secret)
                crashed = False
            except Crash:
                crashed = True
        fenced = any(
            event.step == "fence" and event.kind == "finished"
            for event in harness.journal.events(secret.name)
        )
        assert not (fenced and server.lets_in(leaked.username, leaked.password.reveal()))
        engine = Engine(
            journal=harness.journal,
            clock=SystemClock(),
            entropy=system.SystemEntropy(),
            log=ListLog(),
            holder=system.holder,
        )
        contained = engine.contain(secret)
        assert contained.proof is not None, contained
        assert contained.proof.ok, contained.proof.unproven
        assert not server.lets_in(leaked.username, leaked.password.reveal())
        served = harness.serves(secret)
        assert server.lets_in(served.username, served.password.reveal())
    return crashed


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("command", sampled(tuple(range(5, 60, 6)), of=3))
def test_an_incident_ends_after_a_crash_at_a_command(
    server: ScratchValkey, tmp_path: Path, strategy: str, command: int
):
    """A sample of the points: before the command, and after it."""
    for after in (False, True):
        _ = _contained_after_a_crash(server, tmp_path, strategy, command, after=after)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_incident_ends_after_a_crash_at_every_command(
    server: ScratchValkey, tmp_path: Path, strategy: str
):
    """Killed before and after each one: the leaked password is dead at the end, and the served one valid."""
    points = 0
    for after in (False, True):
        for command in itertools.count():
            if not _contained_after_a_crash(server, tmp_path, strategy, command, after=after):
                break
            points += 1
    assert points > 60
