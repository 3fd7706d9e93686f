"""A report as one HTML page: it loads nothing, runs nothing and escapes every name."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Final

from rotator.core.printable import printable
from rotator.report.tables import BAD, DAMAGED, TITLE, period, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.report.report import Report
    from rotator.report.tables import Table

# So many rows of a table are on the page; report.json has all of them.
MOST_ROWS: Final = 1_000
LEFT_OUT: Final = f"{MOST_ROWS} rows are shown. The JSON form of the report has all of them."
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
    when = period(report)
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{TITLE}, {when}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{TITLE}</h1>\n"
    )
    if not report.is_intact:
        yield f'<p class="bad">{DAMAGED}</p>\n'
    yield f"<p>{when}</p>\n"
    for one in tables(report):
        yield from _table(one)
    yield "</main>\n</body>\n</html>\n"


def _table(table: Table) -> Iterator[str]:
    """Yield a table; nothing for one without rows."""
    given = iter(table.rows)
    shown = list(islice(given, MOST_ROWS))
    if not shown:
        return
    yield f'<div class="table"><table>\n<caption>{_safe(table.title)}</caption>\n<thead><tr>'
    yield "".join(f'<th scope="col">{_safe(name)}</th>' for name in table.columns)
    yield "</tr></thead>\n<tbody>\n"
    for row in shown:
        yield "<tr>" + "".join(_cell(value) for value in row) + "</tr>\n"
    yield "</tbody>\n</table></div>\n"
    if next(given, None) is not None:
        yield f"<p>{LEFT_OUT}</p>\n"


def _cell(value: object) -> str:
    return f"<td{' class=bad' if value in BAD else ''}>{_safe(value)}</td>"


def _safe(value: object) -> str:
    return "" if value is None else escape(printable(str(value)))
