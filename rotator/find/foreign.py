"""Reports of other scanners: gitleaks, trufflehog, detect-secrets, GitHub, GitLab."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.core.errors import UsageError
from rotator.core.secret import Secret
from rotator.find import connection
from rotator.find.model import Account, Candidate, Match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REDACTED: Final = ("REDACTED", "***", "")
_LARGEST: Final = 200_000_000


def read_report(file: Path) -> list[Candidate]:
    """Return the findings of a report; its kind is recognized by its shape. Raises `UsageError`.

    `-` is standard input.
    """
    try:
        text = _text(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    return parse_report(text, str(file))


def parse_report(text: str, name: str) -> list[Candidate]:
    """Return the findings of the text of a report; `name`: how an error calls it. Raises `UsageError`."""
    try:
        return list(_findings(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{name} is no report of gitleaks, trufflehog, detect-secrets, GitHub or GitLab.",
            hint="Write one as JSON: gitleaks git --report-format json, trufflehog --json, detect-secrets scan.",
        ) from error


def _text(file: Path) -> str:
    if str(file) == "-":
        text = sys.stdin.read(_LARGEST + 1)
        size = len(text)
    else:
        size = file.stat().st_size
        text = file.read_text(errors="replace") if size <= _LARGEST else ""
    if size > _LARGEST:
        raise UsageError(f"{file} is larger than 200 MB.")
    return text


def _findings(text: str) -> Iterator[Candidate]:
    try:
        data: Any = json.loads(text)
    except ValueError:
        # trufflehog writes an object a line.
        data = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(data, dict) and "results" in data:
        yield from _of_detect_secrets(cast("dict[str, Any]", data))
        return
    if isinstance(data, dict) and "vulnerabilities" in data:
        yield from map(_of_gitlab, data["vulnerabilities"])
        return
    entries = cast("list[dict[str, Any]]", data if isinstance(data, list) else [data])
    for entry in entries:
        yield _of_entry(entry)


def _of_entry(entry: dict[str, Any]) -> Candidate:
    if "SourceMetadata" in entry:
        return _of_trufflehog(entry)
    if "token" in entry and "type" in entry:
        return _of_revocation(entry)
    alert = entry.get("alert", entry)
    return _of_github(alert) if "secret_type" in alert else _of_gitleaks(entry)


def _of_github(alert: dict[str, Any]) -> Candidate:
    """Return an alert of secret scanning: from a webhook, which has no value, or from the REST interface."""
    return _candidate(
        file=str(alert.get("html_url") or alert.get("url") or "?"),
        line=1,
        column=1,
        commit=None,
        value=str(alert.get("secret") or ""),
        role=f"reported by GitHub: {alert['secret_type']}",
    )


def _of_revocation(entry: dict[str, Any]) -> Candidate:
    """Return what GitLab sends to a service that revokes tokens."""
    return _candidate(
        file=str(entry.get("location") or entry.get("url") or "?"),
        line=1,
        column=1,
        commit=None,
        value=str(entry["token"]),
        role=f"reported by GitLab: {entry['type']}",
    )


def _of_gitlab(entry: dict[str, Any]) -> Candidate:
    """Return an entry of a report of secret detection."""
    location = entry["location"]
    return _candidate(
        file=str(location["file"]),
        line=int(location.get("start_line") or 1),
        column=1,
        commit=str((location.get("commit") or {}).get("sha") or "") or None,
        value=str(entry.get("raw_source_code_extract") or ""),
        role=f"reported by GitLab: {entry.get('name') or entry['category']}",
    )


def _of_gitleaks(entry: dict[str, Any]) -> Candidate:
    value = str(entry["Secret"])
    return _candidate(
        file=str(entry["File"]),
        line=int(entry["StartLine"]),
        column=int(entry.get("StartColumn") or 1),
        commit=str(entry.get("Commit") or "") or None,
        value=value,
        role=f"reported by gitleaks: {entry['RuleID']}",
    )


def _of_trufflehog(entry: dict[str, Any]) -> Candidate:
    source = next(iter(entry["SourceMetadata"]["Data"].values()))
    return _candidate(
        file=str(source.get("file") or source.get("link") or "?"),
        line=int(source.get("line") or 1),
        column=1,
        commit=str(source.get("commit") or "") or None,
        value=str(entry.get("Raw") or ""),
        role=f"reported by trufflehog: {entry['DetectorName']}",
    )


def _of_detect_secrets(data: dict[str, Any]) -> Iterator[Candidate]:
    for file, entries in data["results"].items():
        for entry in entries:
            role = f"reported by detect-secrets: {entry['type']}"
            line = int(entry["line_number"])
            # Its report holds only a hash of the value.
            yield _candidate(file=str(file), line=line, column=1, commit=None, value="", role=role)


def _candidate(
    *, file: str, line: int, column: int, commit: str | None, value: str, role: str
) -> Candidate:
    account = Account()
    if connection.may_hold(value) and (inner := connection.scan(value)):
        account, value = inner[0].account, inner[0].value.reveal()
    value = "" if value in _REDACTED else value
    match = Match(
        start=0,
        end=0,
        value=Secret(value),
        role=role,
        name="reported",
        account=account,
        form="report",
    )
    return Candidate(file=file, line=line, column=column, match=match, commit=commit)
