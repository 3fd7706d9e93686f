"""How a daemon works: limits, patience with hosts that are away, partners, whom to tell of what."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Topic(StrEnum):
    """What somebody may want to be told of."""

    ROTATED = "rotated"
    FAILED = "failed"
    PARKED = "parked"
    OVERDUE = "overdue"
    DRAIN_HELD = "drain-held"
    GATE_HELD = "gate-held"
    CONSUMER_BEHIND = "consumer-behind"
    DRIFT = "drift"
    REFUSED = "refused"
    INCIDENT_OPENED = "incident-opened"
    INCIDENT_PROVEN = "incident-proven"
    INCIDENT_UNPROVEN = "incident-unproven"
    LEAK_REPORTED = "leak-reported"
    BREAK_GLASS = "break-glass"
    LEASE_STRANDED = "lease-stranded"
    UNAVAILABLE = "unavailable"
    AVAILABLE = "available"
    JOURNAL_BROKEN = "journal-broken"
    CHECKPOINT = "checkpoint"
    CONFIG_REFUSED = "config-refused"
    TEST = "test"


# What is for machines that keep it; a channel gets it only where it asks for it.
ON_DEMAND: Final = frozenset({Topic.CHECKPOINT})


class Dispatch(StrEnum):
    """Who does the work: threads of the daemon, or the workers of a Procrastinate queue."""

    THREADS = "threads"
    PROCRASTINATE = "procrastinate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many secrets are worked on at once."""

    total: int = 16
    per_target: int = 4
    per_backend: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """After how many failures in a row a host is left alone, and for how long: doubling."""

    failures: int = 5
    wait: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportListener:
    """Where consumers and scanners report. `certificate` and `key` are absolute paths of PEM files; None on loopback.

    `leaks`: for each source of leak reports the reference of its key.
    """

    listen: str
    certificate: Path | None = None
    key: Path | None = None
    leaks: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacingGroup:
    """Secrets that are not rotated within `apart` of each other."""

    name: str
    apart: timedelta
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """How a daemon works. `listen` is `HOST:PORT` or `none`; `verify_every` None for never."""

    dispatch: Dispatch = Dispatch.THREADS
    limits: Limits = Limits()
    catch_up: timedelta = timedelta(hours=1)
    verify_every: timedelta | None = timedelta(days=1)
    checkpoint_every: timedelta = timedelta(minutes=10)
    listen: str = "127.0.0.1:9464"
    reports: ReportListener | None = None
    shutdown: timedelta = timedelta(seconds=30)
    breaker: BreakerSettings = BreakerSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Who is told of what, and how: `type` is `webhook` or `apprise`. `secret` is a reference."""

    type: str
    topics: frozenset[Topic]
    url: str | None = None
    secret: str | None = None
