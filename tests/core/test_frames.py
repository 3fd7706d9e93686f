"""What stays in the frames behind an error: nothing that is secret, once it has crossed a border."""

from __future__ import annotations

import socket
import threading
import traceback
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from rotator.api import Credential, RotatorError, Secret, StepError
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.core.errors import JournalError
from rotator.core.traceback_frames import forget_variables
from rotator.dispatch.job_queue import Queue
from rotator.engine.error_origin import tag_errors
from rotator.faces import aws_lambda
from rotator.faces.cli import command
from rotator.faces.cli.invocation import Invocation, SharedOptions
from rotator.faces.cli.render.console import Screen
from rotator.faces.service import _bordered
from rotator.journal.sql import SqlJournal
from rotator.plugins import rotation_plugin
from rotator.references import Resolver
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from rotator.testing.frames import secrets_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CANARY = "canary-Zq9-5f0c"


def _fail() -> NoReturn:
    password = _CANARY
    try:
        _connect(password)
    except ValueError as error:
        raise StepError("it failed.") from error


def _connect(conninfo: str) -> None:
    msg = "no"
    raise ValueError(msg, len(conninfo))


# -- forgetting ----------------------------------------------------------------------------------


def _caused() -> BaseException:
    with pytest.raises(StepError) as raised:
        _fail()
    return raised.value


def _fail_twice() -> NoReturn:
    try:
        _fail()
    finally:
        raise KeyError


def _in_a_context() -> BaseException:
    with pytest.raises(KeyError) as raised:
        _fail_twice()
    return raised.value


def _in_a_group() -> BaseException:
    return ExceptionGroup("several", [ValueError("one"), _caused()])  # type: ignore[list-item]


@pytest.mark.parametrize("make", [_caused, _in_a_context, _in_a_group])
def test_variables_are_forgotten_and_lines_are_kept(make: Callable[[], BaseException]):
    """Behind the error, its causes, and what was being handled when it came."""
    error = make()
    assert secrets_behind(error, [_CANARY])
    before = traceback.format_exception(error)
    forget_variables(error)
    assert secrets_behind(error, [_CANARY]) == []
    assert traceback.format_exception(error) == before


def test_an_error_that_is_its_own_cause_ends_the_walk_over_its_frames():
    """Chains of errors may go round."""
    error = _caused()
    assert error.__cause__ is not None
    error.__cause__.__context__ = error
    forget_variables(error)
    assert secrets_behind(error, [_CANARY]) == []


# -- borders -------------------------------------------------------------------------------------


class _Adapter:
    """Replaces a plugin or a backend."""

    current = staticmethod(_fail)

    def strange(self) -> NoReturn:
        password = _CANARY
        raise ZeroDivisionError(len(password))


@pytest.mark.parametrize("method", ["current", "strange"])
def test_nothing_leaves_a_plugin_or_backend_with_an_error(method: str):
    """Whether the error is ours or a bug's."""
    with pytest.raises((StepError, ZeroDivisionError)) as raised:
        getattr(tag_errors(_Adapter(), "backend local"), method)()
    assert secrets_behind(raised.value, [_CANARY]) == []


def test_nothing_leaves_a_command_with_an_error(monkeypatch: pytest.MonkeyPatch):
    """Its report is made once the variables are gone."""
    seen: list[BaseException] = []
    monkeypatch.setattr(Invocation, "fail", lambda _call, error, **_: seen.append(error))
    monkeypatch.setattr(command, "forbid_dumps", lambda: None)
    shared = SharedOptions(log_level="off")
    call = Invocation(command="rotate", shared=shared, screen=Screen())
    command.carry_out(call, _fail)
    (error,) = seen
    assert secrets_behind(error, [_CANARY]) == []


@pytest.mark.parametrize("face", ["handler", "sweep"])
def test_nothing_leaves_a_rotation_function_with_an_error(
    face: str, monkeypatch: pytest.MonkeyPatch
):
    """AWS's runtime client, and what is layered over it, see the error as it is raised."""
    monkeypatch.setattr(aws_lambda, "function", _fail)
    with pytest.raises(StepError) as raised:
        getattr(aws_lambda, face)({}, None)
    assert secrets_behind(raised.value, [_CANARY]) == []


def test_nothing_leaves_what_a_daemon_does_again_and_again_with_an_error():
    """APScheduler logs it."""
    with pytest.raises(StepError) as raised:
        _bordered(_fail)()
    assert secrets_behind(raised.value, [_CANARY]) == []


# -- what every adapter does with peers that fail ------------------------------------------------

_ANSWERS = {
    "closed": None,
    "hangs up": b"",
    "talks nonsense": b"\x01\x02garbage\r\n\r\n" * 8,
    "refuses": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "fails": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
}


def _serve(listening: socket.socket, answer: bytes) -> None:
    with suppress(OSError):
        while True:
            link, _ = listening.accept()
            with closing(link), suppress(OSError):
                if answer:
                    link.settimeout(5)
                    # PostgreSQL, Valkey and HTTP clients speak first, MySQL's wait.
                    if not answer.startswith(b"\x01"):
                        _ = link.recv(65536)
                    link.sendall(answer)


@pytest.fixture(params=_ANSWERS)
def http_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A peer on loopback that is no use, also one that speaks HTTP."""
    yield from _port(_ANSWERS[request.param])


@pytest.fixture(params=["closed", "hangs up", "talks nonsense"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A peer on loopback that is no use."""
    yield from _port(_ANSWERS[request.param])


def _port(answer: bytes | None) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = listening.getsockname()[1]
        if answer is None:
            listening.close()
            yield found
            return
        thread = threading.Thread(target=_serve, args=(listening, answer), daemon=True)
        thread.start()
        yield found
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _secret(name: str) -> Secret:
    return Secret(f"{_CANARY}-{name}")


def _credential(name: str) -> Credential:
    return Credential(username=name, password=_secret(name), fields={})


def _rotation(name: str, port: int) -> tuple[Any, Any]:
    plugin: Any = rotation_plugin(name)
    target = plugin.target(
        "main",
        plugin.info.target_options(host="127.0.0.1", port=port),
        lambda: _credential("admin"),
    )
    options = {} if name == "postgresql" else {"username": "app"}
    return target, target.rotation("single-user", plugin.info.secret_options(**options))


_OF_ROTATIONS: dict[str, Callable[[Any], object]] = {
    "probe": lambda one: one.probe(_credential("app"), step_context()),
    "create": lambda one: one.create(
        _credential("app"), step_context(current=_credential("app"), timeout=2)
    ),
    "verify": lambda one: one.verify(_credential("app"), step_context(timeout=2)),
    "revoke": lambda one: one.revoke(
        _credential("old"), step_context(current=_credential("app"), timeout=2)
    ),
    "withdraw": lambda one: one.withdraw(
        _credential("app"), step_context(current=_credential("old"), timeout=2)
    ),
    "examine": lambda one: one.examine(_credential("app"), step_context(timeout=2)),
}
_OF_BACKENDS: dict[str, Callable[[Any], object]] = {
    "current": lambda one: one.current("apps/app"),
    "read": lambda one: one.read("apps/app", "1"),
    "staged": lambda one: one.staged("apps/app", "r1"),
    "stage": lambda one: one.stage("apps/app", "r1", _credential("app")),
    "publish": lambda one: one.publish("apps/app", "r1", expect=None),
    "restore": lambda one: one.restore("apps/app", expect="2", to="1"),
    "put_value": lambda one: one.put_value("keys", "signing", _secret("signing")),
}


def _provoke(one: object, calls: dict[str, Callable[[Any], object]]) -> None:
    errors: dict[str, Exception] = {}
    for name, call in calls.items():
        try:
            call(tag_errors(one, "it"))
        except Exception as error:  # noqa: BLE001 # of any kind
            errors[name] = error
    assert errors
    shown = {name: secrets_behind(one, [_CANARY]) for name, one in errors.items()}
    assert shown == {name: [] for name in errors}


@pytest.mark.parametrize("name", ["postgresql", "mysql", "valkey"])
def test_no_frame_behind_an_error_of_a_plugin_holds_a_password(name: str, port: int):
    """Neither the admin's nor the application's, whichever way the target fails."""
    target, rotation = _rotation(name, port)
    _provoke(rotation, _OF_ROTATIONS)
    target.close()


def test_no_frame_behind_an_error_of_vault_holds_a_token(http_port: int):
    """Nor the values that were sent."""
    options = VaultOptions(address=f"http://127.0.0.1:{http_port}", timeout=timedelta(seconds=1))
    session = VaultClient(options, lambda _reference: _secret("token"))
    _provoke(VaultBackend("vault", options, session), _OF_BACKENDS)


def test_no_frame_behind_an_error_of_aws_holds_a_key(
    http_port: int, monkeypatch: pytest.MonkeyPatch
):
    """Nor the values that were sent."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0000000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{_CANARY}-key")
    options = AwsOptions(
        region="eu-central-1",
        endpoint=f"http://127.0.0.1:{http_port}",
        timeout=timedelta(seconds=1),
        attempts=1,
    )
    _provoke(AwsBackend("aws", options, Client(options)), _OF_BACKENDS)


def test_no_frame_behind_an_error_of_the_embedded_backend_holds_a_value(tmp_path: Path):
    """Of a file that was damaged under it."""
    key = new_key()
    backend = LocalBackend("local", tmp_path / "s.db", Keys([key]))
    backend.stage("apps/app", "r1", _credential("app"))
    with backend._writing() as db:
        db.execute("DROP TABLE kept")
    for name, call in _OF_BACKENDS.items():
        with pytest.raises(RotatorError) as raised:
            call(tag_errors(backend, "backend local"))
        assert secrets_behind(raised.value, [_CANARY, key.reveal()]) == [], name
    backend.close()


def test_no_frame_behind_an_error_of_the_journal_holds_its_password(port: int):
    """Which SQLAlchemy and psycopg are given as plain text."""
    with pytest.raises(JournalError) as raised:
        SqlJournal(
            f"postgresql://rotator@127.0.0.1:{port}/audit",
            clock=SystemClock(),
            actor="test",
            password=_secret("journal"),
        )
    assert secrets_behind(raised.value, [_CANARY]) == []


def test_no_frame_behind_an_error_of_the_queue_holds_its_password():
    """It is in the journal's database."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    connecting = {"host": "127.0.0.1", "port": port, "user": "rotator", "connect_timeout": 2}
    queue = Queue({**connecting, "password": f"{_CANARY}-queue"}, "the journal")
    with pytest.raises(JournalError) as raised:
        queue.check()
    assert secrets_behind(raised.value, [_CANARY]) == []
    queue.close()


def test_no_frame_behind_an_error_of_a_reference_holds_what_is_not_utf_8(tmp_path: Path):
    """Nor do the arguments of an error."""
    file = tmp_path / "secret"
    file.write_bytes(b"\xff" + _CANARY.encode())
    file.chmod(0o600)
    with pytest.raises(RotatorError) as raised:
        Resolver(lambda _name: pytest.fail("none"), tmp_path, {}).secret("file:secret")
    assert secrets_behind(raised.value, [_CANARY]) == []
    assert raised.value.__context__ is None
