"""The evidence pack: a report beside the events that prove it, and a program that verifies both."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from rotator.core.target_logins import chain_of
from rotator.journal.audit import JOURNAL
from rotator.report import formats, html_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rotator.report.report import Report


def contents(report: Report) -> Mapping[str, str | Iterable[str]]:
    """Return the files of a pack beside the journal's export, by name."""
    program = files(__package__ or "rotator.report").joinpath("verify_pack.py")
    return {
        "report.json": formats.json_text(report),
        "report.html": html_page.page(report),
        "verify.py": program.read_text(encoding="utf-8"),
    }


def names(report: Report) -> list[str]:
    """Return the chains that the pack holds."""
    listed_at = [chain_of(one["target"]) for one in report.head["coverage"] if one["seq"]]
    journal = [JOURNAL] if report.head["acknowledged"] else []
    return [*report.names(), *listed_at, *journal]
