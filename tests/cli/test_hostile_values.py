"""A hostile value in a backend is an error of its own secret only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rotator.testing.hostile import VALUES
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli

# One of each sort; the parsers meet all of them in `make fuzz`.
_TRIED = (
    *("no JSON", "nested lists", "nested beside a login", "an infinite number", "other kinds"),
    *("half a character", "a NUL", "escapes"),
)


@pytest.fixture
def aws(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsManager]:
    """The secret `app` is kept in the embedded backend, and `web` and `old` in AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with SecretsManager() as service:
        cli.edit(
            "  local: {type: local",
            f'  aws: {{type: aws, region: eu-central-1, endpoint: "{service.endpoint}"}}\n'
            "  local: {type: local",
        )
        for name in ("web", "old"):
            cli.edit(
                f"{name}: {{target: main, backend: local", f"{name}: {{target: main, backend: aws"
            )
        yield service


def _about(errors: list[dict[str, Any]], *names: str) -> list[str]:
    """Return the errors that are about any of these secrets."""
    return [str(one) for one in errors if any(name in str(one) for name in names)]


def test_a_hostile_value_is_an_error_of_its_own_secret_only(cli: Cli, aws: SecretsManager):
    """`doctor`, `audit verify`, `status` and other rotations continue, and name the secret."""
    for name in ("app", "old"):
        cli("rotate", name)
    for what in _TRIED:
        text = VALUES[what]
        aws.by_hand("web", text)
        verified = cli.json("audit", "verify", code=None)
        assert verified.code in (0, 3), (what, verified)
        assert verified.data["ok"] is True, what
        assert verified.data["damage"] == [], what
        assert all("web" in one["where"] for one in verified.data["not_compared"]), what
        found = cli.json("doctor", code=None).data["findings"]
        errors = [one for one in found if one["severity"] == "error"]
        assert all("web" in str(one) for one in errors), (what, errors)
        fine = {one["subject"] for one in found if one["severity"] == "ok"}
        assert {"secret app", "secret old", "journal"} <= fine, what
    failed = cli.json("rotate", "web", code=None)
    assert failed.code in (1, 2, 3)
    assert "rotator has a bug" not in failed.out
    assert len(cli.json("status", code=None).data["secrets"]) == 3
    # Put right, nothing is left of it.
    aws.by_hand("web", json.dumps({"username": "web", "password": "put-right-again"}))
    assert cli.json("audit", "verify").data["not_compared"] == []


def test_verify_names_each_secret_that_it_could_not_compare(cli: Cli, aws: SecretsManager):
    """The chains of the journal are still verified, and the exit code is not 0."""
    for name in ("app", "web", "old"):
        cli("rotate", name)
    aws.denied["DescribeSecret"] = ""
    verified = cli.json("audit", "verify", code=3)
    assert [one["where"] for one in verified.data["not_compared"]] == ["secret web", "secret old"]
    assert verified.data["events"] > 0
    said = cli("audit", "verify", code=3).out
    assert "2 secrets not compared with the backend" in said
