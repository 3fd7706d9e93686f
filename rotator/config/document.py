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
from rotator.config.access_sections import (
    ApprovalDocument,
    ApprovalWhereDocument,
    RequestsDocument,
    RoleDocument,
)
from rotator.config.calendars import CronLine, Day, Zone
from rotator.config.daemon_sections import (
    BreakerDocument,
    DaemonDocument,
    LimitsDocument,
    NotificationDocument,
    PartnersDocument,
    ReportsDocument,
    Strict,
)
from rotator.config.errors import wrong
from rotator.config.types import (
    AdminReference,
    BackendName,
    Duration,
    Every,
    Grace,
    GracePeriod,
    Name,
    Positive,
    Reference,
    SigningKey,
    known,
)
from rotator.config.web_sections import (
    WebDocument,
    WebJournalDocument,
    WebOidcDocument,
    WebProxyDocument,
)
from rotator.core.consumers import Consumer, Gate
from rotator.core.leases import AtEnd, LeaseTerms, Share
from rotator.core.model import AfterReveal, DrainThen, IncidentMode, Policy, Prepare, PrepareThen

VERSION: Final = 1
DEFAULT_POLICY: Final = "default"

_DEFAULTS: Final = Policy()
_CONSUMER: Final = Consumer(name="default")
_PREPARE: Final = Prepare()
_TERMS: Final = LeaseTerms()
Identity: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
# A name or a sentence on one line.
Remark: TypeAlias = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_PATH: Final = r"^[^\x00-\x1f\x7f#]+$"


__all__ = [
    "ApprovalWhereDocument",
    "BreakerDocument",
    "DaemonDocument",
    "LimitsDocument",
    "ReportsDocument",
    "WebJournalDocument",
    "WebOidcDocument",
    "WebProxyDocument",
]


class JournalDocument(Strict):
    """The audit database: SQLite, or PostgreSQL when several machines share it."""

    url: Annotated[str, AfterValidator(journal_url.check)] = Field(
        default="sqlite:///rotator.db",
        json_schema_extra={"pattern": journal_url.PATTERN},
        description="`sqlite:///FILE`, relative to the folder of this file, or"
        " `postgresql://USER@HOST:PORT/DATABASE`. It must not contain a password.",
    )
    password: Reference | None = Field(
        default=None,
        description="Reference to the password of the audit database (PostgreSQL only).",
    )
    signing_key: SigningKey | None = Field(
        default=None,
        description="Reference into a backend to the Ed25519 key that signs checkpoints, such as"
        " `local:rotator/audit#private_key`. The key that authenticates events is derived from"
        " it. Without a signing key, checkpoints are not signed and events are not"
        " authenticated.",
    )


class BackendDocument(BaseModel):
    """A place where secrets are kept. The other keys are options of its `type`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Name = Field(description="Kind of backend: the name of an installed plugin.")


class AdminDocument(Strict):
    """A login name in plain text and a reference to its password."""

    username: str = Field(min_length=1, description="Login name, in plain text.")
    password: Reference = Field(description="Reference to the password.")


def _admin_form(value: object) -> str:
    return "<mapping>" if isinstance(value, (dict, AdminDocument)) else "<reference>"


Admin: TypeAlias = Annotated[
    Annotated[AdminReference, Tag("<reference>")] | Annotated[AdminDocument, Tag("<mapping>")],
    Discriminator(_admin_form),
]


class TargetDocument(BaseModel):
    """A system that accepts credentials. The other keys are options of its `plugin`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    plugin: Name = Field(description="Kind of target: the name of an installed plugin.")
    admin: Admin | None = Field(
        default=None,
        description="Admin credential: a reference to a whole credential in a backend"
        " (`local:admin/main`), `secret:NAME` for one of `secrets`, or a mapping of `username` and"
        " `password`. Required, unless the plugin uses no admin.",
    )


class DrainDocument(Strict):
    """What happens when the old login still has sessions after the grace period."""

    wait: Duration = Field(
        default=_DEFAULTS.drain_wait,
        description="How long to wait for the old login's sessions to end.",
    )
    then: DrainThen = Field(
        default=_DEFAULTS.drain_then,
        description="After the wait: `hold` keeps and reports the old login, `terminate` ends its sessions.",
    )
    poll: Positive = Field(
        default=_DEFAULTS.drain_poll, description="How often to check for remaining sessions."
    )


class PrepareDocument(Strict):
    """Consumers read the next version before a password is replaced in place."""

    wait: Positive = Field(
        default=_PREPARE.wait,
        description="How long to wait until every consumer has read the next version.",
    )
    then: PrepareThen = Field(
        default=_PREPARE.then,
        description="What happens after the wait: `proceed` rotates, `hold` waits on and reports it.",
    )


class RetryDocument(Strict):
    """What happens when a step fails for a reason that may pass."""

    attempts: int = Field(
        default=_DEFAULTS.attempts,
        ge=1,
        le=1000,
        description="Attempts per step in one cycle.",
    )
    cycles: int = Field(
        default=_DEFAULTS.cycles,
        ge=1,
        le=1000,
        description="Cycles without success before the secret is parked.",
    )
    backoff: Positive = Field(
        default=_DEFAULTS.backoff,
        description="Wait after the first failure; doubles each time.",
    )
    backoff_cap: Positive = Field(
        default=_DEFAULTS.backoff_cap, description="Maximum wait between attempts."
    )


class PasswordDocument(Strict):
    """What a new password looks like."""

    length: int = Field(
        default=_DEFAULTS.password.length, description="Number of characters, up to 256."
    )
    alphabet: str = Field(
        default=_DEFAULTS.password.alphabet,
        description="Characters to draw from. The default needs no quoting in URLs and shells.",
    )
    exclude: str = Field(
        default=_DEFAULTS.password.exclude,
        description="Characters to remove from the alphabet.",
    )
    require_each_class: bool = Field(
        default=_DEFAULTS.password.require_each_class,
        description="Require at least one lower-case letter, upper-case letter, digit and symbol, of the"
        " classes that the alphabet contains.",
    )
    minimum_bits: int = Field(
        default=_DEFAULTS.password.minimum_bits,
        ge=64,
        description="Minimum entropy in bits; weaker rules are rejected. Lower it only for a target that"
        " cannot accept a longer password.",
    )


class WindowDocument(Strict):
    """A stretch of time that comes again and again."""

    opens: CronLine = Field(
        description="Start of the window: a cron expression, such as `0 1 * * 1-5`."
    )
    lasts: Positive = Field(description="Length of the window.")


class BlackoutDocument(Strict):
    """Days on which no rotation begins, both of them included."""

    first: Day = Field(description="First day: `2026-12-24`.")
    last: Day = Field(description="Last day.")

    @model_validator(mode="after")
    def _in_order(self) -> BlackoutDocument:
        if self.last < self.first:
            raise wrong("`last` is before `first`.", "Exchange `first` and `last`.")
        return self


class WindowsDocument(Strict):
    """When a rotation may begin. One that has begun goes on when the window closes."""

    allow: list[WindowDocument] = Field(
        default=[], description="Rotate only in these windows. Default: always."
    )
    deny: list[WindowDocument] = Field(default=[], description="Never rotate in these windows.")
    blackouts: list[BlackoutDocument] = Field(default=[], description="Never rotate on these days.")


class PolicyDocument(Strict):
    """How secrets are rotated. What is left out has the default given here."""

    owner: Remark = Field(default="", description="Who answers for these secrets.")
    basis: Remark = Field(default="", description="Why they are rotated so, such as a rule.")
    every: Every = Field(
        default=_DEFAULTS.every,
        json_schema_extra={"default": "never"},
        description="Period between rotations; `never` rotates only on request.",
    )
    cron: CronLine | None = Field(
        default=None,
        description="Replaces `every`: a cron expression, such as `0 3 1 * *` for the first day of each"
        " month.",
    )
    timezone: Zone = Field(
        default="UTC", description="Time zone of `cron` and `windows`, such as `Europe/Berlin`."
    )
    jitter: Duration = Field(
        default=_DEFAULTS.jitter,
        description="Maximum deterministic delay per secret, to spread the load.",
    )
    windows: WindowsDocument = Field(
        default=WindowsDocument(), description="When a rotation may start."
    )
    grace: Grace = Field(
        default=GracePeriod(),
        description="How long the old credential stays valid beside the new one. It must exceed the time"
        " for which applications cache the credential. `until-acknowledged` ends it as soon as every"
        " consumer uses the new one, at the latest after 24h; `until-acknowledged, at most 6h` sets"
        " another limit.",
    )
    drain: DrainDocument = Field(
        default=DrainDocument(), description="What happens if the old login is still in use."
    )
    on_leak: IncidentMode = Field(
        default=_DEFAULTS.on_leak,
        description="What happens when a scanner's report holds a password of this secret: `map` records the"
        " incident for an operator, `move` and `kill` replace the password.",
    )
    after_reveal: AfterReveal = Field(
        default=_DEFAULTS.after_reveal,
        description="After `get --reveal`: `off`, `due` at once, or rotate `now`.",
    )
    prepare: PrepareDocument | None = Field(
        default=None,
        description="Lets consumers read the next version before the password is replaced. For strategies"
        " without overlap (`single-user`) only; the secret requires `consumers`.",
    )
    retry: RetryDocument = Field(
        default=RetryDocument(), description="What happens if a step fails."
    )
    proposals: int = Field(
        default=_DEFAULTS.proposals,
        ge=1,
        le=100,
        description="How many new credentials to try if the target rejects them.",
    )
    step_timeout: Positive = Field(
        default=_DEFAULTS.step_timeout, description="Maximum duration of one step."
    )
    password: PasswordDocument = Field(
        default=PasswordDocument(), description="Rules for new passwords."
    )


class PolicyOverride(PolicyDocument):
    """Single keys that differ from a policy for this one secret."""

    base: Annotated[str, known("policies")] = Field(
        default=DEFAULT_POLICY, description="Policy to inherit the other keys from."
    )


def _policy_form(value: object) -> str:
    return "<mapping>" if isinstance(value, (dict, PolicyOverride)) else "<name>"


PolicyChoice: TypeAlias = Annotated[
    Annotated[str, known("policies"), Tag("<name>")] | Annotated[PolicyOverride, Tag("<mapping>")],
    Discriminator(_policy_form),
]


class ConsumerDocument(Strict):
    """An application that uses credentials, and what its absence does to the revoke of an old one."""

    instances: int = Field(
        default=_CONSUMER.instances,
        ge=1,
        le=100_000,
        description="How many instances must have logged in with the new credential.",
    )
    gate: Gate = Field(
        default=_CONSUMER.gate,
        description="What happens while they have not: `warn` delays the revoke by `wait`, `hold` delays it"
        " until they have, `off` does not delay it.",
    )
    wait: Duration = Field(
        default=_CONSUMER.wait,
        description="How long after the grace period the gate `warn` delays the revoke.",
    )
    token: Reference | None = Field(
        default=None,
        description="Reference to the token with which its instances report to the daemon. Without a token,"
        " only the version marks in the target's sessions count.",
    )
    identities: list[Identity] = Field(
        default=[],
        description="Identities with which it reads from the backend, such as `approle/web` or an ARN. `*`"
        " stands for any characters. Default: its name.",
    )


class CopyDocument(Strict):
    """A further place where a credential is kept. Its other fields there stay as they are."""

    backend: Annotated[str, known("backends")] = Field(
        description="Backend of the copy: one of `backends`."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Path in that backend. Default: the secret's name.",
    )


class LeasesDocument(Strict):
    """Short-lived logins, each for one holder. Requires the strategy `new-user`."""

    ttl: Positive = Field(
        default=_TERMS.ttl, description="How long a lease lasts, unless its holder renews it."
    )
    max: Positive = Field(
        default=_TERMS.longest, description="How long a lease lasts at most, with all its renewals."
    )
    overlap: Duration = Field(
        default=_TERMS.overlap,
        description="For how long a holder should have the next login beside the old one.",
    )
    share: Share = Field(
        default=_TERMS.share,
        description="`none`: each lease has a login of its own. `consumer`: instances of one consumer share a"
        " login while more than a third of its time is left; the backend keeps its value until it ends.",
    )
    at_end: AtEnd = Field(
        default=_TERMS.at_end,
        description="Open sessions at the end of a lease: `terminate` ends them, `drain` waits for them. New"
        " ones are rejected at once.",
    )
    limit: int = Field(
        default=_TERMS.limit, ge=1, le=100_000, description="Maximum number of leases at once."
    )


# Its lists are tuples: a default that can change would be copied for each secret.
class SecretDocument(Strict):
    """One managed credential."""

    target: Annotated[str, known("targets")] = Field(
        description="Target that accepts the credential: one of `targets`. Required, here or under"
        " `defaults`."
    )
    backend: Annotated[str, known("backends")] | None = Field(
        default=None,
        description="Backend that stores the credential: one of `backends`. Required, here or under"
        " `defaults`, except for targets that store their secrets themselves.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Path in the backend. Default: the secret's name.",
    )
    strategy: Name = Field(
        description="How the old and the new credential overlap; the target's plugin lists its strategies."
        " Required, here or under `defaults`."
    )
    options: dict[str, object] = Field(default={}, description="Options of the target's plugin.")
    policy: PolicyChoice = Field(
        default=DEFAULT_POLICY,
        description="Name of a policy, or single keys that override `default` (or the policy named by"
        " `base`).",
    )
    copies: tuple[CopyDocument, ...] = Field(
        default=(),
        description="Further locations for the credential: a list of `backend` and `path`. rotator writes"
        " and reads back each one before it revokes the old credential.",
    )
    consumers: tuple[Annotated[str, known("consumers")], ...] = Field(
        default=(),
        description="Applications that use the credential: names under `consumers`. Their gates delay the"
        " revoke of the old credential.",
    )
    readers: tuple[Identity, ...] = Field(
        default=(),
        description="Further identities that may read it from the backend. `rotator access show NAME` marks"
        " others. Consumers are readers without being listed.",
    )
    leases: LeasesDocument | None = Field(
        default=None,
        description="Lends short-lived logins with the rights of the current one. Requires the strategy"
        " `new-user`.",
    )
    tags: tuple[Name, ...] = Field(
        default=(), description="Labels that commands can select secrets by."
    )
    owner: Remark | None = Field(
        default=None, description="Who answers for the secret. Default: that of its policy."
    )
    basis: Remark | None = Field(
        default=None, description="Why it is rotated so. Default: that of its policy."
    )


class DefaultsDocument(Strict):
    """What the secrets of this file have unless they say it themselves.

    `{name}` in `path`, `options` and the paths of `copies` becomes the secret's name.
    """

    target: Annotated[str, known("targets")] | None = Field(
        default=None, description="Target that accepts the credentials: one of `targets`."
    )
    backend: Annotated[str, known("backends")] | None = Field(
        default=None,
        description="Backend that stores the credentials: one of `backends`. Ignored for targets that"
        " store their secrets themselves.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_PATH,
        description="Path in the backend, with the secret's name in it: `apps/{name}`.",
    )
    strategy: Name | None = Field(
        default=None,
        description="How the old and the new credential overlap; the target's plugin lists its strategies.",
    )
    options: dict[str, object] | None = Field(
        default=None,
        description='Options of the target\'s plugin, such as `{group: "{name}_owner"}`. Each option of a'
        " secret overrides the same option here.",
    )
    policy: PolicyChoice | None = Field(
        default=None,
        description="Name of a policy, or single keys of one. Keys of a secret's policy override them.",
    )
    copies: list[CopyDocument] | None = Field(
        default=None, description="Further locations, unless the secret lists its own."
    )
    consumers: list[Annotated[str, known("consumers")]] | None = Field(
        default=None,
        description="Applications that use the credentials, unless the secret lists its own.",
    )
    readers: list[Identity] | None = Field(
        default=None,
        description="Further identities that may read the credentials, unless the secret lists its own.",
    )
    owner: Remark | None = Field(
        default=None, description="Who answers for the secrets, unless they set their own."
    )
    basis: Remark | None = Field(
        default=None, description="Why they are rotated so, unless they set their own."
    )
    tags: list[Name] | None = Field(
        default=None, description="Labels that each secret has in addition to its own."
    )


def _check_include(value: object) -> object:
    texts = cast("list[object]", value) if isinstance(value, list) else [value]
    if value is None or all(isinstance(one, str) and one for one in texts):
        return value
    raise wrong("expected a path or a list of paths.", "Write `secrets.d/*.yaml`.")


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
    "Further files: a path, a folder or a pattern such as `secrets.d/*.yaml`, or a list of"
    " these, relative to the folder of this file. They may contain `backends`, `targets`,"
    " `policies`, `defaults`, `secrets` and `partners`."
)


class IncludedDocument(Strict):
    """What a file that is included may hold: sections of the main file, and defaults of its own."""

    version: Literal[1] | None = Field(default=None, description="As in the file that includes it.")
    include: Include = Field(
        default=None, description="Further files, relative to the folder of this one."
    )
    backends: dict[str, object] | None = Field(default=None, description="As in the main file.")
    targets: dict[str, object] | None = Field(default=None, description="As in the main file.")
    policies: dict[str, object] | None = Field(default=None, description="As in the main file.")
    defaults: DefaultsDocument | None = Field(
        default=None,
        description="Defaults for the secrets of this file; they override those of the file that includes"
        " it.",
    )
    secrets: dict[str, object] | None = Field(default=None, description="As in the main file.")
    partners: dict[str, object] | None = Field(default=None, description="As in the main file.")


class Document(Strict):
    """The configuration of rotator. It holds references to secrets, never a secret itself."""

    version: Literal[1] = Field(description="Version of this file's format.")
    include: Include = Field(default=None, description=_INCLUDE)
    journal: JournalDocument | None = Field(default=None, description="The audit database.")
    backends: dict[BackendName, BackendDocument] | None = Field(
        default=None,
        description="Where secrets are stored, by name. The name is also the scheme of references into the"
        " backend.",
    )
    targets: dict[Name, TargetDocument] | None = Field(
        default=None, description="The systems that accept credentials, by name."
    )
    policies: dict[Name, PolicyDocument | None] | None = Field(
        default=None,
        description="How secrets are rotated, by name. A secret without a policy uses `default`.",
    )
    defaults: DefaultsDocument | None = Field(
        default=None, description="Values for secrets that do not set their own."
    )
    secrets: dict[Name, SecretDocument] | None = Field(
        default=None,
        description="The managed credentials, by name; or a list of names, if the defaults set everything"
        " else.",
    )
    consumers: dict[Name, ConsumerDocument | None] | None = Field(
        default=None, description="The applications that use the credentials, by name."
    )
    partners: dict[Name, PartnersDocument] | None = Field(
        default=None,
        description="Groups of secrets that the daemon does not rotate close together.",
    )
    daemon: DaemonDocument | None = Field(default=None, description="Settings of the daemon.")
    notifications: list[NotificationDocument] | None = Field(
        default=None, description="Recipients of the daemon's notifications."
    )
    roles: list[RoleDocument] | None = Field(
        default=None,
        description="Who may do what. Without this section, every user of the operating system who can read"
        " this file and its backends may do everything.",
    )
    approval: list[ApprovalDocument] | None = Field(
        default=None, description="Actions that need the approval of others."
    )
    requests: RequestsDocument | None = Field(
        default=None, description="Requests of those who have no access to targets and backends."
    )
    web: WebDocument | None = Field(default=None, description="Settings of the web console.")
