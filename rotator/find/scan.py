"""Reads files and history, and collects what was found and what could not be read."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from rotator.find import registry
from rotator.find.files import Tree, decoded
from rotator.find.model import Candidate, Cause, Unread
from rotator.find.suppression import Allowance, allowance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rotator.find.history import Blob
    from rotator.find.known import KnownValues
    from rotator.find.model import Match

# A key is at most so many lines from its value.
_AROUND: Final = 8


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of a search. `allowed`: candidates with a reason beside them."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    allowed: list[tuple[Candidate, str]] = field(default_factory=list["tuple[Candidate, str]"])
    unread: list[Unread] = field(default_factory=list[Unread])
    skipped: list[str] = field(default_factory=list[str])
    files: int = 0
    lines: int = 0
    commits: int = 0
    blobs: int = 0

    @property
    def weak(self) -> int:
        """Number of candidates with a well-known example as their value."""
        return sum(one.is_weak for one in self.candidates)

    @property
    def incomplete(self) -> list[Unread]:
        """What was not read although it may hold a password: all but binary files."""
        return [one for one in self.unread if one.cause is not Cause.BINARY]


class Scan:
    """One search. Values stay in memory; `known` are those of managed secrets."""

    def __init__(self, known: KnownValues | None = None) -> None:
        self.report: Report = Report()
        self._known: KnownValues | None = known
        self._seen: set[tuple[str, str, str]] = set()
        self._places: dict[tuple[str, int, str | None, str], int] = {}
        # The lines of each path in history that were read already, as their hashes.
        self._lines: dict[str, set[int]] = {}

    def tree(self, paths: Sequence[Path], tree: Tree) -> None:
        """Read the files of a working tree."""
        for name, content in tree.files(paths):
            self.report.files += 1
            self._file(name, content, None)
        self.report.unread += tree.unread
        self.report.skipped += tree.skipped

    def history(self, blobs: Iterable[Blob | Unread]) -> None:
        """Read the blobs of a history, oldest commit first: a value counts where it appeared first."""
        for blob in blobs:
            if isinstance(blob, Unread):
                self.report.unread.append(blob)
                continue
            self.report.blobs += 1
            self._file(blob.path, blob.content, blob.commit)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add what another scanner reported, where the same value was not found already."""
        for candidate in candidates:
            self._add(candidate)

    def _file(self, name: str, content: bytes, commit: str | None) -> None:
        text = decoded(content)
        if self._known is not None:
            for candidate in self._known.search(name, content, commit):
                self._add(candidate)
        if text is None:
            self.report.unread.append(Unread(file=name, cause=Cause.BINARY))
            return
        if commit is not None and not self._is_news(name, text):
            return
        try:
            reading = registry.read(name, text)
        except (RecursionError, MemoryError):
            self.report.unread.append(
                Unread(file=name, cause=Cause.BROKEN, detail="nested too deeply")
            )
            return
        if commit is None:
            self.report.lines += text.count("\n") + 1
        if reading.is_broken and commit is None:
            self.report.unread.append(Unread(file=name, cause=Cause.BROKEN))
        if reading.matches:
            self._matches(name, text, reading.matches, commit)

    def _is_news(self, name: str, text: str) -> bool:
        """Return whether a version of a file may hold a password that its earlier versions did not.

        Most commits change a few lines of a file: only those, with the lines around them, are looked at.
        """
        lines = text.split("\n")
        hashes = [hash(line) for line in lines]
        seen = self._lines.get(name)
        if seen is None:
            self._lines[name] = set(hashes)
            return True
        new = [i for i, one in enumerate(hashes) if one not in seen]
        seen.update(hashes[i] for i in new)
        end = 0
        around: list[str] = []
        for i in new:
            begin = max(end, i - _AROUND)
            end = max(end, i + _AROUND + 1)
            around += lines[begin:end]
        return registry.may_hold(name, "\n".join(around))

    def _matches(self, name: str, text: str, found: Sequence[Match], commit: str | None) -> None:
        starts = [0]
        while (end := text.find("\n", starts[-1])) >= 0:
            starts.append(end + 1)
        starts.append(len(text) + 1)
        allowances: dict[int, Allowance | None] = {}
        for match in found:
            line = bisect_right(starts, match.start)
            begin, end = starts[line - 1], starts[min(line, len(starts) - 1)] - 1
            column = match.start - begin + 1
            candidate = Candidate(file=name, line=line, column=column, match=match, commit=commit)
            if line not in allowances:
                allowances[line] = allowance(text, begin, end, line)
            allowed = allowances[line]
            if allowed is not None and allowed.reason:
                self.report.allowed.append((candidate, allowed.reason))
                continue
            if allowed is not None and commit is None:
                place = f"{name}:{allowed.line}"
                refused = Unread(file=place, cause=Cause.REASON)
                if refused not in self.report.unread[-1:]:
                    self.report.unread.append(refused)
            self._add(candidate)

    def _add(self, candidate: Candidate) -> None:
        match = candidate.match
        value = match.value.reveal() or f"{candidate.line}"
        key = candidate.file, match.name, value
        # A known value is found by its spelling and by its role: the role names the account.
        place = candidate.file, candidate.line, candidate.commit, value
        same = self._places.get(place) if self._known is not None else None
        if same is not None:
            other = self.report.candidates[same]
            best = candidate if other.known else other
            self.report.candidates[same] = replace(best, known=other.known or candidate.known)
            return
        if key in self._seen and (candidate.commit is not None or candidate.match.form == "report"):
            return
        self._seen.add(key)
        self._places[place] = len(self.report.candidates)
        self.report.candidates.append(candidate)
