"""A secret backend in memory, as strict as the contract: what it need not keep, it forgets."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rotator.core.contracts.backend import NextVersion
from rotator.core.errors import Conflict
from rotator.core.model import Credential, Version
from rotator.core.secret import Secret
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Shelf:
    """What is kept at one path: `versions` holds the current and the previous one, no others."""

    last: int = 0
    current: str | None = None
    previous: str | None = None
    versions: dict[str, Version] = field(default_factory=dict[str, Version])
    pending: dict[str, Credential] = field(default_factory=dict[str, Credential])
    next: NextVersion | None = None
    copy_of: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, credential: Credential, rotation_id: str | None) -> str:
        """Write a new version and make it current."""
        self.last += 1
        version = str(self.last)
        self.versions[version] = Version(
            id=version, credential=credential, rotation_id=rotation_id, created=START
        )
        self.promote(version)
        return version

    def promote(self, version: str) -> None:
        """Make a version current; what is neither current nor previous then loses its value."""
        self.previous, self.current = self.current, version
        kept = (self.current, self.previous)
        self.versions = {name: one for name, one in self.versions.items() if name in kept}

    def holds(self, password: str) -> bool:
        """Return whether this password is that of a version or a pending one."""
        kept = (*(one.credential for one in self.versions.values()), *self.pending.values())
        return any(one.password.reveal() == password for one in kept)


class FakeBackend:
    """Secrets in memory.

    `copies`: restoring writes a copy as a new version (as Vault's KV v2 must) instead of moving
    a label (as AWS does). `tap` is called around each single effect: publishing is two of them,
    so a crash harness can die between them.
    """

    def __init__(self, *, copies: bool = False) -> None:
        self._copies: bool = copies
        self._shelves: dict[str, _Shelf] = {}
        self._staged_last: str = ""
        self._values: dict[tuple[str, str], Secret] = {}
        self._guard: threading.RLock = threading.RLock()
        self.tap: Callable[[str, Callable[[], None]], None] = _straight

    # -- the contract --------------------------------------------------------------------------

    def current(self, path: str) -> Version | None:
        """Return the published version."""
        with self._guard:
            shelf = self._shelf(path)
            return shelf.versions[shelf.current] if shelf.current else None

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version; only the current and the previous one are still held."""
        with self._guard:
            return self._shelf(path).versions.get(version)

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged."""
        with self._guard:
            return self._shelf(path).pending.get(rotation_id)

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` as pending; the first write wins, also when it has been published since."""
        with self._guard:
            shelf = self._shelf(path)
            self._staged_last = path
            for version in shelf.versions.values():
                if version.rotation_id == rotation_id:
                    return version.credential
            if rotation_id not in shelf.pending:
                kept = replace(new, fields=dict(new.fields))
                self.tap("write pending", lambda: shelf.pending.update({rotation_id: kept}))
            return shelf.pending[rotation_id]

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Make the staged value current, if `expect` still is."""
        with self._guard:
            shelf = self._shelf(path)
            current = self.current(path)
            if current is None or current.rotation_id != rotation_id:
                if shelf.current != expect:
                    raise _conflict(path, shelf.current, expect)
                new = shelf.pending.get(rotation_id)
                if new is None:
                    raise Conflict(f"nothing is staged for this rotation at {path!r}.")
                self.tap("write current", lambda: _ignore(shelf.add(new, rotation_id)))
            if rotation_id in shelf.pending:
                self.tap("remove pending", lambda: _ignore(shelf.pending.pop(rotation_id)))
            return _present(shelf.current)

    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged."""
        with self._guard:
            shelf = self._shelf(path)
            if rotation_id in shelf.pending:
                self.tap("remove pending", lambda: _ignore(shelf.pending.pop(rotation_id)))

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Make the value of version `to` current again, if `expect` still is."""
        with self._guard:
            shelf = self._shelf(path)
            now = shelf.current
            if now is not None and to in (now, shelf.copy_of.get(now)):
                return now
            if now != expect:
                raise _conflict(path, now, expect)
            old = shelf.versions.get(to)
            if old is None:
                raise Conflict(f"version {to} of {path!r} is no longer held.")
            self.tap("write current", lambda: self._bring_back(shelf, old))
            return _present(shelf.current)

    # -- for consumers that prepare ------------------------------------------------------------

    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Let consumers read what is staged as the version after `expect`."""
        with self._guard:
            shelf = self._shelf(path)
            if (staged := shelf.pending.get(rotation_id)) is None:
                raise Conflict(f"nothing is staged for this rotation at {path!r}.")
            found = NextVersion(
                rotation_id=rotation_id, version=str(int(expect) + 1), credential=staged
            )
            if shelf.next != found:
                self.tap("write next", lambda: setattr(shelf, "next", found))

    def retract(self, path: str, rotation_id: str) -> None:
        """End what `offer` did."""
        with self._guard:
            shelf = self._shelf(path)
            if shelf.next is not None and shelf.next.rotation_id == rotation_id:
                self.tap("remove next", lambda: setattr(shelf, "next", None))

    def next(self, path: str) -> NextVersion | None:
        """Return the version that comes next."""
        with self._guard:
            return self._shelf(path).next

    # -- beside credentials --------------------------------------------------------------------

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one kept value."""
        with self._guard:
            return self._values.get((path, field))

    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Keep one value, replacing what was there."""
        with self._guard:
            self._values[path, field] = value

    def rotation_ids(self, path: str) -> set[str]:
        """Return the rotations that wrote what is held at `path`, pending ones too."""
        with self._guard:
            shelf = self._shelf(path)
            ids = {version.rotation_id for version in shelf.versions.values()} | set(shelf.pending)
            return {one for one in ids if one is not None}

    # -- for tests -----------------------------------------------------------------------------

    def written_by_a_stranger(self, path: str, credential: Credential) -> str:
        """Make `credential` current as somebody else would, who knows nothing of us."""
        with self._guard:
            return self._shelf(path).add(credential, None)

    def pending(self, path: str) -> dict[str, Credential]:
        """Return everything that is staged at `path`, by rotation."""
        with self._guard:
            return dict(self._shelf(path).pending)

    def holds(self, password: str) -> bool:
        """Return whether this password could still be read here: current, previous or pending."""
        with self._guard:
            # What is asked for was staged just now, as a rule: everything else is looked at after it.
            last = self._shelves.get(self._staged_last)
            if last is not None and last.holds(password):
                return True
            return any(shelf.holds(password) for shelf in self._shelves.values())

    def _shelf(self, path: str) -> _Shelf:
        return self._shelves.setdefault(path, _Shelf())

    def _bring_back(self, shelf: _Shelf, old: Version) -> None:
        if self._copies:
            shelf.copy_of[shelf.add(old.credential, old.rotation_id)] = old.id
        else:
            shelf.promote(old.id)


def _straight(_what: str, effect: Callable[[], None]) -> None:
    effect()


def _ignore(_result: object) -> None:
    """Take a result that nobody needs, so that a lambda returns None."""


def _present(version: str | None) -> str:
    assert version is not None
    return version


def _conflict(path: str, now: str | None, expect: str | None) -> Conflict:
    return Conflict(
        f"{path!r} holds version {now or 'none'}, not {expect or 'none'}: another writer changed it.",
        hint="rotator did not overwrite that value.",
    )
