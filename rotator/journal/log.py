"""The audit journal as lines of a log: the same hash-chained events, where there is no database.

What has happened is not remembered here: whoever uses it says what is known of a secret (`recall`)
and keeps the end of its chain elsewhere (`keep`), so that a log whose end is cut off is found out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.core.history import SecretRecord, fold_rotation, fold_secret
from rotator.core.model import Event
from rotator.journal.chain import START, canonical, event_hash, stamp
from rotator.journal.memory import Book, MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rotator.core.model import NewEvent
    from rotator.core.ports import Clock
    from rotator.journal.event_key import EventKey
    from rotator.journal.report import AuditReport

KEY: Final = "rotator_event"
_MAC: Final = "mac"
_COLUMNS: Final = (
    *("secret", "seq", "at", "actor", "fence", "kind", "rotation_id", "step", "data"),
    *("prev_hash", "hash"),
)


_TYPES: Final[Mapping[str, type]] = {"seq": int, "fence": int}
# A rotation or step may be missing.
_TYPED: Final = tuple(one for one in _COLUMNS if one not in ("rotation_id", "step"))
_DIGITS: Final = 18
# Of a line, in characters; and how many of its braces may be where ours begins.
_LONGEST: Final = 4 * 2**20
_BRACES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a secret's chain: how many events it has, and the hash of the last one."""

    seq: int = 0
    hash: str = START

    def text(self) -> str:
        """Return it as it is kept."""
        return f"{self.seq} {self.hash}"

    @staticmethod
    def parse(text: str | None) -> Head | None:
        """Read what `text` returned; None for anything else."""
        seq, _, hashed = (text or "").partition(" ")
        sound = (
            seq.isdecimal()
            and len(seq) <= _DIGITS
            and len(hashed) == len(START)
            and hashed.isalnum()
        )
        return Head(seq=int(seq), hash=hashed) if sound else None


class LogJournal(MemoryJournal):
    """One invocation's, of one secret. Each event is one line, `{"rotator_event": {...}, "request": "..."}`."""

    def __init__(
        self,
        *,
        clock: Clock,
        actor: str,
        request: str,
        line: Callable[[str], None],
        keep: Callable[[Head, list[Event]], None],
        key: EventKey | None = None,
    ) -> None:
        """`request` names this invocation. `key` authenticates each line. `line` writes one line.

        `keep` keeps the end of the chain, and gets the events since it was called before: at the first
        event, before any effect, and at `close`. What it raises stops the work before its next effect.
        """
        super().__init__(clock=clock, actor=actor)
        self._request: str = request
        self._key: EventKey | None = key
        self._line: Callable[[str], None] = line
        self._keep: Callable[[Head, list[Event]], None] = keep
        self._has_kept: bool = False
        self._unkept: list[Event] = []
        self._unwritten: list[str] = []

    def recall(self, secret: str, head: Head, events: Sequence[tuple[NewEvent, Any]]) -> None:
        """Say what is known of a secret: events, each with its time, that are not written again."""
        record = SecretRecord(name=secret)
        book = self.books[secret] = Book(record=record)
        for number, (new, at) in enumerate(events, 1):
            event = Event(
                secret=secret,
                seq=number,
                at=at,
                actor=self._actor,
                fence=0,
                kind=new.kind,
                rotation_id=new.rotation_id,
                step=new.step,
                data=new.data,
                prev_hash=START,
                hash=START,
            )
            record = fold_secret(record, event)
            if event.rotation_id is not None:
                folded = fold_rotation(self._rotations.get(event.rotation_id), event)
                if folded is not None:
                    if event.rotation_id not in book.rotations:
                        book.rotations.append(event.rotation_id)
                    self._rotations[event.rotation_id] = folded
            book.events.append(event)
        book.record = replace(record, seq=head.seq, head=head.hash)
        book.fence = head.seq

    def _write(self, events: list[Event]) -> None:
        for event in events:
            mac = None if self._key is None else self._key.mac(event.hash)
            self._unwritten.append(line_of(event, self._request, mac))
        self._unkept += events
        if not events or self._can_wait(events):
            return
        self._write_lines()
        if self._must_keep(events):
            # What follows is kept when it is over. Cut off between the two, its lines are the last
            # words of an invocation.
            self.close()

    def _can_wait(self, events: list[Event]) -> bool:  # noqa: ARG002 # for subclasses
        """Return whether the lines of these events are written with those of the next ones."""
        return False

    def _must_keep(self, events: list[Event]) -> bool:  # noqa: ARG002 # for subclasses
        """Return whether the end of the chain must be kept before these events have an effect."""
        return not self._has_kept

    def _write_lines(self) -> None:
        lines, self._unwritten = self._unwritten, []
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Keep the end of the chain."""
        self._write_lines()
        if self._unkept:
            events, self._unkept = self._unkept, []
            self._keep(Head(seq=events[-1].seq, hash=events[-1].hash), events)
            self._has_kept = True


def line_of(event: Event, request: str, mac: str | None = None) -> str:
    """Return the line that an event is written as; `data` in its canonical text, which is hashed."""
    step = event.step.value if event.step else None
    values = (
        *(event.secret, event.seq, stamp(event.at), event.actor, event.fence, event.kind.value),
        *(event.rotation_id, step, canonical(event.data), event.prev_hash, event.hash),
    )
    row = dict(zip(_COLUMNS, values, strict=True)) | ({} if mac is None else {_MAC: mac})
    return json.dumps({KEY: row, "request": request})


@dataclass(slots=True)
class _Chain:
    """The events of one secret, by what each follows."""

    after: dict[str, list[tuple[dict[str, Any], str]]] = field(
        default_factory=dict[str, list[tuple[dict[str, Any], str]]]
    )
    hashes: set[str] = field(default_factory=set[str])
    first: dict[str, Any] | None = None


def verify_log(
    lines: Iterable[str], key: EventKey | None = None
) -> tuple[AuditReport, dict[str, Head]]:
    """Check every event that these lines hold; return also the end of each secret's chain.

    `key`: a holder of it, or of one that it replaced, must have written each event: a log has no
    checkpoints, which would say until when the older one was in use.

    Lines of anything else are passed over, and so is what a log service puts before or around ours.
    A log may begin in the middle, since older lines are deleted after their time. An event that
    nothing follows, while another invocation went on from the one before it, is that of an
    invocation which was cut off before its last word.
    """
    from rotator.journal.report import AuditReport  # noqa: PLC0415 # a function only writes

    report, chains = AuditReport(), dict[str, _Chain]()
    keys = () if key is None else (key, *key.older[::-1])
    rotations = set[str]()
    for number, line in enumerate(lines, 1):
        found = _event_in(line)
        if found is None:
            continue
        row, request = found
        if not _is_sound(row):
            report.add(f"line {number}", "its content was changed: the hash does not match")
            continue
        if keys and not any(one.made(str(row["hash"]), row.get(_MAC)) for one in keys):
            report.add(
                f"line {number}", "was not written by rotator: its code does not match the key"
            )
        chain = chains.setdefault(str(row["secret"]), _Chain())
        if row["hash"] in chain.hashes:  # a log service may deliver a line twice
            continue
        report.events += 1
        chain.hashes.add(str(row["hash"]))
        chain.after.setdefault(str(row["prev_hash"]), []).append((row, request))
        if chain.first is None or row["seq"] < chain.first["seq"]:
            chain.first = row
        if row["rotation_id"]:
            rotations.add(str(row["rotation_id"]))
    report.secrets, report.rotations = len(chains), len(rotations)
    return report, {name: _walk(name, chain, report) for name, chain in chains.items()}


def _walk(secret: str, chain: _Chain, report: AuditReport) -> Head:
    """Go along one chain, by its longest way; report what does not hang together."""
    first = cast("dict[str, Any]", chain.first)
    seen, head = set[str](), Head(seq=int(first["seq"]) - 1, hash=str(first["prev_hash"]))
    lengths = _lengths(chain)
    while following := chain.after.get(head.hash):
        row, request = max(following, key=lambda one: lengths[one[0]["hash"]])
        for other, _ in following:
            if other is not row:
                place = f"secret {secret}, event {other['seq']}"
                seen |= _cut_off(place, chain, str(other["hash"]), request, report)
        if row["seq"] != head.seq + 1:
            report.add(
                f"secret {secret}, event {row['seq']}", "its number does not follow the one before"
            )
        head = Head(seq=int(row["seq"]), hash=str(row["hash"]))
        seen.add(head.hash)
    lost = len(chain.hashes) - len(seen)
    if lost:
        report.add(
            f"secret {secret}, after event {head.seq}",
            f"events are missing: {lost} later one(s) do not follow it",
        )
    return head


def _lengths(chain: _Chain) -> dict[str, int]:
    """Return for each event how many follow it on the longest way, itself counted."""
    rows = [one for following in chain.after.values() for one, _ in following]
    lengths: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: int(row["seq"]), reverse=True):
        after = chain.after.get(str(row["hash"]), ())
        lengths[row["hash"]] = 1 + max((lengths.get(one["hash"], 0) for one, _ in after), default=0)
    return lengths


def _cut_off(place: str, chain: _Chain, start: str, going_on: str, report: AuditReport) -> set[str]:
    """Return the events of a branch that ends: the last words of one invocation, and no other's."""
    requests = {one["hash"]: asked for row in chain.after.values() for one, asked in row}
    branch, ahead = set[str](), [start]
    while ahead:
        hashed = ahead.pop()
        branch.add(hashed)
        ahead += [str(one["hash"]) for one, _ in chain.after.get(hashed, ())]
    asked = {requests[one] for one in branch}
    if len(asked) > 1:
        report.add(place, "two chains continue from the one before")
    elif going_on in asked:
        report.add(place, "one invocation wrote it twice, with different content")
    return branch


def _event_in(line: str) -> tuple[dict[str, Any], str] | None:
    """Return our event in a line of a log, bare, after a time stamp, or as another's message."""
    start = line.find("{")
    for _ in range(_BRACES):
        if start < 0 or len(line) > _LONGEST:
            return None
        try:
            data, _ = json.JSONDecoder().raw_decode(line, start)
        except (ValueError, RecursionError):
            start = line.find("{", start + 1)
            continue
        for one in _nested(data):
            row = cast("object", one.get(KEY))
            if isinstance(row, dict) and set(cast("dict[str, Any]", row)) - {_MAC} == set(_COLUMNS):
                return cast("dict[str, Any]", row), str(one.get("request", ""))
        return None
    return None


def _nested(data: object) -> Iterator[dict[str, Any]]:
    """Yield the objects in which ours may be: the line's own, and its message."""
    if not isinstance(data, dict):
        return
    given = cast("dict[str, Any]", data)
    yield given
    message = given.get("message")
    if isinstance(message, dict):
        yield cast("dict[str, Any]", message)
    elif isinstance(message, str):
        try:
            inner = json.loads(message)
        except (ValueError, RecursionError):
            return
        if isinstance(inner, dict):
            yield cast("dict[str, Any]", inner)


def _is_sound(row: dict[str, Any]) -> bool:
    """Return whether the hash of a row is that of its content."""
    try:
        # Who writes a log can compute a hash of anything.
        is_typed = all(type(row[one]) is _TYPES.get(one, str) for one in _TYPED)
        return is_typed and event_hash(*(row[one] for one in _COLUMNS[:-1])) == row["hash"]
    except (TypeError, AttributeError, ValueError):
        return False
