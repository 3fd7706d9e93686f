"""What the checkpoints speak for, held against the chains as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.journal.report import AuditReport

# Among the heads of a checkpoint: that from then on a key authenticates events. No secret can be
# called so. Its value is the checkpoint's number and the id of the key.
KEY: Final = "(key)"
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
        # (secret, seq) -> (hash, checkpoint), and for each secret the greatest seq of them.
        self._at: dict[tuple[str, int], tuple[object, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        # The id of the key that authenticates events, and up to which event of each secret there was none.
        self.key: str | None = None
        self.before: dict[str, int] = {}

    def take(self, number: int, text: str) -> None:
        """Take in the `heads` of the checkpoint that comes next."""
        where = f"checkpoint {number}"
        try:
            found = [(name, int(seq), head) for name, (seq, head) in json.loads(text).items()]
        except UNREADABLE:
            self._report.add(where, "its content is unreadable")
            return
        introduced = [head for name, _, head in found if name == KEY]
        for name, seq, head in found:
            if name == KEY:
                continue
            last, before = self._last.get(name, (0, 0))
            if seq < last:
                self._report.add(
                    where,
                    f"ends secret {name} at event {seq}, but checkpoint {before} ended it at"
                    f" {last}",
                )
            else:
                self._last[name] = (seq, number)
            if self._at.setdefault((name, seq), (head, number))[0] != head:
                self._report.add(
                    where, f"contradicts an earlier checkpoint on secret {name}, event {seq}"
                )
        if introduced:
            if self.key is not None:
                self._report.add(where, "introduces a key, although an earlier checkpoint did so")
            self.key = str(introduced[0])
            self.before = {name: seq for name, (seq, _) in self._last.items()}

    def check_event(self, secret: str, seq: int, hashed: str) -> None:
        """Hold an event against the checkpoint that speaks for it, if there is one."""
        signed = self._at.get((secret, seq))
        if signed is not None and signed[0] != hashed:
            self._report.add(
                f"secret {secret}, event {seq}",
                f"differs from the one that checkpoint {signed[1]} signed",
            )

    def check_end(self, secret: str, last: int) -> None:
        """Hold the end of a chain against the newest checkpoint that speaks for it."""
        signed, number = self._last.get(secret, (0, 0))
        if last < signed:
            self._report.add(
                f"secret {secret}, {span(last + 1, signed)}",
                f"missing: checkpoint {number} covers them",
            )
        self._report.unsigned_events += max(0, last - signed)

    def signed(self, secret: str) -> int:
        """Return up to which event of a secret the checkpoints speak."""
        return self._last.get(secret, (0, 0))[0]

    def check_missing(self, present: set[str]) -> None:
        """Name the secrets that checkpoints speak for, and that are gone."""
        for name, (seq, number) in self._last.items():
            if name not in present:
                self._report.add(
                    f"secret {name}",
                    f"was deleted: checkpoint {number} covers {seq} events of it, and none is left",
                )


def span(first: int, last: int) -> str:
    """Return events from one number to another in words."""
    return f"event {first}" if first >= last else f"events {first} to {last}"
