"""The second line of defence: no living secret leaves in a text, however it was quoted."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rotator.core.secret import MASK, Secret, scrub

_TESTS = Path(__file__).parents[1]
_VALUES = st.text(min_size=6, max_size=40).filter(lambda text: "*" not in text)
_QUOTED = {
    "as it stands": str,
    "as Python shows it": repr,
    "as Python shows its bytes": lambda value: repr(value.encode()),
    "inside an exception": lambda value: repr(ValueError(value)),
    "inside a list beside an apostrophe": lambda value: repr(["it's", value]),
    "as JSON": json.dumps,
    "as JSON with its letters": lambda value: json.dumps(value, ensure_ascii=False),
    "as an SQL literal": lambda value: "'" + value.replace("'", "''") + "'",
    "as an SQL identifier": lambda value: '"' + value.replace('"', '""') + '"',
    "in a URL": lambda value: quote(value, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
}


@pytest.mark.parametrize("way", _QUOTED)
@given(value=_VALUES)
@example(value="""both 'kinds' of "quotes" and a \\ in it""")
@example(value="line\nbreak\ttab é ü 漢 %41+&")
def test_a_living_secret_is_found_however_it_was_quoted(way: str, value: str):
    """Whatever a password holds, a text that quotes it shows a mask instead."""
    secret = Secret(value)
    text = _QUOTED[way](value)
    assert MASK in scrub(f"before {text} after")
    assert secret.reveal() == value


def test_the_longer_of_two_secrets_goes_first():
    """A password that begins another leaves no tail of the longer one behind."""
    shorter, longer = Secret("correct-horse"), Secret("correct-horse-battery")
    assert scrub("is correct-horse-battery it?") == "is *** it?"
    assert (len(shorter.reveal()), len(longer.reveal())) == (13, 21)


def test_short_and_forgotten_values_are_not_scrubbed():
    """A password of a few letters would shred every text; a secret that is gone is not kept."""
    short = Secret("abc")
    Secret("was-here-once")
    assert scrub("abc was-here-once") == "abc was-here-once"
    assert len(short.reveal()) == 3


def test_scrubbing_bears_bytes_that_are_no_text():
    """The environment may hold anything; scrubbing never raises."""
    odd = Secret("odd-\udcff-bytes")
    assert scrub("nothing here") == "nothing here"
    assert scrub(odd.reveal()) == MASK


def test_no_module_of_tests_keeps_an_ordinary_word_as_a_password():
    """While such a password lives, that word is masked in every text of the process."""
    kept = [
        f"{file.relative_to(_TESTS)}:{call.lineno}: {word.value!r}"
        for file in _TESTS.rglob("*.py")
        for statement in ast.parse(file.read_text()).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id == "Secret" and call.args
        for word in call.args[:1]
        if isinstance(word, ast.Constant) and re.fullmatch("[a-z]{6,}", str(word.value))
    ]
    assert kept == []
