"""What single values may be: names, references, durations. Nothing that is refused is repeated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from rotator import references
from rotator.config.errors import BACKEND_NAME, NAME, wrong
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.model import Policy
from rotator.plugins import near

# The scheme of a reference is a backend's name or one of these two.
PLAIN_SCHEMES: Final = ("env", "file")
# No backend may be called so.
SCHEMES: Final = (*PLAIN_SCHEMES, references.OF_SECRET)

_DEFAULTS: Final = Policy()
REFERENCE: Final = r"^[a-z][a-z0-9_-]{0,62}:[^#\s][^#\n]*(#[\w.-]+)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the file defines: the context in which its parts are checked."""

    backends: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()


def _names(info: ValidationInfo) -> Names:
    return info.context if isinstance(info.context, Names) else Names()


def check_reference(text: str, backends: tuple[str, ...]) -> str:
    """Return `text` if it is a reference that can be followed. Its text is never repeated."""
    known = (*PLAIN_SCHEMES, *backends)
    forms = ", ".join(("`env:NAME`", "`file:PATH`", *(f"`{name}:PATH#FIELD`" for name in backends)))
    try:
        scheme = references.parse(text).scheme
    except UsageError:
        scheme = ""
    if scheme in known:
        return text
    meant = near(scheme, known) if scheme else ""
    raise wrong(
        "expected a secret reference, got a literal value (redacted).",
        f"{meant} Store the value elsewhere and reference it: {forms}.".strip(),
    )


def _check_reference(text: str, info: ValidationInfo) -> str:
    return check_reference(text, _names(info).backends)


def _check_admin(text: str, info: ValidationInfo) -> str:
    if references.secret_name(text) is not None:
        return text  # whether there is such a secret is known once all are read
    return _check_reference(text, info)


def _check_signing_key(text: str, info: ValidationInfo) -> str:
    check_reference(text, _names(info).backends)
    if references.parse(text).scheme in PLAIN_SCHEMES:
        raise wrong(
            "the signing key must be in a backend, beside the number of the newest checkpoint.",
            "Write `BACKEND:PATH#FIELD`, such as `local:rotator/audit#private_key`.",
        )
    return text


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise wrong("expected a duration.", f"Write a number and a unit: {durations.EXAMPLES}.")
    try:
        return durations.parse(value)
    except ValueError as error:
        raise wrong(f"{error}.", f"Examples: {durations.EXAMPLES}.") from None


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise wrong("must be longer than zero.", f"Examples: {durations.EXAMPLES}.")
    return value


def _every(value: object) -> object:
    return None if value == "never" else _positive(cast("timedelta", _duration(value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GracePeriod:
    """`longest`: how long it lasts at most. `until_acknowledged`: consumers can end it."""

    longest: timedelta = _DEFAULTS.grace
    until_acknowledged: bool = _DEFAULTS.until_acknowledged

    def __str__(self) -> str:
        return durations.write_grace(self.longest, until_acknowledged=self.until_acknowledged)


def _grace(value: object) -> object:
    if isinstance(value, GracePeriod):
        return value
    remedy = f"Examples: {durations.EXAMPLES}, `{durations.UNTIL_ACKNOWLEDGED}`, or"
    remedy = f"{remedy} `{durations.UNTIL_ACKNOWLEDGED}, at most 6h`."
    if not isinstance(value, str):
        raise wrong("expected a duration.", remedy)
    try:
        longest, early = durations.parse_grace(value, _DEFAULTS.grace)
    except ValueError as error:
        raise wrong(f"{error}.", remedy) from None
    return GracePeriod(longest=longest, until_acknowledged=early)


def known(kind: Literal["backends", "targets", "policies", "consumers"]) -> AfterValidator:
    """Return a check that a name is one of those that the file defines."""

    def check(name: str, info: ValidationInfo) -> str:
        defined = cast("tuple[str, ...]", getattr(_names(info), kind))
        if name in defined:
            return name
        # Only what looks like a name is repeated.
        said = f" `{name}`" if re.fullmatch(NAME, name) else ""
        one = "policy" if kind == "policies" else kind.removesuffix("s")
        listed = f"Defined under `{kind}`: {', '.join(defined) or 'nothing'}."
        raise wrong(f"unknown {one}{said}.", f"{near(name, defined)} {listed}".strip())

    return AfterValidator(check)


_DURATION_SCHEMA: Final = {"type": "string", "pattern": durations.PATTERN}

Duration: TypeAlias = Annotated[
    timedelta, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)
]
Grace: TypeAlias = Annotated[
    GracePeriod,
    PlainValidator(_grace),
    WithJsonSchema(
        {
            "anyOf": [
                _DURATION_SCHEMA,
                {"type": "string", "pattern": f"^{durations.UNTIL_ACKNOWLEDGED}(, at most .+)?$"},
            ]
        }
    ),
]
Positive: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_positive),
    WithJsonSchema(_DURATION_SCHEMA),
]
Every: TypeAlias = Annotated[
    timedelta | None,
    BeforeValidator(_every),
    WithJsonSchema({"anyOf": [{"const": "never"}, _DURATION_SCHEMA]}),
]
Reference: TypeAlias = Annotated[
    str,
    AfterValidator(_check_reference),
    WithJsonSchema({"type": "string", "pattern": REFERENCE}),
]
AdminReference: TypeAlias = Annotated[
    str,
    AfterValidator(_check_admin),
    WithJsonSchema({"type": "string", "pattern": REFERENCE}),
]
SigningKey: TypeAlias = Annotated[
    str,
    AfterValidator(_check_signing_key),
    WithJsonSchema({"type": "string", "pattern": REFERENCE}),
]
Name: TypeAlias = Annotated[str, Field(pattern=NAME)]
BackendName: TypeAlias = Annotated[str, Field(pattern=BACKEND_NAME)]
