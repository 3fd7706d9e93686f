"""A server with logins, in memory: it refuses what a real one refuses and tells on what nobody may do.

`rotator.testing.fake_rotations` are the plugins for it, one for each strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from rotator.core.errors import Conflict, Denied, Refused
from rotator.core.identifiers import POSTGRESQL_NAME_BYTES
from rotator.core.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.rotation import StepContext

# As MySQL: a primary and a secondary one.
_MOST_PASSWORDS: Final = 2
# As AWS: an old key and a new one.
MOST_KEYS: Final = 2
# What a fence sets: nobody logs in with it.
_NOBODY_KNOWS: Final = "\0nobody knows it"
_ADDRESS: Final = "127.0.0.1:1"


@dataclass(slots=True)
class Account:
    """A login. `passwords` newest first; `owner` is the mark: the secret that made it, if any.

    `began`: the moment at which each open session began.
    """

    passwords: list[str] = field(default_factory=list[str])
    owner: str | None = None
    can_login: bool = True
    began: list[int] = field(default_factory=list[int])

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self.began)


@dataclass(slots=True)
class FakeAddress:
    """One more address of a `FakeTarget`, such as a replica or a pooler.

    `trusts`: it accepts any password of a login that exists. `kept`: passwords that it accepts although the
    target no longer does. `away`: nobody reaches it.
    """

    trusts: bool = False
    kept: set[str] = field(default_factory=set[str])
    away: bool = False


class FakeTarget:
    """Logins in memory. `stored` tells whether a password can be read in the backend right now.

    Each statement is one effect and goes through `tap`, so a crash harness can die before and
    after it. What breaks a promise is done all the same, as a server would, and remembered in
    `violations`.
    """

    def __init__(self, stored: Callable[[str], bool]) -> None:
        self._stored: Callable[[str], bool] = stored
        self.accounts: dict[str, Account] = {}
        self.violations: list[str] = []
        self.refuse_next: int = 0
        self.addresses: dict[str, FakeAddress] = {_ADDRESS: FakeAddress()}
        self._now: int = 0
        self._drawn: int = 0
        self.tap: Callable[[str, Callable[[], None]], None] = _straight

    # -- looking -------------------------------------------------------------------------------

    def accepts(self, name: str, password: str) -> bool:
        """Return whether this login and password get in."""
        account = self.accounts.get(name)
        return (
            account is not None
            and account.can_login
            and password != _NOBODY_KNOWS
            and password in account.passwords
        )

    def moment(self) -> int:
        """Return now, as the target counts: no other session began at it."""
        self._now += 1
        return self._now

    def accepts_at(self, address: str, name: str, password: str) -> bool | None:
        """Return whether this address accepts the login and password; None where nobody reaches it."""
        at = self.addresses[address]
        if at.away:
            return None
        if (at.trusts and name in self.accounts) or password in at.kept:
            return True
        return self.accepts(name, password)

    def usable(self) -> set[str]:
        """Return the logins that some password could get into."""
        return {name for name, one in self.accounts.items() if one.can_login and one.passwords}

    def state(self) -> object:
        """Return everything there is, to be compared with what there was."""
        return {
            name: (tuple(one.passwords), one.owner, one.can_login, one.sessions)
            for name, one in self.accounts.items()
        }

    def sessions(self, name: str) -> list[Session]:
        """Return the open sessions of a login."""
        account = self.accounts.get(name)
        return [
            Session(login=name, client=f"127.0.0.1:{number}", application="app")
            for number in range(account.sessions if account else 0)
        ]

    def is_ours(self, name: str, ctx: StepContext) -> bool:
        """Return whether a login is marked as the secret's, or was handed over to it."""
        return self.accounts[name].owner in ctx.names or name in ctx.adopted

    # -- statements ----------------------------------------------------------------------------

    def create_login(self, name: str, password: str, ctx: StepContext) -> None:
        """Make a login that is marked as the secret's."""
        if name in self.accounts:
            raise Conflict(f"login {name!r} exists already.")
        if not name or len(name.encode()) > POSTGRESQL_NAME_BYTES:
            raise Refused(f"{name!r} is not a name for a login.")
        self._check_password(name, password)
        self.tap(
            "create login",
            lambda: self.accounts.update({name: Account(passwords=[password], owner=ctx.secret)}),
        )

    def keys(self, ctx: StepContext) -> list[str]:
        """Return the keys of the secret."""
        return [name for name in self.accounts if self.is_ours(name, ctx)]

    def draw_key(self, ctx: StepContext) -> tuple[str, str]:
        """Draw a key that is marked as the secret's; return its id and its value, which is shown only here."""
        if len(self.keys(ctx)) >= MOST_KEYS:
            raise Denied(f"there are {MOST_KEYS} keys already.", hint="End one that is not needed.")
        if self.refuse_next:
            self.refuse_next -= 1
            raise Refused("the server draws no key now.")
        self._drawn += 1
        name, value = f"key{self._drawn}", sha256(f"{id(self)} {self._drawn}".encode()).hexdigest()
        self.tap(
            "draw key",
            lambda: self.accounts.update({name: Account(passwords=[value], owner=ctx.secret)}),
        )
        return name, value

    def set_password(
        self, name: str, password: str, ctx: StepContext, *, retain: bool = False
    ) -> None:
        """Replace the newest password; `retain` keeps the one it replaces, and forgets older ones."""
        account = self._to_change(name, ctx)
        self._check_password(name, password)
        kept = account.passwords[:1] if retain else account.passwords[1:]

        def effect() -> None:
            account.passwords = [password, *kept][:_MOST_PASSWORDS]
            account.can_login = True

        self.tap("set password", effect)

    def discard_old_password(self, name: str, ctx: StepContext) -> None:
        """Forget every password but the newest."""
        account = self._to_change(name, ctx)

        def effect() -> None:
            account.passwords = account.passwords[:1]

        self.tap("discard old password", effect)

    def disable(self, name: str, ctx: StepContext) -> None:
        """Let no new session in. Open ones stay."""
        account = self._to_change(name, ctx)

        def effect() -> None:
            account.can_login = False
            account.passwords = []

        self.tap("disable login", effect)

    def fence(self, name: str, ctx: StepContext) -> None:
        """Replace every password by one that nobody knows. Open sessions stay."""
        account = self._to_change(name, ctx)

        def effect() -> None:
            account.passwords = [_NOBODY_KNOWS]

        self.tap("fence login", effect)

    def drop(self, name: str, ctx: StepContext) -> None:
        """Remove a login."""
        if self._to_change(name, ctx).sessions:
            self.violations.append(f"P5: login {name!r} was dropped under its open sessions.")
        self.tap("drop login", lambda: _ignore(self.accounts.pop(name)))

    def end_sessions(self, name: str, ctx: StepContext) -> None:
        """Terminate the open sessions of a login."""
        account = self._to_change(name, ctx)
        if account.sessions and not ctx.end_sessions:
            self.violations.append(f"P5: sessions of {name!r} were ended without being told to.")

        self.tap("end sessions", account.began.clear)

    def end_sessions_before(self, name: str, moment: int, ctx: StepContext) -> None:
        """Terminate the sessions of a login that began before a moment."""
        account = self._to_change(name, ctx)

        def effect() -> None:
            account.began = [start for start in account.began if start >= moment]

        self.tap("end earlier sessions", effect)

    # -- what the application does --------------------------------------------------------------

    def open_session(self, name: str) -> None:
        """Let the application hold one more session."""
        self.accounts[name].began.append(self.moment())

    def close_sessions(self) -> None:
        """Let the application close all its sessions."""
        for account in self.accounts.values():
            account.began.clear()

    def _to_change(self, name: str, ctx: StepContext) -> Account:
        if name not in self.accounts:
            raise Refused(f"there is no login {name!r}.")
        if not self.is_ours(name, ctx):
            self.violations.append(f"P9: login {name!r} is not ours and was changed.")
        return self.accounts[name]

    def _check_password(self, name: str, password: str) -> None:
        if not password:
            raise Refused("the password is empty.")
        if self.refuse_next:
            self.refuse_next -= 1
            raise Refused("the password does not satisfy the server's rules.")
        if not self._stored(password):
            self.violations.append(
                f"P2: a password was set for {name!r} that the backend does not hold."
            )


def _straight(_what: str, effect: Callable[[], None]) -> None:
    effect()


def _ignore(_result: object) -> None:
    """Take a result that nobody needs, so that a lambda returns None."""
