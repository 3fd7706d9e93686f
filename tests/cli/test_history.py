"""history and audit show: actors, reasons and causes, as text and as JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

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


def test_a_published_rotation_is_not_called_open(cli: Cli):
    """In its grace period the new credential is served."""
    cli("rotate", "app")
    cli("rotate", "app")
    assert "published, new-user" in cli("history", "app").out
