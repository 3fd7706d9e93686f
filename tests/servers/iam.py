"""IAM's evaluation of a policy, as far as ours go: what no statement allows is denied."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def allows(
    policy: str, action: str, arn: str, context: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Return whether a policy allows `action` on `arn`.

    `context` has the condition keys of the request, such as `aws:TagKeys`. Statements that deny are
    refused by `ValueError`, as is a condition that is not known: neither is taken for harmless.
    """
    return any(
        _matches(one["Action"], action)
        and _matches(one["Resource"], arn)
        and all(
            _holds(operator, wanted, context or {})
            for operator, wanted in one.get("Condition", {}).items()
        )
        for one in _statements(policy)
    )


def _statements(policy: str) -> list[dict[str, Any]]:
    found = cast("list[dict[str, Any]]", json.loads(policy)["Statement"])
    if any(one["Effect"] != "Allow" for one in found):
        raise ValueError("only what allows is known here.")
    return found


def _matches(patterns: str | list[str], text: str) -> bool:
    return any(_like(one, text) for one in ([patterns] if isinstance(patterns, str) else patterns))


def _like(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` any characters, `?` one; nothing else means something else."""
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in pattern)
    return re.fullmatch("".join(parts), text) is not None


def _holds(operator: str, wanted: dict[str, Any], context: Mapping[str, Sequence[str]]) -> bool:
    if operator != "ForAllValues:StringEquals":
        raise ValueError(f"the condition {operator} is not known here.")
    return all(set(context.get(key, ())) <= set(values) for key, values in wanted.items())
