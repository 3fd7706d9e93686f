"""A report as a PDF, without a browser. The same report gives the same bytes."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

from rotator.core.printable import printable
from rotator.report.html_page import LEFT_OUT, MOST_ROWS
from rotator.report.tables import BAD, DAMAGED, TITLE, not_installed, period, tables

if TYPE_CHECKING:
    from rotator.report.report import Report
    from rotator.report.tables import Table

_FONT: Final = "helvetica"
_SMALL: Final = 7
_RED: Final = (163, 0, 0)


def write(report: Report, file: IO[bytes]) -> None:
    """Write the document. Raises `UsageError` where the extra `report` is not installed.

    A character that is not in Latin-1 is shown as its escape: a font that has them all is not built in.
    """
    try:
        from fpdf import FPDF  # noqa: PLC0415 # an extra
    except ModuleNotFoundError as error:
        raise not_installed("fpdf2") from error
    document: Any = FPDF(orientation="landscape", format="A4")
    document.set_title(TITLE)
    document.set_lang("en")
    document.set_creation_date(datetime.fromisoformat(report.head["period"]["until"]))
    document.add_page()
    document.set_font(_FONT, style="B", size=16)
    document.cell(text=TITLE, new_x="LMARGIN", new_y="NEXT")
    document.set_font(_FONT, size=10)
    if not report.is_intact:
        _in_red(document, DAMAGED)
    document.cell(text=period(report), new_x="LMARGIN", new_y="NEXT")
    for one in tables(report):
        _write_table(document, one)
    _ = file.write(bytes(document.output()))


def _write_table(document: Any, table: Table) -> None:
    given = iter(table.rows)
    shown = list(islice(given, MOST_ROWS))
    if not shown:
        return
    document.ln(5)
    document.set_font(_FONT, style="B", size=11)
    document.multi_cell(0, text=_text(table.title), new_x="LMARGIN", new_y="NEXT")
    document.set_font(_FONT, size=_SMALL)
    with document.table(text_align="LEFT", line_height=_SMALL * 0.5) as drawn:
        for row in (table.columns, *shown):
            cells = drawn.row()
            for value in row:
                _ = cells.cell(_text(value), style=_bad() if value in BAD else None)
    if next(given, None) is not None:
        _in_red(document, LEFT_OUT)


def _bad() -> Any:
    from fpdf.fonts import FontFace  # noqa: PLC0415 # an extra

    return FontFace(emphasis="BOLD", color=_RED)


def _in_red(document: Any, text: str) -> None:
    document.set_text_color(*_RED)
    document.cell(text=text, new_x="LMARGIN", new_y="NEXT")
    document.set_text_color(0)


def _text(value: object) -> str:
    shown = "" if value is None else printable(str(value))
    return shown.encode("latin-1", "backslashreplace").decode("latin-1")
