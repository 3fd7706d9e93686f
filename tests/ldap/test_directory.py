"""A real OpenLDAP: TLS, password policies, groups, spellings of a DN, hostile servers, logs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rotations.ldap import PLUGIN, SecretOptions, TargetOptions
from rotations.ldap.passwords import hashed, matches
from rotator.api import (
    Conflict,
    Credential,
    Denied,
    Refused,
    Secret,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
)
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from rotator.testing.hostile import HTTP, HostileServer, within
from tests.ldap.sandboxes import ADMIN, add_login, ensure_admin, target_options
from tests.servers.openldap import BASE, GROUPS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.api import Rotation, StepContext
    from tests.servers.openldap import ScratchOpenLdap

_PASSWORD = 'new-Tz61"\\%{login}é \u00aa'


def _new(login: str) -> Credential:
    return Credential(username=login, password=Secret(_PASSWORD))


def _rotation(
    options: TargetOptions, strategy: str = "single-user", admin: Credential = ADMIN, **given: Any
) -> Rotation:
    given = given or {"username": "unused", "users": ("first", "second")}
    target = PLUGIN.target("main", options, lambda: admin)
    return target.rotation(strategy, SecretOptions(**given))


def _ctx(seconds: float = 10, **changed: Any) -> StepContext:
    ctx = step_context(secret="app")
    return replace(ctx, deadline=ctx.clock.monotonic() + seconds, **changed)


@pytest.fixture
def server(directory: ScratchOpenLdap) -> Iterator[ScratchOpenLdap]:
    """A server whose logins and groups are gone afterwards."""
    ensure_admin(directory)
    yield directory
    _clear(directory)


@pytest.fixture
def strict(directory_with_policies: ScratchOpenLdap) -> Iterator[ScratchOpenLdap]:
    """A server with a policy that locks after two wrong passwords and checks the length."""
    server = directory_with_policies
    ensure_admin(server)
    values = {"sn": "strict", "pwdAttribute": "userPassword", "pwdLockout": "TRUE"}
    values |= {"pwdMaxFailure": "2", "pwdMinLength": "60", "pwdCheckQuality": "2"}
    server.add(f"cn=strict,{SERVICES}", ["person", "pwdPolicy"], values)
    yield server
    _clear(server)


def _clear(server: ScratchOpenLdap) -> None:
    query = "(|(objectClass=person)(objectClass=groupOfNames))"
    for dn in server.entries(BASE, query):
        server.run(lambda link, dn=dn: link.delete(dn))


# -- configured ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"url": "ldap://ldap.example.org"}, "plain text"),
        ({"url": "ldaps://cn=root:hunter2xyz@ldap.example.org"}, "contains a login"),
        ({"url": "https://ldap.example.org"}, "must be ldaps://"),
        ({"url": "ldaps://ldap.example.org", "starttls": True}, "TLS starts at once"),
        ({"url": "ldaps://ldap.example.org", "dn": "uid=app"}, "must contain {login}"),
        ({"url": "ldaps://ldap.example.org", "dn": "{login},,"}, "not a valid DN"),
        ({"url": "ldaps://ldap.example.org", "sslcert": "a"}, "both `sslcert` and `sslkey`"),
    ],
)
def test_a_target_that_cannot_work_is_refused(changed: dict[str, Any], shown: str):
    """When the configuration is read, and nothing of a URL is repeated."""
    with pytest.raises(UsageError) as caught:
        TargetOptions(**changed)
    assert shown in caught.value.what
    assert "hunter2xyz" not in str(caught.value)


def test_a_pair_must_be_two_entries():
    """Two spellings of one DN are one entry, whose password the application uses."""
    options = TargetOptions(url="ldap://127.0.0.1:1", dn=f"uid={{login}},{SERVICES}")
    with pytest.raises(UsageError, match="one entry twice"):
        _rotation(options, "alternating-users", users=("Shop", "shop"))


@pytest.mark.parametrize("scheme", ["SSHA", "SSHA256", "SSHA384", "SSHA512"])
def test_a_hash_matches_its_password_only(scheme: Any):
    """Each value is salted."""
    one = hashed(Secret(_PASSWORD), scheme, b"sixteen bytes of")
    assert matches(one, Secret(_PASSWORD))
    assert not matches(one, Secret("another-Tz61"))
    assert not matches(one, Secret(""))
    assert one != hashed(Secret(_PASSWORD), scheme, b"a different salt")


@pytest.mark.parametrize("value", [b"", b"{SSHA}", b"{SSHA}!", b"{CRYPT}$6$x", b"{", b"\xff}"])
def test_a_value_of_another_kind_matches_nothing(value: bytes):
    """It is kept, as somebody else set it."""
    assert not matches(value, Secret("another-Tz61"))


# -- TLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starttls", [False, True])
def test_a_login_goes_over_verified_tls(server: ScratchOpenLdap, starttls: bool):  # noqa: FBT001
    """By `ldaps://` and by StartTLS."""
    add_login(server, "app", mark="rotator:app")
    url = server.plain if starttls else server.tls
    options = target_options(server, url=url, starttls=starttls, sslrootcert=server.authority)
    rotation = _rotation(options)
    rotation.create(_new("app"), _ctx())
    assert rotation.verify(_new("app"), _ctx()).ok
    began = " TLS established" if starttls else "TLS established"
    assert began in server.log_text()


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize("what", ["authority", "name"])
def test_no_password_is_sent_to_a_server_that_is_not_verified(
    server: ScratchOpenLdap,
    tmp_path: Path,
    starttls: bool,  # noqa: FBT001
    what: str,
):
    """Neither with another authority nor by a name that its certificate lacks."""
    make_certificates(tmp_path)
    authority = tmp_path / "ca.crt" if what == "authority" else server.authority
    url = server.plain if starttls else server.tls
    if what == "name":
        # The same address, by another name.
        url = url.replace("127.0.0.1", "127.1")
    options = target_options(server, url=url, starttls=starttls, sslrootcert=authority)
    logged = len(server.log_text())
    with pytest.raises(Transient, match="certificate is invalid") as caught:
        _rotation(options).create(_new("app"), _ctx())
    assert "sslrootcert" in caught.value.hint
    assert "BIND dn" not in server.log_text()[logged:]


def test_a_missing_authority_makes_all_secrets_wait(server: ScratchOpenLdap, tmp_path: Path):
    """It is the target's fault, not the secret's."""
    options = target_options(server, url=server.tls, sslrootcert=tmp_path / "none.crt")
    with pytest.raises(Unavailable, match="cannot be read"):
        _rotation(options).create(_new("app"), _ctx())


# -- entries ---------------------------------------------------------------------------------------


def test_a_password_reaches_the_server_as_it_is(server: ScratchOpenLdap):
    """SASLprep would change it: what the backend stores would not log in."""
    dn = add_login(server, "app", mark="rotator:app")
    _rotation(target_options(server)).create(_new("app"), _ctx())
    link: Any = server.connect(dn, _PASSWORD.encode())  # pyright: ignore[reportArgumentType]
    assert link is not None
    link.unbind()
    assert "Tz61" not in server.log_text()


def test_an_empty_password_is_not_tried(server: ScratchOpenLdap):
    """A server takes it for an anonymous login, and accepts it."""
    add_login(server, "app", mark="rotator:app")
    nobody = Credential(username="app", password=Secret(""))
    assert not _rotation(target_options(server)).probe(nobody, _ctx())


def test_another_spelling_of_the_served_login_is_left_alone(server: ScratchOpenLdap):
    """It is the entry that the application uses."""
    dn = add_login(server, "app", mark="rotator:app", password="served-Tz61")
    served = Credential(username="app", password=Secret("served-Tz61"))
    rotation = _rotation(target_options(server), "alternating-users", users=("APP", "other"))
    for act in (rotation.create, rotation.revoke, rotation.withdraw):
        with pytest.raises(Conflict, match="the same entry"):
            act(_new("APP"), _ctx(current=served))
    link: Any = server.connect(dn, "served-Tz61")
    assert link is not None
    link.unbind()


def test_a_login_name_adds_no_part_to_its_dn(server: ScratchOpenLdap):
    """It is escaped, and there is no such entry."""
    add_login(server, "app", mark="rotator:app", password="served-Tz61")
    with pytest.raises(Conflict, match="has no entry"):
        _rotation(target_options(server)).create(_new(f"app,{SERVICES}"), _ctx())
    with pytest.raises(Denied, match="has no DN"):
        _rotation(target_options(server, dn="{login}")).create(_new("no DN"), _ctx())


@pytest.mark.parametrize("mark", ["", "rotator:other", "rotator:"])
def test_an_entry_of_somebody_else_is_left_alone(server: ScratchOpenLdap, mark: str):
    """Unless it was adopted."""
    add_login(server, "app", mark=mark)
    rotation = _rotation(target_options(server))
    with pytest.raises(Conflict):
        rotation.create(_new("app"), _ctx())
    rotation.create(_new("app"), _ctx(adopted=frozenset({"app"})))


def test_a_pair_with_different_groups_is_refused(server: ScratchOpenLdap):
    """The application would lose or gain rights with each turn."""
    first = add_login(server, "first", mark="rotator:app", password="served-Tz61")
    add_login(server, "second", mark="rotator:app")
    server.add(f"cn=readers,{GROUPS}", ["groupOfNames"], {"member": first})
    rotation = _rotation(target_options(server, groups=GROUPS), "alternating-users")
    served = Credential(username="first", password=Secret("served-Tz61"))
    rotation.create(_new("second"), _ctx(current=served))
    with pytest.raises(Refused, match=f"same groups: cn=readers,{GROUPS}"):
        rotation.verify(_new("second"), _ctx(current=served))


def test_a_new_login_must_read_its_probes(server: ScratchOpenLdap):
    """It authenticates, and cannot do its work."""
    add_login(server, "app", mark="rotator:app")
    rotation = _rotation(target_options(server), username="app", probes=(BASE, f"cn=none,{BASE}"))
    rotation.create(_new("app"), _ctx())
    with pytest.raises(Refused, match=f"reads cn=none,{BASE}"):
        rotation.verify(_new("app"), _ctx())


def test_an_undone_second_password_leaves_those_of_others(server: ScratchOpenLdap):
    """Only a revoke leaves the served one alone."""
    add_login(server, "app", mark="rotator:app", password="served-Tz61")
    dn = f"uid=app,{SERVICES}"
    server.run(lambda link: link.modify(dn, {"userPassword": [("MODIFY_ADD", ["by-hand-Tz61"])]}))
    served = Credential(username="app", password=Secret("served-Tz61"))
    by_hand = Credential(username="app", password=Secret("by-hand-Tz61"))
    rotation = _rotation(target_options(server), "dual-password")
    ctx = _ctx(current=served)
    rotation.create(_new("app"), ctx)
    rotation.withdraw(_new("app"), ctx)
    assert [rotation.probe(one, ctx) for one in (served, by_hand, _new("app"))] == [
        True,
        True,
        False,
    ]
    rotation.create(_new("app"), ctx)
    rotation.revoke(served, _ctx(current=_new("app")))
    assert [rotation.probe(one, ctx) for one in (served, by_hand, _new("app"))] == [
        False,
        False,
        True,
    ]


# -- password policies -----------------------------------------------------------------------------


def test_a_policy_that_takes_one_password_refuses_a_second(strict: ScratchOpenLdap):
    """The served one stays, and the error names the strategy that works."""
    dn = add_login(strict, "app", mark="rotator:app", password="served-Tz61")
    policy = f"cn=strict,{SERVICES}"
    strict.run(lambda link: link.modify(dn, {"pwdPolicySubentry": [("MODIFY_ADD", [policy])]}))
    served = Credential(username="app", password=Secret("served-Tz61"))
    with pytest.raises(Denied, match="no second password") as caught:
        _rotation(target_options(strict), "dual-password").create(_new("app"), _ctx(current=served))
    assert "alternating-users" in caught.value.hint
    link: Any = strict.connect(dn, "served-Tz61")
    assert link is not None
    link.unbind()


def test_a_password_that_a_policy_rejects_is_refused(strict: ScratchOpenLdap):
    """Another candidate may be longer."""
    dn = add_login(strict, "app", mark="rotator:app")
    policy = f"cn=strict,{SERVICES}"
    strict.run(lambda link: link.modify(dn, {"pwdPolicySubentry": [("MODIFY_ADD", [policy])]}))
    with pytest.raises(Refused, match="password policy"):
        _rotation(target_options(strict)).create(_new("app"), _ctx())


def test_only_a_policy_that_says_so_locks_no_login(
    server: ScratchOpenLdap, strict: ScratchOpenLdap
):
    """The policy for all others is not shown, so it could lock."""
    add_login(server, "app", mark="rotator:app")
    assert not _rotation(target_options(server)).may_lock("app", _ctx())  # pyright: ignore[reportAttributeAccessIssue]
    dn = add_login(strict, "app", mark="rotator:app")
    rotation: Any = _rotation(target_options(strict))
    assert rotation.may_lock("app", _ctx())
    policy = f"cn=strict,{SERVICES}"
    strict.run(lambda link: link.modify(dn, {"pwdPolicySubentry": [("MODIFY_ADD", [policy])]}))
    assert rotation.may_lock("app", _ctx())
    strict.run(lambda link: link.modify(policy, {"pwdLockout": [("MODIFY_REPLACE", ["FALSE"])]}))
    assert not rotation.may_lock("app", _ctx())


def test_a_locked_login_is_told_from_a_wrong_password(strict: ScratchOpenLdap):
    """By its entry, as the server's answer is the same."""
    dn = add_login(strict, "app", mark="rotator:app", password="served-Tz61")
    policy = f"cn=strict,{SERVICES}"
    strict.run(lambda link: link.modify(dn, {"pwdPolicySubentry": [("MODIFY_ADD", [policy])]}))
    rotation: Any = _rotation(target_options(strict))
    wrong = Credential(username="app", password=Secret("wrong-Tz61"))
    assert not rotation.probe(wrong, _ctx())
    assert rotation.rejection(wrong, _ctx()) is None
    assert not rotation.probe(wrong, _ctx())
    assert rotation.rejection(wrong, _ctx()).cause == "locked"
    missing = Credential(username="none", password=Secret("wrong-Tz61"))
    assert rotation.rejection(missing, _ctx()).cause == "missing"


# -- servers ---------------------------------------------------------------------------------------


def test_what_the_server_lacks_is_told_apart(server: ScratchOpenLdap):
    """Unreachable, a rejected admin, a missing right; doctor reports it as a finding."""
    add_login(server, "app", mark="rotator:app", password="served-Tz61")
    away = target_options(server, url="ldap://127.0.0.1:1")
    with pytest.raises(Transient, match="no connection"):
        _rotation(away).create(_new("app"), _ctx())
    wrong = replace(ADMIN, password=Secret("wrong-Tz61"))
    with pytest.raises(Unavailable, match="the admin is rejected"):
        _rotation(target_options(server), admin=wrong).create(_new("app"), _ctx())
    weak = Credential(username=f"uid=app,{SERVICES}", password=Secret("served-Tz61"))
    with pytest.raises(Denied, match="lacks the right"):
        _rotation(target_options(server), admin=weak).create(_new("app"), _ctx())
    found = [
        PLUGIN.target("main", options, lambda: ADMIN).examine(_ctx())[0].severity
        for options in (away, target_options(server))
    ]
    assert found == ["error", "ok"]


@pytest.mark.parametrize("kind", HTTP)
def test_a_hostile_server_is_an_error_in_time(kind: str):
    """Whatever it does, nothing leaks and nothing hangs."""
    with HostileServer(HTTP[kind]) as hostile:
        options = TargetOptions(url=f"ldap://127.0.0.1:{hostile.port}", dn="uid={login}")
        with within(seconds=0.4), pytest.raises(StepError) as caught:
            _rotation(options).create(_new("app"), _ctx(0.4))
    assert not isinstance(caught.value, Unknown)
    assert "Tz61" not in f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
