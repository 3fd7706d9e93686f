"""Numbers about rotations for Prometheus: counted from events, asked from the journal when scraped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from rotator.core.errors import JournalError
from rotator.core.history import text
from rotator.core.model import Kind
from rotator.secret_state import ORPHAN, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime, timedelta

    from rotator.core.model import Event
    from rotator.core.worklist import Counts, Worklist

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What one process has done, and how things are."""

    def __init__(self, plugin_of: Callable[[str], str]) -> None:
        """`plugin_of` returns the plugin of a secret."""
        self.registry: CollectorRegistry = CollectorRegistry()
        self._plugin_of: Callable[[str], str] = plugin_of
        self._rotations: Counter = self._counter(
            "rotator_rotations",
            "Completed rotations, by outcome and plugin.",
            "outcome",
            "plugin",
        )
        self._failures: Counter = self._counter(
            "rotator_step_failures", "Failed steps, by kind of error.", "step", "kind"
        )
        self._checks: Counter = self._counter(
            "rotator_checks", "Verifications of current credentials.", "result"
        )
        self._parked: Counter = self._counter(
            "rotator_parkings", "Parked secrets, which need an operator."
        )
        self._seconds: Histogram = Histogram(
            "rotator_step_seconds",
            "Duration of steps.",
            ["step"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.reloaded: Gauge = Gauge(
            "rotator_config_reload_successful",
            "Whether the newest configuration is in effect.",
            registry=self.registry,
        )
        self.workers: Gauge = Gauge(
            "rotator_workers",
            "Live workers of the queue; NaN without a queue.",
            registry=self.registry,
        )
        self.workers.set(float("nan"))
        self.checkpoint: Gauge = Gauge(
            "rotator_checkpoint_timestamp_seconds",
            "Time of the newest signed checkpoint.",
            registry=self.registry,
        )
        self.sound: Gauge = Gauge(
            "rotator_journal_sound",
            "Whether the last check found the journal unmodified; NaN before the first check.",
            registry=self.registry,
        )
        self.sound.set(float("nan"))
        self.reloaded.set(1)

    def observe(self, event: Event) -> None:
        """Count what an event says."""
        seconds = event.data.get("seconds")
        if event.step is not None and isinstance(seconds, int | float):
            self._seconds.labels(event.step.value).observe(seconds)
        match event.kind:
            case Kind.ENDED:
                outcome = text(event.data, "outcome") or "?"
                self._rotations.labels(outcome, self._plugin_of(event.secret)).inc()
            case Kind.FAILED if event.step is not None:
                kind = text(event.data, "kind") or "?"
                self._failures.labels(event.step.value, kind).inc()
            case Kind.PARKED:
                self._parked.inc()
            case Kind.CHECKED:
                accepted, known = event.data.get("accepted"), event.data.get("known")
                good = "known" if known else "unknown"
                self._checks.labels(good if accepted else "refused").inc()
            case _:
                pass

    def text(self) -> bytes:
        """Return everything in Prometheus's format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(name, said, labels, registry=self.registry)


class StateCollector:
    """How things are, asked when Prometheus comes by: a collector."""

    def __init__(
        self,
        agenda: Callable[[], Worklist],
        now: Callable[[], datetime],
        overdue_after: timedelta,
        jobs: Callable[[], Mapping[str, int]],
        away: Callable[[], Mapping[str, datetime]],
        states: Callable[[], Mapping[str, int]] = dict,
        consumers: Callable[[], Mapping[tuple[str, str], tuple[int, int]]] = dict,
        leases: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """`states`: how many secrets are in which state, as `rotator status` shows them. `consumers`: by
        secret and consumer, how many instances use the current version, and how many an older one.
        `leases`: how many are in which state.
        """
        self._leases: Callable[[], Mapping[str, int]] = leases
        self._consumers: Callable[[], Mapping[tuple[str, str], tuple[int, int]]] = consumers
        self._states: Callable[[], Mapping[str, int]] = states
        self._agenda: Callable[[], Worklist] = agenda
        self._now: Callable[[], datetime] = now
        self._overdue_after: timedelta = overdue_after
        self._jobs: Callable[[], Mapping[str, int]] = jobs
        self._away: Callable[[], Mapping[str, datetime]] = away

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what Prometheus asks for."""
        jobs = GaugeMetricFamily("rotator_jobs", "Jobs of this process.", labels=["state"])
        for state, count in self._jobs().items():
            jobs.add_metric([state], count)
        yield jobs
        away = GaugeMetricFamily(
            "rotator_host_away",
            "Hosts that rotator does not contact until they recover.",
            labels=["host"],
        )
        for host in self._away():
            away.add_metric([host], 1)
        yield away
        up = GaugeMetricFamily("rotator_journal_up", "Whether the audit journal is reachable.")
        try:
            now = self._now()
            counts = self._agenda().counts(now, now - self._overdue_after)
            states = self._states()
            secrets = [*self._secrets(), self._instances(), self._lent()]
        except JournalError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _of_counts(counts, states)
        yield from secrets

    def _instances(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "rotator_consumer_instances",
            "Instances of consumers that reported within five minutes.",
            labels=["secret", "consumer", "on"],
        )
        for (secret, consumer), (current, older) in self._consumers().items():
            found.add_metric([secret, consumer, "current"], current)
            found.add_metric([secret, consumer, "older"], older)
        return found

    def _lent(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "rotator_leases", "Leases that have not ended, by state.", labels=["state"]
        )
        for state, count in self._leases().items():
            found.add_metric([state], count)
        return found

    def _secrets(self) -> Iterator[GaugeMetricFamily]:
        last = GaugeMetricFamily(
            "rotator_secret_rotated_timestamp_seconds",
            "Time of the last rotation of a secret.",
            labels=["secret"],
        )
        due = GaugeMetricFamily(
            "rotator_secret_due_timestamp_seconds",
            "Time at which a secret is due.",
            labels=["secret"],
        )
        for one in self._agenda().reckoned():
            if one.rotated_at is not None:
                last.add_metric([one.name], one.rotated_at.timestamp())
            if one.next_due is not None:
                due.add_metric([one.name], one.next_due.timestamp())
        yield last
        yield due


def _of_counts(counts: Counts, states: Mapping[str, int]) -> Iterator[GaugeMetricFamily]:
    secrets = GaugeMetricFamily(
        "rotator_secrets", "Secrets in the journal, by state.", labels=["state"]
    )
    asked = ("known", "due", "overdue", "parked", "opened", "locked")
    for state in asked:
        secrets.add_metric([state], getattr(counts, state))
    for state in (*State, ORPHAN):
        if state not in asked:
            secrets.add_metric([str(state)], states.get(state, 0))
    yield secrets
    oldest = GaugeMetricFamily(
        "rotator_oldest_credential_timestamp_seconds",
        "Time since which the oldest credential has been current.",
    )
    if counts.oldest is not None:
        oldest.add_metric([], counts.oldest.timestamp())
    yield oldest
