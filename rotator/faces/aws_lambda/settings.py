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

from rotator.backends.aws.options import AwsOptions
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.json_text import json_object
from rotator.core.model import DrainThen, Policy
from rotator.core.passwords import MINIMUM_BITS, PasswordPolicy
from rotator.faces.aws_lambda.secret_json import OPTIONS_VARIABLE
from rotator.journal import address
from rotator.plugins import require_strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# As AWS's templates have it.
_EXCLUDED: Final = "/@\"'\\:"
_LENGTH: Final = 32
# Between two looks whether the old login is still used, within one invocation.
_POLL: Final = timedelta(seconds=5)
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
# What AWS's templates take for true, in any case; everything else is false to them.
_TRUE: Final = ("true", "1", "y", "yes")
# Whoever asks for a shorter password than ours gets it down to this, with a warning.
_LEAST_BITS: Final = 64
# Where Lambda's own system keeps the authorities that it trusts.
_AUTHORITIES: Final = Path("/etc/pki/tls/cert.pem")
LOG: Final = "log"
_Given = TypeVar("_Given")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A rotation function's. `journal`: `log`, or the URL of a PostgreSQL database. `warnings`:
    what was taken as it was said, and a person should think over; for the function's log.
    """

    function: str
    region: str | None
    endpoint: str | None
    strategy: str | None
    options: Mapping[str, object]
    journal: str
    journal_password: str | None
    signing_key: str | None
    sslrootcert: Path | None
    policy: Policy
    warnings: tuple[str, ...] = ()


def settings(environ: Mapping[str, str]) -> Settings:
    """Read the environment. Raises `UsageError` that names the variable."""
    policy = Policy(
        grace=_duration(environ, "ROTATOR_GRACE", Policy().grace),
        drain_wait=_duration(environ, "ROTATOR_DRAIN_WAIT", Policy().drain_wait),
        drain_then=_read(environ, "ROTATOR_DRAIN_THEN", DrainThen, Policy().drain_then),
        drain_poll=_POLL,
        # AWS tries again by itself, with the same token.
        attempts=1000,
        password=_passwords(environ),
    )
    authorities = _authorities(environ)
    strategy = environ.get("ROTATOR_STRATEGY") or None
    if strategy is not None:
        _named("ROTATOR_STRATEGY", require_strategy, strategy)
    return Settings(
        function=environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        endpoint=_endpoint(environ),
        strategy=strategy,
        options=_options(environ),
        journal=_journal(environ, authorities),
        journal_password=environ.get("ROTATOR_JOURNAL_PASSWORD") or None,
        signing_key=environ.get("ROTATOR_JOURNAL_SIGNING_KEY") or None,
        sslrootcert=authorities,
        policy=policy,
        warnings=tuple(_warnings(environ, policy.password)),
    )


def _options(environ: Mapping[str, str]) -> Mapping[str, object]:
    """Return what all secrets of the function have, as the plugins' options."""
    given = environ.get(OPTIONS_VARIABLE)
    if not given:
        return {}
    try:
        return json_object(given)
    except ValueError as error:
        why = str(error)
    raise UsageError(
        f"{OPTIONS_VARIABLE} is no JSON object: {why}.", hint='Such as {"group": "app_owner"}'
    )


def _authorities(environ: Mapping[str, str]) -> Path | None:
    """Return the file that says which certificates are good; a relative one is beside the code."""
    given = environ.get("ROTATOR_SSLROOTCERT")
    if not given:
        return _AUTHORITIES if _AUTHORITIES.exists() else None
    file = Path(environ.get("LAMBDA_TASK_ROOT", "")) / given
    if not file.is_file():
        raise UsageError(
            f"ROTATOR_SSLROOTCERT: there is no file {file}.",
            hint="A file in the function's zip is named as it lies there: make lambda"
            ' ARGS="--ca global-bundle.pem", and global-bundle.pem here.',
        )
    return file


def _endpoint(environ: Mapping[str, str]) -> str | None:
    given = environ.get("SECRETS_MANAGER_ENDPOINT") or None
    return _named("SECRETS_MANAGER_ENDPOINT", lambda url: AwsOptions(endpoint=url), given).endpoint


def _journal(environ: Mapping[str, str], authorities: Path | None) -> str:
    """Return `log`, or the address of a database to which nothing goes unencrypted unsaid."""
    given = environ.get("ROTATOR_JOURNAL") or LOG
    if given == LOG:
        return LOG
    place = "ROTATOR_JOURNAL_PASSWORD, such as aws:prod/rotator/journal#password"
    found = _named("ROTATOR_JOURNAL", lambda url: address.check(url, elsewhere=place), given)
    if not address.is_postgresql(found):
        raise UsageError(
            "ROTATOR_JOURNAL is neither `log` nor the address of a PostgreSQL database.",
            hint="Such as postgresql://rotator@audit.example.org/rotator",
        )
    return address.verified(found, str(authorities or "system"))


def _warnings(environ: Mapping[str, str], password: PasswordPolicy) -> Iterable[str]:
    if password.bits() < MINIMUM_BITS:
        yield (
            f"{_said_of_passwords(environ)}: {password.bits():.0f} bits of entropy, fewer than the"
            f" {MINIMUM_BITS} of rotator's own passwords. Raise PASSWORD_LENGTH."
        )


def _passwords(environ: Mapping[str, str]) -> PasswordPolicy:
    """Return ours where nothing is said; else what AWS's templates would draw."""
    if not any(one in environ for one in _ABOUT_PASSWORDS):
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
            minimum_bits=_LEAST_BITS,
        )
    except UsageError as error:
        raise UsageError(f"{_said_of_passwords(environ)}: {error.what}", hint=error.hint) from error


def _said_of_passwords(environ: Mapping[str, str]) -> str:
    return ", ".join(one for one in _ABOUT_PASSWORDS if one in environ)


def _flag(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    return environ[name].lower() in _TRUE if name in environ else default


def _named(name: str, taking: Callable[[_Given], _Value], given: _Given) -> _Value:
    """Return what `taking` makes of a variable's value; its error names the variable."""
    try:
        return taking(given)
    except UsageError as error:
        raise UsageError(f"{name}: {error.what}", hint=error.hint) from error


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
