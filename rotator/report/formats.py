"""A report as text, JSON and CSV. Names in it are text of others, and made harmless."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Final

from rotator.core.printable import printable
from rotator.journal.export import cell
from rotator.report.controls import EXCEPTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rotator.report.report import Report

_DAY: Final = 86_400
# So many exceptions are listed for an operator; the other formats have all of them.
_MOST_LISTED: Final = 50
_COLUMNS: Final = (
    *("secret", "word", "owner", "basis"),
    *("managed_from", "managed_until", "ended", "target", "backend"),
    *("plugin", "strategy", "login", "version", "due"),
    *("age_start_seconds", "age_end_seconds", "age_max_seconds", "age_max_exact"),
    *("rotations", "late", "old_rejected", "old_accepted", "exceptions", "seq", "head"),
)


def json_text(report: Report) -> Iterator[str]:
    """Yield the whole report as one JSON object, the secrets at its end, one in a line."""
    yield json.dumps(report.head, indent=2)[:-2] + ',\n  "secrets": ['
    separator = "\n"
    for line in report.lines():
        yield f"{separator}    {line.rstrip()}"
        separator = ",\n"
    yield "\n  ]\n}\n"


def csv_text(report: Report) -> Iterator[str]:
    """Yield the population as CSV, guarded against formulas like the export of the journal."""
    yield _line(_COLUMNS)
    for entry in report.secrets():
        yield _line([cell(value) for value in _row(entry)])


def text(report: Report) -> Iterator[str]:
    """Yield the report as lines for an operator."""
    head = report.head
    journal, totals, period = head["journal"], head["totals"], head["period"]
    if not journal["intact"]:
        yield f"The journal is DAMAGED: {len(journal['damage'])} places. This report cannot be relied on."
        for place in journal["damage"][:_MOST_LISTED]:
            yield f"  {printable(place['where'])}: {printable(place['what'])}"
    yield f"Period: {minute(period['since'])} to {minute(period['until'])} UTC"
    yield (
        f"Secrets: {totals['secrets']} ({totals['operated']} operated, {totals['exception']} exception,"
        f" {totals['not_covered']} not covered)"
    )
    yield (
        f"Rotations: {totals['rotations']}; old credential rejected: {totals['old_rejected']},"
        f" accepted: {totals['old_accepted']}, not tried: {totals['old_not_tried']}"
    )
    oldest = head["oldest"]
    if oldest is not None:
        yield f"Maximum age: {age(oldest)} ({printable(oldest['secret'])})"
    yield f"Late: {totals['late']}"
    yield (
        f"Exceptions: {totals['exceptions_open']} open, {totals['exceptions_closed']} closed."
        f" Incidents: {totals['incidents']}, {totals['incidents_open']} open"
    )
    for one in head["exceptions"][:_MOST_LISTED]:
        yield f"  {exception_line(one)}"
    if len(head["exceptions"]) > _MOST_LISTED:
        yield f"  and {len(head['exceptions']) - _MOST_LISTED} more: use --format json for all."
    for one in head["incidents"][:_MOST_LISTED]:
        yield f"  {printable(one['secret'])}: incident {printable(one['incident'])}, {one['state']}"
    yield from _controls_text(head)
    yield from _sample_text(head)
    yield "Not covered:"
    for line in head["not_covered"]:
        yield f"  {line}"


def exception_line(one: dict[str, Any]) -> str:
    """Return an exception as one line."""
    closed = "open" if one["closed_at"] is None else f"until {minute(one['closed_at'])}"
    what = printable(one["what"])
    return f"{printable(one['secret'])}: {one['kind']} since {minute(one['opened_at'])}, {closed}: {what}"


def age(one: dict[str, Any]) -> str:
    """Return an age in days."""
    days = one["seconds"] / _DAY
    return f"{'' if one['exact'] else 'at least '}{days:.1f} days"


def minute(at: str) -> str:
    """Return a time of the journal up to its minute."""
    return at[:16].replace("T", " ")


def figures_text(control: dict[str, Any]) -> str:
    """Return the figures of a control as words."""
    return ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in control["figures"].items()
    )


def _controls_text(head: dict[str, Any]) -> Iterator[str]:
    title = None
    for one in head["controls"]:
        if one["title"] != title:
            title = one["title"]
            yield f"{title}:"
        mark = "!" if one["word"] == EXCEPTION else " "
        figures = figures_text(one)
        shown = f" ({figures})" if figures else ""
        yield f" {mark}{one['number']}: {one['word']}: {one['question']}{shown}"


def _sample_text(head: dict[str, Any]) -> Iterator[str]:
    sample = head["sample"]
    if not sample["wanted"]:
        return
    yield f"Sample of {len(sample['rotations'])} rotations (seed {printable(sample['seed'])}):"
    for one in sample["rotations"]:
        numbers = ", ".join(f"{name} {number}" for name, number in one["event_numbers"].items())
        yield f"  {printable(one['secret'])}: {printable(one['id'])}: events {numbers}"


def _row(entry: dict[str, Any]) -> list[object]:
    rotations = entry["rotations"]
    seconds = [
        None if entry[name] is None else entry[name]["seconds"]
        for name in ("age_start", "age_end", "age_max")
    ]
    exact = None if entry["age_max"] is None else entry["age_max"]["exact"]
    return [
        *(entry[name] for name in _COLUMNS[:14]),
        *seconds,
        exact,
        len(rotations),
        sum(one["late"] for one in rotations),
        sum(one["old_refused"] is True for one in rotations),
        sum(one["old_refused"] is False for one in rotations),
        entry["exceptions"],
        entry["seq"],
        entry["head"],
    ]


def _line(row: Iterable[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(row)
    return written.getvalue()
