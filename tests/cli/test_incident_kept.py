"""rename, retire and the removal of an entry, while a password of the secret is known to have leaked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.fake_target import FakeAddress

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Outcome


@pytest.fixture
def reported(cli: Cli) -> Cli:
    """`app` is in incident I-1, proven, and `web` in I-2, recorded only."""
    cli("rotate", "--all")
    cli("incident", "open", "app", "--mode", "kill", "--reason", "a paste", "--id", "I-1")
    cli("incident", "open", "web", "--mode", "map", "--reason", "an alert", "--id", "I-2")
    return cli


def _renamed(cli: Cli) -> Cli:
    cli.edit("  app: {target: main", "  shop: {path: app, options: {base: app}, target: main")
    cli("rename", "app", "shop")
    return cli


def _listed(cli: Cli, *more: str) -> list[tuple[str, str, str]]:
    found = cli.json("incident", "list", *more).data["incidents"]
    return [(one["incident"], one["secret"], one["state"]) for one in found]


def test_a_renamed_secret_is_listed_once_under_its_new_name(reported: Cli):
    """With its state, and not as closed."""
    _renamed(reported)
    expected = [("I-2", "web", "map"), ("I-1", "shop", "proven")]
    assert _listed(reported) == expected
    assert _listed(reported, "--all") == expected


@pytest.mark.parametrize("subject", ["shop", "app", "I-1"])
def test_a_renamed_secret_is_shown_from_its_report_on(reported: Cli, subject: str):
    """By either name, and by the id."""
    _renamed(reported)
    (line,) = reported.json("incident", "show", subject).data["incidents"]
    assert (line["secret"], line["reason"]) == ("shop", "a paste")
    kinds = [one["kind"] for one in line["events"]]
    assert (kinds[0], kinds[-1]) == ("leaked", "renamed")


def test_the_commands_go_on_under_the_new_name(reported: Cli):
    """resume, close, reopen and the receipt."""
    _renamed(reported)
    assert "rejected at 1 address" in reported("incident", "resume", "shop").out
    reported("incident", "close", "I-1", "--reason", "over")
    assert "rejected at 1 address" in reported("incident", "reopen", "shop", "--reason", "x").out
    folder = reported.folder / "receipt"
    reported("incident", "show", "I-1", "--receipt", str(folder))
    reported("audit", "verify", "--export", str(folder))
    assert reported.json("audit", "verify").data["ok"]


def test_retire_names_the_incident_and_the_ways_out(reported: Cli):
    """And each of them works as it is printed."""
    error = reported.json("retire", "web", "--reason", "moved", code=2).errors[0]
    assert "leaked (incident I-2)" in error["what"]
    assert "rotator incident close web --reason 'WHY'" in error["hint"]
    assert _listed(reported)[0] == ("I-2", "web", "map")
    reported("incident", "close", "web", "--reason", "WHY")
    reported("retire", "web", "--reason", "moved")


def test_retire_says_that_the_watch_over_a_proven_password_ends(reported: Cli):
    """So that nobody waits for it."""
    said = reported("retire", "app", "--reason", "moved").out
    assert "incident I-1 is closed" in said
    assert _listed(reported, "--all")[-1] == ("I-1", "app", "closed")


def test_an_incident_whose_target_is_gone_ends_by_abandon_only(reported: Cli):
    """With a reason, and not as proven."""
    reported.edit("  main: {plugin: paper", "  other: {plugin: paper")
    reported.write(reported.config.read_text().split("secrets:\n")[0] + "secrets: {}\n")
    error = reported.json("retire", "web", code=2).errors[0]
    assert "rotator retire web --abandon --reason 'WHY'" in error["hint"]
    reported("retire", "web", "--abandon", "--reason", "scrapped")
    line = reported.json("incident", "show", "web", code=None).data["incidents"][0]
    assert (line["state"], line["proven_at"]) == ("closed", None)


def _state(outcome: Outcome, name: str) -> tuple[str, str]:
    found = next(one for one in outcome.data["secrets"] if one["secret"] == name)
    return found["state"], found["cause"]


def test_a_secret_that_left_the_file_stays_leaked(reported: Cli):
    """Its incident is resumed from what the journal knows of it."""
    lines = reported.config.read_text().splitlines(keepends=True)
    reported.config.write_text("".join(one for one in lines if not one.startswith("  web: ")))
    assert _state(reported.json("status", code=None), "web")[0] == "leaked"
    reported("incident", "resume", "I-2", "--mode", "kill")
    assert ("I-2", "web", "proven") in _listed(reported)


def test_status_says_that_a_parked_secret_is_not_watched(reported: Cli):
    """Nobody tries the leaked password until it is unparked."""
    reported("park", "app", "--reason", "holiday")
    _, cause = _state(reported.json("status", code=None), "app")
    assert "incident I-1" in cause
    assert "not tried again" in cause
    reported("unpark", "app", "--reason", "back")
    assert _state(reported.json("status", code=None), "app")[0] == "ok"


def test_reseal_keeps_the_incidents(reported: Cli):
    """It encrypts the kept values again, so the leaked one can still be tried."""
    before = _listed(reported)
    reported("reseal", "local")
    assert _listed(reported) == before
    assert "rejected at 1 address" in reported("incident", "resume", "app").out


def test_an_unproven_incident_prevents_the_retirement(reported: Cli):
    """As one whose pooler still accepts the password."""
    reported.server.target.addresses["pooler:6432"] = FakeAddress(trusts=True)
    reported("incident", "resume", "app", code=3)
    assert "incident I-1" in reported("retire", "app", code=2).err


def test_adopt_names_the_incident_of_a_password_that_leaked(reported: Cli):
    """It is taken over, and the command that replaces it is printed."""
    with reported.app() as app:
        secret = app.secret("web")
        current = secret.backend.current(secret.path)
        assert current is not None
        rotation_id = "by-hand"
        _ = secret.backend.stage(secret.path, rotation_id, current.credential)
        _ = secret.backend.publish(secret.path, rotation_id, expect=current.id)
    said = reported("adopt", "web").out
    assert "Its password leaked: incident I-2." in said
    assert "rotator incident resume web --mode kill" in said
    reported("incident", "resume", "web", "--mode", "kill")
    assert ("I-2", "web", "proven") in _listed(reported)
