"""What the figures of a report show for the controls of a framework: numbers and our own words only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from rotator.report.model import NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rotator.core.model import Json

EXCEPTION: Final = "exception"
OPERATED: Final = "operated"


class Framework(StrEnum):
    """A framework that names controls."""

    PCI = "pci"
    SOC2 = "soc2"
    ISO27001 = "iso27001"
    NIST = "nist"


_TITLES: Final[Mapping[Framework, str]] = {
    Framework.PCI: "PCI DSS 4.0.1",
    Framework.SOC2: "SOC 2 (2017)",
    Framework.ISO27001: "ISO/IEC 27001:2022",
    Framework.NIST: "NIST SP 800-53 r5",
}


@dataclass(frozen=True, slots=True)
class _Topic:
    """A question of an auditor, which figures answer it, and what they do not show.

    `word`: the answer, from the figures of a report.
    """

    question: str
    numbers: Mapping[Framework, str]
    figures: tuple[str, ...]
    word: Callable[[Mapping[str, int]], str]
    not_shown: str


def _replaced(figures: Mapping[str, int]) -> str:
    if figures["late"]:
        return EXCEPTION
    known = figures["secrets"] > figures["without_due_date"] and not figures["ages_unknown"]
    return OPERATED if known and not figures["without_due_date"] else NOT_COVERED


def _rejected(figures: Mapping[str, int]) -> str:
    if figures["old_accepted"]:
        return EXCEPTION
    proven = figures["old_rejected"] > 0 and not figures["old_not_tried"]
    return OPERATED if proven else NOT_COVERED


def _contained(figures: Mapping[str, int]) -> str:
    if figures["incidents_open"]:
        return EXCEPTION
    return OPERATED if figures["incidents"] else NOT_COVERED


def _recorded(figures: Mapping[str, int]) -> str:
    if figures["damaged_places"]:
        return EXCEPTION
    return OPERATED if figures["events"] else NOT_COVERED


def _founded(figures: Mapping[str, int]) -> str:
    return OPERATED if figures["secrets"] and not figures["without_basis"] else NOT_COVERED


def _known(figures: Mapping[str, int]) -> str:
    if figures["logins_not_managed"]:
        return EXCEPTION
    return OPERATED if figures["targets"] and not figures["targets_not_covered"] else NOT_COVERED


def _nowhere(_figures: Mapping[str, int]) -> str:
    return NOT_COVERED


_TOPICS: Final = (
    _Topic(
        "Credentials of services are replaced within the period that the policy sets",
        {
            Framework.PCI: "8.6.3",
            Framework.SOC2: "CC6.1",
            Framework.ISO27001: "A.5.17",
            Framework.NIST: "IA-5 f",
        },
        ("secrets", "rotations", "late", "without_due_date", "ages_unknown"),
        _replaced,
        "Whether the period of the policy is short enough.",
    ),
    _Topic(
        "The period has a documented basis",
        {Framework.PCI: "12.3.1"},
        ("secrets", "without_basis"),
        _founded,
        "Whether the basis is sound: attach your risk analysis.",
    ),
    _Topic(
        "A replaced credential is tried afterwards and rejected",
        {
            Framework.SOC2: "CC6.2",
            Framework.ISO27001: "A.5.18",
            Framework.NIST: "AC-2",
        },
        ("old_rejected", "old_accepted", "old_not_tried"),
        _rejected,
        "Logins that rotator does not manage.",
    ),
    _Topic(
        "Each login on a target is managed, or belongs to the server or to rotator itself",
        {
            Framework.SOC2: "CC6.1",
            Framework.ISO27001: "A.5.16",
            Framework.NIST: "AC-2",
        },
        ("targets", "targets_not_covered", "logins_managed", "logins_not_managed"),
        _known,
        "Targets that no configuration names.",
    ),
    _Topic(
        "A leaked credential is replaced, and every address rejects it",
        {
            Framework.PCI: "8.6.3",
            Framework.SOC2: "CC7.4",
            Framework.ISO27001: "A.5.17",
            Framework.NIST: "IA-5 d",
        },
        ("incidents", "incidents_open"),
        _contained,
        "Leaks that nobody reported.",
    ),
    _Topic(
        "Each change of a credential is recorded, with its actor and time",
        {
            Framework.SOC2: "CC7.2",
            Framework.ISO27001: "A.8.15",
            Framework.NIST: "AU-12",
        },
        ("events", "damaged_places"),
        _recorded,
        "Changes on the target that did not go through rotator.",
    ),
    _Topic(
        "Records are protected from change",
        {Framework.NIST: "AU-9", Framework.SOC2: "CC8.1"},
        ("events", "damaged_places"),
        _recorded,
        "Signatures: verify them with `rotator audit verify --public-key FILE`.",
    ),
    _Topic(
        "Interactive use of service logins is an exception",
        {Framework.PCI: "8.6.1"},
        (),
        _nowhere,
        "The journal does not record who uses a login.",
    ),
    _Topic(
        "No credential is hard-coded",
        {Framework.PCI: "8.6.2", Framework.NIST: "IA-5(7)"},
        (),
        _nowhere,
        "Attach the answer of `rotator find PATH --json`.",
    ),
    _Topic(
        "Passwords of users are replaced every 90 days where they are the only factor",
        {Framework.PCI: "8.3.9"},
        (),
        _nowhere,
        "This report is about logins of services, to which the requirement does not apply.",
    ),
    _Topic(
        "Rights are limited to what is needed",
        {
            Framework.SOC2: "CC6.3",
            Framework.ISO27001: "A.8.2",
            Framework.NIST: "AC-6",
        },
        (),
        _nowhere,
        "Attach the answer of `rotator access check --json`.",
    ),
)


def controls(frameworks: Iterable[Framework], figures: Mapping[str, int]) -> list[dict[str, Json]]:
    """Return each control of the frameworks with its word and its figures."""
    return [
        {
            "framework": framework.value,
            "title": _TITLES[framework],
            "number": topic.numbers[framework],
            "question": topic.question,
            "word": topic.word(figures),
            "figures": {name: figures[name] for name in topic.figures},
            "not_shown": topic.not_shown,
        }
        for framework in frameworks
        for topic in _TOPICS
        if framework in topic.numbers
    ]
