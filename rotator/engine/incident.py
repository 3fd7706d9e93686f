"""A leaked password: open an incident, contain it, and prove that the password is dead, again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, cast

from rotator.core.backoff import backoff
from rotator.core.commands import close_command, leak_commands
from rotator.core.contracts.rotation import Contains, CountsSessions, Entrance
from rotator.core.errors import InUse, RotatorError, StepError, Unavailable, UsageError
from rotator.core.history import MAPPED, OPEN, PROVEN, text
from rotator.core.incident_timeline import leaked_versions
from rotator.core.model import Credential, Kind, NewEvent, Outcome
from rotator.core.model import IncidentMode as Mode
from rotator.core.secret import Secret
from rotator.core.state_machine import Direction, Leak, progress
from rotator.engine.delegated import is_delegated
from rotator.engine.error_origin import tag_errors
from rotator.engine.steps import wrap_plugin_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Event, Json, Version
    from rotator.core.session import Session
    from rotator.engine.context import SecretContext
    from rotator.engine.lock import LockedSecret
    from rotator.engine.results import Result
    from rotator.engine.runner import Runner

# How long consumers and open sessions are waited for, unless an operator says otherwise.
WITHIN: Final = timedelta(minutes=10)
# When a proof is made again, after the incident began; then once a day. The first one ends a session whose
# login was under way during the change: PostgreSQL gives a login a minute (authentication_timeout).
_AGAIN: Final = (timedelta(minutes=2), timedelta(hours=1), timedelta(hours=24))
_DAILY: Final = timedelta(days=1)
WATCHED: Final = timedelta(days=30)
# Between two proofs while the leaked password is not proven dead.
_FIRST_WAIT: Final = timedelta(seconds=10)
_LONGEST_WAIT: Final = timedelta(hours=1)
# So many seconds a session may stay listed after its end.
_ENDING: Final = 1.0
# So long a leaked version is looked for that the backend no longer holds, and that was never proven.
FORGOTTEN: Final = timedelta(days=1)
# So many of the kept versions are tried beside the leaked one.
_EARLIER: Final = 10
# How far back the report of an incident is looked for.
_EVENTS: Final = 10_000
_ID: Final = "incident"
_STRICTNESS: Final = {Mode.MAP: 0, Mode.MOVE: 1, Mode.KILL: 2}
_OWN_HOST: Final = ("local", "localhost", "127.0.0.1", "::1")


class Leaked(StrEnum):
    """Which version of a secret has leaked."""

    CURRENT = "current"
    PREVIOUS = "previous"
    OLDER = "older"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """What an operator reports. `version`: the one that leaked; None for the one that is served.

    `served` and `known`: the version that was served, and the incident that was known, when the operator
    began. An incident of that version that another one opened since then is joined.
    """

    id: str
    reason: str
    mode: Mode = Mode.MOVE
    within: timedelta = WITHIN
    version: str | None = None
    approved_by: str = ""
    served: str | None = None
    known: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What a leaked version of a secret opens, and to whom.

    `since` and `until`: when it was served. `sessions`: who is logged in with its login now, None where
    that is unknown. `fences`: `kill` is possible. `behind`: declared consumers that do not use the
    version that is served. `unknown`: what could not be found out, and why.
    """

    secret: str
    leaked: Leaked
    version: str | None
    login: str | None
    target: str
    backend: str
    since: datetime | None
    until: datetime | None
    overlaps: bool
    fences: bool
    sessions: tuple[Session, ...] | None
    copies: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    open_rotation: str | None = None
    parked: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, int]:
        """The order in which secrets are replaced: clients from elsewhere first, then most sessions."""
        sessions = self.sessions or ()
        elsewhere = sum(one.client not in _OWN_HOST for one in sessions)
        return -elsewhere, -len(sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether a leaked password is dead. `unproven` says in sentences what speaks against it."""

    secret: str
    incident: str
    ok: bool
    entrances: tuple[Entrance, ...] = ()
    sessions: int | None = None
    unproven: tuple[str, ...] = ()
    next: datetime | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """How far one call got. `result`: the rotation that is still open, or the last one that ended."""

    secret: str
    incident: str
    proof: Proof | None = None
    result: Result | None = None
    waiting: str = ""
    until: datetime | None = None
    revoked: tuple[str, ...] = ()
    answered: frozenset[str] = frozenset()
    error: RotatorError | None = None

    @property
    def is_proven(self) -> bool:
        """Whether every address rejects the leaked password."""
        return self.proof is not None and self.proof.ok

    @property
    def waits(self) -> bool:
        """Whether it continues at `until` without an operator, and nothing it needs is unavailable."""
        result = self.result
        if self.proof is not None or result is None or result.stopped or result.parked:
            return False
        return not isinstance(self.error, Unavailable)


def classify(record: SecretRecord, opened: RotationRecord | None, version: str | None) -> Leaked:
    """Return which version of the secret this is."""
    if version is None or version == record.version:
        return Leaked.CURRENT
    if opened is not None and opened.published_at is not None and version == opened.old_version:
        return Leaked.PREVIOUS
    return Leaked.OLDER


def begin(lock: LockedSecret, report: LeakReport) -> tuple[str, Mode]:
    """Record that a password has leaked. From then on every engine works on it until it is dead.

    Returns the incident and its mode: those of another report of the same leak that came first, unless
    this one is stricter.
    """
    record = _managed(lock.record(), lock.name)
    _require_own_rotation(lock)
    first = _joined(record, report)
    if first is not None:
        mode = Mode(record.incident_mode or Mode.MOVE)
        if _STRICTNESS[report.mode] <= _STRICTNESS[mode]:
            return first, mode
        report = replace(report, id=first, version=record.leaked_version)
    if report.mode is Mode.KILL and not isinstance(lock.secret.rotation, Contains):
        raise UsageError(
            f"the plugin `{lock.secret.plugin}` cannot make a password invalid before it is replaced.",
            hint=f"Replace it now: rotator incident open {lock.name} --reason 'WHY' --mode move --within 0s",
            safety="Nothing was changed.",
        )
    opened = lock.journal.open_rotation(lock.name)
    same = record.incident == report.id
    if record.incident is not None and not same and report.version is None:
        raise _already_open(record)
    if same and report.mode is Mode.MAP and record.incident_state != MAPPED:
        raise _already_open(record)
    if not same and (known := _last_report(lock, report.id)) is not None:
        raise _already_closed(lock, known)
    version = report.version or (record.leaked_version if same else None) or record.version
    if record.incident is not None and version != record.leaked_version == record.version:
        raise _still_served(record)
    data: dict[str, Json] = {
        "incident": report.id,
        "mode": report.mode.value,
        "within": 0 if report.mode is Mode.KILL else report.within.total_seconds(),
        "reason": report.reason,
        "of": classify(record, opened, version).value,
        "version": version,
        "login": _login_of(lock, record, version),
        **({"approved_by": report.approved_by} if report.approved_by else {}),
    }
    events = [NewEvent(kind=Kind.LEAKED, data=data)]
    if record.incident is not None and not same:
        # The proofs of this one try the older versions too.
        events.insert(0, _closed(record, f"followed by incident {report.id}"))
    if record.parked is not None and report.mode is not Mode.MAP:
        taken = {"reason": f"incident {report.id}"}
        rotation_id = opened.id if opened else None
        events.append(NewEvent(kind=Kind.UNPARKED, rotation_id=rotation_id, data=taken))
    _ = lock.append(events)
    return report.id, report.mode


def _joined(record: SecretRecord, report: LeakReport) -> str | None:
    """Return the incident that another report of the same leak opened since this one began."""
    if record.incident in (None, report.known, report.id) or report.served is None:
        return None
    return record.incident if record.leaked_version == report.served else None


def contain(lock: LockedSecret, runner: Runner) -> Contained:
    """Do what is left to do: end or replace what has leaked, then prove that it is dead."""
    record = _in_incident(lock.record(), lock.name)
    _require_own_rotation(lock)
    if record.incident_state == MAPPED:
        raise UsageError(
            f"incident {record.incident} of {lock.name} is recorded only: nobody has decided how to"
            " replace the password.",
            hint=leak_commands(lock.name),
            safety="Nothing was changed.",
        )
    incident = record.incident or ""
    record = _served_again(lock, record)
    result = _replaced(lock, runner, record)
    if result is not None and _is_open(result):
        return Contained(
            secret=lock.name,
            incident=incident,
            result=result,
            waiting=result.waiting,
            until=result.until,
            error=result.error,
        )
    revoked = _rejected_again(lock)
    return Contained(
        secret=lock.name,
        incident=incident,
        proof=prove(lock),
        result=result,
        revoked=revoked,
        answered=frozenset(lock.contacts.answered),
    )


def prove(lock: LockedSecret) -> Proof:
    """Try the leaked password wherever its login is accepted, and record whether it is dead."""
    record = _in_incident(lock.record(), lock.name)
    was_proven, now = record.incident_state == PROVEN, lock.clock.now()
    lock.renew()
    entrances, sessions, unproven = _evidence(lock, record)
    ok = not unproven
    tries = _tries(lock)
    # Without the value nothing is left to try, and that it was rejected stays true.
    is_lost = _forgotten(record) in unproven
    is_forgotten = was_proven and is_lost
    begun = record.incident_at or now
    gives_up = is_lost and not was_proven and now >= begun + FORGOTTEN
    if gives_up:
        unproven = (*unproven, "So it is not tried again automatically.")
    done = ok and record.incident_at is not None and now >= record.incident_at + WATCHED
    done = done or is_forgotten
    again = _proven_again(record, now) if ok else _tried_again(record, now, tries)
    data: dict[str, Json] = {
        "incident": record.incident,
        "ok": ok,
        "version": record.leaked_version,
        "login": record.leaked_login,
        "entrances": [
            {
                "address": one.address,
                "current": one.current,
                "wrong": one.wrong,
                "leaked": one.leaked,
                **({"why": one.why} if one.why else {}),
            }
            for one in entrances
        ],
        "sessions": sessions,
        "unproven": list(unproven),
        "next": None if done or gives_up else again.isoformat(),
        # Whether it differs from what was known before: somebody wants to read it.
        "news": ok is not was_proven or (not ok and tries == 1) or gives_up,
        **({"hint": close_command(lock.name)} if gives_up else {}),
        **({"resurrected": True} if was_proven and any(map(_came_back, entrances)) else {}),
    }
    events = [NewEvent(kind=Kind.PROVEN, data=data)]
    if done:
        why: dict[str, Json] = {
            "incident": record.incident,
            "reason": "every address rejected it for 30 days" if ok else _forgotten(record),
            **({"proven": True} if is_forgotten else {}),
        }
        events.append(NewEvent(kind=Kind.INCIDENT_CLOSED, data=why))
    _ = lock.append(events)
    return Proof(
        secret=lock.name,
        incident=record.incident or "",
        ok=ok,
        entrances=entrances,
        sessions=sessions,
        unproven=unproven,
        next=None if done or gives_up else again,
        closed=done,
    )


def close(lock: LockedSecret, reason: str) -> None:
    """End the watch over a leaked password, whatever the last proof has shown."""
    record = _in_incident(lock.record(), lock.name)
    given_up = record.incident_state != PROVEN
    _ = lock.append([_closed(record, reason, **({"given_up": True} if given_up else {}))])


def reopen(lock: LockedSecret, reason: str) -> str:
    """Begin the watch over a leaked password again, after its proof or its close; return the incident."""
    record = _managed(lock.record(), lock.name)
    if record.incident is not None and record.incident_state != PROVEN:
        raise _already_open(record)
    last = _last_report(lock, record.incident)
    if last is None:
        raise UsageError(
            f"{lock.name} was in no incident.",
            hint=f"Report a leak: rotator incident open {lock.name} --reason 'WHY'",
            safety="Nothing was changed.",
        )
    _ = lock.append([NewEvent(kind=Kind.LEAKED, data={**last.data, "reason": reason})])
    return str(last.data["incident"])


def carried(record: SecretRecord) -> dict[str, Json]:
    """Return what the first event under a new name keeps of an incident; empty where there is none."""
    if record.incident is None:
        return {}
    times = {"at": record.incident_at, "prove_at": record.prove_at}
    kept: dict[str, Json] = {
        "id": record.incident,
        "state": record.incident_state,
        "mode": record.incident_mode,
        "version": record.leaked_version,
        "login": record.leaked_login,
        "moment": record.leaked_moment,
        **{key: at.isoformat() if at else None for key, at in times.items()},
    }
    return {"incident": kept}


def ended(record: SecretRecord, reason: str) -> list[NewEvent]:
    """Return what ends the watch over a leaked password together with the management of its secret."""
    if record.incident is None:
        return []
    return [_closed(record, f"its secret was retired{f': {reason}' if reason else ''}")]


def require_ended(record: SecretRecord, hint: str) -> None:
    """Raise where a leaked password may still be accepted: nobody would try or replace it any more."""
    if record.incident is None or record.incident_state == PROVEN:
        return
    name = record.name
    raise UsageError(
        f"version {record.leaked_version} of {name} leaked (incident {record.incident}), and it is not"
        " proven that its password is rejected.",
        hint=f"{next_in_incident(record)}\n{hint}",
        safety="Nothing was changed.",
    )


def require_not_leaked(access: SecretContext, version: str | None) -> None:
    """Raise where a rollback would serve a version again that has leaked."""
    report = leaked_versions(access.events()).get(version or "")
    if report is None:
        return
    name, record, id_ = access.name, access.record(), text(report.data, "incident")
    hint = f"End the old credential: rotator revoke {name}"
    if record is not None and (record.incident, record.incident_state) == (id_, MAPPED):
        hint = f"{leak_commands(name)}\nIf it has not leaked: rotator incident close {name} --reason 'WHY'"
    raise UsageError(
        f"version {version}, which a rollback would serve again, has leaked (incident {id_}).",
        hint=hint,
        safety="Nothing was changed.",
    )


def leaked_again(
    access: SecretContext, credential: Credential, version: str | None
) -> tuple[str, list[NewEvent]] | None:
    """Return the incident of a password that leaked and is served again, and the events that say so.

    Compared in memory with the leaked versions that the backend still holds. `version`: under which it
    is served now.
    """
    for leaked, report in reversed(leaked_versions(access.events()).items()):
        held = access.backend.read(access.secret.path, leaked) if leaked != version else None
        if held is None or held.credential.password != credential.password:
            continue
        id_, record = text(report.data, "incident") or "", access.record()
        events: list[NewEvent] = []
        if record is not None and record.incident not in (None, id_):
            events.append(_closed(record, f"followed by incident {id_}"))
        data: dict[str, Json] = {
            **report.data,
            "version": version,
            "login": credential.username,
            "of": Leaked.CURRENT.value,
            "reason": f"the password of version {leaked} is served again",
        }
        return id_, [*events, NewEvent(kind=Kind.LEAKED, data=data)]
    return None


def exposure(access: SecretContext, version: str | None) -> Exposure:
    """Return what a leaked version opens. Reads the journal, the target and the backend, changes nothing."""
    secret = access.secret
    record = _managed(access.record(), access.name)
    opened = access.journal.open_rotation(access.name)
    version = version or record.version
    leaked, login = classify(record, opened, version), _login_of(access, record, version)
    unknown: list[str] = []
    sessions: tuple[Session, ...] | None = None
    steps = access.steps(_ID, record)
    if login is not None and isinstance(secret.rotation, CountsSessions):
        counts = cast("CountsSessions", _target(access))
        try:
            with wrap_plugin_errors(access.log, access.name, _ID, "sessions"):
                sessions = tuple(counts.sessions(login, steps.context(None)))
        except StepError as error:
            unknown.append(f"its sessions: {error.what}")
    behind: list[str] = []
    try:
        with wrap_plugin_errors(access.log, access.name, _ID, "consumers"):
            verdict = steps.verdict(record.version or "", [login] if login else [])
    except StepError as error:
        verdict = None
        unknown.append(f"its consumers: {error.what}")
    if verdict is not None:
        behind = [one.line() for one in verdict.standings if not one.is_complete]
    rotations = access.rotations(100)
    made = next((one for one in rotations if version and one.new_version == version), None)
    replaced = next((one for one in rotations if version and one.old_version == version), None)
    return Exposure(
        secret=access.name,
        leaked=leaked,
        version=version,
        login=login,
        target=secret.target_name,
        backend=secret.backend_name,
        since=made.published_at if made else (None if replaced else record.rotated_at),
        until=replaced.ended_at if replaced else None,
        overlaps=secret.rotation.overlaps,
        fences=isinstance(secret.rotation, Contains),
        sessions=sessions,
        copies=tuple(map(str, secret.copies)),
        consumers=tuple(one.name for one in secret.consumers),
        behind=tuple(behind),
        open_rotation=opened.id if opened else None,
        parked=record.parked,
        unknown=tuple(unknown),
    )


def find_version(access: SecretContext, values: Iterable[Secret]) -> str | None:
    """Return the newest kept version whose password is one of these; None where there is none.

    Passwords are compared in memory. Nothing about the values is written anywhere.
    """
    passwords = tuple(values)
    for version in kept_versions(access):
        if any(version.credential.password == value for value in passwords):
            return version.id
    return None


def kept_versions(access: SecretContext, most: int = 100) -> Iterable[Version]:
    """Go through the versions of a secret that the backend still holds, newest first."""
    path, backend = access.secret.path, access.backend
    current = backend.current(path)
    seen: set[str] = set()
    if current is not None:
        seen.add(current.id)
        yield current
    for rotation in access.rotations(most):
        for id_ in (rotation.new_version, rotation.old_version):
            if id_ is not None and id_ not in seen:
                seen.add(id_)
                held = backend.read(path, id_)
                if held is not None:
                    yield held


# -- containment ---------------------------------------------------------------------------------


def _replaced(lock: LockedSecret, runner: Runner, record: SecretRecord) -> Result | None:
    """Complete what is open, then replace the leaked version where it is still served."""
    result = None
    opened = lock.journal.open_rotation(lock.name)
    if opened is not None and not _is_apart(lock, record, opened):
        result = _complete(lock, runner, record, opened)
        if _is_open(result):
            return result
        record = lock.record() or record
    if record.version is None or record.version != record.leaked_version:
        return result
    return runner.start(_reason(lock, record), None, record, leak=_leak(lock, record))


def _served_again(lock: LockedSecret, record: SecretRecord) -> SecretRecord:
    """Take in that the leaked password is served under another version, as after a rollback to a copy of it."""
    if record.leaked_version in (None, record.version):
        return record
    try:
        with wrap_plugin_errors(lock.log, lock.name, _ID, "stage"):
            current = lock.backend.current(lock.secret.path)
            if current is None or current.id != record.version:
                return record
            again = leaked_again(lock, current.credential, current.id)
    except StepError as error:
        # The proof that follows says what could not be read.
        lock.log.debug("not compared", secret=lock.name, what=error.what)
        return record
    if again is not None:
        _ = lock.append(again[1])
    return lock.record() or record


def _is_apart(lock: LockedSecret, record: SecretRecord, opened: RotationRecord) -> bool:
    """Return whether an open rotation is in its grace period and none of its credentials leaked.

    As one that began after the incident: its grace period and its sessions are not the incident's.
    """
    if opened.published_at is None:
        return False
    if record.leaked_version in (record.version, opened.old_version, opened.new_version):
        return False
    return progress(lock.journal.history(opened.id)).leak is None


def _complete(
    lock: LockedSecret, runner: Runner, record: SecretRecord, opened: RotationRecord
) -> Result:
    """Drive the open rotation to its end: as the incident's own where its old credential has leaked."""
    lock.unpark_if_parked(opened, f"incident {record.incident}")
    state = progress(lock.journal.history(opened.id))
    forward = state.direction is Direction.FORWARD
    reason = f"incident {record.incident}"
    if state.leak is None:
        if forward and opened.old_version == record.leaked_version:
            data = _leak(lock, record)
            _ = lock.append([NewEvent(kind=Kind.LEAKED, rotation_id=opened.id, data=data)])
        elif state.published and not state.revoke_now and not state.can_turn_back:
            data = {"reason": reason, "end_sessions": True}
            kind = Kind.REVOKE_REQUESTED
            _ = lock.append([NewEvent(kind=kind, rotation_id=opened.id, data=data)])
    elif forward and opened.old_version == record.leaked_version:
        data = _leak(lock, record)
        if _is_changed(state.leak, data):
            _ = lock.append([NewEvent(kind=Kind.LEAKED, rotation_id=opened.id, data=data)])
    return runner.drive(opened.id, resumed=True)


def _is_changed(leak: Leak, data: dict[str, Json]) -> bool:
    """Return whether an operator has decided otherwise since; a `kill` that began stays one."""
    kill, seconds = data["mode"] == Mode.KILL.value, data["within"]
    return not leak.fence and (kill or leak.within.total_seconds() != seconds)


def _rejected_again(lock: LockedSecret) -> tuple[str, ...]:
    """End a leaked password that is accepted although it was replaced; return its login.

    As after the restore of a snapshot. A login of its own is revoked. In place, the password that is
    served takes its place again, and every session ends: nobody knows with which password it began.
    """
    record = _in_incident(lock.record(), lock.name)
    login = record.leaked_login
    if login is None or record.leaked_version in (None, record.version):
        return ()
    steps, target = lock.timed_steps(_ID), _target(lock)
    try:
        with wrap_plugin_errors(lock.log, lock.name, _ID, "revoke"):
            held = lock.backend.read(lock.secret.path, record.leaked_version or "")
            current = lock.backend.current(lock.secret.path)
            if held is None or current is None or held.credential.username != login:
                return ()
            if current.id != record.version or lock.written_anew(record, current) is not None:
                # Somebody else wrote it, so it is neither set on the target nor a heir of the login.
                lock.log.warning("not revoked", secret=lock.name, login=login, version=current.id)
                return ()
            served, leaked = current.credential, held.credential
            ctx = steps.context(served, end_sessions=True)
            if served.password == leaked.password or steps.may_lock(login, ctx):
                return ()
            if not target.probe(leaked, ctx):
                return ()
            reported = reported_leak(lock, record)
            data = {**(reported.data if reported is not None else {}), "returned": True}
            _ = lock.append([NewEvent(kind=Kind.LEAKED, data=data)])
            if served.username != login:
                target.revoke(leaked, ctx)
            else:
                ctx = steps.context(leaked, fenced=True)
                target.create(served, ctx)
                if isinstance(lock.secret.rotation, Contains):
                    contains = cast("Contains", target)
                    _ = contains.end_sessions(login, contains.moment(ctx), ctx)
    except StepError as error:
        # The proof that follows says what is still open.
        lock.log.warning("not revoked", secret=lock.name, login=login, what=error.what)
        return ()
    return (login,)


def _evidence(
    lock: LockedSecret, record: SecretRecord
) -> tuple[tuple[Entrance, ...], int | None, tuple[str, ...]]:
    """Return what each address does with the leaked password, its sessions, and what is not proven."""
    unproven: list[str] = []
    entrances: tuple[Entrance, ...] = ()
    sessions: int | None = None
    try:
        with wrap_plugin_errors(lock.log, lock.name, _ID, "prove"):
            current = lock.backend.current(lock.secret.path)
            leaked = _leaked_credential(lock, record, unproven)
            if current is None:
                unproven.append("the backend holds no credential.")
            elif current.id == record.leaked_version:
                unproven.append(f"the backend still serves the leaked version {current.id}.")
            served = current.credential if current is not None else None
            if served is not None and leaked.password.reveal() == served.password.reveal():
                unproven.append("the password that is served is the leaked one.")
            sessions = _old_sessions(lock, record, leaked.username, unproven)
            entrances = _entrances(lock, leaked, served)
            if not entrances:
                unproven.append("no address of the target was tried.")
            copies = lock.steps(_ID, record).copies
            unproven += [f"copy {one} holds another value." for one in copies.stale(served)]
            unproven += _earlier(lock, record, served)
    except StepError as error:
        unproven.append(error.what)
    for one in entrances:
        unproven += _of_entrance(one)
    return entrances, sessions, tuple(dict.fromkeys(unproven))


def _leaked_credential(lock: LockedSecret, record: SecretRecord, unproven: list[str]) -> Credential:
    version, login = record.leaked_version, record.leaked_login or ""
    held = lock.backend.read(lock.secret.path, version) if version else None
    if held is None or held.credential.username != login:
        unproven.append(_forgotten(record))
        return Credential(username=login, password=Secret(""))
    return held.credential


def _forgotten(record: SecretRecord) -> str:
    return f"the backend no longer holds the leaked version {record.leaked_version}, so its password cannot be tried."


def _came_back(one: Entrance) -> bool:
    """Return whether an address accepts the leaked password, and not just any."""
    return one.leaked is True and not one.wrong


def _old_sessions(
    lock: LockedSecret, record: SecretRecord, login: str, unproven: list[str]
) -> int | None:
    """End the sessions that are older than the change, and return how many are left."""
    rotation, target = lock.secret.rotation, _target(lock)
    ctx = lock.timed_steps(_ID).context(None)
    if login not in _logins_in_use(lock, record):
        if not isinstance(rotation, CountsSessions):
            return None
        left = _still_listed(cast("CountsSessions", target), login, ctx)
    elif isinstance(rotation, Contains) and record.leaked_moment is not None:
        left = 0
        try:
            _ = cast("Contains", target).end_sessions(login, record.leaked_moment, ctx)
        except InUse as busy:
            left = len(busy.sessions)
    else:
        return None
    if left:
        unproven.append(f"{left} session(s) of login {login!r} began before the change.")
    return left


def _still_listed(target: CountsSessions, login: str, ctx: StepContext) -> int:
    """Return how many sessions a login has. A server lists one for a moment after its end."""
    ends = ctx.clock.monotonic() + _ENDING
    while (left := len(target.sessions(login, ctx))) and ctx.clock.monotonic() < ends:
        ctx.clock.sleep(_ENDING / 10)
    return left


def _in_grace(lock: LockedSecret) -> RotationRecord | None:
    """Return the open rotation where both of its credentials are valid; None where there is none."""
    opened = lock.journal.open_rotation(lock.name)
    return opened if opened is not None and opened.published_at is not None else None


def _logins_in_use(lock: LockedSecret, record: SecretRecord) -> set[str | None]:
    """Return the login that is served, and those of a grace period: with a later password than the leaked one."""
    opened = _in_grace(lock)
    of_rotation = (opened.old_login, opened.new_login) if opened is not None else ()
    return {record.login, *of_rotation}


def _entrances(
    lock: LockedSecret, leaked: Credential, current: Credential | None
) -> tuple[Entrance, ...]:
    steps, target = lock.timed_steps(_ID), _target(lock)
    ctx = steps.context(current)
    if isinstance(lock.secret.rotation, Contains):
        return tuple(cast("Contains", target).entrances(leaked, current, ctx))
    address = f"target {lock.secret.target_name}"
    if steps.may_lock(leaked.username, ctx):
        return (Entrance(address=address, why="a failed login could lock the account"),)
    steps.control(leaked.username)
    known = bool(leaked.password.reveal())
    return (
        Entrance(
            address=address,
            current=target.probe(current, ctx) if current is not None else None,
            wrong=False,
            leaked=target.probe(leaked, ctx) if known else None,
            why="" if known else "the leaked password is no longer known",
        ),
    )


def _of_entrance(one: Entrance) -> list[str]:
    """Return what speaks against the proof at one address."""
    found: list[str] = []
    if one.wrong:
        found.append(f"{one.address} accepts any password, so no refusal there means anything.")
    elif one.leaked:
        found.append(f"{one.address} still accepts the leaked password.")
    elif None in (one.leaked, one.wrong, one.current):
        found.append(f"{one.address} could not be tried: {one.why or 'no reason is known'}.")
    if one.current is False:
        found.append(f"{one.address} rejects the credential that is served.")
    return found


def _earlier(lock: LockedSecret, record: SecretRecord, served: Credential | None) -> list[str]:
    """Try the kept versions before the leaked one: what leaked may be older than it was said to be."""
    steps, target, found = lock.timed_steps(_ID), _target(lock), list[str]()
    ctx = steps.context(served)
    opened = _in_grace(lock)
    valid = (opened.old_version, opened.new_version) if opened is not None else ()
    skipped = {record.version, record.leaked_version, *valid}
    for number, version in enumerate(kept_versions(lock, _EARLIER)):
        if number > _EARLIER:
            break
        if version.id in skipped or steps.may_lock(version.credential.username, ctx):
            continue
        if served is not None and version.credential.password == served.password:
            continue
        if target.probe(version.credential, ctx):
            found.append(
                f"version {version.id} (login {version.credential.username!r}) is accepted as well."
            )
    return found


# -- small things --------------------------------------------------------------------------------


def _proven_again(record: SecretRecord, now: datetime) -> datetime:
    begun = record.incident_at or now
    return next((begun + one for one in _AGAIN if begun + one > now), now + _DAILY)


def _tried_again(record: SecretRecord, now: datetime, tries: int) -> datetime:
    key = f"{record.incident}:{tries}"
    return now + backoff(tries, first=_FIRST_WAIT, longest=_LONGEST_WAIT, key=key)


def _tries(lock: LockedSecret) -> int:
    """Return the number of the proof that follows, in a row of those that failed."""
    tries = 1
    for event in reversed(lock.events(100)):
        if event.kind is Kind.LEAKED or (event.kind is Kind.PROVEN and event.data.get("ok")):
            break
        tries += event.kind is Kind.PROVEN
    return tries


def _leak(lock: LockedSecret, record: SecretRecord) -> dict[str, Json]:
    reported = reported_leak(lock, record)
    return {
        "incident": record.incident,
        "mode": record.incident_mode,
        "within": reported.data.get("within", 0) if reported is not None else 0,
        "version": record.leaked_version,
        "login": record.leaked_login,
    }


def _reason(lock: LockedSecret, record: SecretRecord) -> str:
    reported = reported_leak(lock, record)
    why = str(reported.data.get("reason") or "") if reported is not None else ""
    return f"incident {record.incident}{f': {why}' if why else ''}"


def reported_leak(access: SecretContext, record: SecretRecord) -> Event | None:
    """Return the newest event that reported the leak of this secret."""
    return _last_report(access, record.incident)


def _last_report(access: SecretContext, incident: str | None) -> Event | None:
    """Return the newest report of a leak; `incident`: of this one, None for any."""
    return next(
        (
            one
            for one in reversed(access.events(_EVENTS))
            if one.kind is Kind.LEAKED
            and one.rotation_id is None
            and incident in (None, one.data.get("incident"))
        ),
        None,
    )


def _closed(record: SecretRecord, reason: str, **more: Json) -> NewEvent:
    data: dict[str, Json] = {
        "incident": record.incident,
        "reason": reason,
        "proven": record.incident_state == PROVEN,
        **more,
    }
    return NewEvent(kind=Kind.INCIDENT_CLOSED, data=data)


def _already_open(record: SecretRecord) -> UsageError:
    name, served = record.name, record.version
    version = served if served != record.leaked_version else "VERSION"
    return UsageError(
        f"{name} is in incident {record.incident} already, for version {record.leaked_version}.",
        hint=f"{next_in_incident(record)}\nIf another version leaked too: rotator incident open {name} --reason 'WHY' --version {version}",
        safety="Nothing was changed.",
    )


def _already_closed(lock: LockedSecret, known: Event) -> UsageError:
    id_, last = known.data["incident"], _last_report(lock, None)
    newest = last is not None and last.data["incident"] == id_
    again = f"\nOr reopen it: rotator incident reopen {lock.name} --reason 'WHY'" if newest else ""
    return UsageError(
        f"{lock.name} was in incident {id_} before, and it is closed.",
        hint=f"Give another --id, or none.{again}",
        safety="Nothing was changed.",
    )


def _still_served(record: SecretRecord) -> UsageError:
    """Return why another version is not reported: the newer report would hide the one that is served."""
    name = record.name
    return UsageError(
        f"version {record.leaked_version} of {name} leaked too (incident {record.incident}), and it is"
        " still served.",
        hint=next_in_incident(record),
        safety="Nothing was changed.",
    )


def next_in_incident(record: SecretRecord) -> str:
    """Return what an operator does next in the incident of a secret."""
    if record.incident_state == MAPPED:
        return leak_commands(record.name)
    if record.incident_state == OPEN:
        return f"Continue it: rotator incident resume {record.name}"
    return f"See: rotator incident show {record.name}"


def _login_of(access: SecretContext, record: SecretRecord, version: str | None) -> str | None:
    if version is None or version == record.version:
        return record.login
    for rotation in access.rotations(1000):
        if rotation.new_version == version:
            return rotation.new_login
        if rotation.old_version == version:
            return rotation.old_login
    raise UsageError(
        f"the journal knows no version {version!r} of {access.name}.",
        hint=f"See its versions: rotator history {access.name}",
        safety="Nothing was changed.",
    )


def _is_open(result: Result) -> bool:
    return result.stopped or result.outcome is None or result.outcome is Outcome.PARKED


def _managed(record: SecretRecord | None, name: str) -> SecretRecord:
    if record is None or record.version is None:
        raise UsageError(
            f"{name} is not under management, so rotator cannot replace its password.",
            hint=f"Take it over first: rotator adopt {name}",
            safety="Nothing was changed.",
        )
    return record


def _require_own_rotation(lock: LockedSecret) -> None:
    """Raise where another system rotates the secret: a rotation of rotator's own could not set its password."""
    if is_delegated(lock.secret):
        raise UsageError(
            f"another system rotates {lock.name}, so rotator cannot replace its password itself.",
            hint=f"Have it rotated now: rotator rotate {lock.name} --reason 'WHY'",
            safety="Nothing was changed.",
        )


def _in_incident(record: SecretRecord | None, name: str) -> SecretRecord:
    if record is None or record.incident is None:
        raise UsageError(
            f"no incident of {name} is open.",
            hint=f"Report a leak: rotator incident open {name} --reason 'WHY'",
            safety="Nothing was changed.",
        )
    return record


def _target(access: SecretContext) -> Rotation:
    return tag_errors(
        access.secret.rotation, f"target {access.secret.target_name}", access.contacts
    )
