"""One journal on each kind of database, with the same tests for both."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rotator.core.access import Actor, Permission
from rotator.core.lease_chain import chain_of
from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.requests import Entry, EntryKind
from rotator.core.secret import Secret
from rotator.journal import chain
from rotator.journal.checkpoints import checkpoint
from rotator.journal.memory import MemoryJournal
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from rotator.testing.postgres import ScratchPostgres
from tests.journal.attacker import drop_triggers, request_log

TTL = timedelta(minutes=1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
_numbers = itertools.count(1)

MakeJournal = Callable[..., SqlJournal]


@pytest.fixture(autouse=True)
def copied_schema() -> None:
    """Let the migrations set up each journal."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def make_journal(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[MakeJournal]:
    """Opens the same journal as often as it is called."""
    opened: list[SqlJournal] = []
    password = None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/journal.db"
    else:
        server: ScratchPostgres = request.getfixturevalue("postgres")
        name = f"journal_{next(_numbers)}"
        with server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name}")
        url = f"postgresql://postgres@{server.host}:{server.port}/{name}"
        password = Secret(server.superuser_password)

    def make(**more: object) -> SqlJournal:
        given = {"clock": clock, "actor": "test", "password": password, "upgrade": True} | more
        journal = SqlJournal(url, **given)  # pyright: ignore[reportArgumentType]
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()
    if request.param != "sqlite":
        # Rotations of the tests that follow look into every database of the server.
        with server.connect() as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def journal(make_journal: MakeJournal) -> SqlJournal:
    return make_journal()


@pytest.fixture(scope="session")
def signing_key() -> Secret:
    return chain.new_signing_key()


@pytest.fixture
def audited(journal: SqlJournal, signing_key: Secret) -> SqlJournal:
    """Two secrets, three rotations, a lease and requests of two writers; two checkpoints, no triggers."""
    rotate(journal, "web", 2)
    lend(journal, "web", "a lease", NOW)
    ask(journal, signing_key, "first")
    rotate(journal, "batch", 2)
    checkpoint(journal, signing_key, NOW)
    rotate(journal, "web", 3)
    journal.append(journal.acquire("batch", "somebody", TTL), [], TTL)
    ask(journal, signing_key, "second")
    checkpoint(journal, signing_key, NOW)
    drop_triggers(journal)
    return journal


def ask(journal: SqlJournal, key: Secret, request: str) -> None:
    """Write a request of the console, and that an engine has taken it up."""
    actor = Actor(subject="alice", method="password", face="web", host="10.0.0.7")
    asked = Entry(
        request=request,
        kind=EntryKind.ROTATE,
        secret="web",
        actor=actor,
        reason="räson",
        action=Permission.ROTATE,
    )
    request_log(journal, key, own=True).append(asked)
    taken = Entry(request=request, kind=EntryKind.TAKEN, secret="web", actor=actor)
    request_log(journal, key).append(taken)


def lend(journal: SqlJournal | MemoryJournal, secret: str, name: str, ends: datetime) -> None:
    """Write the events of a lease up to its issue."""
    at = ends.isoformat()
    requested: dict[str, Any] = {
        "holder": "web",
        "target": "db",
        "ends": at,
        "latest": at,
        "instances": ["a"],
    }
    requested["reason"] = "räson"
    write_lease(journal, secret, Kind.LEASE_REQUESTED, name, requested)
    write_lease(journal, secret, Kind.LEASE_ISSUED, name, {"login": f"login_{name}"})


def write_lease(
    journal: SqlJournal | MemoryJournal, secret: str, kind: Kind, name: str, data: dict[str, Any]
) -> None:
    """Write one event of a lease."""
    held = journal.acquire(chain_of(secret), "test", TTL)
    journal.append(held, [NewEvent(kind=kind, rotation_id=name, data=data)], TTL)
    journal.release(held)


def rotate(journal: SqlJournal, secret: str, number: int) -> None:
    """Write one whole rotation, as the engine does."""
    lock = journal.acquire(secret, f"holder {number}", TTL)
    name = f"{secret}-{number}"
    journal.append(
        lock,
        [
            NewEvent(
                kind=Kind.REQUESTED,
                rotation_id=name,
                data={"plugin": "p", "strategy": "s", "reason": "räson", "old_version": "1"},
            ),
            NewEvent(kind=Kind.STARTED, rotation_id=name, step=Step.STAGE),
        ],
        TTL,
    )
    said = {
        Step.STAGE: {"login": name},
        Step.PUBLISH: {
            "login": name,
            "version": str(number),
            "next_due": "2026-02-01T00:00:00+00:00",
        },
        Step.REVOKE: {"refused": True},
    }
    steps = [Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.DRAIN, Step.REVOKE]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        done = NewEvent(kind=Kind.FINISHED, rotation_id=name, step=step, data=said.get(step, {}))
        if after is not None:
            follows = NewEvent(kind=Kind.STARTED, rotation_id=name, step=after)
        else:
            follows = NewEvent(
                kind=Kind.ENDED, rotation_id=name, data={"outcome": Outcome.DONE.value}
            )
        journal.append(lock, [done, follows], TTL)
    journal.release(lock)
