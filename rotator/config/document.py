"""The shape of `rotator.yaml`: what may stand where.

Both the checks and the JSON Schema are made from these models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)

from rotator import references
from rotator.config import durations, journal_url
from rotator.config.wording import wrong
from rotator.core.errors import UsageError
from rotator.core.model import DrainThen, Policy
from rotator.plugins import near

VERSION: Final = 1
DEFAULT_POLICY: Final = "default"
# The scheme of a reference is a backend's name or one of these two.
PLAIN_SCHEMES: Final = ("env", "file")

# Names go onto command lines, into labels of metrics and file names.
NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.@/+:-]{0,127}$"
BACKEND_NAME: Final = r"^[a-z][a-z0-9_-]{0,62}$"
REFERENCE: Final = r"^[a-z][a-z0-9_-]{0,62}:[^#\s][^#\n]*(#[\w.-]+)?$"

_DEFAULTS: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the file defines: the context in which its parts are checked."""

    backends: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()


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
        "a reference belongs here, not a value (what stands here is not repeated).",
        f"{meant} Keep the value elsewhere and name the place: {forms}.".strip(),
    )


def _check_reference(text: str, info: ValidationInfo) -> str:
    return check_reference(text, _names(info).backends)


def _check_signing_key(text: str, info: ValidationInfo) -> str:
    check_reference(text, _names(info).backends)
    if references.parse(text).scheme in PLAIN_SCHEMES:
        raise wrong(
            "the signing key is kept in a backend, beside the number of the newest checkpoint.",
            "Write `BACKEND:PATH#FIELD`, such as `local:rotator/audit#private_key`.",
        )
    return text


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise wrong("a duration belongs here.", f"Write a number and a unit: {durations.EXAMPLES}.")
    try:
        return durations.parse(value)
    except ValueError as error:
        raise wrong(f"{error}.") from None


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise wrong("this must be longer than nothing.", f"Write {durations.EXAMPLES}.")
    return value


def _every(value: object) -> object:
    return None if value == "never" else _positive(cast("timedelta", _duration(value)))


def known(kind: Literal["backends", "targets", "policies"]) -> AfterValidator:
    """Return a check that a name is one of those that the file defines."""

    def check(name: str, info: ValidationInfo) -> str:
        defined = cast("tuple[str, ...]", getattr(_names(info), kind))
        if name in defined:
            return name
        # Only what looks like a name is repeated.
        said = f" `{name}`" if re.fullmatch(NAME, name) else ""
        one = {"backends": "backend", "targets": "target", "policies": "policy"}[kind]
        listed = f"Defined under `{kind}`: {', '.join(defined) or 'nothing'}."
        raise wrong(f"there is no {one}{said}.", f"{near(name, defined)} {listed}".strip())

    return AfterValidator(check)


_WRITTEN: Final = PlainSerializer(durations.write, return_type=str)
_DURATION_SCHEMA: Final = {"type": "string", "pattern": durations.PATTERN}

Duration: TypeAlias = Annotated[
    timedelta, BeforeValidator(_duration), _WRITTEN, WithJsonSchema(_DURATION_SCHEMA)
]
Positive: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_positive),
    _WRITTEN,
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
SigningKey: TypeAlias = Annotated[
    str,
    AfterValidator(_check_signing_key),
    WithJsonSchema({"type": "string", "pattern": REFERENCE}),
]
Name: TypeAlias = Annotated[str, Field(pattern=NAME)]
BackendName: TypeAlias = Annotated[str, Field(pattern=BACKEND_NAME)]


class Strict(BaseModel):
    """Nothing is guessed: no unknown key, no number for a text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class JournalDocument(Strict):
    """The audit database: SQLite, or PostgreSQL when several machines share it."""

    url: Annotated[str, AfterValidator(journal_url.check)] = Field(
        "sqlite:///rotator.db",
        description="`sqlite:///FILE`, relative to the folder of this file, or"
        " `postgresql://USER@HOST:PORT/DATABASE`. Never with a password in it.",
    )
    password: Reference | None = Field(
        None, description="Reference to the password of the audit database; PostgreSQL only."
    )
    signing_key: SigningKey | None = Field(
        None,
        description="Reference into a backend to the Ed25519 key that signs checkpoints, such as"
        " `local:rotator/audit#private_key`. Without one, checkpoints are not signed.",
    )


class BackendDocument(BaseModel):
    """A place where secrets are kept. The other keys are options of its `type`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Name = Field(description="Which kind of backend: the name of an installed plugin.")


class AdminDocument(Strict):
    """A login name in plain text and a reference to its password."""

    username: str = Field(min_length=1, description="The login name, in plain text.")
    password: Reference = Field(description="Reference to the password.")


def _admin_form(value: object) -> str:
    return "<mapping>" if isinstance(value, (dict, AdminDocument)) else "<reference>"


Admin: TypeAlias = Annotated[
    Annotated[Reference, Tag("<reference>")] | Annotated[AdminDocument, Tag("<mapping>")],
    Discriminator(_admin_form),
]


class TargetDocument(BaseModel):
    """A system that accepts credentials. The other keys are options of its `plugin`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    plugin: Name = Field(description="Which kind of target: the name of an installed plugin.")
    admin: Admin = Field(
        description="How rotator logs in to do its work: a reference to a whole credential in a"
        " backend (`local:admin/main`), or a mapping of `username` and `password`."
    )


class DrainDocument(Strict):
    """What happens when the old login still has sessions after the grace period."""

    wait: Duration = Field(
        _DEFAULTS.drain_wait, description="How long to wait for the old login's sessions to end."
    )
    then: DrainThen = Field(
        _DEFAULTS.drain_then,
        description="What happens then: `hold` keeps the old login and says so, `terminate` ends"
        " its sessions.",
    )
    poll: Positive = Field(
        _DEFAULTS.drain_poll, description="How often to look whether sessions are left."
    )


class RetryDocument(Strict):
    """What happens when a step fails for a reason that may pass."""

    attempts: int = Field(
        _DEFAULTS.attempts, ge=1, le=1000, description="How often a step is tried in one cycle."
    )
    cycles: int = Field(
        _DEFAULTS.cycles,
        ge=1,
        le=1000,
        description="After how many cycles without success the secret is parked.",
    )
    backoff: Positive = Field(
        _DEFAULTS.backoff,
        description="The wait after the first failure; doubles each time.",
    )
    backoff_cap: Positive = Field(_DEFAULTS.backoff_cap, description="The longest such wait.")


class PasswordDocument(Strict):
    """What a new password looks like."""

    length: int = Field(_DEFAULTS.password.length, description="How many characters, up to 256.")
    alphabet: str = Field(
        _DEFAULTS.password.alphabet,
        description="What they are drawn from. The default needs no quoting in URLs and shells.",
    )
    exclude: str = Field(
        _DEFAULTS.password.exclude, description="Characters that are taken out of the alphabet."
    )
    require_each_class: bool = Field(
        _DEFAULTS.password.require_each_class,
        description="At least one lower-case and upper-case letter, digit and symbol, of those"
        " that the alphabet has.",
    )
    minimum_bits: int = Field(
        _DEFAULTS.password.minimum_bits,
        ge=64,
        description="The entropy below which these rules are refused. Lower it only for a target"
        " that cannot take a longer password.",
    )


class PolicyDocument(Strict):
    """How secrets are rotated. What is left out has the default given here."""

    every: Every = Field(
        _DEFAULTS.every,
        description="The period between two rotations; `never` when only a person asks for one.",
    )
    grace: Duration = Field(
        _DEFAULTS.grace,
        description="How long the old credential stays valid beside the new one. Longer than"
        " applications cache what they read.",
    )
    drain: DrainDocument = Field(DrainDocument(), description="See `drain`.")  # pyright: ignore[reportCallIssue]
    retry: RetryDocument = Field(RetryDocument(), description="See `retry`.")  # pyright: ignore[reportCallIssue]
    proposals: int = Field(
        _DEFAULTS.proposals,
        ge=1,
        le=100,
        description="How many new credentials are tried when the target refuses one.",
    )
    step_timeout: Positive = Field(
        _DEFAULTS.step_timeout, description="How long one step may take."
    )
    password: PasswordDocument = Field(PasswordDocument(), description="See `password`.")  # pyright: ignore[reportCallIssue]


class PolicyOverride(PolicyDocument):
    """Single keys that differ from a policy for this one secret."""

    base: Annotated[str, known("policies")] = Field(
        DEFAULT_POLICY, description="The policy that the other keys of it come from."
    )


def _policy_form(value: object) -> str:
    return "<mapping>" if isinstance(value, (dict, PolicyOverride)) else "<name>"


PolicyChoice: TypeAlias = Annotated[
    Annotated[str, known("policies"), Tag("<name>")] | Annotated[PolicyOverride, Tag("<mapping>")],
    Discriminator(_policy_form),
]


class SecretDocument(Strict):
    """One managed credential."""

    target: Annotated[str, known("targets")] = Field(
        description="Which of `targets` accepts the credential."
    )
    backend: Annotated[str, known("backends")] = Field(description="Which of `backends` keeps it.")
    path: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        pattern=r"^[^\x00-\x1f\x7f#]+$",
        description="Where the backend keeps it. Default: the secret's name.",
    )
    strategy: Name = Field(description="How old and new overlap; the target's plugin lists them.")
    options: dict[str, object] = Field({}, description="Options of the target's plugin.")
    policy: PolicyChoice = Field(
        DEFAULT_POLICY,
        description="The name of a policy, or single keys that differ from `default` (or from the"
        " policy that `base` names).",
    )
    tags: list[Name] = Field([], description="Labels by which commands choose secrets.")


class Document(Strict):
    """The configuration of rotator. It holds references to secrets, never a secret itself."""

    version: Literal[1] = Field(description="The version of this file's format.")
    journal: JournalDocument | None = Field(None, description="The audit database.")
    backends: dict[BackendName, BackendDocument] | None = Field(
        None,
        description="Where secrets are kept, by name. The name is also the scheme of"
        " references into the backend.",
    )
    targets: dict[Name, TargetDocument] | None = Field(
        None, description="The systems that accept credentials, by name."
    )
    policies: dict[Name, PolicyDocument | None] | None = Field(
        None,
        description="How secrets are rotated, by name. Secrets that name none have `default`.",
    )
    secrets: dict[Name, SecretDocument] | None = Field(
        None, description="The managed credentials, by name."
    )
