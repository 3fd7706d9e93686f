"""What the configuration says once it is read: frozen values with nothing left to look up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from rotator.config.watch import Watched
from rotator.core.access import REQUEST_LASTS, Access
from rotator.core.daemon_settings import DaemonSettings, SpacingGroup, Subscriber
from rotator.core.errors import UsageError
from rotator.core.model import Policy
from rotator.core.web_settings import WebSettings
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from rotator.core.consumers import Consumer
    from rotator.core.leases import LeaseTerms

# Of one configuration: a key that is wrong in every entry of a long file is understood by then.
_MOST_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Where the audit database is. `url` is absolute and holds no password.

    `password` and `signing_key` are references; None when the configuration names none.
    """

    url: str
    password: str | None = None
    signing_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """How requests are signed, and whose are accepted.

    `key` is a reference to the private key of this process; None where it has none of its own.
    `writers`: public keys (PEM) by the name of their writer.
    """

    expires: timedelta = REQUEST_LASTS
    key: str | None = None
    writers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """One secret backend. `options` is what its plugin declares as `target_options`."""

    name: str
    type: str
    options: object


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """How we log in on a target.

    Either a `reference` to a whole credential, or `username` in plain text and a reference to its
    `password`.
    """

    reference: str | None = None
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """One target. `options` is what its plugin declares as `target_options`.

    `admin` is None where its plugin needs none.
    """

    name: str
    plugin: str
    admin: AdminSettings | None
    options: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """One consumer. `token` is a reference, None where its instances do not report."""

    consumer: Consumer
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySettings:
    """A further place where a secret is kept."""

    backend: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSettings:
    """One managed secret. `options` is what its target's plugin declares as `secret_options`.

    `kept_by_target`: its target is its backend too, and `backend` says the target's name.
    """

    name: str
    target: str
    backend: str
    path: str
    strategy: str
    options: object
    policy: Policy
    tags: tuple[str, ...] = ()
    copies: tuple[CopySettings, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    readers: tuple[str, ...] = ()
    kept_by_target: bool = False
    leases: LeaseTerms | None = None
    owner: str = ""
    basis: str = ""

    def paths(self, backend: str) -> list[str]:
        """Return the paths in a backend where this secret is kept, its copies' among them."""
        places = [(one.backend, one.path) for one in self.copies]
        if not self.kept_by_target:
            places.insert(0, (self.backend, self.path))
        return [path for name, path in places if name == backend]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `file` is absolute, `base` its folder; mappings keep its order.

    `watched`: where a change of it would be seen.
    """

    file: Path
    base: Path
    journal: JournalSettings
    watched: Watched = field(default_factory=Watched)
    # The main file's defaults for all its secrets, unchanged.
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    backends: Mapping[str, BackendSettings] = field(default_factory=dict[str, BackendSettings])
    targets: Mapping[str, TargetSettings] = field(default_factory=dict[str, TargetSettings])
    secrets: Mapping[str, SecretSettings] = field(default_factory=dict[str, SecretSettings])
    consumers: Mapping[str, ConsumerSettings] = field(default_factory=dict[str, ConsumerSettings])
    default_policy: Policy = field(default_factory=Policy)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    # By the name of each of the secrets.
    partners: Mapping[str, SpacingGroup] = field(default_factory=dict[str, SpacingGroup])
    notifications: tuple[Subscriber, ...] = ()
    access: Access = field(default_factory=Access)
    requests: RequestSettings = field(default_factory=RequestSettings)
    web: WebSettings = field(default_factory=WebSettings)

    def secret(self, name: str) -> SecretSettings:
        """Return one secret. Raises `UsageError`, with near matches, when there is none."""
        found = self.secrets.get(name)
        if found is None:
            raise UsageError(
                f"unknown secret `{name}` in {self.file.name}.",
                hint=near(name, self.secrets) or "List the secrets: `rotator status`.",
            )
        return found

    def tagged(self, tags: Iterable[str]) -> list[SecretSettings]:
        """Return the secrets that carry every one of `tags`, in the order of the file.

        Raises `UsageError`, with near matches, for a tag that no secret carries.
        """
        wanted = set(tags)
        known = {tag for secret in self.secrets.values() for tag in secret.tags}
        if unknown := sorted(wanted - known):
            raise UsageError(
                f"no secret in {self.file.name} has the tag `{unknown[0]}`.",
                hint=near(unknown[0], known) or "To tag a secret, set `tags: [...]` in its entry.",
                safety="Nothing was changed.",
            )
        return [secret for secret in self.secrets.values() if wanted <= set(secret.tags)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and what would be right.

    `line` and `column` count from 1; `line` 0 stands for the file as a whole. `key` is the path to
    it, such as `secrets.billing.strategy`.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return " ".join(
            part
            for part in (f"{place}:", self.key and f"{self.key}:", self.message, self.remedy)
            if part
        )


@final
class ConfigError(UsageError):
    """The configuration cannot be used. `problems` holds what is wrong with it: the first hundred of `count`.

    `watched` as of `Settings`: where a correction would be made.
    """

    def __init__(self, problems: Sequence[Problem], *, watched: Watched | None = None) -> None:
        self.count: int = len(problems)
        count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        if len(problems) > _MOST_PROBLEMS:
            count += f"; the first {_MOST_PROBLEMS} are"
            problems = problems[:_MOST_PROBLEMS]
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"the configuration has {count}:\n{lines}\n",
            safety="The configuration was not loaded, and nothing was changed.",
        )
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.watched: Watched = watched or Watched()
