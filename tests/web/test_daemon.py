"""The whole way: a browser, the console, a daemon and PostgreSQL, each a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx2 as httpx
import psycopg
import pytest

from rotator import system
from rotator.core.secret import Secret
from rotator.faces.web.users import LocalUsers
from rotator.journal import chain
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.scratch import free_port
from tests.cli.installed_program import Real, prepare
from tests.dispatch.test_daemon import Daemon, until
from tests.web.conftest import PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# When a page first showed each event of a secret, by its number.
Seen = dict[int, float]
NAMES: Final = ("shop", "web", "mail", "lost")
ROLES: Final = f"""
roles:
  - {{role: auditor, subjects: ["os:{system.actor("cli").subject}"]}}
  - {{role: operator, subjects: ["password:alice"]}}
  - {{role: approver, subjects: ["password:bob"]}}
  - {{role: breaker, subjects: ["password:carol"]}}
approval: [{{for: [revoke-now], where: {{tag: prod}}}}]
"""


@dataclass
class Stack:
    """A daemon and a console over one journal, with a user for each role."""

    rotator: Real
    url: str

    @contextmanager
    def person(self, name: str) -> Generator[Person]:
        """Sign somebody in."""
        with httpx.Client(
            base_url=self.url, trust_env=False, headers={"origin": self.url}, timeout=30
        ) as client:
            token = re.search(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
            assert token is not None
            values = {"name": name, "password": PASSPHRASE, "token": token[1]}
            assert client.post("/sign-in", data=values).status_code == 303
            yield Person(client)

    def events(self, secret: str) -> list[dict[str, Any]]:
        """Return what the journal records of a secret, oldest first."""
        with self.rotator.open() as app:
            return [
                {**one.data, "kind": one.kind.value, "step": one.step, "at": one.at, "seq": one.seq}
                for one in app.journal.events(secret)
            ]

    def decision(self, secret: str, kind: str) -> dict[str, Any]:
        """Return the newest event of a kind, once there is one that a request led to."""
        found = list[dict[str, Any]]()

        def is_there() -> bool:
            found[:] = [
                one for one in self.events(secret) if one["kind"] == kind and "request" in one
            ]
            return bool(found)

        until(is_there)
        return found[-1]


@dataclass
class Person:
    """Somebody who is signed in."""

    client: httpx.Client

    def request(self, secret: str, action: str, **more: str) -> httpx.Response:
        """Load the form of an action and send it."""
        page = self.client.get(f"/secrets/{secret}/request/{action}").text
        fields = dict(re.findall(r'name="(token|seq)" value="([^"]+)"', page))
        values = {**fields, "reason": "tests", "name": secret, **more}
        return self.client.post(f"/secrets/{secret}/request/{action}", data=values)

    def state(self, secret: str) -> str:
        """Return the state of a secret as the console shows it."""
        return self.client.get(f"/api/v1/secrets/{secret}").json()["state"]["state"]

    def asked(self, secret: str) -> dict[str, Any]:
        """Return the newest request for a secret."""
        found = self.client.get("/api/v1/requests").json()["requests"]
        return max((one for one in found if one["secret"] == secret), key=lambda one: one["at"])

    def decide(self, request: str, decision: str) -> int:
        """Approve or refuse a request."""
        token = self.client.get("/api/v1/session").json()["token"]
        values = {"token": token, "reason": "agreed"}
        return self.client.post(f"/requests/{request}/{decision}", data=values).status_code


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Four secrets on a PostgreSQL, taken over; a daemon and a console run."""
    folder = tmp_path_factory.mktemp("stack")
    with ScratchPostgres() as server:
        prepare(server)
        rotator = Real(folder=folder, server=server)
        url = _configure(rotator)
        for name in NAMES:
            with server.connect() as admin:
                admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first-of-the-{name}'".encode())
                admin.execute(f"GRANT {name} TO rotator_admin WITH ADMIN OPTION".encode())
            rotator.environ["APP_PASSWORD"] = f"first-of-the-{name}"
            rotator("adopt", name, "--username", name, "--password-from", "env:APP_PASSWORD")
        _add_roles(rotator)
        console = rotator.start("web", "run", stderr=subprocess.PIPE)
        try:
            assert console.stderr is not None
            assert json.loads(console.stderr.readline())["url"] == url
            with Daemon(rotator):
                yield Stack(rotator, url)
        finally:
            console.kill()
            said = console.communicate()[1]
            assert "Traceback" not in said
            assert PASSPHRASE not in said


def _configure(rotator: Real) -> str:
    rotator("init")
    rotator.configure(grace="1h")
    config, url = rotator.folder / "rotator.yaml", f"http://127.0.0.1:{free_port()}"
    text = re.sub(r"(?ms)^secrets:\n.*", "secrets:\n", config.read_text())
    text = text.replace('listen: "127.0.0.1:9464"', f'listen: "127.0.0.1:{free_port()}"')
    for name in NAMES:
        text += (
            f"  {name}: {{target: main, backend: local, strategy: new-user,"
            f" tags: [{'prod' if name in ('web', 'mail') else 'test'}], options: {{group: {name}}}}}\n"
        )
    config.write_text(text + f'web: {{listen: "{url.removeprefix("http://")}"}}\n')
    users = LocalUsers(rotator.folder / "web-users.json")
    for name in ("alice", "bob", "carol"):
        users.add(name, Secret(PASSPHRASE))
    return url


def _add_roles(rotator: Real) -> None:
    """Write roles, and the console's own key for requests."""
    key = chain.new_signing_key()
    file = rotator.folder / "console-key"
    file.touch(mode=0o600)
    file.write_text(key.reveal())
    public = "".join(chain.public_key(key).splitlines()[1:-1])
    config = rotator.folder / "rotator.yaml"
    own = f'requests: {{key: "file:console-key", writers: {{console: "{public}"}}}}\n'
    config.write_text(config.read_text() + ROLES + own)


def test_each_step_is_on_the_page_within_two_seconds_of_its_commit(stack: Stack):
    """A rotation and its rollback, asked for in the browser, followed by the page's own events."""
    with stack.person("alice") as alice, stack.person("alice") as reader:
        seen = _following(reader, "shop", lambda: alice.request("shop", "rotate"), "publish")
        until(lambda: alice.asked("shop")["state"] == "taken")
        seen |= _following(reader, "shop", lambda: alice.request("shop", "rollback"), "restore")
    events = {one["seq"]: one for one in stack.events("shop")}
    late = {seq: at - events[seq]["at"].timestamp() for seq, at in seen.items()}
    assert {events[seq]["step"] for seq in seen} >= {"create", "publish", "restore"}
    assert max(late.values()) < 2, late
    asked = stack.decision("shop", "requested")
    assert asked["by"] == {
        "subject": "alice",
        "method": "password",
        "face": "web",
        "host": "127.0.0.1",
    }
    assert stack.decision("shop", "rollback-requested")["by"]["subject"] == "alice"


def _following(reader: Person, secret: str, act: Callable[[], httpx.Response], step: str) -> Seen:
    """Act, and follow the page's own stream until a step is finished; return when it showed each event."""
    seen: Seen = {}

    def look() -> set[str]:
        found = reader.client.get(f"/api/v1/journal?secret={secret}").json()["events"]
        for one in found:
            _ = seen.setdefault(one["seq"], time.time())
        return {one["step"] for one in found if one["kind"] == "finished"}

    _ = look()
    before = set(seen)
    with reader.client.stream("GET", "/events", timeout=10) as stream:
        lines = stream.iter_lines()
        assert act().status_code == 303
        for line in lines:
            if line == "event: journal" and step in look():
                break
    return {seq: at for seq, at in seen.items() if seq not in before}


def test_a_revoke_waits_for_a_second_person_and_kills_the_old_login(stack: Stack):
    """The requester cannot approve it; the event names both; the old password is refused by the server."""
    with stack.person("alice") as alice, stack.person("bob") as bob:
        assert alice.request("web", "rotate").status_code == 303
        until(lambda: alice.state("web") == "grace")
        assert alice.request("web", "revoke-now").status_code == 303
        asked = bob.asked("web")
        assert asked["state"] == "needs-approval"
        assert alice.decide(asked["id"], "approve") == 403
        assert bob.decide(asked["id"], "approve") == 303
        until(lambda: bob.asked("web")["state"] == "taken")
        until(lambda: bob.state("web") == "ok")
        assert "The old login is dead." in bob.client.get("/secrets/web").text
    found = stack.decision("web", "revoke-requested")
    assert [one["subject"] for one in found["approved_by"]] == ["bob"]
    assert found["by"]["subject"] == "alice"
    with pytest.raises(psycopg.OperationalError):
        stack.rotator.server.connect(user="web", password="first-of-the-web")


def test_broken_glass_needs_no_approval_and_is_recorded(stack: Stack):
    """Only its role, with the name typed; nobody else is offered it."""
    with stack.person("alice") as alice, stack.person("carol") as carol:
        assert alice.request("mail", "rotate").status_code == 303
        until(lambda: alice.state("mail") == "grace")
        assert "Break glass" not in alice.client.get("/secrets/mail/request/revoke-now").text
        assert alice.request("mail", "revoke-now", break_glass="1").status_code == 403
        assert "Break glass" in carol.client.get("/secrets/mail/request/revoke-now").text
        wrong = carol.request("mail", "revoke-now", break_glass="1", name="other")
        assert wrong.status_code == 400
        assert carol.request("mail", "revoke-now", break_glass="1").status_code == 303
        until(lambda: carol.asked("mail")["state"] == "taken")
    found = stack.decision("mail", "revoke-requested")
    assert (found["break_glass"], found["by"]["subject"]) == (True, "carol")


def test_a_parked_secret_and_a_leak_are_requested_from_the_browser(stack: Stack):
    """Park, unpark, and report a leak, which replaces the password and proves that it is refused."""
    with stack.person("alice") as alice:
        assert alice.request("lost", "park").status_code == 303
        until(lambda: alice.state("lost") == "parked")
        assert alice.request("lost", "unpark").status_code == 303
        until(lambda: alice.state("lost") == "ok")
        assert alice.request("lost", "incident").status_code == 303
        leaked = stack.decision("lost", "leaked")
        assert (leaked["by"]["subject"], leaked["mode"]) == ("alice", "move")
        until(lambda: any(one["kind"] == "proven" for one in stack.events("lost")))
        assert "first-of-the-lost" not in alice.client.get("/incidents").text
    assert stack.decision("lost", "parked")["reason"] == "tests"
    stack.rotator("audit", "verify")
