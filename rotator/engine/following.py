"""Secrets that their backend rotates by itself: it is asked to, and what it does is followed.

Two that rotate one secret lock each other out. So nothing is staged and nothing is set here; the
journal says who asked, when, and what came of it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.errors import Denied
from rotator.core.history import text
from rotator.core.model import Kind, NewEvent, Outcome
from rotator.core.naming import new_id
from rotator.core.schedule import as_data, next_due
from rotator.engine.results import Result
from rotator.engine.work import Work

if TYPE_CHECKING:
    from rotator.core.model import Json, Version
    from rotator.core.ports import RotatesItself
    from rotator.engine.steps import ManagedSecret
    from rotator.engine.work import World

_LOOK_EVERY: Final = 2.0


def follow(
    world: World,
    secret: ManagedSecret,
    owner: RotatesItself,
    *,
    reason: str,
    rotation_id: str | None,
    patience: timedelta,
) -> Result:
    """Ask the backend to rotate, and wait until it has: for `patience`, and at least one step's time.

    The lease is held only while something is written: who rotates may keep the same journal.
    """
    request, old = _ask(world, secret, owner, reason, rotation_id)
    waits = max(patience, secret.policy.step_timeout)
    until = world.clock.now() + waits
    while (current := secret.backend.current(secret.path)) is None or current.id != request:
        if world.clock.now() >= until:
            return Result(
                secret=secret.name,
                rotation_id=request,
                old_login=old.credential.username if old else None,
                until=until,
                waiting=f"{secret.backend_name} was asked to rotate it, and has not ended within"
                f" {round(waits.total_seconds())} s; look at the log of its function",
                by=secret.backend_name,
            )
        world.clock.sleep(_LOOK_EVERY)
    return _ended(world, secret, current, old)


def _ask(
    world: World,
    secret: ManagedSecret,
    owner: RotatesItself,
    reason: str,
    rotation_id: str | None,
) -> tuple[str, Version | None]:
    """Ask once, also when a process died after asking; return the version that is to come."""
    with Work(world, secret, timedelta(0)) as work:
        old = secret.backend.current(secret.path)
        newest = world.journal.events(secret.name, 1)
        asked = text(newest[0].data, "request") if newest else None
        if rotation_id is None and newest and newest[0].kind is Kind.DELEGATED and asked:
            request = asked
        else:
            request = rotation_id or new_id(world.entropy)
            data: dict[str, Json] = {
                "request": request,
                "reason": reason,
                "backend": secret.backend_name,
                "path": secret.path,
                "old_version": old.id if old else None,
                "old_login": old.credential.username if old else None,
            }
            _ = work.record(NewEvent(kind=Kind.DELEGATED, data=data))
        return owner.request_rotation(secret.path, request), old


def _ended(world: World, secret: ManagedSecret, current: Version, old: Version | None) -> Result:
    """Try what is served now, and write down that it is what is to be known."""
    login = current.credential.username
    with Work(world, secret, timedelta(0)) as work:
        record = world.journal.secret(secret.name)
        steps = work.steps("follow", record)
        steps.control(login)
        if not secret.rotation.probe(current.credential, steps.context(current.credential)):
            raise Denied(
                f"{secret.backend_name} has rotated it, and the target refuses login {login!r} with what is served now.",
                safety="The application is NOT safe: new connections fail.",
                hint="Look at the log of the function that rotated it.",
            )
        if record is None or record.version != current.id:
            due = next_due(secret.policy, world.clock.now(), secret.name)
            data: dict[str, Json] = {
                "login": login,
                "version": current.id,
                "backend": secret.backend_name,
                **as_data(secret.policy, due),
            }
            _ = work.record(NewEvent(kind=Kind.FOLLOWED, data=data))
    return Result(
        secret=secret.name,
        rotation_id=current.rotation_id or current.id,
        outcome=Outcome.DONE,
        login=login,
        old_login=old.credential.username if old else None,
        version=current.id,
        published=True,
        by=secret.backend_name,
    )
