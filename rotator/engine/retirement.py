"""Ends the management of a secret, and renames it: its history goes on under another name."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rotator.core.contracts.backend import RemovesSecrets
from rotator.core.contracts.rotation import ClosesLogins, CountsSessions
from rotator.core.errors import Conflict, InUse, Unprovable, UsageError
from rotator.core.model import Kind, NewEvent, Outcome
from rotator.core.state_machine import progress
from rotator.engine import incident
from rotator.engine.delegated import abandoned
from rotator.engine.error_origin import tag_errors
from rotator.engine.results import Result
from rotator.engine.runner import Runner
from rotator.engine.steps import wrap_plugin_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Json, Version
    from rotator.engine.leases import Leases
    from rotator.engine.lock import LockedSecret
    from rotator.engine.steps import ManagedSecret

_ID = "retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """What the end of management includes.

    `drop_login`: the login that is served is ended, and a login with it is tried. `remove_value`: the
    backend's versions are removed. `end_sessions`: open sessions are ended rather than refused.
    """

    reason: str = ""
    drop_login: bool = False
    remove_value: bool = False
    end_sessions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The result of a retirement. `still_open`: the rotation that prevents it; then nothing was retired.

    `refused` True: a login with the credential was tried afterwards and was rejected. `incident`: the one
    whose watch over a leaked password ended with it.
    """

    secret: str
    login: str | None = None
    dropped: bool = False
    refused: bool | None = None
    removed: bool = False
    incident: str | None = None
    still_open: Result | None = None


def retire(lock: LockedSecret, asked: Retirement, leases: Leases | None = None) -> Retired:
    """End the management of a secret: complete or undo its open rotation, then do what `asked` wants.

    Refuses while one of its `leases` is open.
    """
    secret, record = lock.secret, lock.record()
    if record is None or (record.retired is not None and record.retiring is None):
        raise UsageError(
            f"there is nothing to retire: {secret.name} is not under management.",
            safety="Nothing was changed.",
        )
    _require_abilities(secret, asked)
    _require_no_leak(record, asked)
    then = f"rotator retire {secret.name}"
    if leases is not None:
        leases.require_none(secret.name, then)
    opened = lock.journal.open_rotation(secret.name)
    if opened is not None:
        result = _end_open(lock, opened, asked)
        if result.outcome is None or result.outcome is Outcome.PARKED or result.parked:
            return Retired(secret=secret.name, still_open=result)
        record = lock.record() or record
    current = _current(secret, record) if asked.drop_login or asked.remove_value else None
    login = current.credential.username if current is not None else record.login
    if current is not None and asked.drop_login and not asked.end_sessions:
        _require_no_sessions(lock, record, current)
    intent: dict[str, Json] = {
        "reason": asked.reason,
        "login": login,
        "drop_login": asked.drop_login,
        "remove_value": asked.remove_value,
    }
    # From here on, none is issued.
    with leases.kept_closed(secret.name, then) if leases is not None else nullcontext():
        _ = lock.append([NewEvent(kind=Kind.RETIRE_REQUESTED, data=intent)])
    refused = None
    if current is not None and asked.drop_login:
        refused = _drop(lock, current, end_sessions=asked.end_sessions)
    if current is not None and asked.remove_value:
        keeper = cast(
            "RemovesSecrets", tag_errors(secret.backend, f"backend {secret.backend_name}")
        )
        with wrap_plugin_errors(lock.log, secret.name, _ID, "remove"):
            keeper.remove(secret.path, expect=current.id)
    done: dict[str, Json] = {
        "reason": asked.reason,
        "login": login,
        "version": record.version,
        "dropped": asked.drop_login and current is not None,
        "refused": refused,
        "removed": asked.remove_value and current is not None,
    }
    record = lock.record() or record
    ends = incident.ended(record, asked.reason)
    _ = lock.append([*ends, NewEvent(kind=Kind.RETIRED, data=done)])
    return Retired(
        secret=secret.name,
        incident=record.incident,
        login=login,
        dropped=asked.drop_login and current is not None,
        refused=refused,
        removed=asked.remove_value and current is not None,
    )


def let_go(
    record: SecretRecord, opened: RotationRecord | None, reason: str, lent: Sequence[str] = ()
) -> list[NewEvent]:
    """Return the events that end the management of a secret whose target or entry is gone.

    What is open is left as it is, and the journal says which logins may be valid. `lent`: those of leases.
    """
    left = [login for login in (opened.old_login, opened.new_login) if login] if opened else []
    events: list[NewEvent] = []
    if opened is not None:
        what = (
            f"left open by its retirement; these logins may be valid: {', '.join(left) or 'none'}"
        )
        ended: dict[str, Json] = {
            "outcome": Outcome.UNDONE.value,
            "cause": "aborted",
            "what": what,
            "reason": reason,
        }
        events.append(NewEvent(kind=Kind.ENDED, rotation_id=opened.id, data=ended))
    data: dict[str, Json] = {
        "reason": reason,
        "login": record.login,
        "version": record.version,
        "dropped": False,
        "refused": None,
        "removed": False,
        **({"logins_left": [*left, *lent]} if left or lent else {}),
    }
    events += incident.ended(record, reason)
    return [*events, NewEvent(kind=Kind.RETIRED, data=data)]


def renamed(record: SecretRecord, to: str, reason: str) -> tuple[NewEvent, NewEvent]:
    """Return the first event of the chain of the new name, and the last of the old one.

    The first names the end of the old chain, so that the two are read as one.
    """
    data: dict[str, Json] = {
        "reason": reason,
        "from": record.name,
        "from_seq": record.seq,
        "from_hash": record.head,
        "former_names": [*record.former_names, record.name],
        "version": record.version,
        "login": record.login,
        "adopted": list(record.adopted),
        "rotated_at": record.rotated_at.isoformat() if record.rotated_at else None,
        "since": record.since.isoformat() if record.since else None,
        "next_due": record.next_due.isoformat() if record.next_due else None,
        "timing": record.timing,
        **({} if record.parked is None else {"parked": record.parked, "hint": record.parked_hint}),
        **incident.carried(record),
    }
    begins = NewEvent(kind=Kind.RENAMED, data=data)
    return begins, NewEvent(kind=Kind.RENAMED, data={"reason": reason, "to": to})


def _require_abilities(secret: ManagedSecret, asked: Retirement) -> None:
    if asked.drop_login and not isinstance(secret.rotation, ClosesLogins):
        raise UsageError(
            f"the plugin `{secret.plugin}` cannot end a login that is served.",
            hint=f"End it on {secret.target_name} yourself, then: rotator retire {secret.name}",
            safety="Nothing was changed.",
        )
    if asked.remove_value and not isinstance(secret.backend, RemovesSecrets):
        raise UsageError(
            f"backend {secret.backend_name!r} cannot remove a secret.",
            hint=f"Remove {secret.path!r} there yourself, then: rotator retire {secret.name}",
            safety="Nothing was changed.",
        )


def _require_no_leak(record: SecretRecord, asked: Retirement) -> None:
    """Refuse while a leaked password may be accepted, unless its own login is ended and then tried."""
    if asked.drop_login and record.leaked_login == record.login and record.open_rotation is None:
        return
    name = record.name
    incident.require_ended(
        record,
        f"Or end the watch over it without a proof: rotator incident close {name} --reason 'WHY'\n"
        f"Then: rotator retire {name}",
    )


def _end_open(lock: LockedSecret, opened: RotationRecord, asked: Retirement) -> Result:
    """Complete a rotation that is published, undo any other; what another system does is left to it."""
    state = progress(lock.journal.history(opened.id))
    if state.delegated:
        backend = lock.secret.backend_name
        _ = lock.append([abandoned(opened.id, backend, asked.reason or "retired")])
        return Result(secret=lock.name, rotation_id=opened.id, outcome=Outcome.UNDONE)
    data: dict[str, Json] = {"reason": asked.reason or "retired"}
    if state.can_turn_back:
        data |= {"kind": "aborted", "what": "its secret is being retired"}
        kind = Kind.ROLLBACK_REQUESTED
    else:
        data |= {"end_sessions": asked.end_sessions}
        kind = Kind.REVOKE_REQUESTED
    _ = lock.append([NewEvent(kind=kind, rotation_id=opened.id, data=data)])
    lock.unpark_if_parked(opened, asked.reason or "retired")
    return Runner(lock).drive(opened.id, resumed=True)


def _current(secret: ManagedSecret, record: SecretRecord) -> Version | None:
    """Return the served version, which must be the one that the journal knows; others are not ours."""
    current = tag_errors(secret.backend, f"backend {secret.backend_name}").current(secret.path)
    known = current is not None and (current.id, current.credential.username)
    if current is not None and known != (record.version, record.login):
        raise Conflict(
            f"somebody else wrote to the backend: it holds version {current.id} for login {current.credential.username!r}, the journal knows {record.version} for {record.login!r}.",
            hint=f"If the version that is there is yours: rotator adopt {secret.name}",
            safety="Nothing was changed.",
        )
    return current


def _require_no_sessions(lock: LockedSecret, record: SecretRecord, current: Version) -> None:
    secret = lock.secret
    if not isinstance(secret.rotation, CountsSessions):
        return
    rotation = cast("CountsSessions", tag_errors(secret.rotation, f"target {secret.target_name}"))
    login = current.credential.username
    with wrap_plugin_errors(lock.log, secret.name, _ID, "drain"):
        ctx = lock.steps(_ID, record).context(None)
        sessions = rotation.sessions(login, ctx)
    if sessions:
        used = ", ".join(sorted({f"{one.client} ({one.application})" for one in sessions}))
        raise InUse(
            f"login {login!r} has {len(sessions)} open session(s), from {used}.",
            sessions=sessions,
            hint=f"Stop what uses it, or end them: rotator retire {secret.name} --drop-login --terminate",
        )


def _drop(lock: LockedSecret, current: Version, *, end_sessions: bool) -> bool:
    """End the login that is served; return that a login with it was rejected."""
    secret = lock.secret
    target = tag_errors(secret.rotation, f"target {secret.target_name}")
    steps = lock.timed_steps(_ID)
    steps.control(current.credential.username)
    ctx = steps.context(None, end_sessions=end_sessions)
    with wrap_plugin_errors(lock.log, secret.name, _ID, "revoke"):
        cast("ClosesLogins", target).close_login(current.credential, ctx)
        accepted = target.probe(current.credential, ctx)
    if accepted:
        raise Unprovable(
            f"login {current.credential.username!r} is still accepted after it was ended.",
            hint="Look for another way in, such as `trust` in pg_hba.conf, and close it.",
        )
    return True
