"""A report as a workbook: a sheet for each table. The same report gives the same bytes."""

from __future__ import annotations

from datetime import datetime
from typing import IO, TYPE_CHECKING, Final

from rotator.core.printable import printable
from rotator.journal.export import cell
from rotator.report.tables import DAMAGED, TITLE, not_installed, period, tables

if TYPE_CHECKING:
    from rotator.report.report import Report

# A sheet has 1,048,576 rows; one of them says that there are more.
_MOST_ROWS: Final = 1_048_000
_MORE: Final = "More rows: the JSON form of the report has all of them."
_LONGEST_TITLE: Final = 31
_WIDTH: Final = 24
# Numbers that a spreadsheet keeps exactly.
_EXACT: Final = 2**53


def write(report: Report, file: IO[bytes]) -> None:
    """Write the workbook. Texts stay texts: none becomes a formula, a link or a number.

    Raises `UsageError` where the extra `report` is not installed.
    """
    try:
        import xlsxwriter  # noqa: PLC0415 # an extra
    except ModuleNotFoundError as error:
        raise not_installed("XlsxWriter") from error

    plain = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    book = xlsxwriter.Workbook(file, {"constant_memory": True, **plain})
    until = datetime.fromisoformat(report.head["period"]["until"])
    book.set_properties({"title": TITLE, "created": until.replace(tzinfo=None)})
    bold = book.add_format({"bold": True})
    front = book.add_worksheet(TITLE)
    if not report.is_intact:
        _ = front.write_string(0, 0, DAMAGED, bold)
    _ = front.write_string(1, 0, period(report))
    for table in tables(report):
        rows = iter(table.rows)
        first = next(rows, None)
        if first is None:
            continue
        sheet = book.add_worksheet(_title(table.title))
        _ = sheet.set_column(0, len(table.columns) - 1, _WIDTH)
        _ = sheet.freeze_panes(1, 0)
        _ = sheet.write_row(0, 0, table.columns, bold)
        row, number = first, 1
        while row is not None and number <= _MOST_ROWS:
            for column, value in enumerate(row):
                if isinstance(value, int) and abs(value) < _EXACT:
                    _ = sheet.write_number(number, column, value)
                elif value is not None:
                    _ = sheet.write_string(number, column, str(cell(printable(str(value)))))
            row, number = next(rows, None), number + 1
        if row is not None:
            _ = sheet.write_string(number, 0, _MORE, bold)
    _ = book.close()


def _title(title: str) -> str:
    """Return a title that a sheet may have: the seed of a sample is text of others."""
    return title.partition(",")[0][:_LONGEST_TITLE]
