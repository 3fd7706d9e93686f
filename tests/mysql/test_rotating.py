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
from tests.house import FIRST, QUICK
from tests.mysql.dialects import MARIADB
from tests.mysql.houses import House
from tests.mysql.worlds import STRATEGIES, logs_in

_numbers = itertools.count(1)
OVERLAPPING = [one for one in STRATEGIES if one != "single-user"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_new_credential_logs_in_and_the_old_one_is_refused(house: House, strategy: str):
    """Five times in a row; each refusal was tried, and every right was carried over."""
    secret = house.secret(strategy)
    before = house.dump(house.name)
    house.adopt(secret)
    for _ in range(5):
        old = house.serves(secret)
        result = house.engine.rotate(secret)
        assert (result.outcome, result.error) == (Outcome.DONE, None)
        assert result.old_refused is True
        new = house.serves(secret)
        assert logs_in(house.server, new)
        assert not logs_in(house.server, old)
        assert house.dump(new.username) == before
    assert [name for name, locked in house.accounts().items() if not locked] == [new.username]
    assert len(house.accounts()) == (2 if strategy == "alternating-users" else 1)
    assert audit.verify(house.journal).ok


@pytest.mark.parametrize("strategy", OVERLAPPING)
@pytest.mark.parametrize("rotations", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_client_that_opens_connections_all_the_time_sees_no_failure(
    house: House, strategy: str, rotations: int
):
    """With what the backend serves, read at each login; nothing piles up on the server."""
    secret = house.secret(strategy, policy=replace(QUICK, grace=timedelta(milliseconds=100)))
    house.adopt(secret)
    stop, failures, logins = threading.Event(), list[str](), 0

    def application() -> None:
        nonlocal logins
        while not stop.is_set():
            login = house.serves(secret)
            try:
                house.server.connect(login.username, login.password.reveal(), "shop").close()
            except pymysql.MySQLError as error:
                failures.append(str(error))
            logins += 1

    client = threading.Thread(target=application)
    client.start()
    try:
        for _ in range(rotations):
            result = house.engine.rotate(secret, patience=timedelta(seconds=5))
            assert result.outcome is Outcome.DONE, result.error
    finally:
        stop.set()
        client.join()
    assert failures == []
    assert logins > rotations
    marks = len(house.dialect.accounts(house.server, "rotator:"))
    assert marks <= len(house.dialect.accounts(house.server, "")) - marks


def test_an_open_session_works_until_the_drain_ends_it(house: House):
    """It holds the revoke up, is told with its address, and is ended by the policy."""
    secret = house.secret("new-user")
    house.adopt(secret)
    with closing(house.server.connect(house.name, FIRST, "shop")) as session:
        held = house.engine.rotate(secret)
        assert (held.outcome, held.published) == (None, True)
        cursor = session.cursor()
        cursor.execute("SELECT count(*) FROM orders")
        waiting = [event for event in house.journal.events(secret.name) if event.kind == "waiting"]
        (told,) = waiting[-1].data["sessions"]
        assert told["login"] == house.name
        assert told["client"] == "127.0.0.1"
        done = house.engine.revoke(secret, end_sessions=True)
        assert (done.outcome, done.old_refused) == (Outcome.DONE, True)
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("SELECT 1")


def test_a_policy_may_end_the_sessions_when_the_drain_is_over(house: House):
    """`drain: {wait: 0s, then: terminate}`."""
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = house.secret("alternating-users", policy=policy)
    house.adopt(secret)
    with closing(house.server.connect(house.name, FIRST)) as session:
        assert house.engine.rotate(secret).outcome is Outcome.DONE
        with pytest.raises(pymysql.MySQLError):
            session.cursor().execute("SELECT 1")


def test_sessions_are_ended_by_the_procedure_of_rds_where_the_admin_may_not(house: House):
    """RDS gives its admins no right to KILL, but `mysql.rds_kill`."""
    admin = f"{house.name}_admin"
    house.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'",
        f"GRANT CREATE USER, PROCESS ON *.* TO {admin}@'%' WITH GRANT OPTION",
        f"GRANT SELECT, EXECUTE ON mysql.* TO {admin}@'%'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON *.* TO {admin}@'%' WITH GRANT OPTION",
        f"GRANT reader TO {admin}@'%' WITH ADMIN OPTION",
    )
    who = Credential(username=admin, password=Secret("weak"))
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = house.secret("new-user", policy=policy, admin=who)
    house.adopt(secret)
    with closing(house.server.connect(house.name, FIRST)) as session:
        refused = house.engine.rotate(secret)
        assert refused.error is not None
        assert "CONNECTION ADMIN" in refused.error.hint.replace("_", " ")
        assert "lacks: CONNECTION ADMIN" in str(_examined(house, secret)).replace("_", " ")
        house.server.run(
            "CREATE PROCEDURE mysql.rds_kill(number BIGINT) SQL SECURITY DEFINER KILL CONNECTION number"
        )
        try:
            assert "lacks" not in str(_examined(house, secret))
            house.engine.unpark(secret, reason="the right is there")
            assert house.engine.resume(secret).outcome is Outcome.DONE  # type: ignore[union-attr]
        finally:
            house.server.run("DROP PROCEDURE mysql.rds_kill")
        with pytest.raises(pymysql.MySQLError):
            session.cursor().execute("SELECT 1")


def _examined(house: House, secret: ManagedSecret) -> list[Finding]:
    return secret.rotation.examine(None, house.engine.steps(secret).context(None))  # type: ignore[attr-defined]


def test_every_account_of_a_name_is_rotated(house: House):
    """`app` from everywhere, and `app` from one address, are two accounts with a password each."""
    house.server.run(f"CREATE USER {house.name}@'127.0.0.1' IDENTIFIED BY '{FIRST}'")
    house.server.run(f"GRANT reader TO {house.name}@'127.0.0.1'")
    house.server.run(f"GRANT SELECT ON shop.* TO {house.name}@'127.0.0.1'")
    secret = house.secret("new-user")
    house.adopt(secret)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    login = house.serves(secret).username
    hosts = house.server.run(f"SELECT Host FROM mysql.user WHERE User = '{login}' ORDER BY Host")
    assert [row[0] for row in hosts] == ["%", "127.0.0.1"]
    assert "app" not in {name for name in house.accounts() if name == house.name}


def test_what_defines_views_stays_and_lets_nobody_in(house: House):
    """A view runs with its definer's rights: dropped, nobody could read it any more."""
    house.server.run(
        f"CREATE DEFINER = {house.name}@'%' SQL SECURITY DEFINER VIEW shop.v_{house.name} AS SELECT 1 AS one"
    )
    secret = house.secret("new-user")
    house.adopt(secret)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    assert house.accounts()[house.name] is True
    assert house.server.run(f"SELECT * FROM shop.v_{house.name}") == [(1,)]


def test_a_login_changes_its_own_password_without_an_admin(house: House):
    """Where its own rights are all there is."""
    own = Credential(username=house.name, password=Secret(FIRST))
    secret = house.secret("single-user", admin=own)
    house.adopt(secret)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    assert logs_in(house.server, house.serves(secret))
    assert not logs_in(house.server, own)


def test_no_password_is_in_the_servers_logs(house: House):
    """Neither in the general log nor in the binary one, where hashes stand; nor in ours or the journal."""
    passwords = list[str]()
    for number, strategy in enumerate(STRATEGIES):
        name = f"{house.name}_{number}"
        house.server.run(f"CREATE USER {name}@'%'", f"GRANT SELECT ON shop.* TO {name}@'%'")
        house.server.run(f"ALTER USER {name}@'%' IDENTIFIED BY 'first'")
        secret = house.secret(strategy, username=name)
        house.adopt(secret, secret.name, "first")
        for _ in range(2):
            assert house.engine.rotate(secret).outcome is Outcome.DONE
            passwords.append(house.serves(secret).password.reveal())
    said = house.server.log_text() + str(house.log.lines)
    assert said.count(house.dialect.hashed) > 20
    said += str(
        [
            event.data
            for name in house.journal.secrets()
            for event in house.journal.events(name.name)
        ]
    )
    assert len(passwords) == 8
    assert not [one for one in passwords if one in said]


# -- what is refused -----------------------------------------------------------------------------


def test_an_account_that_logs_in_by_its_socket_is_refused(house: House):
    """There is no password to rotate."""
    house.server.run(f"ALTER USER {house.name}@'%' {house.dialect.by_socket}")
    secret = house.secret("dual-password")
    with pytest.raises(UsageError, match="rejects login"):
        house.adopt(secret)


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users", "dual-password"])
def test_an_admin_without_the_right_is_told_which(house: House, strategy: str):
    """All secrets of the target wait, and nothing is left behind."""
    admin = f"{house.name}_admin"
    house.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'", f"GRANT SELECT ON mysql.* TO {admin}@'%'"
    )
    secret = house.secret(strategy, admin=Credential(username=admin, password=Secret("weak")))
    house.adopt(secret)
    before = house.accounts()
    result = house.engine.rotate(secret)
    assert result.error is not None
    assert result.error.kind == "unavailable"
    assert "GRANT CREATE USER" in str(result.error)
    assert house.accounts() == before
    assert logs_in(house.server, house.serves(secret))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rotation_waits_while_the_server_is_read_only(house: House, strategy: str):
    """As during a failover: no secret is parked, and it goes on as soon as the server takes writes."""
    secret = house.secret(strategy)
    house.adopt(secret)
    house.server.run("SET GLOBAL read_only = 1")
    try:
        result = house.engine.rotate(secret)
    finally:
        house.server.run("SET GLOBAL read_only = 0")
    assert isinstance(result.error, Unavailable)
    assert "is read-only" in str(result.error)
    assert not result.parked
    assert logs_in(house.server, house.serves(secret))
    done = house.engine.rotate(secret, at_once=True)
    assert done.outcome is Outcome.DONE


def test_an_undoing_waits_while_the_server_is_read_only(house: House):
    """It became so after the new login was made: nothing is left once it takes writes again."""
    root = Credential(username="root", password=Secret(house.server.root_password))
    options = SecretOptions(prefix=house.name, like=house.name)
    target = PLUGIN.target("main", TargetOptions(port=house.server.port), lambda: root)
    rotation = target.rotation("new-user", options)
    ctx = step_context(secret="undone", timeout=20)
    before = house.accounts()
    new = rotation.propose(None, ctx)
    rotation.create(new, ctx)
    house.server.run("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(Unavailable, match="read-only"):
            rotation.withdraw(new, ctx)
    finally:
        house.server.run("SET GLOBAL read_only = 0")
    rotation.withdraw(new, ctx)
    target.close()
    assert house.accounts() == before


@pytest.mark.parametrize("how", ["ACCOUNT LOCK", "PASSWORD EXPIRE"])
def test_an_account_that_is_locked_or_expired_is_not_adopted(house: House, how: str):
    """It does not log in."""
    house.server.run(f"ALTER USER {house.name}@'%' {how}")
    secret = house.secret("dual-password")
    with pytest.raises(UsageError, match="rejects login"):
        house.adopt(secret)


def test_doctor_finds_what_is_in_the_way(house: House):
    """An anonymous account, a missing right."""
    admin = f"{house.name}_admin"
    house.server.run(
        f"CREATE USER {admin}@'%' IDENTIFIED BY 'weak'", f"GRANT SELECT ON mysql.* TO {admin}@'%'"
    )
    secret = house.secret(
        "dual-password", admin=Credential(username=admin, password=Secret("weak"))
    )
    house.server.run("CREATE USER ''@'nowhere.example.org'")
    found = _examined(house, secret)
    house.server.run("DROP USER ''@'nowhere.example.org'")
    said = " ".join(f"{one.message} {one.remedy}" for one in found).replace("_", " ")
    assert "anonymous" in said
    assert "lacks: CREATE USER, PROCESS, CONNECTION ADMIN" in said


def test_doctor_tells_a_replica_that_may_be_written(house: House):
    """A password that is set there is not set on the primary."""
    begin, end = house.dialect.replication
    house.server.run(begin)
    try:
        assert "copies from 127.0.0.9" in str(_examined(house, house.secret("dual-password")))
    finally:
        house.server.run(end)
    assert "copies from" not in str(_examined(house, house.secret("dual-password")))


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
    house: House, strategy: str, name: str, host: str, password: str
):
    """Quotes, back-ticks, per cent signs, other alphabets."""
    quoted = "`" + name.replace("`", "``") + "`"
    hosts = sorted({"%", host})
    accounts = [f"{quoted}@`{one.replace('`', '``')}`".replace("%", "%%") for one in hosts]
    with house.server.connect() as root:
        cursor = root.cursor()
        for account in accounts:
            cursor.execute(f"DROP USER IF EXISTS {account}", ())
            cursor.execute(f"CREATE USER {account} IDENTIFIED BY %s", (password,))
            cursor.execute(f"GRANT SELECT ON shop.* TO {account}", ())
    made = house.secret(strategy, username=name)
    secret = replace(
        made, name=f"{house.name} {next(_numbers)}", path=f"{house.name}-{next(_numbers)}"
    )
    house.engine.adopt(secret, first=Credential(username=name, password=Secret(password)))
    # A login on MySQL without TLS costs an exchange of keys: once is enough there.
    for _ in range(2 if house.dialect is MARIADB else 1):
        result = house.engine.rotate(secret)
        assert result.outcome is Outcome.DONE, result.error
        served = house.serves(secret)
        assert logs_in(house.server, served)
        with house.server.connect() as root:
            cursor = root.cursor()
            cursor.execute(
                "SELECT Host, authentication_string FROM mysql.user WHERE User = %s ORDER BY Host",
                (served.username,),
            )
            kept = dict(cursor.fetchall())
        assert list(kept) == hosts
        assert all(house.dialect.keeps(one, served.password) for one in kept.values())
    with house.server.connect() as root:
        for account in accounts:
            root.cursor().execute(f"DROP USER IF EXISTS {account}", ())
