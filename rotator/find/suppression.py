"""What keeps a candidate out of a report: a reason beside it, or an entry of a baseline."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.find.model import Candidate

_ALLOW: Final = re.compile(r"rotator:allow\b(?P<reason>[^\n]*)")
_ENDS: Final = re.compile(r"(?:\*/|-->|#\}|%>|[\"'`,;)\]}]|\s)+$")
_COMMENT: Final = re.compile(r"\s*(?:#|//|--|;|/\*|\*|<!--|\{#|%|rem\b|')", re.IGNORECASE)
_LONGEST_REASON: Final = 500
_KEY_BYTES: Final = 32
_SHORTEST_KEY: Final = 16
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """A `rotator:allow` beside a candidate, on its line (from 1). Without a reason it has no effect."""

    line: int
    reason: str


def allowance(text: str, line_start: int, line_end: int, line: int) -> Allowance | None:
    """Return the allowance on a line of a text, or on a comment that is the line above it."""
    found = _ALLOW.search(text, line_start, line_end)
    if found is None and line_start > 0:
        above = text.rfind("\n", 0, line_start - 1) + 1
        if _COMMENT.match(text, above, line_start):
            found, line = _ALLOW.search(text, above, line_start), line - 1
    if found is None:
        return None
    return Allowance(line, _ENDS.sub("", found["reason"][:_LONGEST_REASON]).strip(" :-"))


class Fingerprints:
    """Names candidates by an HMAC over file, name and value: without the key nobody can try values."""

    def __init__(self, key: Secret) -> None:
        """`key`: a text of at least 16 characters. Raises `UsageError`."""
        if len(key.reveal()) < _SHORTEST_KEY:
            raise UsageError(
                "the key of the fingerprints has fewer than 16 characters.",
                hint="Create one: openssl rand -hex 32",
            )
        self._key: Secret = key

    @staticmethod
    def new_key() -> Secret:
        """Return a new key."""
        return Secret(secrets.token_hex(_KEY_BYTES))

    def of(self, candidate: Candidate) -> str:
        """Return the fingerprint. It survives when lines move, and changes with file, name or value."""
        match = candidate.match
        value = match.value.reveal() or f"line {candidate.line}"
        content = f"{candidate.file}\0{match.name}\0{value}"
        key = self._key.reveal().encode(errors="surrogatepass")
        digest = hmac.new(key, content.encode(errors="surrogatepass"), sha256)
        return digest.hexdigest()[:32]


def read_baseline(file: Path) -> frozenset[str]:
    """Return the fingerprints of a baseline. Raises `UsageError`."""
    try:
        data = json.loads(file.read_bytes())
        known = data["fingerprints"]
        if data["version"] != _VERSION or not all(isinstance(one, str) for one in known):
            raise ValueError  # noqa: TRY301 # one error for every invalid baseline
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is no baseline of rotator.",
            hint=f"Write one: rotator find PATH --write-baseline {file}",
        ) from error
    return frozenset(known)


def baseline_text(fingerprints: set[str]) -> str:
    """Return the text of a baseline, which contains neither a value nor a place."""
    return json.dumps({"version": _VERSION, "fingerprints": sorted(fingerprints)}, indent=2) + "\n"
