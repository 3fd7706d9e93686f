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
    for point in range(3, points, 8):
        own.kill_at(point)
        assert any(map(own.logs_in, own.held())), f"locked out at point {point} of {points}"
        finished = own.finish()
        assert finished is not None
        assert finished.outcome is Outcome.DONE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rotation_of_the_admin_may_be_killed_at_any_point(
    own: OwnAdmin, postgres: ScratchPostgres
):
    """The same at each of them."""
    _configure(own, postgres)
    for point in range(1, own.count() + 1):
        own.kill_at(point)
        assert any(map(own.logs_in, own.held())), f"locked out at point {point}"
        finished = own.finish()
        assert finished is None or finished.outcome is Outcome.DONE
