"""Why a node does nothing: each cause by its code, with a text and a remedy of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from rotations.valkey.errors import translated
from rotations.valkey.wire import ErrorReply
from rotator.api import Credential, Secret, StepError, Transient, Unavailable
from rotator.testing.fakes import step_context
from tests.servers.valkey import wait_for

if TYPE_CHECKING:
    from tests.valkey.harness import Harness

_TABLE = [
    ("BUSY Valkey is busy running a script.", Transient, "blocks the node", "SCRIPT KILL"),
    ("UNKILLABLE Sorry the script already executed", Transient, "has written", "Wait"),
    ("LOADING Valkey is loading the dataset", Transient, "loading", "INFO persistence"),
    ("MASTERDOWN Link with MASTER is down", Transient, "lost its primary", "INFO replication"),
    ("CLUSTERDOWN The cluster is down", Transient, "not all slots", "CLUSTER NODES"),
    ("TRYAGAIN Multiple keys request during rehashing", Transient, "slots", "CLUSTER NODES"),
    ("MISCONF Errors writing to the AOF file", Transient, "cannot save its data", "BGSAVE"),
    ("OOM command not allowed", Transient, "memory", "maxmemory"),
    ("NOREPLICAS Not enough good replicas", Transient, "too few replicas", "INFO replication"),
    ("READONLY You can't write against a read only replica.", Unavailable, "read-only", "`host`"),
    ("NOAUTH Authentication required.", Unavailable, "requires a login", "`admin`"),
    ("DENIED Valkey is running in protected mode", Unavailable, "protected mode", "ACL SETUSER"),
    ("ERR max number of clients reached", Unavailable, "no free connection", "maxclients"),
    ("ERR unknown command 'ACL'", Unavailable, "renamed or disabled", "the service's API"),
    ("ERR unknown subcommand 'SAVE'", Unavailable, "renamed or disabled", "the service's API"),
    (
        "NOPERM this user has no permissions to run 'acl|setuser'",
        Unavailable,
        "NOPERM|no perm",
        "x",
    ),
]


@pytest.mark.parametrize(("said", "kind", "text", "hint"), _TABLE)
def test_each_code_has_a_text_and_a_remedy_of_its_own(
    said: str, kind: type[StepError], text: str, hint: str
):
    """By the code; where the servers have none, as for used-up connections, by what they say."""
    with (
        pytest.raises(StepError, match=text) as raised,
        translated("Valkey at h:1", "ACL SETUSER 'u'", "x", "ACL", "SETUSER", "u"),
    ):
        raise ErrorReply(said)
    assert type(raised.value) is kind
    assert hint in raised.value.hint


def test_no_two_codes_share_a_text_and_a_remedy():
    """Else one of them would send somebody to the wrong place."""
    hints = [(text, hint) for _, _, text, hint in _TABLE if "unknown" not in text]
    assert len({text for text, _ in hints}) >= len(hints) - 1


def test_a_script_that_blocks_a_node_is_named_and_the_remedy_ends_it(harness: Harness):
    """The command of the hint works as it is printed."""
    (server,) = harness.servers
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    current = harness.serves(secret)
    ctx = step_context(current=current, adopted=frozenset({harness.name}))
    server.run("CONFIG SET", "lua-time-limit", "1")
    client = server.client()

    def block() -> None:
        with suppress(Exception):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=block)
    thread.start()
    try:

        def is_blocked() -> bool:
            try:
                server.run("GET", "x")
            except Exception as error:  # noqa: BLE001 # whatever the client makes of BUSY
                return "busy" in str(error).lower()
            return False

        wait_for(is_blocked, server.log_text)
        with pytest.raises(Transient, match="a script or function blocks the node") as raised:
            secret.rotation.probe(current, ctx)
        assert "SCRIPT KILL" in raised.value.hint
    finally:
        server.run("SCRIPT KILL")
        thread.join()
        client.close()
        server.run("CONFIG SET", "lua-time-limit", "5000")
    assert secret.rotation.probe(current, ctx)


@pytest.mark.parametrize(
    ("how", "cause", "hint"),
    [
        ("off", "off", "ACL SETUSER"),
        ("resetpass", "password", "ACL SETUSER"),
        (None, "missing", "ACL LIST"),
    ],
)
def test_a_login_that_is_rejected_has_a_cause(
    harness: Harness, how: str | None, cause: str, hint: str
):
    """As the users of the node show it, for one answer means all three."""
    (server,) = harness.servers
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    if how is None:
        server.run("ACL DELUSER", harness.name)
    else:
        server.run("ACL SETUSER", harness.name, how)
    rotation: Any = secret.rotation
    current = harness.serves(secret)
    assert not rotation.probe(current, step_context())
    found = rotation.rejection(current, step_context())
    assert found is not None
    assert found.cause == cause
    assert hint in found.hint


def test_an_admin_that_is_rejected_lets_all_secrets_wait(harness: Harness):
    """With the cure; nothing is changed."""
    wrong = Credential(username="default", password=Secret("not-this-one"))
    secret = harness.secret("dual-password", admin=wrong)
    current = Credential(username=harness.name, password=Secret("x"))
    with pytest.raises(Unavailable, match="rejects the admin login 'default'") as raised:
        secret.rotation.create(current, step_context(current=current))
    assert "ACL SETUSER default on >PASSWORD" in raised.value.hint
