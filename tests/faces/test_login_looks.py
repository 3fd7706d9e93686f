"""The daemon's daily look at the logins of each target."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rotator.core.errors import Transient, UsageError
from rotator.faces.login_looks import LoginLooks
from rotator.testing.fakes import ListLog, ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rotator.core.errors import RotatorError


@dataclass(slots=True)
class _App:
    clock: ManualClock = field(default_factory=ManualClock)
    seen: dict[str, datetime] = field(default_factory=dict)
    looks: list[str] = field(default_factory=list)
    fails: dict[str, RotatorError] = field(default_factory=dict)

    def discover(self, target: str) -> Sequence[object]:
        self.looks.append(target)
        if target in self.fails:
            raise self.fails[target]
        self.seen[target] = self.clock.now()
        return ()

    def looked_at(self, target: str) -> datetime | None:
        return self.seen.get(target)


def _looking(log: ListLog | None = None) -> LoginLooks:
    return LoginLooks(log or ListLog(), lambda: False)


def test_each_target_is_looked_at_once_a_day():
    """However often the daemon asks."""
    app = _App()
    looks = _looking()
    for _ in range(3 * 24):
        looks.look(app, ["main", "other"], ())
        app.clock.advance(timedelta(hours=1))
    assert app.looks == ["main", "other"] * 3


def test_a_look_by_another_process_counts():
    """Such as that of `rotator discover`, or of a second daemon."""
    app = _App()
    app.seen["main"] = app.clock.now() - timedelta(hours=3)
    _looking().look(app, ["main"], ())
    assert app.looks == []


def test_a_failed_look_is_logged_and_tried_again_after_an_hour():
    """The other targets are looked at all the same."""
    app, log = _App(), ListLog()
    app.fails["main"] = Transient("target main cannot be reached.")
    looks = _looking(log)
    for _ in range(4):
        looks.look(app, ["main", "other"], ())
        app.clock.advance(timedelta(minutes=30))
    assert app.looks == ["main", "other", "main"]
    assert "cannot be reached" in str(log.lines)


def test_a_target_that_cannot_list_its_logins_is_left_alone_for_a_day():
    app = _App()
    app.fails["file"] = UsageError("the plugin `file` cannot list the logins of a target.")
    looks = _looking()
    for _ in range(25):
        looks.look(app, ["file"], ())
        app.clock.advance(timedelta(hours=1))
    assert app.looks == ["file", "file"]


def test_a_target_that_is_unavailable_is_left_alone():
    """Until the daemon reaches it again."""
    app = _App()
    looks = _looking()
    looks.look(app, ["main"], {"target main"})
    assert app.looks == []
    looks.look(app, ["main"], ())
    assert app.looks == ["main"]
