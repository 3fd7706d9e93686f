"""Targets that are set up otherwise: replicas, Sentinels, a cluster; TLS; servers that restart."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotations.valkey import PLUGIN
from rotations.valkey.options import SecretOptions, TargetOptions
from rotations.valkey.wire import WireConnection
from rotator.api import Credential, Secret, Transient, Unavailable
from rotator.core.model import Outcome
from rotator.testing.certificates import make_certificates
from rotator.testing.crash import Crash
from rotator.testing.fakes import step_context
from rotator.testing.rotation_suite import RotationHarness
from tests.harness import FIRST, QUICK
from tests.servers.valkey import (
    PACKAGES,
    SERVICE,
    ScratchSentinel,
    ScratchValkey,
    is_installed,
    wait_for,
)
from tests.valkey.conftest import cluster_of_three
from tests.valkey.harness import Harness, harness_on
from tests.valkey.sandboxes import STRATEGIES, acl_of, admin_of, logs_in, sandboxes, usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OVERLAPPING = [one for one in STRATEGIES if one != "single-user"]
IN_GRACE = replace(
    QUICK,
    grace=timedelta(hours=1),
    attempts=2,
    cycles=1000,
    backoff_cap=timedelta(milliseconds=20),
)


@pytest.fixture
def three(program: str, tmp_path: Path) -> Iterator[Harness]:
    """A primary and two replicas that a test may stop."""
    with ExitStack() as stack:
        primary = stack.enter_context(ScratchValkey(program))
        replicas = [stack.enter_context(ScratchValkey(program, of=primary)) for _ in range(2)]
        yield stack.enter_context(harness_on([primary, *replicas], tmp_path))


# -- replicas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replicas_are_found_and_done(harness_of_two: Harness, strategy: str):
    """Nobody has named them; users are not replicated."""
    harness = harness_of_two
    secret = harness.secret(strategy)
    harness.adopt(secret)
    for _ in range(2):
        old = harness.serves(secret)
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.old_refused) == (Outcome.DONE, True), result.error
        assert logs_in(harness.servers, harness.serves(secret))
        assert not logs_in(harness.servers, old)


def test_a_named_replica_that_is_down_holds_everything_up_until_it_is_back(three: Harness):
    """Before publish nothing is changed; after it the old password's place of refuge is named."""
    primary, one, other = three.servers
    secret = three.secret("dual-password", policy=IN_GRACE, nodes=(one.place, other.place))
    three.adopt(secret)
    old = three.serves(secret)
    other.stop()
    before = acl_of(primary, three.name)
    with pytest.raises(Transient, match=rf"{other.port} is unreachable.*on all nodes or on none"):
        secret.rotation.create(
            replace(old, password=Secret("the-next-password")),
            step_context(current=old, adopted=frozenset({three.name})),
        )
    assert acl_of(primary, three.name) == before
    stuck = three.engine.rotate(secret, patience=timedelta(milliseconds=500))
    assert (stuck.outcome, stuck.published) == (None, False)
    assert other.place in str(stuck.error)
    assert three.serves(secret) == old
    assert logs_in([primary, one], old)
    other.start()
    undone = three.engine.resume(secret, patience=timedelta(seconds=10))
    assert undone is not None
    assert undone.outcome is Outcome.UNDONE
    assert logs_in(three.servers, old)
    assert three.engine.rotate(secret).published
    new = three.serves(secret)
    assert logs_in(three.servers, old)
    other.stop()
    held = three.engine.revoke(secret)
    assert held.outcome is None
    assert held.error is not None
    assert held.error.kind == "transient"
    assert other.place in str(held.error)
    assert "still valid there" in str(held.error)
    assert not logs_in([primary, one], old)
    other.start()
    assert other.lets_in(old.username, old.password.reveal())
    done = three.engine.revoke(secret)
    assert (done.outcome, done.old_refused) == (Outcome.DONE, True), done.error
    assert logs_in(three.servers, new)
    assert not logs_in(three.servers, old)


@pytest.mark.parametrize("strategy", OVERLAPPING)
def test_a_failover_in_the_middle_loses_nothing(three: Harness, strategy: str):
    """The old primary dies after publish; a replica is promoted; the old one returns as a replica."""
    primary, heir, other = three.servers
    nodes = (heir.place, other.place)
    secret = three.secret(strategy, policy=IN_GRACE, nodes=nodes)
    three.adopt(secret)
    old = three.serves(secret)
    assert three.engine.rotate(secret).published
    primary.stop()
    heir.run("REPLICAOF", "NO", "ONE")
    other.run("REPLICAOF", heir.host, str(heir.port))
    assert logs_in([heir, other], three.serves(secret))
    assert three.engine.revoke(secret).outcome is None
    primary.start()
    primary.run("REPLICAOF", heir.host, str(heir.port))
    done = three.engine.revoke(secret)
    assert (done.outcome, done.old_refused) == (Outcome.DONE, True), done.error
    assert logs_in(three.servers, three.serves(secret))
    assert not logs_in(three.servers, old)


def test_a_node_that_has_lost_its_users_is_named_and_not_taken_for_in_or_out(
    harness_of_two: Harness,
):
    """One accepts, one refuses: neither yes nor no. A rotation begins on all nodes or on none."""
    harness = harness_of_two
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    harness.servers[1].run("ACL DELUSER", harness.name)
    with pytest.raises(
        Transient, match=rf"accepted by .*{harness.servers[0].port} and rejected by"
    ):
        secret.rotation.probe(harness.serves(secret), step_context())
    before = harness.servers[0].run("ACL LIST")
    result = harness.engine.rotate(secret)
    assert result.outcome is not Outcome.DONE
    assert harness.servers[1].place in str(result.error)
    assert harness.servers[0].run("ACL LIST") == before


def test_a_replica_alone_is_refused(harness_of_two: Harness):
    """Its primary would go on with the old password."""
    harness = harness_of_two
    replica = harness.servers[1]
    secret = harness.secret("dual-password", host=replica.host, port=replica.port)
    before = [server.run("ACL LIST") for server in harness.servers]
    with pytest.raises(Unavailable, match=rf"replica of .*{harness.servers[0].port}.*`host`"):
        secret.rotation.create(
            Credential(username=harness.name, password=Secret("x" * 20)),
            step_context(current=Credential(username=harness.name, password=Secret(FIRST))),
        )
    assert [server.run("ACL LIST") for server in harness.servers] == before


def test_the_login_that_replication_uses_is_refused(program: str, tmp_path: Path):
    """Once its old password went, replicas would not be let in any more."""
    with (
        ScratchValkey(program, aclfile=False) as primary,
        ScratchValkey(program, aclfile=False, of=primary) as replica,
        harness_on([primary, replica], tmp_path) as harness,
    ):
        secret = harness.secret("dual-password", username="default", probes=())
        harness.adopt(secret, "default", primary.password)
        result = harness.engine.rotate(secret)
        assert result.error is not None
        assert result.error.kind == "denied"
        assert "masterauth" in str(result.error)
        assert primary.lets_in("default", primary.password)
        found = secret.rotation.examine(harness.serves(secret), step_context())  # type: ignore[attr-defined]
        assert any("no rotation could revoke" in one.message for one in found)


# -- Sentinels and clusters ----------------------------------------------------------------------


def test_sentinels_say_where_the_nodes_are_and_a_failover_changes_nothing(three: Harness):
    """They remember a replica that is down; a failover between publish and revoke is survived."""
    primary, one, other = three.servers
    program = "redis" if primary.run("INFO", "server").get("redis_mode") else "valkey"
    with ScratchSentinel(program, primary) as sentinel:
        sentinel.wait_for_replicas(2)
        secret = three.secret(
            "new-user",
            policy=IN_GRACE,
            sentinels=("127.0.0.1:1", sentinel.place),
            service=SERVICE,
            host="not.used.invalid",
        )
        three.adopt(secret)
        old = three.serves(secret)
        assert three.engine.rotate(secret).published
        assert logs_in(three.servers, three.serves(secret))
        primary.stop()
        wait_for(lambda: sentinel.primary_port() != primary.port, primary.log_text)
        held = three.engine.revoke(secret)
        assert held.outcome is None
        assert primary.place in str(held.error)
        primary.start()
        done = three.engine.revoke(secret)
        assert (done.outcome, done.old_refused) == (Outcome.DONE, True), done.error
        assert logs_in(three.servers, three.serves(secret))
        assert not logs_in([one, other], old)
        wrong = three.secret("new-user", sentinels=(sentinel.place,), service="nosuch")
        with pytest.raises(Unavailable, match="nosuch"):
            wrong.rotation.probe(old, step_context())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_node_of_a_cluster_is_done(
    cluster: list[ScratchValkey], tmp_path: Path, strategy: str
):
    """One is named, the others are asked for; a probe's key may be another node's."""
    with harness_on(cluster, tmp_path) as harness:
        secret = harness.secret(strategy)
        harness.adopt(secret)
        old = harness.serves(secret)
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.old_refused) == (Outcome.DONE, True), result.error
        assert logs_in(cluster, harness.serves(secret))
        assert not logs_in(cluster, old)


def test_a_node_of_a_cluster_that_is_down_is_known_and_named(program: str, tmp_path: Path):
    """The others remember it: no rotation begins, and it is done when it is back."""
    with ExitStack() as stack:
        nodes = cluster_of_three(program, stack)
        harness = stack.enter_context(harness_on(nodes, tmp_path))
        secret = harness.secret("dual-password", policy=IN_GRACE)
        harness.adopt(secret)
        old = harness.serves(secret)
        assert harness.engine.rotate(secret).published
        nodes[2].stop()
        held = harness.engine.revoke(secret)
        assert held.outcome is None
        assert nodes[2].place in str(held.error)
        nodes[2].start()
        assert harness.engine.revoke(secret).outcome is Outcome.DONE
        assert not logs_in(nodes, old)


# -- restarts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_was_rotated_survives_a_restart_by_the_acl_file(harness: Harness, strategy: str):
    """Killed right after each step: the current password logs in, the revoked one does not."""
    (server,) = harness.servers
    secret = harness.secret(strategy, policy=IN_GRACE)
    harness.adopt(secret)
    old = harness.serves(secret)
    result = harness.engine.rotate(secret)
    server.restart()
    assert logs_in([server], harness.serves(secret))
    if result.outcome is None:
        assert logs_in([server], old)
        assert harness.engine.revoke(secret).outcome is Outcome.DONE
        server.restart()
        assert logs_in([server], harness.serves(secret))
    assert not logs_in([server], old)


@pytest.mark.parametrize("saved", [0, 1])
@pytest.mark.parametrize("step", ["create", "revoke", "withdraw"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_that_died_before_it_had_saved_is_saved_when_it_is_run_again(
    server: ScratchValkey, strategy: str, step: str, saved: int, monkeypatch: pytest.MonkeyPatch
):
    """Though there is nothing left to change: else a restart would undo what the journal says is done."""
    real, left = WireConnection.call, [1_000_000]

    def call(link: WireConnection, *command: Any) -> Any:
        if command[:2] == ("ACL", "SAVE"):
            left[0] -= 1
            if left[0] < 0:
                raise Crash
        return real(link, *command)

    monkeypatch.setattr(WireConnection, "call", call)
    with sandboxes([server], strategy) as make:
        place = RotationHarness(make())
        old = place.create()
        new = place.propose(old) if step == "create" else place.create(old)
        gone, kept = (new, old) if step == "withdraw" else (old, new)
        ctx = place.ctx(new if step == "revoke" else old)
        left[0] = saved
        with suppress(Crash):
            getattr(place.again(), step)(gone if step != "create" else new, ctx)
        left[0] = 1_000_000
        getattr(place.again(), step)(gone if step != "create" else new, ctx)
        server.restart()
        assert place.lets_in(kept)
        if step != "create":
            assert not place.lets_in(gone)
            assert gone.username not in place.usable() - {kept.username}
        if strategy == "new-user" and step != "create":
            assert gone.username not in server.run("ACL USERS")


def test_without_an_acl_file_no_rotation_begins_unless_others_keep_the_users(
    program: str, tmp_path: Path
):
    """A restart would bring the old password back: the doctor, the plan and the rotation say so alike."""
    with ScratchValkey(program, aclfile=False) as server, harness_on([server], tmp_path) as harness:
        secret = harness.secret("dual-password", username="default", probes=())
        harness.adopt(secret, "default", server.password)
        before = server.run("ACL LIST")
        refused = harness.engine.rotate(secret, patience=timedelta(milliseconds=100))
        assert refused.error is not None
        assert refused.error.kind == "unavailable"
        assert "persist: rewrite" in refused.error.hint
        assert "persist: none" in refused.error.hint
        rotation: Any = secret.rotation
        ctx = step_context(adopted=frozenset({"default"}))
        with pytest.raises(Unavailable, match="does not save users"):
            rotation.explain(harness.serves(secret), ctx)
        found = rotation.examine(harness.serves(secret), ctx)
        assert any(
            "does not save users" in one.message and one.severity == "error" for one in found
        )
        assert server.run("ACL LIST") == before
        others = harness.secret("dual-password", username="default", probes=(), persist="none")
        harness.engine.unpark(others, reason="others keep them") if refused.parked else None
        harness.engine.resume(others, at_once=True)
        done = harness.engine.rotate(others, patience=timedelta(seconds=2))
        assert done.outcome is Outcome.DONE, done.error
        new, first = harness.serves(others).password.reveal(), server.password
        assert "left to others" in str(harness.journal.events(others.name))
        server.restart()
        assert server.lets_in("default", first)
        assert not server.lets_in("default", new)


def test_the_default_user_is_rotated_with_its_requirepass_in_the_configuration(
    program: str, tmp_path: Path
):
    """persist: rewrite: both passwords survive a restart in the grace period, one afterwards."""
    with ScratchValkey(program, aclfile=False) as server, harness_on([server], tmp_path) as harness:

        def admin() -> Credential:
            current = harness.backend.current(harness.name)
            return current.credential if current else admin_of(server)

        secret = harness.secret(
            "dual-password",
            policy=IN_GRACE,
            username="default",
            probes=(),
            admin=admin,
            persist="rewrite",
        )
        first = server.password
        harness.adopt(secret, "default", first)
        assert harness.engine.rotate(secret).published
        server.restart()
        new = harness.serves(secret).password.reveal()
        assert server.lets_in("default", first)
        assert server.lets_in("default", new)
        assert harness.engine.revoke(secret).outcome is Outcome.DONE
        server.password = new
        server.restart()
        assert server.lets_in("default", new)
        assert not server.lets_in("default", first)
        assert "saved in the configuration file" in str(harness.journal.events(secret.name))


def test_a_login_changes_its_own_password_in_place(program: str, tmp_path: Path):
    """Where the only admin is the login itself, as with a bare requirepass; new processes too."""
    with ScratchValkey(program, aclfile=False) as server, harness_on([server], tmp_path) as harness:

        def opened() -> Any:
            current = harness.backend.current(harness.name)
            who = current.credential if current else admin_of(server)
            return harness.secret(
                "single-user", username="default", probes=(), admin=who, persist="none"
            )

        first = server.password
        harness.adopt(opened(), "default", first)
        for _ in range(2):
            result = harness.engine.rotate(opened())
            assert result.outcome is Outcome.DONE, result.error
        server.password = harness.serves(opened()).password.reveal()
        assert server.lets_in("default", server.password)
        assert not server.lets_in("default", first)


def test_a_name_with_a_quote_would_keep_the_server_from_starting_again(
    program: str, tmp_path: Path
):
    """CONFIG REWRITE writes what is not read again: so it is not called."""
    with ScratchValkey(program, aclfile=False) as server, harness_on([server], tmp_path) as harness:
        server.run("ACL SETUSER", 'it"s', "on", ">x")
        secret = harness.secret("dual-password", persist="rewrite")
        harness.adopt(secret)
        result = harness.engine.rotate(secret)
        assert result.error is not None
        assert "would not start" in str(result.error)
        assert logs_in([server], harness.serves(secret))
        assert usable([server], harness.name) == {harness.name}
        server.restart()


# -- TLS, silence --------------------------------------------------------------------------------


@pytest.fixture
def rotation_on() -> Iterator[Any]:
    """Return what makes a rotation on a server, and closes its connections in the end."""
    opened: list[Any] = []

    def make(server: ScratchValkey, **options: Any) -> Any:
        admin = admin_of(server)
        place = {"host": server.host, "port": server.port, "connect_timeout": 1, **options}
        opened.append(PLUGIN.target("t", TargetOptions(**place), lambda: admin))
        return opened[-1].rotation("dual-password", SecretOptions(username="app"))

    yield make
    for target in opened:
        target.close()


@pytest.mark.skipif(
    not is_installed("redis"), reason=f"no Redis server: apt-get install {PACKAGES}"
)
def test_tls_is_verified(tmp_path: Path, rotation_on: Any):
    """verify-full with the right authority works; with another it is refused, not gone without.

    Only Debian's Redis: the wheel's Valkey is built without TLS.
    """
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        make_certificates(tmp_path / name)
    own = tmp_path / "own"
    with ScratchValkey("redis", "tls-auth-clients no", certificates=own) as server:
        admin = admin_of(server)
        wrong = Credential(username="default", password=Secret("wrong-password"))
        good = {"sslmode": "verify-full", "sslrootcert": own / "ca.crt"}
        assert rotation_on(server, **good).probe(admin, step_context())
        assert not rotation_on(server, **good).probe(wrong, step_context())
        assert rotation_on(server, sslmode="require").probe(admin, step_context())
        missing = {"sslmode": "verify-full", "sslrootcert": tmp_path / "nosuch.crt"}
        for bad, said in (
            ({"sslmode": "verify-full", "sslrootcert": tmp_path / "other" / "ca.crt"}, "authority"),
            ({"sslmode": "verify-ca", "sslrootcert": tmp_path / "other" / "ca.crt"}, "authority"),
            ({"sslmode": "verify-full"}, "authority"),
            ({"sslmode": "disable"}, "speaks TLS on this port"),
            (missing, "nosuch.crt"),
        ):
            with pytest.raises(Unavailable, match=said):
                rotation_on(server, **bad).probe(admin, step_context())


@pytest.mark.skipif(
    not is_installed("redis"), reason=f"no Redis server: apt-get install {PACKAGES}"
)
def test_a_server_may_ask_for_our_certificate(tmp_path: Path, rotation_on: Any):
    """As it does unless `tls-auth-clients` says otherwise."""
    make_certificates(tmp_path)
    mine = {"sslcert": tmp_path / "server.crt", "sslkey": tmp_path / "server.key"}
    authority = {"sslrootcert": tmp_path / "ca.crt", "sslmode": "verify-full"}
    with ScratchValkey("redis", "tls-auth-clients optional", certificates=tmp_path) as server:
        server.run("CONFIG", "SET", "tls-auth-clients", "yes")
        admin = admin_of(server)
        assert rotation_on(server, **authority, **mine).probe(admin, step_context())
        with pytest.raises(Unavailable, match="requires a client certificate") as raised:
            rotation_on(server, **authority).probe(admin, step_context())
        assert "`sslcert` and `sslkey`" in raised.value.hint


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(
    server: ScratchValkey, rotation_on: Any
):
    """Where TLS is asked for, no password leaves without it; and that is the cause that is named."""
    with pytest.raises(Unavailable, match="does not speak TLS on this port"):
        rotation_on(server, sslmode="require").probe(admin_of(server), step_context())


def test_a_remote_host_is_verified_unless_it_says_otherwise():
    """This machine needs no TLS; a node that is found elsewhere does, whatever `host` is."""
    assert TargetOptions().tls("db.example.org") == "verify-full"
    assert TargetOptions().tls("10.0.0.5") == "verify-full"
    assert TargetOptions(host="db").tls("127.0.0.1") == "disable"
    assert TargetOptions().tls("/run/valkey.sock") == "disable"
    assert TargetOptions(sslmode="require").tls("db") == "require"


def test_a_host_that_is_silent_is_told_as_unreachable():
    """Not as a wrong password."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    admin = Credential(username="root", password=Secret("x"))
    target = PLUGIN.target("t", TargetOptions(port=port, connect_timeout=1), lambda: admin)
    rotation = target.rotation("dual-password", SecretOptions(username="app"))
    with pytest.raises(Transient, match="is unreachable"):
        rotation.probe(admin, step_context())


def test_a_socket_is_spoken_to(program: str, tmp_path: Path, rotation_on: Any):
    """`host` is its path then."""
    path = str(tmp_path / "s")
    with ScratchValkey(program, f"unixsocket {path}") as server:
        assert rotation_on(server, host=path).probe(admin_of(server), step_context())
