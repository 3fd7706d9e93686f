"""Nodes that stall, drip, flood, echo and forge: calls end, and in one of our errors."""

from __future__ import annotations

import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotations.valkey import PLUGIN
from rotations.valkey.options import Endpoint, SecretOptions, TargetOptions
from rotations.valkey.wire import ErrorReply, Limit, NotRespError, WireConnection
from rotator.api import Credential, RotatorError, Secret, StepError
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from rotator.testing.hostile import ANOTHER, RESP, HostileServer, saying, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.api import StepContext

_SECONDS: Final = 0.3
_PASSWORD: Final = "a-password-that-is-echoed"
_ADMIN: Final = Credential(username="admin", password=Secret("a-password-of-the-admin"))
_CURRENT: Final = Credential(username="app", password=Secret(_PASSWORD))
_NEXT: Final = Credential(username="app", password=Secret("the-next-password"))


@contextmanager
def _rotation(port: int, **given: Any) -> Iterator[Any]:
    target = PLUGIN.target("v", TargetOptions(host="127.0.0.1", port=port, **given), lambda: _ADMIN)
    options = SecretOptions(username="app", prefix="app", probes=("GET x",))
    yield target.rotation("dual-password", options)
    target.close()


def _ctx(seconds: float = _SECONDS) -> StepContext:
    return step_context(
        clock=SystemClock(), current=_CURRENT, timeout=seconds, adopted=frozenset({"app"})
    )


@pytest.mark.parametrize("kind", RESP)
def test_a_call_ends_within_its_time_and_memory_whatever_answers(kind: str):
    """A login, and the look at a node before a change."""
    with HostileServer(RESP[kind]) as server, _rotation(server.port) as rotation:
        with within(seconds=_SECONDS), pytest.raises(StepError) as raised:
            rotation.create(_NEXT, _ctx())
        said = "".join(traceback.format_exception(raised.value))
        assert not any(one in said for one in (_PASSWORD, _ADMIN.password.reveal()))


# -- nodes that forge ---------------------------------------------------------------------------


def _bulk(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _list(*texts: str) -> bytes:
    return b"*%d\r\n" % len(texts) + b"".join(map(_bulk, texts))


_INFO: Final = "redis_version:7.2.0\r\nrun_id:abc\r\nrole:master\r\n"
_GOOD: Final[dict[str, bytes]] = {
    "AUTH": b"+OK\r\n",
    "HELLO": b"*2\r\n+id\r\n:5\r\n",
    "INFO": _bulk(_INFO),
    "ACL LIST": _list("user default on nopass ~* +@all", "user app on #ab ~* +@all"),
    "ACL SETUSER": b"+OK\r\n",
    "ACL DELUSER": b":1\r\n",
    "ACL SAVE": b"+OK\r\n",
    "ACL DRYRUN": b"+OK\r\n",
    "CONFIG GET": _list("aclfile", "/users.acl"),
    "CLIENT LIST": _bulk("id=7 addr=1.2.3.4:5 name= age=3 flags=N user=app lib-name=x\n"),
    "CLIENT KILL": b":1\r\n",
    "CLUSTER NODES": _bulk(""),
    "COMMAND INFO": b"*1\r\n*3\r\n+get\r\n:2\r\n*1\r\n+readonly\r\n",
    "GET": b"$-1\r\n",
    "SENTINEL": _list("ip", "127.0.0.1", "port", "1"),
}
_ODD: Final = (
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"$0\r\n\r\n",
    b":5\r\n",
    b":-1\r\n",
    b"+\r\n",
    b"-\r\n",
    b"-ERR x\r\n",
    b"*1\r\n*1\r\n*0\r\n",
    b"*2\r\n-ERR x\r\n+y\r\n",
    b"*1\r\n$-1\r\n",
    b"$2\r\nxyz\r\n",
    b":1_0\r\n",
    b": 1\r\n",
    b":\xd9\xa1\r\n",
    b"+OK\r\n+OK\r\n",
    b"$4\r\n\xff\x00\r\n\r\n",
    _list("a", "b", "c"),
    _bulk("user"),
    _list("user", "user ", "user x", ""),
    _list("user app", "x" * 9_999),
    _bulk("=\n==\n,\n"),
)
_FORGED: Final[dict[str, tuple[bytes, ...]]] = {
    "INFO": tuple(
        _bulk(_INFO.replace("role:master\r\n", "") + more)
        for more in (
            "redis_version:\u00b2",
            "redis_version:" + "9" * 5_000,
            "redis_version:-1.0",
            "slave0:ip=1.2.3.4",
            "slave0:ip=1.2.3.4,port=x",
            "slave0:ip=/etc/passwd,port=1",
            "slave0:ip=,port=1",
            "slave0:ip=1.2.3.4,port=99999999999999999999",
            "slave\u00b2:x",
            "cluster_enabled:1",
            "loading:x",
            "role:slave",
            "valkey_version:" + "\x1b[2J" * 9_999,
            "".join(f"slave{one}:ip=127.0.0.1,port={one + 1}\r\n" for one in range(2_000)),
        )
    ),
    "CLUSTER NODES": tuple(
        _bulk(text)
        for text in ("x", "x y z", "x :@ z", "x 1.2.3.4:x@y z", "x /a:1@1 z", "x a:1@1,b master -")
    ),
    "CLIENT LIST": tuple(
        _bulk(f"id=7 user=app {text}\n") for text in ("age=x", "age=-1", "age=" + "9" * 30, "age=")
    ),
}


def _node(forged: dict[str, bytes]) -> Callable[[bytes], Iterator[bytes]]:
    def script(request: bytes) -> Iterator[bytes]:
        words = [one.decode(errors="replace") for one in request.split(b"\r\n")[2::2]]
        names = (" ".join(words[:2]).upper(), words[0].upper())
        found = next((forged[one] for one in names if one in forged), None)
        yield found or next((_GOOD[one] for one in names if one in _GOOD), b"+OK\r\n")
        yield ANOTHER

    return script


_CALLS: Final[dict[str, Callable[[Any, StepContext], object]]] = {
    "probe": lambda rotation, ctx: rotation.probe(_CURRENT, ctx),
    "create": lambda rotation, ctx: rotation.create(_NEXT, ctx),
    "verify": lambda rotation, ctx: rotation.verify(_NEXT, ctx),
    "revoke": lambda rotation, ctx: rotation.revoke(_NEXT, ctx),
    "withdraw": lambda rotation, ctx: rotation.withdraw(_NEXT, ctx),
    "sessions": lambda rotation, ctx: rotation.sessions("app", ctx),
    "rejection": lambda rotation, ctx: rotation.rejection(_CURRENT, ctx),
    "explain": lambda rotation, ctx: rotation.explain(_CURRENT, ctx),
    "examine": lambda rotation, ctx: rotation.examine(_CURRENT, ctx),
}


@pytest.mark.parametrize("command", _GOOD)
def test_a_forged_answer_ends_in_a_value_or_in_one_of_our_errors(command: str):
    """Each answer in turn is something else, in each call of a strategy."""
    replies = dict[str, bytes]()
    sentinels = command == "SENTINEL"
    with HostileServer(_node(replies)) as server:
        more = {"sentinels": (f"127.0.0.1:{server.port}",), "service": "main"} if sentinels else {}
        with _rotation(server.port, **more) as rotation:
            for odd in (*_ODD, *_FORGED.get(command, ())):
                replies[command] = odd
                for name in ("probe",) if sentinels else _CALLS:
                    # Two seconds for what the call itself computes, as with two thousand forged replicas.
                    with within(seconds=3), suppress(RotatorError):
                        _ = _CALLS[name](rotation, _ctx(1.0))


def test_an_error_inside_of_an_array_leaves_nothing_behind():
    """What follows it would be taken for the answer to the next command."""
    answers = [b"*2\r\n-ERR no\r\n+left behind\r\n", b"+PONG\r\n"]
    with HostileServer(lambda _: iter((answers.pop(0), ANOTHER))) as server:
        link = WireConnection(Endpoint(host="127.0.0.1", port=server.port), None, Limit(2))
        with pytest.raises(ErrorReply, match="no"):
            link.call("EXEC")
        assert link.call("PING") == "PONG"
        link.close()


def test_an_answer_that_nobody_asked_for_ends_the_connection():
    """It would be taken for the answer to the next command."""
    with HostileServer(saying(b"+OK\r\n+a second one\r\n")) as server:
        link = WireConnection(Endpoint(host="127.0.0.1", port=server.port), None, Limit(2))
        assert link.call("PING") == "OK"
        with pytest.raises(NotRespError):
            link.call("PING")
        link.close()
