"""A report of a journal in a file, after a look at a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rotator.bootstrap import initialise, open_app
from rotator.report.model import Period

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path


class LookedAt:
    """A configuration with one target, which is a real server."""

    def __init__(self, folder: Path, target: Mapping[str, object]) -> None:
        self._config = folder / "rotator.yaml"
        text = {
            "version": 1,
            "journal": {"url": "sqlite:///rotator.db", "signing_key": "local:audit#private_key"},
            "backends": {"local": {"type": "local", "path": "s.db", "key": "file:rotator.key"}},
            "targets": {"main": target},
            "secrets": {},
        }
        initialise(self._config, json.dumps(text))

    def report(self, since: timedelta) -> dict[str, Any]:
        """Look at the server, and return what a report then states."""
        with open_app(self._config, face="test") as app:
            app.discover("main")
            now = app.clock.now()
            period = Period(since=now - since, until=now)
            with app.report(period, targets=app.settings.targets) as report:
                assert report.is_intact
                return report.head
