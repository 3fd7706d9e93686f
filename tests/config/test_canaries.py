"""No value is ever repeated: a password that stands in the wrong place stays where it is."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rotator.config import ConfigError, load
from tests.config import plugins
from tests.config.test_settings import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "Hunter2canary"
NAME_LIKE = (CANARY, f"abc:{CANARY}@host")
NAMES = re.compile(r"\.(target|backend|plugin|type|strategy|policy|base)$")

TEXT = "\n".join(line[4:] for line in FULL.splitlines())


def _scalars(node: yaml.Node, path: str = "") -> Iterator[tuple[str, int, int]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node.start_mark.index, node.end_mark.index
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, path)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{path}.{key.value} as a key", key.start_mark.index, key.end_mark.index
            yield from _scalars(value, f"{path}.{key.value}")


PLACES = list(_scalars(yaml.compose(TEXT)))
VALUES = [place for place in PLACES if not place[0].endswith(" as a key")]


def _said(text: str) -> str:
    """Return everything that is said of a text, also by the errors behind the error."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rotator.yaml"
        file.write_text(text)
        try:
            settings = load(file, rotations=plugins.rotations, backends=plugins.backends)
        except ConfigError as error:
            behind = error.__cause__ or error.__context__
            return f"{error} {error!r} {error.problems!r} {behind!r}"
    assert settings
    return ""


def _read_with(kind: str, patch: pytest.MonkeyPatch) -> None:
    """Read with libyaml (C), or as where PyYAML was built without it."""
    if not kind:
        patch.delattr(yaml, "CSafeLoader", raising=False)


@pytest.mark.parametrize("kind", ["C", ""])
@pytest.mark.parametrize(
    "written",
    [
        *NAME_LIKE,
        f'"{CANARY} !"',
        f"[{CANARY}]",
        f"{{{CANARY}}}",
        f"{{password:{CANARY}}}",
        f"*{CANARY}",
        f"!{CANARY} x",
        f"%{CANARY}",
        f"@{CANARY}",
        f"'{CANARY}",
    ],
)
def test_a_value_in_the_place_of_another_is_not_repeated(
    written: str, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever a password replaces, and whatever YAML makes of it, it is not in the message."""
    _read_with(kind, monkeypatch)
    for path, start, end in VALUES:
        # Where a name belongs, what can be a name is repeated: "there is no target `...`".
        if not NAMES.search(path) or written not in NAME_LIKE:
            said = _said(TEXT[:start] + written + TEXT[end:])
            assert "canary" not in said, path


@given(
    st.sampled_from(VALUES), st.text(max_size=6), st.text(max_size=6), st.sampled_from(["C", ""])
)
def test_no_text_around_it_makes_a_value_be_repeated(
    place: tuple[str, int, int], before: str, after: str, kind: str
):
    """With any characters around the password, with libyaml and without, it is not repeated."""
    path, start, end = place
    canary = f"{before}{CANARY}{after}"
    # A colon makes a key of it, and an unknown key is named, so that it can be found.
    if NAMES.search(path) or ":" in canary:
        return
    with pytest.MonkeyPatch.context() as patch:
        _read_with(kind, patch)
        assert "canary" not in _said(TEXT[:start] + canary + TEXT[end:])
