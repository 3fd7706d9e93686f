"""Takes up audit logs: each line once, however often its file is given, and whatever its name."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.access import log_files
from rotator.access.log_lines import NotALine, is_complete
from rotator.core.consumers import REPORT_LASTS, InstanceKind, Level, Report, instance_name
from rotator.core.errors import UsageError
from rotator.core.reads import UNKNOWN, CountedReads, LogKind, consumer_of, served_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import IO

    from rotator.access.log_files import Line
    from rotator.access.log_lines import Parser
    from rotator.config.model import SecretSettings
    from rotator.core.ports import Clock
    from rotator.core.reads import Publication, Read
    from rotator.journal.consumers import SqlConsumers
    from rotator.journal.reads import SqlReads

    _Key = tuple[str, str, str, str]
    _Names = Callable[[str], Sequence[str]]


# Lines that one transaction takes up, and different rows that are kept in memory at most.
_LINES: Final = 200_000
_ROWS: Final = 20_000
# Seconds between two transactions of a socket.
_EVERY: Final = 1.0
# A file of CloudTrail that was formatted for reading.
_LARGEST_DOCUMENT: Final = 256 * 1024 * 1024

# The column of a table that holds the whole event.
_EVENT: Final = "eventJson"


@dataclass(slots=True, kw_only=True)
class Taken:
    """What was taken up of a log."""

    name: str
    lines: int = 0
    reads: int = 0
    before: int = 0
    bad: int = 0
    # Lines with values or tokens in plain text, and the number of the first, counted from 1.
    leaks: int = 0
    first_leak: int = 0
    is_torn: bool = False
    secrets: set[str] = field(default_factory=set[str])


@dataclass(slots=True)
class _Row:
    """Reads that are not written yet."""

    first: datetime
    last: datetime
    count: int = 1


class Ingest:
    """Takes up logs of one kind."""

    def __init__(
        self,
        kind: LogKind,
        parser: Parser,
        *,
        reads: SqlReads,
        consumers: SqlConsumers,
        secrets: Mapping[str, SecretSettings],
        names_of: _Names,
        clock: Clock,
    ) -> None:
        """`names_of` returns a secret's name with those that it had before."""
        # Both write the same log.
        self._kind: LogKind = LogKind.VAULT if kind is LogKind.OPENBAO else kind
        self._parser: Parser = parser
        self._reads: SqlReads = reads
        self._consumers: SqlConsumers = consumers
        self._secrets: Mapping[str, SecretSettings] = secrets
        self._names: _Names = names_of
        self._clock: Clock = clock
        self._publications: dict[str, list[Publication]] = {}
        self._counted: dict[_Key, _Row] = {}

    def file(self, name: str) -> Taken:
        """Take up what is new in a file, or on standard input. Raises `UsageError`."""
        with log_files.opened(name) as file:
            return self._file(name, file)

    def socket(
        self,
        name: str,
        *,
        should_stop: Callable[[], bool],
        on_taken: Callable[[Taken], None] = lambda _taken: None,
    ) -> Taken:
        """Listen for the socket device of a server, until `should_stop`; count each second."""
        taken = Taken(name=name)
        with log_files.listening(name) as server:
            on_taken(taken)
            for line in log_files.received(server, every=_EVERY, should_stop=should_stop):
                if line is None:
                    if self._counted:
                        self._flush(None, 0, 0)
                        on_taken(taken)
                elif line.strip():
                    self._take(taken, line)
                    if len(self._counted) >= _ROWS:
                        self._flush(None, 0, 0)
            self._flush(None, 0, 0)
        return taken

    def _file(self, name: str, file: IO[bytes]) -> Taken:
        taken = Taken(name=name)
        lines = self._documents(log_files.lines(file), taken)
        first = next(lines, None)
        if first is None:
            return taken
        log = log_files.identity(self._kind, first.text)
        start = position = last = self._reads.position(log)
        for line in _chain(first, lines):
            if line.end <= start:
                taken.before += 1
                continue
            self._take(taken, line.text)
            if len(self._counted) >= _ROWS or taken.lines % _LINES == 0:
                self._flush(log, position, line.end)
                position = line.end
            last = line.end
        if taken.lines:
            self._flush(log, position, last)
        return taken

    def _documents(self, lines: Iterator[Line], taken: Taken) -> Iterator[Line]:
        """Return whole lines; a JSON document of several lines as one."""
        for number, line in enumerate(lines):
            text = line.text.strip()
            if number == 0 and self._kind is LogKind.CLOUDTRAIL and text in (b"{", b"["):
                yield from self._one_document(line, lines, taken)
                return
            if number == 0 and self._kind is LogKind.CLOUDTRAIL and text[:1] not in (b"{", b"["):
                yield from _table(text, lines, taken)
                return
            if line.is_whole or is_complete(text):
                if text:
                    yield line
            else:
                taken.is_torn = True

    @staticmethod
    def _one_document(first: Line, rest: Iterator[Line], taken: Taken) -> Iterator[Line]:
        parts, end, size = [first.text], first.end, 0
        for line in rest:
            size += len(line.text)
            if size > _LARGEST_DOCUMENT:
                raise UsageError(
                    f"{taken.name} is a JSON document of more than 256 MB.",
                    hint="Write one event a line: jq -c '.Records[]' FILE",
                )
            parts.append(line.text)
            end = line.end
        text = b"".join(parts)
        if is_complete(text) or text.rstrip().endswith(b"]"):
            yield log_files.Line(text, end, True)  # a tuple of three
        else:
            taken.is_torn = True

    def _take(self, taken: Taken, line: bytes) -> None:
        taken.lines += 1
        try:
            shown = self._parser.parse(line)
        except NotALine:
            taken.bad += 1
            return
        if shown.leaks:
            taken.leaks += 1
            taken.first_leak = taken.first_leak or taken.before + taken.lines
        for read in shown.reads:
            taken.reads += 1
            taken.secrets.add(read.secret)
            self._count(read)

    def _count(self, read: Read) -> None:
        version = read.version
        if version is None:
            version = served_at(self._published(read.secret), read.at, read.back)
        key = (read.secret, version, read.identity, read.address)
        row = self._counted.get(key)
        if row is None:
            self._counted[key] = _Row(read.at, read.at)
            return
        row.count += 1
        # Lines of several requests may be out of order.
        if read.at > row.last:
            row.last = read.at
        elif read.at < row.first:
            row.first = read.at

    def _published(self, secret: str) -> list[Publication]:
        found = self._publications.get(secret)
        if found is None:
            found = self._reads.publications(self._names(secret))
            self._publications[secret] = found
        return found

    def _flush(self, log: str | None, before: int, after: int) -> None:
        counted = [
            CountedReads(
                secret=secret,
                version=version,
                identity=identity,
                address=address,
                first=row.first,
                last=row.last,
                count=row.count,
            )
            for (secret, version, identity, address), row in self._counted.items()
        ]
        if not self._reads.add(counted, log=log, before=before, after=after):
            raise UsageError(
                "another process is reading the same log.",
                hint="Wait for it, then run this again: nothing is counted twice.",
                safety="What was not counted yet is counted then.",
            )
        self._counted.clear()
        # A version may be published while a socket is open.
        self._publications.clear()
        self._report(counted)

    def _report(self, counted: Iterable[CountedReads]) -> None:
        """Tell the registry of consumers who has read what in the last minutes."""
        since = self._clock.now() - REPORT_LASTS
        reports: list[Report] = []
        for one in sorted(counted, key=lambda one: one.last):
            if one.last < since or one.version == UNKNOWN:
                continue
            consumer = consumer_of(one.identity, self._secrets[one.secret].consumers)
            if consumer is not None:
                reports.append(
                    Report(
                        secret=one.secret,
                        consumer=consumer.name,
                        instance=instance_name(one.address or "unknown", one.identity),
                        kind=InstanceKind.CLIENT,
                        version=one.version,
                        level=Level.READ,
                    )
                )
        unknown = self._consumers.unpublished({(one.secret, one.version) for one in reports})
        _ = self._consumers.report(
            [one for one in reports if (one.secret, one.version) not in unknown]
        )


def _table(head: bytes, rows: Iterator[Line], taken: Taken) -> Iterator[Line]:
    """Return the events of a table, as CloudTrail Lake saves the result of a query."""
    names = next(csv.reader([head.decode(errors="replace")]), [])
    if _EVENT not in names:
        raise UsageError(
            f"{taken.name} has neither events as JSON nor a column {_EVENT}.",
            hint=f"Let the query in CloudTrail Lake select the column {_EVENT}.",
            safety="Nothing was changed.",
        )
    column = names.index(_EVENT)
    for row in rows:
        cells = next(csv.reader([row.text.decode(errors="replace")]), [])
        if not row.is_whole and not (len(cells) == len(names) and cells[-1]):
            taken.is_torn = True
        elif cells:
            cell = cells[column] if column < len(cells) else ""
            yield log_files.Line(cell.encode(), row.end, row.is_whole)


def _chain(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest
