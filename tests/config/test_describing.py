"""How the options of anybody's plugin are told to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from rotator.config.option_help import options_of


class _Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class _Inner:
    depth: int = 3


@dataclass(frozen=True, kw_only=True)
class _Options:
    name: str = field(metadata={"help": "What it is called."})
    password: str = "env:PASSWORD"
    colour: _Colour = _Colour.RED
    inner: _Inner | None = None
    computed: int = field(init=False, default=0)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "text"),
        (int | None, "whole number"),
        (float, "number"),
        (bool, "true or false"),
        (Path, "path"),
        (timedelta, "duration"),
        (tuple[str, ...], "list of text"),
        (Mapping[str, int], "mapping of text to whole number"),
        (Literal["a", "b"] | None, "a or b"),
        (Literal["system"] | Path, "system or path"),
        (_Colour, "red or blue"),
        (Annotated[str, "of some kind"], "text"),
        (Any, "Any"),
    ],
)
def test_types_are_told_in_words(hint: Any, words: str):
    """As somebody would say them who writes a configuration."""
    [one] = options_of(make_dataclass("Options", [("option", hint)]))
    assert one.type == words


def test_what_must_be_there_and_what_holds_otherwise_is_told():
    """Options inside others by their path; what is not asked for is left out."""
    told = {one.name: one for one in options_of(_Options)}
    assert list(told) == ["name", "password", "colour", "inner.depth"]
    assert (told["name"].required, told["name"].help) == (True, "What it is called.")
    assert (told["password"].type, told["password"].required) == ("reference", False)
    assert told["colour"].default == "red"
    assert told["inner.depth"].default == 3


def test_names_that_only_a_type_checker_sees_do_not_hide_the_rest():
    """The type is shown as it is written."""
    declared = make_dataclass("Options", [("option", "NotThere | None", field(default=None))])
    [one] = options_of(declared)
    assert (one.name, one.type, one.default) == ("option", "NotThere | None", None)


def test_a_plugin_without_options_has_none():
    """`object` stands for them."""
    assert options_of(object) == []
