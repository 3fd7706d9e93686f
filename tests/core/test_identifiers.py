"""Names of successive logins fit the target, never collide, and say whose they are."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core.identifiers import POSTGRESQL_NAME_BYTES, fit, new_id, successor
from rotator.system import SystemEntropy
from rotator.testing.fakes import SeededEntropy

_BASES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=0, max_size=80)


@given(base=_BASES, seed=st.integers(0))
def test_a_name_fits_into_63_bytes_for_any_base(base: str, seed: int):
    """PostgreSQL would cut a longer one in silence, and two of them could become one."""
    name = successor(base, SeededEntropy(seed))
    assert len(name.encode()) <= POSTGRESQL_NAME_BYTES
    assert name.encode().decode() == name


@given(base=_BASES, limit=st.integers(16, 63))
def test_a_name_keeps_as_much_of_its_base_as_fits(base: str, limit: int):
    """It starts with the base, or the part of it that fits, and ends with the drawn part."""
    name = successor(base, SeededEntropy(), limit=limit)
    kept, _, drawn = name.rpartition("_r")
    assert base.startswith(kept)
    assert len(drawn) == 10
    assert len(name.encode()) <= limit
    # No character more would have fitted.
    rest = base.removeprefix(kept)
    assert not rest or len((kept + rest[0]).encode()) > limit - 12


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_names_of_one_base_are_all_different(count: int):
    """Long bases are cut in front of the drawn part, not in it."""
    entropy = SystemEntropy()
    for base in ("app", "x" * 63):
        assert len({successor(base, entropy) for _ in range(count)}) == count


def test_the_drawn_part_spells_no_word_and_is_not_misread():
    """No vowels, and nothing that looks like something else."""
    drawn = "".join(successor("", SeededEntropy(seed)) for seed in range(500)).replace("_r", "")
    assert not set(drawn) & set("aeiou01lyAEIOU")


@given(text=_BASES, limit=st.integers(0, 80))
def test_cutting_never_splits_a_character(text: str, limit: int):
    """What is left is text, within the limit, and a start of what was there."""
    cut = fit(text, limit)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [("zürich", 2, "z"), ("zürich", 3, "zü"), ("🔑🔑", 7, "🔑"), ("abc", 3, "abc"), ("abc", 0, "")],
)
def test_cutting_by_bytes(text: str, limit: int, cut: str):
    """The limit counts bytes, as the server does."""
    assert fit(text, limit) == cut


@given(seed=st.integers(0))
def test_a_rotation_id_is_a_random_uuid(seed: int):
    """Version 4 in its usual form, which Secrets Manager takes as a ClientRequestToken."""
    text = new_id(SeededEntropy(seed))
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 4
    assert parsed.variant == uuid.RFC_4122


def test_rotation_ids_do_not_repeat():
    """A hundred thousand of them are all different."""
    entropy = SystemEntropy()
    assert len({new_id(entropy) for _ in range(100_000)}) == 100_000
