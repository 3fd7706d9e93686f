"""Policies as the engine wants them: layered, whole, and refused when their parts do not agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from rotator.config.document import DEFAULT_POLICY, PolicyDocument, PolicyOverride
from rotator.config.fields import Names
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.model import Policy
from rotator.core.passwords import PasswordPolicy

if TYPE_CHECKING:
    from rotator.config.source import Data, Keys, Source

M = TypeVar("M", bound=BaseModel)


class Policies:
    """The policies of a file by name, each made once; `default` is always there."""

    def __init__(self, source: Source, data: dict[str, Data], names: Names) -> None:
        """Make every policy; what is wrong with their parts together becomes a problem.

        What is wrong with a part by itself has been reported before.
        """
        self._source: Source = source
        self._names: Names = names
        self._documents: dict[str, PolicyDocument] = {}
        self._policies: dict[str, Policy] = {}
        for name, below in {DEFAULT_POLICY: None, **data}.items():
            document = _document(PolicyDocument, below or {}, names)
            made = document and _policy(source, document, ("policies", name))
            if document is not None and made is not None:
                self._documents[name], self._policies[name] = document, made

    def chosen(self, choice: Data, keys: Keys) -> Policy | None:
        """Return the policy that a secret's `policy` chooses; None when it is wrong, and said."""
        if isinstance(choice, str):
            return self._policies.get(choice)
        override = _document(PolicyOverride, choice, self._names)
        base = override and self._documents.get(override.base)
        if override is None or base is None:
            return None
        return _policy(self._source, _laid_over(base, override), keys)


def _document(model: type[M], data: Data, names: Names) -> M | None:
    try:
        return model.model_validate_json(json.dumps(data), context=names)
    except ValidationError:
        return None


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
