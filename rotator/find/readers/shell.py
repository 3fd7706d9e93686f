"""Shell scripts, Dockerfiles and commands within other files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rotator.find import command_line, connection
from rotator.find.command_line import Word
from rotator.find.fields import Field, Group
from rotator.find.model import Match
from rotator.find.reading import NestedReader, Reading, connections, moved, of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator


_TOKEN: Final = re.compile(
    r"""(?P<continued>\\\r?\n)
      | (?P<blank>[ \t\r]++)
      | (?P<end>\n|;|&&|\|\||\||&|\(|\)|`|<<?-?|>>?)
      | (?P<variable>\$\{[^}\n]*+\}?|\$\([^()\n]*+\)?)
      | (?P<ansi>\$'(?:[^'\\]|\\.)*+'?)
      | (?P<single>'[^']*+'?)
      | (?P<double>"(?:[^"\\]|\\.)*+"?)
      | (?P<escaped>\\.)
      | (?P<comment>(?<![^\s;&|()`<>])\#[^\n]*+)
      | (?P<bare>[^\s\\'"$;&|()`<>#]++)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_EXPANSION: Final = re.compile(r"\\([$\"\\`])|\\\n|\$([A-Za-z_]\w*)")
_SETTERS: Final = ("set", "setenv", "setx")
# A command such as these only sets variables, for all commands that follow.
_EXPORTS: Final = frozenset({"export", "declare", "readonly", "local", "typeset", "set", "env"})
_PGPASS: Final = re.compile(
    r"[\w.*\-]{1,200}:(?:\d{1,5}|\*):[^:\s]{1,80}:(?P<login>[^:\s]{1,80}):(?P<password>[^:\n\\]{1,200})"
)
_INSTRUCTION: Final = re.compile(r"^[ \t]{0,20}(?P<name>[A-Za-z]{2,20})[ \t]+", re.MULTILINE)
_COMMANDS: Final = frozenset({"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "SHELL", "ONBUILD"})
_VARIABLES: Final = frozenset({"ENV", "ARG", "LABEL"})


def words_of(text: str, start: int, end: int) -> Iterator[list[Word]]:
    """Yield the words of each command in a part of a text."""
    words: list[Word] = []
    pieces: list[str] = []
    begin = -1
    last = start

    def close() -> None:
        nonlocal begin
        if begin >= 0:
            words.append(Word("".join(pieces), begin, last))
        pieces.clear()
        begin = -1

    for token in _TOKEN.finditer(text, start, end):
        kind = token.lastgroup or ""
        if kind in ("blank", "continued", "end", "comment"):
            close()
            if kind == "end" and words:
                yield words
                words = []
            continue
        if begin < 0:
            begin = token.start()
        last = token.end()
        pieces.append(_decoded(kind, token[0]))
    close()
    if words:
        yield words


def shell(text: str, nested: NestedReader) -> Reading:
    """Read a script: variables, options of database clients, URLs and SQL within it."""
    script = Group()
    groups, extra = [script], list[Match]()
    for words in words_of(text, 0, len(text)):
        group = _command(words, script)
        if group is not script:
            groups.append(group)
        for word in words:
            extra += _within(text, word, nested)
    reading = of_groups(text, groups)
    reading.matches += extra
    if connection.may_hold(text):
        reading.matches += connections(text, 0, len(text))
    for found in _PGPASS.finditer(text) if "pgpass" in text else ():
        group = Group()
        group.add("user", found["login"], found.start("login"), found.end("login"))
        group.add(
            "password",
            found["password"].rstrip("\"'"),
            *found.span("password"),
            role="line of a .pgpass file",
        )
        reading.matches += of_groups(text, [group]).matches
    return reading


def dockerfile(text: str, nested: NestedReader) -> Reading:
    """Read a Dockerfile: ENV, ARG, LABEL and the commands."""
    image = Group()
    groups, extra = [image], list[Match]()
    for start, end, name in _instructions(text):
        listed = list(words_of(text, start, end))
        if name in _VARIABLES and listed:
            words = listed[0]
            if "=" not in words[0].value and len(words) > 1:
                image.add(
                    words[0].value,
                    " ".join(one.value for one in words[1:]),
                    words[1].start,
                    words[-1].end,
                )
            else:
                command_line.read(words, image)
        elif name in _COMMANDS:
            array = text.find("[", start, end)
            if array >= 0 and not text[start:array].replace("CMD", "").strip():
                listed = [_array(text, array + 1, end - 1)]
            for words in listed:
                group = _command(words, image)
                if group is not image:
                    groups.append(group)
                for word in words:
                    extra += _within(text, word, nested)
    reading = of_groups(text, groups)
    reading.matches += extra
    if connection.may_hold(text):
        reading.matches += connections(text, 0, len(text))
    return reading


def _array(text: str, start: int, end: int) -> list[Word]:
    """Return the words of `["mysql", "-pVALUE"]`."""
    part = text[start:end].replace(",", " ")
    return [
        Word(one.value, one.start + start, one.end + start)
        for words in words_of(part, 0, len(part))
        for one in words
    ]


def _instructions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the start, the end and the name of each instruction, with its continued lines."""
    at = 0
    while at < len(text):
        found = _INSTRUCTION.match(text, at)
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = at
        while found is not None and end < len(text) and text[line:end].rstrip().endswith("\\"):
            line = end + 1
            following = text.find("\n", line)
            end = len(text) if following < 0 else following
        if found is not None:
            yield found.end(), end, found["name"].upper()
        at = end + 1


def _command(words: list[Word], script: Group) -> Group:
    first = words[0].value
    if first in _SETTERS and len(words) > 2 and "=" not in words[1].value:  # noqa: PLR2004 # set NAME VALUE
        script.add(words[-2].value, words[-1].value, words[-1].start, words[-1].end)
        return script
    only_variables = first in _EXPORTS or all(command_line.assignment(one) for one in words)
    group = script if only_variables else Group(parent=script)
    command_line.read(words, group)
    if only_variables:
        script.label = ""
    return group


def _within(text: str, word: Word, nested: NestedReader) -> list[Match]:
    """Return what a quoted command holds: `sh -c "mysql -pVALUE"`."""
    if " " not in word.value or word.end - word.start == len(word.value):
        return []
    return moved(
        text, Field("", word.value, word.start, word.end), nested("command.sh", word.value)
    )


def _decoded(kind: str, raw: str) -> str:
    match kind:
        case "single":
            return raw[1:].removesuffix("'")
        case "ansi":
            return raw[2:].removesuffix("'").replace("\\'", "'")
        case "double":
            return _EXPANSION.sub(_expanded, raw[1:].removesuffix('"'))
        case "escaped":
            return raw[1:]
        case _:
            return raw


def _expanded(found: re.Match[str]) -> str:
    if found[2]:
        return f"${{{found[2]}}}"
    return found[1] or ""
