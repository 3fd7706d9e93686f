"""The shape of `rotator.yaml`: what may stand where.

Both the checks and the JSON Schema are made from these models.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from rotator.config import journal_url
from rotator.config.calendars import CronLine, Day, Zone
from rotator.config.daemon_sections import (
    BreakerDocument,
    DaemonDocument,
    LimitsDocument,
    NotificationDocument,
    PartnersDocument,
    Strict,
)
from rotator.config.errors import wrong
from rotator.config.types import (
    BackendName,
    Duration,
    Every,
    Name,
    Positive,
    Reference,
    SigningKey,
    known,
)
from rotator.core.model import DrainThen, Policy

VERSION: Final = 1
DEFAULT_POLICY: Final = "default"

_DEFAULTS: Final = Policy()
_PATH: Final = r"^[^\x00-\x1f\x7f#]+$"


__all__ = ["BreakerDocument", "DaemonDocument", "LimitsDocument"]


class JournalDocument(Strict):
    """The audit database: SQLite, or PostgreSQL when several machines share it."""

    url: Annotated[str, AfterValidator(journal_url.check)] = Field(
        default="sqlite:///rotator.db",
        json_schema_extra={"pattern": journal_url.PATTERN},
        description="`sqlite:///FILE`, relative to the folder of this file, or"
        " `postgresql://USER@HOST:PORT/DATABASE`. Never with a password in it.",
    )
    password: Reference | None = Field(
        default=None,
        description="Reference to the password of the audit database; PostgreSQL only.",
    )
    signing_key: SigningKey | None = Field(
        default=None,
        description="Reference into a backend to the Ed25519 key that signs checkpoints, such as"
        " `local:rotator/audit#private_key`, and from which the key of events is derived. Without one,"
        " checkpoints are not signed and events are not authenticated.",
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
    admin: Admin | None = Field(
        default=None,
        description="How rotator logs in to do its work: a reference to a whole credential in a"
        " backend (`local:admin/main`), or a mapping of `username` and `password`. Needed,"
        " unless the plugin has no use for one.",
    )


class DrainDocument(Strict):
    """What happens when the old login still has sessions after the grace period."""

    wait: Duration = Field(
        default=_DEFAULTS.drain_wait,
        description="How long to wait for the old login's sessions to end.",
    )
    then: DrainThen = Field(
        default=_DEFAULTS.drain_then,
        description="What happens then: `hold` keeps the old login and says so, `terminate` ends"
        " its sessions.",
    )
    poll: Positive = Field(
        default=_DEFAULTS.drain_poll, description="How often to look whether sessions are left."
    )


class RetryDocument(Strict):
    """What happens when a step fails for a reason that may pass."""

    attempts: int = Field(
        default=_DEFAULTS.attempts,
        ge=1,
        le=1000,
        description="How often a step is tried in one cycle.",
    )
    cycles: int = Field(
        default=_DEFAULTS.cycles,
        ge=1,
        le=1000,
        description="After how many cycles without success the secret is parked.",
    )
    backoff: Positive = Field(
        default=_DEFAULTS.backoff,
        description="The wait after the first failure; doubles each time.",
    )
    backoff_cap: Positive = Field(
        default=_DEFAULTS.backoff_cap, description="The longest such wait."
    )


class PasswordDocument(Strict):
    """What a new password looks like."""

    length: int = Field(
        default=_DEFAULTS.password.length, description="How many characters, up to 256."
    )
    alphabet: str = Field(
        default=_DEFAULTS.password.alphabet,
        description="What they are drawn from. The default needs no quoting in URLs and shells.",
    )
    exclude: str = Field(
        default=_DEFAULTS.password.exclude,
        description="Characters that are taken out of the alphabet.",
    )
    require_each_class: bool = Field(
        default=_DEFAULTS.password.require_each_class,
        description="At least one lower-case and upper-case letter, digit and symbol, of those"
        " that the alphabet has.",
    )
    minimum_bits: int = Field(
        default=_DEFAULTS.password.minimum_bits,
        ge=64,
        description="The entropy below which these rules are refused. Lower it only for a target"
        " that cannot take a longer password.",
    )


class WindowDocument(Strict):
    """A stretch of time that comes again and again."""

    opens: CronLine = Field(description="When it begins: a cron line, such as `0 1 * * 1-5`.")
    lasts: Positive = Field(description="How long it lasts.")


class BlackoutDocument(Strict):
    """Days on which no rotation begins, both of them included."""

    first: Day = Field(description="The first day: `2026-12-24`.")
    last: Day = Field(description="The last day.")

    @model_validator(mode="after")
    def _in_order(self) -> BlackoutDocument:
        if self.last < self.first:
            raise wrong("this ends before it begins.", "Exchange `first` and `last`.")
        return self


class WindowsDocument(Strict):
    """When a rotation may begin. One that has begun goes on when the window closes."""

    allow: list[WindowDocument] = Field(
        default=[], description="Only in these windows. Default: always."
    )
    deny: list[WindowDocument] = Field(default=[], description="Never in these.")
    blackouts: list[BlackoutDocument] = Field(default=[], description="Never on these days.")


class PolicyDocument(Strict):
    """How secrets are rotated. What is left out has the default given here."""

    every: Every = Field(
        default=_DEFAULTS.every,
        json_schema_extra={"default": "never"},
        description="The period between two rotations; `never` when only a person asks for one.",
    )
    cron: CronLine | None = Field(
        default=None,
        description="In place of `every`: a cron line, such as `0 3 1 * *` for each first of a month.",
    )
    timezone: Zone = Field(
        default="UTC", description="The time zone of `cron` and `windows`: `Europe/Berlin`."
    )
    jitter: Duration = Field(
        default=_DEFAULTS.jitter,
        description="Later by up to this, each secret by a part that stays the same: so that not"
        " all are due at once.",
    )
    windows: WindowsDocument = Field(
        default=WindowsDocument(), description="When a rotation may begin."
    )
    grace: Duration = Field(
        default=_DEFAULTS.grace,
        description="How long the old credential stays valid beside the new one. Longer than"
        " applications cache what they read.",
    )
    drain: DrainDocument = Field(
        default=DrainDocument(), description="What happens when the old login is still in use."
    )
    retry: RetryDocument = Field(
        default=RetryDocument(), description="What happens when a step fails."
    )
    proposals: int = Field(
        default=_DEFAULTS.proposals,
        ge=1,
        le=100,
        description="How many new credentials are tried when the target refuses one.",
    )
    step_timeout: Positive = Field(
        default=_DEFAULTS.step_timeout, description="How long one step may take."
    )
    password: PasswordDocument = Field(
        default=PasswordDocument(), description="The rules for new passwords."
    )


class PolicyOverride(PolicyDocument):
    """Single keys that differ from a policy for this one secret."""

    base: Annotated[str, known("policies")] = Field(
        default=DEFAULT_POLICY, description="The policy that the other keys of it come from."
    )


def _policy_form(value: object) -> str:
    return "<mapping>" if isinstance(value, (dict, PolicyOverride)) else "<name>"


PolicyChoice: TypeAlias = Annotated[
    Annotated[str, known("policies"), Tag("<name>")] | Annotated[PolicyOverride, Tag("<mapping>")],
    Discriminator(_policy_form),
]


class CopyDocument(Strict):
    """A further place where a credential is kept. Its other fields there stay as they are."""

    backend: Annotated[str, known("backends")] = Field(description="Which of `backends`.")
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Where that backend keeps it. Default: the secret's name.",
    )


class SecretDocument(Strict):
    """One managed credential."""

    target: Annotated[str, known("targets")] = Field(
        description="Needed, here or under `defaults`. Which of `targets` accepts the credential."
    )
    backend: Annotated[str, known("backends")] | None = Field(
        default=None,
        description="Which of `backends` keeps it. Needed, here or under `defaults`, but for targets"
        " that keep their secrets themselves.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Where it is kept. Default: the secret's name.",
    )
    strategy: Name = Field(
        description="Needed, here or under `defaults`. How old and new overlap; the target's plugin"
        " lists them."
    )
    options: dict[str, object] = Field(default={}, description="Options of the target's plugin.")
    policy: PolicyChoice = Field(
        default=DEFAULT_POLICY,
        description="The name of a policy, or single keys that differ from `default` (or from the"
        " policy that `base` names).",
    )
    copies: list[CopyDocument] = Field(
        default=[],
        description="Further places that get the new credential, each written and read back before"
        " the old one is revoked: a list of `backend` and `path`.",
    )
    tags: list[Name] = Field(default=[], description="Labels by which commands choose secrets.")


class DefaultsDocument(Strict):
    """What the secrets of this file have unless they say it themselves.

    `{name}` in `path`, `options` and the paths of `copies` becomes the secret's name.
    """

    target: Annotated[str, known("targets")] | None = Field(
        default=None, description="Which of `targets` accepts the credentials."
    )
    backend: Annotated[str, known("backends")] | None = Field(
        default=None,
        description="Which of `backends` keeps them. Of no effect on targets that keep their"
        " secrets themselves.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Where they are kept, with the secret's name in it: `apps/{name}`.",
    )
    strategy: Name | None = Field(
        default=None, description="How old and new overlap; the target's plugin lists them."
    )
    options: dict[str, object] | None = Field(
        default=None,
        description='Options of the target\'s plugin, such as `{group: "{name}_owner"}`. A secret'
        " adds its own, key by key.",
    )
    policy: PolicyChoice | None = Field(
        default=None,
        description="The name of a policy, or single keys of one. Keys that a secret gives are laid"
        " over it.",
    )
    copies: list[CopyDocument] | None = Field(
        default=None, description="Further places, unless the secret names its own."
    )
    tags: list[Name] | None = Field(
        default=None, description="Labels, which a secret has besides its own."
    )


def _check_include(value: object) -> object:
    texts = cast("list[object]", value) if isinstance(value, list) else [value]
    if value is None or all(isinstance(one, str) and one for one in texts):
        return value
    raise wrong("a path belongs here, or a list of paths.", "Write `secrets.d/*.yaml`.")


_INCLUDED_SCHEMA: Final = {"type": "string", "minLength": 1}
Include: TypeAlias = Annotated[
    object,
    BeforeValidator(_check_include),
    WithJsonSchema(
        {
            "anyOf": [
                _INCLUDED_SCHEMA,
                {"type": "array", "items": _INCLUDED_SCHEMA},
                {"type": "null"},
            ]
        },
    ),
]
_INCLUDE: Final = (
    "Further files: a path, a folder or a pattern such as `secrets.d/*.yaml`, or a list of them,"
    " from the folder of this file. They may hold `backends`, `targets`, `policies`, `defaults`,"
    " `secrets` and `partners`."
)


class IncludedDocument(Strict):
    """What a file that is included may hold: sections of the main file, and defaults of its own."""

    version: Literal[1] | None = Field(default=None, description="As in the file that includes it.")
    include: Include = Field(
        default=None, description="Further files, from the folder of this one."
    )
    backends: dict[str, object] | None = Field(default=None, description="As in the main file.")
    targets: dict[str, object] | None = Field(default=None, description="As in the main file.")
    policies: dict[str, object] | None = Field(default=None, description="As in the main file.")
    defaults: DefaultsDocument | None = Field(
        default=None,
        description="For the secrets of this file, laid over those of the file that includes it.",
    )
    secrets: dict[str, object] | None = Field(default=None, description="As in the main file.")
    partners: dict[str, object] | None = Field(default=None, description="As in the main file.")


class Document(Strict):
    """The configuration of rotator. It holds references to secrets, never a secret itself."""

    version: Literal[1] = Field(description="The version of this file's format.")
    include: Include = Field(default=None, description=_INCLUDE)
    journal: JournalDocument | None = Field(default=None, description="The audit database.")
    backends: dict[BackendName, BackendDocument] | None = Field(
        default=None,
        description="Where secrets are kept, by name. The name is also the scheme of"
        " references into the backend.",
    )
    targets: dict[Name, TargetDocument] | None = Field(
        default=None, description="The systems that accept credentials, by name."
    )
    policies: dict[Name, PolicyDocument | None] | None = Field(
        default=None,
        description="How secrets are rotated, by name. Secrets that name none have `default`.",
    )
    defaults: DefaultsDocument | None = Field(
        default=None, description="What secrets have unless they say it themselves."
    )
    secrets: dict[Name, SecretDocument] | None = Field(
        default=None,
        description="The managed credentials, by name; or a list of names, where the defaults say"
        " all.",
    )
    partners: dict[Name, PartnersDocument] | None = Field(
        default=None,
        description="Groups of secrets that the daemon does not rotate close to each other.",
    )
    daemon: DaemonDocument | None = Field(default=None, description="How the daemon works.")
    notifications: list[NotificationDocument] | None = Field(
        default=None, description="Who is told of what the daemon meets."
    )
