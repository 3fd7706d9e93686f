"""A report as text, JSON and CSV. Names in it are text of others, and made harmless."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Final

from rotator.core.printable import printable
from rotator.core.target_logins import NOT_MANAGED, target_of
from rotator.journal.export import cell
from rotator.report.controls import EXCEPTION
from rotator.report.model import NOT_COVERED

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
    """Yield the population as CSV, guarded against formulas like the export of the journal.

    After the secrets, a row without a name for each login that nobody manages.
    """
    yield _line(_COLUMNS)
    for entry in report.secrets():
        yield _line([cell(value) for value in _row(entry)])
    for target in report.head["coverage"]:
        if target["word"] != NOT_COVERED:
            for login in _unmanaged(target):
                yield _line([cell(value) for value in _row_of_login(target, login)])


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
    for one in head["coverage"][:_MOST_LISTED]:
        yield f"  {coverage_line(one)}"
    yield from _controls_text(head)
    yield from _sample_text(head)
    yield "Not covered:"
    for line in head["not_covered"]:
        yield f"  {line}"


def coverage_line(one: dict[str, Any]) -> str:
    """Return what is known of the logins of a target as one line."""
    target = printable(one["target"])
    if not one["seq"]:
        return f"target {target}: {one['word']}: never listed"
    counts = ", ".join(f"{name} {count}" for name, count in one["counts"].items() if count)
    return f"target {target}: {one['word']}: listed {minute(one['listed_at'])}: {counts or 'no logins'}"


def names_text(one: dict[str, Any]) -> str:
    """Return the names of the logins of a target that nobody manages, and how many are not named."""
    names = _unmanaged(one)
    more = one["not_managed"] - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def subject(name: str) -> str:
    """Return what an exception is about: a secret by its name, or a target."""
    target = target_of(name)
    return name if target is None else f"target {target}"


def exception_line(one: dict[str, Any]) -> str:
    """Return an exception as one line."""
    closed = "open" if one["closed_at"] is None else f"until {minute(one['closed_at'])}"
    what = printable(one["what"])
    return f"{printable(subject(one['secret']))}: {one['kind']} since {minute(one['opened_at'])}, {closed}: {what}"


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


def _unmanaged(target: dict[str, Any]) -> list[str]:
    return sorted(name for state in NOT_MANAGED for name in target["names"][state.value])


def _row_of_login(target: dict[str, Any], login: str) -> list[object]:
    known = {
        "word": target["word"],
        "target": target["target"],
        "login": login,
        "seq": target["seq"],
        "head": target["head"],
    }
    return [known.get(name) for name in _COLUMNS]


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
