"""Policies as the engine wants them: layered, whole, and refused when their parts do not agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from rotator.config.document import DEFAULT_POLICY, PolicyDocument, PolicyOverride
from rotator.config.fields import Names
from rotator.config.wording import name_fits, validated
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.model import Policy
from rotator.core.passwords import PasswordPolicy

if TYPE_CHECKING:
    from rotator.config.parsing import Data, Keys
    from rotator.config.source import Source

M = TypeVar("M", bound=BaseModel)


class Policies:
    """The policies of a file by name, each made once; `default` is always there."""

    def __init__(self, source: Source, data: dict[str, Data], names: Names) -> None:
        """Make every policy; what is wrong with one becomes a problem of `source`."""
        self._source: Source = source
        self._names: Names = names
        self._documents: dict[str, PolicyDocument] = {}
        self._policies: dict[str, Policy] = {}
        # Thousands of secrets may override the same keys in the same way.
        self._overridden: dict[str, Policy] = {}
        for name, below in {DEFAULT_POLICY: None, **data}.items():
            keys = ("policies", name)
            right = name_fits(source, keys) if name in data else True
            # With all its keys commented out, a policy is nothing.
            entry = {} if below is None else below
            document = validated(source, keys, entry, PolicyDocument, names)
            made = document and _policy(source, document, keys)
            if right and document is not None and made is not None:
                self._documents[name], self._policies[name] = document, made

    def chosen(self, choice: Data, keys: Keys) -> Policy | None:
        """Return the policy that a secret's `policy` chooses; None when it is wrong, and said."""
        if isinstance(choice, str):
            return self._policies.get(choice)
        written = json.dumps(choice)
        if written not in self._overridden:
            made = self._override(written, keys)
            if made is None:
                return None
            self._overridden[written] = made
        return self._overridden[written]

    def _override(self, written: str, keys: Keys) -> Policy | None:
        try:
            override = PolicyOverride.model_validate_json(written, context=self._names)
        except ValidationError:
            # It has been reported with the secret that it is a part of.
            return None
        base = self._documents.get(override.base)
        return None if base is None else _policy(self._source, _laid_over(base, override), keys)


def _policy(source: Source, document: PolicyDocument, keys: Keys) -> Policy | None:
    """Return the policy that a document describes, None when its parts do not go together."""
    before = len(source.problems)
    if document.every is not None and document.every < document.grace:
        source.problem(
            _first_of(source, keys, "every", "grace"),
            f"the period ({durations.write(document.every)}) is shorter than the grace period"
            f" ({durations.write(document.grace)}): the old credential would still be valid when"
            " the next rotation is due.",
            "Raise `every` or lower `grace`.",
        )
    retry = document.retry
    if retry.backoff_cap < retry.backoff:
        source.problem(
            _first_of(source, (*keys, "retry"), "backoff_cap", "backoff"),
            f"the longest wait ({durations.write(retry.backoff_cap)}) is shorter than the first"
            f" ({durations.write(retry.backoff)}).",
            "Raise `backoff_cap` or lower `backoff`.",
        )
    try:
        password = PasswordPolicy(**document.password.model_dump())
    except UsageError as error:
        source.problem((*keys, "password"), error.what, error.hint, at_key=True)
        return None
    if len(source.problems) > before:
        return None
    return Policy(
        every=document.every,
        grace=document.grace,
        drain_wait=document.drain.wait,
        drain_then=document.drain.then,
        drain_poll=document.drain.poll,
        attempts=retry.attempts,
        cycles=retry.cycles,
        backoff=retry.backoff,
        backoff_cap=retry.backoff_cap,
        proposals=document.proposals,
        step_timeout=document.step_timeout,
        password=password,
    )


def _laid_over(base: M, override: BaseModel) -> M:
    changes: dict[str, object] = {}
    for name in override.model_fields_set - {"base"}:
        below, above = getattr(base, name), getattr(override, name)
        changes[name] = _laid_over(below, above) if isinstance(above, BaseModel) else above
    return base.model_copy(update=changes)


def _first_of(source: Source, keys: Keys, *names: str) -> Keys:
    """Return the place of the first of `names` that the file has below `keys`."""
    return next(((*keys, name) for name in names if source.has((*keys, name))), keys)
