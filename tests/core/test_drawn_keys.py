"""Which keys that a target drew are orphans."""

from __future__ import annotations

import pytest

from rotator.core.drawn_keys import orphans


@pytest.mark.parametrize(
    ("sentence", "held", "named", "expected"),
    [
        ("nothing is held", [], ["a"], ()),
        ("the current key is no orphan", ["a"], ["a", None], ()),
        ("a key that nothing names is an orphan", ["a", "b"], ["a"], ("b",)),
        ("a key that a rotation named stays, also where it is left over", ["a", "b"], "ab", ()),
        ("several come in order, each once", ["c", "b", "b"], [None], ("b", "c")),
    ],
)
def test_an_orphan_is_a_key_that_nothing_names(
    sentence: str, held: list[str], named: list[str | None], expected: tuple[str, ...]
):
    """Each row is a sentence."""
    assert sentence
    assert orphans(held, named) == expected
