"""A system that rotates its own secrets, in memory: it draws, sets on a target, keeps and serves.

Setting and keeping are two effects, as they are in a database secrets engine: one that dies between
them serves a password that the target does not take, and cannot tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.delegated import DelegatedBackend, DelegatedRotation
from rotator.core.errors import Refused
from rotator.core.model import Check, Credential, Evidence, Version
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.rotation import StepContext

_LOGIN: Final = "app"


class FakeEngine(DelegatedBackend):
    """One login. `rotations` counts how often its password was changed, by whomever."""

    def __init__(self) -> None:
        """Both sides agree."""
        self.rotations: int = 0
        self.set: str = "password-0"
        self.kept: tuple[int, str] = (0, "password-0")
        self.refuse_next: int = 0
        self.tap: Callable[[str, Callable[[], None]], None] = lambda _what, effect: effect()

    def current(self, path: str) -> Version | None:
        """Return what is kept."""
        _ = path
        number, password = self.kept
        credential = Credential(username=_LOGIN, password=Secret(password))
        return Version(id=str(number), credential=credential)

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Rotate, unless that has happened."""
        _ = path, rotation_id
        if str(self.kept[0]) == expect:
            self.rotate()
        return str(self.kept[0])

    def rotate(self) -> None:
        """Draw, set, keep."""
        self.rotations += 1
        password = f"password-{self.rotations}"
        self.tap("set", lambda: self._set(password))
        self.tap("keep", lambda: self._keep(password))

    def lose(self) -> None:
        """Set a password that is kept nowhere."""
        self.set = "nobody-has-written-it-down"

    def accepts(self, credential: Credential) -> bool:
        """Return whether the target lets this in."""
        return (credential.username, credential.password.reveal()) == (_LOGIN, self.set)

    def _set(self, password: str) -> None:
        self.set = password
        if self.refuse_next:
            # Two rotations at once, of which the other one won on the target.
            self.refuse_next -= 1
            self.lose()

    def _keep(self, password: str) -> None:
        self.kept = (self.rotations, password)


class FakeDelegatedRotation(DelegatedRotation):
    """Tries what the fake serves."""

    def __init__(self, engine: FakeEngine) -> None:
        """`engine`: whose target it is tried on."""
        self._engine: FakeEngine = engine

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in."""
        if not self.probe(new, ctx):
            raise Refused(f"login {new.username!r} is not let in.")
        return Evidence(checks=(Check(name="logs in", ok=True),))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once."""
        _ = ctx
        return self._engine.accepts(credential)
