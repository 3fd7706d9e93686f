"""What is refused when configured, and hostile servers: without a RabbitMQ."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rotations.rabbitmq import PLUGIN, SecretOptions, TargetOptions
from rotator.api import Credential, Secret, StepError, Transient, Unknown, UsageError
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from rotator.testing.hostile import HTTP, HostileServer, http_answer, within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.api import Rotation, StepContext

_NEW = Credential(username="new", password=Secret("new-Kq83zx"))
_ADMIN = Credential(username="root", password=Secret("admin-Kq83zx"))


def _rotation(**given: Any) -> Rotation:
    target = PLUGIN.target("main", TargetOptions(**given), lambda: _ADMIN)
    return target.rotation("new-user", SecretOptions(like="model"))


def _ctx(seconds: float = 0.4) -> StepContext:
    ctx = step_context(secret="app")
    return replace(ctx, deadline=ctx.clock.monotonic() + seconds)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"url": "http://rabbit.example.org"}, "must be https"),
        ({"url": "https://root:hunter2xyz@rabbit.example.org"}, "contains a login"),
        ({"url": "https://rabbit.example.org", "amqp": "amqp://rabbit.example.org"}, "be amqps"),
        ({"url": "https://rabbit.example.org", "amqp": "amqps://a:hunter2xyz@b"}, "contains a"),
        ({"url": "https://rabbit.example.org", "amqp": "http://b"}, "must be amqps://HOST"),
    ],
)
def test_a_target_that_cannot_work_is_refused(given: dict[str, Any], shown: str):
    """When the configuration is read, and nothing of a URL is repeated."""
    with pytest.raises(UsageError) as caught:
        TargetOptions(**given)
    assert shown in caught.value.what
    assert "hunter2xyz" not in str(caught.value)


def test_logins_are_tried_at_the_host_of_the_api_by_default():
    """With TLS where that has it."""
    assert TargetOptions(url="https://[::1]:15671").amqp_url == "amqps://[::1]"
    assert TargetOptions(url="http://localhost:15672").amqp_url == "amqp://localhost"


@pytest.mark.parametrize("kind", HTTP)
def test_a_hostile_server_is_an_error_in_time(kind: str):
    """The API and the server of the logins: nothing leaks and nothing hangs."""
    with HostileServer(HTTP[kind]) as hostile:
        place = f"127.0.0.1:{hostile.port}"
        rotation = _rotation(url=f"http://{place}", amqp=f"amqp://{place}")
        for act in (rotation.create, rotation.probe):
            with within(seconds=0.4), pytest.raises(StepError) as caught:
                act(_NEW, _ctx())
            assert not isinstance(caught.value, Unknown)
            assert "Kq83" not in f"{caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "body", [b"1", b"[1]", b"{}", b"[[", b'{"tags": 1}', b'{"tags": [], "password_hash": "x"}']
)
def test_an_answer_of_another_form_is_an_error(body: bytes):
    """Whoever answers it is no RabbitMQ; a user without our mark is left alone."""
    with HostileServer(lambda _: iter([http_answer(body)])) as server:
        with pytest.raises(StepError):
            _rotation(url=f"http://127.0.0.1:{server.port}").revoke(_NEW, _ctx(5))
        assert b"DELETE" not in b"".join(server.received)
        assert b"PUT" not in b"".join(server.received)


@pytest.mark.parametrize("slip", ["authority", "name"])
def test_no_password_is_sent_to_a_server_that_is_not_verified(tmp_path: Path, slip: str):
    """Neither with another authority nor by a name that its certificate lacks."""
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        make_certificates(tmp_path / folder)
    authority = tmp_path / ("theirs" if slip == "authority" else "ours") / "ca.crt"
    with _tls_server(tmp_path / "ours") as port:
        host = "127.1" if slip == "name" else "127.0.0.1"
        rotation = _rotation(url="https://127.0.0.1:1", amqp=f"amqps://{host}:{port}", ca=authority)
        with pytest.raises(Transient, match="certificate is invalid"):
            rotation.probe(_NEW, _ctx(5))


@contextmanager
def _tls_server(certificates: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                link, _ = listener.accept()
                with link, context.wrap_socket(link, server_side=True) as wrapped:
                    assert wrapped.recv(100) == b""

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
