"""A secret as AWS holds it now, and the invocation that works on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.backends.aws.backend import CURRENT, PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.model import Version
    from rotator.core.ports import Clock
    from rotator.faces.aws_lambda.secret_json import Described
    from rotator.faces.aws_lambda.state_tag import StateTag
    from rotator.journal.log import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSecret:
    """A secret, its labels and its tags. `state`: only where tags are the function's memory."""

    arn: str
    name: str
    stages: Mapping[str, list[str]]
    current: Version
    head: Head | None
    state: StateTag | None
    about: Described

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
