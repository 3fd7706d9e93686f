"""Help without Python's type names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlainCommand(TyperCommand):
    """A command whose help shows what its options call their values, and nothing for flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return its arguments and options."""
        return _plain(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> Any:
        """Return its options."""
        return _plain(super().get_params(ctx))


def _plain(parameters: Iterable[Any]) -> list[Any]:
    found = list(parameters)
    for one in found:
        shown = "" if one.param_type_name == "argument" else one.metavar or ""
        # Where typer asks what to show, since 0.27; older versions show words.
        one.display_type_rich = functools.partial(_shown, shown)
    return found


def _shown(text: str, ctx: object) -> str:
    _ = ctx
    return text
