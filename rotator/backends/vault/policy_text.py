"""Policies as Vault and OpenBao keep them: HCL, or JSON, with one rule for each path.

The grammar is that of HCL 1 (https://github.com/hashicorp/hcl/tree/hcl1), as far as a policy uses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

DENY: Final = "deny"
# What the attribute `policy`, from before capabilities, stands for.
_OLD: Final[Mapping[str, tuple[str, ...]]] = {
    "deny": (DENY,),
    "read": ("read", "list"),
    "write": ("create", "read", "update", "delete", "list"),
    "sudo": ("create", "read", "update", "delete", "list", "sudo"),
}
_TOKEN: Final = re.compile(
    r"""
    (?P<space> [\s,]+ | \#[^\n]* | //[^\n]* | /\*.*?\*/ )
  | (?P<heredoc> <<-?(?P<end>\w+)\n .*? ^[ \t]* (?P=end) \b )
  | (?P<string> "(?: [^"\\\n] | \\. )*" )
  | (?P<number> -?\d[\w.+-]* )
  | (?P<word> [A-Za-z_][\w.-]* )
  | (?P<sign> [{}\[\]=] )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_WORDS: Final[Mapping[str, object]] = {"true": True, "false": False}
_Token: TypeAlias = tuple[str, str]
# The keys before a value, such as `path "secret/*"`, and the value.
_Item: TypeAlias = "tuple[tuple[str, ...], Any]"


class UnreadablePolicy(ValueError):
    """A policy is not what a server accepts today. Its text is not repeated."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one policy allows on a path as it is written there."""

    policy: str
    path: str
    capabilities: frozenset[str]


def rules(policy: str, text: str, now: datetime) -> list[Rule]:
    """Return the rules of a policy that have not expired. Raises `UnreadablePolicy`."""
    items = _json(text) if text.lstrip()[:1] == "{" else _hcl(text)
    found: list[Rule] = []
    for keys, value in items:
        if keys == ("name",):
            continue
        if len(keys) != 2 or keys[0] != "path" or not isinstance(value, list):  # noqa: PLR2004 # and the path
            raise UnreadablePolicy
        block = {one[0][0]: one[1] for one in cast("list[_Item]", value) if len(one[0]) == 1}
        if not _is_over(block.get("expiration"), now):
            found.append(Rule(policy, keys[1], _capabilities(block)))
    return found


def _capabilities(block: Mapping[str, Any]) -> frozenset[str]:
    named = block.get("capabilities", [])
    if not isinstance(named, list):
        raise UnreadablePolicy
    found = {str(one) for one in cast("list[object]", named)}
    if old := block.get("policy"):
        if old not in _OLD:
            raise UnreadablePolicy
        found |= set(_OLD[old])
    return frozenset((DENY,)) if DENY in found else frozenset(found)


def _is_over(expiration: object, now: datetime) -> bool:
    if not expiration:
        return False
    try:
        at = (
            datetime.fromtimestamp(int(str(expiration)), UTC)
            if str(expiration).isdigit()
            else datetime.fromisoformat(str(expiration))
        )
    except (ValueError, OverflowError):
        raise UnreadablePolicy from None
    return now > (at if at.tzinfo is not None else at.replace(tzinfo=UTC))


# -- HCL -------------------------------------------------------------------------------------------


def _hcl(text: str) -> list[_Item]:
    tokens = _tokens(text)
    tokens.reverse()
    items = _items(tokens, end=None)
    if tokens:
        raise UnreadablePolicy
    return items


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise UnreadablePolicy
        kind = "heredoc" if match["heredoc"] else match.lastgroup
        if kind != "space":
            found.append((kind, match[0]))
        at = match.end()
    return found


def _items(tokens: list[_Token], *, end: str | None) -> list[_Item]:
    """Take items off the end of reversed tokens, up to a sign, or up to the end of the text."""
    found: list[_Item] = []
    while tokens:
        if tokens[-1][1] == end:
            _ = tokens.pop()
            return found
        keys: list[str] = []
        while tokens and tokens[-1][0] in ("word", "string"):
            keys.append(_scalar(tokens.pop()))
        if not keys or not tokens:
            raise UnreadablePolicy
        if tokens[-1][1] == "=":
            _ = tokens.pop()
        elif tokens[-1][1] != "{":
            raise UnreadablePolicy
        found.append((tuple(keys), _value(tokens)))
    if end is not None:
        raise UnreadablePolicy
    return found


def _value(tokens: list[_Token]) -> Any:
    if not tokens:
        raise UnreadablePolicy
    token = tokens.pop()
    match token[1]:
        case "{":
            return _items(tokens, end="}")
        case "[":
            found: list[Any] = []
            while tokens and tokens[-1][1] != "]":
                found.append(_value(tokens))
            if not tokens:
                raise UnreadablePolicy
            _ = tokens.pop()
            return found
        case word if token[0] == "word":
            if word not in _WORDS:
                raise UnreadablePolicy
            return _WORDS[word]
        case _ if token[0] == "sign":
            raise UnreadablePolicy
        case _:
            return _scalar(token)


def _scalar(token: _Token) -> str:
    kind, text = token
    if kind != "string":
        return text
    try:
        return json.loads(text.replace("\t", "\\t"))
    except ValueError:
        raise UnreadablePolicy from None


# -- JSON ------------------------------------------------------------------------------------------


def _json(text: str) -> list[_Item]:
    try:
        top = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise UnreadablePolicy from None
    found: list[_Item] = []
    for key, value in top if isinstance(top, _Pairs) else ():
        if key != "path":
            found.append(((key,), value))
            continue
        for block in value if not isinstance(value, _Pairs) else [value]:
            if not isinstance(block, _Pairs):
                raise UnreadablePolicy
            for path, rule in block:
                for one in rule if not isinstance(rule, _Pairs) else [rule]:
                    if not isinstance(one, _Pairs):
                        raise UnreadablePolicy
                    found.append((("path", path), [((name,), given) for name, given in one]))
    return found


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys in order, also those that come twice."""
