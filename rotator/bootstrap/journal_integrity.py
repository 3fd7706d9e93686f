"""Signs, verifies, acknowledges and exports the journal, with what is known of it from outside."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from rotator import system
from rotator.bootstrap.wiring import WRITING
from rotator.core.contracts.backend import DetectsRestores, TellsRotations
from rotator.core.errors import (
    Busy,
    Denied,
    JournalBroken,
    JournalError,
    LockLost,
    StepError,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.core.history import text
from rotator.core.model import Event, Kind, NewEvent, Step
from rotator.journal import audit, chain
from rotator.journal.checkpoints import checkpoint, hand_over, newest, require
from rotator.journal.event_key import EventKey
from rotator.journal.export import export
from rotator.journal.requests import SqlRequests
from rotator.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from rotator.bootstrap.signing_key import SigningKey
    from rotator.bootstrap.wiring import Wiring
    from rotator.config.model import SecretSettings
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.model import Json, Lock
    from rotator.core.secret import Secret
    from rotator.journal.checkpoints import Anchor
    from rotator.journal.key_ring import KeyRing
    from rotator.journal.report import AuditReport

# The newest events of a secret that a comparison reads: enough to mean all of them.
_MANY: Final = 10_000
# After this many paths without an answer a backend is not asked for the others.
_SILENT: Final = 3


@dataclass(slots=True, kw_only=True)
class _Held:
    """What backends hold, to be compared with the journal. `unread`: by secret, why it is unknown."""

    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    put_back: list[audit.PutBack] = field(default_factory=list[audit.PutBack])
    damaged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    unread: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotation:
    """A new signing key. `before` and `key`: the ids of the old and the new one. `public`: PEM."""

    before: str
    key: str
    public: str
    checkpoint: Anchor


class JournalIntegrity:
    """Checks one journal against its signing key, its witnesses and the backends."""

    def __init__(self, parts: Wiring) -> None:
        self._parts: Wiring = parts
        self._key: SigningKey | None = parts.signing_key

    def checkpoint(self) -> Anchor | None:
        """Sign what has been written, where a signing key is configured; None when nothing was new.

        The checkpoint's number and hash are also kept beside the key, out of the database's reach.
        """
        key, journal = self._key, self._parts.journal
        if key is None:
            return None
        self._finish_rotation(key)
        signed = checkpoint(journal, key.value(), self._parts.clock.now(), anchor=key.anchor())
        if signed is not None:
            get_log().info("checkpoint", number=signed.number, hash=signed.hash)
            # Another process may have signed a newer one meanwhile. The anchor never goes back, and
            # only a checkpoint that follows it replaces it.
            kept = key.anchor()
            if kept is None or kept.number < signed.number:
                if kept is not None:
                    with journal.reading() as db:
                        require(db, kept)
                key.keep_anchor(signed)
        return signed

    def watch(self) -> AuditReport:
        """Check the journal's definitions and records; see `checkpoint` for its events."""
        journal = self._parts.journal
        report = audit.verify_records(journal, journal.authenticate())
        if not report.ok and journal.reload_key():
            report = audit.verify_records(journal, journal.authenticate())
        return report

    def verify(
        self,
        public_key: str | None = None,
        *,
        without: Collection[str] = (),
        seen_by_witness: Sequence[Anchor] = (),
    ) -> AuditReport:
        """Check the whole journal, with everything that is known of it from outside.

        `without`: backends that are away, and are not asked. `seen_by_witness`: the checkpoints that
        a witness has seen.
        """
        anchor, spoilt, key = None, None, None
        if self._key is not None:
            key = self._key.event_key(self._parts.journal)
            public_key = public_key or key.public
            try:
                anchor = self._key.anchor()
            except JournalBroken as error:
                spoilt = error.what
        held = self._held_by_backends(without)
        log = self._parts.requests.log
        report = audit.verify(
            self._parts.journal,
            public_key=public_key,
            anchor=anchor,
            seen=held.seen,
            key=key,
            witnessed=seen_by_witness,
            put_back=held.put_back,
            trusts=log.trusts if isinstance(log, SqlRequests) else None,
        )
        if spoilt is not None:
            report.add("anchor", spoilt)
        for where, what in held.damaged:
            report.add(where, what)
        for name, why in held.unread.items():
            report.skip(f"secret {name}", why)
        return report

    def acknowledge(self, reason: str) -> AuditReport:
        """Record, signed where there is a key, that the journal was put back to an older state.

        Returns what was found; raises `UsageError` when a restore does not explain all of it.
        """
        report = self.verify()
        other = [damage for damage in report.damage if damage.restore is None]
        if other or not report.damage:
            raise UsageError(
                f"{other[0].where}: {other[0].what}; no restore explains that."
                if other
                else "there is nothing to acknowledge: the journal is sound.",
                hint="rotator audit verify" if other else "",
                safety="Nothing was changed.",
            )
        event = NewEvent(
            kind=Kind.ACKNOWLEDGED,
            data={
                "reason": reason,
                "restores": [damage.restore for damage in report.damage],
                "damage": [{"where": one.where, "what": one.what} for one in report.damage],
            },
        )
        journal, key = self._parts.journal, self._key
        if key is not None:
            key.accepts_restore = True
        lock = journal.acquire(audit.JOURNAL, system.holder(), WRITING)
        try:
            _ = journal.append(lock, [event], WRITING)
        finally:
            journal.release(lock)
        if key is not None:
            signed = checkpoint(journal, key.value(), self._parts.clock.now())
            if signed is not None:
                # The kept one is older than the restore.
                key.keep_anchor(signed)
        return report

    def rotate_key(self, reason: str, *, leaked: bool = False) -> KeyRotation:
        """Replace the signing key, and with it the key that authenticates events and records.

        Both are stored before the journal hears of the new one, and the old one is removed after the
        journal has taken it. Run again, it goes on where it was interrupted. `leaked`: verifiers are
        warned of the old one.
        """
        key, journal = self._key, self._parts.journal
        if key is None:
            raise _no_key()
        _ = journal.authenticate()
        lock = journal.acquire(audit.JOURNAL, system.holder(), WRITING)
        try:
            ring = key.ring()
            # Where two are there, an earlier run was interrupted.
            if len(ring.private) == 1:
                ring = ring.with_successor(chain.new_signing_key())
                key.keep(ring)
            old, new = (EventKey.derive(one) for one in ring.private)
            if journal.key_id() != new.id:
                data: dict[str, Json] = {"reason": reason, "from": old.id, "to": new.id}
                event = NewEvent(
                    kind=Kind.KEY_ROTATED, data=data | ({"leaked": True} if leaked else {})
                )
                _ = journal.append(lock, [event], WRITING)
                now, anchor = self._parts.clock.now(), key.anchor()
                _ = hand_over(journal, ring.text(), now, lock=lock, anchor=anchor, leaked=leaked)
            _ = journal.reload_key()
            signed = self._retire_key(key, ring, lock)
        finally:
            journal.release(lock)
        get_log().info("signing key rotated", key=new.id, before=old.id, checkpoint=signed.number)
        _ = self.checkpoint()
        return KeyRotation(before=old.id, key=new.id, public=new.public, checkpoint=signed)

    def _finish_rotation(self, key: SigningKey) -> None:
        """Remove the old signing key where `rotate_key` was interrupted after the journal took the new one."""
        journal, ring = self._parts.journal, key.ring()
        if len(ring.private) == 1 or journal.key_id() != EventKey.derive(ring.private[-1]).id:
            return
        try:
            lock = journal.acquire(audit.JOURNAL, system.holder(), WRITING)
        except Busy:
            return
        try:
            ring = key.ring()
            if len(ring.private) > 1:
                _ = self._retire_key(key, ring, lock)
        finally:
            journal.release(lock)

    def _retire_key(self, key: SigningKey, ring: KeyRing, lock: Lock) -> Anchor:
        """Remove the old signing key, and keep the newest checkpoint beside the new one."""
        journal = self._parts.journal
        signed = newest(journal, ring.handed_over().text())
        if signed is None:
            raise JournalError("the journal has no checkpoint.")
        with journal.writing() as db:
            journal.require_lock(db, lock)
        if self._parts.clock.now() >= lock.expires:
            # Whoever has the lock now may have stored another one.
            raise LockLost("the lock of the journal ended.", hint="Run it again.")
        key.keep(ring.handed_over())
        kept = key.anchor()
        if kept is None or kept.number < signed.number:
            key.keep_anchor(signed)
        return signed

    def _signing_key(self) -> Secret | None:
        return None if self._key is None else self._key.event_key(self._parts.journal).signing_key

    def public_key(self) -> str | None:
        """Return the public half of the signing key (PEM), None when there is no such key."""
        return None if self._key is None else self._key.event_key(self._parts.journal).public

    def event_key(self) -> EventKey:
        """Return the key that authenticates events. Raises `UsageError` where none is configured."""
        if self._key is None:
            raise _no_key()
        return self._key.event_key(self._parts.journal)

    def export(self, folder: Path, form: Literal["jsonl", "csv"]) -> list[Path]:
        """Write the journal into files that an outsider can verify; signed where there is a key."""
        key = self._signing_key()
        now = self._parts.clock.now()
        return export(self._parts.journal, folder, form, now=now, signing_key=key)

    def write_receipt(self, folder: Path, secrets: Collection[str], report: str) -> list[Path]:
        """Write a report with the events of its secrets, as `export` does."""
        return self.write_evidence(folder, secrets, {"receipt.json": report})

    def write_evidence(
        self, folder: Path, secrets: Collection[str], reports: Mapping[str, str | Iterable[str]]
    ) -> list[Path]:
        """Write reports, by file name, with the events of their secrets, as `export` does."""
        key = self._signing_key()
        now = self._parts.clock.now()
        return export(
            self._parts.journal,
            folder,
            "jsonl",
            now=now,
            signing_key=key,
            only=secrets,
            reports=reports,
        )

    def put_back(self, secret: SecretSettings, backend: SecretBackend) -> audit.PutBack | None:
        """Return what shows that a backend was put back to an older copy of itself."""
        if not isinstance(backend, DetectsRestores):
            return None
        served = backend.served(secret.path)
        try:
            record, events = self._parts.journal.secret(secret.name), list[Event]()
            if record is not None and record.version not in (None, served):
                events = self._parts.journal.events(secret.name, _MANY)
        except JournalBroken:
            return None
        if record is None or record.version is None or not events:
            return None
        place = (secret.backend, secret.path)
        published = [text(event.data, "version") for event in events if _makes_current(event)]
        # Read again: meanwhile another process may have made another version current.
        if (
            published[-1:] != [record.version]
            or (served is not None and served not in published)
            or _place_of(events, record.version) != place
            or (events[-1].step is Step.RESTORE and events[-1].kind is not Kind.FINISHED)
            or backend.served(secret.path) != served
        ):
            return None
        return audit.PutBack(
            backend=secret.backend, path=secret.path, served=served, recorded=record.version
        )

    def _held_by_backends(self, without: Collection[str]) -> _Held:
        """Ask the backends of all secrets what they hold.

        A foreign value at one path does not end the comparison of the others. A backend that is away is
        not asked for each of its secrets.
        """
        held, away = _Held(), dict[str, str]()
        silent: Counter[str] = Counter()
        for chosen in self._parts.settings.secrets.values():
            if chosen.backend in without:
                continue
            if chosen.backend in away:
                held.unread[chosen.name] = away[chosen.backend]
                continue
            backend = self._parts.keeper(chosen)
            try:
                if isinstance(backend, TellsRotations):
                    held.seen[chosen.name] = backend.rotation_ids(chosen.path)
                put_back = self.put_back(chosen, backend)
            except StepError as error:
                if isinstance(error, Denied) and isinstance(backend, DetectsRestores):
                    # It authenticates what it holds.
                    held.damaged.append((f"backend {chosen.backend}, {chosen.path}", error.what))
                    continue
                held.unread[chosen.name] = error.what
                silent[chosen.backend] += isinstance(error, Transient)
                if isinstance(error, Unavailable) or silent[chosen.backend] == _SILENT:
                    away[chosen.backend] = error.what
            else:
                held.put_back += [put_back] if put_back is not None else []
        return held


def _no_key() -> UsageError:
    return UsageError(
        "the configuration names no signing key.",
        hint="Set journal.signing_key; `rotator init` shows how.",
        safety="Nothing was changed.",
    )


def _makes_current(event: Event) -> bool:
    """Return whether an event records that a version became current."""
    if event.kind is Kind.ADOPTED:
        return event.data.get("served") is not False
    is_step = event.kind is Kind.FINISHED and event.step in (Step.PUBLISH, Step.PROVE, Step.RESTORE)
    return is_step or event.kind is Kind.FOLLOWED


def _place_of(events: Sequence[Event], version: str) -> tuple[str | None, str | None]:
    """Return the backend and path where a version became current: the entry may have changed since."""
    last = next(
        event
        for event in events[::-1]
        if _makes_current(event) and text(event.data, "version") == version
    )
    # An adoption names the place, and so does a rotation's first event.
    named = [last, *(event for event in events if event.rotation_id == last.rotation_id)]
    data = next((event.data for event in named if "path" in event.data), {})
    return text(data, "backend"), text(data, "path")
