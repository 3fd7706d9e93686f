"""What is known, before the first statement, to make a rotation fail: its cause and its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.api import Denied

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One reason not to begin. `remedy` is SQL or a line of configuration that can be pasted."""

    kind: str
    cause: str
    remedy: str


def require_none(where: str, obstacles: Sequence[Obstacle]) -> None:
    """Raise `Denied` with every cause and every remedy, unless there is none."""
    if obstacles:
        causes = "; ".join(f"{one.kind}: {one.cause}" for one in obstacles)
        remedies = dict.fromkeys(one.remedy for one in obstacles)
        raise Denied(
            f"{where}: this rotation could not be completed, so rotator sent nothing: {causes}.",
            hint=" ".join(remedies),
        )
