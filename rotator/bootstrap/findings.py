"""Makes findings from what `doctor` sees, and from the errors that keep it from seeing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.errors import RotatorError
from rotator.core.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Parts of hints that are true of a rotation and of no check.
_RETRIED: Final = ("tried again", "retries automatically")


def ok(subject: str, message: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(severity=Severity.OK, subject=subject, message=message, remedy="")


def warning(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that an operator should act on some day."""
    return Finding(severity=Severity.WARNING, subject=subject, message=message, remedy=remedy)


def error(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that keeps rotations from working."""
    return Finding(severity=Severity.ERROR, subject=subject, message=message, remedy=remedy)


def of_error(subject: str, raised: RotatorError) -> Finding:
    """Return an exception as a finding."""
    is_retried = any(part in raised.hint for part in _RETRIED)
    remedy = "Correct that, then: rotator doctor" if is_retried else raised.hint
    return error(subject, raised.what, remedy)


def guarded(subject: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return the findings of a check, or the error that ended it."""
    try:
        return check()
    except RotatorError as raised:
        return [of_error(subject, raised)]


def once(findings: Sequence[Finding]) -> list[Finding]:
    """Return each finding once; an error that several secrets share is reported for the first of them."""
    reported: set[tuple[str, str]] = set()
    kept: list[Finding] = []
    for finding in dict.fromkeys(findings):
        shared = (finding.message, finding.remedy)
        if finding.severity is Severity.ERROR and shared in reported:
            continue
        reported.add(shared)
        kept.append(finding)
    return kept
