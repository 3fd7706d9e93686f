"""Roles on the command line: each command with each role, per secret, and no way round by a flag."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator import system
from rotator.core.access import PERMISSIONS, Actor, Permission, Role
from rotator.core.errors import JournalError, NotPermitted
from rotator.core.requests import EntryKind, RequestState
from rotator.dispatch.ready_queue import Job, JobKind
from rotator.faces.cli import program
from rotator.faces.cli.permissions import FREE, NEEDS, OWN
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_ME = system.actor("cli").subject
# Each with what it needs to be parsed. No secret has this name, so what is allowed changes nothing.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("history", "plan", "doctor", "consumers", "requests", "get"), ("no",)),
    **dict.fromkeys(("rotate", "resume", "verify", "rollback", "revoke", "unpark"), ("no",)),
    **dict.fromkeys(("incident show", "incident resume"), ("no",)),
    **dict.fromkeys(("adopt", "retire", "reseal", "discover"), ("no",)),
    **dict.fromkeys(
        ("incident open", "incident close", "incident reopen"), ("no", "--reason", "x")
    ),
    "status": ("no",),
    "park": ("no", "--reason", "x"),
    "incident list": (),
    "lease issue": ("no", "--for", "x"),
    "lease renew": ("no",),
    "lease revoke": ("no",),
    "lease list": (),
    "report": ("--since", "1h"),
    "audit export": ("--out", "proof"),
    "audit verify": (),
    "audit show": (),
    "audit acknowledge": ("--reason", "x"),
    "audit rotate-key": ("--reason", "x"),
    "audit countersign": ("--key", "no.pem", "--out", "no.log", "--public-key", "no.pub"),
    "import": ("local", "no"),
    "rename": ("no", "app"),
    "find": (".", "--known"),
    "notify test": (),
    "access show": ("no",),
    "access login": ("no",),
    "access check": ("no",),
    "access ingest": ("no.log", "--from", "vault"),
}


def _grant(cli: Cli, *grants: str, approval: str = "") -> None:
    text = cli.config.read_text()
    section = "".join(f"  - {one}\n" for one in grants)
    cli.config.write_text(f"{text.rstrip()}\nroles:\n{section}{approval}")


def _mine(role: str, more: str = "") -> str:
    return f'{{role: {role}, subjects: ["os:{_ME}"]{more}}}'


def test_every_command_has_a_permission_or_a_reason_for_none():
    """And each has one of these only."""
    app = program.build()
    commands: set[str] = set()
    for name in app.list_commands(None):
        group = getattr(app.get_command(None, name), "commands", None)
        commands |= {name} if group is None else {f"{name} {one}" for one in group}
    assert {*NEEDS, *OWN, *FREE} == commands
    assert len(NEEDS) + len(OWN) + len(FREE) == len(commands)
    assert set(_ARGUMENTS) == set(NEEDS)


@pytest.mark.parametrize("role", [*Role, None])
def test_each_role_may_call_its_commands_only(cli: Cli, role: Role | None):
    """A denied one ends with 5, changes nothing, and is recorded."""
    _grant(cli, _mine(role) if role else "{role: admin, subjects: [somebody]}")
    held = PERMISSIONS[role] if role else frozenset()
    for command, needs in NEEDS.items():
        done = cli.json(*command.split(), *_ARGUMENTS[command], code=None)
        kinds = [one["kind"] for one in done.errors]
        assert (done.code == 5) is (needs not in held), (command, done)
        assert ("not-permitted" in kinds) is (needs not in held), command
    with cli.app() as app:
        denied = [one.action for one in app.requests.log.recent(100)]
    # Several attempts to do the same are one.
    assert sorted(denied) == sorted(set(NEEDS.values()) - held)


@pytest.mark.parametrize(
    "call",
    [
        ("rotate", "app"),
        ("rotate", "--tag", "billing"),
        ("rotate", "app", "--break-glass", "--reason", "x"),
        ("rotate", "app", "--leaked", "--reason", "x"),
        ("resume", "app"),
        ("rollback", "app"),
        ("revoke", "app", "--terminate"),
        ("park", "app", "--reason", "x"),
        ("incident", "open", "app", "--mode", "kill", "--reason", "x"),
        ("incident", "open", "app", "--mode", "kill", "--break-glass", "--reason", "x"),
        ("get", "app", "--field", "password", "--reveal", "--reason", "x"),
        ("request", "rotate", "app", "--reason", "x"),
        ("retire", "app", "--abandon", "--reason", "x"),
    ],
)
def test_an_operator_of_other_secrets_changes_nothing_on_this_one(cli: Cli, call: tuple[str, ...]):
    """By no option, and in no selection."""
    cli("rotate", "app")
    with cli.app() as app:
        before = app.journal.secret("app")
    _grant(cli, _mine("operator", ", names: [old]"))
    done = cli.json(*call, code=None)
    assert done.code in (5, 1, 3), done
    assert "not-permitted" in [one["kind"] for one in done.errors]
    with cli.app() as app:
        assert app.journal.secret("app") == before


def test_a_selection_leaves_out_what_a_role_does_not_cover(cli: Cli):
    """Without a denied attempt, since nobody has named it. Also where the glass is broken."""
    _grant(cli, _mine("operator", ", tags: [billing]"), _mine("breaker", ", tags: [billing]"))
    for more in ((), ("--break-glass", "--reason", "x")):
        done = cli.json("rotate", "--all", *more, code=None)
        assert [one["secret"] for one in done.data["results"]] == ["app"]
        assert "not-permitted" not in [one["kind"] for one in done.errors]
    with cli.app() as app:
        assert app.journal.secret("web") is None
        assert not [one for one in app.requests.log.recent(9) if one.kind is EntryKind.DENIED]


_LISTS = (
    *(("status", "--all"), ("status", "*"), ("history",), ("history", "*"), ("plan", "--all")),
    *(("consumers",), ("requests", "--all"), ("incident", "list", "--all"), ("report",)),
    *(("audit", "show"), ("report", "--format", "json"), ("doctor",)),
)


@pytest.mark.parametrize("call", _LISTS)
def test_a_list_shows_only_secrets_that_a_role_covers(cli: Cli, call: tuple[str, ...]):
    """Of viewers and auditors of some secrets. What is left out is no denied attempt."""
    cli.config.write_text(cli.config.read_text() + "consumers: {shop: {}}\n")
    for name in ("app", "web"):
        cli.edit(f"  {name}: {{", f"  {name}: {{consumers: [shop], ")
        cli("rotate", name)
        cli("request", "rotate", name, "--reason", f"asked for {name}")
        cli("incident", "open", name, "--mode", "map", "--reason", "x")
    role = "auditor" if call[0] in ("report", "audit") else "viewer"
    _grant(cli, _mine(role, ", tags: [billing]"))
    out = cli(*call, code=None).out
    assert "app" in out
    assert "web" not in out
    with cli.app() as app:
        assert not [one for one in app.requests.log.recent(9) if one.kind is EntryKind.DENIED]


@pytest.mark.parametrize(
    "call", [("audit", "show", "web"), ("history", "web"), ("incident", "show", "web")]
)
def test_a_named_secret_that_no_role_covers_is_denied(cli: Cli, call: tuple[str, ...]):
    cli("rotate", "web")
    cli("incident", "open", "web", "--mode", "map", "--reason", "x")
    _grant(cli, _mine("auditor", ", tags: [billing]"))
    assert "may not" in cli(*call, code=5).err


@pytest.mark.parametrize("call", [("export", "--out", "proof"), ("verify",)])
def test_the_whole_journal_is_for_auditors_of_every_secret(cli: Cli, call: tuple[str, ...]):
    cli("rotate", "app")
    _grant(cli, _mine("auditor", ", tags: [billing]"))
    assert "may not audit every secret" in cli("audit", *call, code=5).err
    cli.edit(", tags: [billing]}\n", "}\n")
    cli("audit", *call)


def test_a_repeated_attempt_is_recorded_once_an_hour(cli: Cli):
    """Of one actor, to do one thing to one secret: a loop fills no disk."""
    _grant(cli, _mine("viewer"))
    for _ in range(3):
        cli("rotate", "app", code=5)
        cli("rotate", "old", code=5)

    def denied() -> list[str]:
        with cli.app() as app:
            return [one.secret for one in app.requests.log.recent(9)]

    # Without a role over any secret, the command itself is what is denied.
    assert denied() == [""]
    cli.edit("role: viewer", "role: operator")
    cli.edit(f'["os:{_ME}"]', f'["os:{_ME}"], names: [web]')
    for _ in range(3):
        cli("rotate", "app", code=5)
        cli("rotate", "old", code=5)
    assert sorted(denied()) == ["", "app", "old"]
    with cli.app() as app:
        hours: Any = replace(app.requests, clock=ManualClock(app.clock.now() + timedelta(hours=2)))
        with pytest.raises(NotPermitted):
            hours.require(app.actor, Permission.ROTATE, "app")
    assert sorted(denied()) == ["", "app", "app", "old"]


def test_no_environment_variable_gives_a_role(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    _grant(cli, "{role: admin, subjects: [boss]}")
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "boss")
    cli("rotate", "app", code=5)


def test_without_roles_everything_stays_as_it_was(cli: Cli):
    cli("rotate", "app")
    cli("incident", "open", "app", "--mode", "kill", "--reason", "x", code=None)


# -- approvals -------------------------------------------------------------------------------------

_APPROVAL = "approval: [{for: [rotate, kill], where: {tag: billing}}]\n"


def _approving(cli: Cli) -> None:
    _grant(
        cli,
        _mine("operator"),
        "{role: approver, subjects: [carol]}",
        approval=_APPROVAL,
    )


def _work(cli: Cli) -> None:
    with cli.app() as app:
        worker = app.worker(tell=lambda *_: None)
        due = app.clock.now()
        _ = worker.do(Job(secret="app", task=JobKind.REQUEST, due=due), 0)


def test_a_direct_command_that_needs_an_approval_is_sent_to_a_request(cli: Cli):
    _approving(cli)
    done = cli.json("rotate", "app", code=5)
    assert [one["kind"] for one in done.errors] == ["needs-approval"]
    assert "rotator request rotate app" in done.errors[0]["hint"]
    cli("rotate", "old")


def test_a_request_is_carried_out_after_its_approval(cli: Cli):
    """By another process, over the journal, as who asked for it."""
    _approving(cli)
    asked = cli.json("request", "rotate", "app", "--reason", "old").data["request"]
    assert asked["state"] == "needs-approval"
    cli("approve", asked["id"], "--reason", "mine", code=5)
    _work(cli)
    with cli.app() as app:
        assert app.journal.secret("app") is None
        carol = Actor(subject="carol", method="oidc", face="web", host="10.0.0.7")
        _ = app.requests.approve(asked["id"], actor=carol, reason="agreed")
    _work(cli)
    [shown] = cli.json("requests", "--all").data["requests"]
    assert shown["state"] == RequestState.TAKEN.value
    assert shown["ended"]["rotation_id"]
    with cli.app() as app:
        [first] = [one for one in app.journal.events("app") if one.kind.value == "requested"]
        by: Any = first.data["by"]
        approved: Any = first.data["approved_by"]
    assert (by["subject"], by["method"], by["face"]) == (_ME, "os", "cli")
    assert approved[0]["subject"] == "carol"


def test_breaking_glass_needs_its_role_and_is_recorded_and_loud(cli: Cli):
    _approving(cli)
    cli("rotate", "app", "--break-glass", code=2)
    cli("rotate", "app", "--break-glass", "--reason", "now", code=5)
    cli.edit("role: operator", "role: breaker")
    cli("rotate", "app", "--break-glass", "--reason", "now")
    with cli.app() as app:
        first = app.journal.events("app")[0]
        entries = app.requests.log.recent(10)
    assert first.data["break_glass"] is True
    assert [one.action for one in entries] == [Permission.BREAK_GLASS]
    assert entries[0].kind is EntryKind.DENIED


def test_a_requester_withdraws_their_own_request(cli: Cli):
    _approving(cli)
    asked = cli.json("request", "rotate", "app", "--reason", "old").data["request"]
    assert cli.json("requests").data["requests"][0]["id"] == asked["id"]
    assert "state" in cli.json("refuse", asked["id"], "--reason", "mistake").data["request"]
    assert cli.json("requests").data["requests"] == []


# -- values ----------------------------------------------------------------------------------------


def _revealed(cli: Cli) -> list[dict[str, Any]]:
    with cli.app() as app:
        events = app.journal.events("app")
    return [dict(one.data) for one in events if one.kind.value == "revealed"]


def test_a_reveal_is_recorded_with_its_reason_and_its_reader(cli: Cli):
    cli("rotate", "app")
    cli("get", "app")
    assert _revealed(cli) == []
    cli("get", "app", "--reveal", "--reason", "debugging")
    [data] = _revealed(cli)
    assert (data["reason"], data["by"]["subject"]) == ("debugging", _ME)


@pytest.mark.parametrize(
    "given", [("--field", "nosuch"), ("--format", "nosuch"), ("--format", "url")]
)
def test_what_shows_nothing_is_no_reveal(cli: Cli, given: tuple[str, str]):
    """A field or format that cannot be printed records nothing, and makes no secret due."""
    cli("rotate", "app")
    before = cli.json("audit", "show").data
    _ = cli("get", "app", *given, "--reveal", code=2)
    assert cli.json("audit", "show").data == before


def test_a_reveal_that_cannot_be_recorded_shows_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    cli("rotate", "app")
    word = cli("get", "app", "--field", "password", "--reveal").out.strip()
    assert word

    def full(*_: object, **__: object) -> None:
        raise JournalError("the disk is full.")

    monkeypatch.setattr(SqlJournal, "append", full)
    done = cli("get", "app", "--field", "password", "--reveal", code=1)
    assert word not in done.out + done.err


@pytest.mark.parametrize(
    ("after", "due", "requested"), [("off", 0, 0), ("due", 1, 0), ("now", 1, 1)]
)
def test_a_policy_makes_a_revealed_secret_due(cli: Cli, after: str, due: int, requested: int):
    cli.edit("every: 30d,", f"every: 30d, after_reveal: {after},")
    cli("rotate", "app")
    cli("get", "app", "--reveal")
    with cli.app() as app:
        found = app.names(everything=True, due=True)
        assert len([one for one in found if one == "app"]) == due
        assert len(app.requests.ready()) == requested


def test_status_counts_the_requests_that_wait(cli: Cli):
    """Until they are carried out or refused."""
    assert "rotator requests" not in cli("status", code=None).out
    asked = cli.json("request", "rotate", "app", "--reason", "old").data["request"]
    assert "1 request waits. List them: rotator requests" in cli("status", code=None).out
    assert cli.json("status", code=None).answer["data"]["requests"] == 1
    cli("refuse", asked["id"], "--reason", "mistake")
    assert cli.json("status", code=None).answer["data"]["requests"] == 0
