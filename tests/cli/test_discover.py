"""discover: whose the logins of a target are, and entries for those that nobody manages."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.bootstrap import wiring
from rotator.core.lease_chain import chain_of as lent_by
from rotator.core.target_logins import chain_of
from rotator.testing.fake_target import Account
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _login(cli: Cli, name: str) -> dict[str, Any]:
    (login,) = [one for one in cli.json("discover", "main").data["logins"] if one["login"] == name]
    return login


def _add(cli: Cli, *names: str, owner: str | None = None, **given: Any) -> None:
    for name in names:
        cli.server.target.accounts[name] = Account(passwords=["x"], owner=owner, **given)


def test_a_login_that_the_journal_serves_is_managed(cli: Cli):
    """With the age of its password, which the journal knows."""
    cli("rotate", "app")
    (served,) = cli.server.target.accounts
    login = _login(cli, served)
    assert (login["state"], login["secret"]) == ("managed", "app")
    assert login["password_set"] is not None
    assert not login["proposed"]
    assert f"{served}" in cli("discover", "main").out


def test_logins_of_a_grace_period_and_closed_ones_are_managed(cli: Cli):
    """They bear the mark of a secret, and the journal knows them."""
    for _ in range(2):
        cli("rotate", "app")
    for _ in range(2):
        cli("rotate", "web")
    logins = cli.json("discover", "main").data["logins"]
    assert {login["state"] for login in logins} == {"managed"}
    assert {login["secret"] for login in logins} == {"app", "web"}


@pytest.mark.parametrize("owner", ["app", "a secret of others"])
def test_a_marked_login_that_the_journal_does_not_know_is_an_orphan(cli: Cli, owner: str):
    """It is listed with the statement that removes it, and no entry is proposed."""
    cli("rotate", "app")
    _add(cli, "lost", owner=owner)
    login = _login(cli, "lost")
    assert login["state"] == "orphan"
    assert "on main: DROP LOGIN lost" in login["hint"]
    assert not login["proposed"]
    shown = cli("discover", "main").out
    assert "orphan lost: " in shown
    assert "DROP LOGIN lost" in shown


def test_a_login_that_nobody_manages_gets_an_entry(cli: Cli):
    """Ready to paste: the configuration with it is valid."""
    _add(cli, "billing", "app")
    data = cli.json("discover", "main").data
    entry = data["entry"]["secrets"]
    assert set(entry) == {"billing", "main-app"}
    assert entry["billing"]["target"] == "main"
    assert entry["billing"]["strategy"] == "dual-password"
    assert data["written"] is False
    shown = cli("discover", "main").out
    assert "secrets:\n  main-app:\n" in shown
    text = shown[shown.index("  main-app:") : shown.index("Next:")]
    cli.config.write_text(cli.config.read_text().rstrip() + "\n" + text)
    cli("check")


@pytest.mark.parametrize(
    ("name", "state"),
    [("admin", "admin"), ("replication", "internal"), ("root", "unmanaged")],
)
def test_no_entry_is_proposed_for_logins_of_operators_and_of_the_server(
    cli: Cli, name: str, state: str
):
    """The login of rotator itself, those of the server, and superusers are listed only."""
    _add(cli, name)
    login = _login(cli, name)
    assert (login["state"], login["proposed"]) == (state, False)
    assert "No login is left to propose an entry for." in cli("discover", "main").out


def test_a_login_that_cannot_log_in_gets_no_entry(cli: Cli):
    """Nothing uses it."""
    _add(cli, "resting", can_login=False)
    assert not _login(cli, "resting")["proposed"]
    assert "cannot log in" in cli("discover", "main").out


def test_sessions_and_rights_are_shown(cli: Cli):
    """Enough to see who would be affected."""
    _add(cli, "root", began=[1, 2])
    login = _login(cli, "root")
    assert (login["sessions"], login["superuser"]) == (2, True)
    assert "superuser" in cli("discover", "main").out


def test_discover_writes_entries_and_a_list_for_adopt(cli: Cli):
    """An operator only fills in where the passwords are."""
    _add(cli, "billing", "shop")
    file = cli.folder / "logins.csv"
    data = cli.json(
        "discover", "main", "--strategy", "single-user", "--write", "--csv", str(file)
    ).data
    assert data["written"] is True
    assert data["csv"] == str(file)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["name"], row["username"], row["password_from"]) for row in rows] == [
        ("billing", "billing", ""),
        ("shop", "shop", ""),
    ]
    cli("check")
    again = cli("discover", "main", "--csv", str(file), code=2)
    assert "exists already" in again.err


def test_discover_fills_in_where_the_passwords_are(cli: Cli):
    """By the name of each login. One whose name fits into no path stays empty, and is counted."""
    _add(cli, "billing", "web-shop", "odd name")
    pattern = ("--password-from", "env:{login}_PASSWORD")
    shown = cli("discover", "main", "--csv", "logins.csv", *pattern)
    assert "1 without a password: fill in the column password_from." in shown.out
    rows = csv.DictReader((cli.folder / "logins.csv").read_text().splitlines())
    assert {row["username"]: row["password_from"] for row in rows} == {
        "billing": "env:BILLING_PASSWORD",
        "web-shop": "env:WEB_SHOP_PASSWORD",
        "odd name": "",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("--password-from", "file:{login}"),
        ("--csv", "logins.csv", "--password-from", "file:all"),
        ("--csv", "logins.csv", "--password-from", "{login}"),
    ],
    ids=["no file", "one for all", "no reference"],
)
def test_discover_refuses_a_pattern_that_names_no_password(cli: Cli, arguments: tuple[str, ...]):
    """Nothing is written."""
    cli("discover", "main", *arguments, code=2)
    assert not (cli.folder / "logins.csv").exists()


def test_adopt_all_from_a_file_takes_the_rest_from_the_backend(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    """The file gives logins and passwords; what it does not list must be in the backend."""
    monkeypatch.setenv("APP", "x")
    _add(cli, "app", "web_a", "old")
    with cli.app() as app:
        for name, login in (("web", "web_a"), ("old", "old")):
            _write(app, name, login)
    file = cli.folder / "logins.csv"
    file.write_text("name,username,password_from\napp,app,env:APP\n")
    data = cli.json("adopt", "--all", "--from", str(file)).data
    assert [one["secret"] for one in data["secrets"]] == ["app", "web", "old"]
    states = {one["login"]: one["state"] for one in cli.json("discover", "main").data["logins"]}
    assert states == {"app": "managed", "web_a": "managed", "old": "managed"}


def _write(app: Any, name: str, login: str) -> None:
    """Store a credential as others would."""
    from rotator.core.model import Credential
    from rotator.core.secret import Secret

    secret = app.secret(name)
    staged = secret.backend.stage(
        secret.path, "by-hand", Credential(username=login, password=Secret("x"))
    )
    assert staged
    _ = secret.backend.publish(secret.path, "by-hand", expect=None)


def test_bad_input_is_explained(cli: Cli):
    """An unknown target, one that is away, and a strategy that its plugin does not have."""
    assert "no target is called 'mian'" in cli("discover", "mian", code=2).err
    cli.server.away = True
    assert "does not answer" in cli("discover", "main", code=None).err
    cli.server.away = False
    _add(cli, "billing")
    wrong = cli("discover", "main", "--strategy", "nonsense", "--write", code=None)
    assert wrong.code != 0
    cli("check")


def test_discover_shows_no_password(cli: Cli):
    """It reads none."""
    cli("rotate", "app")
    cli.server.target.accounts["billing"] = Account(passwords=["a-password-to-hide"])
    outcome = cli("discover", "main")
    assert "a-password-to-hide" not in outcome.out + outcome.err


def test_a_look_is_recorded_for_the_report_when_it_shows_something_new(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    """With names, without values; and once a day where nothing changes."""
    clock = ManualClock()
    monkeypatch.setattr(wiring.system, "SystemClock", lambda: clock)
    cli("rotate", "app")
    for _ in range(2):
        cli("discover", "main")
    _add(cli, "legacy")
    cli("discover", "main")
    clock.advance(timedelta(hours=25))
    cli("discover", "main")
    with cli.app() as app:
        events = app.journal.events(chain_of("main"))
        assert [one.name for one in app.journal.secrets()] == ["app"]
    assert [one.data["counts"]["unmanaged"] for one in events] == [0, 1, 1]  # pyright: ignore[reportIndexIssue,reportArgumentType,reportCallIssue,reportOptionalSubscript]
    assert "admin-password" not in str([one.data for one in events])
    cli("audit", "verify")


def test_a_look_beside_another_one_is_not_recorded_twice(cli: Cli):
    """Nor does it fail: the other process records the same."""
    cli("rotate", "app")
    with cli.app() as app:
        lock = app.journal.acquire(chain_of("main"), "another process", timedelta(minutes=1))
        cli("discover", "main")
        assert app.journal.events(chain_of("main")) == []
        app.journal.release(lock)


def test_the_login_of_a_lease_is_managed(cli: Cli):
    """It bears the mark of the leases of a secret, and ends with its lease."""
    cli("rotate", "app")
    _add(cli, "lent", owner=lent_by("app"))
    login = _login(cli, "lent")
    assert (login["state"], login["secret"]) == ("managed", "app")
