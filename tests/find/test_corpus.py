"""Every form of the corpus, with values as operators, generators and URLs have them."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from rotator.find.registry import read
from tests.find.corpus import FORMS, Form, escaped, generated, human

_ROUNDS = 12


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_is_found(form: Form):
    """The password is found at its place, once, with its login."""
    chance = random.Random(form.name)
    missed = defaultdict[str, list[str]](list)
    for _ in range(_ROUNDS):
        for kind, value in (
            ("human", human(chance)),
            ("generated", generated(chance, bare=form.bare)),
            ("escaped", escaped(chance, bare=form.bare)),
        ):
            text = form.render(value)
            found = read(form.path, text).matches
            strong = [one for one in found if not one.weak]
            if len(strong) != 1 or not _is_same(form, strong[0].value.reveal(), value):
                values = [one.value.reveal() for one in found]
                missed[kind].append(f"{text!r}: {values}")
                continue
            assert form.login in (None, strong[0].account.login), (form.name, strong[0])
            literal = text[strong[0].start : strong[0].end]
            assert literal in form.write(value), (form.name, literal, text)
    assert dict(missed) == {}


def _is_same(form: Form, found: str, value: str) -> bool:
    """A form that cannot hold a mark was written without it."""
    return found == value or found == form.write(value).strip("'\"")
