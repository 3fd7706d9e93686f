"""References in lines of text: dotenv, shell, properties, units of systemd, Maven's XML."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from rotator.find.readers.shell import words_of
from rotator.find.references.nowhere import refused, run_file, sink
from rotator.find.references.place import COMMENT, PART, Edit, Impossible

if TYPE_CHECKING:
    from rotator.find.references.place import Place

SPRING: Final = re.compile(r"(?:^|/)(?:application|bootstrap)[\w.\-]*\.(?:ya?ml|properties)$")
_MAVEN: Final = re.compile(r"(?:^|/)(?:pom|settings)\.xml$")
_VALUE: Final = re.compile(r"=[ \t]*(?P<quote>['\"]?)")
_TOKEN: Final = re.compile(
    r"""(?P<single>'[^']*+')|(?P<double>"(?:[^"\\]|\\.)*+")|(?P<comment>(?<!\S)\#[^\n]*+)|\\.|[^'"\\\#]++|\#""",
    re.DOTALL,
)
_HERE: Final = re.compile(
    r"<<-?[ \t]*(?P<quote>['\"\\]?)(?P<name>\w+)['\"]?[^\n]*\n(?P<body>.*?)^[ \t]*(?P=name)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_PREFIX: Final = re.compile(r"^(?!-)|^-\w|=")
_MAKEFILES: Final = frozenset({"makefile", "gnumakefile"})
_CRON: Final = (
    "cron starts commands without variables of yours: remove the password, and begin the command with"
    " `rotator exec {secret} --env {template} --`"
)


def dotenv(place: Place) -> list[Edit]:
    """Replace it by a variable, in double quotes where it was quoted: single ones hold no variables."""
    edit = place.replaced("${{{}}}")
    text = place.text
    line = text.rfind("\n", 0, edit.start) + 1
    value = _VALUE.search(text, line, edit.start + 1)
    if value is None or value["quote"] != "'":
        quote = text[edit.start : edit.start + 1]
        if quote not in ("'", '"') or text[edit.end - 1] != quote:
            return [edit]
        return [_with(edit, edit.start, edit.end, f'"{edit.new}"')]
    end = text.find("'", edit.end)
    before, after = text[value.end() : edit.start], text[edit.end : end]
    if end < 0 or any(mark in before + after for mark in '"$\\\n'):
        raise Impossible(PART)
    return [_with(edit, value.end() - 1, end + 1, f'"{before}{edit.new}{after}"')]


def properties(place: Place) -> list[Edit]:
    """Replace it by a placeholder of Spring, Quarkus or Micronaut. Other properties have none."""
    if SPRING.search(place.path) is None:
        refused(place)
    return [place.replaced("${{{}}}")]


def maven(place: Place) -> list[Edit]:
    """Replace it by a variable of Maven. Other XML has none."""
    if _MAVEN.search(place.path) is None or "maven.apache.org" not in place.text:
        refused(place)
    return [place.replaced("${{env.{}}}")]


def shell(place: Place) -> list[Edit]:
    """Replace it within a word by a variable that must be set, with quotation marks where it has none."""
    name = place.file.lower()
    if name in _MAKEFILES or place.suffix == "mk":
        return [place.replaced("$({})")]
    if place.suffix in ("bat", "cmd"):
        return [place.replaced("%{}%")]
    if name == "crontab":
        template = place.provides(place.variable)
        raise Impossible(_CRON.format(secret=place.secret, template=f"'{template}'"))
    form = "${}" if place.suffix in ("fish", "csh") else "${{{}:?}}"
    return [in_script(place, form, 0, len(place.text))]


def in_script(place: Place, form: str, begin: int, stop: int) -> Edit:
    """Return the edit within a script that is a part of the text."""
    edit, text = place.replaced(form), place.text
    quoted = _with(edit, edit.start, edit.end, f'"{edit.new}"')
    for here in _HERE.finditer(text, begin, stop):
        if here.start("body") <= edit.start < here.end("body"):
            if here["quote"]:
                raise Impossible(
                    "a here-document with a quoted end has no variables: unquote its end"
                )
            return edit
    for token in _TOKEN.finditer(text, begin, stop):
        if token.end() <= edit.start:
            continue
        is_inside = token.start() < edit.start and edit.end < token.end()
        if token.lastgroup == "comment":
            raise Impossible(COMMENT)
        if token.lastgroup == "double" and is_inside:
            return edit
        if token.lastgroup == "single":
            if token[0][1:-1] == place.value:
                return _with(edit, token.start(), token.end(), quoted.new)
            if not is_inside or not place.is_plain:
                raise Impossible(PART)
            return _with(edit, edit.start, edit.end, f"'{quoted.new}'")
        break
    if place.is_plain:
        return quoted
    return _with(
        edit, edit.start + _prefix(text[edit.start : edit.end], place.value), edit.end, quoted.new
    )


def _prefix(word: str, value: str) -> int:
    """Return the length of what is before the value in a quoted word: that of `-p` or `NAME=`."""
    for before in _PREFIX.finditer(word):
        try:
            if shlex.split(word[before.end() :]) == [value]:
                return before.end()
        except ValueError:
            continue
    raise Impossible(PART)


def unit(place: Place) -> list[Edit]:
    """Replace a variable of a unit of systemd by a file that the agent writes."""
    if "[Service]" not in place.text:
        refused(place)
    text, (start, stop) = place.text, place.span
    line = text.rfind("\n", 0, start) + 1
    end = text.find("\n", stop)
    end = len(text) if end < 0 else end
    key = "Environment="
    if not text.startswith(key, line):
        raise Impossible(
            "this line of a unit has no variables of a file: move the password into EnvironmentFile="
        )
    words = [word for part in words_of(text, line + len(key), end) for word in part]
    word = next((one for one in words if one.start <= start and stop <= one.end), None)
    name, _, value = word.value.partition("=") if word is not None else ("", "", "")
    if word is None or value.count(text[start:stop]) != 1 or "{" in value:
        raise Impossible(PART)
    field = f"{{password{place.conversion}}}"
    variable = value.replace(text[start:stop], field).replace("'", "''")
    file = f"{place.file}.env"
    new = f"EnvironmentFile={run_file(place, file)}"
    options = f"variables: {{{name}: '{variable}'}}"
    before = text[line : word.start].rstrip(" \t")
    after = text[word.end : end].strip(" \t")
    kept = f"{before}{' ' if after and before != key else ''}{after}"
    return [
        Edit(
            start=line,
            end=end,
            new=new if len(words) == 1 else f"{kept}\n{new}",
            reference=new,
            sink=sink(place, "systemd", file=file, options=options),
        )
    ]


def _with(edit: Edit, start: int, end: int, new: str) -> Edit:
    return Edit(start=start, end=end, new=new, reference=edit.reference, template=edit.template)
