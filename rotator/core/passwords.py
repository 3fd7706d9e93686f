"""Passwords: drawn from an alphabet, and refused when the policy would make weak ones."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import Final, Protocol

from rotator.core.errors import UsageError
from rotator.core.secret import Secret

# The unreserved characters of RFC 3986, section 2.3, without `.` and `~` (a shell expands `~`):
# they need no escape in a URL, a shell, a libpq connection string, YAML, JSON or an .env file.
SAFE_SYMBOLS: Final = "-_"
LETTERS_AND_DIGITS: Final = string.ascii_letters + string.digits
DEFAULT_ALPHABET: Final = LETTERS_AND_DIGITS + SAFE_SYMBOLS
MINIMUM_BITS: Final = 128
_CLASSES: Final = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
_MOST_CHARACTERS: Final = 256


class Draws(Protocol):
    """As much of the entropy port as drawing a password needs."""

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit - 1`, each as likely as the other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPolicy:
    """What a generated password looks like.

    `length`: characters. `alphabet`: what they are drawn from, each as likely as the other.
    `exclude`: taken out of the alphabet. `require_each_class`: at least one lower-case letter,
    upper-case letter, digit and symbol, of the classes that the alphabet has. `minimum_bits`:
    the entropy below which the policy is refused.

    The first character is always a letter or digit where the alphabet has one, so that no tool
    takes the password for an option.
    """

    length: int = 32
    alphabet: str = DEFAULT_ALPHABET
    exclude: str = ""
    require_each_class: bool = False
    minimum_bits: int = MINIMUM_BITS

    def __post_init__(self) -> None:
        if not 1 <= self.length <= _MOST_CHARACTERS:
            msg = f"a password has 1 to {_MOST_CHARACTERS} characters, not {self.length}."
            raise UsageError(msg, hint="Set `length` to 32, for example.")
        if any(not char.isprintable() for char in self.alphabet):
            msg = "the password alphabet holds a character that cannot be printed."
            raise UsageError(msg, hint="Remove line breaks, tabs and NUL from `alphabet`.")
        if self.require_each_class and self.length < len(self._classes()):
            msg = f"{self.length} characters cannot hold one of each of {len(self._classes())} classes."
            raise UsageError(msg, hint="Raise `length`, or set `require_each_class: false`.")
        if self.bits() < self.minimum_bits:
            msg = (
                f"the password policy gives {self.bits():.0f} bits of entropy, fewer than the "
                f"{self.minimum_bits} that are required."
            )
            raise UsageError(
                msg, hint=f"Raise `length` to {self._length_needed()}, or allow more characters."
            )

    def characters(self) -> str:
        """Return the characters that are drawn from, sorted, each once."""
        return "".join(sorted(set(self.alphabet) - set(self.exclude)))

    def bits(self) -> float:
        """Return the entropy of a password in bits: log2 of how many there are, all equally likely."""
        count = self._count()
        return math.log2(count) if count > 0 else 0.0

    def generate(self, entropy: Draws) -> Secret:
        """Draw a password, each that the policy allows as likely as the other."""
        characters, first = self.characters(), self._first()
        while True:
            drawn = first[entropy.below(len(first))] + "".join(
                characters[entropy.below(len(characters))] for _ in range(self.length - 1)
            )
            # Drawing again, rather than placing one of each class, keeps the draw uniform.
            if not self.require_each_class or all(set(drawn) & set(one) for one in self._classes()):
                return Secret(drawn)

    def _first(self) -> str:
        characters = self.characters()
        return "".join(c for c in characters if c in LETTERS_AND_DIGITS) or characters

    def _classes(self) -> list[str]:
        characters = set(self.characters())
        known = [characters & set(one) for one in _CLASSES]
        rest = characters - set().union(*known)
        return ["".join(sorted(one)) for one in (*known, rest) if one]

    def _count(self) -> int:
        """Count the passwords exactly: inclusion-exclusion over the classes that may be missing."""
        characters, first = set(self.characters()), set(self._first())
        total = 0
        classes = self._classes() if self.require_each_class else []
        for chosen in range(1 << len(classes)):
            missing: set[str] = set()
            for index, one in enumerate(classes):
                if chosen >> index & 1:
                    missing |= set(one)
            sign = -1 if chosen.bit_count() % 2 else 1
            total += sign * len(first - missing) * len(characters - missing) ** (self.length - 1)
        return total

    def _length_needed(self) -> int | str:
        size = len(self.characters())
        return (
            math.ceil(self.minimum_bits / math.log2(size)) + 1
            if size > 1
            else "more, with a larger alphabet"
        )
