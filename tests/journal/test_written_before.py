"""What the program of commit 605c277 wrote is opened, verified and continued by today's.

Its journal and the file of its embedded backend hold whole rotations of each strategy, one of a
delegated secret, a rollback, a retired and a parked secret, and two rotations that are still open.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rotator.backends.encryption import Keys
from rotator.backends.local import LocalBackend
from rotator.core.errors import Parked, UsageError
from rotator.core.model import Outcome, Policy
from rotator.core.secret import Secret
from rotator.engine import Engine, ManagedSecret
from rotator.journal import audit
from rotator.journal.checkpoints import Anchor, checkpoint, introduce
from rotator.journal.event_key import EventKey
from rotator.journal.sql import SqlJournal
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fake_rotations import STRATEGIES, fake_rotation
from rotator.testing.fake_target import Account, FakeTarget
from rotator.testing.fakes import START, ListLog, ManualClock, SeededEntropy

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE: Final = Path(__file__).parent
_DAY: Final = timedelta(days=1)
# The newest checkpoint, as it was kept outside of the journal.
_HEAD: Final = Anchor(
    number=2,
    hash="08c0d91e10d6a48ab64ec877ee49662eb6206c79e7e706100b4a2fa5f0d94513",
    key="56475aa75463474c",
)
_POLICY: Final = Policy(every=30 * _DAY, grace=timedelta(hours=1), attempts=2, cycles=2)
# Which rotation of which secret is open.
_OPEN: Final = {"interrupted": "interrupted-2", "in-grace": "in-grace-2"}


@dataclass(slots=True, kw_only=True)
class _Written:
    """What was written, opened by today's program, beside a target that agrees with it."""

    journal: SqlJournal
    backend: LocalBackend
    key: EventKey
    signing_key: Secret
    target: FakeTarget
    owner: FakeEngine
    engine: Engine

    def secret(self, name: str) -> ManagedSecret:
        strategy = name if name in STRATEGIES else "new-user"
        base = name.replace("-", "_")
        delegated = name == "delegated"
        return ManagedSecret(
            name=name,
            path=_path(name),
            backend_name="local",
            backend=self.owner if delegated else self.backend,
            target_name="db",
            rotation=FakeDelegatedRotation(self.owner)  # pyright: ignore[reportArgumentType] # it only verifies
            if delegated
            else fake_rotation(strategy, self.target, base),
            plugin="fake",
            strategy=strategy,
            policy=_POLICY,
        )

    def serves_what_logs_in(self, name: str) -> bool:
        secret = self.secret(name)
        current = secret.backend.current(secret.path)
        assert current is not None
        if name == "delegated":
            return self.owner.accepts(current.credential)
        login = current.credential
        return self.target.accepts(login.username, login.password.reveal())

    def damage(self, anchor: Anchor) -> list[str]:
        report = audit.verify(self.journal, public_key=self.key.public, anchor=anchor, key=self.key)
        return [str(one) for one in report.damage]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[_Written]:
    _put_back(_HERE / "journal_605c277.sql", tmp_path / "journal.db")
    _put_back(_HERE / "local_605c277.sql", tmp_path / "secrets.db")
    clock = ManualClock(START + _DAY)
    private = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signing_key = Secret(
        Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(*private).decode()
    )
    key = EventKey.derive(signing_key)

    def provide(journal: SqlJournal) -> EventKey:
        introduce(journal, signing_key, clock.now(), anchor=_HEAD)
        return key

    journal = SqlJournal(
        f"sqlite:///{tmp_path}/journal.db", clock=clock, actor="test", upgrade=True, key=provide
    )
    box_key = base64.urlsafe_b64encode(hashlib.sha256(b"key of the fixture").digest()).decode()
    backend = LocalBackend("local", tmp_path / "secrets.db", Keys([Secret(box_key)]))
    engine = Engine(
        journal=journal,
        clock=clock,
        entropy=SeededEntropy(1),
        log=ListLog(),
        holder=lambda: "test",
    )
    owner = FakeEngine()
    owner.rotate()
    yield _Written(
        journal=journal,
        backend=backend,
        key=key,
        signing_key=signing_key,
        target=_target(backend),
        owner=owner,
        engine=engine,
    )
    backend.close()
    journal.close()


def _path(name: str) -> str:
    return name if name == "delegated" else f"apps/{name}"


def _put_back(dump: Path, file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.executescript(dump.read_text())
    db.close()
    file.chmod(0o600)


def _target(backend: LocalBackend) -> FakeTarget:
    """Return a target on which the credentials of the backend log in, as it was when it was left."""
    target = FakeTarget(stored=lambda _password: True)
    for name in (*STRATEGIES, "rolled-back", "parked", *_OPEN):
        path = _path(name)
        current = backend.current(path)
        assert current is not None
        versions = [current]
        if name == "in-grace" and (first := backend.read(path, "1")) is not None:
            versions.append(first)
        credentials = [one.credential for one in versions]
        if name == "interrupted" and (staged := backend.staged(path, _OPEN[name])) is not None:
            credentials.append(staged)
        for one in credentials:
            target.accounts[one.username] = Account(passwords=[one.password.reveal()], owner=name)
    return target


def test_the_journal_of_the_version_before_verifies(written: _Written):
    """Each event, record, seal and signature; and the rotations that were open are open."""
    assert written.damage(_HEAD) == []
    written.journal.authenticate()
    opened = {one.name: one.open_rotation for one in written.journal.secrets() if one.open_rotation}
    assert opened == _OPEN


def test_the_records_of_the_version_before_mean_the_same(written: _Written):
    """Today's fold of those events is what was written."""
    records = {one.name: one for one in written.journal.secrets()}
    for name in STRATEGIES:
        newest = written.journal.rotations(name, 1)[0]
        assert (newest.outcome, newest.old_refused) == (Outcome.DONE, True)
        assert records[name].next_due is not None
    newest = written.journal.rotations("rolled-back", 1)[0]
    assert newest.outcome is Outcome.ROLLED_BACK
    assert records["retired"].retired == "switched off"
    assert records["parked"].parked == "denied: no right to create a login."
    assert records["delegated"].version == "1"


@pytest.mark.parametrize("name", [*STRATEGIES, "delegated", "rolled-back"])
def test_a_secret_of_the_version_before_is_rotated(written: _Written, name: str):
    """The old credential that it wrote is rejected afterwards, and the journal verifies."""
    result = written.engine.rotate(written.secret(name), patience=_DAY)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    _require_sound(written, name)


@pytest.mark.parametrize("name", list(_OPEN))
def test_an_open_rotation_of_the_version_before_is_completed(written: _Written, name: str):
    """From where it was left: after create, or in the grace period."""
    result = written.engine.resume(written.secret(name), patience=_DAY)
    assert result is not None
    assert (result.rotation_id, result.outcome) == (_OPEN[name], Outcome.DONE)
    assert result.old_refused is True
    _require_sound(written, name)


def test_a_parked_secret_of_the_version_before_is_unparked_and_rotated(written: _Written):
    """Until then it is left alone."""
    secret = written.secret("parked")
    with pytest.raises(Parked, match="no right to create a login"):
        written.engine.rotate(secret)
    written.engine.unpark(secret, reason="granted")
    assert written.engine.rotate(secret, patience=_DAY).outcome is Outcome.DONE
    _require_sound(written, "parked")


def test_a_secret_that_the_version_before_retired_is_not_rotated(written: _Written):
    """It has left our care."""
    with pytest.raises(UsageError, match="not taken over"):
        written.engine.rotate(written.secret("retired"))


def _require_sound(written: _Written, name: str) -> None:
    assert written.serves_what_logs_in(name)
    anchor = checkpoint(written.journal, written.signing_key, START + 2 * _DAY, anchor=_HEAD)
    assert anchor is not None
    assert written.damage(anchor) == []
