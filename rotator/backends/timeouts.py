"""How long a method of a backend may take: no longer than the backend's `timeout` option, as a whole."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class HasLimit(Protocol):
    """A backend with a timeout."""

    def limit(self) -> AbstractContextManager[None]:
        """Let what is called inside take no longer than the timeout."""
        ...


_P = ParamSpec("_P")
_R = TypeVar("_R")
_B = TypeVar("_B", bound=HasLimit)


def within_timeout(method: Callable[Concatenate[_B, _P], _R]) -> Callable[Concatenate[_B, _P], _R]:
    """Let a method that makes several requests take no longer than one of them may."""

    @functools.wraps(method)
    def limited(backend: _B, /, *args: _P.args, **given: _P.kwargs) -> _R:
        with backend.limit():
            return method(backend, *args, **given)

    return limited
