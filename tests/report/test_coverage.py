"""Logins on targets that nobody manages: what looks at a target found, in the report."""

from __future__ import annotations

import csv
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.model import Kind
from rotator.core.target_logins import MOST_NAMED, LoginState, TargetLogins, chain_of
from rotator.report import formats, html_page, spreadsheet
from rotator.report.controls import Framework
from rotator.report.model import Period
from rotator.report.report import build
from tests.report.chains import Chain, day

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.journal.sql import SqlJournal

    Write = Callable[[Chain], None]

_QUARTER = Period(since=day(0), until=day(90))


def _looks(*found: tuple[float, dict[str, LoginState]], target: str = "main") -> Chain:
    """Return the chain of a target: so many days after the start, these logins were seen."""
    chain = Chain(chain_of(target))
    for at, logins in found:
        seen = TargetLogins.of((name, state, True) for name, state in logins.items())
        chain.add(at, Kind.LOGINS_LISTED, **seen.event().data)
    return chain


def _read(journal: SqlJournal, period: Period = _QUARTER, **more: Any) -> dict[str, Any]:
    with build(journal, period, targets=("main",), **more) as report:
        return report.head


_OURS = {
    "app_1": LoginState.MANAGED,
    "admin": LoginState.ADMIN,
    "rdsadmin": LoginState.INTERNAL,
}


def test_a_target_that_nobody_listed_at_is_not_covered(journal: SqlJournal):
    """The report says so, and what looks."""
    found = _read(journal)
    [main] = found["coverage"]
    assert (main["word"], main["listed_at"], main["seq"]) == ("not covered", None, None)
    assert "Logins on target main: never listed." in found["not_covered"]
    assert any("rotator discover TARGET" in line for line in found["not_covered"])
    assert (found["totals"]["targets"], found["totals"]["targets_not_covered"]) == (1, 1)


def test_a_target_whose_logins_are_all_accounted_for_is_operated(journal: SqlJournal, write: Write):
    """With counts, names and the event of the look."""
    write(_looks((10, _OURS)))
    found = _read(journal, frameworks=[Framework.NIST])
    [main] = found["coverage"]
    assert (main["word"], main["not_managed"], main["seq"]) == ("operated", 0, 1)
    assert main["names"]["managed"] == ["app_1"]
    assert {name: count for name, count in main["counts"].items() if count} == {
        "managed": 1,
        "admin": 1,
        "internal": 1,
    }
    assert main["head"] == journal.events(chain_of("main"))[-1].hash
    assert found["exceptions"] == []
    assert not any("Logins on target" in line for line in found["not_covered"])
    assert [one["word"] for one in found["controls"] if "Each login" in one["question"]] == [
        "operated"
    ]


def test_logins_that_nobody_manages_are_an_exception_until_they_are_gone(
    journal: SqlJournal, write: Write
):
    """From the look that found the first one to the look that found none."""
    write(
        _looks(
            (10, _OURS | {"legacy": LoginState.UNMANAGED}),
            (20, _OURS | {"legacy": LoginState.UNMANAGED, "lost": LoginState.ORPHAN}),
            (30, _OURS),
            (40, _OURS | {"report": LoginState.CONFIGURED}),
        )
    )
    first, second = _read(journal)["exceptions"]
    assert (first["kind"], first["opened_event"], first["closed_event"]) == ("unmanaged", 1, 3)
    assert first["what"] == "2 logins that rotator does not manage: legacy, lost"
    assert (second["opened_event"], second["closed_event"]) == (4, None)
    assert second["what"] == "1 login that rotator does not manage: report"
    found = _read(journal, frameworks=[Framework.NIST])
    assert found["coverage"][0]["word"] == "exception"
    assert (found["totals"]["logins_managed"], found["totals"]["logins_not_managed"]) == (1, 1)
    assert (found["totals"]["exceptions_open"], found["totals"]["late"]) == (1, 0)
    assert "exception" in [
        one["word"] for one in found["controls"] if "Each login" in one["question"]
    ]


def test_a_look_before_the_period_covers_nothing(journal: SqlJournal, write: Write):
    """And one after it is not known yet."""
    write(_looks((10, _OURS), (80, _OURS | {"legacy": LoginState.UNMANAGED})))
    found = _read(journal, Period(since=day(20), until=day(50)))
    [main] = found["coverage"]
    assert (main["word"], main["seq"]) == ("not covered", 1)
    assert (
        "Logins on target main: last listed at 2026-01-11 00:00 UTC, before the period."
        in found["not_covered"]
    )
    assert found["totals"]["logins_managed"] == 0


def test_a_report_of_some_secrets_lists_no_logins(journal: SqlJournal, write: Write):
    """They may belong to others than its reader may see."""
    write(Chain().rotate(0, "1"))
    write(_looks((10, {"legacy": LoginState.UNMANAGED})))
    found = _read(journal, only={"app"})
    assert (found["coverage"], found["exceptions"]) == ([], [])
    assert any("Logins on targets" in line for line in found["not_covered"])


def test_each_form_shows_the_names(journal: SqlJournal, write: Write):
    """A row of CSV for each login that nobody manages; texts of others stay harmless."""
    write(Chain().rotate(0, "1", due=200))
    hostile = "<b>=cmd\u202e"
    write(_looks((10, _OURS | {hostile: LoginState.UNMANAGED})))
    with build(journal, _QUARTER) as report:
        rows = list(csv.DictReader("".join(formats.csv_text(report)).splitlines()))
        assert [(one["secret"], one["target"], one["word"]) for one in rows] == [
            ("app", "\\N", "operated"),
            ("\\N", "main", "exception"),
        ]
        assert rows[1]["login"].startswith("<b>=cmd")
        page = "".join(html_page.page(report))
        assert "Logins on targets" in page
        assert "&lt;b&gt;=cmd\\u202e" in page
        lines = list(formats.text(report))
        assert any(
            line.startswith("  target main: exception: listed 2026-01-11 00:00: managed 1")
            for line in lines
        )
        assert any(line.startswith("  target main: unmanaged since") for line in lines)
        book = BytesIO()
        spreadsheet.write(report, book)
        assert book.getvalue().startswith(b"PK")


def test_many_logins_are_counted_and_the_first_ones_named(journal: SqlJournal, write: Write):
    """An event stays small however many a server has."""
    logins = {f"user_{number:04}": LoginState.UNMANAGED for number in range(MOST_NAMED + 7)}
    write(_looks((10, logins)))
    found = _read(journal)
    assert found["coverage"][0]["not_managed"] == MOST_NAMED + 7
    assert len(found["coverage"][0]["names"]["unmanaged"]) == MOST_NAMED
    assert found["exceptions"][0]["what"].endswith("user_0009 and 497 more")
    with build(journal, _QUARTER) as report:
        assert "user_0499 and 7 more" in "".join(html_page.page(report))


def test_a_login_that_cannot_log_in_is_no_exception():
    """It is counted apart; the marked logins of a secret are managed even where they are closed."""
    found = TargetLogins.of(
        [("off", LoginState.UNMANAGED, False), ("app_0", LoginState.MANAGED, False)]
    )
    assert found.not_managed == 0
    assert (found.counts["disabled"], found.counts["managed"]) == (1, 1)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"app_2": LoginState.MANAGED}, False),
        ({"app_1": LoginState.MANAGED, "app_2": LoginState.MANAGED}, True),
        ({"app_1": LoginState.UNMANAGED}, True),
    ],
    ids=["a rotation", "one more", "another state"],
)
def test_only_a_change_that_a_rotation_does_not_make_is_news(
    other: dict[str, LoginState],
    differs: bool,  # noqa: FBT001 # a column of the table
):
    """Otherwise each rotation would write a look."""

    def seen(logins: dict[str, LoginState]) -> TargetLogins:
        return TargetLogins.of((name, state, True) for name, state in logins.items())

    assert seen({"app_1": LoginState.MANAGED}).differs(seen(other)) is differs
