"""The admin of a PostgreSQL target is itself a managed secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotations.postgresql.strategies import SingleUser
from rotator.bootstrap import App
from rotator.core.model import Outcome, Step

if TYPE_CHECKING:
    from rotator.testing.postgres import ScratchPostgres
    from tests.own_admin.conftest import OwnAdmin

_SINGLE = "  main-admin: {{target: main, backend: local, strategy: single-user, options: {{username: {}}}}}\n"
_APP = "  shop: {{target: main, backend: local, strategy: new-user, options: {{group: {}}}}}\n"


def _configure(own: OwnAdmin, server: ScratchPostgres, admin: str = "secret:main-admin") -> None:
    target = (
        f'  main: {{plugin: postgresql, host: 127.0.0.1, port: {server.port}, admin: "{admin}"}}\n'
    )
    secrets = _SINGLE.format(own.first.username)
    own.configure(target, secrets + _APP.format(own.first.username.replace("admin", "apps")))


@pytest.mark.parametrize("admin", ["secret:main-admin", "local:main-admin"])
def test_the_admin_rotates_itself_and_other_secrets_follow(
    own: OwnAdmin, postgres: ScratchPostgres, admin: str
):
    """By the name of the secret or by its place: the next login of the admin reads the new password."""
    _configure(own, postgres, admin)
    with own.app() as app:
        assert app.engine.rotate(app.secret("shop")).error is None
        assert app.engine.rotate(app.secret("main-admin")).outcome is Outcome.DONE
        assert app.engine.rotate(app.secret("shop")).error is None
    assert not own.logs_in(own.first)
    assert own.rotate("shop").outcome is Outcome.DONE


def test_a_plan_shows_what_the_admin_proves(own: OwnAdmin, postgres: ScratchPostgres):
    """Before the change as the present admin, after it as the new one."""
    _configure(own, postgres)
    with own.app() as app:
        planned = app.engine.plan(app.secret("main-admin")).steps
    proofs = [one.step for one in planned if "create a scratch login" in one.text]
    assert proofs == [Step.CREATE, Step.VERIFY]


def test_another_process_keeps_rotating_in_the_gap_of_the_admins_rotation(
    own: OwnAdmin, postgres: ScratchPostgres
):
    """Between create and publish the backend serves a password that the server rejects already."""
    _configure(own, postgres)
    with own.app() as app, own.app() as other:
        secret = app.secret("main-admin")
        _ = app.engine.advance(secret, rotation_id="r-1", to=Step.VERIFY)
        assert not own.logs_in(own.first)
        assert other.engine.rotate(other.secret("shop")).error is None
        assert app.engine.resume(secret).outcome is Outcome.DONE
        assert other.engine.rotate(other.secret("shop")).error is None


def test_after_a_crash_in_the_gap_only_what_is_staged_lets_the_admin_in(
    own: OwnAdmin, postgres: ScratchPostgres, monkeypatch: pytest.MonkeyPatch
):
    """An admin that reads nothing but the served credential is locked out for ever."""
    _configure(own, postgres)
    own.kill_after(SingleUser, "create")
    assert not own.logs_in(own.first)
    with monkeypatch.context() as patch:
        patch.setattr(App, "_staged_admin", lambda _app, _target: None)
        locked_out = own.finish()
        assert locked_out is not None
        assert locked_out.error is not None
        assert f"rejects the admin login '{own.first.username}'" in str(locked_out.error)
    undone = own.finish()
    assert undone is not None
    assert undone.outcome is Outcome.UNDONE
    assert own.logs_in(own.first)


def test_a_new_password_that_does_not_log_in_is_taken_back_in_the_open_session(
    own: OwnAdmin, postgres: ScratchPostgres, monkeypatch: pytest.MonkeyPatch
):
    """Nobody else could: the admin has no other session."""
    _configure(own, postgres)
    with monkeypatch.context() as patch:
        patch.setattr(
            SingleUser, "_accepts", lambda _self, credential, _ctx: credential == own.first
        )
        result = own.rotate()
    assert result.outcome is Outcome.UNDONE
    assert own.logs_in(own.first)
    with own.app() as app:
        app.engine.unpark(app.secret(own.name), reason="mended")
    assert own.rotate().outcome is Outcome.DONE


def test_a_killed_rotation_of_the_admin_goes_on_by_itself(own: OwnAdmin, postgres: ScratchPostgres):
    """At every instant the backend holds a password that the admin logs in with."""
    _configure(own, postgres)
    points = own.count()
    assert points >= 40
    own.expect_survival(range(points // 5, points, points // 5))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_rotation_of_the_admin_may_be_killed_at_any_point(
    own: OwnAdmin, postgres: ScratchPostgres
):
    """The same at each of them."""
    _configure(own, postgres)
    own.expect_survival(range(1, own.count() + 1))


# -- a second way in -----------------------------------------------------------------------------


def _configure_pair(
    own: OwnAdmin, server: ScratchPostgres, admin: str = "secret:main-admin"
) -> None:
    target = (
        f"  main: {{plugin: postgresql, host: 127.0.0.1, port: {server.port}, admin: {admin}}}\n"
    )
    name = own.first.username
    own.configure(
        target,
        "  main-admin: {target: main, backend: local, strategy: alternating-users,"
        f" options: {{users: [{name}, {name}_b]}}}}\n" + _APP.format(name.replace("admin", "apps")),
    )


@pytest.mark.parametrize("by_place", [False, True])
def test_two_admins_take_turns(own: OwnAdmin, postgres: ScratchPostgres, *, by_place: bool):
    """The new one proves all its rights before the old one is revoked; each creates the other's rights."""
    with postgres.connect() as link:
        link.execute(f"ALTER ROLE {own.first.username} SUPERUSER".encode())
    place = f'{{username: {own.first.username}, password: "local:main-admin#password"}}'
    _configure_pair(own, postgres, place if by_place else "secret:main-admin")
    for _ in range(3):
        assert own.rotate("shop").error is None
        result = own.rotate()
        assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    checks = _checks(own)
    assert "created a scratch login" in checks["admin of main"]
    assert own.scratch_logins() == []


def _checks(own: OwnAdmin) -> dict[str, str]:
    """Return the details of the newest verification by name."""
    with own.app() as app:
        verified = [
            event.data["checks"]
            for event in app.journal.events(own.name)
            if event.step is Step.VERIFY and "checks" in event.data
        ]
    return {one["name"]: one["detail"] for one in verified[-1]}  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType, reportIndexIssue, reportCallIssue, reportOptionalIterable]


def test_a_second_admin_that_could_not_revoke_the_first_is_withdrawn(
    own: OwnAdmin, postgres: ScratchPostgres
):
    """PostgreSQL 16 and newer: who creates a role administers it, and never the other way round."""
    _configure_pair(own, postgres)
    result = own.rotate()
    assert result.outcome is Outcome.UNDONE
    assert "could not revoke the old one" in str(result.error)
    assert own.logs_in(own.first)
    with postgres.connect() as link:
        found = link.execute("SELECT FROM pg_roles WHERE rolname = %s", [f"{own.first.username}_b"])
        assert found.fetchone() is None


def _configure_other(own: OwnAdmin, server: ScratchPostgres, monkeypatch, password: str) -> None:
    monkeypatch.setenv("RECOVERY_PASSWORD", password)
    place = f"plugin: postgresql, host: 127.0.0.1, port: {server.port}"
    own.configure(
        f"  main: {{{place}, admin: secret:main-admin}}\n"
        f'  recovery: {{{place}, admin: {{username: postgres, password: "env:RECOVERY_PASSWORD"}}}}\n',
        "  main-admin: {target: recovery, backend: local, strategy: single-user,"
        f" options: {{username: {own.first.username}}}}}\n",
    )


def test_another_admin_sets_the_password(own: OwnAdmin, postgres: ScratchPostgres, monkeypatch):
    """Also where the admin itself does not log in any more."""
    _configure_other(own, postgres, monkeypatch, postgres.superuser_password)
    assert own.rotate().outcome is Outcome.DONE
    assert "created a scratch login" in _checks(own)["admin of main"]
    with postgres.connect() as link:
        link.execute(f"ALTER ROLE {own.first.username} PASSWORD 'by-somebody-else-1'".encode())
    assert own.rotate().outcome is Outcome.DONE


def test_a_wrong_second_way_in_is_refused_before_anything_is_done(
    own: OwnAdmin, postgres: ScratchPostgres, monkeypatch
):
    """The password of the recovery login is wrong."""
    _configure_other(own, postgres, monkeypatch, postgres.superuser_password)
    monkeypatch.setenv("RECOVERY_PASSWORD", "not-the-password-1")
    result = own.rotate()
    assert result.outcome is Outcome.UNDONE
    assert "rejects the admin login 'postgres'" in str(result.error)
    assert own.held() == [own.first]
    assert own.logs_in(own.first)


def test_an_admin_without_its_rights_is_refused_before_anything_is_done(
    own: OwnAdmin, postgres: ScratchPostgres
):
    """What could not be proven afterwards is not begun."""
    _configure(own, postgres)
    with postgres.connect() as link:
        link.execute(f"ALTER ROLE {own.first.username} NOCREATEROLE".encode())
    result = own.rotate()
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.hint == f'As a superuser: ALTER ROLE "{own.first.username}" CREATEROLE'
    assert own.held() == [own.first]
    assert own.logs_in(own.first)
