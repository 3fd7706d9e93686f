"""A journal in a file, with a clock that tests set."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import NewEvent
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.report.chains import Chain


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[SqlJournal]:
    opened = SqlJournal(
        f"sqlite:///{tmp_path}/journal.db", clock=clock, actor="cli:ann", upgrade=True
    )
    yield opened
    opened.close()


@pytest.fixture
def write(journal: SqlJournal, clock: ManualClock) -> Callable[[Chain], None]:
    """Writes a chain into the journal, each event at its time."""

    def written(chain: Chain) -> None:
        lock = journal.acquire(chain.secret, "holder", timedelta(hours=1))
        for one in chain.events:
            clock.at = one.at
            new = NewEvent(kind=one.kind, rotation_id=one.rotation_id, step=one.step, data=one.data)
            journal.append(lock, [new], timedelta(hours=1))
        journal.release(lock)

    return written
