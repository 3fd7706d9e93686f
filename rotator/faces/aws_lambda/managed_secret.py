"""A secret as AWS holds it now, and the invocation that works on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.backends.aws.aws_driven import PREVIOUS
from rotator.backends.aws.backend import CURRENT, PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.model import Version
    from rotator.core.ports import Clock
    from rotator.faces.aws_lambda.secret_json import Described
    from rotator.faces.aws_lambda.state_tag import Memory, StateTag


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSecret:
    """A secret and its labels. `memory`: what the function knows of its last rotation."""

    arn: str
    name: str
    stages: Mapping[str, list[str]]
    current: Version
    memory: Memory
    about: Described

    @property
    def state(self) -> StateTag | None:
        """The last rotation; None where a database knows it."""
        return self.memory.state

    @property
    def may_be_published(self) -> bool:
        """Whether what the last rotation makes current is current, or was."""
        state = self.state
        if state is None or state.rotation is None:
            return False
        return state.may_be_published or PREVIOUS in self.stages.get(state.rotation, ())

    def pending(self) -> str | None:
        """Return the version to which AWS is rotating it."""
        return pending_version(self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One invocation. `ends`: when it must be over, on the monotonic scale. `request`: its id."""

    ends: float
    request: str
    clock: Clock

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.ends - self.clock.monotonic()


def pending_version(stages: Mapping[str, list[str]], beside: str | None = None) -> str | None:
    """Return the version, another one than `beside`, that is pending and not current."""
    pending = (
        version
        for version, labels in stages.items()
        if version != beside and PENDING in labels and CURRENT not in labels
    )
    return next(pending, None)
