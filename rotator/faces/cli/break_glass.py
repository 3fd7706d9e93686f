"""Tells everybody that somebody acted without the approvals that rules want."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.daemon_settings import Topic
from rotator.dispatch.worker import notice_of
from rotator.logs import get_log
from rotator.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.bootstrap import App
    from rotator.core.model import Event, Json


class Alarm:
    """Collects the decisions of one command, and sends a notice of each."""

    def __init__(self, observer: Callable[[Event], None] | None) -> None:
        """`observer` gets each event too."""
        self._observer: Callable[[Event], None] | None = observer
        self._notices: list[tuple[str, dict[str, Json]]] = []

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        notice = notice_of(event)
        if notice is not None and notice[0] is Topic.BREAK_GLASS:
            self._notices.append((event.secret, notice[1]))
        if self._observer is not None:
            self._observer(event)

    def send(self, app: App) -> None:
        """Send the notices to the configured channels."""
        if not (self._notices and app.settings.notifications):
            return
        notifier = Notifier(app.settings.notifications, app.resolve, get_log())
        notifier.start()
        for secret, data in self._notices:
            notifier.tell(Topic.BREAK_GLASS, secret, data)
        notifier.close()
