"""What is refused: a clear error, and nothing changed on the server."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from socket import create_server
from typing import TYPE_CHECKING, Any

import pytest

from rotations.valkey import PLUGIN
from rotations.valkey.errors import NEEDED
from rotations.valkey.options import Endpoint, SecretOptions, TargetOptions
from rotator.api import Conflict, Credential, Denied, Secret, UsageError
from rotator.core.model import Outcome, Severity
from rotator.testing.fakes import step_context
from tests.harness import FIRST
from tests.valkey.sandboxes import ADMIN_RULES, STRATEGIES, acl_of, logs_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.valkey.harness import Harness

OVERLAPPING = [one for one in STRATEGIES if one != "single-user"]
WEAK = Credential(username="weak-admin", password=Secret("a-weak-admin"))


def _weak_admin(harness: Harness, *without: str) -> Credential:
    kept = [one for one in ADMIN_RULES if one not in without]
    (server,) = harness.servers
    server.run("ACL SETUSER", WEAK.username, "reset", "on", f">{WEAK.password.reveal()}", *kept)
    return WEAK


@pytest.mark.parametrize(
    ("strategy", "lacks"),
    [
        *((one, "+acl|setuser") for one in STRATEGIES),
        ("dual-password", "+acl|list"),
        ("dual-password", "+acl|save"),
        ("dual-password", "+info"),
        ("new-user", "+client|list"),
        ("dual-password", "+config|get"),
        ("dual-password", "+command|info"),
    ],
)
def test_an_admin_without_the_right_is_told_which(harness: Harness, strategy: str, lacks: str):
    """By the words that give it; the application's login is as before, and nobody can get in besides."""
    (server,) = harness.servers
    secret = harness.secret(strategy, admin=_weak_admin(harness))
    harness.adopt(secret)
    _ = _weak_admin(harness, lacks)
    before = acl_of(server, harness.name)
    result = harness.engine.rotate(secret)
    assert result.error is not None
    # Without some rights no secret of the target can be rotated: then all of them wait.
    assert result.error.kind == ("unavailable" if lacks in NEEDED else "denied")
    assert f"ACL SETUSER {WEAK.username} {lacks}" in str(result.error)
    assert logs_in(harness.servers, harness.serves(secret))
    if lacks in NEEDED:
        assert acl_of(server, harness.name) == before
    _ = _weak_admin(harness)
    if harness.journal.open_rotation(secret.name) is not None:
        harness.engine.unpark(secret, reason="the right is there")
        done = harness.engine.resume(secret)
        assert done is not None
        assert done.outcome in (Outcome.UNDONE, Outcome.DONE)
    assert logs_in(harness.servers, harness.serves(secret))


@pytest.mark.parametrize("how", ["off", "nopass"])
def test_a_user_that_is_off_or_lets_everybody_in_is_not_adopted(harness: Harness, how: str):
    """Off: it does not log in. nopass: a login proves nothing."""
    (server,) = harness.servers
    server.run("ACL SETUSER", harness.name, how)
    before = acl_of(server, harness.name)
    secret = harness.secret("dual-password")
    with pytest.raises((UsageError, Denied), match=r"rejects login|wrong password"):
        harness.adopt(secret)
    assert acl_of(server, harness.name) == before


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("off", Denied, "is off"),
        ("nopass", Denied, "nopass"),
        ("resetpass", Conflict, "does not accept the current"),
    ],
)
@pytest.mark.parametrize("strategy", ["dual-password", "single-user"])
def test_a_user_in_a_state_of_somebody_elses_making_is_left_alone(
    harness: Harness, strategy: str, how: str, error: Any, said: str
):
    """Switched off, opened or given another password since: told, and not touched."""
    (server,) = harness.servers
    secret = harness.secret(strategy)
    server.run("ACL SETUSER", harness.name, how)
    before = acl_of(server, harness.name)
    with pytest.raises(error, match=said):
        secret.rotation.create(
            Credential(username=harness.name, password=Secret("the-next-password")),
            step_context(
                current=Credential(username=harness.name, password=Secret(FIRST)),
                adopted=frozenset({harness.name}),
            ),
        )
    assert acl_of(server, harness.name) == before


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
def test_the_default_user_is_not_replaced(harness: Harness, strategy: str):
    """Who sends no name is taken for it: it cannot be dropped."""
    (server,) = harness.servers
    secret = harness.secret(strategy)
    before = server.run("ACL LIST")
    current = Credential(username="default", password=Secret(server.password))
    with pytest.raises(Denied, match="dual-password"):
        secret.rotation.create(
            Credential(username=f"{harness.name}_b", password=Secret("x" * 20)),
            step_context(current=current, adopted=frozenset({"default"})),
        )
    assert server.run("ACL LIST") == before


def test_doctor_names_what_is_missing(harness: Harness):
    """Each right by the words that give it; a probe that writes; a user with passwords to spare."""
    (server,) = harness.servers
    admin = _weak_admin(harness, "+acl|setuser", "+client|kill")
    server.run("ACL SETUSER", harness.name, ">one-more", ">another")
    secret = harness.secret("dual-password", admin=admin, probes=("SET cache:x 1",))
    current = Credential(username=harness.name, password=Secret(FIRST))
    found = secret.rotation.examine(current, step_context())  # type: ignore[attr-defined]
    wrong = {one.message: one for one in found if one.severity is not Severity.OK}
    said = " ".join([*wrong, *(one.remedy for one in wrong.values())])
    assert "+acl|setuser +client|kill" in said
    assert "probe SET" in said
    assert "3 passwords" in said


@pytest.mark.parametrize(
    "probe", ["SET cache:x 1", "CONFIG GET dir", "NOSUCH", "EVAL 'return 1' 0"]
)
def test_a_probe_that_may_write_is_not_run(harness: Harness, probe: str):
    """It is refused, and the rotation undone."""
    (server,) = harness.servers
    secret = harness.secret("dual-password", probes=(probe,))
    harness.adopt(secret)
    result = harness.engine.rotate(secret)
    assert result.outcome is not Outcome.DONE
    assert "as a read-only command" in str(result.error)
    assert server.run("EXISTS", "cache:x") == 0
    assert logs_in(harness.servers, harness.serves(secret))


def test_a_probe_that_is_not_allowed_undoes_the_rotation(harness: Harness):
    """With the server's own words, and without an effect."""
    secret = harness.secret("new-user", probes=("GET elsewhere:x",))
    harness.adopt(secret)
    before = harness.serves(secret)
    result = harness.engine.rotate(secret)
    assert result.outcome is Outcome.UNDONE
    assert "probe 1" in str(result.error)
    assert harness.serves(secret) == before
    assert len(acl_of(harness.servers[0], harness.name)) == 1


# -- servers that are none -----------------------------------------------------------------------


@contextmanager
def _answering(*answers: bytes) -> Iterator[int]:
    """Listen on a port and give these answers, one for each command, to whoever comes."""
    with create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                with link:
                    for answer in answers:
                        if not link.recv(65_536):
                            break
                        link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        done.set()
        # Waking it, rather than closing under it.
        with pytest.MonkeyPatch.context():
            import socket

            socket.create_connection(listening.getsockname()).close()
        thread.join()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([b"-ERR wrong number of arguments for 'auth' command\r\n"], "Redis before 6.0"),
        (
            [b"+OK\r\n", b"-ERR unknown command\r\n", b"$22\r\nredis_version:5.0.14\r\n\r\n"],
            "Redis 5.0.14 .* does not support users",
        ),
        ([b"-DENIED Redis is running in protected mode\r\n"], "protected mode"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "another protocol"),
        ([b"-ERR max number of clients reached\r\n"], "max number of clients"),
        (
            [
                b"+OK\r\n",
                b"-ERR unknown command\r\n",
                b"-LOADING Valkey is loading the dataset in memory\r\n",
            ],
            "loading",
        ),
    ],
)
def test_what_is_too_old_or_something_else_is_told(answers: list[bytes], said: str):
    """A stand-in answers as such servers do: none that old can be had."""
    admin = Credential(username="default", password=Secret("x"))
    with _answering(*answers) as port:
        target = PLUGIN.target("t", TargetOptions(port=port, connect_timeout=1), lambda: admin)
        rotation = target.rotation("dual-password", SecretOptions(username="app"))
        with pytest.raises(Exception, match=said) as raised:
            rotation.create(
                Credential(username="app", password=Secret("the-next-password")), step_context()
            )
        target.close()
    assert raised.type.__module__ == "rotator.core.errors"
    if "6.0" in said or "5.0" in said:
        assert "so dual-password" in str(raised.value)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "options", "said"),
    [
        ("alternating-users", {"users": ("a",)}, "two different"),
        ("alternating-users", {"users": ("a", "default")}, "cannot alternate"),
        ("new-user", {}, "prefix"),
        ("dual", {}, "no strategy"),
        ("dual-password", {"probes": ("GET 'x",)}, "quote"),
        ("dual-password", {"probes": (" ",)}, "must be a command"),
    ],
)
def test_options_that_make_no_sense_are_refused(strategy: str, options: Any, said: str):
    """Before anything is connected."""
    target = PLUGIN.target("t", TargetOptions(), lambda: WEAK)
    with pytest.raises(UsageError, match=said):
        target.rotation(strategy, SecretOptions(**options))


def test_a_name_that_would_keep_the_server_from_starting_is_refused():
    """Where CONFIG REWRITE writes it down."""
    target = PLUGIN.target("t", TargetOptions(persist="rewrite"), lambda: WEAK)
    with pytest.raises(UsageError, match="would not start"):
        target.rotation("dual-password", SecretOptions(username='it"s'))


@pytest.mark.parametrize("name", ["", "a b", "tab\t", "nul\0", "line\n", "\ud800", "rotator:x"])
def test_names_that_the_server_would_not_take_are_refused(name: str):
    """And the names of our own marks."""
    for options in ({"username": name}, {"users": (name, "b")}, {"prefix": name}, {"like": name}):
        with pytest.raises(UsageError):
            SecretOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0},
        {"connect_timeout": 0},
        {"nodes": ("host:port",)},
        {"nodes": (":6379",)},
        {"nodes": ("h:70000",)},
        {"sentinels": ("s:26379",)},
        {"service": "main"},
        {"sslcert": "x"},
    ],
)
def test_places_that_are_none_are_refused(options: Any):
    """With the reason."""
    with pytest.raises(UsageError):
        TargetOptions(**options)


def test_places_are_read_as_people_write_them():
    """Names, addresses of either kind, with and without a port."""
    read = TargetOptions(
        host="a", port=1, nodes=("b", "c:2", "[::1]:3", "[::1]", "fe80::1", "a:1")
    ).named()
    assert read == [
        Endpoint(host="a", port=1),
        Endpoint(host="b", port=1),
        Endpoint(host="c", port=2),
        Endpoint(host="::1", port=3),
        Endpoint(host="::1", port=1),
        Endpoint(host="fe80::1", port=1),
    ]
    assert [str(one) for one in read[2:4]] == ["c:2", "[::1]:3"]
