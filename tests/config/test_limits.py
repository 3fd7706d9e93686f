"""Files that would take all memory, or whose errors nobody could read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.config import ConfigError, load
from rotator.config.parsing import NotYamlError, parse
from rotator.testing.hostile import within
from tests.config import plugins

if TYPE_CHECKING:
    from pathlib import Path


def _laughs(levels: int, width: int, *, merge: bool = False) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * width)
        below = f"{{<<: [{names}], y{level}: [{names}]}}" if merge else f"[{names}]"
        lines.append(f"a{level}: &a{level} {below}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_that_stand_for_too_much_are_refused(tmp_path: Path, *, merge: bool):
    """Nine names, each nine times the one before: ten to the ninth values."""
    text = _laughs(12, 9, merge=merge)
    with within(seconds=1), pytest.raises(NotYamlError, match="expand to too many values"):
        _ = parse(text)
    file = tmp_path / "rotator.yaml"
    file.write_text(f"version: 1\n{text}")
    with within(seconds=3), pytest.raises(ConfigError, match=r"rotator\.yaml:[67]:"):
        _ = load(file, rotations=plugins.rotations, backends=plugins.backends)


def test_aliases_of_a_long_file_are_none_too_many():
    """Each of its entries begins with the same ten lines."""
    shared = ", ".join(f"k{one}: {one}" for one in range(10))
    entries = "\n".join(f"  s{one}: {{<<: *shared, own: {one}}}" for one in range(5_000))
    found = parse(f"shared: &shared {{{shared}}}\nsecrets:\n{entries}\n").data
    assert isinstance(found, dict)
    secrets = found["secrets"]
    assert isinstance(secrets, dict)
    assert secrets["s4999"] == {**{f"k{one}": one for one in range(10)}, "own": 4_999}


def test_only_the_first_hundred_problems_are_shown(tmp_path: Path):
    """Their number is said; what is shown can be read."""
    file = tmp_path / "rotator.yaml"
    wrong = "".join(f"wrong{one}: 1\n" for one in range(3_000))
    file.write_text(f"version: 1\n{wrong}")
    with pytest.raises(ConfigError) as raised:
        _ = load(file, rotations=plugins.rotations, backends=plugins.backends)
    assert len(raised.value.problems) == 100
    assert "has 3000 problems; the first 100 are" in raised.value.what
    assert len(raised.value.what) < 40_000


def test_a_file_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Before it is parsed."""
    from rotator.config import positions

    monkeypatch.setattr(positions, "_MOST_BYTES", 2**20)
    file = tmp_path / "rotator.yaml"
    file.write_text("version: 1\n" + "# longer\n" * 200_000)
    with pytest.raises(ConfigError, match="longer than 1 MiB"):
        _ = load(file, rotations=plugins.rotations, backends=plugins.backends)
