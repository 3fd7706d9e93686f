"""Whole rotations on real servers: what holds for an application, an auditor, an attacker."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotations.valkey.options import SecretOptions
from rotations.valkey.users import User
from rotator.api import Credential, Secret, UsageError
from rotator.core.model import DrainThen, Outcome
from rotator.journal import audit
from tests.harness import FIRST, QUICK
from tests.valkey.sandboxes import (
    STRATEGIES,
    acl_of,
    digest,
    logs_in,
    make_user,
    rules,
    usable,
)

if TYPE_CHECKING:
    from tests.servers.valkey import ScratchValkey
    from tests.valkey.harness import Harness

OVERLAPPING = [one for one in STRATEGIES if one != "single-user"]
_numbers = itertools.count(1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_new_credential_logs_in_and_the_old_one_is_refused(harness: Harness, strategy: str):
    """Five times in a row; each refusal was tried, and every rule was carried over."""
    (server,) = harness.servers
    others = acl_of(server, "default", "admin-of-sandboxes")
    secret = harness.secret(strategy)
    before = rules(server, harness.name)
    harness.adopt(secret)
    for _ in range(5):
        old = harness.serves(secret)
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.error) == (Outcome.DONE, None)
        assert result.old_refused is True
        new = harness.serves(secret)
        assert logs_in(harness.servers, new)
        assert not logs_in(harness.servers, old)
        assert rules(server, new.username) == before
    assert usable(harness.servers, harness.name) == {new.username}
    assert len(acl_of(server, harness.name)) == (2 if strategy == "alternating-users" else 1)
    assert acl_of(server, "default", "admin-of-sandboxes") == others
    assert audit.verify(harness.journal).ok


@pytest.mark.parametrize("strategy", OVERLAPPING)
@pytest.mark.parametrize("rotations", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_client_that_opens_connections_all_the_time_sees_no_failure(
    harness: Harness, strategy: str, rotations: int
):
    """With what the backend serves, read at each login; nothing piles up on the server."""
    (server,) = harness.servers
    secret = harness.secret(strategy, policy=replace(QUICK, grace=timedelta(milliseconds=100)))
    harness.adopt(secret)
    stop, failures, logins = threading.Event(), list[str](), 0

    def application() -> None:
        nonlocal logins
        while not stop.is_set():
            login = harness.serves(secret)
            client = server.client(login.username, login.password.reveal())
            try:
                client.get("cache:one")
            except Exception as error:  # noqa: BLE001 # whatever it is, it is a failure
                failures.append(repr(error))
            finally:
                client.close()
            logins += 1

    client = threading.Thread(target=application)
    client.start()
    try:
        for _ in range(rotations):
            result = harness.engine.rotate(secret, patience=timedelta(seconds=5))
            assert result.outcome is Outcome.DONE, result.error
    finally:
        stop.set()
        client.join()
    assert failures == []
    assert logins > rotations
    assert len(acl_of(server, harness.name)) <= 2
    marks = {line.split(" ")[1] for line in acl_of(server, "rotator:")}
    assert len(marks) <= len(server.run("ACL LIST")) / 2


def test_an_old_session_goes_on_working_until_the_drain_ends_it(harness: Harness):
    """It holds the revoke up, is told with its address and name, and is ended by the policy."""
    (server,) = harness.servers
    secret = harness.secret("new-user")
    harness.adopt(secret)
    with closing(server.client(harness.name, FIRST, single_connection_client=True)) as session:
        session.set("cache:one", "1")
        held = harness.engine.rotate(secret)
        assert (held.outcome, held.published) == (None, True)
        assert session.get("cache:one") == "1"
        waiting = [
            event for event in harness.journal.events(secret.name) if event.kind == "waiting"
        ]
        (told,) = waiting[-1].data["sessions"]
        assert told["login"] == harness.name
        assert told["client"] == "127.0.0.1"
        done = harness.engine.revoke(secret, end_sessions=True)
        assert (done.outcome, done.old_refused) == (Outcome.DONE, True)
        with pytest.raises(Exception, match=r"(?i)connection|user|password"):
            session.get("cache:one")


@pytest.mark.parametrize("strategy", ["alternating-users", "new-user"])
def test_a_policy_may_end_the_sessions_when_the_drain_is_over(harness: Harness, strategy: str):
    """`drain: {wait: 0s, then: terminate}`; subscribers too."""
    (server,) = harness.servers
    policy = replace(QUICK, drain_wait=timedelta(0), drain_then=DrainThen.TERMINATE)
    secret = harness.secret(strategy, policy=policy)
    harness.adopt(secret)
    with closing(server.client(harness.name, FIRST).pubsub()) as subscriber:
        subscriber.psubscribe("news:*")
        assert subscriber.get_message(timeout=1) is not None
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert harness.secret(strategy).rotation.sessions(harness.name, _ctx(harness, secret)) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a=b", "x\u2028y", "\x1c", "\x85-", "user=default"])
def test_sessions_of_awkward_names_are_seen(harness: Harness, name: str):
    """A name may hold what looks like the end of a line or of a fact: it holds the revoke up all the same."""
    (server,) = harness.servers
    make_user(server, name, "on", f"#{digest(FIRST)}")
    secret = harness.secret("alternating-users", username=name)
    harness.adopt(secret, name)
    with closing(server.client(name, FIRST, single_connection_client=True)) as session:
        session.ping()
        assert harness.engine.rotate(secret).outcome is None
        waiting = [
            event for event in harness.journal.events(secret.name) if event.kind == "waiting"
        ]
        assert len(waiting[-1].data["sessions"]) == 1
    server.run("ACL DELUSER", name, f"{name}_b")


def test_sessions_of_two_passwords_are_of_one_user_and_stay(harness: Harness):
    """There is nothing to drain: the login goes on, only its old password is refused."""
    (server,) = harness.servers
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    with closing(server.client(harness.name, FIRST, single_connection_client=True)) as session:
        session.ping()
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        assert session.ping()
    assert not server.lets_in(harness.name, FIRST)


def test_no_password_is_anywhere_on_the_server(harness: Harness):
    """Not in its log, MONITOR, SLOWLOG, ACL LOG, ACL file; nor in our log and journal."""
    (server,) = harness.servers
    passwords, monitored = [FIRST], list[bytes]()
    with socket.create_connection((server.host, server.port)) as monitor:
        monitor.sendall(f"AUTH default {server.password}\r\nMONITOR\r\n".encode())
        for strategy in STRATEGIES:
            secret = replace(
                harness.secret(strategy), name=f"{harness.name} {strategy}", path=f"c-{strategy}"
            )
            make_user(server, harness.name, "on", f"#{digest(FIRST)}")
            harness.adopt(secret)
            for _ in range(2):
                assert harness.engine.rotate(secret).outcome is Outcome.DONE
                passwords.append(harness.serves(secret).password.reveal())
        server.run("PING", "the-last-one")
        while b"the-last-one" not in b"".join(monitored):
            monitored.append(monitor.recv(65_536))
    said = server.log_text() + b"".join(monitored).decode(errors="replace")
    said += str(server.run("ACL", "LOG", "1000")) + str(server.run("SLOWLOG", "GET", "100000"))
    said += server.users_file.read_text() + str(harness.log.lines)
    for one in harness.journal.secrets():
        said += str([event.data for event in harness.journal.events(one.name)])
    assert "AUTH" in said
    assert f"#{digest(passwords[-1])}" in said
    assert [one for one in passwords if one in said] == []


# Blanks and NUL are refused at once; what is no character cannot be stored.
_NAMES = (
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=25)
    .filter(lambda name: not set(name) & set(" \t\n\v\f\r\0"))
    .filter(lambda name: not name.startswith("rotator:") and name not in ("default", "replication"))
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=_NAMES,
    password=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30),
)
def test_awkward_names_and_passwords_are_taken_as_they_are(
    harness: Harness, strategy: str, name: str, password: str
):
    """Quotes, brackets, hashes, control characters, other alphabets: whatever an ACL allows."""
    (server,) = harness.servers
    server.run("ACL SETUSER", name, "reset", "on", f"#{digest(password)}", "~cache:*", "+get")
    made = harness.secret(strategy, username=name)
    number = next(_numbers)
    secret = replace(made, name=f"{harness.name} {number}", path=f"{harness.name}-{number}")
    harness.engine.adopt(secret, first=Credential(username=name, password=Secret(password)))
    for _ in range(2):
        result = harness.engine.rotate(secret)
        assert result.outcome is Outcome.DONE, result.error
        assert server.lets_in(
            harness.serves(secret).username, harness.serves(secret).password.reveal()
        )
    assert not server.lets_in(name, password)
    server.run("ACL DELUSER", name, f"{name}_b", harness.serves(secret).username)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.text(max_size=12))
def test_a_name_is_taken_or_refused_as_the_server_does(server: ScratchValkey, name: str):
    """What the options let through the server takes; what blanks they refuse it refuses."""
    from valkey.exceptions import ResponseError

    try:
        SecretOptions(username=name)
    except UsageError:
        if name and not name.startswith("rotator:"):
            with pytest.raises((ResponseError, UnicodeEncodeError)):
                server.run("ACL SETUSER", name, "off")
        return
    server.run("ACL SETUSER", name, "off")
    assert name in server.run("ACL USERS")
    if name not in ("default", "replication"):
        server.run("ACL DELUSER", name)


@pytest.mark.parametrize(
    "awkward",
    [
        ("~a)b", "(~a)b +get)", "(%R~(c +get)", "%W~)"),
        ("~'x", '~"', "(+get ~a:*)", "resetchannels", "&ch)"),
        ("~\\x", "(~a:* +@read -getrange)", "(~b:* +set)"),
        ("allkeys", "allchannels", "+@all", "-flushall"),
        ("skip-sanitize-payload", "+config|get", "-acl"),
    ],
)
def test_awkward_rules_are_copied_as_they_are(harness: Harness, awkward: tuple[str, ...]):
    """Brackets and quotes in patterns, selectors, flags, subcommands."""
    (server,) = harness.servers
    from valkey.exceptions import ResponseError

    server.run("ACL SETUSER", harness.name, "reset", "on", f">{FIRST}")
    for one in awkward:
        try:
            server.run("ACL SETUSER", harness.name, one)
        except ResponseError:
            continue
    before = rules(server, harness.name)
    assert len(before) > 3
    secret = harness.secret("new-user", probes=())
    harness.adopt(secret)
    result = harness.engine.rotate(secret)
    assert result.outcome is Outcome.DONE, result.error
    assert rules(server, harness.serves(secret).username) == before


@pytest.mark.parametrize("selector", ["(~a) +get)", '(+get "~it\'s")', "(+get '~c\"d')"])
def test_what_a_server_would_write_and_not_read_again_is_not_saved(harness: Harness, selector: str):
    """It would not start any more, or start with other rules: refused before anything is changed."""
    (server,) = harness.servers
    try:
        server.run("ACL SETUSER", "odd", "off", selector)
        secret = harness.secret("dual-password")
        harness.adopt(secret)
        before, saved = server.run("ACL LIST"), server.users_file.read_text()
        result = harness.engine.rotate(secret)
        assert result.error is not None
        assert "'odd'" in str(result.error)
        assert server.users_file.read_text() == saved
        assert sorted(map(len, server.run("ACL LIST"))) == sorted(map(len, before))
    finally:
        server.run("ACL DELUSER", "odd")
    assert logs_in(harness.servers, harness.serves(secret))


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("user a on #00 ~x &* +@all", ["~x", "&*", "+@all"]),
        (
            "user a off nopass ~a) (~b) -@all +get) (&c +set)",
            ["~a)", "(~b) -@all +get)", "(&c +set)"],
        ),
        ('user a on (~c"d resetchannels -@all +get)', ['("~c\\"d" resetchannels -@all +get)']),
    ],
)
def test_rules_are_read_as_the_server_lists_them(line: str, rules: list[str]):
    """A selector is one rule, whatever brackets its patterns hold; its quotes are written again."""
    assert list(User.parse(line).rules) == rules


def _ctx(harness: Harness, secret: object) -> object:
    return harness.engine.steps(secret).context(None)  # type: ignore[arg-type]
