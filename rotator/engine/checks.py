"""Checks: does the served credential log in, is it known, is a rollback possible."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rotator.core.errors import Conflict, UsageError
from rotator.core.model import UNEXPLAINED, Kind, NewEvent
from rotator.core.state_machine import Direction
from rotator.engine.error_origin import tag_errors
from rotator.engine.results import Health

if TYPE_CHECKING:
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Json, Version
    from rotator.engine.context import SecretContext


def check(access: SecretContext, *, recorded: bool) -> Health:
    """Try to log in with what the backend serves. `recorded`: the caller records the answer."""
    secret, record = access.secret, access.record()
    current = access.backend.current(secret.path)
    accepted, why = False, UNEXPLAINED
    if current is not None:
        steps = access.steps("check", record)
        steps.control(current.credential.username)
        target = tag_errors(secret.rotation, f"target {secret.target_name}", access.contacts)
        accepted = target.probe(current.credential, steps.context(current.credential))
        why = why if accepted else steps.rejection(current.credential)
    elif record is not None and record.version is not None:
        restore = "Restore it in the backend, or write the valid credential there and run:"
        why = replace(why, hint=f"{restore} rotator adopt {secret.name}")
    copies = access.steps("check", record).copies
    return Health(
        secret=secret.name,
        stale=tuple(map(str, copies.stale(current and current.credential))),
        login=current.credential.username if current else None,
        version=current.id if current else None,
        accepted=accepted,
        known=record is not None and current is not None and record.version == current.id,
        recorded=recorded,
        rejection=why,
        answered=frozenset(access.contacts.answered),
    )


def checked(health: Health) -> NewEvent:
    """Return the event that records a check."""
    why = health.rejection
    data: dict[str, Json] = {
        "login": health.login,
        "version": health.version,
        "accepted": health.accepted,
        "known": health.known,
        **({"stale": list(health.stale)} if health.stale else {}),
        **({"cause": why.cause, "why": why.text} if why.cause else {}),
        **({"hint": why.hint} if why.hint else {}),
    }
    return NewEvent(kind=Kind.CHECKED, data=data)


def require_known(
    access: SecretContext, record: SecretRecord | None, current: Version | None
) -> None:
    """Refuse to replace a credential that rotator neither made nor adopted."""
    known = record.version if record else None
    version = current.id if current else None
    name = access.name
    if version == known:
        written_anew = access.written_anew(record, current)
        if written_anew is not None:
            raise Conflict(
                f"somebody else wrote version {version} in the backend again: {written_anew}.",
                safety="Nothing was changed.",
                hint=f"Find out who did: anyone who may remove a secret there can write the same version again. If the value is correct, take it over: rotator adopt {name}",
            )
        return
    if known is None:
        raise UsageError(
            "the backend already holds a credential that rotator has not taken over.",
            safety="Nothing was changed.",
            hint=f"Take it over unchanged: rotator adopt {name}",
        )
    if version is None:
        raise Conflict(
            f"the backend no longer holds the credential that was published as version {known}.",
            hint=f"Restore it in the backend, or write the working one there and run: rotator adopt {name}",
        )
    raise Conflict(
        f"somebody else wrote to the backend: it holds version {version}, the journal records {known}.",
        safety="Nothing was changed.",
        hint=f"If that version is correct, take it over: rotator adopt {name}",
    )


def require_rollback_possible(
    access: SecretContext, opened: RotationRecord, direction: Direction, *, revoking: bool
) -> None:
    """Refuse a rollback that could lock the application out."""
    secret = access.secret
    if direction is Direction.ROLLBACK:
        raise UsageError("this rotation is being rolled back already.")
    if not secret.rotation.overlaps or opened.old_version is None:
        what = "the old credential stopped working when the new one was set, so there is nothing to go back to."
        raise UsageError(what, hint=f"Rotate again instead: rotator rotate {secret.name}")
    if revoking:
        what = "the old credential is being revoked already."
        raise UsageError(what, hint=f"Rotate again instead: rotator rotate {secret.name}")
    old = access.backend.read(secret.path, opened.old_version)
    again = f"Rotate again instead: rotator rotate {secret.name}"
    unchanged = "Nothing was changed."
    if old is None:
        raise UsageError(
            f"backend {secret.backend_name!r} no longer holds version {opened.old_version}, so the old password is lost.",
            hint=f"Keep at least two versions of each secret there. {again}",
            safety=unchanged,
        )
    steps = access.steps(opened.id, access.record())
    if not secret.rotation.probe(old.credential, steps.context(old.credential)):
        what = f"the target rejects the old credential (login {old.credential.username!r})."
        raise UsageError(what, hint=again, safety=unchanged)
