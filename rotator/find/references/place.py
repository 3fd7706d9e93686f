"""A password in a text, the variable that replaces it, and a change of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rotator.find.model import Dialect
from rotator.find.names import is_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.find.model import Match

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{1,80}")
# Names that do not tell whose password it is.
_GENERIC: Final = frozenset({"PASSWORD", "PASSWD", "PASS", "PWD"})
_DEFAULT_START: Final = re.compile(r"\$\{(?P<name>[A-Za-z_][\w.\-]*)(?::-|:=|-|=|:)$")
_LONGEST_DEFAULT: Final = 120

PART: Final = (
    "the password is a part of a longer text that cannot be split here: replace it by hand"
)
ESCAPED: Final = (
    "a connection string escapes values in a way that rotator does not write here: give the password to the driver as an argument,"
    " from the variable {name}"
)
MARKED: Final = (
    "the password has quotation marks in a connection string: replace it with them by the variable {name}, and let"
    " rotator exec --env '{template}' provide that"
)
COMMENT: Final = "it is in a comment: remove it"
OTHER_DEFAULT: Final = "it is the default of another variable: remove the default"


class Impossible(Exception):
    """The reason why a password stays, with what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A part of a text and what replaces it.

    `reference`: what is there afterwards, for a report. `template`: what `rotator exec --env` provides, and
    `sink`: what an agent has to write; each empty where something else does.
    """

    start: int
    end: int
    new: str
    reference: str = ""
    template: str = ""
    sink: str = ""


@dataclass(frozen=True)
class Place:
    """A password in the file at `path`, and the managed secret that has it."""

    path: str
    text: str
    match: Match
    secret: str
    # A notebook's cell has a form of its own.
    form: str

    @property
    def file(self) -> str:
        """The name of the file without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the file's name."""
        return self.path.rpartition(".")[2].lower()

    @property
    def value(self) -> str:
        """The password."""
        return self.match.value.reveal()

    @property
    def in_url(self) -> bool:
        """Whether it is a part of a URL, and therefore escaped for one."""
        return "URL" in self.match.role.split()

    @property
    def in_statement(self) -> bool:
        """Whether it is a part of an SQL statement, where quotation marks in a password would end it."""
        return self.match.role == "password of an SQL statement"

    @property
    def conversion(self) -> str:
        """The conversion of templates that escapes the value for the text around it, such as `:url`."""
        if self.in_url:
            return ":url"
        return f":{self.match.dialect}" if self.match.dialect not in (None, Dialect.UNKNOWN) else ""

    @cached_property
    def span_in_marks(self) -> tuple[int, int]:
        """The span with the quotation marks that a connection string has around the password."""
        start, end = self.span
        before, after = self.text[start - 1 : start], self.text[end : end + 1]
        is_marked = self.match.dialect and before and before in "'\"" and before == after
        return (start - 1, end + 1) if is_marked else (start, end)

    @cached_property
    def span(self) -> tuple[int, int]:
        """Where the password is, without a prefix such as `-p` that its word begins with."""
        start, end = self.match.start, self.match.end
        raw = self.text[start:end]
        if raw.count(self.value) == 1:
            start += raw.index(self.value)
            end = start + len(self.value)
        return start, end

    @property
    def is_plain(self) -> bool:
        """Whether the text has the password as it is, or escaped as in a URL."""
        return self.in_url or self.text[slice(*self.span)] == self.value

    @cached_property
    def default_of(self) -> re.Match[str] | None:
        """The beginning of `${NAME:-` where the password is the default of a variable."""
        start, end = self.span
        if self.text[end : end + 1] != "}":
            return None
        return _DEFAULT_START.search(self.text, max(0, start - _LONGEST_DEFAULT), start)

    @property
    def is_other_default(self) -> bool:
        """Whether it is the default within an expression that is no `${NAME:-VALUE}`."""
        return self.match.role.endswith("(default)") and self.default_of is None

    @property
    def base(self) -> str:
        """The name of the secret as a part of a variable's name."""
        return re.sub(r"\W", "_", self.secret).upper()

    @property
    def variable(self) -> str:
        """The name of the variable that has the password."""
        if self.conversion:
            return f"{self.base}_PASSWORD_{self.conversion[1:].upper()}"
        name = self.match.name
        is_telling = _VARIABLE.fullmatch(name) and is_password(name) and name not in _GENERIC
        # A name that repeats the password would be printed.
        is_telling = is_telling and self.value.upper() not in name
        return name if is_telling else f"{self.base}_PASSWORD"

    def provides(self, name: str) -> str:
        """Return what `rotator exec --env` gives a variable."""
        return f"{name}={{password{self.conversion}}}"

    def replaced(self, form: str) -> Edit:
        """Return the edit that replaces the password alone, or the variable whose default it is."""
        start, end = self.span
        default = self.default_of
        name = self.variable
        if default is not None:
            start, end, name = default.start(), end + 1, str(default["name"])
        new = form.format(name)
        return Edit(start=start, end=end, new=new, reference=new, template=self.provides(name))


def chosen(rows: Mapping[str, re.Pattern[str]], text: str) -> str | None:
    """Return the first key whose pattern is in a text."""
    return next((key for key, pattern in rows.items() if pattern.search(text)), None)
