"""Policies are decided as a real server decides them: random policies, random paths, no difference."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from rotator.backends.vault.acl import Acl
from rotator.backends.vault.policy_text import UnreadablePolicy, rules
from tests.servers.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
# How many paths are compared; once by hand with ROTATOR_ACL_CASES=20000.
_CASES: Final = int(os.environ.get("ROTATOR_ACL_CASES", "1200"))
_PATHS_EACH: Final = 12
_SEGMENTS: Final = ("a", "ab", "b", "data", "é", "+", "+", "a*b")
_CAPABILITIES: Final = ("create", "read", "update", "delete", "list", "sudo", "patch", "scan")


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


def _pattern(chance: random.Random) -> str:
    path = "/".join(chance.choice(_SEGMENTS) for _ in range(chance.randint(1, 4)))
    if chance.random() < 0.4:
        path += chance.choice(("*", "/*", "/"))
    return ("/" if chance.random() < 0.1 else "") + path.replace("+*", "a*")


def _path(chance: random.Random) -> str:
    path = "/".join(
        chance.choice(("a", "ab", "abc", "b", "data", "é")) for _ in range(chance.randint(1, 5))
    )
    return path + ("/" if chance.random() < 0.2 else "")


def _policy(chance: random.Random) -> str:
    lines: list[str] = []
    for _ in range(chance.randint(1, 6)):
        if chance.random() < 0.1:
            rule = f'policy = "{chance.choice(("read", "write", "deny", "sudo"))}"'
        else:
            named = chance.sample(_CAPABILITIES, chance.randint(1, 4))
            named += ["deny"] if chance.random() < 0.1 else []
            rule = f"capabilities = {json.dumps(named)}"
        comment = chance.choice(("", "  # one", "  // two", "  /* three } */"))
        lines.append(
            f"path {json.dumps(_pattern(chance), ensure_ascii=False)} {{ {rule} }}{comment}"
        )
    return "\n".join(lines)


def test_random_policies_are_decided_as_the_server_decides(bao: ScratchOpenBao):
    """Two policies at once, by exact paths, prefixes and segments, with and without deny."""
    chance = random.Random(20261127)
    differences: list[str] = []
    compared = 0
    while compared < _CASES:
        texts = {"one": _policy(chance), "two": _policy(chance)}
        for name, text in texts.items():
            bao.policy(name, text)
        token = bao.token(*texts)
        paths = sorted({_path(chance) for _ in range(_PATHS_EACH)})
        answers = bao.call("POST", "sys/capabilities", token=token, paths=paths)["data"]
        acl = Acl(rule for name, text in texts.items() for rule in rules(name, text, _NOW))
        for path in paths:
            ours = acl.on(path, listing=True).capabilities
            theirs = set(answers[path])
            compared += 1
            if (ours or {"deny"}) != theirs:
                differences.append(f"{path}: {ours} is not {theirs}, by {texts}")
    assert compared >= _CASES
    assert differences == []


_TEXTS: Final = {
    "with comments and old words": 'path "a" { policy = "read" } # path "b" {\n/* path "c" { */',
    "with other attributes": 'name = "x"\npath "a" { capabilities = ["read", "list",]\n'
    ' allowed_parameters = { "*" = [] }\n min_wrapping_ttl = "1s"\n max_wrapping_ttl = 90 }',
    "as JSON": '{"path": {"a": {"capabilities": ["read", "list"]}}}',
    "twice": 'path "a" { capabilities = ["read"] }\npath "a" { capabilities = ["list"] }',
    "with an escape": 'path "\\u0061" { capabilities = ["read", "list"] }',
}


@pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
def test_a_policy_is_read_as_the_server_reads_it(bao: ScratchOpenBao, text: str):
    bao.policy("form", text)
    answer = bao.call("POST", "sys/capabilities", token=bao.token("form"), paths=["a"])
    ours = Acl(rules("form", text, _NOW)).on("a").capabilities
    assert ours == set(answer["data"]["a"]) == {"read", "list"}


def test_an_expired_rule_allows_nothing():
    text = 'path "a" { capabilities = ["read"] expiration = "2026-01-01T00:00:00Z" }'
    assert rules("old", text, _NOW) == []


@pytest.mark.parametrize(
    "text", ['path "a" {', "path { }", 'path "a" { capabilities = "read" }', "{", "a = b"]
)
def test_what_is_no_policy_is_refused(text: str):
    """Never taken for a policy that allows nothing."""
    with pytest.raises(UnreadablePolicy):
        rules("bad", text, _NOW)
