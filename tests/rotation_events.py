"""Events of one rotation, for tests of what decides by them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rotator.core.model import Event
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from rotator.core.model import Json, Kind, Step


def step_event(of: Kind, step: Step | None = None, at: float = 0, /, **data: Json) -> Event:
    """Return an event `at` seconds after the start."""
    return Event(
        secret="app",
        seq=1,
        at=START + timedelta(seconds=at),
        actor="test",
        fence=1,
        kind=of,
        rotation_id="r",
        step=step,
        data=data,
        prev_hash="",
        hash="",
    )
