"""What a history adds up to: records folded from events, one event at a time.

The journal keeps these records in tables, so that they can be asked for quickly; because they
are nothing but a fold, `audit verify` can compute them again and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rotator.core.model import Kind, Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.core.model import Event, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRecord:
    """One rotation: what its history adds up to, but for how far it has got."""

    id: str
    secret: str
    plugin: str
    strategy: str
    reason: str
    actor: str
    started_at: datetime
    old_version: str | None = None
    old_login: str | None = None
    new_version: str | None = None
    new_login: str | None = None
    published_at: datetime | None = None
    old_refused: bool | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRecord:
    """One secret. `version` and `login` are what was last published, adopted or restored.

    `adopted` names the logins that were handed over to us, and that no mark on the target tells
    as ours. `failures` counts the rotations in a row that did not end well.

    `rotated_at`: when the credential that is served was published, None when that is not known, as
    for one that was adopted. `since`: when it came under our care; it is due a period after that.
    `former_rotated_at` and `former_since`: those of the credential before, for a rollback.
    `next_due`: when it is rotated, or tried, next; None: not due, never 'now'. `due_since`: since
    when it has been due, where `next_due` is only the next try. `timing`: the fingerprint of the
    policy by which it was reckoned.

    `refused`: why the target refused what the backend serves, None once a login with it succeeded
    again. `drift`: the version that the backend held, by the last check, and that the journal does
    not know. `stale`: the copies that then held something else. `retired`: why management ended.
    `former_names`: the names that this secret had before, whose marks on the target are its own.

    `incident`: the id of the incident in which a password of this secret leaked, until it is closed.
    `incident_state` is `map` until an operator decides how to replace the leaked version, then `open`
    until every address rejects it, then `proven`. `prove_at`: when that is tried next.
    """

    name: str
    version: str | None = None
    login: str | None = None
    adopted: tuple[str, ...] = ()
    parked: str | None = None
    failures: int = 0
    rotated_at: datetime | None = None
    next_due: datetime | None = None
    since: datetime | None = None
    timing: str | None = None
    last_outcome: Outcome | None = None
    open_rotation: str | None = None
    former_rotated_at: datetime | None = None
    former_since: datetime | None = None
    due_since: datetime | None = None
    seq: int = 0
    head: str = "0" * 64
    refused: str | None = None
    refused_at: datetime | None = None
    refused_hint: str | None = None
    parked_hint: str | None = None
    drift: str | None = None
    stale: tuple[str, ...] = ()
    retiring: str | None = None
    retired: str | None = None
    retired_at: datetime | None = None
    renamed_to: str | None = None
    former_names: tuple[str, ...] = ()
    incident: str | None = None
    incident_state: str | None = None
    incident_mode: str | None = None
    incident_at: datetime | None = None
    leaked_version: str | None = None
    leaked_login: str | None = None
    leaked_moment: str | None = None
    prove_at: datetime | None = None

    @property
    def due(self) -> datetime | None:
        """When it is, or was, due by its policy, whenever it is tried."""
        return self.due_since or self.next_due


def fold_rotation(record: RotationRecord | None, event: Event) -> RotationRecord | None:
    """Return the rotation's record after `event`; None while the event belongs to no rotation."""
    if event.kind is Kind.REQUESTED and event.rotation_id is not None:
        return RotationRecord(**_begun(event))
    if record is None or event.rotation_id != record.id:
        return record
    changes = _rotation_changes(event)
    return replace(record, **changes) if changes else record


def fold_secret(record: SecretRecord | None, event: Event) -> SecretRecord:
    """Return the secret's record after `event`."""
    record = record or SecretRecord(name=event.secret)
    return replace(record, **_secret_changes(record, event))


class RotationFold:
    """`fold_rotation` over many events in their order, without a new record for each."""

    __slots__: tuple[str, ...] = ("_facts",)

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}

    def add(self, event: Event) -> bool:
        """Take in an event; return whether there is a rotation now."""
        if event.kind is Kind.REQUESTED and event.rotation_id is not None:
            self._facts = _begun(event)
        elif self._facts and event.rotation_id == self._facts["id"]:
            self._facts |= _rotation_changes(event)
        return bool(self._facts)

    def record(self) -> RotationRecord:
        """Return what the events add up to."""
        return RotationRecord(**self._facts)


class SecretFold:
    """`fold_secret` over many events in their order, without a new record for each."""

    __slots__: tuple[str, ...] = ("_facts",)

    def __init__(self, name: str) -> None:
        blank = SecretRecord(name=name)
        # The same attributes, which can be set.
        self._facts: Any = SimpleNamespace(
            **{field.name: getattr(blank, field.name) for field in fields(blank)}
        )

    def add(self, event: Event) -> None:
        """Take in an event."""
        facts = self._facts
        facts.__dict__.update(_secret_changes(facts, event))

    def record(self, *, seq: int, head: str) -> SecretRecord:
        """Return what the events add up to. `seq` and `head`: the last of all events of the secret."""
        return SecretRecord(**vars(self._facts) | {"seq": seq, "head": head})


def _begun(event: Event) -> dict[str, Any]:
    """Return what a rotation's request says about it."""
    data = event.data
    return {
        "id": event.rotation_id,
        "secret": event.secret,
        "plugin": text(data, "plugin") or "",
        "strategy": text(data, "strategy") or "",
        "reason": text(data, "reason") or "",
        "actor": event.actor,
        "started_at": event.at,
        "old_version": text(data, "old_version"),
        "old_login": text(data, "old_login"),
    }


def _rotation_changes(event: Event) -> dict[str, Any]:
    """Return what changes in the record of the event's rotation."""
    data = event.data
    match event.kind, event.step:
        case Kind.FINISHED, Step.STAGE | Step.CREATE if "login" in data:
            # Where the target draws the key, `create` stages it.
            return {"new_login": text(data, "login")}
        case Kind.FINISHED, Step.PUBLISH:
            return {"new_version": text(data, "version"), "published_at": event.at}
        case Kind.FINISHED, Step.PROVE:
            login, version = text(data, "login"), text(data, "version")
            return {"new_login": login, "new_version": version, "published_at": event.at}
        case Kind.FINISHED, Step.REVOKE:
            refused = data.get("refused")
            return {"old_refused": refused if isinstance(refused, bool) else None}
        case Kind.ENDED, _:
            return {"ended_at": event.at, "outcome": Outcome(str(data["outcome"]))}
        case _:
            return {}


def _secret_changes(record: SecretRecord, event: Event) -> dict[str, Any]:
    """Return what changes in the record of the event's secret; a later part overrides an earlier one."""
    changes: dict[str, Any] = {"seq": event.seq, "head": event.hash}
    data = event.data
    if "next_due" in data or "next_try" in data:
        changes.update(_folded_due(record, event))
    for part in _PARTS.get(event.kind, ()):
        changes.update(part(record, event))
    return changes


def _requested(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    return {"open_rotation": event.rotation_id}


def _published(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    data = event.data
    at = moment(data, "rotated_at") or event.at
    served = {"version": text(data, "version"), "login": text(data, "login")}
    return {**served, **_served(record, at, at)}


def _followed(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    changes = _published(record, event)
    return {**changes, "failures": 0} if "request" in event.data else changes


def _finished(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    step, data = event.step, event.data
    if step in (Step.PUBLISH, Step.PROVE):
        return _published(record, event)
    if step is Step.RESTORE:
        served = {"version": text(data, "version"), "login": text(data, "login")}
        since = record.former_since or event.at
        return {**served, **_served(record, record.former_rotated_at, since)}
    return _UNCHANGED


def _failed(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    if event.step is not None:
        return _UNCHANGED
    # Of a request to another system, as an older release wrote it down.
    return {"failures": record.failures + (event.data.get("counts") is not False)}


def _rotation_ended(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    outcome = Outcome(str(event.data["outcome"]))
    failures = _failures(record, event, outcome)
    return {"open_rotation": None, "last_outcome": outcome, "failures": failures}


def _parked(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    data = event.data
    return {
        "parked": text(data, "reason") or "parked",
        "parked_hint": text(data, "hint") or None,
    }


def _unparked(_record: SecretRecord, _event: Event) -> Mapping[str, Any]:
    return {"parked": None, "parked_hint": None, "failures": 0}


# The states of an incident that is not closed.
OPEN: Final = "open"
PROVEN: Final = "proven"
# Recorded, and nothing is replaced yet.
MAPPED: Final = "map"
_NO_INCIDENT: Final[Mapping[str, Any]] = dict.fromkeys(
    (
        *("incident", "incident_state", "incident_mode", "incident_at"),
        *("leaked_version", "leaked_login", "leaked_moment", "prove_at"),
    )
)
# What is true again once a secret is under our care, and what is no longer once it has left it.
_MANAGED: Final[Mapping[str, Any]] = {
    "retiring": None,
    "retired": None,
    "retired_at": None,
    "renamed_to": None,
}
_ENDED: Final[Mapping[str, Any]] = {
    "version": None,
    "login": None,
    "adopted": (),
    "parked": None,
    "parked_hint": None,
    "failures": 0,
    "next_due": None,
    "due_since": None,
    "former_rotated_at": None,
    "former_since": None,
    "timing": None,
    "retiring": None,
    "refused": None,
    "refused_at": None,
    "refused_hint": None,
    "drift": None,
    "stale": (),
    **_NO_INCIDENT,
}
_ACCEPTED: Final[Mapping[str, Any]] = {"refused": None, "refused_at": None, "refused_hint": None}
_UNCHANGED: Final[Mapping[str, Any]] = {}


def _checked(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    """Return what a check found: what the backend serves is accepted or refused, known or not."""
    if record.retired is not None:
        return _UNCHANGED
    data = event.data
    drift = None if data.get("known") else text(data, "version")
    login = _ACCEPTED if data.get("accepted") else _refused(record, event)
    return {"drift": drift, "stale": texts(data, "stale"), **login}


def _taken_over(_record: SecretRecord, _event: Event) -> Mapping[str, Any]:
    return {**_ACCEPTED, "drift": None}


def _proof(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    """Return what a step's event shows of the served credential: accepted or rejected."""
    data, step = event.data, event.step
    if event.kind is Kind.FINISHED:
        # A login with what the backend serves has just succeeded.
        if step is Step.REVOKE:
            return _ACCEPTED
        if step in (Step.PUBLISH, Step.PROVE, Step.RESTORE):
            return {**_ACCEPTED, "drift": None, "stale": ()}
    accepted = data.get("current_accepted")
    if accepted is None:
        return _UNCHANGED
    return _ACCEPTED if accepted else _refused(record, event)


def _leaked(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    data = event.data
    id_ = text(data, "incident")
    again, waits = record.incident == id_, text(data, "mode") == MAPPED
    return {
        "incident": id_,
        "incident_state": MAPPED if waits else OPEN,
        "incident_mode": text(data, "mode"),
        "incident_at": record.incident_at if again else event.at,
        "leaked_version": text(data, "version"),
        "leaked_login": text(data, "login"),
        "leaked_moment": record.leaked_moment if again else None,
        "prove_at": None if waits else event.at,
    }


def _leak_moment(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    """Sessions that began before this moment may have begun with the leaked password."""
    if record.incident is None or "moment" not in event.data:
        return _UNCHANGED
    return {"leaked_moment": text(event.data, "moment")}


def _proven(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    state = PROVEN if event.data.get("ok") is True else OPEN
    return {"incident_state": state, "prove_at": moment(event.data, "next")}


def _incident_closed(_record: SecretRecord, _event: Event) -> Mapping[str, Any]:
    return _NO_INCIDENT


def _refused(record: SecretRecord, event: Event) -> dict[str, Any]:
    what = text(event.data, "what")
    if what is None:
        login = text(event.data, "current_login") or text(event.data, "login") or record.login
        why = text(event.data, "why")
        served = "with the password that the backend serves"
        what = f"the target rejects login {login!r} {served}{f': {why}' if why else ''}."
        if event.kind is Kind.CHECKED and text(event.data, "version") is None:
            what = "the backend holds no credential."
    # Since when: the first time in a row.
    since = record.refused_at or event.at
    return {"refused": what, "refused_at": since, "refused_hint": text(event.data, "hint") or None}


def _managed(_record: SecretRecord, _event: Event) -> Mapping[str, Any]:
    return _MANAGED


def _retiring(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    flags = ("drop_login", "remove_value")
    asked = [f" --{flag.replace('_', '-')}" for flag in flags if event.data.get(flag)]
    return {"retiring": "".join(asked)}


def _retired(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    return {**_ENDED, "retired": text(event.data, "reason") or "", "retired_at": event.at}


def _renamed(_record: SecretRecord, event: Event) -> Mapping[str, Any]:
    """Return what a change of name leaves: nothing in the old chain, everything in the new one."""
    data = event.data
    kept = data.get("incident")
    incident: Mapping[str, Any] = _UNCHANGED
    if isinstance(kept, Mapping):
        incident = {
            "incident": text(kept, "id"),
            "incident_state": text(kept, "state"),
            "incident_mode": text(kept, "mode"),
            "incident_at": moment(kept, "at"),
            "leaked_version": text(kept, "version"),
            "leaked_login": text(kept, "login"),
            "leaked_moment": text(kept, "moment"),
            "prove_at": moment(kept, "prove_at"),
        }
    if text(data, "to") is not None:
        return {**_ENDED, "renamed_to": text(data, "to"), **incident}
    return {
        **_MANAGED,
        "version": text(data, "version"),
        "login": text(data, "login"),
        "adopted": texts(data, "adopted"),
        "former_names": texts(data, "former_names"),
        "rotated_at": moment(data, "rotated_at"),
        "since": moment(data, "since") or event.at,
        "parked": text(data, "parked"),
        "parked_hint": text(data, "hint"),
        **incident,
    }


def _adopted(record: SecretRecord, event: Event) -> dict[str, Any]:
    """Return what changes when a credential is handed over to us."""
    data, login = event.data, text(event.data, "login") or ""
    adopted = tuple(sorted({*record.adopted, login}))
    if data.get("served") is False:
        # The second login of a pair: what is current stays what it is.
        return {"adopted": adopted}
    served = {"rotated_at": moment(data, "rotated_at"), "since": moment(data, "since") or event.at}
    if not data.get("same"):
        served = _served(record, served["rotated_at"], served["since"] or event.at)
    # Else the same credential was written again beside another field: nothing was replaced.
    return {**served, "version": text(data, "version"), "login": login, "adopted": adopted}


def _failures(record: SecretRecord, event: Event, outcome: Outcome) -> int:
    """Return how many rotations in a row did not end well, after this end of one."""
    if outcome is not Outcome.UNDONE or text(event.data, "cause") == "aborted":
        return 0
    return record.failures + (event.data.get("counts") is not False)


def _served(record: SecretRecord, rotated_at: datetime | None, since: datetime) -> dict[str, Any]:
    """Return what changes when another credential is served from now on."""
    former = {"former_rotated_at": record.rotated_at, "former_since": record.since}
    return {"rotated_at": rotated_at, "since": since, **former}


def _folded_due(record: SecretRecord, event: Event) -> Mapping[str, Any]:
    """Return when it is due and tried next, as far as the event speaks of that."""
    data = event.data
    if "next_try" in data or _moved_by_failure(event):
        again = moment(data, "next_try" if "next_try" in data else "next_due")
        return {"next_due": again, "due_since": record.due_since or record.next_due}
    due = {"next_due": moment(data, "next_due"), "timing": text(data, "timing")}
    return {**due, "due_since": moment(data, "due_since")}


def _moved_by_failure(event: Event) -> bool:
    """Return whether an older release has written the next try as the due date."""
    if event.kind is Kind.ENDED:
        return text(event.data, "outcome") == Outcome.UNDONE.value
    return event.kind is Kind.FAILED and event.step is None


_Part: TypeAlias = Callable[[SecretRecord, "Event"], "Mapping[str, Any]"]
# What each kind of event changes.
_PARTS: Final[Mapping[Kind, tuple[_Part, ...]]] = {
    Kind.REQUESTED: (_managed, _requested),
    Kind.FINISHED: (_proof, _leak_moment, _finished),
    Kind.FAILED: (_proof, _failed),
    Kind.ENDED: (_rotation_ended,),
    Kind.ADOPTED: (_taken_over, _managed, _adopted),
    Kind.FOLLOWED: (_taken_over, _followed),
    Kind.CHECKED: (_checked,),
    Kind.PARKED: (_parked,),
    Kind.UNPARKED: (_unparked,),
    Kind.RETIRE_REQUESTED: (_retiring,),
    Kind.RETIRED: (_retired,),
    Kind.RENAMED: (_renamed,),
    Kind.LEAKED: (_leaked,),
    Kind.PROVEN: (_proven,),
    Kind.INCIDENT_CLOSED: (_incident_closed,),
}


def newest_step(history: Sequence[Event]) -> Event | None:
    """Return the last event that tells of a step; None while none was begun."""
    return next((event for event in reversed(history) if event.step is not None), None)


def taken_up(events: Sequence[Event], request: str) -> Event | None:
    """Return the event with which an engine took a request up; None where none has."""
    return next((one for one in events if one.data.get("request") == request), None)


def text(data: Mapping[str, Json], key: str) -> str | None:
    """Return a text of an event's data, None when it is absent or null."""
    value = data.get(key)
    return None if value is None else str(value)


def texts(data: Mapping[str, Json], key: str) -> tuple[str, ...]:
    """Return a list of texts of an event's data, empty when it is absent or null."""
    value = data.get(key)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def moment(data: Mapping[str, Json], key: str) -> datetime | None:
    """Return a time of an event's data (ISO 8601), None when it is absent or null."""
    value = text(data, key)
    return None if value is None else datetime.fromisoformat(value)
