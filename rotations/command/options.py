"""What a configuration contains about a program that rotates logins, and about one login."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotator.api import LoginOptions, UsageError


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The program, and what it is given with each request."""

    program: Path = field(
        metadata=_help(
            "The program, relative to the configuration. Only root and rotator's user may be able"
            " to change it. rotator starts it without a shell and without arguments."
        )
    )
    settings: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help(
            "Texts that the program receives as `target`, such as an address. No secrets: use"
            " `admin`."
        ),
    )
    counts_sessions: bool = field(
        default=False,
        metadata=_help("The program answers `sessions`, so that a revoke waits for open sessions."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.program.name in ("", ".", "..") or "\0" in str(self.program):
            raise UsageError("`program` must be the path of a file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions(LoginOptions):
    """One login that is rotated. Which options matter depends on the strategy."""

    username: str | None = field(
        default=None,
        metadata=_help(
            "single-user, dual-password: the login; required until the first credential is"
            " published."
        ),
    )
    settings: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help("Texts that the program receives as `options`, such as a role. No secrets."),
    )
