"""What a rotation function is told by its environment: AWS's own variables, and ours.

AWS's: the variables of its templates (SECRETS_MANAGER_ENDPOINT, PASSWORD_LENGTH, EXCLUDE_...), which
mean the same here.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.model import DrainThen, Policy
from rotator.core.passwords import PasswordPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# As AWS's templates have it.
_EXCLUDED: Final = "/@\"'\\:"
_LENGTH: Final = 32
_CLASSES: Final = {
    "EXCLUDE_LOWERCASE": string.ascii_lowercase,
    "EXCLUDE_UPPERCASE": string.ascii_uppercase,
    "EXCLUDE_NUMBERS": string.digits,
    "EXCLUDE_PUNCTUATION": string.punctuation,
}
_ABOUT_PASSWORDS: Final = (
    *("EXCLUDE_CHARACTERS", "PASSWORD_LENGTH", "REQUIRE_EACH_INCLUDED_TYPE"),
    *_CLASSES,
)
# Where Lambda's own system keeps the authorities that it trusts.
_AUTHORITIES: Final = Path("/etc/pki/tls/cert.pem")
LOG: Final = "log"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A rotation function's. `journal`: `log`, or the URL of a PostgreSQL database."""

    function: str
    region: str | None
    endpoint: str | None
    strategy: str | None
    journal: str
    journal_password: str | None
    sslrootcert: Path | None
    policy: Policy


def settings(environ: Mapping[str, str]) -> Settings:
    """Read the environment. Raises `UsageError` that names the variable."""
    policy = Policy(
        grace=_duration(environ, "ROTATOR_GRACE", Policy().grace),
        drain_wait=_duration(environ, "ROTATOR_DRAIN_WAIT", Policy().drain_wait),
        drain_then=_read(environ, "ROTATOR_DRAIN_THEN", DrainThen, Policy().drain_then),
        drain_poll=timedelta(0),
        # AWS tries again by itself, with the same token.
        attempts=1000,
        password=_passwords(environ),
    )
    authorities = environ.get("ROTATOR_SSLROOTCERT")
    found = Path(authorities) if authorities else _AUTHORITIES
    journal = environ.get("ROTATOR_JOURNAL") or LOG
    if journal != LOG and not journal.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "ROTATOR_JOURNAL is neither `log` nor the URL of a PostgreSQL database.",
            hint="Such as postgresql://rotator@audit.example.org/rotator?sslmode=verify-full",
        )
    return Settings(
        function=environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        endpoint=environ.get("SECRETS_MANAGER_ENDPOINT") or None,
        strategy=environ.get("ROTATOR_STRATEGY") or None,
        journal=journal,
        journal_password=environ.get("ROTATOR_JOURNAL_PASSWORD") or None,
        sslrootcert=found if authorities or found.exists() else None,
        policy=policy,
    )


def _passwords(environ: Mapping[str, str]) -> PasswordPolicy:
    """Return ours where nothing is said; else what AWS's templates would draw."""
    if not any(environ.get(one) for one in _ABOUT_PASSWORDS):
        return PasswordPolicy()
    alphabet = "".join(
        characters for name, characters in _CLASSES.items() if not _flag(environ, name)
    )
    excluded = set(environ.get("EXCLUDE_CHARACTERS", _EXCLUDED))
    try:
        return PasswordPolicy(
            length=_read(environ, "PASSWORD_LENGTH", int, _LENGTH),
            alphabet="".join(one for one in alphabet if one not in excluded),
            require_each_class=_flag(environ, "REQUIRE_EACH_INCLUDED_TYPE", default=True),
        )
    except UsageError as error:
        names = ", ".join(one for one in _ABOUT_PASSWORDS if environ.get(one))
        raise UsageError(f"{names}: {error.what}", hint=error.hint) from error


def _flag(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    given = environ.get(name, "").strip().lower()
    if given not in ("", "true", "false"):
        raise UsageError(f"{name} is neither `true` nor `false`.")
    return default if not given else given == "true"


def _duration(environ: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    return _read(environ, name, durations.parse, default)


def _read(
    environ: Mapping[str, str], name: str, reading: Callable[[str], _Value], default: _Value
) -> _Value:
    given = environ.get(name)
    if not given:
        return default
    try:
        return reading(given)
    except (ValueError, UsageError) as error:
        raise UsageError(f"{name}: {given!r} makes no sense.", hint=_hint(name)) from error


def _hint(name: str) -> str:
    if name == "ROTATOR_DRAIN_THEN":
        return "`hold` or `terminate`."
    return "A number." if name == "PASSWORD_LENGTH" else "A time, such as 24h or 7d."
