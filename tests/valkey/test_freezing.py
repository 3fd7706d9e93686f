"""A step is over only when the server cannot act on it any more: each command is frozen, and thawed later."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rotations.valkey.wire import WireConnection
from rotator.api import Credential, Secret, StepError
from rotator.system import SystemClock
from rotator.testing.crash import explore_frozen, scenarios
from rotator.testing.fakes import step_context
from rotator.testing.holding_proxy import HoldingProxy
from tests.sampling import sampled
from tests.valkey.harness import Harness
from tests.valkey.sandboxes import STRATEGIES, effects, sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.testing.crash import Effects, Hold
    from tests.servers.valkey import ScratchValkey


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Make every command of the plugin's admin a point of its own."""
    tapped = effects()
    monkeypatch.setattr(WireConnection, "call", tapped.through(WireConnection.call))
    return tapped


@contextmanager
def _silent_proxy(server: ScratchValkey) -> Generator[tuple[int, Hold]]:
    """Keep back what the client sends, and deliver it once the client is gone."""
    with HoldingProxy(server.host, server.port) as proxy:

        def hold(link: WireConnection) -> Callable[[], None]:
            return proxy.hold(int(link.address.rpartition(":")[2]))

        yield proxy.port, hold


_SCENARIOS = ("rotation", "rollback before publish")


def _explore(
    server: ScratchValkey,
    strategy: str,
    name: str,
    commands: Effects,
    sample: int | None,
) -> None:
    with (
        _silent_proxy(server) as (port, hold),
        sandboxes([server], strategy, commands, port=port) as make,
    ):
        scenario = next(one for one in scenarios(make) if one.name == name)
        report = explore_frozen(scenario, commands, hold, sample=sample, step_seconds=1.5)
    assert not report.violations, str(report)
    assert report.runs >= 1


@pytest.mark.parametrize("strategy", sampled(STRATEGIES, of=2))
def test_a_command_frozen_on_the_server_breaks_no_promise(
    server: ScratchValkey, strategy: str, commands: Effects
):
    """A sample: the client gives up, and the server goes on at a later moment."""
    _explore(server, strategy, "rotation", commands, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", _SCENARIOS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_command_frozen_at_any_point_breaks_a_promise(
    server: ScratchValkey, strategy: str, name: str, commands: Effects
):
    """Every command, thawed at every later call of the engine."""
    _explore(server, strategy, name, commands, sample=None)


def test_a_command_that_was_given_up_is_never_done_late(harness: Harness):
    """It waits in a proxy, its client gone; the next connection ends the server's side before it looks."""
    (server,) = harness.servers
    with HoldingProxy(server.host, server.port) as proxy:
        secret = harness.secret("dual-password", port=proxy.port)
        harness.adopt(secret)
        current = harness.serves(secret)
        ctx = step_context(current=current, adopted=frozenset({harness.name}), timeout=1.0)
        late = Credential(username=harness.name, password=Secret("this-comes-too-late"))
        assert secret.rotation.probe(current, ctx)
        real, thaws = WireConnection.call, list[Any]()

        def call(link: WireConnection, *command: Any) -> Any:
            if command[:2] == ("ACL", "SETUSER") and not thaws:
                thaws.append(proxy.hold(int(link.address.rpartition(":")[2])))
            return real(link, *command)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WireConnection, "call", call)
            with pytest.raises(StepError):
                secret.rotation.create(late, ctx)
        secret.rotation.withdraw(late, step_context(current=current, adopted=ctx.adopted))
        thaws[0]()
        assert server.lets_in(harness.name, current.password.reveal())
        assert not server.lets_in(harness.name, "this-comes-too-late")


@pytest.mark.parametrize("trouble", ["frozen", "clients are paused"])
@pytest.mark.parametrize("call", ["probe", "create", "verify", "revoke", "withdraw", "sessions"])
def test_every_call_keeps_the_step_s_time(harness: Harness, trouble: str, call: str):
    """To within a second, with a real clock, whatever the server is busy with."""
    (server,) = harness.servers
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    current = harness.serves(secret)
    rotation: Any = secret.rotation
    ctx = step_context(
        current=current, adopted=frozenset({harness.name}), timeout=0.6, clock=SystemClock()
    )
    new = rotation.propose(current, ctx)
    do: dict[str, Callable[[], object]] = {
        "probe": lambda: rotation.probe(current, ctx),
        "create": lambda: rotation.create(new, ctx),
        "verify": lambda: rotation.verify(new, ctx),
        "revoke": lambda: rotation.revoke(new, ctx),
        "withdraw": lambda: rotation.withdraw(new, ctx),
        "sessions": lambda: rotation.sessions(harness.name, ctx),
    }
    with _TROUBLES[trouble](server):
        begun = time.monotonic()
        with pytest.raises(StepError) as raised:
            do[call]()
        took = time.monotonic() - begun
    assert took < 0.6 + 0.5
    assert "did not answer in time" in str(raised.value)
    assert "CLIENT PAUSE" in raised.value.hint


@contextmanager
def _frozen(server: ScratchValkey) -> Generator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def _paused(server: ScratchValkey) -> Generator[None]:
    # Nobody can end it before: CLIENT UNPAUSE is a command that waits, too.
    server.run("CLIENT PAUSE", "1500", "ALL")
    yield
    server.run("PING")


_TROUBLES = {"frozen": _frozen, "clients are paused": _paused}
