"""A rotation plugin whose server lives in memory and does what a test tells it to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotator.core.contracts.plugin import FoundLogin, MarkedLogin, PluginInfo, StrategyInfo
from rotator.core.errors import Transient
from rotator.core.model import Finding, Planned, Rejection, Step
from rotator.testing import fake_rotations
from rotator.testing.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.model import Credential


@dataclass(slots=True)
class Server:
    """One server. `away`: nobody reaches it; `open_door`: any password gets in; `bug`: raised."""

    target: FakeTarget = field(default_factory=lambda: FakeTarget(lambda _password: True))
    away: bool = False
    open_door: bool = False
    bug: Exception | None = None
    # Why it rejects a login, and what its doctor finds.
    rejection: Rejection | None = None
    findings: list[Finding] = field(default_factory=list["Finding"])


SERVERS: dict[str, Server] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How the server is found."""

    server: str = field(default="main", metadata={"help": "The name of the server in memory."})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One login."""

    base: str = field(default="app", metadata={"help": "What login names start with."})


class _Watched:
    """A fake rotation that can be told to misbehave."""

    def __init__(self, server: Server, inner: Rotation) -> None:
        self._server = server
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        return self._guarded(found) if callable(found) else found

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        self._check()
        return self._server.open_door or self._inner.probe(credential, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        self._check()
        return [Planned(step=Step.CREATE, text="CREATE LOGIN app PASSWORD '***'")]

    def rejection(self, login: Credential, ctx: StepContext) -> Rejection | None:
        self._check()
        return self._server.rejection

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        self._check()
        return self._server.findings

    def sessions(self, login: str, ctx: StepContext) -> object:
        self._check()
        return self._server.target.sessions(login)

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        self._check()
        self._inner.close_login(login, ctx)

    def moment(self, ctx: StepContext) -> object:
        self._check()
        return self._inner.moment(ctx)

    def fence(self, leaked: Credential, ctx: StepContext) -> object:
        self._check()
        return self._inner.fence(leaked, ctx)

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> object:
        self._check()
        return self._inner.end_sessions(login, before, ctx)

    def entrances(self, leaked: Credential, current: Credential | None, ctx: StepContext) -> object:
        self._check()
        return self._inner.entrances(leaked, current, ctx)

    def _guarded(self, found: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object) -> object:
            self._check()
            return found(*given)

        return call

    def _check(self) -> None:
        if self._server.bug is not None:
            raise self._server.bug
        if self._server.away:
            raise Transient("the server at 127.0.0.1:1 does not answer.", hint="Is it running?")


class _Target:
    def __init__(self, server: Server) -> None:
        self._server = server

    def rotation(self, strategy: str, options: SecretOptions) -> object:
        inner = fake_rotations.fake_rotation(strategy, self._server.target, options.base)
        return _Watched(self._server, inner)

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        return [
            MarkedLogin(
                login=name,
                can_login=one.can_login,
                is_of=one.owner.__eq__,
                remove=f"DROP LOGIN {name}",
            )
            for name, one in self._server.target.accounts.items()
            if one.owner is not None
        ]

    def logins(self, ctx: StepContext) -> list[FoundLogin]:
        if self._server.away:
            raise Transient("the server at 127.0.0.1:1 does not answer.", hint="Is it running?")
        return [
            FoundLogin(
                login=name,
                can_login=one.can_login,
                is_superuser=name == "root",
                rights=("CREATE LOGIN",) if name == "admin" else (),
                is_internal=name == "replication",
                sessions=one.sessions,
                is_marked=one.owner is not None,
                is_of=one.owner.__eq__ if one.owner is not None else lambda _: False,
                remove=f"DROP LOGIN {name}",
            )
            for name, one in sorted(self._server.target.accounts.items())
        ]

    def close(self) -> None:
        pass


class _Plugin:
    info = PluginInfo(
        name="paper",
        summary="A server in memory.",
        strategies=tuple(
            StrategyInfo(name=one, summary=f"as {one} does", overlaps=one != "single-user")
            for one in fake_rotations.STRATEGIES
        ),
        target_options=TargetOptions,
        secret_options=SecretOptions,
    )

    def target(self, name: str, options: TargetOptions, admin: object) -> _Target:
        return _Target(SERVERS.setdefault(options.server, Server()))


PLUGIN = _Plugin()
