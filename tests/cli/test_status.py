"""status: the truth about each secret, trouble first, and what to do about it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.text import Text

from rotator.core.observations import Observation, ObservationKind
from rotator.faces.cli.render.console import Screen, table

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _row(cli: Cli, name: str, code: int | None = None) -> dict[str, Any]:
    rows = cli.json("status", name, code=code).data["secrets"]
    return next(one for one in rows if one["secret"] == name)


def _by_hand(cli: Cli) -> None:
    """Somebody changes every password on the server."""
    for account in cli.server.target.accounts.values():
        account.passwords = ["by-hand"]


def _remove_entry(cli: Cli, name: str) -> None:
    lines = cli.config.read_text().splitlines(keepends=True)
    cli.config.write_text("".join(one for one in lines if not one.startswith(f"  {name}: ")))


# -- trouble is first, red, with its cure, and the command does not return 0 --------------------------


def test_status_shows_a_rejected_credential_first_until_it_is_valid(cli: Cli):
    """The result of `verify` is the state, with the command that fixes it."""
    cli("rotate", "web")
    cli("rotate", "app")
    assert _row(cli, "app", code=0)["state"] == "ok"
    _by_hand(cli)
    cli("verify", "app", code=1)
    told = cli.json("status", code=3)
    first = told.data["secrets"][0]
    assert (first["secret"], first["state"], first["severity"]) == ("app", "refused", "error")
    assert first["hint"] == "rotator rotate app"
    assert "rotator rotate app" in cli("status", code=3).out
    cli("rotate", "app")
    assert _row(cli, "app")["state"] == "grace"


def test_status_suggests_rollback_for_a_rejected_credential_in_grace(cli: Cli):
    """The old credential is still valid."""
    cli("rotate", "app")
    cli("rotate", "app")
    account = cli.server.target.accounts[_row(cli, "app")["login"]]
    account.passwords = ["by-hand"]
    cli("verify", "app", code=1)
    assert _row(cli, "app", code=3)["hint"] == "rotator rollback app"
    cli("rollback", "app")
    assert _row(cli, "app", code=0)["state"] == "grace"


def test_status_shows_drift(cli: Cli):
    """Another writer changed the backend; `adopt` accepts the change."""
    cli("rotate", "app")
    with cli.app() as app:
        backend = app.backend("local")
        current = backend.current("app")
        assert current is not None
        backend.stage("app", "by-hand", current.credential)
        backend.publish("app", "by-hand", expect=current.id)
    cli("verify", "app")
    row = _row(cli, "app", code=3)
    assert (row["state"], row["hint"]) == ("drift", "If that is intended: rotator adopt app")
    cli("adopt", "app")
    assert _row(cli, "app", code=0)["state"] == "ok"


def test_a_parked_secret_shows_the_remedy_of_the_failure(cli: Cli):
    """`status` shows the text that `rotate` printed; each command can be pasted."""
    cli("rotate", "web")
    cli.server.target.accounts["web_b"] = type(cli.server.target.accounts["web_a"])(owner=None)
    failed = cli("rotate", "web", code=3)
    row = _row(cli, "web", code=3)
    assert row["state"] == "parked"
    assert "is there already and is not ours" in row["cause"]
    assert "rotator unpark web --reason WHY && rotator resume web" in row["hint"]
    assert row["cause"].removeprefix("conflict: ") in failed.out


def test_a_secret_that_is_no_longer_configured_is_forgotten(cli: Cli):
    """With an open rotation, or a login that was not revoked: shown first, with the remedies."""
    cli("rotate", "web")
    cli("rotate", "app")
    cli("rotate", "app")
    _remove_entry(cli, "app")
    told = cli.json("status", code=3)
    first = told.data["secrets"][0]
    assert (first["secret"], first["state"]) == ("app", "forgotten")
    assert "is open" in first["cause"]
    assert "rotator resume app" in first["hint"]
    assert first["target"] == "main"
    assert told.data["totals"]["forgotten"] == 1
    assert _row(cli, "app", code=3)["state"] == "forgotten"


def test_a_secret_that_never_had_a_login_is_not_forgotten(cli: Cli):
    """An entry without a rotation leaves no trace."""
    cli("rotate", "web")
    _remove_entry(cli, "app")
    assert [one["secret"] for one in cli.json("status").data["secrets"]] == ["web", "old"]


def test_a_secret_waits_for_its_target(cli: Cli):
    """The fault of a target is shown once, with the remedy and the next try; its secrets wait."""
    cli("rotate", "app")
    with cli.app() as app:
        now = app.clock.now()
        fault = Observation(
            kind=ObservationKind.FAULT,
            subject="target main",
            at=now,
            until=now + timedelta(minutes=5),
            data={"what": "the admin's password is rejected.", "hint": "ALTER ROLE admin ..."},
        )
        app.observations.put(fault)
        app.engine.schedule(app.secret("app"), now, reason="test")
    row = _row(cli, "app", code=3)
    assert row["state"] == "waiting"
    assert row["hint"] == "ALTER ROLE admin ..."
    told = cli("status", code=3).out
    assert told.count("the admin's password is rejected") == 1
    assert "target main is unavailable until" in told
    with cli.app() as app:
        app.observations.remove(ObservationKind.FAULT, "target main")
    assert _row(cli, "app", code=0)["state"] == "due"


# -- who is alive ------------------------------------------------------------------------------------


def test_status_shows_whether_a_daemon_is_running(cli: Cli):
    """Its newest observation, and its age."""
    assert "No daemon was seen; 3 secrets: 3 unknown" in cli("status").out
    with cli.app() as app:
        now = app.clock.now()
        for age, name in ((1, "vm/1"), (300, "vm/2")):
            data = {"name": name, "face": "daemon"}
            at = now - timedelta(seconds=age)
            app.observations.put(
                Observation(kind=ObservationKind.PROCESS, subject=name, at=at, data=data)
            )
    told = cli("status").out
    assert "daemon vm/1, last seen" in told
    assert "vm/2" not in told
    alive = {one["name"]: one["alive"] for one in cli.json("status").data["processes"]}
    assert alive == {"vm/1": True, "vm/2": False}
    with cli.app() as app:
        app.observations.remove(ObservationKind.PROCESS, "vm/1")
    assert "No daemon is running: daemon vm/2, last seen 5 min" in cli("status").out


# -- few words, filters ------------------------------------------------------------------------------


def test_status_shows_details_of_trouble_only(cli: Cli):
    """What needs no action is a number, unless it is selected; the totals come first."""
    cli("rotate", "--all")
    cli("rotate", "--all")
    told = cli("status").out
    assert "3 secrets: 1 ok, 2 grace" in told.splitlines()[0]
    assert "3 secrets need no action. Next due: " in told
    assert len(told.splitlines()) == 3
    cli.server.target.accounts.clear()
    cli("verify", "app", code=1)
    told = cli("status", code=3).out
    assert "✗ app, refused: the target rejects login" in told
    assert "Next: rotator rollback app" in told
    assert "2 secrets need no action" in told
    assert "web" not in told.replace("Next due: web, ", "")
    assert len(told.splitlines()) == 6


def test_selected_secrets_are_listed_with_their_dates(cli: Cli):
    """By --all, a name, a pattern or a filter; a secret without trouble has one line."""
    cli("rotate", "--all")
    for selection in (
        ("--all",),
        ("app", "web", "old"),
        ("*",),
        ("--target", "main"),
        ("--backend", "local"),
        ("--state", "ok"),
    ):
        told = cli("status", *selection).out
        assert "next due" in told, selection
        assert [line.split()[0] for line in told.splitlines()[-3:]] == ["app", "web", "old"]
    assert "next due" not in cli("status").out


def test_status_is_filtered_by_backend(cli: Cli):
    """An unknown backend is misuse."""
    cli("rotate", "app", "web")
    other = '  other: {type: local, path: other.db, key: "file:rotator.key"}\ntargets:\n'
    cli.edit("targets:\n", other)
    cli.edit("old: {target: main, backend: local", "old: {target: main, backend: other")

    def names(*backends: str) -> list[str]:
        flags = [word for name in backends for word in ("--backend", name)]
        return [one["secret"] for one in cli.json("status", *flags).data["secrets"]]

    assert names("other") == ["old"]
    assert names("local") == ["app", "web"]
    assert names("local", "other") == ["app", "web", "old"]
    assert "Did you mean `other`?" in cli("status", "--backend", "othr", code=2).err


def test_a_pattern_selects_matching_names_also_forgotten_ones(cli: Cli):
    """A pattern without a match is misuse, as an unknown name is."""
    cli("rotate", "--all")
    _remove_entry(cli, "web")

    def names(*patterns: str) -> list[str]:
        rows = cli.json("status", *patterns, code=None).data["secrets"]
        return sorted(one["secret"] for one in rows)

    assert names("[aw]*") == ["app", "web"]
    assert names("ap?", "old") == ["app", "old"]
    assert names("app", "a*") == ["app"]
    error = cli.json("status", "shop-*", code=2).errors[0]
    assert "no secret matches 'shop-*'" in error["what"]


def test_a_filter_without_a_match_does_not_deny_that_secrets_are_configured(cli: Cli):
    """`status --state parked` with nothing parked is good news."""
    told = cli("status", "--state", "parked").out
    assert "No secret matches." in told
    assert "rotator add" not in told


def test_status_names_unavailable_hosts_and_open_incidents_in_the_first_line(cli: Cli):
    """Also under a filter, since they concern every secret."""
    cli("rotate", "--all")
    assert cli.json("status").data["incidents"] == []
    cli("incident", "open", "app", "--mode", "map", "--reason", "a paste", "--id", "I-1")
    with cli.app() as app:
        for subject in ("backend local", "target main"):
            fault = Observation(
                kind=ObservationKind.FAULT, subject=subject, at=app.clock.now(), data={}
            )
            app.observations.put(fault)
    for selection in ((), ("web",)):
        head = cli("status", *selection, code=None).out.splitlines()[0]
        assert "; backend local, target main unavailable; " in head
        assert head.endswith("; 1 open incident")
    incident = {"incident": "I-1", "state": "map", "secrets": ["app"]}
    assert cli.json("status", code=3).data["incidents"] == [incident]
    assert cli.json("status", "web", code=0).data["incidents"] == [incident]


def test_a_proven_incident_is_not_open(cli: Cli):
    """Every address rejects the password; rotator still tries it."""
    cli("rotate", "--all")
    cli("incident", "open", "app", "--mode", "kill", "--reason", "a paste")
    assert cli.json("status").data["incidents"][0]["state"] == "proven"
    assert "incident" not in cli("status").out


def test_due_secrets_without_a_daemon_are_trouble_in_words(cli: Cli):
    """Nothing rotates them; with a daemon they need no action."""
    cli("rotate", "app")
    with cli.app() as app:
        app.engine.schedule(app.secret("app"), app.clock.now(), reason="test")
    told = cli("status").out
    assert "1 secret is due, and no daemon is running." in told
    assert "Next: rotator rotate --due" in told
    with cli.app() as app:
        data = {"name": "vm/1", "face": "daemon"}
        kind, now = ObservationKind.PROCESS, app.clock.now()
        app.observations.put(Observation(kind=kind, subject="vm/1", at=now, data=data))
    told = cli("status").out
    assert "no daemon" not in told
    assert "1 secret needs no action. Next due: app" in told


def test_much_trouble_is_cut_and_the_rest_is_counted(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """With the command that lists it."""
    cli("rotate", "--all")
    cli("park", "app", "web", "old", "--reason", "migration")
    monkeypatch.setattr("rotator.faces.cli.render.status._IN_WORDS", 2)
    told = cli("status", code=3).out
    assert told.count("parked: migration") == 2
    assert "1 more like these." in told
    assert "Next: rotator status --state parked" in told
    assert cli("status", "--state", "parked", code=3).out.count("parked: migration") == 3


def test_status_is_filtered_by_state_target_and_tag(cli: Cli):
    """The exit code is that of the shown secrets."""
    cli("rotate", "app")
    _by_hand(cli)
    cli("verify", "app", code=1)
    cli("rotate", "web")
    shown = [
        one["secret"] for one in cli.json("status", "--state", "refused", code=3).data["secrets"]
    ]
    assert shown == ["app"]
    assert [one["secret"] for one in cli.json("status", "--state", "ok").data["secrets"]] == ["web"]
    assert len(cli.json("status", "--target", "main", code=3).data["secrets"]) == 3
    assert "Did you mean `main`?" in cli("status", "--target", "mian", code=2).err
    assert cli("status", "--state", "nonsense", code=2).out == ""


@pytest.mark.parametrize("command", ["rotate", "status", "plan", "verify"])
def test_an_unknown_tag_is_misuse(cli: Cli, command: str):
    """A typo in a cron line must not silently rotate nothing."""
    error = cli.json(command, "--tag", "billng", code=2).errors[0]
    assert "billng" in error["what"]
    assert "Did you mean `billing`?" in error["hint"]


def test_an_empty_selection_is_an_error(cli: Cli):
    """The message uses the words of the trade."""
    assert "no secrets selected." in cli.json("rotate", code=2).errors[0]["what"]


def test_metrics_count_the_same_states(cli: Cli):
    """`rotator_secrets{state}` has the states of `status`."""
    from rotator.metrics import Metrics, StateCollector

    cli("rotate", "app")
    _by_hand(cli)
    cli("verify", "app", code=1)
    metrics = Metrics(lambda _secret: "paper")
    with cli.app() as app:
        standing = StateCollector(
            lambda: app.agenda,
            app.clock.now,
            timedelta(days=1),
            dict,
            dict,
            lambda: app.overview.fleet().counts(),
        )
        metrics.registry.register(standing)
        told = metrics.text().decode()
    assert 'rotator_secrets{state="refused"} 1.0' in told
    assert 'rotator_secrets{state="unknown"} 2.0' in told
    assert 'rotator_secrets{state="forgotten"} 0.0' in told


def test_a_table_in_a_pipe_has_one_line_for_each_row(capsys: pytest.CaptureFixture[str]):
    """Aligned by what a character takes on a screen, and what has several lines continues below itself."""
    screen = Screen()
    screen.out.print(table(screen, ("name", "last"), [("数据", "a\nb"), ("x", Text("c", "red"))]))
    assert capsys.readouterr().out == "name  last\n数据  a\n      b\nx     c\n"


def test_a_secret_has_the_owner_of_its_policy_unless_it_names_its_own(cli: Cli):
    """And the basis. `history` shows both, the report those that have none."""
    cli.edit("every: 30d,", 'every: 30d, owner: "team data", basis: "PCI DSS 8.6.3",')
    cli.edit("tags: [prod]}", 'tags: [prod], owner: "team web"}')
    found = {one["secret"]: one for one in cli.json("status").data["secrets"]}
    assert (found["app"]["owner"], found["app"]["basis"]) == ("team data", "PCI DSS 8.6.3")
    assert found["web"]["owner"] == "team web"
    cli("rotate", "app", "web")
    assert "web: owner team web, basis PCI DSS 8.6.3" in cli("history", "web").out
    assert cli.json("history", "web").data["owner"] == "team web"
    cli.edit('owner: "team data", ', "")
    report = json.loads(cli("report", "--since", "1h", "--format", "json").out)
    assert [one["owner"] for one in report["secrets"]] == [None, "team web"]
    assert report["secrets"][0]["basis"] == "PCI DSS 8.6.3"
    assert "Who answers for 1 secret without `owner`: app." in report["not_covered"]
    never = "Of the configuration, 1 secret that the journal did not know in the period: old."
    assert never in report["not_covered"]


def test_status_names_the_owner_of_a_secret_in_trouble(cli: Cli):
    """Of that one only: the engineer on call sees whom to contact."""
    cli.edit("every: 30d,", 'every: 30d, owner: "team data, +49 30 1234",')
    cli("rotate", "app", "web")
    cli("park", "app", "--reason", "broken")
    out = cli("status", code=3).out
    assert out.count("Owner: team data, +49 30 1234") == 1
    assert out.index("app, parked") < out.index("Owner:")
