"""Adoption: takes a login under rotator's care. Nothing changes on the target."""

from __future__ import annotations

import hashlib
from shlex import quote
from typing import TYPE_CHECKING

from rotator.core.contracts.backend import KeepsPrevious
from rotator.core.contracts.rotation import TakesTurns
from rotator.core.errors import Conflict, UsageError
from rotator.core.history import moment
from rotator.core.model import Credential, Kind, NewEvent
from rotator.core.schedule import as_data, next_due
from rotator.core.state_machine import progress
from rotator.engine.copies import same
from rotator.engine.incident import leaked_again
from rotator.engine.results import Health, UnprovenSecond
from rotator.engine.steps import made_current

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Json, Version
    from rotator.engine.lock import LockedSecret
    from rotator.engine.results import Second
    from rotator.engine.steps import ManagedSecret, Steps


def adopt(
    locked: LockedSecret,
    first: Credential | None,
    opened: RotationRecord | None,
    second: Second,
    reason: str,
    made_at: datetime | None,
) -> Health:
    """Try the credential, then record that it is ours now; the same for the second of a pair."""
    secret = locked.secret
    current = secret.backend.current(secret.path)
    if opened is not None:
        _require_own_version(locked, opened, current)
    if first is not None and current is not None and same(first, current.credential):
        # An earlier call was cut off after it had written it.
        first = None
    if first is not None and current is not None:
        what = f"the backend already holds a credential for login {current.credential.username!r}."
        raise UsageError(what, hint="Adopt it as it is, without giving another.")
    credential = first or (current.credential if current else None)
    if credential is None:
        what = f"the backend holds nothing at {secret.path!r}, so there is nothing to adopt."
        hint = (
            "Give the login with --username and --password-from, or let `rotator rotate` create it."
        )
        raise UsageError(what, hint=hint)
    record = locked.record()
    steps = locked.steps("adopt", record)
    steps.copies.check(credential)
    steps.control(credential.username)
    if not secret.rotation.probe(credential, steps.context(credential)):
        given = "the password given" if first is not None else "what the backend holds"
        why = steps.rejection(credential)
        raise UsageError(
            f"the target rejects login {credential.username!r} with {given}{why.because}.",
            safety="Nothing was changed.",
            hint=why.hint or f"Correct the password, then: rotator adopt {secret.name}",
        )
    beside = _second_login(locked, steps, credential, second, reason)
    rotation_id = None
    if first is not None:
        rotation_id, current = _written(secret, first)
    if current is None:
        raise Conflict(f"what was written to {secret.path!r} could not be read back.")
    events, unparks = list(beside), bool(beside)
    again: tuple[str, list[NewEvent]] | None = None
    written_anew = locked.written_anew(record, current) is not None
    if record is None or record.version != current.id or written_anew:
        age = _age(locked, None if written_anew else record, current, made_at)
        since = moment(age, "since") or locked.clock.now()
        due = next_due(secret.policy, since, secret.name)
        data = {**_taken_over(secret, current, reason), **age, **as_data(secret.policy, due)}
        rotation_id = opened.id if opened else rotation_id
        events.append(NewEvent(kind=Kind.ADOPTED, rotation_id=rotation_id, data=data))
        again = leaked_again(locked, current.credential, current.id)
        events += again[1] if again is not None else []
        unparks = unparks or opened is not None
    if unparks and record is not None and record.parked is not None:
        rotation_id = opened.id if opened else None
        unparked: dict[str, Json] = {"reason": reason or "adopted"}
        events.append(NewEvent(kind=Kind.UNPARKED, rotation_id=rotation_id, data=unparked))
    _ = locked.append(events)
    return Health(
        secret=secret.name,
        login=current.credential.username,
        version=current.id,
        accepted=True,
        known=True,
        recorded=True,
        second=next((str(event.data["login"]) for event in beside), None),
        incident=again[0] if again is not None else None,
    )


def _written(secret: ManagedSecret, first: Credential) -> tuple[str, Version | None]:
    """Write the credential into an empty place of the backend; return the id of the write and the version."""
    # The same id at each try, so that this one replaces what an interrupted one left behind.
    rotation_id = hashlib.sha256(f"adopt {secret.name}".encode()).hexdigest()[:36]
    secret.backend.discard(secret.path, rotation_id)
    _ = secret.backend.stage(secret.path, rotation_id, first)
    version = secret.backend.publish(secret.path, rotation_id, expect=None)
    return rotation_id, secret.backend.read(secret.path, version)


def adopt_for_delegation(
    locked: LockedSecret, rotation_id: str, others: tuple[Version, ...], reason: str
) -> None:
    """Adopt a login because the caller, who leads the rotation, requests it.

    The current credential must log in, each time; or the one staged for `rotation_id`, where an
    earlier try has set it already. `others`: versions whose logins are adopted too, such as the other
    one of a pair, if they log in.
    """
    secret = locked.secret
    record = locked.record()
    current = secret.backend.current(secret.path)
    if current is None:
        raise UsageError(f"the backend holds no credential at {secret.path!r}.")
    adopted = set(record.adopted if record else ())
    steps = locked.steps("adopt", record)
    steps.control(current.credential.username)
    ctx = steps.context(current.credential)
    if not secret.rotation.probe(current.credential, ctx):
        staged = secret.backend.staged(secret.path, rotation_id)
        if staged is None or not secret.rotation.probe(staged, ctx):
            why = steps.rejection(current.credential)
            raise UsageError(
                f"the target rejects login {current.credential.username!r} with what is current{why.because}.",
                safety="Nothing was changed. The application is NOT safe: what it reads does not log in.",
                hint=why.hint
                or "Write the password that works into the secret, or set the one that is in it on the target; then rotate again.",
            )
    # A writer of the backend could name any login there: only a password proves that it is theirs.
    events = [
        _adopted_beside(secret, other.credential.username, other.id, "password", reason)
        for other in others
        if other.credential.username not in adopted and secret.rotation.probe(other.credential, ctx)
    ]
    known = record is not None and record.version == current.id
    if not known or current.credential.username not in adopted:
        events.append(NewEvent(kind=Kind.ADOPTED, data=_taken_over(secret, current, reason)))
    _ = locked.append(events)


def _require_own_version(
    locked: LockedSecret, opened: RotationRecord, current: Version | None
) -> None:
    """Refuse, during a rotation, to adopt anything but what that rotation made current.

    Somebody may have written it back with another field beside it; any other credential waits
    until the rotation is over.
    """
    secret = locked.secret
    history = locked.journal.history(opened.id)
    if progress(history).delegated:
        # Whatever logs in is what was waited for.
        return
    made = made_current(history)
    kept = secret.backend.read(secret.path, made) if made else None
    known = kept is not None and current is not None and same(kept.credential, current.credential)
    if not known:
        raise UsageError(
            f"rotation {opened.id} is still open.",
            hint=f"Finish it first: rotator resume {secret.name}. If that stops because somebody"
            " else wrote to the backend, write the credential back that the rotation published.",
        )


def _age(
    locked: LockedSecret, record: SecretRecord | None, current: Version, made_at: datetime | None
) -> dict[str, Json]:
    """Return since when the adopted credential has been in use, where that is known."""
    if made_at is not None:
        return {"rotated_at": made_at.isoformat(), "since": made_at.isoformat()}
    if record is None or record.version is None or record.since is None:
        return {}
    known = locked.secret.backend.read(locked.secret.path, record.version)
    if known is None or not same(known.credential, current.credential):
        return {}
    rotated_at = record.rotated_at.isoformat() if record.rotated_at else None
    return {"same": True, "rotated_at": rotated_at, "since": record.since.isoformat()}


def _second_login(
    locked: LockedSecret, steps: Steps, current: Credential, second: Second, reason: str
) -> list[NewEvent]:
    """Return the adoption of the second login of a pair, where it exists and is not ours yet.

    The caller knows its password, or names it and gives a reason. Raises `UnprovenSecond`.
    """
    secret, ctx = locked.secret, steps.context(current)
    if not isinstance(secret.rotation, TakesTurns):
        if second.password is not None or second.take_over is not None:
            what = f"strategy {secret.strategy} has one login, so there is no second one to adopt."
            raise UsageError(what, safety="Nothing was changed.", hint="Adopt it without that.")
        return []
    name = secret.rotation.unmanaged(current, ctx)
    if name is None:
        return []
    if second.take_over is not None:
        if second.take_over != name or not reason:
            what = f"the second login of {secret.name} is {name!r}: taking it over needs that name and a reason."
            hint = f"rotator adopt {secret.name} --take-over {quote(name)} --reason 'WHY'"
            raise UsageError(what, safety="Nothing was changed.", hint=hint)
        return [_adopted_beside(secret, name, None, "word", reason)]
    previous = None
    if second.password is None and isinstance(secret.backend, KeepsPrevious):
        previous = secret.backend.previous(secret.path)
    if (
        previous is not None
        and previous.credential.username == name
        and secret.rotation.probe(previous.credential, ctx)
    ):
        return [_adopted_beside(secret, name, previous.id, "password", reason)]
    if second.password is None:
        raise UnprovenSecond(secret.name, name)
    given = Credential(username=name, password=second.password)
    if not secret.rotation.probe(given, ctx):
        why = steps.rejection(given)
        raise UsageError(
            f"the target rejects the second login {name!r} with the password given{why.because}.",
            safety="Nothing was changed.",
            hint=why.hint or "Correct the password, then adopt again.",
        )
    return [_adopted_beside(secret, name, None, "password", reason)]


def _adopted_beside(
    secret: ManagedSecret, login: str, version: str | None, proof: str, reason: str
) -> NewEvent:
    """Return the event that adopts a login beside the one that the backend serves."""
    data = {**_place(secret, login, version, reason), "served": False, "proof": proof}
    return NewEvent(kind=Kind.ADOPTED, data=data)


def _taken_over(secret: ManagedSecret, version: Version, reason: str) -> dict[str, Json]:
    """Return the record of a login that is adopted."""
    return _place(secret, version.credential.username, version.id, reason)


def _place(secret: ManagedSecret, login: str, version: str | None, reason: str) -> dict[str, Json]:
    return {
        "reason": reason,
        "login": login,
        "version": version,
        "target": secret.target_name,
        "backend": secret.backend_name,
        "path": secret.path,
    }
