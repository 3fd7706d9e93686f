"""What the checkpoints speak for, held against the chains as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from rotator.journal.report import AuditReport

# Among the heads of a checkpoint: that from then on a key authenticates events. No secret can be
# called so. Its value is the checkpoint's number and the id of the key.
KEY: Final = "(key)"
# Of a handover: the checkpoint that names the successor of the signing key, and the one after it, which
# the successor signs, and which names its predecessor and whether that one leaked. Their values are
# public keys (base64 of 32 bytes).
NEXT: Final = "(next key)"
PREVIOUS: Final = "(previous key)"
LEAKED: Final = "(leaked key)"
MARKS: Final = frozenset({KEY, NEXT, PREVIOUS, LEAKED})
# And before the name of a writer: that the head is that of the chain of their requests.
_REQUESTS: Final = "(requests) "
# What a value that somebody has tampered with may do to code that reads it.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class SignedHeads:
    """The heads of chains that checkpoints name, each with the checkpoint's number."""

    def __init__(self, report: AuditReport) -> None:
        self._report: AuditReport = report
        # chain -> seq -> (hash, checkpoint), and for each chain the greatest seq of them.
        self._at: dict[str, dict[int, tuple[object, int]]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        # The id of the key that authenticates events.
        self.key: str | None = None
        # Those before it, None for a time without any, each with the last entry of each chain then.
        self._eras: list[tuple[str | None, dict[str, int]]] = []

    def take(self, number: int, text: str) -> None:
        """Take in the `heads` of the checkpoint that comes next."""
        where = f"checkpoint {number}"
        try:
            found = [(name, int(seq), head) for name, (seq, head) in json.loads(text).items()]
        except UNREADABLE:
            self._report.add(where, "its content is unreadable")
            return
        marks = {name: str(head) for name, _, head in found if name in MARKS}
        for name, seq, head in found:
            if name in MARKS:
                continue
            last, before = self._last.get(name, (0, 0))
            if seq < last:
                self._report.add(
                    where,
                    f"ends with {place(name, seq)}, but checkpoint {before} ended it at {last}",
                )
            else:
                self._last[name] = (seq, number)
            at = self._at.setdefault(name, {})
            if at.setdefault(seq, (head, number))[0] != head:
                self._report.add(where, f"contradicts an earlier checkpoint on {place(name, seq)}")
        if KEY in marks:
            if self.key is not None and PREVIOUS not in marks:
                self._report.add(where, "introduces a key, although an earlier checkpoint did so")
            self._eras.append((self.key, {name: seq for name, (seq, _) in self._last.items()}))
            self.key = marks[KEY]

    def eras(self, chain_: str) -> list[tuple[int, str | None]]:
        """Return up to which entry of a chain which key authenticated it, but for the newest key."""
        return [(ends.get(chain_, 0), key) for key, ends in self._eras]

    def introduced(self) -> set[str | None]:
        """Return the ids of all keys that authenticated events, in their time."""
        return {self.key, *(key for key, _ in self._eras)}

    def entries(self, name: str) -> Collection[int]:
        """Return which entries of a chain a checkpoint speaks for."""
        return self._at.get(name, {})

    def check_entry(self, name: str, seq: int, hashed: str) -> None:
        """Hold an entry of a chain against the checkpoint that speaks for it, if there is one."""
        signed = self._at.get(name, {}).get(seq)
        if signed is not None and signed[0] != hashed:
            self._report.add(
                place(name, seq), f"differs from the one that checkpoint {signed[1]} signed"
            )

    def check_end(self, name: str, last: int) -> int:
        """Hold the end of a chain against the newest checkpoint; return how many entries no one covers."""
        signed, number = self._last.get(name, (0, 0))
        if last < signed:
            self._report.add(
                place(name, last + 1, signed), f"missing: checkpoint {number} covers them"
            )
        return max(0, last - signed)

    def signed(self, secret: str) -> int:
        """Return up to which event of a secret the checkpoints speak."""
        return self._last.get(secret, (0, 0))[0]

    def check_missing(self, present: set[str]) -> None:
        """Name the chains that checkpoints speak for, and that are gone. `present`: the others."""
        for name, (seq, number) in self._last.items():
            if name not in present:
                covers = f"checkpoint {number} covers {place(name, 1, seq)}, and none is left"
                self._report.add(whole(name), f"was deleted: {covers}")


def of_requests(writer: str) -> str:
    """Return the name of the chain of a writer's requests among the heads of checkpoints."""
    return f"{_REQUESTS}{writer}"


def writer_of(name: str) -> str | None:
    """Return whose requests a chain among the heads of checkpoints holds; None for a secret's chain."""
    return name.removeprefix(_REQUESTS) if name.startswith(_REQUESTS) else None


def place(name: str, first: int, last: int | None = None) -> str:
    """Return an entry of a chain, or several in a row, as a report names them."""
    entry, entries = ("event", "events") if writer_of(name) is None else ("entry", "entries")
    is_one = last is None or first >= last
    which = f"{entry} {first}" if is_one else f"{entries} {first} to {last}"
    return f"{whole(name)}, {which}"


def whole(name: str) -> str:
    """Return a chain as a report names it."""
    writer = writer_of(name)
    return f"secret {name}" if writer is None else f"requests of writer {writer}"
