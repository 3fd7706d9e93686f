"""Whole rotations on a real PostgreSQL: what holds for an application, an auditor, an attacker."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.api import Credential, Denied, PasswordPolicy, Secret
from rotator.core.errors import UsageError
from rotator.core.model import DrainThen, Outcome
from rotator.journal import audit
from tests.harness import QUICK
from tests.postgresql.conftest import Harness


def options(harness: Harness, strategy: str) -> dict:
    return {
        "new-user": {"group": harness.group},
        "alternating-users": {
            "group": harness.group,
            "users": (f"{harness.group}_a", f"{harness.group}_b"),
        },
        "single-user": {"username": f"{harness.group}_s", "group": harness.group},
    }[strategy]


STRATEGIES = ["new-user", "alternating-users", "single-user"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_new_credential_logs_in_and_the_old_one_is_refused(harness: Harness, strategy: str):
    """Five times in a row; each refusal was tried, and is in the journal."""
    secret = harness.secret(strategy, **options(harness, strategy))
    old = None
    for _ in range(5):
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.error) == (Outcome.DONE, None)
        new = harness.serves(secret)
        assert harness.logs_in(new)
        if old is not None:
            assert result.old_refused is True
            assert not harness.logs_in(old)
        old = new
    assert audit.verify(harness.journal).ok


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rotations", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_rotations_leave_as_many_roles_and_grants_as_one(
    harness: Harness, strategy: str, rotations: int
):
    """Nothing piles up: roles, memberships, settings, and the table's access list stay as they are."""
    secret = harness.secret(strategy, **options(harness, strategy))
    for _ in range(2):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE

    def sizes() -> list[tuple]:
        return harness.sql(
            "SELECT (SELECT count(*) FROM pg_roles), (SELECT count(*) FROM pg_auth_members),"
            " (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_shdepend),"
            " (SELECT coalesce(array_length(relacl, 1), 0) FROM pg_class WHERE relname = 'orders')"
        )

    before = sizes()
    for _ in range(rotations):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert sizes() == before


def test_what_the_application_creates_belongs_to_the_group(harness: Harness):
    """So the next login can alter it, and revoke has nothing to hand over."""
    secret = harness.secret(group=harness.group)
    harness.engine.rotate(secret)
    with harness.connect(harness.serves(secret)) as application:
        application.execute("CREATE TABLE made (id int)")
    harness.engine.rotate(secret)
    with harness.connect(harness.serves(secret)) as application:
        application.execute("ALTER TABLE made ADD COLUMN more text")
    owner = harness.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'made'")
    assert owner == [(harness.group,)]


def test_an_open_session_works_until_the_drain_ends_it(harness: Harness):
    """It holds the revoke up, is named with its application, and is ended only on a person's word."""
    secret = harness.secret(group=harness.group)
    harness.engine.rotate(secret)
    old = harness.serves(secret)
    session = harness.connect(old)
    session.execute("SET application_name = 'checkout'")
    held = harness.engine.rotate(secret)
    assert (held.outcome, held.published) == (None, True)
    assert session.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    waiting = [event for event in harness.journal.events(secret.name) if event.kind == "waiting"]
    assert waiting[-1].data["sessions"][0]["application"] == "checkout"
    done = harness.engine.revoke(secret, end_sessions=True)
    assert (done.outcome, done.old_refused) == (Outcome.DONE, True)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()


def test_a_policy_may_end_the_sessions_when_the_drain_is_over(harness: Harness):
    """`drain: {wait: 0s, then: terminate}`."""
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = harness.secret(group=harness.group, policy=policy)
    harness.engine.rotate(secret)
    with harness.connect(harness.serves(secret)) as session:
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_what_an_old_login_owns_in_several_databases_goes_to_the_group(harness: Harness):
    """A login that was told to act as itself has left objects in two databases."""
    other = f"{harness.dbname}_too"
    harness.sql(f"CREATE DATABASE {other}")
    secret = harness.secret(group=harness.group)
    harness.engine.rotate(secret)
    login = harness.serves(secret).username
    for dbname in (harness.dbname, other):
        harness.sql(f'CREATE TABLE own (id int); ALTER TABLE own OWNER TO "{login}"', dbname=dbname)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert login not in harness.roles()
    for dbname in (harness.dbname, other):
        owner = harness.sql(
            "SELECT tableowner FROM pg_tables WHERE tablename = 'own'", dbname=dbname
        )
        assert owner == [(harness.group,)]
    harness.sql(f"DROP DATABASE {other}")


def adopted(harness: Harness, name: str, **more) -> Credential:
    """Return a login that was there before us, put into the backend by a person."""
    credential = Credential(username=name, password=Secret("there-before-us"), **more)
    harness.sql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'there-before-us'")
    return credential


def test_adopting_changes_nothing_on_the_target(harness: Harness):
    """Only the journal learns of it."""
    name = f"{harness.group}_app"
    first = adopted(harness, name)
    before = harness.sql("SELECT oid, rolcanlogin, rolpassword FROM pg_authid ORDER BY oid")
    secret = harness.secret(group=name)
    health = harness.engine.adopt(secret, first=first)
    assert (health.accepted, health.login) == (True, name)
    assert harness.sql("SELECT oid, rolcanlogin, rolpassword FROM pg_authid ORDER BY oid") == before
    assert harness.sql(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", name
    ) == [(None,)]


def test_an_adopted_login_becomes_the_group(harness: Harness):
    """It owns the tables, so it stays, and only stops logging in."""
    name = f"{harness.group}_app"
    first = adopted(harness, name)
    harness.sql(f"CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO {name}")
    secret = harness.secret(group=name, privileges=("table public.theirs: SELECT",))
    harness.engine.adopt(secret, first=first)
    result = harness.engine.rotate(secret)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert harness.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", name) == [(False,)]
    with harness.connect(harness.serves(secret)) as application:
        application.execute("DROP TABLE theirs")


def test_a_password_that_is_wrong_is_not_adopted(harness: Harness):
    """And nothing is written to the backend."""
    name = f"{harness.group}_app"
    first = replace(adopted(harness, name), password=Secret("mistyped-password"))
    secret = harness.secret(group=name)
    with pytest.raises(UsageError, match="rejects login"):
        harness.engine.adopt(secret, first=first)
    assert harness.backend.current(secret.path) is None


def test_a_login_that_owns_things_itself_is_not_replaced_by_one_that_could_not_use_them(
    harness: Harness,
):
    """The remedy is in the text: make it the group."""
    name = f"{harness.group}_app"
    first = adopted(harness, name)
    harness.sql(f"CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO {name}")
    secret = harness.secret(group=harness.group)
    harness.engine.adopt(secret, first=first)
    before = harness.roles()
    result = harness.engine.rotate(secret)
    assert result.outcome is Outcome.UNDONE
    assert f"`group: {name}`" in str(result.error)
    assert harness.roles() == before
    assert harness.logs_in(first)


def test_a_login_that_somebody_dropped_is_not_made_anew_without_its_rights(harness: Harness):
    """It would log in, and could do nothing."""
    secret = harness.secret("single-user", **options(harness, "single-user"))
    harness.engine.rotate(secret)
    name = harness.serves(secret).username
    harness.sql(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')
    result = harness.engine.rotate(secret)
    assert (result.outcome, result.parked) == (Outcome.UNDONE, True)
    assert f"has no login '{name}'" in str(result.error)
    assert name not in harness.roles()


@pytest.mark.parametrize("strategy", ["alternating-users", "single-user"])
def test_a_role_that_is_not_ours_is_left_alone(harness: Harness, strategy: str):
    """P9: a name that fits is no proof of ownership."""
    given = options(harness, strategy)
    name = given.get("username") or given["users"][0]
    foreign = adopted(harness, name)
    result = harness.engine.rotate(harness.secret(strategy, **given))
    assert (result.outcome, result.parked) == (Outcome.UNDONE, True)
    assert "rotator neither made nor adopted it" in str(result.error)
    assert harness.logs_in(foreign)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_settings_and_limits_are_carried_over(harness: Harness, strategy: str):
    """Role settings, in all databases and in one, and the connection limit."""
    secret = harness.secret(strategy, **options(harness, strategy))
    harness.engine.rotate(secret)
    login = harness.serves(secret).username
    harness.sql(f"""ALTER ROLE "{login}" SET search_path TO "$user", public, 'Odd, "name"'""")
    harness.sql(f"ALTER ROLE \"{login}\" IN DATABASE {harness.dbname} SET work_mem TO '8MB'")
    harness.sql(f'ALTER ROLE "{login}" CONNECTION LIMIT 7')

    def kept(name: str) -> list[tuple]:
        return harness.sql(
            "SELECT rolconnlimit, s.setdatabase, array(SELECT x FROM unnest(s.setconfig) x WHERE x !~ '^role=' ORDER BY x)"
            " FROM pg_roles r JOIN pg_db_role_setting s ON s.setrole = r.oid"
            " WHERE rolname = %s ORDER BY 2",
            name,
        )

    before = kept(login)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert kept(harness.serves(secret).username) == before
    assert len(before) == 2


def weak_admin(harness: Harness, *grants: str) -> Credential:
    name = f"{harness.group}_admin"
    harness.sql(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'admin-password'")
    for grant in grants:
        harness.sql(grant.format(admin=name, group=harness.group))
    return Credential(username=name, password=Secret("admin-password"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_admin_who_is_no_superuser_is_enough(harness: Harness, strategy: str):
    """CREATEROLE and ADMIN OPTION on the group; also with sessions to end and things to hand over."""
    admin = weak_admin(harness, "GRANT {group} TO {admin} WITH ADMIN OPTION")
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = harness.secret(strategy, admin=admin, policy=policy, **options(harness, strategy))
    harness.engine.rotate(secret)
    old = harness.serves(secret)
    if strategy == "new-user":
        harness.sql(f'CREATE TABLE own (id int); ALTER TABLE own OWNER TO "{old.username}"')
    with harness.connect(old):
        result = harness.engine.rotate(secret)
    assert (result.outcome, result.error) == (Outcome.DONE, None)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    left = harness.sql(
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = %s AND m.inherit_option",
        admin.username,
    )
    assert left == [(harness.group,)], "rights that were taken for a moment are given back"


def test_an_admin_without_the_right_is_told_which_one(harness: Harness):
    """Nothing is changed, and the secret waits for a person."""
    secret = harness.secret(admin=weak_admin(harness), group=harness.group)
    before = harness.roles()
    result = harness.engine.rotate(secret)
    assert (result.outcome, result.parked) == (Outcome.UNDONE, True)
    assert result.error is not None
    assert result.error.kind == "denied"
    assert f'GRANT "{harness.group}" TO' in str(result.error)
    assert harness.roles() == before
    remedies = [
        one.remedy
        for one in secret.rotation.examine(None, harness.engine.steps(secret).context(None))
    ]  # pyright: ignore[reportAttributeAccessIssue]
    assert any("WITH ADMIN OPTION" in remedy for remedy in remedies)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_login_that_the_admin_may_not_alter_is_refused_before_the_first_statement(
    harness: Harness, strategy: str
):
    """By plan, doctor and create alike, with the GRANT that is missing."""
    login = adopted(harness, f"{harness.group}_app")
    given = options(harness, strategy) | {
        "alternating-users": {"users": (login.username, f"{login.username}_b")},
        "single-user": {"username": login.username},
    }.get(strategy, {})
    admin = weak_admin(harness, "GRANT {group} TO {admin} WITH ADMIN OPTION")
    secret = harness.secret(strategy, admin=admin, **given)
    harness.engine.adopt(secret, first=login)
    missing = f'GRANT "{login.username}" TO "{admin.username}" WITH ADMIN OPTION'
    ctx = harness.engine.steps(secret).context(login)
    with pytest.raises(Denied, match="lacks the right to alter") as caught:
        _ = secret.rotation.explain(login, ctx)  # pyright: ignore[reportAttributeAccessIssue]
    assert missing in caught.value.hint
    found = secret.rotation.examine(login, ctx)  # pyright: ignore[reportAttributeAccessIssue]
    assert any(missing in one.remedy for one in found)
    result = harness.engine.rotate(secret)
    assert (result.outcome, result.parked) == (Outcome.UNDONE, True)
    assert result.error is not None
    assert missing in str(result.error)
    assert harness.logs_in(login)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_superuser_is_refused_to_an_admin_who_is_none(harness: Harness, strategy: str):
    """ADMIN OPTION on it does not help: the server wants a superuser for that."""
    login = adopted(harness, f"{harness.group}_app")
    given = options(harness, strategy) | {
        "alternating-users": {"users": (login.username, f"{login.username}_b")},
        "single-user": {"username": login.username},
    }.get(strategy, {})
    both = (
        "GRANT {group} TO {admin} WITH ADMIN OPTION",
        "GRANT {group}_app TO {admin} WITH ADMIN OPTION",
    )
    secret = harness.secret(strategy, admin=weak_admin(harness, *both), **given)
    harness.engine.adopt(secret, first=login)
    harness.sql(f"ALTER ROLE {login.username} SUPERUSER")
    ctx = harness.engine.steps(secret).context(login)
    with pytest.raises(Denied) as caught:
        _ = secret.rotation.explain(login, ctx)  # pyright: ignore[reportAttributeAccessIssue]
    assert f'ALTER ROLE "{login.username}" NOSUPERUSER' in caught.value.hint
    assert harness.engine.rotate(secret).outcome is Outcome.UNDONE
    assert harness.logs_in(login)


@pytest.mark.parametrize(
    ("target", "admin", "kind", "text"),
    [
        ({"port": 1}, None, "transient", "is unreachable"),
        (
            {},
            Credential(username="postgres", password=Secret("wrong-canary")),
            "unavailable",
            "rejects the admin login",
        ),
        ({"dbname": "nowhere"}, None, "unavailable", "does not exist"),
    ],
)
def test_a_target_that_cannot_be_used_is_told_apart(harness: Harness, target, admin, kind, text):
    """Unreachable, wrong admin password, wrong database; nothing is changed by any of them."""
    before = harness.roles()
    result = harness.engine.rotate(
        harness.secret(target=target, admin=admin, group=harness.group),
        patience=timedelta(seconds=5),
    )
    # What the target lacks as a whole is waited for; no retries are used up.
    assert result.outcome is (None if kind == "unavailable" else Outcome.UNDONE)
    assert result.error is not None
    assert result.error.kind == kind
    assert text in str(result.error)
    assert result.error.safety
    assert "is safe" not in result.error.safety
    assert "wrong-canary" not in str(result.error)
    assert harness.roles() == before


def test_a_group_that_is_missing_is_said(harness: Harness):
    """With the statement that makes it."""
    result = harness.engine.rotate(harness.secret(group=f"{harness.group}_not"))
    assert result.outcome is Outcome.UNDONE
    assert f'CREATE ROLE "{harness.group}_not" NOLOGIN' in str(result.error)


def test_no_password_reaches_the_log_the_journal_or_the_server(harness: Harness, tmp_path):
    """P6: after rotations of every kind, ours and the server's own records are searched."""
    passwords = []
    for strategy in STRATEGIES:
        secret = harness.secret(strategy, **options(harness, strategy))
        for _ in range(3):
            harness.engine.rotate(secret)
            passwords.append(harness.serves(secret).password.reveal())
        harness.engine.check(secret)
        passwords.append(str(harness.engine.plan(secret)))
    plans, passwords = passwords[3::4], [one for i, one in enumerate(passwords) if i % 4 != 3]
    texts = {
        "plans": "".join(plans),
        "log": str(harness.log.lines),
        "server log": harness.server.log_text(),
        "journal": "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("j.db*")),
        "backend file": "".join(
            path.read_bytes().decode("latin-1") for path in tmp_path.glob("s.db*")
        ),
        "activity": str(harness.sql("SELECT query FROM pg_stat_activity")),
    }
    assert len(passwords) == 9
    assert "ALTER ROLE" in texts["server log"]
    found = [(where, one) for where, text in texts.items() for one in passwords if one in text]
    assert found == []


AWKWARD = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])
    | st.sampled_from("'\"\\;%$&{}` #@-"),
    min_size=1,
    max_size=70,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=AWKWARD, word=AWKWARD)
def test_awkward_names_and_passwords_work(harness: Harness, name: str, word: str):
    """Quotes, backslashes, semicolons, percent signs, dollar quotes, unicode, 63 bytes."""
    name = ("n" + name).encode()[:63].decode(errors="ignore")
    try:
        secret = harness.secret("single-user", name=f"s {name}", username=name)
    except UsageError:
        return
    ctx = harness.engine.steps(secret).context(None)
    new = Credential(username=name, password=Secret("p" + word))
    rotation = secret.rotation
    rotation.create(new, ctx)
    assert rotation.probe(new, ctx)
    assert harness.logs_in(new)
    assert not rotation.probe(replace(new, password=Secret("p" + word + "x")), ctx)
    rotation.withdraw(new, ctx)
    assert not rotation.probe(new, ctx)
    assert name not in harness.roles()


def test_a_password_policy_with_symbols_rotates(harness: Harness):
    """Symbols that must be escaped nearly everywhere."""
    policy = replace(
        QUICK, password=PasswordPolicy(length=40, alphabet="""abcXYZ019'"\\;%$&{}`#@ """)
    )
    secret = harness.secret(group=harness.group, policy=policy)
    for _ in range(3):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        assert harness.logs_in(harness.serves(secret))
