"""Marks errors with where they came from: whoever holds back work must know which host is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from rotator.core.errors import RotatorError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Marked:
    """Passes every call on."""

    __slots__ = ("_inner", "_origin")

    def __init__(self, inner: object, origin: str) -> None:
        self._inner: object = inner
        self._origin: str = origin

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._inner, name)
        if not callable(found):
            return found
        call: Callable[..., object] = found

        def marked(*args: object, **given: object) -> object:
            try:
                return call(*args, **given)
            except RotatorError as error:
                error.origin = error.origin or self._origin
                raise

        return marked


def marked(inner: T, origin: str) -> T:
    """Return `inner` with every error that comes out of it marked as from `origin`.

    `origin` is `target NAME` or `backend NAME`. Ask `inner` itself what it is able to do.
    """
    return cast("T", _Marked(inner, origin))
