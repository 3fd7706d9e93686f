"""rotator incident: a leaked password is found by what is known of it, replaced, and shown as rejected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from rotator.testing.fake_target import FakeAddress

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli


def served(cli: Cli, name: str = "app") -> tuple[str, str]:
    """Return login and password that the backend serves."""
    version = cli.app().secret(name).backend.current(cli.app().secret(name).path)
    assert version is not None
    return version.credential.username, version.credential.password.reveal()


@pytest.fixture
def rotated(cli: Cli) -> Cli:
    """Every secret was rotated once, and its rotation has ended."""
    cli("rotate", "--all")
    return cli


@pytest.mark.parametrize("mode", ["kill", "move"])
@pytest.mark.parametrize("name", ["app", "web", "old"])
def test_the_leaked_password_is_rejected_when_the_command_ends(rotated: Cli, name: str, mode: str):
    """In one command, whatever the strategy, and the new one is served."""
    leaked = served(rotated, name)
    outcome = rotated.json("incident", "open", name, "--mode", mode, "--reason", "a paste")
    assert outcome.data["results"][0]["proven"] is True
    assert outcome.data["results"][0]["seconds"]["rejected"] < 5
    assert not rotated.server.target.accepts(*leaked)
    assert rotated.server.target.accepts(*served(rotated, name))
    assert rotated.json("audit", "verify").data["damage"] == []


def test_the_text_says_what_was_done_and_what_comes_next(rotated: Cli):
    """For an operator at night."""
    said = rotated("incident", "open", "app", "--mode", "kill", "--reason", "a paste").out
    assert "the leaked password is rejected at 1 address." in said
    assert "Rejected by the target after" in said
    assert "It is tried again in" in said


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_dry_run_shows_the_price_of_each_mode_and_changes_nothing(rotated: Cli, more: list[str]):
    """Before anything is cut off."""
    login, _ = served(rotated)
    rotated.server.target.open_session(login)
    before = rotated.app().journal.events("app")
    said = rotated("incident", "open", "app", "--reason", "x", "--dry-run", *more)
    assert rotated.app().journal.events("app") == before
    if more:
        (one,) = said.data["exposures"]
        assert (one["login"], one["leaked"], len(one["sessions"])) == (login, "current", 1)
        assert one["modes"] == ["move", "kill"]
    else:
        assert "--mode kill: the leaked password is invalid first; 1 open session end" in said.out


@pytest.mark.parametrize("source", ["file", "env", "-"])
def test_the_secret_is_found_by_the_value_and_the_value_is_nowhere(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch, source: str
):
    """Compared in memory with what the backends hold."""
    import io

    _, password = served(rotated, "web")
    (rotated.folder / "leak.txt").write_text(password)
    (rotated.folder / "leak.txt").chmod(0o600)
    monkeypatch.setenv("LEAK", password)
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    reference = {"file": "file:leak.txt", "env": "env:LEAK", "-": "-"}[source]
    outcome = rotated.json("incident", "open", "--value-from", reference, "--reason", "a paste")
    assert [one["secret"] for one in outcome.data["results"]] == ["web"]
    assert password not in outcome.out + outcome.err
    (rotated.folder / "leak.txt").unlink()
    for file in rotated.folder.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file


def test_a_value_of_nobody_is_said_without_repeating_it(rotated: Cli, monkeypatch):
    """With the command that searches files."""
    monkeypatch.setenv("LEAK", "what-nobody-has-9931")
    outcome = rotated("incident", "open", "--value-from", "env:LEAK", "--reason", "x", code=1)
    assert "no version of a managed secret has this value" in outcome.err
    assert "rotator find" in outcome.err
    assert "what-nobody-has" not in outcome.out + outcome.err


def test_the_previous_version_dies_and_the_current_one_stays(rotated: Cli, monkeypatch):
    """What leaked is what dies."""
    old = served(rotated)
    rotated("rotate", "app")
    current = served(rotated)
    monkeypatch.setenv("LEAK", old[1])
    outcome = rotated.json("incident", "open", "--value-from", "env:LEAK", "--reason", "x")
    assert outcome.data["exposures"][0]["leaked"] == "previous"
    assert served(rotated) == current
    assert not rotated.server.target.accepts(*old)


def test_a_report_of_a_scanner_only_records_without_a_mode(rotated: Cli, tmp_path: Path):
    """A program must not cut applications off, unless an operator says so."""
    leaked = served(rotated)
    report = tmp_path / "gitleaks.json"
    entry = {"Secret": leaked[1], "File": "a.env", "StartLine": 1, "RuleID": "generic"}
    report.write_text(json.dumps([entry, entry | {"Secret": "another-value-77"}]))
    said = rotated(
        "incident", "open", "--from", str(report), "--reason", "weekly scan", "--id", "I-1"
    )
    assert "nothing was replaced" in said.out
    assert rotated.server.target.accepts(*leaked)
    state = next(
        one for one in rotated.json("status", code=None).data["secrets"] if one["secret"] == "app"
    )
    assert (state["state"], "--mode move" in state["hint"]) == ("leaked", True)
    assert rotated.json("incident", "list").data["incidents"][0]["state"] == "map"
    rotated("incident", "resume", "I-1", "--mode", "kill")
    assert not rotated.server.target.accepts(*leaked)


@pytest.mark.parametrize("word", ["move", "kill"])
def test_a_policy_may_let_a_report_replace_the_password(rotated: Cli, tmp_path: Path, word: str):
    """Only of the secrets that have such a policy."""
    leaked = {name: served(rotated, name) for name in ("app", "web")}
    rotated.edit("options: {base: web}", f"options: {{base: web}}, policy: {{on_leak: {word}}}")
    report = tmp_path / "report.json"
    alerts = [{"secret_type": "password", "secret": password} for _, password in leaked.values()]
    report.write_text(json.dumps(alerts))
    rotated("incident", "open", "--from", str(report), "--reason", "an alert")
    valid = {name: rotated.server.target.accepts(*leaked[name]) for name in leaked}
    assert valid == {"app": True, "web": False}


_ALERT = {"number": 7, "secret_type": "postgres", "secret": "VALUE", "html_url": "https://x/7"}
_GITLAB = {"category": "secret_detection", "location": {"file": "a.env", "start_line": 3}}
_REPORTS = {
    "GitHub's alerts": [_ALERT],
    "GitHub's webhook": {"action": "created", "alert": _ALERT, "repository": {"name": "shop"}},
    "GitLab": {
        "version": "15",
        "vulnerabilities": [_GITLAB | {"raw_source_code_extract": "VALUE"}],
    },
    "gitleaks": [{"Secret": "VALUE", "File": "a.env", "StartLine": 1, "RuleID": "generic"}],
    "a URL": [_ALERT | {"secret": "postgresql://app:VALUE@db.example.org/shop"}],
}


@pytest.mark.parametrize("form", _REPORTS)
def test_reports_are_read_from_standard_input(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch, form: str
):
    """As a webhook's receiver passes them on."""
    import io

    _, password = served(rotated)
    text = json.dumps(_REPORTS[form]).replace("VALUE", password)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    outcome = rotated.json("incident", "open", "--from", "-", "--reason", "x")
    assert [one["secret"] for one in outcome.data["exposures"]] == ["app"]
    assert password not in outcome.out + outcome.err


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"vulnerabilities": [{}]}', '[{"alert": 1}]', '{"alert": {}}', "null"],
)
def test_what_is_no_report_is_an_error(rotated: Cli, monkeypatch: pytest.MonkeyPatch, text: str):
    """And opens nothing."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    outcome = rotated("incident", "open", "--from", "-", "--reason", "x", code=2)
    assert "report" in outcome.err


def test_the_secret_is_found_by_a_former_login(rotated: Cli):
    """As a server's log names it."""
    login, _ = served(rotated)
    rotated("rotate", "app")
    outcome = rotated.json(
        "incident", "open", "--login", login, "--target", "main", "--reason", "x"
    )
    assert outcome.data["exposures"][0]["login"] == login
    assert login not in rotated.server.target.usable()


def test_what_is_not_proven_is_named_until_it_is(rotated: Cli):
    """Exit code 3, a red state, and the command that goes on."""
    rotated.server.target.addresses["pooler:6432"] = FakeAddress(trusts=True)
    outcome = rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", code=3)
    assert "pooler:6432 accepts any password" in outcome.out
    assert "rotator incident resume app" in outcome.out
    assert "leaked" in rotated("status", code=None).out
    assert "pooler:6432" in rotated("incident", "show", "app", code=3).out
    del rotated.server.target.addresses["pooler:6432"]
    assert "rejected at 1 address" in rotated("incident", "resume").out
    assert rotated("incident", "show", "app").code == 0


def test_an_incident_is_closed_and_opened_again(rotated: Cli):
    """With the reasons in the journal."""
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-7")
    assert "closed" in rotated("incident", "close", "I-7", "--reason", "over").out
    assert rotated("incident", "list").out.strip() == "No incident is open."
    assert rotated.json("incident", "list", "--all").data["incidents"][0]["state"] == "closed"
    outcome = rotated.json("incident", "reopen", "app", "--reason", "a snapshot was restored")
    assert outcome.data["results"][0]["incident"] == "I-7"
    assert rotated.json("incident", "list").data["incidents"][0]["state"] == "proven"


def test_the_receipt_is_verified_by_the_audit_command(rotated: Cli):
    """Each step with the number and hash of its event, signed."""
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-9")
    folder = rotated.folder / "receipt"
    data = rotated.json("incident", "show", "I-9", "--receipt", str(folder)).data
    steps = [(one["kind"], one["step"]) for one in data["incidents"][0]["events"]]
    assert steps[0] == ("leaked", None)
    assert ("finished", "fence") in steps
    assert steps[-1] == ("proven", None)
    rotated("audit", "verify", "--export", str(folder))
    text = (folder / "receipt.json").read_text()
    (folder / "receipt.json").write_text(text.replace("I-9", "I-8"))
    assert "receipt.json" in rotated("audit", "verify", "--export", str(folder), code=1).out


def test_rotate_leaked_is_the_short_form(rotated: Cli):
    """It needs a reason."""
    leaked = served(rotated)
    assert "--leaked needs --reason" in rotated("rotate", "app", "--leaked", code=2).err
    rotated("rotate", "app", "--leaked", "--reason", "a paste")
    assert not rotated.server.target.accepts(*leaked)
    assert rotated.json("incident", "list").data["incidents"][0]["state"] == "proven"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["open", "--reason", "x"], "no secrets selected"),
        (["open", "nobody", "--reason", "x"], "nobody"),
        (["open", "app", "--target", "main", "--reason", "x"], "--target belongs to --login"),
        (["open", "app", "web", "--version", "1", "--reason", "x"], "--version belongs to one"),
        (["open", "app", "--version", "99", "--reason", "x"], "knows no version '99'"),
        (["open", "--login", "nobody", "--reason", "x"], "no managed secret has or had the login"),
        (["open", "app", "web", "--max", "1", "--reason", "x"], "--max is 1"),
        (["open", "--value-from", "env:MISSING", "--reason", "x"], "MISSING"),
        (["open", "--from", "missing.json", "--reason", "x"], "missing.json"),
        (["show", "nobody"], "neither a secret"),
        (["close", "app", "--reason", "x"], "neither a secret in an incident"),
        (["reopen", "app", "--reason", "x"], "neither a secret that was in an incident"),
        (["resume", "nobody"], "neither a secret in an incident"),
    ],
)
def test_bad_input_is_an_error_with_its_place(rotated: Cli, arguments: list[str], said: str):
    """And changes nothing."""
    before = rotated.app().journal.events("app")
    outcome = rotated("incident", *arguments, code=2)
    assert said in outcome.err
    assert rotated.app().journal.events("app") == before


def test_a_second_report_of_the_same_secret_points_to_the_first(rotated: Cli):
    """An operator who runs it twice does not replace the new password too."""
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-1")
    current = served(rotated)
    outcome = rotated("incident", "open", "app", "--reason", "again", code=2)
    assert "is in incident I-1 already" in outcome.err
    assert served(rotated) == current


def test_one_failure_stops_no_other_secret(rotated: Cli):
    """The others are replaced, and the code is the worst."""
    before = {name: served(rotated, name) for name in ("app", "web", "old")}
    rotated("incident", "open", "web", "--mode", "kill", "--reason", "first", "--id", "I-1")
    outcome = rotated.json(
        "incident", "open", "--all", "--mode", "kill", "--reason", "x", code=None
    )
    assert {one["secret"]: one["proven"] for one in outcome.data["results"]} == {
        "app": True,
        "old": True,
    }
    assert [one["secret"] for one in outcome.errors] == ["web"]
    for name in ("app", "old"):
        assert not rotated.server.target.accepts(*before[name])


def test_the_command_sends_the_notices_itself(rotated: Cli):
    """An incident pages also where no daemon runs."""
    import http.server
    import threading

    bodies: list[dict[str, object]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            events = "[incident-opened, incident-proven]"
            rotated.config.write_text(
                rotated.config.read_text()
                + f"\nnotifications:\n  - {{type: webhook, url: '{url}', events: {events}}}\n"
            )
            rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-1")
        finally:
            server.shutdown()
            thread.join()
    assert [one["type"] for one in bodies] == ["rotator.incident-opened", "rotator.incident-proven"]
    assert {one["subject"] for one in bodies} == {"app"}
    assert bodies[0]["data"]["incident"] == "I-1"


# -- at night --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["exposure", "find_version"])
def test_ctrl_c_before_the_report_changes_nothing(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch, call: str
):
    """An operator who sees the price, and stops, has not replaced a part of the secrets."""
    import os
    import signal
    import time

    from rotator.engine import Engine

    works = getattr(Engine, call)

    def interrupted(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # the main thread takes the signal
        return works(*arguments)

    monkeypatch.setattr(Engine, call, interrupted)
    monkeypatch.setenv("LEAK", served(rotated, "web")[1])
    before = {name: rotated.app().journal.events(name) for name in ("app", "web", "old")}
    which = ["--all"] if call == "exposure" else ["--value-from", "env:LEAK"]
    outcome = rotated(
        "incident", "open", *which, "--mode", "kill", "--reason", "x", "--parallel", "1", code=130
    )
    assert "interrupted" in outcome.err
    assert "no version" not in outcome.err
    assert {name: rotated.app().journal.events(name) for name in before} == before


def test_a_login_that_was_never_published_is_not_the_current_one(rotated: Cli):
    """Else a login of a rotation that was undone would cost the password that is served."""
    rotated.server.target.refuse_next = 50
    rotated("rotate", "app", code=None)
    rotated.server.target.refuse_next = 0
    login = rotated.app().journal.rotations("app")[0].new_login
    assert login is not None
    current = served(rotated)
    outcome = rotated("incident", "open", "--login", login, "--reason", "x", code=2)
    assert "no managed secret has or had the login" in outcome.err
    assert served(rotated) == current


def test_show_keeps_who_reported_it_and_why(rotated: Cli):
    """Whoever decides, closes or opens it again later: each is in the list of events."""
    rotated("incident", "open", "app", "--mode", "map", "--reason", "a paste", "--id", "I-1")
    rotated("incident", "resume", "I-1", "--mode", "kill")
    rotated("incident", "close", "I-1", "--reason", "over")
    rotated("incident", "reopen", "I-1", "--reason", "a snapshot")
    line = rotated.json("incident", "show", "I-1").data["incidents"][0]
    assert line["reason"] == "a paste"
    said = rotated("incident", "show", "I-1").out
    for text in (": a paste\n", "leaked: mode kill", "incident-closed: over", "leaked: a snapshot"):
        assert text in said


def test_show_succeeds_only_while_the_password_is_rejected(rotated: Cli):
    """A proof from before the newest report counts no longer."""
    rotated("incident", "open", "app", "--mode", "map", "--reason", "x", "--id", "I-1")
    assert rotated("incident", "show", "I-1", code=3).code == 3
    rotated("incident", "resume", "I-1", "--mode", "kill")
    assert rotated("incident", "show", "I-1").code == 0
    app = rotated.app()
    app.engine.reopen_incident(app.secret("app"), reason="a snapshot")
    assert rotated("incident", "show", "I-1", code=3).code == 3
    rotated("incident", "resume", "I-1")
    rotated("incident", "close", "I-1", "--reason", "over")
    assert rotated("incident", "show", "I-1").code == 0


def test_the_newest_incident_of_a_secret_is_the_one_that_is_opened_again(rotated: Cli):
    """The older one names it: its password is tried too."""
    for number in (1, 2):
        id_ = f"I-{number}"
        rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", id_)
        rotated("incident", "close", id_, "--reason", "over")
    outcome = rotated("incident", "reopen", "I-1", "--reason", "x", code=2)
    assert "incident I-1 was followed by I-2" in outcome.err
    assert rotated("incident", "list").out.strip() == "No incident is open."
    rotated("incident", "reopen", "I-2", "--reason", "x")


def test_one_failure_stops_no_other_secret_of_an_incident_that_is_opened_again(rotated: Cli):
    """What is open already is named, and the others are tried."""
    rotated("incident", "open", "app", "web", "--mode", "kill", "--reason", "x", "--id", "I-1")
    app = rotated.app()
    app.engine.reopen_incident(app.secret("app"), reason="by another operator")
    outcome = rotated.json("incident", "reopen", "I-1", "--reason", "x", code=2)
    assert [one["secret"] for one in outcome.data["results"]] == ["web"]
    assert [one["secret"] for one in outcome.errors] == ["app"]


@pytest.mark.parametrize("id_", ["I-1", "INC 42; reboot", "it's"])
def test_the_commands_that_decide_can_be_pasted(rotated: Cli, id_: str):
    """Each on a line of its own, whatever the id."""
    import shlex

    said = rotated("incident", "open", "app", "--mode", "map", "--reason", "x", "--id", id_).out
    commands = [line.partition(": ")[2] for line in said.splitlines() if "incident resume" in line]
    assert [shlex.split(one)[1:] for one in commands] == [
        ["incident", "resume", id_, "--mode", mode] for mode in ("move", "kill")
    ]
    rotated(*shlex.split(commands[1])[1:])
    assert rotated("incident", "show", id_).code == 0
