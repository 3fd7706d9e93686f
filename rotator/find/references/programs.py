"""References in programs: a lookup of the environment, joined to what is around the password in its string."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.find.readers import source
from rotator.find.readers.python import string_at
from rotator.find.references.nowhere import refused
from rotator.find.references.place import COMMENT, PART, Edit, Impossible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.find.references.place import Place


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a language looks up a variable and joins strings; `within`: a lookup inside these quotes."""

    lookup: str
    join: str = "+"
    within: tuple[str, str] = ("", "")


_JAVASCRIPT: Final = _Dialect("process.env.{}", within=("`", "${{{}}}"))
_JAVA: Final = _Dialect('System.getenv("{}")')
# By the end of a file's name, or by its form where the name has none.
_DIALECTS: Final[Mapping[str, _Dialect]] = {
    **dict.fromkeys(("js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts"), _JAVASCRIPT),
    **dict.fromkeys(("java", "kt", "kts", "scala", "groovy", "gradle"), _JAVA),
    **dict.fromkeys(("ruby", "rb", "rake", "cr"), _Dialect('ENV.fetch("{}")')),
    **dict.fromkeys(("php", "phtml", "inc"), _Dialect("getenv('{}')", ".")),
    "cs": _Dialect('System.Environment.GetEnvironmentVariable("{}")'),
    "go": _Dialect('os.Getenv("{}")'),
    "lua": _Dialect('os.getenv("{}")', ".."),
    "ps1": _Dialect("$env:{}", within=('"', "$({})")),
    **dict.fromkeys(("pl", "pm"), _Dialect("$ENV{{{}}}", ".")),
    **dict.fromkeys(("ex", "exs"), _Dialect('System.fetch_env!("{}")', "<>")),
}
LANGUAGES: Final[Mapping[str, source.Language]] = {
    "javascript": source.JAVASCRIPT,
    "java": source.JAVA,
    "go": source.GO,
    "groovy": source.GROOVY,
    "ruby": source.RUBY,
    "php": source.PHP,
    "rust": source.RUST,
    "powershell": source.POWERSHELL,
    "lua": source.LUA,
    "source": source.OTHER,
}
# Here a value has to be known when the program is compiled.
_CONSTANT: Final[Mapping[str, re.Pattern[str]]] = {
    "go": re.compile(r"\bconst\b[^()\n]*$|\bconst\s*\([^)]*$"),
    "cs": re.compile(r"\bconst\b[^;]*$"),
    **dict.fromkeys(
        ("java", "kt", "scala", "groovy"), re.compile(r"@\w+\([^)]*$|\bconst val\b[^\n]*$")
    ),
}
_OPENING: Final = re.compile(r"(?P<prefix>[A-Za-z@$]{0,2})(?P<quote>\"{3}|'{3}|[\"'`])")
# `process.env.NAME || "VALUE"` and `ENV.fetch("NAME", "VALUE")`: the default is removed.
_FALLBACK: Final = re.compile(
    r"(?P<lookup>(?:process\.env|System\.getenv|os\.Getenv|getenv|ENV|os\.environ\.get|os\.getenv|\$_ENV)"
    r"[.(\[]\s?['\"]?(?P<name>[A-Za-z_]\w*)['\"]?[)\]]?)\s*(?:\|\||\?\?|\?:|\bor\b)\s*$"
)
_SECOND: Final = re.compile(
    r"(?P<lookup>(?<![\w.$>:])(?:ENV\.fetch|env)\(\s*['\"](?P<name>[A-Za-z_]\w*)['\"])\s*,\s*$"
)
_LOOKS_BACK: Final = 300
_CONSTANTS: Final = (
    "a constant cannot be read from the environment: make it a variable, and read {lookup} there"
)
_UNKNOWN: Final = "rotator writes no lookup in this language: read the variable {name} from the environment instead"
_STATEMENT: Final = (
    "it is a part of an SQL statement: give the password to the driver as a parameter"
)
_PACKAGE: Final = re.compile(r"^package \w+[^\n]*\n", re.MULTILINE)
_GO_OS: Final = re.compile(r'^(?:import[ \t]+"os"|[ \t]+"os"[ \t]*$)', re.MULTILINE)
_VARIABLE_BLOCK: Final = re.compile(r'variable[ \t]+"(?P<name>\w+)"[ \t]*\{[^{}]*$')
_ASSIGNED: Final = re.compile(r"[ \t]*(?P<name>[\w\-]+)[ \t]*=[ \t]*")


def expression(place: Place) -> list[Edit]:
    """Replace it in a string of a programming language."""
    dialect = _DIALECTS.get(place.suffix) or _DIALECTS.get(place.form)
    if place.file.endswith(".erb"):
        dialect = None
    start, end = place.span
    token = next(
        (
            one
            for one, _ in source.strings(place.text, LANGUAGES[place.form])
            if one.start <= start and end <= one.end
        ),
        None,
    )
    if token is None:
        raise Impossible(COMMENT)
    if place.in_statement:
        raise Impossible(_STATEMENT)
    if dialect is None:
        raise Impossible(_UNKNOWN.format(name=place.variable))
    lookup = dialect.lookup.format(place.variable)
    before = place.text[max(0, token.start - _LOOKS_BACK) : token.start]
    constant = _CONSTANT.get(place.suffix)
    if constant is not None and constant.search(before):
        raise Impossible(_CONSTANTS.format(lookup=lookup))
    edit = _without_default(place, token.start, token.end) or _joined(place, token, lookup, dialect)
    return [edit, *_go_import(place)] if place.form == "go" else [edit]


def _without_default(place: Place, start: int, end: int) -> Edit | None:
    """Return the edit that removes the default of a lookup; None where it is no default."""
    around = place.text, max(0, start - _LOOKS_BACK), start
    found = _FALLBACK.search(*around) or _SECOND.search(*around)
    if found is None or place.text[start:end].strip("'\"`") != place.value:
        return None
    return Edit(
        start=found.end("lookup"),
        end=end,
        new="",
        reference=found["lookup"],
        template=place.provides(found["name"]),
    )


def _joined(place: Place, token: source.Token, lookup: str, dialect: _Dialect) -> Edit:
    """Return the edit that replaces a whole string, or splits it around the password."""
    (start, end), text = place.span, token.text
    opening = _OPENING.match(text)
    if opening is None:
        raise Impossible(PART)
    quote = opening["quote"]
    first, last = token.start + opening.end(), token.end - len(quote)
    template = place.provides(place.variable)
    if (first, last) == (start, end) or (start, end) == (token.start, token.end):
        return Edit(
            start=token.start, end=token.end, new=lookup, reference=lookup, template=template
        )
    if not place.is_plain or start < first or end > last or len(quote) > 1:
        raise Impossible(PART)
    # A quotation mark of the program's string is none of the connection string's.
    inner_start, inner_end = place.span_in_marks
    if first <= inner_start and inner_end <= last:
        start, end = inner_start, inner_end
    if quote == dialect.within[0]:
        new = dialect.within[1].format(lookup)
        return Edit(start=start, end=end, new=new, reference=lookup, template=template)
    before, after = place.text[first:start], place.text[end:last]
    pieces = [f"{opening[0]}{before}{quote}"] if before else []
    pieces.append(lookup)
    pieces += [f"{opening[0]}{after}{quote}"] if after else []
    new = f"({f' {dialect.join} '.join(pieces)})"
    return Edit(start=token.start, end=token.end, new=new, reference=lookup, template=template)


def _go_import(place: Place) -> list[Edit]:
    package = _PACKAGE.search(place.text)
    if package is None or _GO_OS.search(place.text):
        return []
    return [Edit(start=package.end(), end=package.end(), new='\nimport "os"\n')]


# -- Python -------------------------------------------------------------------------------------------


def python(place: Place) -> list[Edit]:
    """Replace it in a string of Python, with the imports that the lookup needs."""
    text, (start, end) = place.text, place.span
    found = string_at(text, start, end)
    if found is None:
        if "#" in text[text.rfind("\n", 0, start) + 1 : start]:
            raise Impossible(COMMENT)
        raise Impossible(
            "it is in bytes, or in several strings that are joined: replace it by hand"
        )
    name = place.variable.removesuffix("_URL") if place.in_url else place.variable
    lookup = f'os.environ["{found.asked_for or name}"]'
    escaped = "" if place.in_url else place.conversion
    template = f"{found.asked_for or name}={{password{escaped}}}"
    modules = ["os"]
    if found.value == place.value:
        fallback = None if found.asked_for else _without_default(place, found.start, found.end)
        if fallback is not None:
            return [fallback]
        edit = Edit(
            start=found.start, end=found.end, new=lookup, reference=lookup, template=template
        )
        return [edit, *_imports(text, modules)]
    if found.asked_for or place.in_statement:
        raise Impossible(PART if found.asked_for else _STATEMENT)
    if place.in_url:
        modules.append("urllib.parse")
        lookup = f'urllib.parse.quote({lookup}, safe="")'
    opening = found.prefix + found.quote
    if (
        not place.is_plain
        or start < found.start + len(opening)
        or end > found.end - len(found.quote)
    ):
        raise Impossible(PART)
    inner_start, inner_end = place.span_in_marks
    if found.start + len(opening) <= inner_start and inner_end <= found.end - len(found.quote):
        start, end = inner_start, inner_end
    if found.is_format:
        # Before Python 3.12 an f-string cannot contain its own quotation marks.
        new = "{" + (lookup.replace('"', "'") if '"' in found.quote else lookup) + "}"
        edit = Edit(start=start, end=end, new=new, reference=lookup, template=template)
        return [edit, *_imports(text, modules)]
    pieces = [text[found.start : start] + found.quote, lookup, opening + text[end : found.end]]
    empty = opening + found.quote
    new = f"({' + '.join(one for one in pieces if one != empty)})"
    edit = Edit(start=found.start, end=found.end, new=new, reference=lookup, template=template)
    return [edit, *_imports(text, modules)]


def _imports(text: str, modules: list[str]) -> list[Edit]:
    """Return the edits that import modules; they follow the docstring and `__future__`."""
    tree = ast.parse(text)
    imported = {
        one.name
        for node in tree.body
        if isinstance(node, ast.Import)
        for one in node.names
        if one.asname is None
    }
    first = next((node for node in tree.body if not _is_head(node)), None)
    missing = [one for one in modules if one not in imported]
    if first is None or not missing:
        return []
    decorators: list[ast.expr] = getattr(first, "decorator_list", [])
    line = min([first.lineno, *(one.lineno for one in decorators)])
    lines = text.splitlines(keepends=True)
    ending = "\r\n" if lines[line - 1].endswith("\r\n") else "\n"
    at = sum(map(len, lines[: line - 1]))
    return [Edit(start=at, end=at, new="".join(f"import {one}{ending}" for one in missing))]


def _is_head(node: ast.stmt) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


# -- Terraform ----------------------------------------------------------------------------------------


def terraform(place: Place) -> list[Edit]:
    """Replace it by an input variable: Terraform reads `TF_VAR_NAME` from the environment."""
    text, (start, end) = place.text, place.span
    if place.suffix not in ("tf", "tfvars"):
        refused(place)
    tokens = source.strings(text, source.TERRAFORM)
    token = next((one for one, _ in tokens if one.start <= start and end <= one.end), None)
    if token is None:
        raise Impossible(COMMENT)
    line = text.rfind("\n", 0, token.start) + 1
    stop = text.find("\n", token.end)
    stop = len(text) if stop < 0 else stop + 1
    assigned = _ASSIGNED.fullmatch(text, line, token.start)
    rest = text[token.end : stop].strip()
    is_alone = not rest or rest.startswith(("#", "//"))
    is_whole = (start, end) in ((token.start + 1, token.end - 1), (token.start, token.end))
    block = _VARIABLE_BLOCK.search(text, 0, token.start)
    if assigned is not None and is_alone and is_whole and (place.suffix == "tfvars" or block):
        # The value of a variable: the line is removed, and the environment has it.
        name = block["name"] if block else assigned["name"]
        shown = f"TF_VAR_{name}"
        return [Edit(start=line, end=stop, new="", reference=shown, template=place.provides(shown))]
    if place.suffix == "tfvars" or block or token.text[:1] != '"' or not place.is_plain:
        raise Impossible(PART)
    name = place.variable.lower()
    new = f"var.{name}"
    declared = f'\nvariable "{name}" {{\n  type      = string\n  sensitive = true\n}}\n'
    is_declared = re.search(rf'^variable[ \t]+"{name}"', text, re.MULTILINE)
    edit = Edit(
        start=token.start if is_whole else start,
        end=token.end if is_whole else end,
        new=new if is_whole else f"${{{new}}}",
        reference=new,
        template=place.provides(f"TF_VAR_{name}"),
    )
    at = len(text)
    declared = declared if text.endswith("\n") else f"\n{declared}"
    return [edit] if is_declared else [edit, Edit(start=at, end=at, new=declared)]
