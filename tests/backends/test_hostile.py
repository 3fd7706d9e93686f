"""Vault and AWS that stall, drip, flood, redirect, echo and forge: calls end, and nothing leaks."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.api import Credential, Denied, Secret, StepError, TooLarge, Unavailable, json_object
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.vault.errors import Foreign
from rotator.testing.hostile import HTTP, HostileServer, http_answer, http_saying, saying, within
from tests.backends.opened import aws, vault

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT: Final = 0.3
_TOKEN: Final = "hvs.a-token-that-nobody-else-may-have"
_PASSWORD: Final = "a-password-that-is-echoed"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


_vault = partial(vault, seconds=_TIMEOUT, token=_TOKEN)
_aws = partial(aws, seconds=_TIMEOUT)


# For what a server says at once: a busy machine takes long to import a library.
_PATIENT: Final = 30.0
_OPENED_PATIENTLY: Final[dict[str, Callable[..., Any]]] = {
    "vault": partial(vault, seconds=_PATIENT, token=_TOKEN),
    "aws": partial(aws, seconds=_PATIENT),
}
_OPENED: Final[dict[str, Callable[[int], Any]]] = {"vault": _vault, "aws": _aws}
_CREDENTIAL: Final = Credential(username="app", password=Secret(_PASSWORD))
_CALLS: Final[dict[str, Callable[[Any], object]]] = {
    "current": lambda backend: backend.current("p"),
    "previous": lambda backend: backend.previous("p"),
    "read": lambda backend: backend.read("p", "1" * (32 if isinstance(backend, AwsBackend) else 1)),
    "staged": lambda backend: backend.staged("p", "r1"),
    "stage": lambda backend: backend.stage("p", "r1", _CREDENTIAL),
    "publish": lambda backend: backend.publish("p", "r1", expect=None),
    "discard": lambda backend: backend.discard("p", "r1"),
    "restore": lambda backend: backend.restore("p", expect="2", to="1"),
    "get_value": lambda backend: backend.get_value("p", "f"),
    "put_value": lambda backend: backend.put_value("p", "f", Secret(_PASSWORD)),
    "rotation_ids": lambda backend: backend.rotation_ids("p"),
    "examine": lambda backend: backend.examine({"p": timedelta(days=1)}),
}


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("opened", _OPENED)
def test_a_call_ends_within_its_time_and_memory_whatever_answers(opened: str, kind: str):
    """A read, and a write whose value it may echo."""
    with HostileServer(HTTP[kind]) as server:
        backend = _OPENED[opened](server.port)
        for name in ("current", "put_value") if kind == "echoes" else ("current",):
            with within(seconds=_TIMEOUT), pytest.raises(StepError) as raised:
                _ = _CALLS[name](backend)
            said = "".join(traceback.format_exception(raised.value))
            assert _TOKEN not in said
            assert _PASSWORD not in said
        backend.close()


# -- answers of the wrong shape -----------------------------------------------------------------

_ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    [],
    {},
    "",
    "text",
    -1,
    10**30,
    1e300,
    [{}],
    {"": {}},
    "\x00",
)
_GOOD: Final[dict[str, Any]] = {
    "data": {
        "data": {"username": "app", "password": "x", "rotator_rotation_id": "r1"},
        "metadata": {"version": 1, "created_time": "2026-01-01T00:00:00Z", "deletion_time": ""},
        "keys": ["r1"],
        "type": "kv",
        "options": {"version": "2"},
        "versions": {"1": {}},
        "version": 1,
        "policies": ["root"],
        "ttl": 60,
        "secret/data/p": ["read"],
    },
    "server_time_utc": 1_790_000_000,
    "errors": ["permission denied"],
    "VersionId": "1" * 32,
    "ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:p",
    "Name": "p",
    "SecretString": '{"username": "app", "password": "x"}',
    "VersionStages": ["AWSCURRENT", "ROTATOR_PENDING_r1"],
    "VersionIdsToStages": {"1" * 32: ["AWSCURRENT"]},
    "CreatedDate": 1_790_000_000.5,
    "RotationEnabled": False,
}


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the parts of a structure are, itself first."""
    below = data.items() if isinstance(data, dict) else ()
    below = enumerate(data) if isinstance(data, list) else below
    return [path, *(place for key, value in below for place in _places(value, (*path, key)))]


_PLACES: Final = _places(_GOOD)


def _forged(place: tuple[Any, ...], value: Any) -> Any:
    """Return the good answer with another value at one place."""
    if not place:
        return value
    made = json.loads(json.dumps(_GOOD))
    below = made
    for key in place[:-1]:
        below = below[key]
    below[place[-1]] = value
    return made


@pytest.mark.parametrize("opened", _OPENED)
def test_a_forged_answer_ends_in_a_value_or_in_one_of_our_errors(opened: str):
    """Each part of an answer in turn is something else; `make fuzz` tries all in each call."""
    answer = [b""]
    with HostileServer(lambda _: iter(saying(answer[0])(b""))) as server:
        backend = _OPENED[opened](server.port)
        for place, odd, name in zip(_PLACES, cycle(_ODD), cycle(_CALLS), strict=False):
            answer[0] = http_answer(json.dumps(_forged(place, odd)).encode())
            with suppress(StepError):
                _ = _CALLS[name](backend)
        backend.close()


@pytest.mark.parametrize("opened", _OPENED)
def test_a_page_of_a_proxy_is_no_answer_and_names_the_remedy(opened: str):
    """With a status of success: nothing of the page is repeated."""
    script = http_saying(b"<html>please log in</html>", "200 OK", "Content-Type: text/html")
    with HostileServer(script) as server:
        backend = _OPENED_PATIENTLY[opened](server.port)
        with pytest.raises(Unavailable, match="a response that is not from") as raised:
            backend.current("p")
        assert "proxy" in raised.value.hint
        assert "html" not in str(raised.value)
        backend.close()


def test_a_value_that_is_too_deep_concerns_its_own_path_only():
    """The rest of the Vault can be used: no other secret waits."""
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    answer = _forged(("data", "data", "more"), deep)
    with HostileServer(http_saying(json.dumps(answer).encode())) as server:
        backend = _OPENED_PATIENTLY["vault"](server.port)
        backend._checked = True
        with pytest.raises(Denied, match=r"at 'secret/data/p' is unreadable"):
            backend.current("p")
        backend.close()


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "a\x00", "ünï", "\ud800"])
def test_a_token_that_no_header_may_hold_is_refused_and_not_repeated(token: str):
    """Something else lies where the token is kept; nothing is sent."""
    with HostileServer(http_saying(b"{}")) as server:
        backend = _vault(server.port, token=token)
        with pytest.raises(Unavailable, match="invalid in a token") as raised:
            backend.current("p")
        said = "".join(traceback.format_exception(raised.value, chain=True))
        assert not server.received
        assert len(token) < 3 or token.encode(errors="replace").decode() not in said
        backend.close()


# -- redirects ----------------------------------------------------------------------------------

_LEADS: Final = (
    "http://127.0.0.1:{trap}/v1/x",
    "http://localhost:{trap}/v1/x",
    "//127.0.0.1:{trap}/v1/x",
    "HTTP://127.0.0.1:{trap}/v1/x",
    "http://127.0.0.1:{own}@127.0.0.1:{trap}/v1/x",
    "http://127.0.0.1:{trap}#@127.0.0.1:{own}/",
    "http://127.0.0.1:{trap}\\@127.0.0.1:{own}/",
    "https://127.0.0.1:{trap}/v1/x",
    "https://127.0.0.1:{own}/v1/x",
    "http://[::1]:{trap}/",
    "http://[::1/",
    "http://127.0.0.1:99999999/",
    "ftp://127.0.0.1:{trap}/",
    "file:///etc/passwd",
    "\xff\xfe",
    " http://127.0.0.1:{trap}/",
)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("opened", _OPENED)
def test_no_redirect_leads_to_a_place_that_was_not_named(opened: str, status: int):
    """Another port, host, scheme or user: nothing arrives there, for a read and a write."""
    lead = [b""]
    with (
        HostileServer(http_saying(b"{}")) as trap,
        HostileServer(lambda _: iter(saying(lead[0])(b""))) as server,
    ):
        backend = _OPENED[opened](server.port)
        for text in _LEADS:
            head = f"HTTP/1.1 {status} Elsewhere\r\nContent-Length: 2\r\nLocation: "
            location = text.format(trap=trap.port, own=server.port)
            lead[0] = f"{head}{location}\r\n\r\n{{}}".encode("latin-1")
            for name in ("current", "put_value"):
                with pytest.raises(StepError):
                    _ = _CALLS[name](backend)
        assert trap.received == []
        backend.close()


def test_a_redirect_is_followed_to_a_node_that_is_named():
    """A standby leads to the active node, with the method, the token and the body."""
    answer = json.dumps(_GOOD).encode()
    with HostileServer(http_saying(answer)) as active:
        location = f"Location: http://127.0.0.1:{active.port}/v1/there"
        standby = http_saying(b"", "307 Temporary Redirect", location)
        with HostileServer(standby) as server:
            backend = _OPENED_PATIENTLY["vault"](server.port, nodes=(f"127.0.0.1:{active.port}",))
            backend.put_value("p", "f", Secret("x"))
            backend.close()
            stranger = _OPENED_PATIENTLY["vault"](server.port)
            with pytest.raises(Foreign, match="redirects to a host") as raised:
                stranger.current("p")
            assert "`nodes`" in raised.value.hint
            stranger.close()
    sent = b"".join(active.received)
    assert sent.startswith(b"GET ")
    assert b"PUT /v1/there" in sent or b"POST /v1/there" in sent
    assert _TOKEN.encode() in sent


# -- JSON that others wrote ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "null",
        "1",
        '"{}"',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"\\uDFFF": 1}',
        '{"a": %s}' % ("9" * 5_000),
        '{"a": 1} x',
        b'{"a": "\xff"}',
        b"\xff\xfe",
    ],
)
def test_json_that_is_no_object_is_refused_and_not_repeated(text: str | bytes):
    """Also numbers that are none, and characters that cannot be written."""
    with pytest.raises(ValueError, match="it is not") as raised:
        _ = json_object(text)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{{"a":{}0{}}}'.format("[" * 65, "]" * 65),
        '{"a":[%s0]}' % ("0," * 200_001),
        '{"a":"' + "[" * 300_000,
    ],
)
def test_json_that_is_too_deep_or_has_too_many_parts_is_refused(text: str):
    """Before it takes memory; the last one is a text that never ends."""
    with pytest.raises(ValueError, match="it ") as raised:
        _ = json_object(text)
    assert isinstance(raised.value, TooLarge) or text.endswith("[")


def test_json_with_long_texts_and_moderate_depth_is_read():
    """Commas and brackets in a text are no parts."""
    text = "a,[{\\" * 100_000
    deep = json.dumps({"a": json.loads("[" * 60 + "]" * 60), "b": text, "c": "\U0001f600"})
    found = json_object(deep.encode())
    assert found["b"] == text
    assert found["c"] == "\U0001f600"


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=9),
            lambda below: (
                st.lists(below, max_size=3)
                | st.dictionaries(st.text(max_size=5), below, max_size=3)
            ),
            max_leaves=9,
        ),
        max_size=4,
    )
)
@settings(max_examples=20, deadline=None)
def test_any_json_object_is_read_as_it_was_written(data: dict[str, Any]):
    """With and without escapes."""
    try:
        _ = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert json_object(json.dumps(data)) == data
    assert json_object(json.dumps(data, ensure_ascii=False).encode()) == data
