"""What has happened to a secret, as events, where no database tells: by the memory that is kept beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rotator.core.model import Kind, NewEvent, Step
from rotator.faces.aws_lambda.state_tag import Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rotator.core.model import Credential, Json, Version
    from rotator.engine import ManagedSecret
    from rotator.faces.aws_lambda.state_tag import StateTag

REASON = "AWS Secrets Manager rotates it"
_Recalled = list[tuple[NewEvent, "datetime"]]


def recall(
    secret: ManagedSecret,
    memory: StateTag,
    current: Version,
    *,
    read: Callable[[str], Version | None],
    staged: Callable[[str], Credential | None],
    now: datetime,
) -> _Recalled:
    """Return the events that lead to what is remembered.

    Only what these events say is under our care is taken for ours: the versions that `memory` names, by
    their ids, and no other, whatever labels they have.
    """
    memory = _without_strangers(memory, current)
    overlaps = secret.rotation.overlaps
    found: _Recalled = []
    versions = [memory.earlier, memory.before, memory.old] if overlaps else [memory.old]
    for name in (*versions, None if memory.is_open else memory.rotation):
        version = current if name == current.id else (read(name) if name and overlaps else None)
        if version is not None:
            data: dict[str, Json] = {"login": version.credential.username, "version": version.id}
            found.append((NewEvent(kind=Kind.ADOPTED, data=data), now))
    if memory.is_open and memory.rotation is not None:
        logins = {one.data["version"]: one.data["login"] for one, _ in found}
        found += _opened(
            secret, memory, memory.rotation, logins.get(memory.old), current, staged, now
        )
    return found


def _without_strangers(memory: StateTag, current: Version) -> StateTag:
    """Forget a published rotation once somebody else's value is current: nothing of it may be revoked."""
    known = (memory.rotation, memory.old)
    if memory.is_open and memory.may_be_published and current.id not in known:
        return replace(memory, state=Phase.ENDED, at=None, busy_until=None)
    return memory


def _opened(
    secret: ManagedSecret,
    memory: StateTag,
    rotation: str,
    old_login: Json,
    current: Version,
    staged: Callable[[str], Credential | None],
    now: datetime,
) -> _Recalled:
    requested: dict[str, Json] = {
        "reason": REASON,
        "plugin": secret.plugin,
        "strategy": secret.strategy,
        "overlaps": secret.rotation.overlaps,
        "old_version": memory.old,
        "old_login": old_login,
        "path": secret.path,
        "backend": secret.backend_name,
    }
    found: _Recalled = [(NewEvent(kind=Kind.REQUESTED, rotation_id=rotation, data=requested), now)]

    def told(step: Step, at: datetime, *kinds: Kind, **data: Json) -> None:
        for kind in kinds:
            given = data if kind is Kind.FINISHED else {}
            event = NewEvent(kind=kind, rotation_id=rotation, step=step, data=given)
            found.append((event, at))

    is_current = rotation == current.id
    new = current.credential if is_current else staged(rotation)
    login = new.username if new is not None else None
    both = (Kind.STARTED, Kind.FINISHED)
    if new is None and memory.state is Phase.BEGUN:
        return found
    told(Step.STAGE, now, *both, login=login)
    if memory.state is Phase.BEGUN and not is_current:
        # Perhaps not even begun; withdrawing what was never made does no harm, leaving it does.
        told(Step.CREATE, now, Kind.STARTED)
        return found
    told(Step.CREATE, now, *both, login=login)
    if memory.state is Phase.CREATED and not is_current:
        return found
    told(Step.VERIFY, now, *both)
    at = memory.at or now
    if memory.state is Phase.PUBLISHED:
        told(Step.PUBLISH, at, *both, login=login, version=rotation)
    elif is_current or memory.state is Phase.PUBLISHING:
        told(Step.PUBLISH, at, Kind.STARTED)
    return found
