"""Proves that a login can do what the admin of a target does: a round with a scratch login."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rotator import plugins
from rotator.core.contracts.plugin import ExaminesTarget
from rotator.core.contracts.rotation import Examines
from rotator.core.errors import Denied, Refused, UsageError
from rotator.core.model import Check, Credential
from rotator.engine.admin_proof import require_no_errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.contracts.plugin import PluginInfo, Target
    from rotator.core.contracts.rotation import Rotation, StepContext

SCRATCH: Final = "rotator_proof_"
# Strategies that create a login, the way in which the scratch login is made.
_CREATING: Final = ("new-user", "alternating-users")
_DIGITS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRound:
    """`engine.AdminProof` through the plugins: what it sends is what rotations there send.

    `secret` is the admin's, `targets` those whose admin it is.
    """

    parts: Wiring
    secret: str
    targets: tuple[str, ...]

    def prove(
        self, login: Credential, ctx: StepContext, *, over: Credential | None = None
    ) -> tuple[Check, ...]:
        """Create a scratch login on each target, log in as it, and drop it."""
        checks: list[Check] = []
        for name in self.targets:
            with self._opened(name, login) as target:
                if isinstance(target, ExaminesTarget):
                    require_no_errors(target.examine(ctx))
                revokes = over is not None and over.username != login.username
                if over is not None and revokes and name == self._own_target:
                    self._require_able(name, target, over, ctx)
                checks.append(self._round(name, target, login, ctx))
        return tuple(checks)

    @property
    def _own_target(self) -> str:
        """The target as whose admin the secret is rotated: by itself, where it is one of `targets`."""
        return self.parts.settings.secrets[self.secret].target

    def clear(self, ctx: StepContext) -> None:
        """Drop what an interrupted round left, as the admin that the target has."""
        scratch, ctx = _scratch(ctx)
        for name in self.targets:
            rotation = self._rotation(name, self.parts.target(name), scratch)
            if rotation is not None:
                rotation.withdraw(scratch, ctx)

    def renew(self) -> None:
        """Close the idle sessions of the targets."""
        for name in self.targets:
            self.parts.target(name).close()

    @contextmanager
    def _opened(self, name: str, login: Credential) -> Generator[Target]:
        """Open a target with another admin than its own."""
        chosen = self.parts.settings.targets[name]
        target = plugins.rotation_plugin(chosen.plugin).target(name, chosen.options, lambda: login)
        try:
            yield target
        finally:
            target.close()

    def _require_able(self, name: str, target: Target, over: Credential, ctx: StepContext) -> None:
        """Require that the admin of `target` may change the password of `over`, which it is to revoke."""
        info = self._info(name)
        if not any(one.name == "single-user" for one in info.strategies):
            return
        try:
            rotation = target.rotation("single-user", info.secret_options(username=over.username))
        except (UsageError, TypeError):
            return  # its options are of another kind
        if not isinstance(rotation, Examines):
            return
        try:
            require_no_errors(rotation.examine(over, replace(ctx, current=over)))
        except Denied as error:
            raise Denied(
                f"the new admin could not revoke the old one: {error.what}",
                hint="Rotate the admin in place (single-user or dual-password), or let another target"
                " with another admin rotate it.",
            ) from error

    def _round(self, name: str, target: Target, login: Credential, ctx: StepContext) -> Check:
        what = f"admin of {name}"
        scratch, ctx = _scratch(ctx)
        rotation = self._rotation(name, target, scratch)
        if rotation is None:
            why = "no login of the target shows how one is created there, so none was"
            return Check(name=what, ok=True, detail=why)
        # What an interrupted round left has a password that nobody knows.
        rotation.withdraw(scratch, ctx)
        try:
            rotation.create(scratch, ctx)
            accepted = rotation.probe(scratch, ctx)
        finally:
            rotation.withdraw(scratch, ctx)
        if not accepted:
            raise Refused(
                f"target {name} rejects login {scratch.username!r}, which the admin {login.username!r} has"
                " just created."
            )
        if rotation.probe(scratch, ctx):
            raise Refused(
                f"target {name} still accepts login {scratch.username!r}, which the admin {login.username!r}"
                " has just dropped."
            )
        detail = f"{login.username!r} created a scratch login, which authenticated, and dropped it"
        return Check(name=what, ok=True, detail=detail)

    def _rotation(self, name: str, target: Target, scratch: Credential) -> Rotation | None:
        """Return how a login is created there; None where nothing shows that."""
        example, login = self._example(name)
        info = self._info(name)
        known = [one.name for one in info.strategies if one.name in _CREATING]
        if not known:
            return None
        strategy, options = example or ("alternating-users", info.secret_options())
        fields = {one.name for one in dataclasses.fields(info.secret_options)}
        if "like" in fields and login is None:
            return None
        given: dict[str, Any] = {
            "users": (scratch.username, f"{scratch.username}_2"),
            "like": login,
        }
        try:
            options = replace(options, **{key: one for key, one in given.items() if key in fields})
            return target.rotation(strategy, options)
        except (UsageError, TypeError):
            return None

    def _example(self, target: str) -> tuple[tuple[str, Any] | None, str | None]:
        """Return the strategy and options of a secret whose logins are created there, and its login."""
        for secret in self.parts.settings.secrets.values():
            if secret.target != target or secret.name == self.secret:
                continue
            record = self.parts.journal.secret(secret.name)
            if secret.strategy in _CREATING and record is not None and record.login is not None:
                return (secret.strategy, secret.options), record.login
        return None, None

    def _info(self, name: str) -> PluginInfo:
        return plugins.rotation_plugin(self.parts.settings.targets[name].plugin).info


def _scratch(ctx: StepContext) -> tuple[Credential, StepContext]:
    """Return a login that only this rotation knows, and the context of the plugin calls for it."""
    digest = hashlib.sha256(ctx.rotation_id.encode()).hexdigest()[:_DIGITS]
    scratch = Credential(username=f"{SCRATCH}{digest}", password=ctx.new_password())
    return scratch, replace(ctx, current=None, adopted=frozenset(), end_sessions=True)
