"""Compares the logins of a target with the configuration and the journal, for `rotator discover` and the report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator import system
from rotator.bootstrap.orphans import Orphans
from rotator.core.contracts.plugin import ListsLogins
from rotator.core.errors import Busy, RotatorError, UsageError
from rotator.core.lease_chain import chain_of as lent_by
from rotator.core.target_logins import RECENT, LoginState, TargetLogins, chain_of
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.contracts.plugin import FoundLogin
    from rotator.core.history import SecretRecord

# Options of secrets that name an existing login, beside `users`.
_NAMING: Final = ("username", "group", "like")
# How long a record may take to be written.
_WRITING: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredLogin:
    """A login of a target. `secret`: whose it is. `hint`: what to do with an orphan.

    `password_set`: by the server, else by the journal.
    """

    found: FoundLogin
    state: LoginState
    secret: str | None = None
    password_set: datetime | None = None
    hint: str = ""


class Discovery:
    """Lists the logins of targets, and whose they are."""

    def __init__(self, parts: Wiring) -> None:
        self._parts: Wiring = parts
        self._orphans: Orphans = Orphans(parts)

    def logins(self, target: str) -> list[DiscoveredLogin]:
        """Return all logins of a target. Nothing is changed. Raises `UsageError` and `StepError`."""
        if target not in self._parts.settings.targets:
            raise UsageError(
                f"no target is called {target!r} in {self._parts.settings.file}.",
                hint=near(target, self._parts.settings.targets),
            )
        opened = self._parts.target(target)
        if not isinstance(opened, ListsLogins):
            plugin = self._parts.settings.targets[target].plugin
            raise UsageError(f"the plugin `{plugin}` cannot list the logins of a target.")
        records = {record.name: record for record in self._parts.journal.secrets()}
        found = opened.logins(self._parts.context_without_secret())
        admins = self._parts.admins(target)
        here = self._parts.same_server(target)
        named, served = self._named(here), self._served(here, records)
        accounted: dict[str, set[str] | None] = {}
        return [
            self._discovered(target, login, records, admins, named, served, accounted)
            for login in found
        ]

    def record(self, target: str, logins: Sequence[DiscoveredLogin]) -> None:
        """Record what a look at a target found, where it changed or the last record is a day old.

        While another process records the same target, nothing is written.
        """
        journal = self._parts.journal
        seen = TargetLogins.of((_name(one.found), one.state, one.found.can_login) for one in logins)
        with suppress(Busy):
            lock = journal.acquire(chain_of(target), system.holder(), _WRITING)
            try:
                if self._is_news(target, seen):
                    _ = journal.append(lock, [seen.event()], _WRITING)
            finally:
                journal.release(lock)

    def recorded_at(self, target: str) -> datetime | None:
        """Return when a look at a target was recorded last; None where none was."""
        newest = self._parts.journal.events(chain_of(target), 1)
        return newest[-1].at if newest else None

    def _is_news(self, target: str, seen: TargetLogins) -> bool:
        newest = self._parts.journal.events(chain_of(target), 1)
        if not newest or newest[-1].at <= self._parts.clock.now() - RECENT:
            return True
        return seen.differs(TargetLogins.from_event(newest[-1]))

    def _discovered(
        self,
        target: str,
        login: FoundLogin,
        records: Mapping[str, SecretRecord],
        admins: frozenset[str],
        named: Mapping[str, str],
        served: Mapping[str, str],
        accounted: dict[str, set[str] | None],
    ) -> DiscoveredLogin:
        secret = served.get(login.login)
        if secret is not None:
            record = records[secret]
            is_current = record.login == login.login
            return DiscoveredLogin(
                found=login,
                state=LoginState.MANAGED,
                secret=secret,
                password_set=login.password_set or (record.rotated_at if is_current else None),
            )
        owners = dict.fromkeys([*self._parts.settings.secrets, *records])
        lent = next((name for name in owners if login.is_of(lent_by(name))), None)
        if lent is not None:
            # The daemon drops those that no lease accounts for.
            return DiscoveredLogin(
                found=login,
                state=LoginState.MANAGED,
                secret=lent,
                password_set=login.password_set,
            )
        owner = next((name for name in owners if login.is_of(name)), None)
        if owner is not None:
            return self._marked(target, login, owner, records, accounted)
        state, secret, hint = LoginState.UNMANAGED, named.get(login.login), ""
        if login.is_marked:
            state = LoginState.ORPHAN
            hint = (
                "It bears the mark of a secret that this journal does not know. If no other installation"
                f" of rotator manages it and nothing uses it, on {target}: {login.remove}"
            )
        elif login.is_internal:
            state = LoginState.INTERNAL
        elif secret is not None:
            state = LoginState.CONFIGURED
        elif login.login in admins:
            state = LoginState.ADMIN
        return DiscoveredLogin(
            found=login,
            state=state,
            secret=secret,
            password_set=login.password_set,
            hint=hint,
        )

    def _marked(
        self,
        target: str,
        login: FoundLogin,
        owner: str,
        records: Mapping[str, SecretRecord],
        accounted: dict[str, set[str] | None],
    ) -> DiscoveredLogin:
        """Return a login that bears the mark of a secret that is known."""
        if owner not in accounted:
            accounted[owner] = self._orphans.accounted_for(owner)
        known, record = accounted[owner], records.get(owner)
        if login.can_login and known is not None and login.login not in known:
            return DiscoveredLogin(
                found=login,
                state=LoginState.ORPHAN,
                secret=owner,
                password_set=login.password_set,
                hint=f"If nothing uses it, on {target}: {login.remove}",
            )
        retired = record is not None and record.retired is not None
        return DiscoveredLogin(
            found=login,
            state=LoginState.UNMANAGED if retired else LoginState.MANAGED,
            secret=owner if not retired else None,
            password_set=login.password_set,
        )

    def _served(self, here: Collection[str], records: Mapping[str, SecretRecord]) -> dict[str, str]:
        """Return the managed secrets of these targets by their logins: served, or adopted with a pair."""
        served: dict[str, str] = {}
        for name, record in records.items():
            if record.version is None or record.retired is not None:
                continue
            if record.renamed_to is None and self._is_on(name, here):
                served |= {login: name for login in (*record.adopted, record.login) if login}
        return served

    def _named(self, here: Collection[str]) -> dict[str, str]:
        """Return the secrets of these targets by the logins that their options name."""
        named: dict[str, str] = {}
        for secret in self._parts.settings.secrets.values():
            if secret.target in here:
                options = secret.options
                logins = [getattr(options, name, None) for name in _NAMING]
                logins += getattr(options, "users", ())
                named |= {login: secret.name for login in logins if isinstance(login, str)}
        return named

    def _is_on(self, name: str, here: Collection[str]) -> bool:
        """Return whether a secret is rotated on one of these targets, which are of one server."""
        try:
            return self._parts.entry(name).target in here
        except RotatorError:
            return False


def _name(found: FoundLogin) -> str:
    return f"{found.login}@{found.host}" if found.host else found.login
