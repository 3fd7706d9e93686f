"""Whole rotations on a real MariaDB and a real MySQL: what holds for an application, an auditor, an attacker."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Finding, Secret
from rotator.core.errors import Unavailable, UsageError
from rotator.core.model import DrainThen, Outcome
from rotator.engine import ManagedSecret
from rotator.journal import audit
from rotator.testing.fakes import step_context
from tests.harness import FIRST, QUICK
from tests.mysql.dialects import MARIADB
from tests.mysql.harness import Harness
from tests.mysql.sandboxes import STRATEGIES, logs_in

_numbers = itertools.count(1)
OVERLAPPING = [one for one in STRATEGIES if one != "single-user"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_new_credential_logs_in_and_the_old_one_is_refused(harness: Harness, strategy: str):
    """Five times in a row; each refusal was tried, and every right was carried over."""
    secret = harness.secret(strategy)
    before = harness.dump(harness.name)
    harness.adopt(secret)
    for _ in range(5):
        old = harness.serves(secret)
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.error) == (Outcome.DONE, None)
        assert result.old_refused is True
        new = harness.serves(secret)
        assert logs_in(harness.server, new)
        assert not logs_in(harness.server, old)
        assert harness.dump(new.username) == before
    assert [name for name, locked in harness.accounts().items() if not locked] == [new.username]
    assert len(harness.accounts()) == (2 if strategy == "alternating-users" else 1)
    assert audit.verify(harness.journal).ok


@pytest.mark.parametrize("strategy", OVERLAPPING)
@pytest.mark.parametrize("rotations", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_client_that_opens_connections_all_the_time_sees_no_failure(
    harness: Harness, strategy: str, rotations: int
):
    """With what the backend serves, read at each login; nothing piles up on the server."""
    secret = harness.secret(strategy, policy=replace(QUICK, grace=timedelta(milliseconds=100)))
    harness.adopt(secret)
    stop, failures, logins = threading.Event(), list[str](), 0

    def application() -> None:
        nonlocal logins
        while not stop.is_set():
            login = harness.serves(secret)
            try:
                harness.server.connect(login.username, login.password.reveal(), "shop").close()
            except pymysql.MySQLError as error:
                failures.append(str(error))
            logins += 1

    client = threading.Thread(target=application)
    client.start()
    try:
        for _ in range(rotations):
            result = harness.engine.rotate(secret, patience=timedelta(seconds=5))
            assert result.outcome is Outcome.DONE, result.error
    finally:
        stop.set()
        client.join()
    assert failures == []
    assert logins > rotations
    marks = len(harness.dialect.accounts(harness.server, "rotator:"))
    assert marks <= len(harness.dialect.accounts(harness.server, "")) - marks


def test_an_open_session_works_until_the_drain_ends_it(harness: Harness):
    """It holds the revoke up, is told with its address, and is ended by the policy."""
    secret = harness.secret("new-user")
    harness.adopt(secret)
    with closing(harness.server.connect(harness.name, FIRST, "shop")) as session:
        held = harness.engine.rotate(secret)
        assert (held.outcome, held.published) == (None, True)
        cursor = session.cursor()
        cursor.execute("SELECT count(*) FROM orders")
        waiting = [
            event for event in harness.journal.events(secret.name) if event.kind == "waiting"
        ]
        (told,) = waiting[-1].data["sessions"]
        assert told["login"] == harness.name
        assert told["client"] == "127.0.0.1"
        done = harness.engine.revoke(secret, end_sessions=True)
        assert (done.outcome, done.old_refused) == (Outcome.DONE, True)
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("SELECT 1")


def test_a_policy_may_end_the_sessions_when_the_drain_is_over(harness: Harness):
    """`drain: {wait: 0s, then: terminate}`."""
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = harness.secret("alternating-users", policy=policy)
    harness.adopt(secret)
    with closing(harness.server.connect(harness.name, FIRST)) as session:
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        with pytest.raises(pymysql.MySQLError):
            session.cursor().execute("SELECT 1")


def test_sessions_are_ended_by_the_procedure_of_rds_where_the_admin_may_not(harness: Harness):
    """RDS gives its admins no right to KILL, but `mysql.rds_kill`."""
    admin = f"{harness.name}_admin"
    harness.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'",
        f"GRANT CREATE USER, PROCESS ON *.* TO {admin}@'%' WITH GRANT OPTION",
        f"GRANT SELECT, EXECUTE ON mysql.* TO {admin}@'%'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON *.* TO {admin}@'%' WITH GRANT OPTION",
        f"GRANT reader TO {admin}@'%' WITH ADMIN OPTION",
    )
    who = Credential(username=admin, password=Secret("weak"))
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = harness.secret("new-user", policy=policy, admin=who)
    harness.adopt(secret)
    with closing(harness.server.connect(harness.name, FIRST)) as session:
        refused = harness.engine.rotate(secret)
        assert refused.error is not None
        assert "CONNECTION ADMIN" in refused.error.hint.replace("_", " ")
        assert "lacks: CONNECTION ADMIN" in str(_examined(harness, secret)).replace("_", " ")
        harness.server.run(
            "CREATE PROCEDURE mysql.rds_kill(number BIGINT) SQL SECURITY DEFINER KILL CONNECTION number"
        )
        try:
            assert "lacks" not in str(_examined(harness, secret))
            harness.engine.unpark(secret, reason="the right is there")
            assert harness.engine.resume(secret).outcome is Outcome.DONE  # type: ignore[union-attr]
        finally:
            harness.server.run("DROP PROCEDURE mysql.rds_kill")
        with pytest.raises(pymysql.MySQLError):
            session.cursor().execute("SELECT 1")


def _examined(harness: Harness, secret: ManagedSecret) -> list[Finding]:
    return secret.rotation.examine(None, harness.engine.steps(secret).context(None))  # type: ignore[attr-defined]


def test_every_account_of_a_name_is_rotated(harness: Harness):
    """`app` from everywhere, and `app` from one address, are two accounts with a password each."""
    harness.server.run(f"CREATE USER {harness.name}@'127.0.0.1' IDENTIFIED BY '{FIRST}'")
    harness.server.run(f"GRANT reader TO {harness.name}@'127.0.0.1'")
    harness.server.run(f"GRANT SELECT ON shop.* TO {harness.name}@'127.0.0.1'")
    secret = harness.secret("new-user")
    harness.adopt(secret)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    login = harness.serves(secret).username
    hosts = harness.server.run(f"SELECT Host FROM mysql.user WHERE User = '{login}' ORDER BY Host")
    assert [row[0] for row in hosts] == ["%", "127.0.0.1"]
    assert "app" not in {name for name in harness.accounts() if name == harness.name}


def test_what_defines_views_stays_and_lets_nobody_in(harness: Harness):
    """A view runs with its definer's rights: dropped, nobody could read it any more."""
    harness.server.run(
        f"CREATE DEFINER = {harness.name}@'%' SQL SECURITY DEFINER VIEW shop.v_{harness.name} AS SELECT 1 AS one"
    )
    secret = harness.secret("new-user")
    harness.adopt(secret)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert harness.accounts()[harness.name] is True
    assert harness.server.run(f"SELECT * FROM shop.v_{harness.name}") == [(1,)]


def test_a_login_changes_its_own_password_without_an_admin(harness: Harness):
    """Where its own rights are all there is."""
    own = Credential(username=harness.name, password=Secret(FIRST))
    secret = harness.secret("single-user", admin=own)
    harness.adopt(secret)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert logs_in(harness.server, harness.serves(secret))
    assert not logs_in(harness.server, own)


def test_no_password_is_in_the_servers_logs(harness: Harness):
    """Neither in the general log nor in the binary one, where hashes stand; nor in ours or the journal."""
    passwords = list[str]()
    for number, strategy in enumerate(STRATEGIES):
        name = f"{harness.name}_{number}"
        harness.server.run(f"CREATE USER {name}@'%'", f"GRANT SELECT ON shop.* TO {name}@'%'")
        harness.server.run(f"ALTER USER {name}@'%' IDENTIFIED BY 'first'")
        secret = harness.secret(strategy, username=name)
        harness.adopt(secret, secret.name, "first")
        for _ in range(2):
            assert harness.engine.rotate(secret).outcome is Outcome.DONE
            passwords.append(harness.serves(secret).password.reveal())
    said = harness.server.log_text() + str(harness.log.lines)
    assert said.count(harness.dialect.hashed) > 20
    said += str(
        [
            event.data
            for name in harness.journal.secrets()
            for event in harness.journal.events(name.name)
        ]
    )
    assert len(passwords) == 8
    assert not [one for one in passwords if one in said]


# -- what is refused -----------------------------------------------------------------------------


def test_an_account_that_logs_in_by_its_socket_is_refused(harness: Harness):
    """There is no password to rotate."""
    harness.server.run(f"ALTER USER {harness.name}@'%' {harness.dialect.by_socket}")
    secret = harness.secret("dual-password")
    with pytest.raises(UsageError, match="rejects login"):
        harness.adopt(secret)


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users", "dual-password"])
def test_an_admin_without_the_right_is_told_which(harness: Harness, strategy: str):
    """All secrets of the target wait, and nothing is left behind."""
    admin = f"{harness.name}_admin"
    harness.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'", f"GRANT SELECT ON mysql.* TO {admin}@'%'"
    )
    secret = harness.secret(strategy, admin=Credential(username=admin, password=Secret("weak")))
    harness.adopt(secret)
    before = harness.accounts()
    result = harness.engine.rotate(secret)
    assert result.error is not None
    assert result.error.kind == "unavailable"
    assert "GRANT CREATE USER" in str(result.error)
    assert harness.accounts() == before
    assert logs_in(harness.server, harness.serves(secret))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rotation_waits_while_the_server_is_read_only(harness: Harness, strategy: str):
    """As during a failover: no secret is parked, and it goes on as soon as the server takes writes."""
    secret = harness.secret(strategy)
    harness.adopt(secret)
    harness.server.run("SET GLOBAL read_only = 1")
    try:
        result = harness.engine.rotate(secret)
    finally:
        harness.server.run("SET GLOBAL read_only = 0")
    assert isinstance(result.error, Unavailable)
    assert "is read-only" in str(result.error)
    assert not result.parked
    assert logs_in(harness.server, harness.serves(secret))
    done = harness.engine.rotate(secret, at_once=True)
    assert done.outcome is Outcome.DONE


def test_an_undoing_waits_while_the_server_is_read_only(harness: Harness):
    """It became so after the new login was made: nothing is left once it takes writes again."""
    root = Credential(username="root", password=Secret(harness.server.root_password))
    options = SecretOptions(prefix=harness.name, like=harness.name)
    target = PLUGIN.target("main", TargetOptions(port=harness.server.port), lambda: root)
    rotation = target.rotation("new-user", options)
    ctx = step_context(secret="undone", timeout=20)
    before = harness.accounts()
    new = rotation.propose(None, ctx)
    rotation.create(new, ctx)
    harness.server.run("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(Unavailable, match="read-only"):
            rotation.withdraw(new, ctx)
    finally:
        harness.server.run("SET GLOBAL read_only = 0")
    rotation.withdraw(new, ctx)
    target.close()
    assert harness.accounts() == before


@pytest.mark.parametrize("how", ["ACCOUNT LOCK", "PASSWORD EXPIRE"])
def test_an_account_that_is_locked_or_expired_is_not_adopted(harness: Harness, how: str):
    """It does not log in."""
    harness.server.run(f"ALTER USER {harness.name}@'%' {how}")
    secret = harness.secret("dual-password")
    with pytest.raises(UsageError, match="rejects login"):
        harness.adopt(secret)


def test_doctor_finds_what_is_in_the_way(harness: Harness):
    """An anonymous account, a missing right."""
    admin = f"{harness.name}_admin"
    harness.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'", f"GRANT SELECT ON mysql.* TO {admin}@'%'"
    )
    secret = harness.secret(
        "dual-password", admin=Credential(username=admin, password=Secret("weak"))
    )
    harness.server.run("CREATE USER ''@'nowhere.example.org'")
    found = _examined(harness, secret)
    harness.server.run("DROP USER ''@'nowhere.example.org'")
    said = " ".join(f"{one.message} {one.remedy}" for one in found).replace("_", " ")
    assert "anonymous" in said
    assert "lacks: CREATE USER, PROCESS, CONNECTION ADMIN" in said


def test_doctor_tells_a_replica_that_may_be_written(harness: Harness):
    """A password that is set there is not set on the primary."""
    begin, end = harness.dialect.replication
    harness.server.run(begin)
    try:
        assert "replicates from 127.0.0.9" in str(
            _examined(harness, harness.secret("dual-password"))
        )
    finally:
        harness.server.run(end)
    assert "replicates from" not in str(_examined(harness, harness.secret("dual-password")))


_AWKWARD = st.text(
    st.characters(
        blacklist_categories=("Cs", "Cc"), max_codepoint=0xFFFF, blacklist_characters="\0"
    ),
    min_size=1,
    max_size=20,
).filter(lambda name: name == name.rstrip() and len(name.encode()) < 60)


_HOST = st.one_of(
    st.sampled_from(["10.%", "192.168.0.0/255.255.0.0", "db_1.example.org", "it's", "a`b", "%s%%"]),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="@"),
        min_size=1,
        max_size=30,
    ).map(str.lower),
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=_AWKWARD,
    host=_HOST,
    password=st.text(
        st.characters(min_codepoint=33, blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30
    ),
)
def test_awkward_names_hosts_and_passwords_are_taken_as_they_are(
    harness: Harness, strategy: str, name: str, host: str, password: str
):
    """Quotes, back-ticks, per cent signs, other alphabets."""
    quoted = "`" + name.replace("`", "``") + "`"
    hosts = sorted({"%", host})
    accounts = [f"{quoted}@`{one.replace('`', '``')}`".replace("%", "%%") for one in hosts]
    with harness.server.connect() as root:
        cursor = root.cursor()
        for account in accounts:
            cursor.execute(f"DROP USER IF EXISTS {account}", ())
            cursor.execute(f"CREATE USER {account} IDENTIFIED BY %s", (password,))
            cursor.execute(f"GRANT SELECT ON shop.* TO {account}", ())
    made = harness.secret(strategy, username=name)
    secret = replace(
        made, name=f"{harness.name} {next(_numbers)}", path=f"{harness.name}-{next(_numbers)}"
    )
    harness.engine.adopt(secret, first=Credential(username=name, password=Secret(password)))
    # A login on MySQL without TLS costs an exchange of keys: once is enough there.
    for _ in range(2 if harness.dialect is MARIADB else 1):
        result = harness.engine.rotate(secret)
        assert result.outcome is Outcome.DONE, result.error
        served = harness.serves(secret)
        assert logs_in(harness.server, served)
        with harness.server.connect() as root:
            cursor = root.cursor()
            cursor.execute(
                "SELECT Host, authentication_string FROM mysql.user WHERE User = %s ORDER BY Host",
                (served.username,),
            )
            kept = dict(cursor.fetchall())
        assert list(kept) == hosts
        assert all(harness.dialect.keeps(one, served.password) for one in kept.values())
    with harness.server.connect() as root:
        for account in accounts:
            root.cursor().execute(f"DROP USER IF EXISTS {account}", ())
