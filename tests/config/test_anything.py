"""Whatever a file holds, loading it ends in settings or in a ConfigError, and in nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rotator.config import ConfigError, load
from tests.config import plugins
from tests.config.test_settings import FULL

TEXT = "\n".join(line[4:] for line in FULL.splitlines())
TEXT += """
defaults:
  target: spare
  backend: bare
  strategy: single-user
  path: apps/{name}
  options: {users: ["{name}_a"]}
  policy: {grace: 1h}
  copies: [{backend: vault, path: "copies/{name}"}]
  tags: [prod]
include: more.d/*.yaml
"""
INCLUDED = """
version: 1
include: []
targets: {third: {plugin: paper, admin: vault:admin/third, host: third.example}}
policies: {fast: {every: 7d}}
defaults: {target: third, options: {group: g, users: []}, tags: [third]}
secrets: {included: , other: {options: {group: null}, policy: fast}}
partners: {both: {apart: 6h, secrets: [included, other]}}
"""
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(["env:X", "vault:a#b", "30d", "never", "default", "main", "paper", "drawer"])
)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else ()
    return [path, *(place for key, value in below for place in _places(value, (*path, key)))]


PLACES = _places(yaml.safe_load(TEXT))


INCLUDED_PLACES = _places(yaml.safe_load(INCLUDED))


def _is_answered(text: str, included: str = INCLUDED) -> bool:
    """Return whether loading a text ends in settings or in problems that say something."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rotator.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        (file.parent / "more.d").mkdir()
        more = file.parent / "more.d" / "more.yaml"
        more.write_text(included, encoding="utf-8", errors="replace")
        try:
            load(file, rotations=plugins.rotations, backends=plugins.backends)
        except ConfigError as error:
            return bool(error.problems) and all(one.message for one in error.problems)
    return True


# How long one example takes is the business of a machine that other tests keep busy.
_PATIENT = settings(deadline=None)


@_PATIENT
@given(st.sampled_from(PLACES), DATA)
@example(("policies", "default", "every"), float("inf"))
@example(("secrets", "web", "path"), "\ud800")
@example(("secrets",), {"a\n": {}})
def test_any_data_in_any_place(place: tuple[Any, ...], data: Any):
    """Any data in the place of any other is taken or refused in words."""
    whole = yaml.safe_load(TEXT)
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    if place:
        inner[place[-1]] = data
    else:
        whole = data
    assert _is_answered(yaml.safe_dump(whole, allow_unicode=True))


def test_the_files_that_are_changed_are_good_before():
    """What the other tests break is whole."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rotator.yaml"
        file.write_text(TEXT)
        (file.parent / "more.d").mkdir()
        (file.parent / "more.d" / "more.yaml").write_text(INCLUDED)
        read = load(file, rotations=plugins.rotations, backends=plugins.backends)
    assert read.secrets["included"].tags == ("third", "prod")


@_PATIENT
@given(st.sampled_from(INCLUDED_PLACES), DATA)
@example(("include",), "\0")
@example(("include",), ["~nobody/*", "~no-such-user", "/", "[", "../..//*"])
@example(("secrets",), ["a", "a", 5, None])
@example(("defaults",), {"path": "{name}\n", "options": {"group": {"{name}": "{x}"}}})
def test_any_data_in_any_place_of_an_included_file(place: tuple[Any, ...], data: Any):
    """As in the main file."""
    whole = yaml.safe_load(INCLUDED)
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    if place:
        inner[place[-1]] = data
    else:
        whole = data
    assert _is_answered(TEXT, yaml.safe_dump(whole, allow_unicode=True))


@_PATIENT
@given(st.data())
def test_any_cut_or_change_of_the_text(data: st.DataObject):
    """A file that was cut off, or in which some characters changed, is taken or refused in words."""
    start = data.draw(st.integers(0, len(TEXT)))
    end = data.draw(st.integers(start, min(len(TEXT), start + 40)))
    between = data.draw(st.text(alphabet=" \n\t:-#&*!|>'\"%@`{}[],?<~0aé\x00\ud800", max_size=8))
    assert _is_answered(TEXT[:start] + between + TEXT[end:])


@_PATIENT
@given(st.text(alphabet=" \n\t:-#&*!|>'\"%@`{}[],?<~0ab\x00", max_size=60))
def test_any_text(text: str):
    """A text that is hardly YAML at all is taken or refused in words."""
    assert _is_answered(text)
