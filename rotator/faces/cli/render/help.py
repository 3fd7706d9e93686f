"""Help without Python's type names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlainCommand(TyperCommand):
    """A command whose help shows the metavars of its options, and nothing for flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return its arguments and options."""
        return _plain(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands with the same help."""

    def get_params(self, ctx: Any) -> Any:
        """Return its options."""
        return _plain(super().get_params(ctx))


def _plain(parameters: Iterable[Any]) -> list[Any]:
    plain = list(parameters)
    for parameter in plain:
        shown = "" if parameter.param_type_name == "argument" else parameter.metavar or ""
        # Typer calls this since 0.27; older versions show metavars.
        parameter.display_type_rich = functools.partial(_shown, shown)
    return plain


def _shown(text: str, ctx: object) -> str:
    _ = ctx
    return text
