"""What a change does to pools of an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rotator.client.credential import Credential
    from rotator.client.login import Login


def on_change_in_loop(
    credential: Credential, react: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Await what `react` returns after each change, in the loop that runs now."""
    loop = asyncio.get_running_loop()

    def changed(_login: Login) -> None:
        if loop.is_closed():
            unsubscribe()
        else:
            _ = asyncio.run_coroutine_threadsafe(react(), loop)

    unsubscribe = credential.on_change(changed)
