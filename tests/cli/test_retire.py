"""retire, rename, and secrets that are no longer configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import Real, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Cli


def _remove_entry(cli: Cli, name: str) -> None:
    lines = cli.config.read_text().splitlines(keepends=True)
    cli.config.write_text("".join(one for one in lines if not one.startswith(f"  {name}: ")))


def _states(cli: Cli) -> dict[str, str]:
    found = cli.json("status", code=None).data["secrets"]
    return {one["secret"]: one["state"] for one in found}


def _login(cli: Cli, name: str) -> str:
    return cli("get", name, "--field", "username").out


# -- what left the file ------------------------------------------------------------------------------


def test_resume_completes_a_rotation_that_is_no_longer_configured(cli: Cli):
    """Target, backend, path and options come from the journal."""
    cli.edit("options: {base: web}", "options: {base: web}, policy: default")
    cli("rotate", "web")
    old = _login(cli, "web")
    cli("rotate", "web")
    cli.server.target.open_session(old)
    cli("revoke", "web", code=3)
    _remove_entry(cli, "web")
    cli.server.target.close_sessions()
    assert "web" in cli("revoke", "web").out
    assert old not in cli.server.target.usable()
    assert _states(cli)["web"] == "forgotten"
    history = cli.json("history", "web").data["rotations"][0]
    assert history["outcome"] == "done"
    assert history["old_refused"] is True


def test_resume_without_a_name_finds_forgotten_rotations(cli: Cli):
    """As it finds all open rotations."""
    cli("rotate", "app")
    cli("rotate", "app")
    _remove_entry(cli, "app")
    assert [one["secret"] for one in cli.json("resume").data["results"]] == ["app"]


def test_a_rotation_that_cannot_be_completed_names_the_remedies(cli: Cli):
    """The target is gone too: the error names both remedies, and --abandon records the end."""
    cli("rotate", "app")
    cli("rotate", "app")
    cli.edit("  main: {plugin: paper", "  other: {plugin: paper")
    cli.write(cli.config.read_text().split("secrets:\n")[0] + "secrets: {}\n")
    error = cli.json("resume", "app", code=2).errors[0]
    assert "--abandon --reason WHY" in error["hint"]
    assert _states(cli)["app"] == "forgotten"
    cli("retire", "app", "--abandon", code=2)
    cli("retire", "app", "--abandon", "--reason", "server was scrapped")
    assert "app" not in _states(cli)
    assert cli.json("audit", "verify").data["ok"]


# -- retire ------------------------------------------------------------------------------------------


def test_retire_keeps_the_login_by_default(cli: Cli):
    """The journal records it, and the secret is neither in trouble nor due."""
    cli("rotate", "app")
    login = _login(cli, "app")
    told = cli("retire", "app", "--reason", "moved away")
    assert f"Login {login} is unchanged" in told.out
    assert "remove the entry of app" in told.out
    assert login in cli.server.target.usable()
    assert _states(cli)["app"] == "retired"
    cli("status", code=0)
    cli("verify", "app")
    assert _states(cli)["app"] == "retired"
    assert "adopt" in cli("rotate", "app", code=2).err
    cli("adopt", "app")
    assert _states(cli)["app"] == "ok"


def test_drop_login_revokes_the_login_and_proves_it(cli: Cli):
    """The login is tested afterwards; with --remove-value the backend is empty."""
    cli("rotate", "app")
    login = _login(cli, "app")
    told = cli.json("retire", "app", "--drop-login", "--remove-value", "--reason", "gone").data
    assert (told["login"], told["dropped"], told["refused"], told["removed"]) == (
        login,
        True,
        True,
        True,
    )
    assert login not in cli.server.target.usable()
    with cli.app() as app:
        assert app.backend("local").current("app") is None
    _remove_entry(cli, "app")
    assert "app" not in _states(cli)
    assert cli.json("audit", "verify").data["ok"]
    last = cli.json("audit", "show", "app").data["events"][-1]
    assert (last["kind"], last["data"]["refused"]) == ("retired", True)


def test_retire_completes_a_rotation_in_grace_first(cli: Cli):
    """Both logins are revoked afterwards."""
    cli("rotate", "app")
    cli("rotate", "app")
    cli("retire", "app", "--drop-login")
    assert cli.server.target.usable() == set()
    assert cli.json("history", "app").data["rotations"][0]["outcome"] == "done"


def test_retire_does_not_revoke_a_login_in_use(cli: Cli):
    """Nothing changes while sessions are open, unless --terminate is given."""
    cli("rotate", "app")
    login = _login(cli, "app")
    cli.server.target.open_session(login)
    failed = cli("retire", "app", "--drop-login", code=1)
    assert "--terminate" in failed.err
    assert login in cli.server.target.usable()
    cli("retire", "app", "--drop-login", "--terminate")
    assert login not in cli.server.target.usable()


def test_a_second_run_completes_an_interrupted_retirement(cli: Cli):
    """The journal records the intent."""
    cli("rotate", "app")
    cli.server.target.tap = _die
    cli("retire", "app", "--drop-login", code=1)
    cli.server.target.tap = lambda _what, effect: effect()
    _remove_entry(cli, "app")
    row = cli.json("status", "app", code=3).data["secrets"][0]
    assert (row["state"], row["hint"]) == ("forgotten", "rotator retire app --drop-login")
    cli("retire", "app", "--drop-login")
    assert cli.server.target.usable() == set()


def _die(what: str, _effect: object) -> None:
    raise RuntimeError(what)


def test_retire_accepts_a_forgotten_secret(cli: Cli):
    """Also if its options are unknown."""
    cli("rotate", "app")
    _remove_entry(cli, "app")
    assert _states(cli)["app"] == "forgotten"
    cli("retire", "app", "--drop-login")
    assert "app" not in _states(cli)
    assert "nothing to retire" in cli("retire", "app", code=2).err


# -- rename ------------------------------------------------------------------------------------------


def test_rename_continues_the_history(cli: Cli):
    """Login, age and due date stay; ownership marks with the former name stay valid."""
    cli("rotate", "app", "--reason", "first")
    before = cli.json("status", "app").data["secrets"][0]
    cli.edit("  app: {target: main", "  shop: {path: app, options: {base: app}, target: main")
    assert _states(cli)["app"] == "forgotten"
    cli("rename", "app", "shop")
    after = cli.json("status", "shop").data["secrets"][0]
    assert {key: after[key] for key in ("login", "version", "rotated_at", "next_due")} == {
        key: before[key] for key in ("login", "version", "rotated_at", "next_due")
    }
    cli("status", code=0)
    cli("rotate", "shop")
    cli("revoke", "shop")
    assert cli.server.target.usable() == {_login(cli, "shop")}
    reasons = [one["reason"] for one in cli.json("history", "shop").data["rotations"]]
    assert "first" in reasons
    assert cli.json("audit", "verify").data["ok"]


def test_rename_checks_the_configuration_first(cli: Cli):
    """It must contain NEW and not OLD, and NEW must serve the credential of OLD."""
    cli("rotate", "app")
    assert "web is another secret" in cli("rename", "app", "web", code=2).err
    assert "app is its name already" in cli("rename", "app", "app", code=2).err
    assert "still contains app" in cli("rename", "app", "shop", code=2).err
    cli.edit("  app: {target: main", "  shop: {target: main")
    assert "Did you mean" in cli("rename", "app", "shob", code=2).err
    assert "`path: ...`" in cli("rename", "app", "shop", code=2).err
    assert "knows no credential" in cli("rename", "apq", "shop", code=2).err


# -- on a real server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres) -> Real:
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure()
    real("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    return real


def _logins(server: ScratchPostgres) -> set[str]:
    with server.connect() as admin:
        rows = admin.execute(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'app%'"
        ).fetchall()
    return {name for (name,) in rows}


def test_a_forgotten_login_is_revoked_on_postgresql(rotator: Real, server: ScratchPostgres):
    """The entry is removed during grace; both logins are revoked from the journal alone."""
    rotator("rotate", "app", "--timeout", "0s")
    secret: dict[str, Any] = rotator.json("status", "app").data["secrets"][0]
    new = secret["login"]
    assert _logins(server) == {"app", new}
    config = rotator.folder / "rotator.yaml"
    head, _, tail = config.read_text().partition("  app:\n")
    config.write_text(head + tail[tail.index("  taken:") :])
    assert rotator.json("status", code=3).data["secrets"][0]["state"] == "forgotten"
    rotator("revoke", "app")
    assert _logins(server) == {new}
    rotator("retire", "app", "--drop-login", "--remove-value", "--reason", "INC-1")
    assert _logins(server) == set()
    with pytest.raises(psycopg.OperationalError):
        server.connect(user=new, password="whatever").close()
    rotator("status", code=0)
    assert rotator.json("audit", "verify").data["ok"]
