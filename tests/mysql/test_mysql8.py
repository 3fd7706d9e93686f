"""MySQL 8: its own statements, on a stand-in that keeps the manual's rules: for versions that cannot be had."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.mysql8 import MySqlAccounts
from rotations.mysql.options import TargetOptions
from rotations.mysql.passwords import CACHING, NATIVE, caching_hash, is_hash_of, native_hash
from rotations.mysql.server import Connection
from rotator.api import Conflict, Credential, Denied, Secret
from rotator.testing.crash import Effects, Sandbox, explore, scenarios
from rotator.testing.fakes import SeededEntropy, step_context
from rotator.testing.rotation_suite import RotationSuite
from tests.mysql.fake_mysql8 import Kept, MySql
from tests.mysql.sandboxes import STRATEGIES, effects, secret_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.api import Rotation, StepContext

ADMIN = Credential(username="admin_of_sandboxes", password=Secret("an-admin-of-the-tests"))
_numbers = itertools.count(1)


def _hash(password: str, plugin: str = NATIVE) -> str:
    if plugin == NATIVE:
        return native_hash(Secret(password))
    return caching_hash(Secret(password), SeededEntropy())


def _kept(password: str = "", **given: Any) -> Kept:
    """Return an account with something of everything that is to be copied."""
    return Kept(
        given.pop("plugin", NATIVE),
        _hash(password) if password else "",
        locked=not password,
        limits={"tls": "SSL", "together": "50", "history": "3", "current": " OPTIONAL"},
        grants={
            "*.*": (frozenset({"PROCESS"}), False),
            "`shop`.*": (frozenset({"INSERT", "UPDATE"}), True),
            "`shop`.`orders`": (frozenset({"SELECT (`id`)"}), False),
        },
        revoked={"INSERT ON `mysql`.*"},
        roles={"`reader`@`%`": False, "`writer`@`%`": True},
        default=("`reader`@`%`",),
        **given,
    )


@pytest.fixture
def mysql(monkeypatch: pytest.MonkeyPatch) -> Iterator[MySql]:
    """One with an admin, whom every connection of the plugin reaches."""
    server = MySql()
    server.accounts[ADMIN.username, "%"] = Kept(NATIVE, native_hash(ADMIN.password), locked=False)
    with server.reached(monkeypatch):
        yield server


def _rotation(strategy: str, name: str = "app", admin: Credential = ADMIN) -> Rotation:
    options = secret_options(strategy, name)
    return PLUGIN.target("t", TargetOptions(), lambda: admin).rotation(strategy, options)


def _sandboxes(mysql: MySql, strategy: str, *tapped: Effects) -> Callable[[], Sandbox]:
    def make() -> Sandbox:
        name = f"w{next(_numbers)}"
        mysql.accounts[f"{name}_like", "%"] = _kept()
        ours = lambda key: key[0].startswith(f"{name}_")  # noqa: E731 # used twice just below
        opened: list[Any] = []

        def foreign() -> Credential:
            mysql.accounts[f"{name}_legacy", "%"] = _kept("set-by-hand-long-ago")
            return Credential(username=f"{name}_legacy", password=Secret("set-by-hand-long-ago"))

        def open_session(login: str) -> None:
            mysql._numbers += 1  # a session of an application, whatever its password
            mysql.sessions[mysql._numbers] = login
            opened.append(mysql._numbers)

        def close_sessions() -> None:
            while opened:
                _ = mysql.sessions.pop(opened.pop(), None)

        def close() -> None:
            close_sessions()
            for key in [key for key in mysql.accounts if ours(key)]:
                del mysql.accounts[key]

        sandbox = Sandbox.of(
            PLUGIN,
            strategy,
            secret_options=secret_options(strategy, name),
            admin=ADMIN,
            close=close,
            accepts=lambda one: _logs_in(mysql, one),
            usable=lambda: {
                key[0] for key, one in mysql.accounts.items() if ours(key) and not one.locked
            },
            state=lambda: {(key, repr(one)) for key, one in mysql.accounts.items() if ours(key)},
            tapped=tapped,
            secret=name,
        )
        sandbox.open_session, sandbox.close_sessions = open_session, close_sessions
        sandbox.foreign = foreign
        return sandbox

    return make


def _logs_in(mysql: MySql, credential: Credential) -> bool:
    try:
        mysql.connect(credential.username, credential.password.reveal()).close()
    except pymysql.OperationalError as error:
        if error.args[0] not in (1045, 3118):
            raise
        return False
    return True


class TestContract(RotationSuite):
    """All four strategies pass, the crash harness included."""

    sample = 16

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(self, request: pytest.FixtureRequest, mysql: MySql) -> Callable[[], Sandbox]:
        """Return what makes accounts of a sandbox's own."""
        return _sandboxes(mysql, request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first credential", "rotation", "rollback before publish"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_survives_a_crash_at_every_statement(
    mysql: MySql, strategy: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Killed before and after each one it sends, it leaves no orphan and no outage."""
    statements = effects()
    monkeypatch.setattr(Connection, "run", statements.through(Connection.run))
    make = _sandboxes(mysql, strategy, statements)
    scenario = next(one for one in scenarios(make) if one.name == name)
    report = explore(scenario)
    assert not report.violations, str(report)
    assert report.inner >= 4


# -- two passwords on one account ----------------------------------------------------------------

OLD, NEW = Secret("the-old-password"), Secret("the-new-password")


def _current(**given: Any) -> StepContext:
    current = Credential(username="app_only", password=OLD)
    return step_context(current=current, adopted=frozenset({"app_only"}), **given)


def _new() -> Credential:
    return Credential(username="app_only", password=NEW)


@pytest.mark.parametrize("plugin", [NATIVE, CACHING])
def test_the_statements_of_a_rotation_are_these(mysql: MySql, plugin: str):
    """They hold hashes, and nothing that logs in."""
    mysql.accounts["app_only", "%"] = Kept(plugin, _hash(OLD.reveal(), plugin), locked=False)
    rotation = _rotation("dual-password")
    rotation.create(_new(), _current())
    kept = mysql.accounts["app_only", "%"].primary
    assert _logs_in(mysql, _new())
    assert _logs_in(mysql, Credential(username="app_only", password=OLD))
    ctx = replace(_current(), current=_new())
    rotation.revoke(Credential(username="app_only", password=OLD), ctx)
    assert mysql.statements == [
        f"ALTER USER `app_only`@`%` IDENTIFIED WITH {plugin} AS '{kept}' RETAIN CURRENT PASSWORD",
        "ALTER USER `app_only`@`%` DISCARD OLD PASSWORD",
    ]
    assert not _logs_in(mysql, Credential(username="app_only", password=OLD))
    assert _logs_in(mysql, _new())


@pytest.mark.parametrize("second", ["none", "old", "new", "other"])
@pytest.mark.parametrize("first", ["old", "new", "other"])
def test_whatever_an_account_lets_in_the_current_password_is_not_lost(
    mysql: MySql, first: str, second: str
):
    """RETAIN keeps the primary password only: sent twice, it would lose the old one."""
    known = {"old": OLD.reveal(), "new": NEW.reveal(), "other": "set-by-somebody", "none": ""}
    hashes = [_hash(known[one], CACHING) if known[one] else "" for one in (first, second)]
    mysql.accounts["app_only", "%"] = Kept(CACHING, *hashes, locked=False)
    rotation = _rotation("dual-password")
    old = Credential(username="app_only", password=OLD)
    if "old" not in (first, second):
        with pytest.raises(Conflict, match="does not accept the current password"):
            rotation.create(_new(), _current())
        assert not mysql.statements
        return
    if "other" in (first, second):
        with pytest.raises(Conflict, match="accepts a second password"):
            rotation.create(_new(), _current())
        rotation.withdraw(_new(), _current())
        assert not mysql.statements
        return
    for _ in range(3):
        rotation.create(_new(), _current())
        assert _logs_in(mysql, old)
        assert _logs_in(mysql, _new())
    assert len(mysql.statements) <= 1
    rotation.withdraw(_new(), _current())
    assert _logs_in(mysql, old)
    assert not _logs_in(mysql, _new())
    assert not mysql.accounts["app_only", "%"].secondary


def test_every_account_of_a_name_is_rotated(mysql: MySql):
    """app@10.% and app@% are two accounts; each keeps its own host and plugin."""
    mysql.accounts["app_only", "%"] = Kept(CACHING, _hash(OLD.reveal(), CACHING), locked=False)
    mysql.accounts["app_only", "10.%"] = Kept(NATIVE, _hash(OLD.reveal()), locked=False)
    _rotation("dual-password").create(_new(), _current())
    for host in ("%", "10.%"):
        one = mysql.accounts["app_only", host]
        assert is_hash_of(one.primary, NEW)
        assert is_hash_of(one.secondary, OLD)
    assert len(mysql.statements) == 2
    assert "`app_only`@`10.%`" in "".join(mysql.statements)


def test_a_login_changes_its_own_password_without_an_admin(mysql: MySql):
    """By the one statement that it may send, which names the password before."""
    mysql.accounts["app_only", "%"] = Kept(NATIVE, native_hash(OLD), locked=False)
    old = Credential(username="app_only", password=OLD)
    rotation = _rotation("single-user", admin=old)
    rotation.create(_new(), _current())
    assert _logs_in(mysql, _new())
    rotation.withdraw(_new(), _current())
    assert _logs_in(mysql, old)
    assert {one.split(" BY ")[0] for one in mysql.statements} == {
        "ALTER USER USER() IDENTIFIED",
        "ALTER USER USER() DISCARD OLD PASSWORD",
    }


# -- accounts like others --------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
def test_a_login_gets_all_that_the_one_before_has(mysql: MySql, strategy: str):
    """Grants, partial revokes, roles, default roles, limits; it is marked as ours and locked until then."""
    mysql.accounts["app_like", "%"] = _kept()
    rotation = _rotation(strategy)
    first = rotation.propose(None, step_context())
    rotation.create(first, step_context())
    source, made = mysql.accounts["app_like", "%"], mysql.accounts[first.username, "%"]
    for name in ("grants", "revoked", "roles", "default"):
        assert getattr(made, name) == getattr(source, name), name
    assert made.limits["together"] == "50"
    assert made.attribute["rotator"].keys() == {"of", "rotation"}
    assert mysql.statements[0].startswith(f"CREATE USER `{first.username}`@`%` IDENTIFIED WITH ")
    assert " ACCOUNT LOCK ATTRIBUTE " in mysql.statements[0]
    assert mysql.statements[-1].endswith(" ACCOUNT UNLOCK")
    assert rotation.verify(first, step_context()).checks


def test_what_a_waiting_login_has_too_much_is_taken_back(mysql: MySql):
    """Also a part of one grant, and an option; nothing else goes with it."""
    mysql.accounts["app_like", "%"] = _kept()
    rotation = _rotation("alternating-users")
    first = rotation.propose(None, step_context())
    rotation.create(first, step_context())
    made, source = mysql.accounts[first.username, "%"], mysql.accounts["app_like", "%"]
    made.grants["`shop`.`orders`"] = (frozenset({"SELECT (`id`)", "DELETE"}), True)
    made.grants["`other`.*"] = (frozenset({"SELECT"}), True)
    made.roles["`boss`@`%`"] = False
    made.revoked.add("UPDATE ON `sys`.*")
    made.default = ("`reader`@`%`", "`writer`@`%`")
    made.secondary = _hash("a-password-from-before")
    rotation.create(first, step_context())
    for name in ("grants", "revoked", "roles", "default"):
        assert getattr(made, name) == getattr(source, name), name
    assert not made.secondary


@pytest.mark.parametrize(
    "limits",
    [
        {"tls": "NONE"},
        {"tls": "X509"},
        {"tls": "ISSUER '/CN=it\\'s 100%' AND SUBJECT '/CN=ACCOUNT LOCK' AND CIPHER 'AES'"},
        {"questions": "1", "updates": "2", "connections": "3", "together": "4"},
        {"expire": "NEVER", "history": "5", "interval": "9 DAY", "current": ""},
        {"expire": "INTERVAL 30 DAY", "current": " DEFAULT"},
        {"tries": "4", "days": "3"},
        {"tries": "4", "days": "UNBOUNDED"},
    ],
)
def test_limits_are_copied_as_they_are(mysql: MySql, limits: dict[str, str]):
    """What the new account has reads as the old one's."""
    mysql.accounts["app_like", "%"] = replace(_kept(), limits=dict(limits))
    rotation = _rotation("new-user")
    new = rotation.propose(None, step_context())
    rotation.create(new, step_context())
    mysql.accounts[new.username, "%"].attribute = {}
    connection = Connection(
        mysql.connect(ADMIN.username, ADMIN.password.reveal()), "x", ADMIN.password
    )
    accounts = MySqlAccounts(connection, (8, 0, 36))
    (made,), (source,) = accounts.look(new.username), accounts.look("app_like")
    assert made.tail == source.tail


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", ["5.7.44-log", "8.0.13", "8.0.11-TiDB-v7.5.0", "10.3.39-MariaDB", "nothing"]
)
def test_a_server_that_is_too_old_or_another_is_refused(mysql: MySql, said: str):
    """Before anything is sent to it."""
    mysql.version = said
    mysql.accounts["app_only", "%"] = Kept(NATIVE, native_hash(OLD), locked=False)
    with pytest.raises(Denied, match="does not support") as refused:
        _rotation("dual-password").create(_new(), _current())
    assert "8.0.14" in refused.value.hint
    assert not mysql.statements


def test_a_server_without_attributes_creates_no_logins_and_says_what_it_can(mysql: MySql):
    """8.0.20 has two passwords, but no place for a mark."""
    mysql.version = "8.0.20"
    mysql.accounts["app_like", "%"] = _kept()
    mysql.accounts["app_only", "%"] = Kept(NATIVE, native_hash(OLD), locked=False)
    rotation = _rotation("new-user")
    with pytest.raises(Denied, match=r"requires 8\.0\.21") as refused:
        rotation.create(rotation.propose(None, step_context()), step_context())
    assert "dual-password and single-user" in refused.value.hint
    assert not mysql.statements
    _rotation("dual-password").create(_new(), _current())
    assert _logs_in(mysql, _new())


def test_a_name_that_is_too_long_for_mysql_is_refused(mysql: MySql):
    """MariaDB would take it."""
    mysql.accounts["app_like", "%"] = _kept()
    rotation = _rotation("new-user")
    new = replace(rotation.propose(None, step_context()), username="x" * 33)
    with pytest.raises(Denied, match="allows at most 32"):
        rotation.create(new, step_context())
    assert not mysql.statements


@pytest.mark.parametrize("strategy", ["dual-password", "single-user"])
def test_an_account_that_our_proof_would_block_is_refused(mysql: MySql, strategy: str):
    """After so few wrong passwords the application could not log in either."""
    one = Kept(NATIVE, native_hash(OLD), locked=False, limits={"tries": "2", "days": "1"})
    mysql.accounts["app_only", "%"] = one
    with pytest.raises(Denied, match="blocked after 2"):
        _rotation(strategy).create(_new(), _current())
    one.limits["tries"] = "3"
    _rotation(strategy).create(_new(), _current())


@pytest.mark.parametrize(
    ("plugin", "extra", "said"),
    [
        ("authentication_ldap_sasl", {}, "authentication_ldap_sasl"),
        (CACHING, {"multi_factor_authentication": [{"plugin": "webauthn"}]}, "second factor"),
    ],
)
def test_an_account_without_a_password_of_its_own_is_refused(
    mysql: MySql, plugin: str, extra: dict[str, Any], said: str
):
    """And nothing is changed."""
    mysql.accounts["app_only", "%"] = Kept(plugin, "kept", locked=False, extra=extra)
    with pytest.raises(Denied, match=said):
        _rotation("single-user").create(_new(), _current())
    assert not mysql.statements


def test_what_others_made_is_left_alone(mysql: MySql):
    """An account without our mark, or with another secret's, is not ours; nor is half of one."""
    mysql.accounts["app_like", "%"] = _kept()
    rotation = _rotation("alternating-users")
    first = rotation.propose(None, step_context())
    rotation.create(first, step_context())
    with pytest.raises(Conflict, match="neither made nor adopted"):
        rotation.create(first, step_context(secret="another"))
    mysql.accounts[first.username, "10.%"] = _kept("of-somebody")
    with pytest.raises(Conflict, match="neither made nor adopted"):
        rotation.create(first, step_context())


def test_the_rights_of_an_admins_roles_count(mysql: MySql):
    """As on RDS, whose admins have theirs by a role; SHOW GRANTS names it and not what it may do."""
    mysql.admin = ["GRANT CREATE USER ON *.*"]

    def lacks() -> list[str]:
        found = _rotation("dual-password").examine(None, _current())  # type: ignore[attr-defined]
        return [one.message.partition("lacks: ")[2] for one in found if "lacks: " in one.message]

    assert lacks() == ["PROCESS, CONNECTION_ADMIN"]
    mysql.role = "`boss`@`%`"
    assert lacks() == []


def test_doctor_tells_a_replica_that_may_be_written(mysql: MySql):
    """By the statement that MySQL has for it; 8.4 has no other."""
    mysql.primary = [("Waiting for source", "db-1")]
    found = _rotation("dual-password").examine(None, _current())  # type: ignore[attr-defined]
    assert "replicates from db-1" in str(found)


# -- hashes ----------------------------------------------------------------------------------------


def test_a_hash_of_a_real_server_is_known_again():
    """The example of hashcat's mode 7401 (https://hashcat.net/wiki/doku.php?id=example_hashes)."""
    salt = bytes.fromhex("F9CC98CE08892924F50A213B6BC571A2C11778C5").decode("latin-1")
    kept = f"$A$005${salt}bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/"
    assert is_hash_of(kept, Secret("hashcat"))
    assert not is_hash_of(kept, Secret("hashcab"))


@pytest.mark.parametrize("password", ["x", "grün-€-" * 30, "' \\ %s `"])
def test_a_hash_is_of_its_password_only(password: str):
    """Each with a salt of its own."""
    entropy = SeededEntropy()
    one, other = (caching_hash(Secret(password), entropy) for _ in range(2))
    assert one != other
    assert len(one) == 70
    assert is_hash_of(one, Secret(password))
    assert not is_hash_of(one, Secret(password + "x"))
    assert not is_hash_of("", Secret(password))
    assert is_hash_of(native_hash(Secret(password)), Secret(password))
