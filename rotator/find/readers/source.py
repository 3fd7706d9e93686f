"""Other programming languages, by a careful tokeniser: only strings with a named role count."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rotator.find import connection
from rotator.find.fields import Field, Group
from rotator.find.names import Meaning, is_password, meaning
from rotator.find.reading import NestedReader, Reading, moved, of_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.find.model import Match


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What a tokeniser has to know. `chars`: single quotes enclose one character, not a text."""

    name: str
    hash_comments: bool = False
    slash_comments: bool = True
    dash_comments: bool = False
    chars: bool = False
    backticks: bool = False
    triple: bool = False
    dashes: bool = False
    sections: bool = False
    joins_with_dot: bool = False


JAVASCRIPT: Final = Language(name="javascript", backticks=True)
GO: Final = Language(name="go", chars=True, backticks=True)
JAVA: Final = Language(name="java", chars=True, triple=True)
GROOVY: Final = Language(name="groovy", triple=True)
RUBY: Final = Language(name="ruby", hash_comments=True, slash_comments=False)
PHP: Final = Language(name="php", hash_comments=True, joins_with_dot=True)
RUST: Final = Language(name="rust", chars=True)
TERRAFORM: Final = Language(name="terraform", hash_comments=True, chars=True, dashes=True)
TOML: Final = Language(
    name="toml", hash_comments=True, slash_comments=False, triple=True, dashes=True, sections=True
)
POWERSHELL: Final = Language(name="powershell", hash_comments=True, slash_comments=False)
LUA: Final = Language(name="lua", dash_comments=True, slash_comments=False)
PYTHON: Final = Language(name="python", hash_comments=True, slash_comments=False, triple=True)
OTHER: Final = Language(name="source", hash_comments=True)

_ASSIGNING: Final = frozenset({"=", ":", "=>", ":=", "?=", "||=", "??=", "<-", "+="})
_FALLING_BACK: Final = frozenset({"||", "??", "?:", "or"})
_NAMING: Final = re.compile(
    r"env|config|setting|^(?:define|get\w*|set\w*|fetch|put\w*|property|systemproperty|add|default|option|param|var|secret|lookup|variable|const|attribute|string|stringvar)$",
    re.IGNORECASE,
)
_SETTER: Final = re.compile(
    r"^(?:set|with|use)?_?(?:\w{0,20}_?)?(?:pass|password|passwd|pwd)$", re.IGNORECASE
)
_BY_POSITION: Final = {
    "getconnection": ("url", "user", "password"),
    "mysqli_connect": ("host", "user", "password", "database"),
    "mysql_connect": ("host", "user", "password"),
    "mysqli": ("host", "user", "password", "database"),
    "real_connect": ("host", "user", "password", "database"),
    "pdo": ("url", "user", "password"),
    "sequelize": ("database", "user", "password"),
    "mysql_real_connect": ("", "host", "user", "password", "database"),
    "connect": ("url", "user", "password"),
}
_FORMATTING: Final = frozenset({"sprintf", "format"})
_PLACE: Final = re.compile(r"%[sdvq]")
_NAMED: Final = re.compile(r"(?P<name>[A-Za-z_]{1,40})='?$")
_STORES: Final = re.compile(r"redis|valkey|client|conn|cache|jedis", re.IGNORECASE)
_TYPED: Final = re.compile(r"[A-Za-z_]\w*")
_CLIENT: Final = re.compile(
    r"\b(?:mysql\w*|mariadb[\w\-]*|redis-cli|valkey-cli|sqlcmd)\s[^\n]{0,300}-|\b[A-Z_]*(?:PASSWORD|PASS|PWD)=\S"
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_DEEPEST: Final = 400


@dataclass(slots=True)
class Token:
    """A piece of a source text with its place."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Scope:
    group: Group
    callee: str = ""
    position: int = 0
    arguments: dict[int, Token] = field(default_factory=dict[int, Token])


def reader(language: Language) -> Callable[[str, NestedReader], Reading]:
    """Return the reader of a language."""

    def read(text: str, nested: NestedReader) -> Reading:
        return read_tokens(text, language, nested)

    return read


def read_tokens(text: str, language: Language, nested: NestedReader) -> Reading:
    """Read a source text token by token."""
    return _Source(text, language, nested).read()


def strings(text: str, language: Language) -> Iterator[tuple[Token, str]]:
    """Yield the strings of a source text, each with its value."""
    for found in _lexer(language).finditer(text):
        if found.lastgroup == "string":
            yield Token("string", found[0], found.start(), found.end()), _value(found[0])


class _Source:
    def __init__(self, text: str, language: Language, nested: NestedReader) -> None:
        self._text: str = text
        self._language: Language = language
        self._nested: NestedReader = nested
        self._root: Group = Group()
        self._groups: list[Group] = [self._root]
        self._scopes: list[_Scope] = [_Scope(self._root)]
        self._tokens: list[Token] = []
        self._extra: list[Match] = []

    def read(self) -> Reading:
        comments: list[Token] = []
        for found in _lexer(self._language).finditer(self._text):
            kind = found.lastgroup or ""
            token = Token(kind, found[0], found.start(), found.end())
            (comments if kind == "comment" else self._tokens).append(token)
        for comment in comments:
            if "://" in comment.text:
                outer = Field("", comment.text, comment.start, comment.end)
                self._extra += moved(self._text, outer, connection.urls(comment.text))
        for i, token in enumerate(self._tokens):
            if token.kind == "string":
                self._string(i, token)
            elif token.kind == "sign":
                self._sign(i, token)
            elif token.kind == "section":
                self._scopes = [_Scope(self._group(token.text.strip(" \t[]")))]
        reading = of_groups(self._text, self._groups)
        reading.matches += self._extra
        return reading

    def _group(self, label: str) -> Group:
        group = Group(
            parent=self._scopes[-1].group if not self._language.sections else None, label=label
        )
        self._groups.append(group)
        return group

    def _at(self, i: int) -> Token:
        return self._tokens[i] if 0 <= i < len(self._tokens) else _NO_TOKEN

    def _sign(self, i: int, token: Token) -> None:
        if token.text in _BRACKETS:
            if len(self._scopes) > _DEEPEST:
                return
            before = self._at(i - 1)
            callee = before.text if token.text == "(" and before.kind == "name" else ""
            label = callee
            if token.text == "{":
                label = _content(before.text) if before.kind == "string" else self._name(i - 1)[0]
            self._scopes.append(_Scope(self._group(label), callee=callee))
        elif token.text in ")]}" and len(self._scopes) > 1:
            self._close(self._scopes.pop())
        elif token.text == ",":
            self._scopes[-1].position += 1

    def _close(self, scope: _Scope) -> None:
        callee = re.split(r"\.|->|::", scope.callee)[-1].lower().lstrip("\\")
        if callee in _FORMATTING and 0 in scope.arguments:
            self._formatted(scope)
        order = _BY_POSITION.get(callee)
        if order is None or "password" not in order:
            return
        place = order.index("password")
        value = scope.arguments.get(place)
        if value is None or len(scope.arguments) < 2:  # noqa: PLR2004 # the login and the password
            return
        for position, name in enumerate(order):
            token = scope.arguments.get(position)
            if name and token is not None:
                role = f"argument {place + 1} of {scope.callee}()" if name == "password" else ""
                scope.group.add(name, _value(token.text), token.start, token.end, role=role)

    def _formatted(self, scope: _Scope) -> None:
        """Add the values of `Sprintf("%s:%s@tcp(db)/", "LOGIN", "VALUE")`."""
        template = _value(scope.arguments[0].text)
        for number, place in enumerate(_PLACE.finditer(template), start=1):
            before, token = template[: place.start()], scope.arguments.get(number)
            in_url = before.endswith(":") and template.startswith("@", place.end())
            named = _NAMED.search(before)
            if token is None or not (in_url or (named and is_password(named["name"]))):
                continue
            login = scope.arguments.get(number - 1) if in_url else None
            if login is not None and number > 1:
                scope.group.add("user", _value(login.text), login.start, login.end)
            role = f"argument {number + 1} of {scope.callee}()"
            scope.group.add("password", _value(token.text), token.start, token.end, role=role)

    def _string(self, i: int, token: Token) -> None:
        scope = self._scopes[-1]
        before, after = self._at(i - 1), self._at(i + 1)
        if before.text in ("(", ",") and after.text in (",", ")"):
            _ = scope.arguments.setdefault(scope.position, token)
        value = _value(token.text)
        name, role = self._role(i, before, scope)
        joined = (
            after.text == "+"
            or before.text == "+"
            or (self._language.joins_with_dot and after.text == ".")
        )
        if joined and not connection.may_hold(value):
            return
        if name or connection.may_hold(value):
            # `define("DB_PASSWORD", "...")` and `setPassword("...")` have their neighbours outside.
            by_call = before.text in ("(", ",") and len(self._scopes) > 1 and name
            group = self._scopes[-2].group if by_call else scope.group
            group.add(
                "" if joined else name, value, token.start, token.end, role="" if joined else role
            )
        if _CLIENT.search(value):
            self._extra += moved(
                self._text,
                Field("", value, token.start, token.end),
                self._nested("command.sh", value),
            )

    def _role(self, i: int, before: Token, scope: _Scope) -> tuple[str, str]:
        """Return the name of a string's value, and a role where a name alone would not prove it."""
        if before.text in _ASSIGNING:
            return self._name(i - 2)
        if before.text in _FALLING_BACK:
            name = self._before_fallback(i - 2)
            return name, f"default of {name}" if is_password(name) else ""
        if before.text == "," and self._at(i - 2).kind == "string" and self._at(i - 3).text == "(":
            callee = re.split(r"\.|->|::", scope.callee)[-1]
            if _NAMING.search(callee):
                return _value(self._at(i - 2).text), ""
        if before.text == "(" and scope.callee:
            callee = re.split(r"\.|->|::", scope.callee)[-1]
            if _SETTER.fullmatch(callee) and is_password(callee) and self._at(i + 1).text == ")":
                return callee, f"argument of {callee}()"
            if (
                meaning(callee)[0] in (Meaning.LOGIN, Meaning.HOST, Meaning.URL)
                and self._at(i + 1).text == ")"
            ):
                return callee, ""
            if callee == "auth" and _STORES.search(scope.callee) and self._at(i + 1).text == ")":
                return "password", "argument of auth()"
            outer = self._scopes[-2] if len(self._scopes) > 1 else scope
            if (
                callee
                in ("SecretString", "Secret", "SecretStr", "String", "sensitive", "nonsensitive")
                and outer
            ):
                return self._name(i - 4) if self._at(i - 3).text in _ASSIGNING else ("", "")
        if (
            before.kind == "name"
            and self._language.name == "ruby"
            and before.text in ("password", "pwd")
        ):
            return before.text, ""
        return "", ""

    def _name(self, i: int) -> tuple[str, str]:
        """Return the name before an operator: `dbPassword`, `'password'`, `$db['password']`, `x: string`."""
        token = self._at(i)
        if token.text == "]" and self._at(i - 1).kind == "string":
            return _value(self._at(i - 1).text), ""
        if token.text == "]" and self._at(i - 1).kind == "name":
            return self._at(i - 1).text, ""
        previous = self._at(i - 1)
        if token.kind == "string":
            return ("", "") if previous.text in ("?", "case") else (_value(token.text), "")
        if token.kind != "name":
            return "", ""
        if previous.text in ("?", "case"):
            return "", ""
        if (
            previous.text == ":"
            and self._at(i - 2).kind == "name"
            and is_password(self._at(i - 2).text)
        ):
            return self._at(i - 2).text, ""
        if previous.kind == "name" and is_password(previous.text) and not is_password(token.text):
            return previous.text, ""
        return token.text, ""

    def _before_fallback(self, i: int) -> str:
        """Return what a default is for: `process.env.DB_PASSWORD`, `ENV['DB_PASSWORD']`, `getenv("X")`."""
        token = self._at(i)
        if token.text in ("]", ")") and self._at(i - 1).kind == "string":
            return _value(self._at(i - 1).text)
        return token.text if token.kind == "name" else ""


_NO_TOKEN: Final = Token("", "", 0, 0)


@lru_cache(maxsize=32)
def _lexer(language: Language) -> re.Pattern[str]:
    comments = [r"/\*(?:[^*]|\*(?!/))*+(?:\*/)?"]
    if language.slash_comments:
        comments.append(r"//[^\n]*+")
    if language.hash_comments:
        comments.append(r"\#(?!\{)[^\n]*+")
    if language.dash_comments:
        comments.append(r"--[^\n]*+")
    strings = []
    if language.triple:
        strings += [r'"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?', r"'''(?:[^'\\]|\\.|'(?!''))*+(?:''')?"]
    strings.append(r'"(?:[^"\\\n]|\\.)*+"?')
    if not language.chars:
        strings.append(r"'(?:[^'\\\n]|\\.)*+'?")
    if language.backticks:
        strings.append(r"`(?:[^`\\]|\\.)*+`?")
    char = r"|(?P<char>'(?:\\[^']{1,10}|[^'\\\n])')" if language.chars else ""
    dash = r"\-" if language.dashes else ""
    section = (
        r"|(?P<section>^[ \t]*\[\[?[^\]\[\n=\"',]+\]\]?[ \t]*(?=\r?$|\#))"
        if language.sections
        else ""
    )
    return re.compile(
        rf"(?P<comment>{'|'.join(comments)}){section}|(?P<string>(?:(?<![\w])[a-zA-Z@$]{{1,2}})?(?:{'|'.join(strings)})){char}"
        rf"|(?P<name>[A-Za-z_$@][\w$@{dash}]*+(?:(?:\.|->|::|\?\.)[A-Za-z_$][\w$]*+)*+)"
        r"|(?P<number>[0-9][\w.]*+)"
        r"|(?P<sign>\|\|=|\?\?=|\|\||\?\?|\?:|:=|=>|\?=|<-|==+|!=+|\+=|<=|>=|[^\s\w])",
        re.DOTALL | re.MULTILINE,
    )


def _content(raw: str) -> str:
    """Return a string token without its prefix and its quotes."""
    raw = raw.lstrip("rRbBuUfF@$LNEe") if raw[:1] not in "\"'`" else raw
    for quote in ('"""', "'''", '"', "'", "`"):
        if raw.startswith(quote):
            return raw[len(quote) :].removesuffix(quote)
    return raw


def _value(raw: str) -> str:
    content = _content(raw)
    return _ESCAPE.sub(_unescaped, content) if "\\" in content else content


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(found[3], found[3])
