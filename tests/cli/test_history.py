"""history and audit show: actors, reasons and causes, as text and as JSON."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.testing.fake_target import FakeAddress

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


@pytest.fixture
def rotated(cli: Cli) -> Cli:
    """Two secrets, one of them rotated twice and revoked for a reason, parked and unparked."""
    cli("rotate", "app", "web", "--reason", "first")
    cli("rotate", "app", "--reason", "second")
    cli("revoke", "app", "--reason", "LEAK INC-42")
    cli("park", "app", "--reason", "migration until Friday")
    cli("unpark", "app", "--reason", "done")
    return cli


@pytest.mark.parametrize("command", [("history", "app"), ("audit", "show", "app")])
def test_reasons_and_actors_are_shown(rotated: Cli, command: tuple[str, ...]):
    """The reason of each request, and its actor."""
    told = rotated(*command).out
    for word in ("LEAK INC-42", "migration until Friday", "done", "second"):
        assert word in told
    assert "test" in told or "cli:" in told


@pytest.mark.parametrize("command", [("history", "app"), ("audit", "show", "app")])
def test_a_revoke_names_the_rejected_login(rotated: Cli, command: tuple[str, ...]):
    """The evidence names it."""
    old = rotated.json("history", "app").data["rotations"][0]["old_login"]
    assert f"login {old} is revoked" in rotated(*command).out


def test_causes_of_failures_are_shown(cli: Cli):
    """`history` and `audit show` show why a step failed."""
    cli("rotate", "app")
    cli.server.away = True
    cli("rotate", "app", code=None)
    for command in (("history", "app"), ("audit", "show", "app")):
        assert "does not answer" in cli(*command).out


def test_history_without_a_name_shows_all_secrets(rotated: Cli):
    """Also those that only the journal contains."""
    lines = rotated.config.read_text().splitlines(keepends=True)
    rotated.config.write_text("".join(one for one in lines if not one.startswith("  web: ")))
    found = {one["secret"]: one for one in rotated.json("history").data["secrets"]}
    assert len(found["app"]["rotations"]) == 2
    assert len(found["web"]["rotations"]) == 1
    assert rotated.json("history", "web").data["rotations"][0]["reason"] == "first"


def test_since_omits_older_events(rotated: Cli):
    """It is a duration or a date; anything else is misuse."""
    with rotated.app() as app:
        tomorrow = (app.clock.now() + timedelta(days=1)).date().isoformat()
    assert len(rotated.json("history", "app", "--since", "1h").data["rotations"]) == 2
    assert rotated.json("history", "app", "--since", tomorrow).data["rotations"] == []
    assert len(rotated.json("audit", "show", "--since", "1h").data["events"]) > 20
    assert rotated.json("audit", "show", "--since", tomorrow).data["events"] == []
    assert "neither" in rotated("history", "app", "--since", "yesterday", code=2).err


def test_until_omits_later_events(rotated: Cli):
    """With --since it is a period; the first instant belongs to it, the last one does not."""
    events = rotated.json("audit", "show", "app").data["events"]
    parked = next(one for one in events if one["kind"] == "parked")
    until = ("--until", parked["at"])
    assert rotated.json("audit", "show", "app", *until).data["events"][-1]["seq"] < parked["seq"]
    newest = rotated.json("audit", "show", "app", *until, "--limit", "1").data["events"]
    assert [one["seq"] for one in newest] == [parked["seq"] - 1]
    since = ("--since", parked["at"])
    assert rotated.json("audit", "show", "app", *since).data["events"][0]["seq"] == parked["seq"]
    answer = rotated.json("history", "app", *until, "--limit", "1").data
    assert [one["kind"] for one in answer["beside"]] == []
    assert len(answer["rotations"]) == 1
    first = rotated.json("history", "app").data["rotations"][-1]
    second = rotated.json("history", "app").data["rotations"][0]
    until = ("--until", second["started_at"])
    only = rotated.json("history", "app", *until, "--limit", "1").data["rotations"]
    assert [one["id"] for one in only] == [first["id"]]
    assert rotated.json("audit", "show", "--until", "1h").data["events"] == []
    assert "of that time" in rotated("audit", "show", "--until", "1h").out
    for command in (("history", "app"), ("audit", "show")):
        error = rotated(*command, "--since", "1h", "--until", "2h", code=2).err
        assert "--since 1h is not before --until 2h" in error
        assert "--until 'soon' is neither" in rotated(*command, "--until", "soon", code=2).err


def test_history_takes_patterns(rotated: Cli):
    """The answer lists the secrets, however many match."""
    found = rotated.json("history", "a*").data["secrets"]
    assert [one["secret"] for one in found] == ["app"]
    assert "no secret matches" in rotated("history", "shop-*", code=2).err


@pytest.mark.parametrize("command", [("history", "app"), ("audit", "show", "app")])
def test_incidents_are_shown_with_reason_and_proof(rotated: Cli, command: tuple[str, ...]):
    """What leaked, why that was reported, whether it is rejected, and why the incident ended."""
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "a paste", "--id", "I-9")
    rotated("incident", "close", "I-9", "--reason", "all moved")
    told = rotated(*command).out
    assert re.search(r"incident I-9: version \S+ leaked, reason: a paste \(by cli:", told)
    assert "incident I-9: the leaked password was rejected at 1 address" in told
    assert "incident I-9: all moved (by cli:" in told


@pytest.mark.parametrize("command", [("history", "app"), ("audit", "show", "app")])
def test_an_incident_that_is_not_proven_shows_why(rotated: Cli, command: tuple[str, ...]):
    """The address that may still accept the leaked password."""
    rotated.server.target.addresses["pooler:6432"] = FakeAddress(trusts=True)
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-9", code=3)
    told = rotated(*command).out
    assert "incident I-9: not proven that the leaked password is rejected: " in told
    assert "pooler:6432 accepts any password" in told


def test_a_published_rotation_is_not_called_open(cli: Cli):
    """In its grace period the new credential is served."""
    cli("rotate", "app")
    cli("rotate", "app")
    assert "published, new-user" in cli("history", "app").out
