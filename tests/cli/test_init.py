"""init --target: it writes a target only if the checks of doctor pass."""

from __future__ import annotations

import getpass
import io
import socket
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rotator.bootstrap import open_app
from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import ADMIN_PASSWORD, APP_PASSWORD, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli

_FROM = ("--password-from", "env:ADMIN")


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    """A server with an application's roles."""
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def url(server: ScratchPostgres, bare: Cli, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of its admin, whose password is in the environment."""
    monkeypatch.setenv("ADMIN", ADMIN_PASSWORD)
    monkeypatch.setenv("APP", APP_PASSWORD)
    monkeypatch.setenv("WRONG", "not-the-password")
    return f"postgresql://rotator_admin@{server.host}:{server.port}/postgres"


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """The port of a server that speaks HTTP at once."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=_answer, args=[listening], daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def _answer(listening: socket.socket) -> None:
    while True:
        try:
            link, _ = listening.accept()
        except OSError:
            return
        with link:
            link.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def test_three_commands_lead_from_nothing_to_the_first_rotation(
    bare: Cli, url: str, server: ScratchPostgres
):
    """init, adopt, rotate; the password of the admin is in the embedded backend and nowhere else."""
    told = bare("init", "--target", url, "--secret", "app", *_FROM)
    assert "CREATE ROLE rotator_admin LOGIN CREATEROLE PASSWORD '…';" in told.out
    assert "GRANT app TO rotator_admin WITH ADMIN OPTION;" in told.out
    assert "NOLOGIN" not in told.out, "the login is in use until its first rotation is over"
    assert "Next: rotator adopt app --username app --password-from prompt" in told.out
    bare("adopt", "app", "--username", "app", "--password-from", "env:APP")
    bare("rotate", "app", "--reason", "first")
    text = bare.config.read_text()
    assert "app: {target: main, backend: local, strategy: new-user, options: {group: app}}" in text
    assert text.count("rotator_admin") == 1
    for one in bare.folder.iterdir():
        assert ADMIN_PASSWORD.encode() not in one.read_bytes()
    assert bare.json("doctor").data["errors"] == 0


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({}, ("--password-from", "env:WRONG"), "its password is wrong"),
        ({":PORT": ":1"}, _FROM, "is unreachable: connection to server"),
        ({"/postgres": "/nothing"}, _FROM, 'database "nothing" does not exist'),
        ({"/postgres": "/postgres?sslmode=require"}, _FROM, "has no TLS, and sslmode is require"),
        ({"rotator_admin": "weak_admin"}, _FROM, "lacks the right to create and alter roles"),
        ({":PORT": ":STRANGER"}, _FROM, "does not speak PostgreSQL's protocol"),
        ({"postgresql:": "mysql:", ":PORT": ":STRANGER"}, _FROM, "MariaDB or MySQL at"),
        ({"postgresql:": "redis:", ":PORT": ":STRANGER", "/postgres": ""}, _FROM, "Redis at"),
        ({}, (*_FROM, "--secret", "missing"), "the group role 'missing' does not exist"),
        ({}, (*_FROM, "--secret", "app", "--strategy", "none"), "unknown strategy"),
        ({}, (), "no terminal to prompt for the password"),
        ({}, ("--password-from", "-"), "standard input holds no password"),
        ({}, ("--password-from", "hunter2 or so"), "expected a reference, got a literal value"),
        ({"admin@": "admin:hunter2@"}, _FROM, "the URL contains a password"),
        ({"/postgres": "/postgres?password=hunter2"}, _FROM, "the URL contains a password"),
        ({"admin@": "admin:1#hunter2@"}, _FROM, "this is not the URL of a target"),
        ({"rotator_admin@": ""}, _FROM, "does not contain the name of an admin login"),
        ({"postgresql:": "oracle:"}, _FROM, "no installed plugin supports `oracle` URLs"),
        ({"/postgres": "/postgres?sslmod=require"}, _FROM, "Did you mean `sslmode`"),
        ({"/postgres": "/postgres?sslmode=never"}, _FROM, "expected 'disable'"),
        ({}, (*_FROM, "--username", "app"), "need --secret"),
        ({}, (*_FROM, "--name", "a b"), "invalid name"),
    ],
)
def test_init_does_not_write_an_unusable_target(
    change: dict[str, str],
    arguments: tuple[str, ...],
    says: str,
    bare: Cli,
    url: str,
    server: ScratchPostgres,
    stranger: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """Each with its cause; the folder is as empty as before, and no password is repeated."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    given = url.replace(f":{server.port}/", ":PORT/")
    for old, new in change.items():
        assert old in given
        given = given.replace(old, new)
    given = given.replace(":PORT", f":{server.port}").replace(":STRANGER", f":{stranger}")
    told = bare.json("init", "deep", "--target", given, *arguments, code=None)
    assert told.code in (1, 2), told
    assert says in " ".join(one["what"] + one["hint"] for one in told.errors), told
    assert "hunter2" not in told.out + told.err
    assert all(one["hint"] or "need" in one["what"] for one in told.errors)
    assert list(bare.folder.iterdir()) == []


def test_init_adds_a_target_to_an_existing_configuration(bare: Cli, url: str):
    """It adds one line. A name that exists, or a failed check, changes nothing."""
    bare("init")
    bare.edit("targets:\n", "targets:\n  # ours\n")
    before = bare.config.read_text()
    assert "already" in bare("init", "--target", url, *_FROM, code=2).err
    named = ("init", "--target", url, "--name", "shop")
    bare(*named, "--password-from", "env:WRONG", code=1)
    assert bare.config.read_text() == before
    data = bare.json(*named, *_FROM, "--secret", "app").data
    assert data["target"] == "shop"
    assert data["files"] == []
    [line] = [one for one in data["entries"] if one.startswith("targets: ")]
    after = bare.config.read_text()
    assert line.removeprefix("targets: ") in after
    kept = after.splitlines()
    assert [one for one in before.splitlines() if one not in kept] == []
    with open_app(bare.config) as app:
        assert app.resolve("local:admin/shop#password").reveal() == ADMIN_PASSWORD


def test_init_does_not_copy_a_password_from_a_backend(bare: Cli, url: str):
    """It writes the reference, and never overwrites another password."""
    bare("init", "--target", url, *_FROM)
    reference = "local:admin/main#password"
    bare("init", "--target", url, "--name", "two", "--password-from", reference)
    assert bare.config.read_text().count(reference) == 2
    bare.edit("  main: {plugin", "  other: {plugin")
    weak = url.replace("rotator_admin", "postgres")
    assert "Nothing was written" in bare("init", "--target", weak, *_FROM, code=None).err


def test_init_prompts_for_missing_values_on_a_terminal(
    bare: Cli, url: str, monkeypatch: pytest.MonkeyPatch
):
    """The first secret, its login and the password, and nothing else."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def password(question: str) -> str:
        asked.append(question)
        return ADMIN_PASSWORD

    monkeypatch.setattr(sys, "stdin", Terminal("app\n\n"))
    monkeypatch.setattr(getpass, "getpass", password)
    told = bare("init", "--target", url)
    assert asked == ["Password of rotator_admin: "]
    assert "First secret" in told.out
    assert bare.json("check").data["secrets"] == 1


def test_doctor_checks_a_target_without_secrets(bare: Cli, url: str):
    """The admin's rights, and that a wrong password is rejected."""
    bare("init", "--target", url, *_FROM)
    found = [one["message"] for one in bare.json("doctor").data["findings"]]
    assert "the admin 'rotator_admin' has CREATEROLE" in found
    assert "refuses a wrong password" in found
