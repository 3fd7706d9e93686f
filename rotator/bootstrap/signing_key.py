"""The journal's signing key, and the newest checkpoint that is kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.contracts.backend import KeepsValues, SecretBackend
from rotator.core.errors import Conflict, JournalError, RotatorError, UsageError
from rotator.core.ports import Clock
from rotator.core.secret import Secret
from rotator.journal.checkpoints import Anchor, introduce
from rotator.journal.key_ring import KeyRing
from rotator.logs import get_log
from rotator.references import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.journal.event_key import EventKey
    from rotator.journal.sql import SqlJournal

_ANCHOR_FIELD: Final = "anchor"


class SigningKey:
    """The key that `journal.signing_key` names; read anew for each use."""

    def __init__(
        self,
        reference: str,
        *,
        resolve: Callable[[str], Secret],
        backend: Callable[[str], SecretBackend],
        clock: Clock,
    ) -> None:
        """`resolve` and `backend` are those of the application. Nothing is read yet."""
        self._reference: str = reference
        self._resolve: Callable[[str], Secret] = resolve
        self._backend: Callable[[str], SecretBackend] = backend
        self._clock: Clock = clock
        # A journal that was put back may be older than the key. An acknowledgement accepts that.
        self.accepts_restore: bool = False

    def value(self) -> Secret:
        """Return the value that the reference names, as `KeyRing.parse` reads it."""
        return self._resolve(self._reference)

    def ring(self) -> KeyRing:
        """Return the private key, and what is left of those before it."""
        return KeyRing.parse(self.value())

    def event_key(self, journal: SqlJournal) -> EventKey:
        """Return the key that signs and authenticates events."""
        return _current(self.ring(), journal)

    def introduce(self, journal: SqlJournal) -> EventKey:
        """Return the key that authenticates events; its first use is recorded in the journal.

        Raises `JournalError` where the signing key cannot be read.
        """
        try:
            signing_key, anchor = self.value(), self.anchor()
            # Whether it is a key at all.
            key = _current(KeyRing.parse(signing_key), journal)
        except JournalError:
            raise
        except RotatorError as error:
            raise JournalError(
                f"the journal's signing key cannot be read: {error.what}",
                safety="Without it nothing is written into the journal, so there is no effect.",
                hint=error.hint,
            ) from error
        known = None if self.accepts_restore else anchor
        first = introduce(journal, signing_key, self._clock.now(), anchor=known)
        if first is not None:
            get_log().info("events are authenticated", key=key.id, checkpoint=first.number)
            if not self.accepts_restore:
                self.keep_anchor(first)
        return key

    def keep(self, ring: KeyRing) -> None:
        """Replace the value that the reference names. Raises `UsageError` where nothing keeps values."""
        store, path = self._store()
        field = parse(self._reference).field
        if store is None:
            raise UsageError(
                "the backend of the signing key stores no values.",
                hint="Set journal.signing_key to a reference into another backend.",
                safety="Nothing was changed.",
            )
        store.put_value(path, field, ring.text())
        kept = store.get_value(path, field)
        if kept is None or kept != ring.text():
            raise Conflict(
                "the signing key that was stored is not what the backend returns: another process"
                " may have replaced it.",
                safety="The journal still has the signing key that it had.",
                hint="Check that no other operator rotates it, and run it again.",
            )

    def anchor(self) -> Anchor | None:
        """Return the checkpoint that is kept beside the key, out of the database's reach."""
        store, path = self._store()
        kept = store.get_value(path, _ANCHOR_FIELD) if store is not None else None
        return None if kept is None else Anchor.parse(kept.reveal())

    def keep_anchor(self, anchor: Anchor) -> None:
        """Keep a checkpoint beside the key, where its store keeps values."""
        store, path = self._store()
        if store is not None:
            store.put_value(path, _ANCHOR_FIELD, Secret(anchor.text()))

    def _store(self) -> tuple[KeepsValues | None, str]:
        reference = parse(self._reference)
        if reference.scheme in ("env", "file"):
            return None, ""
        backend = self._backend(reference.scheme)
        return (backend if isinstance(backend, KeepsValues) else None), reference.path


def _current(ring: KeyRing, journal: SqlJournal) -> EventKey:
    """Return the key that the journal is signed with. The journal only selects one of the ring."""
    return ring.key(journal.key_id() if len(ring.private) > 1 else None)
