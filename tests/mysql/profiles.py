"""Accounts with everything that an account can have, drawn at random, and rotations of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator import world
from rotator.api import Credential, Secret
from rotator.testing.fakes import ListLog, step_context
from tests.mysql import oracle

if TYPE_CHECKING:
    from rotator.api import Finding, StepContext, Target
    from rotator.testing.mysql_like import MySqlLikeServer
    from tests.mysql.dialects import Dialect

FIRST: Final = "There-before-us-1"
_rotations = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class Ground:
    """One application's account on a server, and the plugin to rotate it with, without an engine."""

    server: MySqlLikeServer
    dialect: Dialect
    name: str
    admin: Credential | None = None
    log: ListLog = field(default_factory=ListLog)
    _targets: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make what accounts can have rights on."""
        if self.admin is None:
            self.admin = Credential(username="root", password=Secret(self.server.root_password))
        library = (
            "SET GLOBAL partial_revokes = ON",
            "CREATE LIBRARY IF NOT EXISTS shop.lib LANGUAGE JAVASCRIPT AS 'export function f() {}'",
        )
        self.server.run(
            "CREATE DATABASE IF NOT EXISTS shop",
            "CREATE TABLE IF NOT EXISTS shop.orders (id int, secret int)",
            "CREATE ROLE IF NOT EXISTS reader, writer",
            "GRANT SELECT ON shop.* TO reader",
            "GRANT UPDATE ON shop.* TO writer",
            "CREATE USER IF NOT EXISTS carol@'%', dave@'%', bystander@'%'",
            "CREATE PROCEDURE IF NOT EXISTS shop.proc() SELECT 1",
            "CREATE FUNCTION IF NOT EXISTS shop.func() RETURNS int DETERMINISTIC RETURN 1",
            # As root@localhost has it from the first.
            "REPLACE INTO mysql.proxies_priv VALUES ('127.0.0.1', 'root', '', '', 1, '', now())",
            "FLUSH PRIVILEGES",
            *(library if self.server.product == "MySQL" else ()),
        )

    @property
    def other(self) -> str:
        """The name of the login that waits, of a pair."""
        return f"{self.name}_b"

    @property
    def current(self) -> Credential:
        """What is served before the first rotation."""
        return Credential(username=self.name, password=Secret(FIRST))

    def run(self, *statements: str, login: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements as root, with `{0}` for the account."""
        account = f"`{login or self.name}`@'%'"
        word = self.dialect.default_role_for
        made = (one.replace("{for}", word).replace("{first}", FIRST) for one in statements)
        return self.server.run("DO 1", *(one.replace("{0}", account) for one in made))

    def profile(self, login: str) -> dict[str, list[str]]:
        """Return all that the server keeps of an account, by the oracle."""
        return oracle.profile(self.server, login)

    def context(self, current: Credential) -> StepContext:
        """Return what a step of a rotation of its own is told."""
        return step_context(
            secret=self.name,
            rotation_id=f"{self.name} {next(_rotations)}",
            current=current,
            adopted=frozenset({self.name, self.other}),
            log=self.log,
            entropy=world.SystemEntropy(),
            clock=world.SystemClock(),
        )

    def examined(self, strategy: str) -> list[Finding]:
        """Return what `doctor` finds."""
        return self.rotation(strategy).examine(self.current, self.context(self.current))

    def rotation(self, strategy: str, *, prefix: str | None = None, **target: Any) -> Any:
        """Return the plugin's rotation of this account."""
        admin = self.admin
        assert admin is not None
        place: dict[str, Any] = {"host": self.server.host, "port": self.server.port, **target}
        opened = PLUGIN.target("t", TargetOptions(**place), lambda: admin)
        self._targets.append(opened)
        options = SecretOptions(
            username=self.name, users=(self.name, self.other), prefix=prefix or self.name
        )
        return opened.rotation(strategy, options)

    def rotate(self, strategy: str, current: Credential, **target: Any) -> Credential:
        """Replace a credential by the next; the old one is revoked."""
        rotation = self.rotation(strategy, **target)
        ctx = self.context(current)
        new = rotation.propose(current, ctx)
        rotation.create(new, ctx)
        assert rotation.verify(new, ctx).ok
        ctx = replace(ctx, current=new)
        rotation.revoke(current, ctx)
        assert rotation.probe(new, ctx)
        assert not rotation.probe(current, ctx)
        return new

    def end(self) -> None:
        """Drop its accounts."""
        for target in self._targets:
            target.close()
        names = self.dialect.accounts(self.server, self.name)
        if names:
            accounts = ", ".join(f"`{one}`@'%'" for one in names)
            self.server.run(f"DROP USER IF EXISTS {accounts}")
