"""A leaked password is rejected at once, its sessions end, and each address proves it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Conflict, Credential, Denied, Secret
from rotator.core.model import Kind, Step
from rotator.engine import LeakReport, Mode
from tests.harness import FIRST
from tests.mysql.dialects import MARIADB
from tests.mysql.harness import Harness
from tests.mysql.sandboxes import STRATEGIES, logs_in

if TYPE_CHECKING:
    from rotator.api import Contains, StepContext
    from rotator.engine import ManagedSecret

_KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
_MOVE = replace(_KILL, mode=Mode.MOVE)


def _managed(harness: Harness, strategy: str, **target: Any) -> tuple[ManagedSecret, Credential]:
    """Return a secret and the credential that it serves."""
    secret = harness.secret(strategy, **target)
    harness.adopt(secret)
    return secret, harness.serves(secret)


def _ctx(harness: Harness, secret: ManagedSecret, **facts: Any) -> StepContext:
    adopted = frozenset({harness.name})
    return replace(harness.engine.steps(secret).context(None), adopted=adopted, **facts)


def _contains(secret: ManagedSecret) -> Contains:
    return secret.rotation  # pyright: ignore[reportReturnType]


def _forgotten(leaked: Credential) -> Credential:
    """Return what the engine has of a leaked credential when it fences."""
    return replace(leaked, password=Secret(""))


def _works(connection: Any) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (pymysql.MySQLError, OSError):
        return False
    return True


# -- the fence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fence_rejects_the_leaked_password_and_changes_nothing_else(
    harness: Harness, strategy: str
):
    """Twice leaves what once leaves."""
    secret, leaked = _managed(harness, strategy)
    before = harness.dump(harness.name)
    for _ in range(2):
        assert _contains(secret).fence(_forgotten(leaked), _ctx(harness, secret))
        assert not logs_in(harness.server, leaked)
    assert harness.dump(harness.name) == before
    assert harness.accounts()[harness.name] is False


def test_a_fence_ends_both_passwords_and_those_of_every_host(harness: Harness):
    """In the grace period of a dual password, for each account of the login."""
    secret, first = _managed(harness, "dual-password")
    harness.server.run(f"CREATE USER {harness.name}@localhost IDENTIFIED BY '{FIRST}'")
    ctx = _ctx(harness, secret, current=first)
    second = replace(first, password=Secret("the-second-password-1"))
    secret.rotation.create(second, ctx)
    assert logs_in(harness.server, first)
    assert logs_in(harness.server, second)
    _ = _contains(secret).fence(_forgotten(first), ctx)
    hashes = set(_hashes(harness, secret))
    assert not logs_in(harness.server, first)
    assert not logs_in(harness.server, second)
    assert len(hashes) == 2, "one dead password for each host"


def _hashes(harness: Harness, secret: ManagedSecret) -> list[str]:
    target = PLUGIN.target(
        "look",
        TargetOptions(host=harness.server.host, port=harness.server.port),
        lambda: Credential(username="root", password=Secret(harness.server.root_password)),
    )
    try:
        rotation: Any = target.rotation("single-user", SecretOptions(username=harness.name))
        with rotation._server.admin("looking") as accounts:
            return [one for account in accounts.look(harness.name) for one in account.hashes]
    finally:
        target.close()


def test_a_fence_keeps_what_has_no_password_and_drops_other_plugins_passwords(harness: Harness):
    """MariaDB: an account may have several ways to authenticate."""
    if harness.dialect is not MARIADB:
        pytest.skip("only MariaDB has several")
    secret, leaked = _managed(harness, "single-user")
    native = harness.server.run(
        f"SELECT json_value(Priv, '$.authentication_string') FROM mysql.global_priv WHERE User = '{harness.name}'"
    )[0][0]
    harness.server.run(
        f"ALTER USER {harness.name}@'%' IDENTIFIED VIA unix_socket OR mysql_native_password USING '{native}'"
    )
    assert logs_in(harness.server, leaked)
    _ = _contains(secret).fence(_forgotten(leaked), _ctx(harness, secret))
    assert not logs_in(harness.server, leaked)
    shown = str(harness.server.run(f"SHOW CREATE USER {harness.name}@'%'"))
    assert "unix_socket" in shown
    assert native not in shown


def test_a_fence_on_a_login_that_is_missing_succeeds(harness: Harness):
    """Its password is invalid already."""
    secret, leaked = _managed(harness, "dual-password")
    missing = replace(_forgotten(leaked), username="never_made")
    assert _contains(secret).fence(missing, _ctx(harness, secret))
    assert _contains(secret).end_sessions("never_made", "{}", _ctx(harness, secret)) == []


def test_a_fence_refuses_a_foreign_account(harness: Harness):
    """Its password stays valid."""
    secret, _ = _managed(harness, "dual-password")
    foreign = Credential(username=f"{harness.name}_f", password=Secret("of-somebody-else-1"))
    harness.server.run(f"CREATE USER {foreign.username}@'%' IDENTIFIED BY 'of-somebody-else-1'")
    with pytest.raises(Conflict):
        _ = _contains(secret).fence(_forgotten(foreign), _ctx(harness, secret))
    assert logs_in(harness.server, foreign)


def test_a_fence_refuses_the_login_that_rotator_works_with(harness: Harness):
    """Else nobody could replace the password."""
    own = Credential(username=f"{harness.name}_root", password=Secret("the-admins-own-1"))
    harness.server.run(
        f"CREATE USER {own.username}@'%' IDENTIFIED BY 'the-admins-own-1'",
        f"GRANT ALL ON *.* TO {own.username}@'%'",
    )
    secret = harness.secret("single-user", admin=own, username=own.username)
    ctx = replace(_ctx(harness, secret), adopted=frozenset({own.username}))
    with pytest.raises(Denied, match="the login that rotator works with"):
        _ = _contains(secret).fence(_forgotten(own), ctx)
    with pytest.raises(Denied, match="the login that rotator works with"):
        secret.rotation.withdraw(own, replace(ctx, current=own, fenced=True))
    assert logs_in(harness.server, own)


@pytest.mark.parametrize("strategy", ["dual-password", "single-user"])
def test_no_step_after_a_fence_makes_the_leaked_password_valid_again(
    harness: Harness, strategy: str
):
    """Nor the new one, where it was withdrawn."""
    secret, leaked = _managed(harness, strategy)
    new = replace(leaked, password=Secret("the-next-password-1"))
    ctx = _ctx(harness, secret, current=leaked, fenced=True)
    _ = _contains(secret).fence(_forgotten(leaked), ctx)
    for _ in range(2):
        secret.rotation.create(new, ctx)
        assert logs_in(harness.server, new)
        assert not logs_in(harness.server, leaked)
    for _ in range(2):
        secret.rotation.withdraw(new, ctx)
        assert not logs_in(harness.server, new)
        assert not logs_in(harness.server, leaked)


# -- sessions ----------------------------------------------------------------------------------------


def test_sessions_that_began_before_the_change_end_and_later_ones_stay(harness: Harness):
    """Told apart by the server's numbers of connections."""
    secret, leaked = _managed(harness, "single-user")
    ctx = _ctx(harness, secret, current=leaked)
    old = [harness.server.connect(leaked.username, leaked.password.reveal()) for _ in range(2)]
    result = harness.engine.rotate(secret)
    assert result.error is None
    current = harness.serves(secret)
    moment = _contains(secret).moment(ctx)
    new = harness.server.connect(current.username, current.password.reveal())
    assert len(_contains(secret).end_sessions(leaked.username, moment, ctx)) == 2
    assert not any(map(_works, old))
    assert _works(new)
    assert _contains(secret).end_sessions(leaked.username, moment, ctx) == []
    new.close()


def test_after_a_restart_every_session_counts_as_later(harness: Harness):
    """The numbers of connections begin anew; what began before has ended."""
    secret, leaked = _managed(harness, "single-user")
    ctx = _ctx(harness, secret, current=leaked)
    moment = _contains(secret).moment(ctx)
    ((address, (started, newest)),) = json.loads(moment).items()
    session = harness.server.connect(leaked.username, leaked.password.reveal())
    before_restart = json.dumps({address: (started - 60, newest + 1000)})
    assert _contains(secret).end_sessions(leaked.username, before_restart, ctx) == []
    assert _works(session)
    same_start = json.dumps({address: (started, newest + 1000)})
    assert len(_contains(secret).end_sessions(leaked.username, same_start, ctx)) == 1
    assert not _works(session)


def test_an_admin_without_process_gets_the_grant(harness: Harness):
    """It would see no session of others, and not know."""
    admin = Credential(username=f"{harness.name}_adm", password=Secret("admin-password-1"))
    harness.server.run(
        f"CREATE USER {admin.username}@'%' IDENTIFIED BY 'admin-password-1'",
        f"GRANT CREATE USER ON *.* TO {admin.username}@'%'",
        f"GRANT SELECT ON mysql.* TO {admin.username}@'%'",
    )
    secret = harness.secret("dual-password", admin=admin)
    ctx = _ctx(harness, secret)
    with pytest.raises(Denied, match="lacks the right to see") as caught:
        _ = _contains(secret).end_sessions(harness.name, "{}", ctx)
    assert "GRANT PROCESS" in caught.value.hint


# -- addresses ---------------------------------------------------------------------------------------


def test_each_password_has_its_answer_at_each_address(harness: Harness):
    """An unreachable one is named."""
    here = f"localhost:{harness.server.port}"
    secret, leaked = _managed(harness, "single-user", addresses=(here, "127.0.0.1:1"))
    result = harness.engine.rotate(secret)
    assert result.error is None
    current = harness.serves(secret)
    found = _contains(secret).entrances(leaked, current, _ctx(harness, secret))
    assert [one.address for one in found] == [
        f"127.0.0.1:{harness.server.port}",
        here,
        "127.0.0.1:1",
    ]
    for one in found[:2]:
        assert (one.current, one.wrong, one.leaked, one.why) == (True, False, False, "")
    assert found[2].leaked is None
    assert "127.0.0.1:1" in found[2].why


def test_a_login_that_could_lock_gets_no_wrong_password(harness: Harness):
    """MySQL counts failed logins of an account."""
    if harness.dialect is MARIADB:
        pytest.skip("MariaDB counts them for the whole server")
    secret, leaked = _managed(harness, "single-user")
    harness.server.run(
        f"ALTER USER {harness.name}@'%' FAILED_LOGIN_ATTEMPTS 4 PASSWORD_LOCK_TIME 1"
    )
    (entrance,) = _contains(secret).entrances(leaked, leaked, _ctx(harness, secret))
    assert (entrance.current, entrance.wrong, entrance.leaked) == (True, None, None)
    assert "could lock" in entrance.why


# -- the whole containment ---------------------------------------------------------------------------


@pytest.mark.parametrize("report", [_KILL, _MOVE], ids=["kill", "move"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_leaked_password_is_dead_within_seconds(
    harness: Harness, strategy: str, report: LeakReport
):
    """Rejected within 5 seconds, proven within 15, with no session of before."""
    secret, leaked = _managed(harness, strategy)
    if report is _MOVE:
        report = replace(report, within=report.within * 0)
    session = harness.server.connect(leaked.username, leaked.password.reveal())
    begun = time.monotonic()
    harness.engine.open_incident(secret, report)
    done = harness.engine.contain(secret)
    proven = time.monotonic() - begun
    assert done.proof is not None, done
    assert done.proof.ok, done.proof.unproven
    assert done.proof.sessions == 0
    assert not logs_in(harness.server, leaked)
    assert not _works(session)
    assert logs_in(harness.server, harness.serves(secret))
    kills, overlaps = report.mode is Mode.KILL, secret.rotation.overlaps
    step = Step.FENCE if kills else (Step.REVOKE if overlaps else Step.CREATE)
    events = harness.journal.events(secret.name)
    opened = next(one for one in events if one.kind is Kind.LEAKED)
    ended = next(
        one
        for one in events
        if one.kind is Kind.FINISHED and one.step is step and one.seq > opened.seq
    )
    rejected = (ended.at - opened.at).total_seconds()
    print(
        f"\nMEASURED {harness.dialect.product} {strategy} {report.mode}: {rejected:.2f} {proven:.2f}"
    )
    assert rejected < 5
    assert proven < 15


@pytest.mark.parametrize("strategy", ["dual-password", "single-user"])
def test_a_password_that_comes_back_in_place_is_made_invalid_again(harness: Harness, strategy: str):
    """As after a restored copy: the served one is set again, and every session ends."""
    secret, leaked = _managed(harness, strategy)
    harness.engine.open_incident(secret, _KILL)
    assert harness.engine.contain(secret).is_proven
    served, password = harness.serves(secret), leaked.password.reveal()
    harness.server.run(f"ALTER USER `{leaked.username}`@'%' IDENTIFIED BY '{password}'")
    session = harness.server.connect(leaked.username, password)
    done = harness.engine.contain(secret)
    assert done.revoked == (leaked.username,)
    assert done.is_proven, done
    assert not logs_in(harness.server, leaked)
    assert logs_in(harness.server, served)
    assert not _works(session)
