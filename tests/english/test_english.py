"""Help, messages and documentation use plain English: no idiom of the word list."""

from __future__ import annotations

import pytest

from tests.english.words import IDIOMS, helps, idioms, messages, pages


def test_help_uses_plain_english():
    """The help of each command and option holds no idiom."""
    assert list(map(str, idioms(helps()))) == []


def test_messages_use_plain_english():
    """Errors, hints, findings and notices hold no idiom."""
    assert list(map(str, idioms(messages()))) == []


def test_pages_use_plain_english():
    """The README and the documentation hold no idiom."""
    assert list(map(str, idioms(pages()))) == []


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("The daemon tells the operator.", False),
        ("The daemon notifies the operator.", True),
        ("The login gets in.", False),
        ("The login authenticated.", True),
        ("The file is right.", False),
        ("The admin has the right to create roles.", True),
        ("A stand-in answers.", True),
        ("The key `says` holds both texts.", True),
    ],
)
def test_the_word_list_finds_idioms_only(text: str, allowed: bool):  # noqa: FBT001 # pytest passes it
    """An idiom is found in prose, and not in code or in other uses of its words."""
    assert (idioms(iter([("text", text)])) == []) is allowed


def test_each_idiom_has_a_replacement():
    """The list is of use only with what to write instead."""
    assert all(IDIOMS.values())
