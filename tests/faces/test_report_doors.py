"""Reports of consumers: the daemon and the agent's socket accept and reject the same bodies."""

from __future__ import annotations

import http.client
import json
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rotator.agent.settings import SocketOptions
from rotator.agent.socket_server import SocketServer
from rotator.core.consumers import LONGEST_TEXT, instance_name, parse_reports
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers, _digest
from rotator.faces.http_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROW = {"secret": "shop", "version": "7", "level": "used", "instance": "web-1", "kind": "client"}
_Post = "Callable[[bytes, dict[str, str]], tuple[int, str]]"


class _Sink:
    """Takes what either door lets through."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def report(self, reports) -> set[str]:
        for one in reports:
            row = {key: getattr(one, key) for key in ("secret", "version", "level", "instance")}
            self.rows.append({key: str(value) for key, value in row.items()} | {"kind": one.kind})
        return set()

    def unpublished(self, _named) -> set[tuple[str, str]]:
        return set()

    def acknowledge(self, secret, version, level, *, instance, kind) -> None:
        self.rows.append(
            {"secret": secret, "version": version, "level": level}
            | {"instance": instance, "kind": kind}
        )


@pytest.fixture
def sink() -> _Sink:
    return _Sink()


def _sent(link: http.client.HTTPConnection, body: bytes, headers: dict[str, str]):
    try:
        link.request("POST", "/v1/acknowledgements", body, headers)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    finally:
        link.close()


@pytest.fixture(params=["daemon", "agent"])
def post(request, sink: _Sink, tmp_path: Path, monkeypatch) -> Iterator[Any]:
    if request.param == "daemon":
        consumers = ReportingConsumers(
            by_token={_digest("token"): "web"}, secrets={"web": frozenset({"shop"})}
        )
        reports = ConsumerReports(
            consumers=lambda: consumers,
            registry=lambda: sink,  # pyright: ignore[reportArgumentType]
            on_news=lambda _secrets: None,
        )
        server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
        reports.start()
        server.start()
        yield lambda body, headers: _sent(
            http.client.HTTPConnection(server.address, timeout=10),
            body,
            {"Authorization": "Bearer token", **headers},
        )
        reports.close()
        server.close()
        return
    # The path of a socket is limited to 107 bytes.
    monkeypatch.chdir(tmp_path)
    consumer = SimpleNamespace(credentials={"shop": None}, daemon=sink)
    agent: Any = SimpleNamespace(consumer=consumer)
    with SocketServer(agent, SocketOptions(path=tmp_path / "a.sock")) as door:
        door.start()

        def sent(body: bytes, headers: dict[str, str]) -> tuple[int, str]:
            link = http.client.HTTPConnection("agent", timeout=10)
            link.sock = socket.socket(socket.AF_UNIX)
            link.sock.connect("a.sock")
            return _sent(link, body, headers)

        yield sent
        door.shutdown()


_INVALID = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 10_000, "not JSON"),
    (b"[]", "acknowledgements"),
    (b'"acknowledgements"', "acknowledgements"),
    ({"acknowledgements": {}}, "1 to 1000"),
    ({"acknowledgements": []}, "1 to 1000"),
    ({"acknowledgements": ["x"]}, "acknowledgements[0]: expected an object"),
    ({"acknowledgements": [_ROW, _ROW | {"level": "seen"}]}, "acknowledgements[1].level"),
    ({"acknowledgements": [_ROW | {"level": ["used"]}]}, "acknowledgements[0].level"),
    ({"acknowledgements": [_ROW | {"kind": "robot"}]}, "acknowledgements[0].kind"),
    ({"acknowledgements": [_ROW | {"kind": None}]}, "acknowledgements[0].kind"),
    ({"acknowledgements": [_ROW | {"instance": ""}]}, "acknowledgements[0].instance"),
    ({"acknowledgements": [_ROW | {"instance": "a\nb"}]}, "acknowledgements[0].instance"),
    ({"acknowledgements": [_ROW | {"instance": "x" * 201}]}, "acknowledgements[0].instance"),
    ({"acknowledgements": [_ROW | {"version": 7}]}, "acknowledgements[0].version"),
    ({"acknowledgements": [_ROW | {"secret": "x" * 300}]}, "acknowledgements[0].secret"),
    ({"acknowledgements": [{"secret": "shop"}]}, "acknowledgements[0]."),
]


@pytest.mark.parametrize(("body", "text"), _INVALID)
def test_an_invalid_body_is_rejected_with_its_place(post, sink: _Sink, body, text: str):
    """And nothing of it is taken."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = post(sent, {})
    assert status == 400
    assert text in answer
    assert sink.rows == []


def test_a_list_may_have_a_thousand_rows():
    """One more is rejected, whatever the size of the body that a door reads."""
    rows = [_ROW] * 1000
    assert len(parse_reports(json.dumps({"acknowledgements": rows}).encode(), "web")) == 1000
    with pytest.raises(ValueError, match="1 to 1000"):
        parse_reports(json.dumps({"acknowledgements": [*rows, _ROW]}).encode(), "web")


@pytest.mark.parametrize(
    "row",
    [
        _ROW,
        _ROW | {"instance": "x" * LONGEST_TEXT},
        _ROW | {"instance": "Größe 日本"},
        _ROW | {"kind": "kubernetes", "level": "told"},
        # Of a newer version.
        _ROW | {"since": "2026-11-27", "facts": {"a": [1]}},
    ],
)
def test_a_valid_row_is_taken(post, sink: _Sink, row: dict[str, Any]):
    body = json.dumps({"acknowledgements": [row]}).encode()
    assert post(body, {}) == (204, "")
    assert sink.rows == [{key: row[key] for key in _ROW}]


@pytest.mark.parametrize(
    ("length", "headers"),
    [
        (1_000_001, {}),
        (3_000_000, {}),
        (10, {"Content-Length": "ten"}),
        (10, {"Content-Length": "-1"}),
        (10, {"Content-Length": "9" * 30}),
    ],
)
def test_a_body_without_a_valid_length_is_dropped_and_answered(post, length: int, headers):
    """The client gets the answer also where it is still sending."""
    assert post(b"x" * length, headers)[0] in (400, 413)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("app-1", "/run/shop/db.env"),
        ("app-1", "/run/" + "x" * 300 + "/db.env"),
        ("app-1", "/run/" + "x" * 300 + "/db2.env"),
        ("h" * 64, "/run/a\nb"),
        ("app-1", "/run/\udcff"),
    ],
)
def test_the_name_of_an_instance_fits_the_registry(host: str, path: str):
    """Always the same name, which every door accepts."""
    name = instance_name(host, path)
    assert name == instance_name(host, path)
    body = json.dumps({"acknowledgements": [_ROW | {"instance": name}]}).encode()
    assert parse_reports(body, "web")[0].instance == name
    assert name.startswith(f"{host}:/run/")
    if len(path) < 100 and path.isprintable():
        assert name == f"{host}:{path}"


def test_long_names_of_instances_differ():
    """Also where only what is cut off differs."""
    names = {instance_name("app-1", "/run/" + "x" * 300 + end) for end in "abc"}
    assert len(names) == 3
