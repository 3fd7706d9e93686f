"""The report as SARIF 2.1.0, which code hosts and editors show beside the code. It holds no value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from rotator import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.find.login_attempts import Outcome
    from rotator.find.model import Candidate, Unread

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def document(
    candidates: Sequence[Candidate],
    unread: Sequence[Unread],
    *,
    outcomes: Sequence[Outcome],
    fingerprints: Sequence[str | None],
) -> dict[str, object]:
    """Return the report. `outcomes` and `fingerprints` are those of the candidates."""
    forms = sorted({one.match.form for one in candidates})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "rotator",
                        "version": __version__,
                        "rules": [
                            {
                                "id": f"password/{form}",
                                "shortDescription": {
                                    "text": f"Hard-coded database password ({form})"
                                },
                            }
                            for form in forms
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(one, outcome, fingerprint)
                    for one, outcome, fingerprint in zip(
                        candidates, outcomes, fingerprints, strict=True
                    )
                ],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {
                                "level": "warning",
                                "message": {"text": f"Not read: {one.cause}. {one.detail}".strip()},
                                "locations": [_location(one.file)],
                            }
                            for one in unread
                        ],
                    }
                ],
            }
        ],
    }


def _result(candidate: Candidate, outcome: Outcome, fingerprint: str | None) -> dict[str, object]:
    match = candidate.match
    login = match.account.login
    whose = f" of login {candidate.without_value(login)}" if login else ""
    role = candidate.without_value(match.role)
    reason = f" ({candidate.without_value(outcome.reason)})" if outcome.reason else ""
    verdict = outcome.verdict.value
    result: dict[str, object] = {
        "ruleId": f"password/{match.form}",
        "level": "error" if outcome.verdict.is_valid else "warning",
        "message": {"text": f"Hard-coded password{whose}: {role}. Verdict: {verdict}{reason}."},
        "locations": [_location(candidate.file, candidate.line, candidate.column)],
        "properties": {"verdict": verdict, "commit": candidate.commit, "secret": candidate.known},
    }
    if fingerprint is not None:
        result["partialFingerprints"] = {"rotator/v1": fingerprint}
    return result


def _location(file: str, line: int | None = None, column: int | None = None) -> dict[str, object]:
    place: dict[str, object] = {
        "artifactLocation": {"uri": quote(file.encode(errors="surrogateescape"), safe="/._-~+@")}
    }
    if line is not None:
        place["region"] = {"startLine": line, "startColumn": column or 1}
    return {"physicalLocation": place}
