"""What policies allow on a path, as Vault and OpenBao decide it: most exact path first, deny over all.

After `vault/acl.go` of OpenBao (https://openbao.org/docs/concepts/policies/). `sys/capabilities` of a real
server gives the same answers: tests/backends/test_vault_acl.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.backends.vault.policy_text import DENY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotator.backends.vault.policy_text import Rule

_TEMPLATE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")


@dataclass(slots=True)
class Allowed:
    """What the rules with the best match allow together. `rules`: those that say so."""

    capabilities: set[str] = field(default_factory=set[str])
    rules: list[Rule] = field(default_factory=list["Rule"])

    def merge(self, rule: Rule) -> None:
        """Add a rule for the same path. Denied stays denied."""
        if DENY in self.capabilities:
            return
        if DENY in rule.capabilities:
            self.capabilities, self.rules = {DENY}, [rule]
            return
        self.capabilities |= rule.capabilities
        self.rules.append(rule)

    def by(self, capabilities: Iterable[str]) -> list[Rule]:
        """Return the rules that allow one of these."""
        wanted = set(capabilities) & self.capabilities
        return [one for one in self.rules if wanted & one.capabilities]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A path with `+` for any segment, and perhaps `*` at its end."""

    parts: tuple[str, ...]
    is_prefix: bool
    # The later, the better a match: see `_CheckAllowedFromNonExactPaths` there.
    rank: tuple[int, bool, int, int, bytes]
    allowed: Allowed

    def matches(self, parts: list[str]) -> bool:
        if len(parts) < len(self.parts) or (len(parts) != len(self.parts) and not self.is_prefix):
            return False
        last = len(self.parts) - 1
        return all(
            one in ("+", part) or (self.is_prefix and number == last and part.startswith(one))
            for number, (one, part) in enumerate(zip(self.parts, parts, strict=False))
        )


class Acl:
    """The rules of all policies of one login."""

    def __init__(
        self, rules: Iterable[Rule], fill: Callable[[Rule, str], str | None] | None = None
    ) -> None:
        """`fill` returns the value of a directive in a rule's path, None where this login has none."""
        self._exact: dict[str, Allowed] = {}
        self._prefixes: dict[str, Allowed] = {}
        self._patterns: dict[str, Allowed] = {}
        for rule in rules:
            path = _filled(rule, fill or _no_value)
            if path is None:
                continue
            path = path.removeprefix("/")
            if path == "+" or "/+" in path or path.startswith("+/"):
                self._patterns.setdefault(path, Allowed()).merge(rule)
            elif path.endswith("*"):
                self._prefixes.setdefault(path[:-1], Allowed()).merge(rule)
            else:
                self._exact.setdefault(path, Allowed()).merge(rule)
        self._ranked: list[_Pattern] = [
            _pattern(path, allowed) for path, allowed in self._patterns.items()
        ]

    def on(self, path: str, *, listing: bool = False) -> Allowed:
        """Return what is allowed on a path. `listing`: as for LIST, which ends in a slash or not."""
        path = path.lstrip("/")
        # A folder without its slash comes last; Vault and OpenBao before 2.7 ask its wildcards first.
        paths = (path, path.removesuffix("/")) if listing else (path,)
        for look in (self._exact.get, self._by_wildcard):
            for one in paths:
                if (found := look(one)) is not None:
                    return found
        return Allowed()

    def _by_wildcard(self, path: str) -> Allowed | None:
        prefix = max((one for one in self._prefixes if path.startswith(one)), key=len, default=None)
        parts = path.split("/")
        found = [one for one in self._ranked if one.matches(parts)]
        if prefix is not None:
            allowed = self._prefixes[prefix]
            found.append(_Pattern((), True, _rank(prefix, len(prefix.encode()), 0, True), allowed))
        best = max(found, key=lambda one: one.rank, default=None)
        return None if best is None else best.allowed


def _pattern(path: str, allowed: Allowed) -> _Pattern:
    is_prefix = path.endswith("*")
    bare = path[:-1] if is_prefix else path
    parts = tuple(bare.split("/"))
    first = len(path[: path.index("+")].encode())
    return _Pattern(parts, is_prefix, _rank(bare, first, parts.count("+"), is_prefix), allowed)


def _rank(
    path: str,
    first: int,
    wildcards: int,
    is_prefix: bool,  # noqa: FBT001 # a part of the rank
) -> tuple[int, bool, int, int, bytes]:
    text = path.encode()
    return (first, not is_prefix, -wildcards, len(text), text)


def _no_value(_rule: Rule, _directive: str) -> None:
    """Have no value for any template: no entity belongs to this login."""


def _filled(rule: Rule, fill: Callable[[Rule, str], str | None]) -> str | None:
    """Return a path with its templates filled in; None where one has no value: the rule then does not apply."""
    if "{{" not in rule.path:
        return rule.path
    missing: list[str] = []

    def value(found: re.Match[str]) -> str:
        given = fill(rule, found[1])
        if not given:
            missing.append(found[1])
        return given or ""

    made = _TEMPLATE.sub(value, rule.path)
    return None if missing else made
