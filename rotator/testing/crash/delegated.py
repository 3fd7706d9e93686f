"""What is done to a secret that another system rotates, while we crash."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rotator.testing.crash.process import Process
from rotator.testing.crash.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.crash.sandbox import Sandbox


def delegated_scenarios(make_sandbox: Callable[[], Sandbox]) -> list[Scenario]:
    """Return every scenario of such a secret that this sandbox has the abilities for."""
    sandbox = make_sandbox()
    adopted = (_adopt,)
    found = [
        Scenario(name="first request", make_sandbox=make_sandbox, act=Process.rotate),
        Scenario(name="request", make_sandbox=make_sandbox, prepare=adopted, act=Process.rotate),
        Scenario(name="adoption", make_sandbox=make_sandbox, act=_adopt),
        Scenario(
            name="request that waits inside the call",
            make_sandbox=make_sandbox,
            prepare=adopted,
            act=_rotate_patiently,
        ),
    ]
    if sandbox.lose_password is not None:
        found.append(
            Scenario(
                name="request for a password that was lost",
                make_sandbox=make_sandbox,
                prepare=(_adopt, _lose),
                act=Process.rotate,
            )
        )
    if sandbox.rotate_by_itself is not None:
        by_itself = Scenario(
            name="request after a rotation that nobody asked for",
            make_sandbox=make_sandbox,
            prepare=(_adopt, _by_itself),
            act=Process.rotate,
        )
        looked = Scenario(
            name="look at a rotation that nobody asked for",
            make_sandbox=make_sandbox,
            prepare=(_adopt, _by_itself),
            act=Process.check,
        )
        found += [by_itself, looked]
    if sandbox.refuse_next is not None:
        found.append(
            Scenario(
                name="request whose password is refused",
                make_sandbox=make_sandbox,
                prepare=(_adopt, _refuse_next),
                act=Process.rotate,
            )
        )
    return found


def _adopt(process: Process) -> None:
    process.engine.adopt(process.secret)


def _rotate_patiently(process: Process) -> None:
    process.finish(process.engine.rotate(process.secret, patience=timedelta(hours=1)))


def _lose(process: Process) -> None:
    assert process.sandbox.lose_password is not None
    process.sandbox.lose_password()


def _by_itself(process: Process) -> None:
    assert process.sandbox.rotate_by_itself is not None
    process.sandbox.rotate_by_itself()


def _refuse_next(process: Process) -> None:
    assert process.sandbox.refuse_next is not None
    process.sandbox.refuse_next()
