"""Plugins for the tests of the configuration: they declare options and do nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rotator import plugins
from rotator.core.contracts.plugin import PluginInfo, StrategyInfo
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.plugin import BackendPlugin, RotationPlugin
    from rotator.core.model import Credential


class Tls(StrEnum):
    """How far the server is believed."""

    OFF = "off"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A mapping within the options."""

    size: int = 4
    idle: timedelta = timedelta(minutes=5)
    token: str = "env:POOL_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Options of a target, one of each type that options may have."""

    host: str = field(metadata={"help": "The server's name."})
    port: int = field(default=5432, metadata={"help": "The server's port."})
    tls: Tls = Tls.FULL
    root_certificate: Path | None = None
    connect_timeout: timedelta = timedelta(seconds=10)
    databases: tuple[str, ...] = ()
    schema: str = "public"
    ratio: float = 0.5
    pool: Pool = field(default_factory=Pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """Options of a secret."""

    group: str | None = None
    users: tuple[str, ...] = ()
    username: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense together."""
        if self.group and self.username:
            raise UsageError("`group` and `username` are alternatives.", hint="Give one of them.")
        if self.username == "":
            raise ValueError(self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """Options of a backend."""

    path: Path = Path("secrets.db")
    key: str = "file:rotator.key"
    old_keys: tuple[str, ...] = ()
    key_file: str = ""


class Rotations:
    """A rotation plugin that only declares."""

    info = PluginInfo(
        name="paper",
        summary="For tests.",
        strategies=(
            StrategyInfo(name="new-user", summary="A new one.", overlaps=True),
            StrategyInfo(name="single-user", summary="The same one.", overlaps=False),
        ),
        target_options=TargetOptions,
        secret_options=SecretOptions,
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> Target:
        """Return what tells whether options go together; asking for the admin is an error."""
        return Target()


class Target:
    """Checks options, and connects to nothing."""

    def rotation(self, strategy: str, options: SecretOptions) -> object:
        if strategy == "new-user" and options.group == "nobody":
            raise UsageError("`new-user` needs a `group` of somebody.", hint="Name one.")
        return object()

    def close(self) -> NoReturn:
        """Never: nothing was opened."""
        raise AssertionError


class Backends:
    """A backend plugin that only declares."""

    info = PluginInfo(name="drawer", summary="For tests.", target_options=BackendOptions)

    def open(self, name: str, options: object, resolve: object, base: Path) -> NoReturn:
        """Never: the configuration opens nothing."""
        raise AssertionError(name)


class Bare:
    """A backend plugin without options."""

    info = PluginInfo(name="bare", summary="For tests.")

    def open(self, name: str, options: object, resolve: object, base: Path) -> NoReturn:
        """Never: the configuration opens nothing."""
        raise AssertionError(name)


def rotations(name: str) -> RotationPlugin:
    """Find the one rotation plugin that there is."""
    if name != "paper":
        raise UsageError(
            f"there is no rotation plugin `{name}`.", hint=plugins.near(name, ["paper"])
        )
    return Rotations()


def backends(name: str) -> BackendPlugin:
    """Find one of the two backend plugins that there are."""
    if name not in ("drawer", "bare"):
        raise UsageError(f"there is no backend `{name}`.", hint=plugins.near(name, ["drawer"]))
    return Backends() if name == "drawer" else Bare()
