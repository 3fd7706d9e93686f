"""Requests of an operator's own: what is refused when configured, what is sent, and hostile servers."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest

from rotations.http_api import PLUGIN, Request, SecretOptions, TargetOptions
from rotator.api import (
    Conflict,
    Credential,
    Denied,
    Refused,
    Secret,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
)
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from rotator.testing.hostile import HTTP, HostileServer, http_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.api import Rotation, StepContext

_NEW = Credential(username="shop/../x?y#z é", password=Secret("new-Jn27\"\\'%{login}"))
_ADMIN = Credential(username="root", password=Secret("admin-Jn27wq8v"))
_USER = "/users/{login}"
_KEY = {"X-Api-Key": "{admin_password}"}


def _options(**changed: Any) -> TargetOptions:
    given: dict[str, Any] = {
        "url": "http://127.0.0.1:1/api",
        "exists": Request(path=_USER, headers=_KEY, take="mark"),
        "create": (
            Request(
                method="PUT",
                path=_USER,
                headers=_KEY,
                body={"password": "{password}", "tags": ["{mark}", 1, {"role": "{role}"}]},
            ),
        ),
        "revoke": (Request(method="DELETE", path=_USER, headers=_KEY),),
        "test": Request(path="/me", basic=True),
    }
    return TargetOptions(**(given | changed))


def _rotation(strategy: str = "new-user", **changed: Any) -> Rotation:
    secret = changed.pop("secret", {"values": {"role": "reader"}})
    target = PLUGIN.target("main", _options(**changed), lambda: _ADMIN)
    return target.rotation(strategy, SecretOptions(**secret))


def _ctx(seconds: float = 5) -> StepContext:
    ctx = step_context(secret="app")
    return replace(ctx, deadline=ctx.clock.monotonic() + seconds)


def _at(server: HostileServer | _Server, **changed: Any) -> Rotation:
    return _rotation(url=f"http://127.0.0.1:{server.port}/api", **changed)


# -- configured ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"url": "http://api.example.org"}, "must be https"),
        ({"url": "https://root:hunter2xyz@api.example.org"}, "contains a login"),
        ({"url": "https://api.example.org?key=hunter2xyz"}, "without parameters"),
        ({"url": "ftp://api.example.org"}, "http or https"),
        ({"exists": Request(path=_USER)}, "`take`"),
        ({"create": (Request(path=_USER, method="PUT"),)}, "no request of `create`"),
        ({"test": Request(path="/me")}, "neither has `basic: true`"),
        ({"create": (Request(path="/keys", key_value="v"),)}, "needs `key_id`"),
        ({"keys": Request(path="/keys")}, "`keys` has no `take`"),
    ],
)
def test_a_target_that_cannot_work_is_refused(changed: dict[str, Any], shown: str):
    """When the configuration is read, and nothing of a URL is repeated."""
    with pytest.raises(UsageError) as caught:
        _options(**changed)
    assert shown in caught.value.what
    assert "hunter2xyz" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"path": "/login/{password}"}, "contains {password}"),
        ({"path": "/login?key={admin_password}"}, "contains {admin_password}"),
        ({"path": "users"}, "must begin with /"),
        ({"path": "/users HTTP/1.1\r\nX: y"}, "no blank"),
        ({"path": "/users/{Login}"}, "begins no placeholder"),
        ({"path": "/", "headers": {"X": "a\r\nY: b"}}, "invalid name or value"),
        ({"path": "/", "headers": {"X y": "a"}}, "invalid name or value"),
        ({"path": "/", "body": {"text": "user {login}"}}, "inside a longer text"),
        ({"path": "/", "body": {"a": [{"b": "{login}{mark}"}]}}, "inside a longer text"),
    ],
)
def test_a_request_that_cannot_be_sent_safely_is_refused(given: dict[str, Any], shown: str):
    """No secret in a URL, no value inside of another text."""
    with pytest.raises(UsageError) as caught:
        Request(**given)
    assert shown in caught.value.what


@pytest.mark.parametrize(
    ("strategy", "changed", "shown"),
    [
        ("new-user", {"revoke": ()}, "requires `revoke`"),
        ("single-user", {}, "requires `update`"),
        ("new-key", {}, "does not fit `create`"),
        (
            "new-key",
            {"create": (Request(path="/keys", key_id="i", key_value="v"),)},
            "requires `keys`",
        ),
        (
            "new-user",
            {"create": (Request(path="/keys", key_id="i", key_value="v"),)},
            "does not fit `create`",
        ),
        ("new-user", {"secret": {}}, "unknown placeholder {role}"),
        ("new-user", {"test": Request(path="/me", basic=True, headers=_KEY)}, "{admin_password}"),
        ("new-user", {"secret": {"values": {"login": "x"}}}, "must not contain `login`"),
    ],
)
def test_a_strategy_without_its_requests_is_refused(
    strategy: str, changed: dict[str, Any], shown: str
):
    """Before the first rotation."""
    with pytest.raises(UsageError) as caught:
        _rotation(strategy, **changed)
    assert shown in caught.value.what


# -- sent ------------------------------------------------------------------------------------------


class _Recorder(BaseHTTPRequestHandler):
    """Answers that no login exists, and everything else with one status."""

    def handle_any(self) -> None:
        server = cast("_Server", self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.requests.append((self.requestline, dict(self.headers), body))
        is_lookup = self.command == "GET" and "/users/" in self.path
        self.send_response(404 if is_lookup else server.status)
        if server.status < 400:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_PUT = do_DELETE = handle_any  # noqa: N815 # the library's names

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Write nothing."""


class _Server(HTTPServer):
    status: int
    requests: list[tuple[str, dict[str, str], bytes]]

    @property
    def port(self) -> int:
        return self.server_port


@contextmanager
def _answering(status: int, certificates: Path | None = None) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Recorder) as server:
        server.status, server.requests = status, []
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_values_are_sent_as_json_and_never_in_the_url():
    """The login is percent-encoded: it adds no segment and no parameter."""
    with _answering(201) as server:
        _at(server).create(_NEW, _ctx())
    path = "/api/users/shop%2F..%2Fx%3Fy%23z%20%C3%A9"
    lines = [line for line, _, _ in server.requests]
    assert lines == [f"GET {path} HTTP/1.1", f"PUT {path} HTTP/1.1"]
    assert json.loads(server.requests[1][2]) == {
        "password": _NEW.password.reveal(),
        "tags": ["rotator:app", 1, {"role": "reader"}],
    }
    assert [sent["X-Api-Key"] for _, sent, _ in server.requests] == [_ADMIN.password.reveal()] * 2


@pytest.mark.parametrize("slip", ["", "authority", "name", "file"])
def test_a_request_goes_to_a_verified_server_only(tmp_path: Path, slip: str):
    """Not by another authority, and not by a name that its certificate lacks."""
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        make_certificates(tmp_path / folder)
    authority = tmp_path / ("theirs" if slip == "authority" else "ours") / "ca.crt"
    authority = tmp_path / "none.crt" if slip == "file" else authority
    # The same address, by another name.
    host = "127.1" if slip == "name" else "127.0.0.1"
    with _answering(201, tmp_path / "ours") as server:
        rotation = _rotation(url=f"https://{host}:{server.port}/api", ca=authority)
        if slip == "":
            rotation.create(_NEW, _ctx())
            assert len(server.requests) == 2
            return
        kind, shown = (
            (Unavailable, "cannot be read")
            if slip == "file"
            else (Transient, "certificate is invalid")
        )
        with pytest.raises(kind, match=shown) as caught:
            rotation.create(_NEW, _ctx())
    assert "`ca` of target 'main'" in caught.value.hint
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Denied),
        (307, Denied),
        (400, Refused),
        (401, Unavailable),
        (403, Denied),
        (409, Conflict),
        (418, Denied),
        (429, Transient),
        (500, Unknown),
        (503, Transient),
    ],
)
def test_a_status_has_its_kind(status: int, expected: type[StepError]):
    """A redirect is not followed."""
    with _answering(status) as server, pytest.raises(StepError) as caught:
        _at(server).create(_NEW, _ctx())
    assert len(server.requests) == 2
    assert type(caught.value) is expected
    assert "Jn27" not in str(caught.value)


@pytest.mark.parametrize("kind", HTTP)
def test_a_hostile_server_is_an_error_in_time(kind: str):
    """Whatever it does, nothing leaks and nothing hangs."""
    begun = time.monotonic()
    with HostileServer(HTTP[kind]) as server, pytest.raises(StepError) as caught:
        _at(server).create(_NEW, _ctx(0.4))
    assert time.monotonic() - begun < 1.4
    assert "Jn27" not in f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    ("status", "accepted"), [(200, True), (401, False), (403, None), (500, None)]
)
def test_only_a_status_that_means_rejected_is_a_rejection(status: int, accepted: bool | None):  # noqa: FBT001
    """Anything else is unknown."""
    with _answering(status) as server:
        if accepted is None:
            with pytest.raises(Transient, match="unknown"):
                _at(server).probe(_NEW, _ctx())
        else:
            assert _at(server).probe(_NEW, _ctx()) is accepted
    assert server.requests[0][1]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("body", [b'{"mark": "rotator:other"}', b'{"mark": 1}', b"{}", b"[", b""])
def test_a_login_of_somebody_else_is_left_alone(body: bytes):
    """Only its own mark makes it ours."""
    with HostileServer(lambda _: iter([http_answer(body)])) as server:
        with pytest.raises(Conflict):
            _at(server).revoke(_NEW, _ctx())
        assert b"DELETE" not in b"".join(server.received)


def test_doctor_finds_an_api_that_does_not_answer():
    """As a finding, not as an error."""
    [finding] = PLUGIN.target("main", _options(), lambda: _ADMIN).examine(_ctx())
    assert finding.severity == "error"
