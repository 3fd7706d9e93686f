"""What one call of the engine works with: the ports, and one secret reached through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.core.incident_timeline import chain
from rotator.core.model import Kind
from rotator.engine.error_origin import Contacts, tag_errors
from rotator.engine.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.core.consumers import ConsumerRegistry
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Event, Json, Version
    from rotator.core.ports import Clock, Entropy, Journal, Log
    from rotator.engine.steps import ManagedSecret

# More rotations than any secret has.
_EVERY: Final = 1_000_000


@dataclass(slots=True)
class OnBehalf:
    """For whom an engine acts: what the events of a decision record.

    `request`: the id of the request that it carries out; it does so once. `begun`: the first of these
    events is written.
    """

    data: Mapping[str, Json] = field(default_factory=dict[str, "Json"])
    request: str | None = None
    begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """The ports of an engine, and what it has learnt in this process.

    `should_stop`: asked between steps and in waits. After True a call returns what it has reached.
    `controlled`: the targets that have refused a wrong password. `registry`: what consumers have
    reported; without one, no gate holds a revoke.
    """

    journal: Journal
    clock: Clock
    entropy: Entropy
    log: Log
    holder: Callable[[], str]
    observer: Callable[[Event], None]
    should_stop: Callable[[], bool]
    controlled: set[str]
    registry: ConsumerRegistry | None = None
    on_behalf: OnBehalf = field(default_factory=OnBehalf)


class SecretContext:
    """One secret in one call of the engine. It reads; what writes is `LockedSecret`."""

    def __init__(self, engine: EngineContext, secret: ManagedSecret) -> None:
        self.engine: EngineContext = engine
        self.secret: ManagedSecret = secret
        self.journal: Journal = engine.journal
        self.clock: Clock = engine.clock
        self.log: Log = engine.log
        self.contacts: Contacts = Contacts()

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self.secret.name

    @property
    def backend(self) -> SecretBackend:
        """The backend; its errors and answers bear its name."""
        return tag_errors(self.secret.backend, f"backend {self.secret.backend_name}", self.contacts)

    def record(self) -> SecretRecord | None:
        """Return what the journal knows of the secret now."""
        return self.journal.secret(self.name)

    def events(self, limit: int | None = None) -> list[Event]:
        """Return the newest events of the secret, oldest first, with those under its former names."""
        record = self.record()
        if record is None or not record.former_names:
            return self.journal.events(self.name, limit)
        found = chain(self.journal.events, self.name)
        return found[-limit:] if limit else found

    def rotations(self, limit: int) -> list[RotationRecord]:
        """Return the newest rotations of the secret, newest first, with those under its former names."""
        found, record = self.journal.rotations(self.name, limit), self.record()
        if record is None or not record.former_names:
            return found
        own = {one.rotation_id for one in self.events() if one.kind is Kind.REQUESTED}
        for name in reversed(record.former_names):
            found += [one for one in self.journal.rotations(name, limit) if one.id in own]
        return list({one.id: one for one in found}.values())[:limit]

    def steps(self, rotation_id: str, record: SecretRecord | None) -> Steps:
        """Return the steps of a rotation of this secret."""
        return Steps(
            secret=self.secret,
            rotation_id=rotation_id,
            clock=self.clock,
            entropy=self.engine.entropy,
            log=self.log,
            controlled=self.engine.controlled,
            adopted=frozenset(record.adopted if record else ()),
            former_names=frozenset(record.former_names if record else ()),
            wrote=self._wrote,
            named=self._named,
            contacts=self.contacts,
            registry=self.engine.registry,
        )

    def written_anew(self, record: SecretRecord | None, current: Version | None) -> str | None:
        """Return how a version differs from what the journal knows of it; None where it does not.

        A version's number proves nothing: a backend may count from one again after a secret was removed.
        """
        if record is None or current is None:
            return None
        login = current.credential.username
        if record.login is not None and record.login != login:
            return f"it is for login {login!r}, and the journal knows {record.login!r}"
        newest = next(iter(self.journal.rotations(self.name, 1)), None)
        if (
            newest is not None
            and newest.new_version == current.id
            and newest.published_at == record.rotated_at
            and newest.id != current.rotation_id
            # Another system marks nothing with our id.
            and not self.journal.history(newest.id)[0].data.get("delegated")
        ):
            return f"it does not bear the mark of rotation {newest.id}, which published it"
        return None

    def _named(self) -> frozenset[str]:
        """Return every login that a rotation of the secret has named."""
        found = self.rotations(_EVERY)
        return frozenset(
            login for one in found for login in (one.old_login, one.new_login) if login is not None
        )

    def _wrote(self, rotation_id: str) -> bool:
        rotation = self.journal.rotation(rotation_id)
        if rotation is None or rotation.secret == self.name:
            return rotation is not None
        record = self.record()
        return record is not None and rotation.secret in record.former_names
