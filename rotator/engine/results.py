"""The results of calls to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final, final

from rotator.core.errors import UsageError
from rotator.core.model import UNEXPLAINED

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.errors import RotatorError
    from rotator.core.model import Outcome, Planned, Rejection, Step
    from rotator.core.secret import Secret

# Why a call that was asked to stop returns: `Result.waiting`.
STOPPED: Final = "it was stopped between two steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How far one call to the engine got with one secret.

    `outcome` None: the rotation is open and goes on at `until`, for the reason in `waiting`.
    `old_refused` True: a login with the old credential was tried after revoke and was refused.
    `untried`: why it was not tried. `by`: the backend, where it rotates the secret by itself and was
    asked to. `answered`, `worked`: the hosts (`target NAME`, `backend NAME`) that this call has
    reached, and those where it has written. `stopped`: the caller asked the call to stop, so it ended
    between two steps.
    """

    secret: str
    rotation_id: str | None = None
    outcome: Outcome | None = None
    until: datetime | None = None
    waiting: str = ""
    step: Step | None = None
    login: str | None = None
    old_login: str | None = None
    version: str | None = None
    published: bool = False
    old_refused: bool | None = None
    parked: bool = False
    resumed: bool = False
    rolling_back: bool = False
    stopped: bool = False
    untried: str = ""
    by: str = ""
    answered: frozenset[str] = frozenset()
    worked: frozenset[str] = frozenset()
    error: RotatorError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rotation of a secret would do, in order. Nothing in it is secret."""

    secret: str
    login: str | None
    steps: tuple[Planned, ...]
    open_rotation: str | None = None
    next_due: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether what the backend serves logs in now, and whether the journal knows it.

    `stale`: the copies that hold something else, or nothing. `rejection`: why it does not log in.
    `second`: the other login of a pair, where this call adopted it too. `incident`: the one in which its
    password leaked, where this call adopted a password that had.
    """

    secret: str
    login: str | None
    version: str | None
    accepted: bool
    known: bool
    recorded: bool
    stale: tuple[str, ...] = ()
    rejection: Rejection = UNEXPLAINED
    answered: frozenset[str] = frozenset()
    second: str | None = None
    incident: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """How the second login of a pair is handed over: by its password, or on an operator's word.

    With neither, what the backend served before is tried.
    """

    password: Secret | None = None
    take_over: str | None = None


@final
class UnprovenSecond(UsageError):
    """The second login of a pair exists, and nobody has shown that it may be taken over."""

    def __init__(self, secret: str, login: str) -> None:
        super().__init__(
            f"its second login {login!r} exists on the target and rotator neither made nor adopted it.",
            safety="Nothing was changed.",
            hint=f"Adopt both: rotator adopt {secret} --pair (it asks for the password of {login!r};"
            " --second-password-from names where it is)."
            f" Where nobody knows it: rotator adopt {secret} --take-over {quote(login)} --reason 'WHY'",
        )
        self.secret: str | None = secret
        self.login: str = login
