"""Python, by its own parser: names, keys, keywords, defaults and arguments by position."""

from __future__ import annotations

import ast
import io
import re
import warnings
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, cast

from rotator.find import command_line, connection
from rotator.find.command_line import Word
from rotator.find.fields import Field, Group
from rotator.find.names import Meaning, meaning
from rotator.find.readers.source import PYTHON, read_tokens
from rotator.find.reading import NestedReader, Reading, moved, of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a variable part of a text becomes: no password contains it.
_VARIABLE: Final = "\x00"
_DEEPEST: Final = 60
# Calls that name a value: `os.environ.get("DB_PASSWORD", "...")`, `config("PASSWORD", default="...")`.
_NAMING: Final = re.compile(
    r"env|config|setting|^(?:get|set|setdefault|pop|putenv|put|option|param|var|secret|add_argument|variable)$",
    re.IGNORECASE,
)
_WRAPPERS: Final = frozenset(
    {
        "SecretStr",
        "Secret",
        "SecretBytes",
        "str",
        "quote",
        "quote_plus",
        "bytes",
        "make_url",
        "Password",
        "urlquote",
        "mark_safe",
    }
)
_DEFAULTS: Final = frozenset(
    {"Field", "field", "Column", "mapped_column", "StringVar", "CharField"}
)
_BY_POSITION: Final = {
    "connect": ("host", "user", "password", "database"),
    "Connect": ("host", "user", "password", "database"),
    "Connection": ("host", "user", "password", "database"),
    "create_pool": ("host", "user", "password", "database"),
    "Redis": ("host", "port", "", "password"),
    "StrictRedis": ("host", "port", "", "password"),
    "Valkey": ("host", "port", "", "password"),
    "URL": ("drivername", "username", "password", "host", "port", "database"),
    "URL.create": ("drivername", "username", "password", "host", "port", "database"),
}
_ORACLE: Final = ("user", "password", "dsn")
_CLIENT: Final = re.compile(
    r"\b(?:mysql\w*|mariadb[\w\-]*|redis-cli|valkey-cli|psql|sqlcmd)\s[^\n]{0,300}-|\b[A-Z_]*(?:PASSWORD|PASS|PWD)=\S"
)
_COMMENT: Final = re.compile(r"#[^\n]*+")
_PLAIN: Final = re.compile(
    r"(?P<prefix>[rRuU]?)(?P<quote>\"{3}|'{3}|[\"'])(?:(?!(?P=quote))(?:\\.|[^\\]))*+(?P=quote)",
    re.DOTALL,
)
_FORMAT: Final = re.compile(r"(?P<prefix>[fFrR]{1,2})(?P<quote>\"{3}|'{3}|[\"'])")
_LOOKS_UP: Final = re.compile(r"(?:^|\.)(?:getenv|environ\.get)$")
# Nodes without any below them.
_EMPTY: Final = (ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop)
_STORES: Final = re.compile(r"redis|valkey|client|conn|cache|^r$", re.IGNORECASE)


def python(text: str, nested: NestedReader) -> Reading:
    """Read Python. A file that Python cannot parse is read token by token."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Reading(matches=read_tokens(text, PYTHON, nested).matches, is_broken=True)
    return _Module(text, nested).read(tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainString:
    """A string of one token. `asked_for`: the variable whose default it is; the place is then that call's.

    `is_format`: an f-string, whose `value` is that of the text around its variable parts.
    """

    start: int
    end: int
    value: str
    prefix: str
    quote: str
    asked_for: str = ""
    is_format: bool = False


def string_at(text: str, start: int, end: int) -> PlainString | None:
    """Return the string that contains a place; None for bytes and for strings that are joined."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    module = _Module(text, lambda _name, _text: [])
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first, last = module.place(node)
            if first <= start and end <= last:
                return _format_string(text, first, last, node)
            continue
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.Constant) or not isinstance(child.value, str):
                continue
            first, last = module.place(child)
            if not (first <= start and end <= last):
                continue
            token = _PLAIN.fullmatch(text[first:last])
            if token is None:
                return None
            name = ""
            if (
                isinstance(node, ast.Call)
                and child in node.args[1:2]
                and _LOOKS_UP.search(_dotted(node.func))
            ):
                asked = node.args[0]
                name = (
                    asked.value
                    if isinstance(asked, ast.Constant) and isinstance(asked.value, str)
                    else ""
                )
                first, last = module.place(node) if name else (first, last)
            return PlainString(
                start=first,
                end=last,
                value=child.value,
                prefix=token["prefix"],
                quote=token["quote"],
                asked_for=name,
            )
    return None


def _format_string(text: str, start: int, end: int, node: ast.JoinedStr) -> PlainString | None:
    opening = _FORMAT.match(text, start, end)
    if opening is None or not text.endswith(opening["quote"], start, end):
        return None
    # Strings that are joined without a sign: their quotation marks are in the middle.
    if opening["quote"] in text[opening.end() : end - len(opening["quote"])]:
        return None
    return PlainString(
        start=start,
        end=end,
        value=_text_of(node) or "",
        prefix=opening["prefix"],
        quote=opening["quote"],
        is_format=True,
    )


class _Module:
    """Reads one parsed file, node by node, without recursion into nodes."""

    def __init__(self, text: str, nested: NestedReader) -> None:
        self._text: str = text
        self._nested: NestedReader = nested
        # Lines as Python counts them: a form feed ends none.
        self._lines: list[str] = list(io.StringIO(text, newline=""))
        # Where each character begins, in bytes, in a line that is not ASCII.
        self._bytes: dict[int, list[int]] = {}
        self._starts: list[int] = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._groups: list[Group] = []
        self._seen: set[int] = set()
        self._commands: list[Field] = []

    def read(self, tree: ast.Module) -> Reading:
        stack: list[tuple[ast.AST, Group]] = [(tree, self._group(None, ""))]
        while stack:
            node, group = stack.pop()
            inner = self._visit(node, group)
            stack += [(child, inner) for child in _children(node) if id(child) not in self._seen]
        reading = of_groups(self._text, self._groups)
        for comment in _COMMENT.finditer(self._text) if "://" in self._text else ():
            outer = Field("", comment[0], comment.start(), comment.end())
            reading.matches += moved(self._text, outer, connection.urls(comment[0]))
        for one in self._commands:
            reading.matches += moved(self._text, one, self._nested("command.sh", one.value))
        return reading

    def _group(self, parent: Group | None, label: str) -> Group:
        group = Group(parent=parent, label=label)
        self._groups.append(group)
        return group

    def _visit(self, node: ast.AST, group: Group) -> Group:
        """Add what a node names; return the group of the nodes below it."""
        match node:
            case ast.Expr(value=ast.Constant()):
                # A docstring is prose, full of examples.
                self._seen.add(id(node.value))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                inner = self._group(group, getattr(node, "name", ""))
                self._defaults(node.args, inner)
                return inner
            case ast.ClassDef():
                return self._group(group, node.name)
            case ast.Dict():
                return self._dictionary(node, group)
            case ast.Call():
                return self._call(node, group)
            case ast.List() | ast.Tuple():
                self._command(node.elts, group)
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
                return self._assign(node, group)
            case ast.Compare():
                return self._group(None, "")
            case ast.Constant() | ast.JoinedStr() | ast.BinOp():
                self._string(node, group)
            case _:
                pass
        return group

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr, group: Group) -> Group:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value is None:
            return group
        for target in targets:
            if isinstance(target, (ast.Tuple, ast.List)) and isinstance(
                node.value, (ast.Tuple, ast.List)
            ):
                for one, value in zip(target.elts, node.value.elts, strict=False):
                    self._add(group, self._name(one), value)
            else:
                self._add(group, self._name(target), node.value)
        name = self._name(targets[0])
        if isinstance(node.value, (ast.Dict, ast.Call)):
            return self._group(group, name)
        return group

    def _name(self, node: ast.AST) -> str:
        match node:
            case ast.Name():
                return node.id
            case ast.Attribute():
                return node.attr
            case ast.Subscript(slice=ast.Constant(value=str(key))):
                return key
            case ast.Constant(value=str(key)):
                return key
            case _:
                return ""

    def _dictionary(self, node: ast.Dict, group: Group) -> Group:
        inner = self._group(group, group.label if not group.fields else "")
        for key, value in zip(node.keys, node.values, strict=True):
            name = self._name(key) if key is not None else ""
            if isinstance(key, ast.Constant):
                self._seen.add(id(key))
            self._add(inner, name, value)
        return inner

    def _defaults(self, arguments: ast.arguments, group: Group) -> None:
        positional = [*arguments.posonlyargs, *arguments.args]
        if arguments.defaults:
            for one, value in zip(
                positional[-len(arguments.defaults) :], arguments.defaults, strict=True
            ):
                self._add(group, one.arg, value)
        for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if value is not None:
                self._add(group, one.arg, value)

    def _call(self, node: ast.Call, group: Group) -> Group:
        callee = _dotted(node.func)
        last = callee.rpartition(".")[2]
        label = group.label if not group.fields and last in _DEFAULTS else callee
        inner = self._group(group, label)
        first = node.args[0] if node.args else None
        name = self._name(first) if isinstance(first, ast.Constant) else ""
        for keyword in node.keywords:
            called = keyword.arg or ""
            if called == "default" and name and meaning(name)[0] is not Meaning.OTHER:
                called = name
            self._add(inner, called, keyword.value)
        if name and len(node.args) == 2 and _NAMING.search(last):  # noqa: PLR2004 # a name and a value
            self._add(inner, name, node.args[1])
        elif last in _DEFAULTS and len(node.args) == 1:
            self._add(inner, "default", node.args[0])
        self._positions(node, callee, inner)
        if last == "execute_command" and name.upper() == "AUTH" and len(node.args) > 1:
            self._add(inner, "password", node.args[-1], role="argument of AUTH")
        if last == "auth" and len(node.args) == 1 and _STORES.search(callee):
            self._add(inner, "password", node.args[0], role="argument of auth()")
        return inner

    def _positions(self, node: ast.Call, callee: str, group: Group) -> None:
        parts = callee.split(".")
        order = _BY_POSITION.get(".".join(parts[-2:])) or _BY_POSITION.get(parts[-1])
        if order is None or any(isinstance(one, ast.Starred) for one in node.args):
            return
        if parts[-1].lower().startswith("connect") and "ora" in parts[0].lower():
            order = _ORACLE
        if "password" not in order[: len(node.args)]:
            return
        for name, value in zip(order, node.args, strict=False):
            if name:
                position = order.index(name) + 1
                role = f"argument {position} of {callee}()" if name == "password" else ""
                self._add(group, name, value, role=role)

    def _command(self, items: list[ast.expr], group: Group) -> None:
        words: list[Word] = []
        for item in items:
            value = _text_of(item)
            if value is None:
                return
            start, end = self.place(item)
            words.append(Word(value, start, end))
        if len(words) > 1 and not any(" " in one.value for one in words[:1]):
            inner = self._group(group, "")
            command_line.read(words, inner)
            for item in items:
                if isinstance(item, ast.Constant):
                    self._string(item, group)
                    self._seen.add(id(item))

    def _add(self, group: Group, name: str, node: ast.expr, *, role: str = "") -> None:
        for part, is_default in _literals(node):
            value = _text_of(part)
            if value is None:
                continue
            self._see(part)
            start, end = self.place(part)
            called = name
            if isinstance(part, ast.Constant) and isinstance(part.value, int):
                if meaning(name)[0] not in (Meaning.PORT, Meaning.PASSWORD):
                    continue
            elif _CLIENT.search(value):
                self._commands.append(Field("", value, start, end))
            group.add(
                called,
                value,
                start,
                end,
                role=role
                or (
                    f"default of {name}"
                    if is_default and meaning(name)[0] is Meaning.PASSWORD
                    else ""
                ),
            )

    def _string(self, node: ast.expr, group: Group) -> None:
        value = _text_of(node)
        if value is None or id(node) in self._seen:
            return
        self._see(node)
        if connection.may_hold(value) or _CLIENT.search(value):
            start, end = self.place(node)
            group.add("", value, start, end)
            if _CLIENT.search(value):
                self._commands.append(group.fields[-1])

    def _see(self, node: ast.AST) -> None:
        self._seen.add(id(node))
        if isinstance(node, (ast.JoinedStr, ast.BinOp)):
            self._seen.update(
                id(one)
                for one in ast.iter_child_nodes(node)
                if isinstance(one, (ast.Constant, ast.BinOp))
            )

    def place(self, node: ast.expr) -> tuple[int, int]:
        """Return where a node begins and ends in the text."""
        return (
            self._index(node.lineno, node.col_offset),
            self._index(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
        )

    def _index(self, line: int, column: int) -> int:
        if line > len(self._lines):
            return len(self._text)
        content = self._lines[line - 1]
        if not content.isascii():
            if line not in self._bytes:
                lengths = (len(one.encode(errors="surrogatepass")) for one in content)
                self._bytes[line] = list(accumulate(lengths, initial=0))
            column = bisect_left(self._bytes[line], column)
        return self._starts[line - 1] + column


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one that may hold a value: as `ast.iter_child_nodes`, and twice as fast."""
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            yield from (one for one in cast("list[object]", value) if isinstance(one, ast.AST))
        elif isinstance(value, ast.AST) and not isinstance(value, _EMPTY):
            yield value


def _dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def _literals(node: ast.expr) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the parts of an expression that may be its value: `x or "VALUE"`, `SecretStr("VALUE")`."""
    match node:
        case ast.BoolOp(op=ast.Or()):
            for part in node.values[1:]:
                yield part, True
        case ast.IfExp():
            yield node.body, False
            yield node.orelse, True
        case ast.Call() if (
            _dotted(node.func).rpartition(".")[2] in _WRAPPERS and len(node.args) == 1
        ):
            yield node.args[0], False
        case ast.Call(
            func=ast.Attribute(attr="encode" | "decode" | "strip", value=ast.Constant() as inner)
        ):
            yield inner, False
        case _:
            yield node, False


def _text_of(node: ast.AST, depth: int = 0) -> str | None:
    """Return a text, with `_VARIABLE` where a part of it is variable; None for what is no text."""
    if depth > _DEEPEST:
        return None
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=str(value)):
            return value
        case ast.Constant(value=bytes(value)):
            return value.decode("latin-1")
        case ast.Constant(value=int(value)):
            return str(value) if value.bit_length() < 64 else None  # noqa: PLR2004 # a port, a number
        case ast.JoinedStr():
            return "".join(
                one.value
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
                else _VARIABLE
                for one in node.values
            )
        case ast.BinOp(op=ast.Add()):
            left, right = _text_of(node.left, depth + 1), _text_of(node.right, depth + 1)
            if left is None and right is None:
                return None
            return (_VARIABLE if left is None else left) + (_VARIABLE if right is None else right)
        case _:
            return None
