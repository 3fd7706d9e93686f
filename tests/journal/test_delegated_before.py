"""What the program of commit ec187ec wrote of secrets that another system rotates is continued by today's.

Its requests were events of the secret's own chain, outside of any rotation. In this journal some are
completed; of the others its process died before the request, after it, or after it had failed.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rotator.core.errors import Parked
from rotator.core.model import Outcome, Policy
from rotator.core.secret import Secret
from rotator.engine import Engine, ManagedSecret
from rotator.journal import audit
from rotator.journal.checkpoints import Anchor, checkpoint, introduce
from rotator.journal.event_key import EventKey
from rotator.journal.sql import SqlJournal
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fakes import START, ListLog, ManualClock, SeededEntropy

if TYPE_CHECKING:
    from collections.abc import Iterator

_DUMP: Final = Path(__file__).parent / "journal_ec187ec.sql"
_DAY: Final = timedelta(days=1)
# The newest checkpoint, as it was kept outside of the journal.
_HEAD: Final = Anchor(
    number=2,
    hash="f34334af3ae5fd311a61c00fbdf890973d454602a84540b94165a86f083945ab",
    key="56475aa75463474c",
)
_POLICY: Final = Policy(every=30 * _DAY, attempts=2, cycles=2)
# Of each secret: how many passwords its owner has made, and whether the target takes the last one.
_OWNERS: Final = {
    "proven": (1, True),
    "noticed": (1, True),
    "asked": (0, True),
    "rotated": (1, True),
    "failing": (0, True),
    "refused": (1, False),
    "given-up": (0, True),
}
# How many rotations it takes to complete what was requested.
_TO_COMPLETE: Final = {"asked": 1, "rotated": 0, "failing": 1, "refused": 1}


@dataclass(slots=True, kw_only=True)
class _Written:
    """The journal, opened by today's program, beside the owners as they were left."""

    journal: SqlJournal
    key: EventKey
    signing_key: Secret
    engine: Engine
    clock: ManualClock
    owners: dict[str, FakeEngine] = field(default_factory=dict[str, FakeEngine])

    def secret(self, name: str) -> ManagedSecret:
        owner = self.owners[name]
        return ManagedSecret(
            name=name,
            path=name,
            backend_name="engine",
            backend=owner,
            target_name="db",
            rotation=FakeDelegatedRotation(owner),  # pyright: ignore[reportArgumentType] # it only verifies
            plugin="fake",
            strategy="static-role",
            policy=_POLICY,
        )

    def require_sound(self, name: str) -> None:
        """Require that what is served is known and logs in, and that the journal verifies."""
        owner, record = self.owners[name], self.journal.secret(name)
        served = owner.current(name)
        assert served is not None
        assert record is not None
        assert owner.accepts(served.credential)
        assert (record.version, record.open_rotation) == (served.id, None)
        assert record.next_due == self.clock.now() + _POLICY.every
        anchor = checkpoint(self.journal, self.signing_key, self.clock.now(), anchor=_HEAD)
        assert anchor is not None
        assert self.damage(anchor) == []

    def damage(self, anchor: Anchor) -> list[str]:
        report = audit.verify(self.journal, public_key=self.key.public, anchor=anchor, key=self.key)
        return [str(one) for one in report.damage]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[_Written]:
    file = tmp_path / "journal.db"
    with sqlite3.connect(file) as db:
        db.executescript(_DUMP.read_text())
    db.close()
    clock = ManualClock(START + _DAY)
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signing_key = Secret(private.private_bytes(*form).decode())
    key = EventKey.derive(signing_key)

    def provide(journal: SqlJournal) -> EventKey:
        introduce(journal, signing_key, clock.now(), anchor=_HEAD)
        return key

    journal = SqlJournal(f"sqlite:///{file}", clock=clock, actor="test", upgrade=True, key=provide)
    engine = Engine(
        journal=journal,
        clock=clock,
        entropy=SeededEntropy(1),
        log=ListLog(),
        holder=lambda: "test",
    )
    made = _Written(journal=journal, key=key, signing_key=signing_key, engine=engine, clock=clock)
    for name, (rotations, accepted) in _OWNERS.items():
        owner = made.owners[name] = FakeEngine()
        for _ in range(rotations):
            owner.rotate()
        if not accepted:
            owner.lose()
    yield made
    journal.close()


def test_the_journal_of_delegated_secrets_verifies(written: _Written):
    """Each event, record, seal and signature."""
    assert written.damage(_HEAD) == []
    written.journal.authenticate()


def test_the_records_of_delegated_secrets_mean_the_same(written: _Written):
    """What was proven or noticed is the version that is known."""
    records = {one.name: one for one in written.journal.secrets()}
    known = {name: record.version for name, record in records.items()}
    assert known == {**dict.fromkeys(_OWNERS, "0"), "proven": "1", "noticed": "1"}
    assert records["failing"].failures == 1
    assert records["given-up"].parked is not None


@pytest.mark.parametrize("name", list(_TO_COMPLETE))
def test_a_request_that_was_not_completed_is_resumed(written: _Written, name: str):
    """By the request that was written down, so nothing that has happened is done again."""
    before = written.owners[name].rotations
    result = written.engine.resume(written.secret(name), patience=_DAY)
    assert result is not None
    assert (result.outcome, result.error) == (Outcome.DONE, None)
    assert written.owners[name].rotations == before + _TO_COMPLETE[name]
    written.require_sound(name)
    assert written.engine.resume(written.secret(name)) is None


@pytest.mark.parametrize("name", list(_TO_COMPLETE))
def test_a_request_that_was_not_completed_counts_as_the_next_rotation(written: _Written, name: str):
    """Who asks for another one gets that one."""
    before = written.owners[name].rotations
    result = written.engine.rotate(written.secret(name), patience=_DAY)
    assert result.outcome is Outcome.DONE
    assert written.owners[name].rotations == before + _TO_COMPLETE[name]
    written.require_sound(name)


@pytest.mark.parametrize("name", ["proven", "noticed"])
def test_what_was_completed_is_rotated_once_more(written: _Written, name: str):
    """Nothing is open there."""
    assert written.engine.resume(written.secret(name)) is None
    result = written.engine.rotate(written.secret(name), patience=_DAY)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert written.owners[name].rotations == 2
    written.require_sound(name)


def test_what_was_given_up_waits_for_an_operator(written: _Written):
    """Until it is unparked nothing is requested."""
    secret = written.secret("given-up")
    with pytest.raises(Parked, match="no right to change the password"):
        written.engine.rotate(secret)
    written.engine.unpark(secret, reason="granted")
    assert written.engine.resume(secret) is None
    assert written.engine.rotate(secret, patience=_DAY).old_refused is True
    written.require_sound("given-up")


def test_the_age_of_what_was_noticed_is_that_of_its_rotation(written: _Written):
    """The owner rotated it an hour after it was adopted, and it is due a period after that."""
    record = written.journal.secret("noticed")
    assert record is not None
    assert record.rotated_at is not None
    assert record.next_due == record.rotated_at + _POLICY.every
