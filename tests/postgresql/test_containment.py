"""A leaked password is rejected at once, its sessions end, and each address proves it."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from rotator.api import Conflict, Credential, Denied, Secret
from rotator.core.history import PROVEN
from rotator.core.model import Step
from rotator.engine import LeakReport, Mode
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql.conftest import Harness
from tests.postgresql.test_rotating import STRATEGIES, options, weak_admin
from tests.postgresql.test_servers import DEBIAN, needs_debian
from tests.servers.pgbouncer import IS_INSTALLED, scratch_pgbouncer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.api import Contains, Entrance, StepContext
    from rotator.engine import ManagedSecret

_KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
_MOVE = replace(_KILL, mode=Mode.MOVE, within=timedelta(0))
_WRONG = Secret("a-wrong-password")


def _managed(harness: Harness, strategy: str, **more: Any) -> tuple[ManagedSecret, Credential]:
    """Return a secret and the credential that it serves."""
    secret = harness.secret(strategy, **(options(harness, strategy) | more))
    _ = harness.engine.rotate(secret)
    return secret, harness.serves(secret)


def _ctx(harness: Harness, secret: ManagedSecret, **facts: Any) -> StepContext:
    return replace(harness.engine.steps(secret).context(None), **facts)


def _contains(secret: ManagedSecret) -> Contains:
    return secret.rotation  # pyright: ignore[reportReturnType]


def _forgotten(leaked: Credential) -> Credential:
    """Return what the engine has of a leaked credential when it fences."""
    return replace(leaked, password=Secret(""))


def _works(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _entrance(
    harness: Harness, secret: ManagedSecret, leaked: Credential, address: str = ""
) -> Entrance:
    current = harness.serves(secret)
    found = _contains(secret).entrances(leaked, current, _ctx(harness, secret, current=current))
    return next(one for one in found if address in one.address)


@contextmanager
def _role_settings(harness: Harness, statement: str, undo: str) -> Iterator[None]:
    harness.sql(statement)
    try:
        yield
    finally:
        harness.sql(undo)


@pytest.fixture(scope="module")
def md5() -> Iterator[ScratchPostgres]:
    """A server that accepts both kinds of hashes."""
    with ScratchPostgres(hba=("local all all md5", "host all all 127.0.0.1/32 md5")) as server:
        yield server


# -- the fence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scram-sha-256", "md5"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fence_rejects_the_leaked_password_and_changes_nothing_else(
    harness: Harness, md5: ScratchPostgres, strategy: str, kind: str
):
    """Twice leaves what once leaves; the kind of the hash stays."""
    if kind == "md5":
        with md5.connect() as superuser:
            superuser.execute(f"CREATE ROLE {harness.group} NOLOGIN")
        harness = replace(harness, server=md5, dbname="postgres")
    secret, leaked = _managed(harness, strategy, password_encryption=kind)
    role = (
        "SELECT rolcanlogin, rolconnlimit, rolvaliduntil, rolinherit, rolconfig,"
        " shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
    )
    kind_of = "SELECT rolpassword LIKE 'md5%%' FROM pg_authid WHERE rolname = %s"
    before, hashed = harness.sql(role, leaked.username), harness.sql(kind_of, leaked.username)
    for _ in range(2):
        moment = _contains(secret).fence(_forgotten(leaked), _ctx(harness, secret))
        assert not harness.logs_in(leaked)
        assert json.loads(moment)
    assert harness.sql(role, leaked.username) == before
    assert harness.sql(kind_of, leaked.username) == hashed == [(kind == "md5",)]


def test_a_fence_on_a_login_that_is_missing_succeeds(harness: Harness):
    """Its password is invalid already."""
    secret, leaked = _managed(harness, "new-user")
    missing = replace(_forgotten(leaked), username="never_made")
    assert _contains(secret).fence(missing, _ctx(harness, secret))
    assert _contains(secret).end_sessions("never_made", "{}", _ctx(harness, secret)) == []
    assert harness.logs_in(leaked)


def test_a_fence_refuses_a_foreign_role(harness: Harness):
    """Its password stays valid."""
    secret, _ = _managed(harness, "new-user")
    foreign = Credential(username=f"{harness.group}_foreign", password=Secret("of-somebody-else"))
    harness.sql(f"CREATE ROLE {foreign.username} LOGIN PASSWORD 'of-somebody-else'")
    with pytest.raises(Conflict):
        _ = _contains(secret).fence(_forgotten(foreign), _ctx(harness, secret))
    assert harness.logs_in(foreign)


def test_a_fence_refuses_the_login_that_rotator_works_with(harness: Harness):
    """Else nobody could replace the password."""
    name = f"{harness.group}_root"
    own = Credential(username=name, password=Secret("the-admins-own"))
    harness.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'the-admins-own'")
    secret = harness.secret("single-user", admin=own, username=name)
    adopted = _ctx(harness, secret, adopted=frozenset({name}))
    with pytest.raises(Denied, match="the login that rotator works with") as caught:
        _ = _contains(secret).fence(_forgotten(own), adopted)
    assert "Nothing was changed" in (caught.value.safety or "")
    assert harness.logs_in(own)


def test_a_fence_without_the_right_names_the_grant(harness: Harness):
    """An adopted login that the admin may not alter."""
    admin = weak_admin(harness)
    name = f"{harness.group}_app"
    harness.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'there-before-us'")
    secret = harness.secret("single-user", admin=admin, username=name)
    ctx = _ctx(harness, secret, adopted=frozenset({name}))
    leaked = Credential(username=name, password=Secret(""))
    with pytest.raises(Denied, match="lacks the right to replace") as caught:
        _ = _contains(secret).fence(leaked, ctx)
    assert "WITH ADMIN OPTION" in caught.value.hint


@pytest.mark.parametrize("method", ["create", "withdraw"])
def test_no_step_after_a_fence_makes_the_leaked_password_valid_again(
    harness: Harness, method: str, monkeypatch: pytest.MonkeyPatch
):
    """Nor the new one, where it was withdrawn or could not be proven."""
    secret, leaked = _managed(harness, "single-user")
    new = replace(leaked, password=Secret("the-next-password"))
    ctx = _ctx(harness, secret, current=leaked, fenced=True)
    _ = _contains(secret).fence(_forgotten(leaked), ctx)
    if method == "create":
        secret.rotation.create(new, ctx)
        assert harness.logs_in(new)
        # The proof of the password fails: it is taken away again.
        monkeypatch.setattr(type(secret.rotation), "_accepts", lambda *_: False)
        with pytest.raises(Exception, match="rejects the new password"):
            secret.rotation.create(replace(new, password=Secret("the-third-one")), ctx)
        monkeypatch.undo()
    else:
        secret.rotation.create(new, ctx)
        secret.rotation.withdraw(new, ctx)
        secret.rotation.withdraw(new, ctx)
        assert not harness.logs_in(new)
    assert not harness.logs_in(leaked)
    assert not harness.logs_in(replace(new, password=Secret("the-third-one")))


# -- sessions ----------------------------------------------------------------------------------------


def test_sessions_that_began_before_the_change_end_and_later_ones_stay(harness: Harness):
    """Whatever name they give themselves; those of other logins stay too."""
    secret, leaked = _managed(harness, "single-user")
    ctx = _ctx(harness, secret)
    old = [harness.connect(leaked) for _ in range(2)]
    old[1].execute("SET application_name = 'rotator'")
    old[0].execute("BEGIN")
    result = harness.engine.rotate(secret)
    assert result.error is None
    moment = _contains(secret).moment(ctx)
    new = harness.connect(harness.serves(secret))
    ended = _contains(secret).end_sessions(leaked.username, moment, ctx)
    assert {one.login for one in ended} == {leaked.username}
    assert len(ended) == 2
    assert all(one.since is not None for one in ended)
    assert not any(map(_works, old))
    assert _works(new)
    assert _contains(secret).end_sessions(leaked.username, moment, ctx) == []
    new.close()


def test_an_admin_without_signal_rights_ends_sessions_of_logins_that_it_administers(
    harness: Harness,
):
    """And gives back what it took for a moment."""
    admin = weak_admin(harness, "GRANT {group} TO {admin} WITH ADMIN OPTION")
    secret = harness.secret("new-user", admin=admin, **options(harness, "new-user"))
    _ = harness.engine.rotate(secret)
    leaked = harness.serves(secret)
    session = harness.connect(leaked)
    harness.engine.open_incident(secret, _KILL)
    done = harness.engine.contain(secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert not _works(session)
    members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = %s AND m.inherit_option"
    assert harness.sql(members, leaked.username) == [(0,)]


# -- addresses ---------------------------------------------------------------------------------------


def test_each_password_has_its_answer_at_each_address(harness: Harness):
    """The server itself, and an address of the configuration, each once."""
    here = f"localhost:{harness.server.port}"
    secret = harness.secret(
        "single-user", target={"addresses": (here, here)}, **options(harness, "single-user")
    )
    _ = harness.engine.rotate(secret)
    leaked = harness.serves(secret)
    _ = harness.engine.rotate(secret)
    current = harness.serves(secret)
    found = _contains(secret).entrances(leaked, current, _ctx(harness, secret))
    assert [one.address for one in found] == [f"127.0.0.1:{harness.server.port}", here]
    for one in found:
        assert (one.current, one.wrong, one.leaked, one.why) == (True, False, False, "")


def test_a_login_that_could_lock_gets_no_wrong_password(harness: Harness):
    """As the extension credcheck would do."""
    with _role_settings(
        harness,
        "ALTER ROLE postgres SET credcheck.max_auth_failure = '3'",
        "ALTER ROLE postgres RESET credcheck.max_auth_failure",
    ):
        secret, leaked = _managed(harness, "single-user")
        entrance = _entrance(harness, secret, leaked)
    assert (entrance.current, entrance.wrong, entrance.leaked) == (True, None, None)
    assert "could lock" in entrance.why


@pytest.mark.skipif(not IS_INSTALLED, reason="Debian's package pgbouncer is missing")
@pytest.mark.parametrize("as_superuser", [True, False])
def test_a_pooler_with_a_cached_password_is_named(
    harness: Harness,
    as_superuser: bool,  # noqa: FBT001 # a parameter of the test
):
    """The server rejects the leaked password, and the pooler's own list still has it."""
    secret, leaked = _managed(harness, "single-user")
    users = {leaked.username: leaked.password.reveal()}
    with scratch_pgbouncer(harness.server, users, as_superuser=as_superuser) as port:
        address = f"127.0.0.1:{port}"
        secret = harness.secret(
            "single-user", target={"addresses": (address,)}, **options(harness, "single-user")
        )
        entrance = _entrance(harness, secret, leaked, address)
        assert (entrance.current, entrance.wrong, entrance.leaked) == (True, False, True), entrance
        harness.engine.open_incident(secret, _KILL)
        done = harness.engine.contain(secret)
    assert not harness.logs_in(leaked)
    assert done.proof is not None
    assert not done.proof.ok
    named = [one for one in done.proof.unproven if address in one]
    assert named, done.proof.unproven
    if as_superuser:
        assert f"{address} still accepts the leaked password." in named
    assert harness.journal.secret(secret.name).incident_state != PROVEN  # type: ignore[union-attr]


@pytest.mark.skipif(not IS_INSTALLED, reason="Debian's package pgbouncer is missing")
def test_a_pooler_with_the_new_password_rejects_the_leaked_one(harness: Harness):
    """So an incident can be proven with a pooler among the addresses."""
    secret, leaked = _managed(harness, "single-user")
    _ = harness.engine.rotate(secret)
    current = harness.serves(secret)
    with scratch_pgbouncer(harness.server, {current.username: current.password.reveal()}) as port:
        address = f"127.0.0.1:{port}"
        secret = harness.secret(
            "single-user", target={"addresses": (address,)}, **options(harness, "single-user")
        )
        entrance = _entrance(harness, secret, leaked, address)
        assert (entrance.current, entrance.wrong, entrance.leaked) == (True, False, False)
        unknown = replace(leaked, username="never_made")
        assert _entrance(harness, secret, unknown, address).leaked is False


# -- the whole containment ---------------------------------------------------------------------------


@pytest.mark.parametrize("report", [_KILL, _MOVE], ids=["kill", "move"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_leaked_password_is_dead_within_seconds(
    harness: Harness, strategy: str, report: LeakReport, record_property: Any
):
    """Rejected within 5 seconds, proven within 15, with no session of before."""
    secret, leaked = _managed(harness, strategy)
    session = harness.connect(leaked)
    begun = time.monotonic()
    harness.engine.open_incident(secret, report)
    done = harness.engine.contain(secret)
    proven = time.monotonic() - begun
    assert done.proof is not None, done
    assert done.proof.ok, done.proof.unproven
    assert done.proof.sessions == 0
    assert proven < 15
    assert not harness.logs_in(leaked)
    assert not _works(session)
    assert harness.logs_in(harness.serves(secret))
    events = harness.journal.events(secret.name)
    opened = next(one for one in events if one.kind.value == "leaked")
    step = (
        Step.FENCE if report is _KILL else (Step.CREATE if not _overlaps(secret) else Step.REVOKE)
    )
    ended = next(
        one
        for one in events
        if one.kind.value == "finished" and one.step is step and one.seq > opened.seq
    )
    rejected = (ended.at - opened.at).total_seconds()
    record_property("rejected", rejected)
    record_property("proven", proven)
    print(f"\nMEASURED {strategy} {report.mode}: rejected {rejected:.2f} s, proven {proven:.2f} s")
    assert rejected < 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_restored_copy_of_the_roles_opens_the_incident_again(harness: Harness, strategy: str):
    """As after a snapshot: it is made invalid again, and its sessions end."""
    secret, leaked = _managed(harness, strategy)
    query = (
        "SELECT rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = %s"
    )
    kept = harness.sql(query, leaked.username)
    harness.engine.open_incident(secret, _KILL)
    done = harness.engine.contain(secret)
    assert done.is_proven, done
    name = sql.Identifier(leaked.username)
    with harness.server.connect() as admin:
        if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [leaked.username]).rowcount:
            admin.execute(sql.SQL("CREATE ROLE {}").format(name))
            mark = sql.Literal(kept[0][1])
            admin.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(name, mark))
        verifier = sql.Literal(kept[0][0])
        admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, verifier))
    session = harness.connect(leaked)
    done = harness.engine.contain(secret)
    record = harness.journal.secret(secret.name)
    assert record is not None
    assert done.proof is not None
    assert done.revoked == (leaked.username,)
    assert done.proof.ok, done.proof.unproven
    assert not harness.logs_in(leaked)
    assert harness.logs_in(harness.serves(secret))
    assert not _works(session)
    assert record.incident_state == PROVEN


def _overlaps(secret: ManagedSecret) -> bool:
    return secret.rotation.overlaps


@needs_debian
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_older_server_contains_as_well(harness: Harness, strategy: str):
    """PostgreSQL 15, with an admin that is no superuser."""
    with ScratchPostgres(binaries=DEBIAN) as server:
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE app NOLOGIN")
            superuser.execute("CREATE ROLE adm LOGIN CREATEROLE PASSWORD 'admin-password'")
            superuser.execute("GRANT pg_read_all_stats, pg_signal_backend TO adm")
        secret = harness.secret(
            strategy,
            target={"port": server.port, "dbname": "postgres"},
            admin=Credential(username="adm", password=Secret("admin-password")),
            group="app",
            users=("a", "b") if strategy == "alternating-users" else (),
            username="s",
        )
        _ = harness.engine.rotate(secret)
        leaked = harness.serves(secret)
        session = server.connect(user=leaked.username, password=leaked.password.reveal())
        harness.engine.open_incident(secret, _KILL)
        done = harness.engine.contain(secret)
        assert done.proof is not None, done
        assert done.proof.ok, done.proof.unproven
        assert not _works(session)


# -- replicas ----------------------------------------------------------------------------------------

_HBA = (
    "local all all scram-sha-256",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def primary() -> Iterator[ScratchPostgres]:
    with ScratchPostgres(hba=_HBA) as made:
        yield made


def _on(
    primary: ScratchPostgres, replica: ScratchPostgres, tmp_path: Path, admin: Credential | None
) -> tuple[Harness, ManagedSecret]:
    from tests.harness import parts

    harness = Harness(
        server=primary, dbname="postgres", group="grp", name="grp", **parts(tmp_path / "h")
    )
    secret = harness.secret(
        "single-user",
        admin=admin,
        username="of_replicas",
        target={"readers": (f"127.0.0.1:{replica.port}",)},
    )
    _ = harness.engine.rotate(secret)
    return harness, secret


def test_a_replica_that_lags_is_named_and_all_its_sessions_count_as_earlier(
    primary: ScratchPostgres, tmp_path: Path
):
    """It accepts the leaked password until it has replayed the change."""
    with ScratchPostgres(of=primary, hba=_HBA) as replica:
        harness, secret = _on(primary, replica, tmp_path, None)
        leaked, address = harness.serves(secret), f"127.0.0.1:{replica.port}"
        with replica.connect() as admin:
            admin.execute("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
            admin.execute("SELECT pg_reload_conf()")
        _wait_until_delayed(replica)
        session = replica.connect(user=leaked.username, password=leaked.password.reveal())
        ctx = _ctx(harness, secret)
        moment = _contains(secret).fence(_forgotten(leaked), ctx)
        assert list(json.loads(moment)) == [f"127.0.0.1:{primary.port}"]
        assert not harness.logs_in(leaked)
        ended = _contains(secret).end_sessions(leaked.username, moment, ctx)
        assert len(ended) == 1
        assert not _works(session)
        entrance = _entrance(harness, secret, leaked, address)
        assert (entrance.wrong, entrance.leaked) == (False, True)
        harness.engine.open_incident(secret, _KILL)
        done = harness.engine.contain(secret)
        assert done.proof is None
        assert address in str(done.error)
        assert harness.journal.secret(secret.name).incident_state != PROVEN  # type: ignore[union-attr]
        harness.end()


def _wait_until_delayed(replica: ScratchPostgres) -> None:
    ends = time.monotonic() + 10
    with replica.connect() as admin:
        while admin.execute("SHOW recovery_min_apply_delay").fetchone() != ("1h",):
            assert time.monotonic() < ends
            time.sleep(0.02)


def test_an_address_that_asks_for_no_password_is_named(primary: ScratchPostgres, tmp_path: Path):
    """`trust` in pg_hba.conf of one replica: no rejection there means anything."""
    trusting = ("host all of_replicas 127.0.0.1/32 trust", *_HBA)
    with ScratchPostgres(of=primary, hba=_HBA) as replica:
        harness, secret = _on(primary, replica, tmp_path, None)
        address = f"127.0.0.1:{replica.port}"
        (replica.folder / "data" / "pg_hba.conf").write_text("\n".join(trusting) + "\n")
        with replica.connect() as admin:
            admin.execute("SELECT pg_reload_conf()")
        leaked = harness.serves(secret)
        assert _entrance(harness, secret, leaked, str(primary.port)).wrong is False
        entrance = _entrance(harness, secret, leaked, address)
        assert entrance.wrong is True
        harness.engine.open_incident(secret, _KILL)
        done = harness.engine.contain(secret)
        named = str(done.error) + " ".join(done.proof.unproven if done.proof else ())
        assert address in named
        assert not harness.logs_in(leaked)
        assert harness.journal.secret(secret.name).incident_state != PROVEN  # type: ignore[union-attr]
        harness.end()


def test_a_replica_needs_the_rights_of_its_own_and_their_lack_stops_nothing_else(
    primary: ScratchPostgres, tmp_path: Path
):
    """Nothing can be granted there for a moment, so the error names the grant."""
    with primary.connect() as superuser:
        superuser.execute("CREATE ROLE plain LOGIN CREATEROLE PASSWORD 'admin-password'")
    plain = Credential(username="plain", password=Secret("admin-password"))
    with ScratchPostgres(of=primary, hba=_HBA) as replica:
        with primary.connect() as superuser:
            superuser.execute("DROP ROLE IF EXISTS of_replicas")
        harness, secret = _on(primary, replica, tmp_path, plain)
        leaked, ctx = harness.serves(secret), _ctx(harness, secret)
        sessions = [
            server.connect(user=leaked.username, password=leaked.password.reveal())
            for server in (primary, replica)
        ]
        moment = _contains(secret).fence(_forgotten(leaked), ctx)
        with pytest.raises(Denied, match="lacks the rights to see and end") as caught:
            _ = _contains(secret).end_sessions(leaked.username, moment, ctx)
        assert "GRANT pg_read_all_stats, pg_signal_backend TO" in caught.value.hint
        assert [_works(session) for session in sessions] == [False, True]
        harness.engine.open_incident(secret, _KILL)
        done = harness.engine.contain(secret)
        assert done.proof is not None, done
        assert any("lacks the rights" in one for one in done.proof.unproven)
        assert harness.logs_in(harness.serves(secret))
        with primary.connect() as superuser:
            superuser.execute("GRANT pg_read_all_stats, pg_signal_backend TO plain")
        _wait_for_grant(replica)
        done = harness.engine.contain(secret)
        assert done.proof is not None
        assert done.proof.ok, done.proof.unproven
        assert not _works(sessions[1])
        harness.end()


def _wait_for_grant(replica: ScratchPostgres) -> None:
    ends = time.monotonic() + 10
    with replica.connect() as admin:
        while admin.execute(
            "SELECT pg_has_role('plain', 'pg_signal_backend', 'USAGE')"
        ).fetchone() != (True,):
            assert time.monotonic() < ends
            time.sleep(0.02)
