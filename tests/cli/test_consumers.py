"""consumers and status: who uses the current version, who is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.core.consumers import InstanceKind, Level, Report

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """`app`, rotated twice, is used by `web`, of which one instance has moved and one has not."""
    text = cli.config.read_text()
    start = text.index("  app:")
    entry = text[start : text.index("\n", start)]
    changed = entry.replace("{", "{consumers: [web], ", 1)
    consumers = "consumers:\n  web: {instances: 2, gate: hold, wait: 2h}\n"
    cli.config.write_text(text.replace(entry, changed) + consumers)
    cli("rotate", "app")
    cli("rotate", "app")
    report(cli, "web-1", "2")
    report(cli, "web-2", "1")
    return cli


def report(cli: Cli, instance: str, version: str) -> None:
    with cli.app() as app:
        versions = [one.new_version for one in reversed(app.journal.rotations("app"))]
        one = Report(
            secret="app",
            consumer="web",
            instance=instance,
            kind=InstanceKind.CLIENT,
            version=versions[int(version) - 1] or "",
            level=Level.USED,
        )
        app.consumers.report([one])


def test_consumers_lists_who_is_behind(shop: Cli):
    """By name, with what each instance reported."""
    told = shop("consumers", "app").out
    assert "web: 1 of 2 on the current version, behind: web-2" in told
    for word in ("web-1", "client", "used"):
        assert word in told


def test_consumers_answers_as_json(shop: Cli):
    """With the facts that the journal would keep."""
    (one,) = shop.json("consumers").data["secrets"]
    assert one["secret"] == "app"
    assert one["consumers"] == [
        {"name": "web", "expected": 2, "acknowledged": 1, "behind": ["web-2"], "gate": "hold"}
    ]
    assert [row["instance"] for row in one["instances"]] == ["web-1", "web-2"]


def test_behind_leaves_out_what_has_moved(shop: Cli):
    """Nothing is left once the last instance reports."""
    assert len(shop.json("consumers", "--behind").data["secrets"]) == 1
    report(shop, "web-2", "2")
    assert shop.json("consumers", "--behind").data["secrets"] == []
    assert "No secret declares consumers" in shop("consumers", "--behind").out


def test_consumers_reports_a_target_that_is_away(shop: Cli):
    """The reports are shown all the same."""
    shop.server.away = True
    answer = shop("consumers", "app", code=None)
    assert answer.code != 0
    assert "does not answer" in answer.err
    assert "web-1" in answer.out


def test_status_names_consumers_that_are_behind(shop: Cli):
    """While the old credential is valid."""
    told = shop("status").out
    assert "app, consumer web: 1 of 2 on the current version, behind: web-2" in told
    assert "rotator consumers app" in told
    found = {one["secret"]: one for one in shop.json("status").data["secrets"]}
    assert found["app"]["consumers_behind"] == ["web"]
    report(shop, "web-2", "2")
    assert "consumer web" not in shop("status").out


def test_plan_and_history_name_the_gate(shop: Cli):
    """What a rotation will wait for, and what it waited for."""
    assert "2 of web (hold)" in shop("plan", "app").out
    shop("revoke", "app", "--reason", "web-2 is gone")
    assert "on the new version: web 1 of 2; the gate was overridden" in shop("history", "app").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("consumers: {web: {gate: maybe}}", "consumers.web.gate"),
        ("consumers: {web: {instances: 0}}", "consumers.web.instances"),
        ("consumers: {web: {token: plain-text}}", "redacted"),
        ("consumers: {web: {wait: soon}}", "consumers.web.wait"),
        ("policies: {default: {grace: until-tomorrow}}", "until-acknowledged, at most 6h"),
        ("policies: {default: {grace: until-acknowledged}}", "requires consumers"),
        ("policies: {default: {prepare: {wait: 0s}}}", "policies.default.prepare.wait"),
        ("policies: {default: {prepare: {then: stop}}}", "policies.default.prepare.then"),
        ("policies: {default: {prepare: {}}}", "is for strategies without overlap"),
        ("defaults: {consumers: [weeb]}\nconsumers: {web: }", "Did you mean `web`?"),
        ("daemon: {reports: {listen: '0.0.0.0:9465'}}", "unencrypted"),
        ("daemon: {reports: {listen: '127.0.0.1:9465', key: k.pem}}", "belong together"),
        ("daemon: {reports: {listen: 'here'}}", "invalid address"),
    ],
)
def test_an_invalid_entry_is_reported_with_its_place(cli: Cli, text: str, said: str):
    """And nothing of a value that could be a secret is repeated."""
    section = text.split(":", 1)[0]
    lines = cli.config.read_text().splitlines(keepends=True)
    kept: list[str] = []
    skipping = False
    for line in lines:
        skipping = line.startswith(f"{section}:") or (skipping and line.startswith(" "))
        if not skipping:
            kept.append(line)
    cli.config.write_text("".join(kept) + text + "\n")
    answer = cli("check", code=2)
    assert said in " ".join(answer.err.split()) or said in " ".join(answer.out.split())
    assert "plain-text" not in answer.err
