"""Passwords: their entropy is computed exactly, weak policies are refused, drawn ones fit."""

from __future__ import annotations

import itertools
import json
import math
import shlex
import string
from collections import Counter
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rotator.core.errors import UsageError
from rotator.core.passwords import (
    DEFAULT_ALPHABET,
    LETTERS_AND_DIGITS,
    MINIMUM_BITS,
    PasswordPolicy,
)
from rotator.system import SystemEntropy
from rotator.testing.fakes import SeededEntropy

_TINY_ALPHABETS = st.text(alphabet="abAB12-_!", min_size=1, max_size=5)
_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


def _allowed(policy: PasswordPolicy) -> set[str]:
    """Return every password that the policy allows, by trying them all."""
    characters = set(policy.alphabet) - set(policy.exclude)
    first = characters & set(LETTERS_AND_DIGITS) or characters
    classes = [characters & set(one) for one in _CLASSES]
    classes.append(characters - set().union(*classes))
    found = set[str]()
    for drawn in itertools.product(characters, repeat=policy.length):
        has_each = all(set(drawn) & one for one in classes if one)
        if drawn[0] in first and (has_each or not policy.require_each_class):
            found.add("".join(drawn))
    return found


@given(
    alphabet=_TINY_ALPHABETS,
    exclude=st.text(alphabet="abAB12-_!", max_size=2),
    length=st.integers(1, 4),
    each=st.booleans(),
)
def test_the_entropy_is_the_logarithm_of_how_many_there_are(
    *, alphabet: str, exclude: str, length: int, each: bool
):
    """On tiny alphabets, where all passwords can be listed, `bits` is exact."""
    assume(set(alphabet) - set(exclude))
    try:
        policy = PasswordPolicy(
            alphabet=alphabet,
            exclude=exclude,
            length=length,
            require_each_class=each,
            minimum_bits=0,
        )
    except UsageError as error:
        assert "one of each" in error.what  # noqa: PT017 # any other refusal is a fault
        return
    count = len(_allowed(policy))
    assert policy.bits() == pytest.approx(math.log2(count) if count else 0.0)


@given(alphabet=_TINY_ALPHABETS, length=st.integers(1, 4), each=st.booleans(), seed=st.integers(0))
def test_a_drawn_password_satisfies_its_policy(
    *, alphabet: str, length: int, each: bool, seed: int
):
    """A drawn password is one of those that the policy allows."""
    try:
        policy = PasswordPolicy(
            alphabet=alphabet, length=length, require_each_class=each, minimum_bits=0
        )
    except UsageError:
        assume(False)
        return
    allowed = _allowed(policy)
    assume(allowed)
    assert policy.generate(SeededEntropy(seed)).reveal() in allowed


@pytest.mark.parametrize("each", [False, True])
def test_every_allowed_password_is_as_likely_as_the_other(*, each: bool):
    """Chi-squared over 20,000 draws: the draw is uniform, also with one of each class required."""
    policy = PasswordPolicy(alphabet="aB1-", length=4, require_each_class=each, minimum_bits=0)
    allowed, draws, entropy = _allowed(policy), 20_000, SeededEntropy(7)
    seen = Counter(policy.generate(entropy).reveal() for _ in range(draws))
    assert set(seen) == allowed
    expected = draws / len(allowed)
    chi_squared = sum((seen[one] - expected) ** 2 / expected for one in allowed)
    freedom = len(allowed) - 1
    # Five standard deviations of the distribution: one run in a million by chance, none by seed.
    assert chi_squared < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    ("policy", "bits"),
    [
        ({}, 191.954),
        ({"length": 22}, 131.954),
        ({"alphabet": "0123456789abcdef", "length": 32}, 128.0),
        ({"alphabet": "01", "length": 128}, 128.0),
    ],
)
def test_the_entropy_of_real_policies(policy: dict[str, object], bits: float):
    """The default gives 192 bits but for its first character, which is no symbol."""
    assert PasswordPolicy(**policy).bits() == pytest.approx(bits, abs=0.01)  # pyright: ignore[reportArgumentType] # from a table


def test_the_default_is_strong():
    """The default policy gives more than the 128 bits that are asked for."""
    assert PasswordPolicy().bits() > MINIMUM_BITS


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"length": 8}, "fewer than the 128"),
        ({"alphabet": "0123456789", "length": 38}, "fewer than the 128"),
        ({"alphabet": "a"}, "0 bits"),
        ({"alphabet": ""}, "0 bits"),
        ({"alphabet": "aaaaaaaa", "length": 256}, "0 bits"),
        ({"alphabet": "ab", "exclude": "ab", "length": 200}, "0 bits"),
        ({"length": 0}, "1 to 256 characters"),
        ({"length": 257}, "1 to 256 characters"),
        ({"length": -1}, "1 to 256 characters"),
        ({"length": 3, "require_each_class": True, "minimum_bits": 0}, "one of each of 4"),
        ({"alphabet": "abc\n"}, "cannot be printed"),
        ({"alphabet": "abc\x00"}, "cannot be printed"),
    ],
)
def test_a_weak_or_senseless_policy_is_refused(options: dict[str, object], what: str):
    """The error shows what is wrong, and what to do about it."""
    with pytest.raises(UsageError) as caught:
        PasswordPolicy(**options)  # pyright: ignore[reportArgumentType] # from a table
    assert what in caught.value.what
    assert caught.value.hint


@given(
    alphabet=st.sampled_from(["ab", "0123456789", LETTERS_AND_DIGITS]), length=st.integers(1, 20)
)
def test_the_length_that_is_recommended_is_enough(alphabet: str, length: int):
    """Who follows the hint gets a policy that is accepted."""
    with pytest.raises(UsageError) as caught:
        PasswordPolicy(alphabet=alphabet, length=length)
    needed = int(caught.value.hint.split("`length` to ")[1].split(",")[0])
    assert PasswordPolicy(alphabet=alphabet, length=needed).bits() >= MINIMUM_BITS


def test_a_lower_bound_can_be_allowed_on_purpose():
    """Where a target takes no more than twelve characters, the policy can allow it."""
    assert PasswordPolicy(length=12, minimum_bits=64).bits() > 64


def test_by_default_no_character_needs_an_escape():
    """A default password goes into a URL, a shell, JSON and a connection string as it is."""
    entropy = SystemEntropy()
    for _ in range(500):
        password = PasswordPolicy().generate(entropy).reveal()
        assert len(password) == 32
        assert quote(password, safe="") == password
        assert shlex.quote(password) == password
        assert json.dumps(password) == f'"{password}"'
        assert urlsplit(f"postgresql://app:{password}@db/app").password == password
        assert password[0] in LETTERS_AND_DIGITS


def test_the_default_alphabet_is_the_documented_one():
    """Letters, digits, hyphen and underscore, each once."""
    assert sorted(DEFAULT_ALPHABET) == sorted(set(DEFAULT_ALPHABET))
    assert PasswordPolicy().characters() == "".join(sorted(DEFAULT_ALPHABET))


def test_excluded_characters_do_not_appear():
    """What is excluded from the alphabet is never drawn."""
    policy = PasswordPolicy(exclude="0O1lI-_")
    drawn = "".join(policy.generate(SeededEntropy(seed)).reveal() for seed in range(200))
    assert not set(drawn) & set("0O1lI-_")


def test_one_of_each_class_is_there_when_required():
    """Lower case, upper case, digit and symbol, in every password."""
    policy = PasswordPolicy(length=24, require_each_class=True)
    for seed in range(200):
        drawn = set(policy.generate(SeededEntropy(seed)).reveal())
        assert all(drawn & set(one) for one in (*_CLASSES, "-_"))


def test_a_drawn_password_does_not_show():
    """It is wrapped at birth."""
    assert "***" in repr(PasswordPolicy().generate(SeededEntropy()))
