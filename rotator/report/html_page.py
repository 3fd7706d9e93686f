"""A report as one HTML page: it loads nothing, runs nothing and escapes every name."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rotator.core.printable import printable
from rotator.report.formats import age, figures_text, minute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rotator.report.report import Report

# So many rows of a table are on the page; report.json has all of them.
_MOST_ROWS: Final = 1_000
_STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #fff; --line: #767676; --bad: #a30000; --head: #f0f0f0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #eee; --back: #161616; --line: #8a8a8a; --bad: #ff9d9d; --head: #262626; }
}
body { color: var(--text); background: var(--back); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
.table { overflow-x: auto; margin-bottom: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; font-weight: bold; padding: .25rem 0; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: var(--head); }
.bad { color: var(--bad); font-weight: bold; }
"""


def page(report: Report) -> Iterator[str]:
    """Yield the page."""
    head = report.head
    period = f"{minute(head['period']['since'])} to {minute(head['period']['until'])} UTC"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Credential rotation, {period}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        "<h1>Credential rotation</h1>\n"
    )
    yield from _damage(head["journal"])
    yield f"<p>{period}</p>\n"
    yield from _table("Figures", ("figure", "count"), _figures(head))
    yield from _controls(head["controls"])
    yield from _table(
        "Exceptions",
        ("secret", "kind", "since", "until", "events", "what"),
        (
            (
                one["secret"],
                one["kind"],
                minute(one["opened_at"]),
                "open" if one["closed_at"] is None else minute(one["closed_at"]),
                _numbers(one["opened_event"], one["closed_event"]),
                one["what"],
            )
            for one in head["exceptions"]
        ),
    )
    yield from _table(
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
            for one in head["incidents"]
        ),
    )
    yield from _table(
        f"Sample, seed {head['sample']['seed']}",
        ("secret", "rotation", "events"),
        ((one["secret"], one["id"], _events(one)) for one in head["sample"]["rotations"]),
    )
    yield from _table(
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
            for one in head["access"]
        ),
    )
    yield "<h2>Not covered</h2>\n<ul>\n"
    yield from (f"<li>{_safe(line)}</li>\n" for line in head["not_covered"])
    yield "</ul>\n"
    yield from _population(report)
    yield from _rotations(report)
    yield "</main>\n</body>\n</html>\n"


def _damage(journal: dict[str, Any]) -> Iterator[str]:
    if journal["intact"]:
        return
    yield '<p class="bad">The journal is DAMAGED. This report cannot be relied on.</p>\n'
    places = ((one["where"], one["what"]) for one in journal["damage"])
    yield from _table("Damage", ("where", "what"), places)


def _figures(head: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, count in head["totals"].items():
        yield name.replace("_", " "), count
    if head["oldest"] is not None:
        yield "maximum age", f"{age(head['oldest'])} ({head['oldest']['secret']})"
    yield "events checked", head["journal"]["events_checked"]


def _controls(controls: list[dict[str, Any]]) -> Iterator[str]:
    yield from _table(
        "Controls",
        ("framework", "number", "word", "question", "figures", "not shown"),
        (
            (
                one["title"],
                one["number"],
                one["word"],
                one["question"],
                figures_text(one),
                one["not_shown"],
            )
            for one in controls
        ),
    )


def _population(report: Report) -> Iterator[str]:
    yield from _table(
        "Population",
        (
            "secret",
            "word",
            "owner",
            "basis",
            "target",
            "login",
            "managed",
            "due",
            "maximum age",
            "rotations",
            "event",
        ),
        (
            (
                one["secret"],
                one["word"],
                one["owner"],
                one["basis"],
                one["target"],
                one["login"],
                f"{minute(one['managed_from'])} to {one['ended'] or 'now'}",
                minute(one["due"] or ""),
                "" if one["age_max"] is None else age(one["age_max"]),
                len(one["rotations"]),
                one["seq"],
            )
            for one in report.secrets()
        ),
        report.head["totals"]["secrets"],
    )


def _rotations(report: Report) -> Iterator[str]:
    yield from _table(
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


def _table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    total: int | None = None,
) -> Iterator[str]:
    """Yield a table; nothing for one without rows."""
    given = iter(rows)
    shown = list(islice(given, _MOST_ROWS))
    if not shown:
        return
    yield f'<div class="table"><table>\n<caption>{_safe(title)}</caption>\n<thead><tr>'
    yield "".join(f'<th scope="col">{_safe(name)}</th>' for name in columns)
    yield "</tr></thead>\n<tbody>\n"
    for row in shown:
        yield "<tr>" + "".join(_cell(value) for value in row) + "</tr>\n"
    yield "</tbody>\n</table></div>\n"
    if next(given, None) is not None:
        all_ = "" if total is None else f" of {total}"
        yield f"<p>{_MOST_ROWS}{all_} rows are shown. The JSON form of the report has all of them.</p>\n"


def _cell(value: object) -> str:
    bad = value in ("exception", "ACCEPTED", "late", "open")
    return f"<td{' class=bad' if bad else ''}>{_safe(value)}</td>"


def _events(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in one["event_numbers"].items())


def _numbers(first: int, last: int | None) -> str:
    return str(first) if last in (None, first) else f"{first} to {last}"


def _safe(value: object) -> str:
    return "" if value is None else escape(printable(str(value)))
