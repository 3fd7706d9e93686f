"""A rotation plugin made of its parts, for authors who need no more than that."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rotator.core.capabilities import abilities_of_rotation
from rotator.core.contracts.plugin import ListsMarked, PluginInfo, StrategyInfo
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.core.contracts.plugin import FoundLogin, MarkedLogin
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.model import Credential, Finding


class Plugin:
    """What an entry point of the group `rotator.rotations` may name.

    `strategies` are classes of rotations by name: each is called with what all rotations on one
    target share, and with the secret's options. Its first line of documentation is the strategy's
    summary; `overlaps`, and what it can do beyond the contract, are read off it. What is shared is
    what `connect(name, options, admin)` returns, such as a pool, whose `close` is called in the
    end if it has one. Without `connect` it is the target's options, and no admin is needed.
    With `needs_admin=False` a target may leave its admin out: `admin()` then has an empty username.

    `optional_strategies` are the same strategies with further abilities, for the targets of which
    `has_optional(shared)` is true.

    `in_place` names the strategy by which any login can be tried and its password set, no matter what
    rotates it: the target is then a `TriesLogins` and a `SetsPasswords`. Its secret's options have
    a `username`, and its `create` refuses a login that is `ctx.current` and is not there.

    `examine(shared, ctx)` checks a target apart from its secrets, and `grants(options,
    engine=, admin=, login=)` returns the statements that create an admin with the least rights:
    `rotator init --target` calls the first and prints the second. `logins(shared, ctx)` lists the logins
    of a target, for `rotator discover`.
    """

    def __init__(
        self,
        *,
        name: str,
        summary: str,
        strategies: Mapping[str, type],
        optional_strategies: Mapping[str, type] | None = None,
        has_optional: Callable[[Any], bool] | None = None,
        target_options: type = object,
        secret_options: type = object,
        connect: Callable[[str, Any, Callable[[], Credential]], Any] | None = None,
        needs_admin: bool = True,
        engines: tuple[str, ...] = (),
        in_place: str | None = None,
        examine: Callable[[Any, StepContext], list[Finding]] | None = None,
        grants: Callable[..., tuple[str, ...]] | None = None,
        logins: Callable[[Any, StepContext], list[FoundLogin]] | None = None,
    ) -> None:
        self._examine: Callable[[Any, StepContext], list[Finding]] | None = examine
        self._grants: Callable[..., tuple[str, ...]] | None = grants
        self._logins: Callable[[Any, StepContext], list[FoundLogin]] | None = logins
        optional = optional_strategies or strategies
        self._strategies: Mapping[str, type] = strategies
        self._optional: Mapping[str, type] = optional
        self._has_optional: Callable[[Any], bool] | None = has_optional
        self._connect: Callable[[str, Any, Callable[[], Credential]], Any] = connect or _options
        self._in_place: type | None = strategies[in_place] if in_place is not None else None
        self.info: PluginInfo = PluginInfo(
            name=name,
            summary=summary,
            strategies=tuple(
                _described(key, one, optional[key]) for key, one in strategies.items()
            ),
            target_options=target_options,
            secret_options=secret_options,
            engines=engines,
            needs_admin=connect is not None and needs_admin,
            may_have_admin=connect is not None and not needs_admin,
        )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> _Target:
        """Return a target; whether it connects yet is up to `connect`, which should not."""
        shared = self._connect(name, options, admin)
        has_more = self._has_optional is not None and self._has_optional(shared)
        strategies = self._optional if has_more else self._strategies
        if self._in_place is None:
            return _Target(self.info.name, strategies, shared, self._examine, self._logins)
        one, chosen = self._in_place, self.info.secret_options
        return _InPlace(
            self.info.name,
            strategies,
            shared,
            self._examine,
            self._logins,
            of=lambda login: one(shared, chosen(username=login)),
        )

    def grants(
        self, options: object, *, engine: str, admin: str, login: str | None
    ) -> tuple[str, ...]:
        """Return the statements that create an admin with the least rights, none where not known."""
        if self._grants is None:
            return ()
        return self._grants(options, engine=engine, admin=admin, login=login)


class _Target:
    """One target, with what the rotations on it share."""

    def __init__(
        self,
        plugin: str,
        strategies: Mapping[str, type],
        shared: Any,
        examine: Callable[[Any, StepContext], list[Finding]] | None,
        logins: Callable[[Any, StepContext], list[FoundLogin]] | None,
    ) -> None:
        self._plugin: str = plugin
        self._strategies: Mapping[str, type] = strategies
        self._shared: Any = shared
        self._examine: Callable[[Any, StepContext], list[Finding]] | None = examine
        self._logins: Callable[[Any, StepContext], list[FoundLogin]] | None = logins

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation of one secret under a strategy."""
        if strategy not in self._strategies:
            raise UsageError(
                f"plugin {self._plugin} has no strategy {strategy!r}.",
                hint=f"It has: {', '.join(self._strategies)}.",
            )
        return self._strategies[strategy](self._shared, options)

    def examine(self, ctx: StepContext) -> list[Finding]:
        """Return what is found of the server and the rights of its admin."""
        return self._examine(self._shared, ctx) if self._examine is not None else []

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        """Return the logins that bear marks, where what the rotations share can list them."""
        shared = self._shared
        return shared.marked(ctx) if isinstance(shared, ListsMarked) else []

    def logins(self, ctx: StepContext) -> list[FoundLogin]:
        """Return all logins, where the plugin can list them."""
        if self._logins is None:
            raise UsageError(f"the plugin `{self._plugin}` cannot list the logins of a target.")
        return self._logins(self._shared, ctx)

    def close(self) -> None:
        """Let go of what the rotations shared."""
        close = getattr(self._shared, "close", None)
        if callable(close):
            close()


class _InPlace(_Target):
    """A target on which any login can be tried, and its password be set. `of` rotates one in place."""

    def __init__(
        self,
        plugin: str,
        strategies: Mapping[str, type],
        shared: Any,
        examine: Callable[[Any, StepContext], list[Finding]] | None,
        logins: Callable[[Any, StepContext], list[FoundLogin]] | None,
        *,
        of: Callable[[str], Rotation],
    ) -> None:
        super().__init__(plugin, strategies, shared, examine, logins)
        self._of: Callable[[str], Rotation] = of

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once, as whoever rotates this login wants to know whether it works."""
        return self._of(credential.username).probe(credential, ctx)

    def set_password(self, credential: Credential, ctx: StepContext) -> None:
        """Set the password of a login that exists, whoever it belongs to: its owner asks for it."""
        name = credential.username
        ours = replace(ctx, current=credential, adopted=ctx.adopted | {name})
        self._of(name).create(credential, ours)


def _options(_name: str, options: Any, _admin: Callable[[], Credential]) -> Any:
    return options


def _described(name: str, one: type, optional: type) -> StrategyInfo:
    overlaps = getattr(one, "overlaps", None)
    if not isinstance(overlaps, bool):
        raise TypeError(f"{one.__name__}.overlaps must be True or False, for all of the class.")
    always = abilities_of_rotation(one)
    return StrategyInfo(
        name=name,
        summary=(inspect.getdoc(one) or "").partition("\n")[0].rstrip("."),
        overlaps=overlaps,
        abilities=always,
        optional_abilities=tuple(
            ability for ability in abilities_of_rotation(optional) if ability not in always
        ),
    )
