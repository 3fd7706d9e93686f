"""An engine that is cut off from the journal in the middle of a rotation, while another takes over."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import RotatorError
from rotator.core.model import Outcome, Policy
from rotator.core.secret import Secret
from rotator.engine import Engine, ManagedSecret
from rotator.journal import audit
from rotator.journal.sql import SqlJournal
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLICY = Policy(grace=timedelta(0), step_timeout=timedelta(seconds=30))


class Wire:
    """A connection to a server that can be cut: what is sent meanwhile arrives when it is mended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._whole = threading.Event()
        self._whole.set()
        # Whether something was sent while it was cut.
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self._listener.close()
        for one in self._open:
            one.close()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65_536):
                if not self._whole.is_set():
                    self.held.set()
                self._whole.wait()
                other.sendall(content)


class _CutsIn:
    """A rotation that does something just after the effect of one of its methods."""

    def __init__(self, inner: Any, method: str, then: Callable[[], None]) -> None:
        self._inner, self._method, self._then = inner, method, then
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any) -> Any:
            self.calls.append(name)
            answer = found(*args)
            if name == self._method:
                self._then()
            return answer

        return call


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        yield started


@pytest.mark.parametrize("method", ["create", "verify"])
def test_who_was_cut_off_does_nothing_more_and_the_other_ends_the_rotation(
    server: ScratchPostgres, method: str
):
    """Its late word meets a newer fence and is refused; nobody is locked out, the chain is whole."""
    name = f"cut_{method}"
    with server.connect() as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    backend, clock = FakeBackend(), ManualClock()
    target = FakeTarget(stored=backend.holds)
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(server.port))

        def engine(port: int, holder: str, seed: int) -> tuple[Engine, SqlJournal]:
            journal = SqlJournal(
                f"postgresql://postgres@127.0.0.1:{port}/{name}",
                clock=clock,
                actor=holder,
                password=Secret(server.superuser_password),
                upgrade=True,
            )
            stack.callback(journal.close)
            made = Engine(
                journal=journal,
                clock=clock,
                entropy=SeededEntropy(seed),
                log=ListLog(),
                holder=lambda: holder,
            )
            return made, journal

        first, _ = engine(wire.port, "first", 1)
        second, journal = engine(server.port, "second", 2)

        def secret(rotation: Any) -> ManagedSecret:
            return ManagedSecret(
                name="app",
                path="app",
                backend_name="main",
                backend=backend,
                target_name="db",
                rotation=rotation,
                plugin="fake",
                strategy="new-user",
                policy=_POLICY,
            )

        rotation = fake_rotation("new-user", target)
        assert second.rotate(secret(rotation)).outcome is Outcome.DONE
        cut_in = _CutsIn(rotation, method, wire.cut)
        errors: list[RotatorError] = []

        def begin() -> None:
            try:
                first.rotate(secret(cut_in))
            except RotatorError as error:
                errors.append(error)

        thread = threading.Thread(target=begin)
        thread.start()
        # Its event is on the wire. Its lock ends; the other one takes over and ends the rotation.
        assert wire.held.wait(30)
        clock.advance(timedelta(minutes=5))
        done = second.resume(secret(rotation))
        assert done is not None
        assert done.outcome is Outcome.DONE
        before, calls = target.state(), list(cut_in.calls)
        wire.mend()
        thread.join(30)
        assert not thread.is_alive()
        assert [error.kind for error in errors] == ["lock-lost"]
        assert cut_in.calls == calls, "it acted after it had been overtaken"
        assert target.state() == before
        current = backend.current("app")
        assert current is not None
        assert target.accepts(current.credential.username, current.credential.password.reveal())
        assert target.usable() == {current.credential.username}
        assert audit.verify(journal).ok
