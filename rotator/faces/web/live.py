"""Tells pages by server-sent events that the journal has something new."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException

from rotator.faces.web.pages import actor_of, console_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from rotator.faces.web.console import Console
    from rotator.faces.web.sessions import Principal

_LOOK_EVERY: Final = 0.25
_PING_EVERY: Final = 20
_MOST_OF_ONE: Final = 12
_MOST: Final = 500


class Streams:
    """The open streams, by who reads them."""

    def __init__(self) -> None:
        """None is open."""
        self._open: Counter[str] = Counter()

    async def events(self, request: Request) -> Response:
        """Stream an event after each change, until the session ends."""
        subject = actor_of(request).subject
        if self._open[subject] >= _MOST_OF_ONE or self._open.total() >= _MOST:
            raise HTTPException(429)
        return EventSourceResponse(
            self._stream(console_of(request), request.scope["principal"], subject),
            ping=_PING_EVERY,
        )

    async def _stream(
        self, console: Console, principal: Principal, subject: str
    ) -> AsyncIterator[dict[str, Any]]:
        self._open[subject] += 1
        try:
            # A page that has waited for its connection may have missed something.
            seen = -1
            while principal.expires is None or principal.expires > console.clock.now():
                number = console.view.number
                if number != seen:
                    event = "journal" if seen >= 0 else "ready"
                    seen = number
                    yield {"event": event, "data": str(number), "id": str(number)}
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            self._open[subject] -= 1
