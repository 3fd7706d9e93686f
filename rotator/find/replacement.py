"""Replaces passwords in a text by references that fit its form; everything else stays as it is."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import yaml

from rotator.find import registry
from rotator.find.readers import source
from rotator.find.readers.python import string_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.find.model import Match

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{1,80}")
# Names that say nothing about whose password it is.
_GENERIC: Final = frozenset({"PASSWORD", "PASSWD", "PASS", "PWD"})
_DEFAULT_START: Final = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-|:=|-|=|:)$")
_DEFAULT_LONGEST: Final = 120
_SPRING: Final = re.compile(r"(?:^|/)(?:application|bootstrap)[\w.\-]*\.(?:ya?ml|properties)$")
_COMPOSE_NAME: Final = re.compile(r"(?:^|/)(?:[\w.\-]*-)?compose[\w.\-]*\.ya?ml$")
_ANSIBLE: Final = re.compile(r"(?:^|/)(?:group_vars|host_vars|playbooks?)(?:/|\.)")
_KUBERNETES: Final = re.compile(r"^(?:apiVersion|kind):", re.MULTILINE)
_ENTRY: Final = re.compile(r"(?P<key>value):[ \t]+$")
# By the suffix of a file: an expression for the variable `{}`.
_EXPRESSIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts"), "process.env.{}"),
    **dict.fromkeys(("java", "kt", "kts", "scala", "groovy", "gradle"), 'System.getenv("{}")'),
    **dict.fromkeys(("rb", "rake"), 'ENV.fetch("{}")'),
    **dict.fromkeys(("php", "phtml", "inc"), "getenv('{}')"),
    "cs": 'Environment.GetEnvironmentVariable("{}")',
}
_LANGUAGES: Final = {
    "javascript": source.JAVASCRIPT,
    "java": source.JAVA,
    "groovy": source.GROOVY,
    "ruby": source.RUBY,
    "php": source.PHP,
}
_SHELL: Final = re.compile(
    r"""(?P<single>'[^']*+')|(?P<double>"(?:[^"\\]|\\.)*+")|(?P<comment>(?<!\S)\#[^\n]*+)|\\.|[^'"\\\#]++|\#""",
    re.DOTALL,
)
_NO_REFERENCE: Final = "this form has no reference to a variable: let the agent write the file (rotator docs deliver-credentials)"
_PART: Final = "the password is a part of a longer text that cannot be split here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A password that was replaced, on a line of the text before. `reference` is what is there now.

    `template`: what `rotator exec --env` has to provide, such as `DB_PASSWORD={password}`; empty where
    something else does.
    """

    secret: str
    line: int
    reference: str
    template: str = ""


@dataclass(slots=True, kw_only=True)
class Rewritten:
    """A text with its passwords replaced. `left`: lines on which one stays, and why."""

    text: str
    changes: list[Change] = field(default_factory=list[Change])
    left: list[tuple[int, str]] = field(default_factory=list["tuple[int, str]"])


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    new: str
    reference: str
    template: str = ""


class _Impossible(Exception):
    """The reason why a password stays."""


def rewrite(path: str, text: str, secrets: Mapping[str, str]) -> Rewritten:
    """Replace the passwords that are the keys of `secrets`, each by a reference to its managed secret."""
    result = Rewritten(text=text)
    edits: list[_Edit] = []
    modules: set[str] = set()
    for match in registry.read(path, text).matches:
        secret = secrets.get(match.value.reveal())
        if secret is None:
            continue
        line = text.count("\n", 0, match.start) + 1
        try:
            edit = _edit(path, text, match, secret, modules)
            _ = _checked(path, _applied(text, [edit]))
        except _Impossible as error:
            result.left.append((line, str(error)))
            continue
        edits.append(edit)
        result.changes.append(
            Change(secret=secret, line=line, reference=edit.reference, template=edit.template)
        )
    text = _applied(text, edits)
    for module in sorted(modules):
        text = _with_import(text, module)
    try:
        result.text = _checked(path, text)
    except _Impossible as error:
        result.left += [(one.line, str(error)) for one in result.changes]
        result.changes = []
    return result


def _edit(path: str, text: str, match: Match, secret: str, modules: set[str]) -> _Edit:
    form = match.form
    if form == "python":
        return _python(text, match, secret, modules)
    if form == "yaml":
        return _yaml(path, text, match, secret)
    if form == "dotenv":
        return _in_text(text, match, secret, "${{{}}}", quotes='"')
    if form == "shell":
        return _shell(text, match, secret)
    if form == "properties" and _SPRING.search(path):
        return _in_text(text, match, secret, "${{{}}}", quotes="")
    suffix = path.rpartition(".")[2].lower()
    if form in _LANGUAGES and suffix in _EXPRESSIONS:
        return _expression(text, match, secret, form, _EXPRESSIONS[suffix])
    if form == "dockerfile":
        raise _Impossible(
            "a variable of an image keeps its value: remove it, and provide it at run time"
        )
    raise _Impossible(_NO_REFERENCE)


def _variable(match: Match, secret: str) -> tuple[str, str]:
    """Return the name of a variable, and the template that `rotator exec` fills it by."""
    base = re.sub(r"\W", "_", secret).upper()
    if "URL" in match.role.split():
        name = f"{base}_PASSWORD_URL"
        return name, f"{name}={{password:url}}"
    name = (
        match.name
        if _VARIABLE.fullmatch(match.name) and match.name not in _GENERIC
        else f"{base}_PASSWORD"
    )
    return name, f"{name}={{password}}"


def _in_text(text: str, match: Match, secret: str, form: str, *, quotes: str) -> _Edit:
    """Replace a value by a variable that the reader of the file expands, also within quotation marks.

    `quotes`: those in which it is expanded; where they are the others, they are replaced.
    """
    start, end = match.start, match.end
    name, template = _variable(match, secret)
    default = _DEFAULT_START.search(text, max(0, start - _DEFAULT_LONGEST), start)
    if default is not None and text[end : end + 1] == "}":
        name = default["name"]
        new = form.format(name)
        return _Edit(default.start(), end + 1, new, new, f"{name}={{password}}")
    new = form.format(name)
    reference = new
    if quotes and text[start : start + 1] in ("'", '"') and text[end - 1 : end] == text[start]:
        new = f"{quotes}{new}{quotes}"
    elif quotes and text[start - 1 : start] == "'":
        if text[end : end + 1] != "'":
            raise _Impossible(_PART)
        start, end, new = start - 1, end + 1, f"{quotes}{new}{quotes}"
    return _Edit(start, end, new, reference, template)


def _shell(text: str, match: Match, secret: str) -> _Edit:
    """Replace a value within a word, with quotation marks where it has none."""
    name, template = _variable(match, secret)
    default = _DEFAULT_START.search(text, max(0, match.start - _DEFAULT_LONGEST), match.start)
    if default is not None and text[match.end : match.end + 1] == "}":
        name = default["name"]
        new = f"${{{name}:?}}"
        return _Edit(default.start(), match.end + 1, new, new, f"{name}={{password}}")
    reference = f"${{{name}:?}}"
    for token in _SHELL.finditer(text):
        if token.end() <= match.start:
            continue
        if token.lastgroup == "double":
            inside = match.start > token.start() and match.end < token.end()
            new = reference if inside else f'"{reference}"'
            return _Edit(match.start, match.end, new, reference, template)
        if token.lastgroup == "single":
            whole = token[0].strip("'") == match.value.reveal()
            if not whole:
                raise _Impossible(_PART)
            return _Edit(token.start(), token.end(), f'"{reference}"', reference, template)
        if token.lastgroup == "comment":
            raise _Impossible("it is in a comment: remove it")
        break
    return _Edit(match.start, match.end, f'"{reference}"', reference, template)


def _python(text: str, match: Match, secret: str, modules: set[str]) -> _Edit:
    found = string_at(text, match.start, match.end)
    if found is None:
        raise _Impossible("it is no plain string of its own")
    name, _ = _variable(match, secret)
    name = name.removesuffix("_URL") if "URL" in match.role.split() else name
    template = f"{name}={{password}}"
    variable = f'os.environ["{found.asked_for or name}"]'
    if found.value == match.value.reveal():
        modules.add("os")
        template = f"{found.asked_for or name}={{password}}"
        return _Edit(found.start, found.end, variable, variable, template)
    raw, quote = text[found.start : found.end], found.quote
    before, after = raw[: match.start - found.start], raw[match.end - found.start :]
    if (
        found.asked_for
        or match.start < found.start + len(found.prefix + quote)
        or match.end > found.end - len(quote)
    ):
        raise _Impossible(_PART)
    modules.add("os")
    expression = variable
    if "URL" in match.role.split():
        modules.add("urllib.parse")
        expression = f'urllib.parse.quote({variable}, safe="")'
    pieces = [before + quote, expression, found.prefix + quote + after]
    empty = found.prefix + quote + quote
    new = f"({' + '.join(one for one in pieces if one != empty)})"
    return _Edit(found.start, found.end, new, expression, template)


def _with_import(text: str, module: str) -> str:
    """Return a Python text that imports a module; the import follows the docstring and `__future__`."""
    tree = ast.parse(text)
    first: ast.stmt | None = None
    for node in tree.body:
        if isinstance(node, ast.Import) and any(
            one.name == module and one.asname is None for one in node.names
        ):
            return text
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if first is None and not is_docstring and not is_future:
            first = node
    if first is None:
        return text
    decorators: list[ast.expr] = getattr(first, "decorator_list", [])
    line = min([first.lineno, *(one.lineno for one in decorators)])
    lines = text.splitlines(keepends=True)
    ending = "\r\n" if lines[line - 1].endswith("\r\n") else "\n"
    return "".join([*lines[: line - 1], f"import {module}{ending}", *lines[line - 1 :]])


def _yaml(path: str, text: str, match: Match, secret: str) -> _Edit:
    name, template = _variable(match, secret)
    scalar = _scalar(text, match)
    whole = scalar is not None and scalar[2] == match.value.reveal()
    if _KUBERNETES.search(text):
        if scalar is None or not whole:
            raise _Impossible(_PART)
        return _secret_key(text, scalar, secret)
    if (
        _SPRING.search(path)
        or _COMPOSE_NAME.search(path)
        or re.search(r"^services:", text, re.MULTILINE)
    ):
        if scalar is not None and whole and text[scalar[0] : scalar[0] + 1] not in ("'", '"'):
            reference = f"${{{name}}}"
            return _Edit(scalar[0], scalar[1], f'"{reference}"', reference, template)
        return _in_text(text, match, secret, "${{{}}}", quotes="")
    if scalar is None or not whole:
        raise _Impossible(_PART)
    new = ""
    if ".github/workflows/" in path:
        return _Edit(
            scalar[0], scalar[1], f"${{{{ secrets.{name} }}}}", f"${{{{ secrets.{name} }}}}"
        )
    if ".gitlab-ci" in path:
        new, template = f"${name}", ""
    elif path.rpartition("/")[2] in ("database.yml", "database.yaml"):
        new = f'<%= ENV["{name}"] %>'
    elif _ANSIBLE.search(path):
        new = f"\"{{{{ lookup('env', '{name}') }}}}\""
    if not new:
        raise _Impossible(_NO_REFERENCE)
    return _Edit(scalar[0], scalar[1], new, new.strip('"'), template)


def _scalar(text: str, match: Match) -> tuple[int, int, str] | None:
    """Return the place and the value of the scalar that contains a match."""
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.ScalarEvent):
                start, end = event.start_mark.index, event.end_mark.index
                if start <= match.start and match.end <= end:
                    return start, end, event.value
    except yaml.YAMLError:
        return None
    return None


def _secret_key(text: str, scalar: tuple[int, int, str], secret: str) -> _Edit:
    """Replace `value: VALUE` of a container's variable by a reference to a Secret object."""
    start = text.rfind("\n", 0, scalar[0]) + 1
    entry = _ENTRY.search(text, start, scalar[0])
    if entry is None:
        raise _Impossible(
            "a Kubernetes object holds it: let the agent write a Secret (rotator docs deliver-credentials)"
        )
    name = re.sub(r"[^a-z0-9.\-]", "-", secret.lower()).strip("-.")
    column = " " * (entry.start() - start)
    new = (
        f"valueFrom:\n{column}  secretKeyRef:\n{column}    name: {name}\n{column}    key: password"
    )
    return _Edit(entry.start(), scalar[1], new, f"secretKeyRef {name}/password")


def _expression(text: str, match: Match, secret: str, form: str, expression: str) -> _Edit:
    """Replace a whole string of another programming language."""
    name, template = _variable(match, secret)
    for token, value in source.strings(text, _LANGUAGES[form]):
        if token.start <= match.start and match.end <= token.end:
            if value != match.value.reveal():
                raise _Impossible(_PART)
            new = expression.format(name)
            return _Edit(token.start, token.end, new, new, template)
    raise _Impossible(_PART)


def _applied(text: str, edits: list[_Edit]) -> str:
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def _checked(path: str, text: str) -> str:
    """Return a text that is still valid. Raises `_Impossible`."""
    form = registry.form_of(path, text)
    check = _CHECKS.get(form)
    if check is not None:
        try:
            check(text)
        except (SyntaxError, ValueError, yaml.YAMLError):
            raise _Impossible("the file would no longer be valid") from None
    return text


def _parse_yaml(text: str) -> None:
    for _ in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        pass


_CHECKS: Final[Mapping[str, Callable[[str], object]]] = {"python": ast.parse, "yaml": _parse_yaml}
