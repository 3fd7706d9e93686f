"""Policies as the engine wants them: layered, whole, and refused when their parts do not agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ValidationError

from rotator.config.calendars import Cron, end_of, start_of
from rotator.config.document import DEFAULT_POLICY, PolicyDocument, PolicyOverride, WindowDocument
from rotator.config.errors import name_fits, validated
from rotator.config.types import Names
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.model import DrainThen, Policy, Prepare
from rotator.core.passwords import PasswordPolicy
from rotator.core.windows import Blackout, Window, Windows

if TYPE_CHECKING:
    from rotator.config.parsing import Data, Keys
    from rotator.config.positions import Positions

M = TypeVar("M", bound=BaseModel)
# How many moments of a cron line are looked at for the shortest period: more than a year of days.
_LOOKED_AT: Final = 400


class Policies:
    """The policies of a file by name, each made once; `default` is always there."""

    def __init__(self, source: Positions, data: dict[str, Data], names: Names) -> None:
        """Make every policy; what is wrong with one becomes a problem of `source`."""
        self._source: Positions = source
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


def _policy(source: Positions, document: PolicyDocument, keys: Keys) -> Policy | None:
    """Return the policy that a document describes, None when its parts do not go together."""
    before = len(source.problems)
    cron = Cron(line=document.cron, zone=document.timezone) if document.cron else None
    _check_period(source, document, cron, keys)
    windows = _windows(document)
    if windows.next_open(datetime.now(UTC)) is None:
        source.problem(
            _first_of(source, keys, "windows"),
            "these windows never open: in the next five years no time is both allowed and not"
            " denied.",
            "Check `allow`, `deny` and `blackouts` together.",
        )
    retry, prepare = document.retry, document.prepare
    if retry.backoff_cap < retry.backoff:
        source.problem(
            _first_of(source, (*keys, "retry"), "backoff_cap", "backoff"),
            f"the maximum wait ({durations.write(retry.backoff_cap)}) is shorter than the"
            f" first wait ({durations.write(retry.backoff)}).",
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
        every=None if cron is not None else document.every,
        cron=cron,
        jitter=document.jitter,
        windows=windows,
        grace=document.grace.longest,
        until_acknowledged=document.grace.until_acknowledged,
        drain_wait=document.drain.wait,
        drain_then=document.drain.then,
        drain_poll=document.drain.poll,
        prepare=None if prepare is None else Prepare(wait=prepare.wait, then=prepare.then),
        attempts=retry.attempts,
        cycles=retry.cycles,
        backoff=retry.backoff,
        backoff_cap=retry.backoff_cap,
        proposals=document.proposals,
        step_timeout=document.step_timeout,
        on_leak=document.on_leak,
        after_reveal=document.after_reveal,
        owner=document.owner,
        basis=document.basis,
        password=password,
    )


def _check_period(
    source: Positions, document: PolicyDocument, cron: Cron | None, keys: Keys
) -> None:
    """Note when the next rotation would be due before the last one is over."""
    terminates = document.drain.then is DrainThen.TERMINATE
    ends = document.grace.longest + (document.drain.wait if terminates else timedelta(0))
    period, name = document.every, "every"
    if cron is not None:
        name = "cron"
        if source.has((*keys, "every")) and document.every is not None:
            source.problem(
                (*keys, "cron"), "set either `every` or `cron`, not both.", "Remove one of them."
            )
        moments = _moments(cron)
        if not moments:
            source.problem(
                (*keys, "cron"), "this day does not exist.", "Check the day and the month."
            )
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        period = min(gaps, default=None)
    if period is not None and period < ends:
        source.problem(
            _first_of(source, keys, name, "grace", "drain"),
            f"the period ({durations.write(period)}) is shorter than"
            f" {'grace and drain' if terminates else 'the grace period'}"
            f" ({durations.write(ends)}): the old credential would still be valid when the next"
            " rotation is due.",
            f"Raise `{name}` or lower `grace`.",
        )


def _moments(cron: Cron) -> list[datetime]:
    """Return some of a cron line's next moments."""
    found: list[datetime] = []
    at: datetime | None = datetime.now(UTC)
    while len(found) < _LOOKED_AT and (at := cron.after(at)) is not None:
        found.append(at)
    return found


def _windows(document: PolicyDocument) -> Windows:
    zone, given = document.timezone, document.windows

    def window(one: WindowDocument) -> Window:
        return Window(opens=Cron(line=one.opens, zone=zone), lasts=one.lasts)

    return Windows(
        allow=tuple(map(window, given.allow)),
        deny=tuple(map(window, given.deny)),
        blackouts=tuple(
            Blackout(start=start_of(one.first, zone), end=end_of(one.last, zone))
            for one in given.blackouts
        ),
    )


def _laid_over(base: M, override: BaseModel) -> M:
    changes: dict[str, object] = {}
    for name in override.model_fields_set - {"base"}:
        below, above = getattr(base, name), getattr(override, name)
        nested = isinstance(above, BaseModel) and isinstance(below, BaseModel)
        changes[name] = _laid_over(below, above) if nested else above
    return base.model_copy(update=changes)


def _first_of(source: Positions, keys: Keys, *names: str) -> Keys:
    """Return the place of the first of `names` that the file has below `keys`."""
    return next(((*keys, name) for name in names if source.has((*keys, name))), keys)
