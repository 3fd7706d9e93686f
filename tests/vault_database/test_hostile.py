"""An engine whose answers are of other kinds than they must be: our errors, and no other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotations.vault_database.engine import Engine
from rotations.vault_database.options import TargetOptions
from rotator.api import RotatorError, ServerResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ODD: Final = (None, True, 5, -5, 10**30, 1.5, "x", "9" * 5_000, [], [None], [[]], {}, {"a": 1})
_CALLS: Final[Mapping[str, Callable[[Engine], object]]] = {
    "keys": lambda engine: engine.roles(),
    "rotation_period": lambda engine: engine.role("r"),
    "rotation_schedule": lambda engine: engine.role("r"),
    "connection_details": lambda engine: engine.root_login("c"),
    "some/path": lambda engine: list(engine.missing({"some/path": ("read",)})),
}


class _Server:
    where: str = "Vault"

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def server(self, _: str) -> _Server:
        return self

    def call(self, *_: Any, **__: Any) -> ServerResponse:
        return ServerResponse(status=200, data=self.data)


@pytest.mark.parametrize("key", _CALLS)
def test_an_answer_of_another_kind_ends_in_a_value_or_in_one_of_our_errors(key: str):
    """Each key in turn is each odd thing."""
    server: Any = _Server()
    engine = Engine("t", TargetOptions(through="vault"))
    engine.use(server)
    for odd in _ODD:
        server.data = {"username": "app", "db_name": "c", key: odd}
        with suppress(RotatorError):
            _ = _CALLS[key](engine)
