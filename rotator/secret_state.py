"""How a secret, a target and the fleet are: the one answer for status, doctor, metrics and notices.

It reads the journal and the observations beside it, and nothing else. Each state has its cause and, where
somebody must act, a hint: a command that can be pasted as it is printed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from rotator.core.commands import close_command, leak_commands
from rotator.core.consumers import assess, assess_prepared
from rotator.core.errors import Unavailable
from rotator.core.history import MAPPED, PROVEN, text
from rotator.core.history import OPEN as INCIDENT_OPEN
from rotator.core.model import Kind, Severity, Step
from rotator.core.observations import ObservationKind
from rotator.core.schedule import is_due
from rotator.core.state_machine import (
    Direction,
    Finish,
    Run,
    WaitUntil,
    decide,
    progress,
    waits_for,
)
from rotator.engine.delegated_requests import pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from rotator.core.consumers import Consumer, ConsumerRegistry, Standing
    from rotator.core.history import SecretRecord
    from rotator.core.model import Event, Json, Policy
    from rotator.core.observations import Observation, Observations
    from rotator.core.ports import Journal
    from rotator.core.state_machine import Decision, Progress

# A process that has given no observation for so long is not alive.
SILENT: Final = timedelta(seconds=30)


class State(StrEnum):
    """The state of a secret, in the order in which an operator should look at them."""

    LEAKED = "leaked"
    REFUSED = "refused"
    FORGOTTEN = "forgotten"
    PARKED = "parked"
    DRIFT = "drift"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    RETRYING = "retrying"
    DUE = "due"
    UNKNOWN = "unknown"
    RETIRED = "retired"
    ROTATING = "rotating"
    DRAINING = "draining"
    PREPARING = "preparing"
    GRACE = "grace"
    OK = "ok"


# The name of the state of logins that bear our mark and that the journal does not know.
ORPHAN: Final = "orphan"
SEVERITY: Final = {
    **dict.fromkeys(
        (
            *(State.LEAKED, State.REFUSED, State.FORGOTTEN),
            *(State.PARKED, State.DRIFT, State.WAITING),
        ),
        Severity.ERROR,
    ),
    **dict.fromkeys((State.INTERRUPTED, State.RETRYING, State.RETIRED), Severity.WARNING),
}
# Of an incident with several secrets, the state with the most left to do counts.
_INCIDENT_STATES: Final = (INCIDENT_OPEN, MAPPED, PROVEN)
# What a secret is while its step waits; the drain where none is named.
_WAITING: Final[Mapping[Step | None, State]] = {
    Step.PREPARE: State.PREPARING,
    Step.AWAIT: State.ROTATING,
}
_ORDER: Final = {state: number for number, state in enumerate(State)}


class Managed(Protocol):
    """What the configuration says of a secret."""

    @property
    def target(self) -> str:
        """The name of its target."""
        ...

    @property
    def backend(self) -> str:
        """The name of its backend."""
        ...

    @property
    def policy(self) -> Policy:
        """How it is rotated."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """By which it can be chosen."""
        ...

    @property
    def owner(self) -> str:
        """Who answers for it; empty where nobody is named."""
        ...

    @property
    def basis(self) -> str:
        """Why it is rotated so; empty where nothing is named."""
        ...

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """The applications that use it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that still used the old login at the last count."""

    login: str
    client: str
    application: str = ""
    since: str | None = None

    def line(self) -> str:
        """Return it for an operator."""
        program = f" ({self.application})" if self.application else ""
        since = f", since {self.since}" if self.since else ""
        return f"{self.login} is used from {self.client}{program}{since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretState:
    """One secret. `cause` says why it is in its state, `hint` what to do, where somebody must act.

    `rotated_at`: when the credential that the backend serves was made. `due_since`: since when it has
    been due; `next_try`: when it is tried again after a failure.
    """

    name: str
    state: State
    now: datetime
    cause: str = ""
    hint: str = ""
    target: str | None = None
    backend: str | None = None
    login: str | None = None
    version: str | None = None
    rotated_at: datetime | None = None
    next_due: datetime | None = None
    due_since: datetime | None = None
    next_try: datetime | None = None
    until: datetime | None = None
    last_outcome: str | None = None
    failures: int = 0
    parked: str | None = None
    open_rotation: str | None = None
    sessions: tuple[OpenSession, ...] = ()
    # By their reports alone; only of a secret whose old credential is not revoked yet.
    consumers_behind: tuple[Standing, ...] = ()
    tags: tuple[str, ...] = ()
    owner: str = ""
    basis: str = ""

    @property
    def severity(self) -> Severity:
        """How much the state matters: an error needs an operator."""
        return SEVERITY.get(self.state, Severity.OK)

    @property
    def is_trouble(self) -> bool:
        """Whether an operator must act, or a target must come back."""
        return self.severity is Severity.ERROR

    @property
    def age(self) -> timedelta | None:
        """How old the served credential is; None when that is not known."""
        return self.now - self.rotated_at if self.rotated_at else None

    @property
    def says(self) -> str:
        """Cause and hint in one text."""
        return " ".join(part for part in (self.cause, self.hint) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A daemon or worker, as it was last seen."""

    name: str
    face: str
    seen_at: datetime
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A target or backend that cannot be used: `subject` is `target NAME` or `backend NAME`."""

    subject: str
    since: datetime
    until: datetime | None = None
    what: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A login on a target that bears the mark of one of our secrets and that the journal does not know."""

    target: str
    login: str
    seen_at: datetime
    what: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An incident that is not closed. `state` is `open`, `map` or `proven`, the first that a secret has."""

    id: str
    state: str
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The requested secrets, trouble first, and the processes, outages and incidents of the installation."""

    now: datetime
    secrets: tuple[SecretState, ...] = ()
    processes: tuple[Process, ...] = ()
    faults: tuple[Outage, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    incidents: tuple[Incident, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return how many secrets are in which state, and how many logins are orphans."""
        found = Counter(one.state for one in self.secrets)
        counted = {state.value: found[state] for state in State if found[state]}
        return counted | ({ORPHAN: len(self.orphans)} if self.orphans else {})

    @property
    def has_daemon(self) -> bool:
        """Whether a daemon is alive."""
        return any(one.alive and one.face == "daemon" for one in self.processes)

    def needs_words(self, one: SecretState) -> bool:
        """Return whether there is more to read about a secret than its state."""
        if one.sessions or one.consumers_behind:
            return True
        if one.state is State.ROTATING and not self.has_daemon:
            # Perhaps its process was killed.
            return True
        # The outage of its host is shown already.
        waits = one.state is State.WAITING and any(
            fault.what and fault.what in one.cause for fault in self.faults
        )
        return one.severity is not Severity.OK and not waits

    @property
    def is_trouble(self) -> bool:
        """Whether an operator must look."""
        return bool(self.orphans) or any(one.is_trouble for one in self.secrets)


@dataclass(slots=True, kw_only=True)
class Overview:
    """Answers for secrets. Keeps the histories of open rotations, which are read once for each event.

    `secrets`: the configuration's. `is_dead` returns whether a holder is known to be gone. `registry`:
    the reports of consumers.
    """

    journal: Journal
    observations: Observations
    secrets: Mapping[str, Managed]
    now: Callable[[], datetime]
    default_policy: Policy
    is_dead: Callable[[str], bool] = lambda _holder: False
    registry: ConsumerRegistry | None = None
    _histories: dict[str, tuple[int, list[Event]]] = field(
        default_factory=dict[str, tuple[int, "list[Event]"]]
    )

    def secret(self, name: str) -> SecretState:
        """Return how one secret is."""
        return self.state_of(name, self.journal.secret(name), self.faults(), self.now())

    def fleet(self, names: Iterable[str] | None = None) -> Fleet:
        """Return how these secrets are, or all: those of the configuration and of the journal."""
        now, faults = self.now(), self.faults()
        # One query for all, rather than one for each.
        records = {one.name: one for one in self.journal.secrets()}
        if names is None:
            left = [one.name for one in records.values() if self.is_forgotten(one)]
            names = [*self.secrets, *left]
        found = [self.state_of(name, records.get(name), faults, now) for name in names]
        return self.gathered(found, records.values(), faults, now)

    def gathered(
        self,
        states: Iterable[SecretState],
        records: Iterable[SecretRecord],
        faults: Mapping[str, Outage],
        now: datetime,
    ) -> Fleet:
        """Return the fleet of secrets whose states are known. `records`: all that are in an incident."""
        return Fleet(
            now=now,
            secrets=tuple(sorted(states, key=_looked_at)),
            processes=tuple(self.processes()),
            faults=tuple(faults.values()),
            orphans=tuple(self.orphans()),
            incidents=_incidents(records),
        )

    def is_forgotten(self, record: SecretRecord) -> bool:
        """Return whether the journal knows a login or an open rotation that the file no longer names."""
        left = record.retired is not None or record.renamed_to is not None
        kept = record.open_rotation is not None or record.login is not None
        return record.name not in self.secrets and kept and not left

    def faults(self) -> dict[str, Outage]:
        """Return the targets and backends that cannot be used, by subject."""
        return {one.subject: _fault(one) for one in self.observations.all(ObservationKind.FAULT)}

    def processes(self) -> list[Process]:
        """Return the daemons and workers that were seen, the newest observation first."""
        now = self.now()
        found = [
            Process(
                name=str(one.data.get("name") or one.subject),
                face=str(one.data.get("face") or "daemon"),
                seen_at=one.at,
                alive=now - one.at < SILENT and not self.is_dead(one.subject),
            )
            for one in self.observations.all(ObservationKind.PROCESS)
        ]
        return sorted(found, key=lambda one: one.seen_at, reverse=True)

    def orphans(self) -> list[Orphan]:
        """Return the orphans that `rotator doctor` saw last."""
        return [_orphan(one) for one in self.observations.all(ObservationKind.ORPHAN)]

    # -- one secret ----------------------------------------------------------------------------

    def state_of(
        self,
        name: str,
        record: SecretRecord | None,
        faults: Mapping[str, Outage],
        now: datetime,
    ) -> SecretState:
        """Return how a secret with this record is, while these hosts are away."""
        found, managed = self._examined(name, record, faults, now), self.secrets.get(name)
        if managed is None or not (managed.owner or managed.basis):
            return found
        return replace(found, owner=managed.owner, basis=managed.basis)

    def _examined(
        self,
        name: str,
        record: SecretRecord | None,
        faults: Mapping[str, Outage],
        now: datetime,
    ) -> SecretState:
        managed = self.secrets.get(name)
        target, backend = (managed.target, managed.backend) if managed else (None, None)
        tags = managed.tags if managed else ()
        if record is None or (record.version is None and record.open_rotation is None):
            return self._without_login(name, record, now, (target, backend, tags))
        events = self._events(record)
        if events and managed is None:
            target, backend = text(events[0].data, "target"), text(events[0].data, "backend")
        policy = managed.policy if managed else self.default_policy
        look = _Look(name=name, state=State.OK)
        if events:
            look = _open(name, events, now, policy)
        elif managed is not None and is_due(record, now):
            look = self._due(name, managed)
        look = self._waiting(look, record, faults, (target, backend), now)
        look = _trouble(record, look, forgotten=self.is_forgotten(record))
        due_since = record.due_since
        retrying = due_since is not None and due_since != record.next_due
        next_try = record.next_due if retrying else None
        if events:
            next_try = look.until if look.state in (State.RETRYING, State.WAITING) else None
        return SecretState(
            name=name,
            state=look.state,
            now=now,
            cause=look.cause,
            hint=look.hint,
            target=target,
            backend=backend,
            login=record.login,
            version=record.version,
            rotated_at=record.rotated_at,
            next_due=record.next_due,
            due_since=due_since,
            next_try=next_try,
            until=look.until,
            last_outcome=record.last_outcome.value if record.last_outcome else None,
            failures=record.failures,
            parked=record.parked,
            open_rotation=record.open_rotation,
            sessions=_users(events),
            consumers_behind=self._behind(record, look) if managed is not None else (),
            tags=tags,
        )

    def _without_login(
        self,
        name: str,
        record: SecretRecord | None,
        now: datetime,
        place: tuple[str | None, str | None, tuple[str, ...]],
    ) -> SecretState:
        """Return a secret that serves nothing that we know: not adopted yet, or retired."""
        state = State.UNKNOWN
        cause = "not rotated or adopted yet:"
        hint = f"rotator adopt {name}, or rotator rotate {name}"
        if record is not None and record.renamed_to is not None:
            state, cause = State.RETIRED, f"renamed to {record.renamed_to}."
            hint = "Remove its entry from the configuration."
        elif record is not None and record.retired is not None:
            state, cause = State.RETIRED, f"retired{_because(record.retired)}."
            hint = (
                "Remove its entry from the configuration, or manage the secret again: rotator"
                f" adopt {name}"
            )
        elif record is not None and record.parked is not None:
            look = _trouble(record, _Look(name=name, state=state), forgotten=False)
            state, cause, hint = look.state, look.cause, look.hint
        return SecretState(
            name=name,
            state=state,
            now=now,
            cause=cause,
            hint=hint,
            target=place[0],
            backend=place[1],
            tags=place[2],
            last_outcome=record.last_outcome.value if record and record.last_outcome else None,
            failures=record.failures if record else 0,
            parked=record.parked if record else None,
        )

    def _due(self, name: str, managed: Managed) -> _Look:
        if pending(self.journal, name) is None:
            return _Look(name=name, state=State.DUE)
        cause = f"{managed.backend} was asked to rotate it; complete it:"
        return _Look(name=name, state=State.ROTATING, cause=cause, hint=f"rotator resume {name}")

    def _behind(self, record: SecretRecord, look: _Look) -> tuple[Standing, ...]:
        """Return the declared consumers that have not reported the version that is served."""
        consumers = self.secrets[record.name].consumers
        if look.state is State.PREPARING and self.registry is not None:
            return self._unprepared(record)
        waits = look.state in (State.GRACE, State.DRAINING)
        if not (consumers and waits and record.version) or self.registry is None:
            return ()
        reports = self.registry.instances(record.name)
        return assess(consumers, reports, (), version=record.version).behind()

    def _unprepared(self, record: SecretRecord) -> tuple[Standing, ...]:
        """Return the consumers that have not read the next version."""
        assert self.registry is not None  # noqa: S101 # the caller has looked
        return assess_prepared(
            self.secrets[record.name].consumers,
            self.registry.instances(record.name),
            self.registry.prepared(record.name),
            rotation_id=record.open_rotation or "",
        ).unprepared()

    def _events(self, record: SecretRecord) -> list[Event]:
        if record.open_rotation is None:
            _ = self._histories.pop(record.name, None)
            return []
        known = self._histories.get(record.name)
        if known is None or known[0] != record.seq:
            known = record.seq, self.journal.history(record.open_rotation)
            self._histories[record.name] = known
        return known[1]

    def _waiting(
        self,
        look: _Look,
        record: SecretRecord,
        faults: Mapping[str, Outage],
        places: tuple[str | None, str | None],
        now: datetime,
    ) -> _Look:
        """Return `waiting` where a target or backend that cannot be used holds up what is to be done."""
        ahead = look.state in (State.DUE, State.RETRYING, State.INTERRUPTED, State.WAITING)
        if not ahead and not is_due(record, now):
            return look
        for subject in (f"target {places[0]}", f"backend {places[1]}"):
            if (fault := faults.get(subject)) is not None:
                until = fault.until or look.until
                cause = (
                    f"{subject} is unavailable: {fault.what}"
                    if fault.what
                    else f"{subject} is unavailable."
                )
                return _Look(
                    name=look.name, state=State.WAITING, cause=cause, hint=fault.hint, until=until
                )
        return look


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A state with its words, while it is being found out."""

    name: str
    state: State
    cause: str = ""
    hint: str = ""
    until: datetime | None = None
    published: bool = False
    rolling_back: bool = False


def _open(name: str, events: list[Event], now: datetime, policy: Policy) -> _Look:
    """Return how an open rotation is."""
    progressed, decision = progress(events), decide(events, now, policy)
    state, cause, hint = _open_state(name, events, progressed, decision)
    return _Look(
        name=name,
        state=state,
        cause=cause,
        hint=hint,
        until=decision.at if isinstance(decision, WaitUntil) else None,
        published=progressed.published,
        rolling_back=progressed.direction is Direction.ROLLBACK,
    )


def _open_state(
    name: str, events: list[Event], state: Progress, decision: Decision
) -> tuple[State, str, str]:
    """Return the state of an open rotation, its cause and the hint."""
    resume = f"rotator resume {name}"
    if isinstance(decision, WaitUntil) and state.failed is not None:
        what = text(state.failed.data, "what") or "a step failed."
        if text(state.failed.data, "kind") == Unavailable.kind:
            return State.WAITING, what, text(state.failed.data, "hint") or resume
        retry = f"rotator retries it automatically. To retry now: {resume}"
        return State.RETRYING, what, retry
    looks = (Run(step=Step.DRAIN), Run(step=Step.PREPARE), Run(step=Step.AWAIT))
    waits_on = isinstance(decision, WaitUntil) or decision in looks
    if waits_on and state.waited is not None:
        # The daemon looks again from time to time, and records only what is new.
        waits = text(state.waited.data, "hint") or f"count the sessions again: {resume}"
        waiting = _WAITING.get(state.waited.step, State.DRAINING)
        return waiting, f"{waits_for(state.waited)};", waits
    if isinstance(decision, WaitUntil):
        if state.direction is Direction.ROLLBACK:
            cause = "rolled back; the newer login stays valid until that ends, or:"
            return State.GRACE, cause, f"rotator revoke {name}"
        return State.GRACE, f"{decision.why};", f"end it now: rotator revoke {name}"
    if isinstance(decision, Finish):
        return State.INTERRUPTED, "its rotation is complete except for the final record:", resume
    if events[-1].kind is Kind.STARTED:
        step = events[-1].step.value if events[-1].step else ""
        cause = f"at step {step}, or interrupted there; if no process is running it:"
        return State.ROTATING, cause, resume
    return State.ROTATING, f"next is step {decision.step.value}:", resume


def _trouble(record: SecretRecord, look: _Look, *, forgotten: bool) -> _Look:
    """Return the worst that is known of a secret; `look` where there is no trouble."""
    name = record.name

    def worse(state: State, cause: str, hint: str) -> _Look:
        return _Look(name=name, state=state, cause=cause, hint=hint, until=look.until)

    if record.incident_state in (INCIDENT_OPEN, MAPPED):
        return worse(State.LEAKED, *_leaked(record))
    if record.refused is not None:
        return worse(State.REFUSED, record.refused, _cure(record, look))
    if record.retiring is not None:
        again = f"rotator retire {name}" + record.retiring
        return worse(State.FORGOTTEN, "its retirement was interrupted.", again)
    if forgotten:
        return worse(State.FORGOTTEN, *_forgotten(record))
    if record.parked is not None:
        verb = "resume" if record.open_rotation else "rotate"
        unpark = f"rotator unpark {name} --reason WHY && rotator {verb} {name}"
        remedy = f"{record.parked_hint} Then: {unpark}" if record.parked_hint else unpark
        unwatched = (
            f" Its leaked password (incident {record.incident}) is not tried again meanwhile."
        )
        cause = record.parked + (unwatched if record.incident is not None else "")
        return worse(State.PARKED, cause, remedy)
    if record.drift is not None:
        cause = (
            f"the backend serves version {record.drift}, which the journal does not know; it"
            " authenticates."
        )
        return worse(State.DRIFT, cause, f"If that is intended: rotator adopt {name}")
    if record.stale:
        cause = f"copies differ from the current credential: {', '.join(record.stale)}."
        return worse(State.DRIFT, cause, f"rotator rotate {name}")
    return look


def _leaked(record: SecretRecord) -> tuple[str, str]:
    """Return what is known of a leaked password that is not proven dead, and what to do."""
    name = record.name
    cause = f"version {record.leaked_version} leaked (incident {record.incident}) and may still be accepted."
    resume = f"rotator incident resume {name}"
    if record.incident_state == MAPPED:
        cause = f"version {record.leaked_version} leaked (incident {record.incident}); it is still valid."
        return cause, leak_commands(name)
    if record.parked is not None:
        unpark = f"rotator unpark {name} --reason WHY && {resume}"
        return f"{cause} It is parked: {record.parked}", unpark
    if record.prove_at is None:
        lost = "The backend no longer holds that version, so it is not tried again."
        return f"{cause} {lost}", f"End the watch: {close_command(name)}"
    return cause, f"See what is left: rotator incident show {name}\nContinue it: {resume}"


def _forgotten(record: SecretRecord) -> tuple[str, str]:
    """Return what is left of a secret that the configuration no longer contains, and what to do."""
    name, opened = record.name, record.open_rotation
    if opened is not None:
        cause = f"rotation {opened} is open, but the configuration no longer contains {name}."
        return cause, f"Complete it: rotator resume {name}. Then: rotator retire {name}"
    cause = f"the configuration no longer contains it, and login {record.login!r} was not revoked."
    return cause, f"End its management: rotator retire {name} (--drop-login also ends the login)"


def _cure(record: SecretRecord, look: _Look) -> str:
    """Return what makes an application log in again: the cause's remedy, or another credential."""
    name = record.name
    if record.refused_hint and record.parked is not None:
        return f"{record.refused_hint} Then: rotator unpark {name} --reason WHY"
    if record.refused_hint:
        return record.refused_hint
    if record.open_rotation is not None:
        known = look.published and not look.rolling_back and look.state is State.GRACE
        command = f"rotator {'rollback' if known else 'resume'} {name}"
    else:
        command = f"rotator rotate {name}"
    if record.parked is not None:
        return f"rotator unpark {name} --reason WHY && {command}"
    return command


def _users(events: list[Event]) -> tuple[OpenSession, ...]:
    """Return the sessions of the old login at the last count, if it is not gone since."""
    waited = progress(events).waited if events else None
    found = waited.data.get("sessions") if waited is not None else None
    return (
        tuple(_user(one) for one in found if isinstance(one, dict))
        if isinstance(found, list)
        else ()
    )


def _user(data: dict[str, Json]) -> OpenSession:
    return OpenSession(
        login=str(data.get("login", "")),
        client=str(data.get("client", "")),
        application=str(data.get("application") or ""),
        since=str(data["since"]) if data.get("since") else None,
    )


def _fault(observation: Observation) -> Outage:
    return Outage(
        subject=observation.subject,
        since=observation.at,
        until=observation.until,
        what=text(observation.data, "what") or "",
        hint=text(observation.data, "hint") or "",
    )


def _orphan(observation: Observation) -> Orphan:
    target, _, login = observation.subject.partition("/")
    return Orphan(
        target=target,
        login=login,
        seen_at=observation.at,
        what=text(observation.data, "what") or "",
        hint=text(observation.data, "hint") or "",
    )


def _incidents(records: Iterable[SecretRecord]) -> tuple[Incident, ...]:
    """Return the incidents that are not closed, by id."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        if record.incident is not None and record.incident_state is not None:
            found.setdefault(record.incident, {})[record.name] = record.incident_state
    return tuple(
        Incident(
            id=id_,
            state=next((one for one in _INCIDENT_STATES if one in states.values()), INCIDENT_OPEN),
            secrets=tuple(states),
        )
        for id_, states in sorted(found.items())
    )


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _looked_at(one: SecretState) -> int:
    # Trouble first; what is well keeps the order of the configuration.
    return _ORDER[one.state] if one.severity is not Severity.OK else len(_ORDER)
