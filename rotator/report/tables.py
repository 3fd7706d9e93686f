"""A report as tables, which the page, the PDF and the spreadsheet show alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rotator.core.errors import UsageError
from rotator.core.target_logins import STATES
from rotator.report.formats import age, figures_text, minute, names_text, subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rotator.report.report import Report

TITLE: Final = "Credential rotation"
DAMAGED: Final = "The journal is DAMAGED. This report cannot be relied on."
# What a reader must not miss.
BAD: Final = ("exception", "ACCEPTED", "late", "open")


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Its rows are read once."""

    title: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def not_installed(package: str) -> UsageError:
    """Return the error of a form whose package is missing."""
    return UsageError(
        f"this needs a package that is not installed: {package}.",
        hint="pip install 'credential-rotator[report]'",
    )


def period(report: Report) -> str:
    """Return the period of a report in words."""
    since, until = report.head["period"]["since"], report.head["period"]["until"]
    return f"{minute(since)} to {minute(until)} UTC"


def tables(report: Report) -> Iterator[Table]:
    """Yield the tables of a report; one without rows has nothing to show."""
    head = report.head
    places = ((one["where"], one["what"]) for one in head["journal"]["damage"])
    yield Table("Damage", ("where", "what"), places)
    yield Table("Figures", ("figure", "count"), _figures(head))
    yield _controls(head["controls"])
    yield _exceptions(head["exceptions"])
    yield _incidents(head["incidents"])
    yield _coverage(head["coverage"])
    sampled = ((one["secret"], one["id"], _events(one)) for one in head["sample"]["rotations"])
    yield Table(f"Sample, seed {head['sample']['seed']}", ("secret", "rotation", "events"), sampled)
    yield _access(head["access"])
    yield Table("Not covered", ("what",), ((line,) for line in head["not_covered"]))
    yield _population(report)
    yield _rotations(report)


def _figures(head: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, count in head["totals"].items():
        yield name.replace("_", " "), count
    if head["oldest"] is not None:
        yield "maximum age", f"{age(head['oldest'])} ({head['oldest']['secret']})"
    yield "events checked", head["journal"]["events_checked"]


def _controls(controls: list[dict[str, Any]]) -> Table:
    columns = ("framework", "number", "word", "question", "figures", "not shown")
    return Table(
        "Controls",
        columns,
        (
            (
                *(one[name] for name in ("title", "number", "word", "question")),
                figures_text(one),
                one["not_shown"],
            )
            for one in controls
        ),
    )


def _coverage(targets: list[dict[str, Any]]) -> Table:
    return Table(
        "Logins on targets",
        ("target", "word", "listed", *STATES, "names that nobody manages", "event"),
        (
            (
                one["target"],
                one["word"],
                minute(one["listed_at"] or "never"),
                *(one["counts"][state] if one["seq"] else "" for state in STATES),
                names_text(one),
                one["seq"],
            )
            for one in targets
        ),
    )


def _exceptions(exceptions: list[dict[str, Any]]) -> Table:
    return Table(
        "Exceptions",
        ("secret", "kind", "since", "until", "events", "what"),
        (
            (
                subject(one["secret"]),
                one["kind"],
                minute(one["opened_at"]),
                "open" if one["closed_at"] is None else minute(one["closed_at"]),
                _numbers(one["opened_event"], one["closed_event"]),
                one["what"],
            )
            for one in exceptions
        ),
    )


def _incidents(incidents: list[dict[str, Any]]) -> Table:
    return Table(
        "Incidents",
        ("incident", "secret", "state", "reported", "proven", "events"),
        (
            (
                one["incident"],
                one["secret"],
                one["state"],
                *(minute(one[name] or "") for name in ("reported_at", "proven_at")),
                ", ".join(map(str, one["event_numbers"])),
            )
            for one in incidents
        ),
    )


def _access(actors: list[dict[str, Any]]) -> Table:
    return Table(
        "Access",
        ("actor", "events", "first", "last", "requests"),
        (
            (
                one["actor"],
                one["events"],
                minute(one["first"]),
                minute(one["last"]),
                ", ".join(f"{name} {count}" for name, count in one["requests"].items()),
            )
            for one in actors
        ),
    )


def _population(report: Report) -> Table:
    columns = ("secret", "word", "owner", "basis", "target", "login")
    more = ("managed", "due", "maximum age", "rotations", "event")
    return Table(
        "Population",
        (*columns, *more),
        (
            (
                *(one[name] for name in columns),
                f"{minute(one['managed_from'])} to {one['ended'] or 'now'}",
                minute(one["due"] or ""),
                "" if one["age_max"] is None else age(one["age_max"]),
                len(one["rotations"]),
                one["seq"],
            )
            for one in report.secrets()
        ),
    )


def _rotations(report: Report) -> Table:
    return Table(
        "Rotations",
        ("secret", "rotation", "published", "late", "old credential", "outcome", "actor", "events"),
        (
            (
                secret["secret"],
                one["id"],
                minute(one["published_at"] or ""),
                {True: "late", False: "in time"}[one["late"]] if one["due"] else "not covered",
                {True: "rejected", False: "ACCEPTED", None: "not tried"}[one["old_refused"]],
                one["outcome"],
                one["actor"],
                _events(one),
            )
            for secret in report.secrets()
            for one in secret["rotations"]
        ),
    )


def _events(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in one["event_numbers"].items())


def _numbers(first: int, last: int | None) -> str:
    return str(first) if last in (None, first) else f"{first} to {last}"
