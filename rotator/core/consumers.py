"""Consumers: the applications that use a secret, which version each uses, and whether the old one may go.

An instance of a consumer reports what it uses; the target's own sessions show it too, by their version
mark. Reports are kept beside the journal's chain. What a revoke rested on is one event of the chain.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from rotator.core.version_mark import mark_in, version_mark, without_mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rotator.core.model import Json
    from rotator.core.session import Session

# An instance that has not reported for so long is gone: five missed heartbeats.
REPORT_LASTS: Final = timedelta(minutes=5)
# The most reports in one request, and the most characters of each of their texts.
MOST_REPORTS: Final = 1000
LONGEST_TEXT: Final = 200


class Level(StrEnum):
    """How far an instance has come with a version; each level includes those before it.

    `prepared`: it has read the next version, which is not served yet. `told`: it knows that there is
    one. `read`: it has read it. `loaded`: it uses it for new logins. `used`: a login with it has succeeded. `seen`: the target's list of sessions shows it.
    """

    PREPARED = "prepared"
    TOLD = "told"
    READ = "read"
    LOADED = "loaded"
    USED = "used"
    SEEN = "seen"


# The end of a line about a consumer, while the next version is not served yet.
READ_NEXT: Final = "have read the next version"
_RANK: Final = {level: number for number, level in enumerate(Level)}
# What an instance may report of itself.
REPORTED: Final = tuple(level for level in Level if level is not Level.SEEN)


class InstanceKind(StrEnum):
    """What reports: a client library, a file, a child process, a workload, a pooler, or a person."""

    CLIENT = "client"
    FILE = "file"
    EXEC = "exec"
    KUBERNETES = "kubernetes"
    PGBOUNCER = "pgbouncer"
    PERSON = "person"


class Gate(StrEnum):
    """What a consumer that has not moved to the new version does to the revoke of the old one.

    `off`: nothing. `warn`: delays it by `wait`. `hold`: delays it until the consumer has moved.
    """

    OFF = "off"
    WARN = "warn"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One consumer of a secret, as the configuration declares it.

    `instances`: how many must have used the new version. `wait`: how long after the grace period the
    gate `warn` waits for them. `identities`: with which it reads from the backend; default: its name.
    """

    name: str
    instances: int = 1
    gate: Gate = Gate.WARN
    wait: timedelta = timedelta(hours=1)
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one instance of a consumer says of itself.

    `version` is the backend's name of the version; at the level `prepared`, the id of the rotation that
    is to publish it.
    """

    secret: str
    consumer: str
    instance: str
    kind: InstanceKind
    version: str
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedInstance:
    """The newest report of an instance, and when it was received, by the journal's clock."""

    report: Report
    at: datetime


class InvalidReport(ValueError):
    """The body of a request with reports is invalid. Its text names the place, and repeats no value."""


def parse_reports(body: bytes, consumer: str) -> list[Report]:
    """Return the reports of one request, for the daemon and for the agent alike.

    Keys that this version does not know are ignored, so that newer instances can report to it.
    Raises `InvalidReport`.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidReport("the body is not JSON") from None
    rows = data.get("acknowledgements") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_REPORTS:
        raise InvalidReport(f"expected `acknowledgements`: a list of 1 to {MOST_REPORTS}")
    return [
        _report(consumer, f"acknowledgements[{number}]", row) for number, row in enumerate(rows)
    ]


def _report(consumer: str, at: str, row: object) -> Report:
    if not isinstance(row, dict):
        raise InvalidReport(f"{at}: expected an object")
    fields = cast("Mapping[str, object]", row)
    return Report(
        secret=_text(fields, "secret", at),
        consumer=consumer,
        instance=_text(fields, "instance", at),
        kind=InstanceKind(_choice(fields, "kind", at, InstanceKind)),
        version=_text(fields, "version", at),
        level=Level(_choice(fields, "level", at, REPORTED)),
    )


def _text(row: Mapping[str, object], key: str, at: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        raise InvalidReport(f"{at}.{key}: expected 1 to {LONGEST_TEXT} printable characters")
    return value


def _choice(row: Mapping[str, object], key: str, at: str, choices: Iterable[str]) -> str:
    value = row.get(key)
    if value not in list(choices):
        raise InvalidReport(f"{at}.{key}: expected one of {', '.join(choices)}")
    return cast("str", value)


def instance_name(host: str, name: str) -> str:
    """Return `HOST:NAME` as the registry takes it: always the same, and different for each instance.

    One that is too long, or holds what cannot be printed, is cut and ends in a digest of the whole.
    """
    text = f"{host}:{name}"
    if len(text) <= LONGEST_TEXT and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return f"{shown[: LONGEST_TEXT - len(digest) - 1]}~{digest}"


def newer(before: Report | None, report: Report) -> Report:
    """Return what to keep of an instance's two last reports: a level is never taken back."""
    same = before is not None and before.version == report.version
    if before is not None and same and _RANK[before.level] > _RANK[report.level]:
        return replace(report, level=before.level)
    return report


class ConsumerRegistry(Protocol):
    """Keeps the newest report of each instance. Raises `JournalError` when it cannot."""

    def report(self, reports: Sequence[Report]) -> set[str]:
        """Write reports in the place of those before; return the secrets for which something is new."""
        ...

    def instances(self, secret: str | None = None) -> list[ReportedInstance]:
        """Return the instances of a secret, or of all, that have reported within `REPORT_LASTS`."""
        ...

    def prepared(self, secret: str) -> list[ReportedInstance]:
        """Return the instances that have read the secret's next version, within `REPORT_LASTS`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many instances of a consumer use the version that is served, and which use another one.

    `expected` is 0 for a consumer that the configuration does not declare for this secret.
    """

    consumer: str
    expected: int
    acknowledged: int
    behind: tuple[str, ...] = ()
    gate: Gate = Gate.OFF
    wait: timedelta = timedelta(0)

    @property
    def is_complete(self) -> bool:
        """Whether nothing of this consumer needs the old version any more."""
        return self.acknowledged >= self.expected and not self.behind

    def line(self, on: str = "on the current version") -> str:
        """Return it for an operator."""
        of = f" of {self.expected}" if self.expected else ""
        left = f", behind: {', '.join(self.behind)}" if self.behind else ""
        return f"{self.consumer}: {self.acknowledged}{of} {on}{left}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Where the consumers of a secret are. `digest` covers the reports and sessions that it rests on.

    `is_next`: which of them have read the next version; `version` is the id of its rotation then.
    """

    version: str
    standings: tuple[Standing, ...]
    digest: str
    is_next: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether every declared consumer has moved, and no other instance is known to be behind."""
        declared = any(one.expected for one in self.standings)
        counted = (one for one in self.standings if one.gate is not Gate.OFF or not one.expected)
        return declared and all(one.is_complete for one in counted)

    def behind(self) -> tuple[Standing, ...]:
        """Return the declared consumers that have not moved."""
        return tuple(one for one in self.standings if one.expected and not one.is_complete)

    def holding(self, now: datetime, grace_ended: datetime) -> tuple[Standing, ...]:
        """Return the consumers whose gate keeps the old version at `now`."""
        return tuple(
            one
            for one in self.behind()
            if one.gate is Gate.HOLD or (one.gate is Gate.WARN and now < grace_ended + one.wait)
        )

    def unprepared(self) -> tuple[Standing, ...]:
        """Return the consumers that a prepare waits for: all that count and have not read the next version."""
        return tuple(one for one in self.behind() if one.gate is not Gate.OFF)

    def facts(self) -> dict[str, Json]:
        """Return what the journal keeps of it."""
        return {
            "version": self.version,
            "consumers": [
                {
                    "name": one.consumer,
                    "expected": one.expected,
                    "acknowledged": one.acknowledged,
                    "behind": list(one.behind),
                    "gate": one.gate.value,
                }
                for one in self.standings
            ],
            "digest": self.digest,
            **({"level": Level.PREPARED.value} if self.is_next else {}),
        }


def is_of_next(facts: object) -> bool:
    """Return whether the facts of a verdict are of a version that is not served yet."""
    return isinstance(facts, dict) and cast("Mapping[str, Any]", facts).get("level") is not None


def gates_behind(facts: object) -> set[Gate]:
    """Return the gates of the declared consumers that had not moved, by the facts of a verdict."""
    listed = cast("Mapping[str, Any]", facts).get("consumers") if isinstance(facts, dict) else None
    return {
        Gate(one["gate"])
        for one in (listed if isinstance(listed, list | tuple) else ())
        if one["gate"] != Gate.OFF
        and one["expected"]
        and (one["behind"] or one["acknowledged"] < one["expected"])
    }


def assess(
    consumers: Iterable[Consumer],
    instances: Iterable[ReportedInstance],
    sessions: Iterable[Session],
    *,
    version: str,
) -> Verdict:
    """Return where the consumers are by their reports and by the target's sessions.

    A session counts for the consumer whose name its application name has before the version mark.
    A session without a mark is not counted: the old login's open sessions are the drain's matter.
    """
    newest: dict[tuple[str, str], Report] = {}
    for one in instances:
        newest[one.report.consumer, one.report.instance] = one.report
    marked = {
        (without_mark(one.application), one.client, mark)
        for one in sessions
        if (mark := mark_in(one.application)) is not None
    }
    declared = {one.name: one for one in consumers}
    names = [*declared, *sorted({name for name, _ in newest} - declared.keys())]
    rows = [
        [report.consumer, report.instance, report.kind.value, report.version, report.level.value]
        for report in newest.values()
    ]
    evidence = json.dumps([version, sorted(rows), sorted(map(list, marked))])
    return Verdict(
        version=version,
        standings=tuple(
            _standing(name, declared.get(name), newest, marked, version) for name in names
        ),
        digest=hashlib.sha256(evidence.encode()).hexdigest(),
    )


def assess_prepared(
    consumers: Iterable[Consumer],
    instances: Iterable[ReportedInstance],
    prepared: Iterable[ReportedInstance],
    *,
    rotation_id: str,
) -> Verdict:
    """Return which consumers have read the next version, by their reports alone.

    `instances`: those that use the secret now. `version` of the verdict is the rotation's id.
    """
    alive = {(one.report.consumer, one.report.instance) for one in instances}
    ready = {
        (one.report.consumer, one.report.instance)
        for one in prepared
        if one.report.version == rotation_id
    }
    standings = tuple(
        Standing(
            consumer=one.name,
            expected=one.instances,
            acknowledged=sum(name == one.name for name, _ in ready),
            behind=tuple(sorted(instance for name, instance in alive - ready if name == one.name)),
            gate=one.gate,
            wait=one.wait,
        )
        for one in consumers
    )
    evidence = json.dumps([rotation_id, sorted(map(list, alive)), sorted(map(list, ready))])
    digest = hashlib.sha256(evidence.encode()).hexdigest()
    return Verdict(version=rotation_id, standings=standings, digest=digest, is_next=True)


def _standing(
    name: str,
    declared: Consumer | None,
    newest: Mapping[tuple[str, str], Report],
    marked: set[tuple[str, str, str]],
    version: str,
) -> Standing:
    own = [report for (consumer, _), report in newest.items() if consumer == name]
    on_current = {report.instance for report in own if report.version == version}
    using = {
        report.instance
        for report in own
        if report.version == version and _RANK[report.level] >= _RANK[Level.USED]
    }
    mark = version_mark(version)
    seen = {client for application, client, one in marked if (application, one) == (name, mark)}
    old = {client for application, client, one in marked if application == name and one != mark}
    behind = {report.instance for report in own} - on_current
    # An instance that reports and is seen counts once; those that only report, or are only seen, too.
    acknowledged = max(len(using), len(seen))
    return Standing(
        consumer=name,
        expected=declared.instances if declared is not None else 0,
        acknowledged=acknowledged,
        behind=tuple(sorted(behind | {f"session from {client}" for client in old})),
        gate=declared.gate if declared is not None else Gate.OFF,
        wait=declared.wait if declared is not None else timedelta(0),
    )
