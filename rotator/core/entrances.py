"""What containment shares: three passwords at each address, all nodes at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from rotator.core.contracts.rotation import Entrance
from rotator.core.errors import Denied, StepError, Transient
from rotator.core.model import Credential
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.core.contracts.rotation import StepContext

N = TypeVar("N")
T = TypeVar("T")

# For all addresses together: an unreachable one must not hold up the proof for the others.
_SECONDS: Final = 5.0
_MOST_THREADS: Final = 32
_BYTES: Final = 32
_MAY_LOCK: Final = "a failed login could lock the account, so rotator tried only the current one"
_FORGOTTEN: Final = "the leaked password is no longer known"
_NO_CURRENT: Final = "no current password is known"


def password_of_nobody(ctx: StepContext) -> Secret:
    """Return a random password that rotator stores nowhere."""
    return Secret(ctx.entropy.token(_BYTES).hex())


def on_each_node(nodes: Sequence[N], act: Callable[[N], T]) -> list[T | StepError]:
    """Act on all nodes of a target at the same time; return each one's result, or its error."""

    def caught(node: N) -> T | StepError:
        try:
            return act(node)
        except StepError as error:
            return error

    if len(nodes) <= 1:
        return [caught(node) for node in nodes]
    with ThreadPoolExecutor(min(_MOST_THREADS, len(nodes))) as pool:
        return list(pool.map(caught, nodes))


def own_login(where: str, target: str, name: str) -> Denied:
    """Return why the login that rotator works with on a target is not fenced."""
    return Denied(
        f"{where}: {name!r} is the login that rotator works with there, so rotator cannot"
        " replace its password by one that nobody knows.",
        hint=f"Set `admin` of target {target!r} to another login first, or rotate this one.",
        safety="Nothing was changed.",
    )


def try_entrances(
    addresses: Sequence[str],
    attempt: Callable[[str, Credential, StepContext], bool],
    leaked: Credential,
    current: Credential | None,
    ctx: StepContext,
    *,
    may_lock: bool = False,
) -> list[Entrance]:
    """Try the current password, a random one and the leaked one at each address.

    `attempt(address, credential, ctx)` logs in once and returns whether the address accepts the credential.
    Where it raises `StepError`, the answer is unknown, and the error is the reason. `may_lock`: a failed
    login could lock the account, so only the current password is tried. Takes at most 5 seconds for all
    addresses together.
    """
    ctx.require_time()
    seconds = min(_SECONDS, ctx.seconds_left())
    within = replace(ctx, deadline=ctx.clock.monotonic() + seconds)
    # A login that is gone is rejected also where no password is asked for.
    wrong = replace(current or leaked, password=password_of_nobody(ctx))
    tries = [
        _Tries(address=address, attempt=attempt, ctx=within, ends=time.monotonic() + seconds)
        for address in dict.fromkeys(addresses)
    ]
    pool = ThreadPoolExecutor(max_workers=min(_MOST_THREADS, max(1, len(tries))))
    try:
        running = {
            place.address: pool.submit(place.run, leaked, wrong, current, may_lock=may_lock)
            for place in tries
        }
        _ = wait(running.values(), timeout=seconds)
    finally:
        # Each attempt ends at its own deadline.
        pool.shutdown(wait=False, cancel_futures=True)
    late = f"it did not answer within {seconds:.0f} seconds"
    return [
        future.result()
        if future.done() and not future.cancelled()
        else Entrance(address=address, why=late)
        for address, future in running.items()
    ]


@dataclass(slots=True, kw_only=True)
class _Tries:
    """The tries at one address."""

    address: str
    attempt: Callable[[str, Credential, StepContext], bool]
    ctx: StepContext
    ends: float
    reasons: dict[str, None] = field(default_factory=dict[str, None])
    silent: bool = False

    def run(
        self, leaked: Credential, wrong: Credential, current: Credential | None, *, may_lock: bool
    ) -> Entrance:
        accepts_current = self._try(current) if current is not None else None
        accepts_wrong = accepts_leaked = None
        if current is None:
            self.reasons[_NO_CURRENT] = None
        if may_lock:
            self.reasons[_MAY_LOCK] = None
        else:
            accepts_wrong = self._try(wrong)
            if not leaked.password.reveal():
                self.reasons[_FORGOTTEN] = None
            elif current is not None and _same(leaked, current):
                accepts_leaked = accepts_current
            else:
                accepts_leaked = self._try(leaked)
        return Entrance(
            address=self.address,
            current=accepts_current,
            wrong=accepts_wrong,
            leaked=accepts_leaked,
            why="; ".join(self.reasons),
        )

    def _try(self, credential: Credential) -> bool | None:
        if self.silent:
            return None
        if time.monotonic() >= self.ends:
            self.reasons["the time for all tries was up"] = None
            return None
        try:
            return self.attempt(self.address, credential, self.ctx)
        except StepError as error:
            self.reasons[error.what.rstrip(".")] = None
            # What does not answer now is not asked again.
            self.silent = isinstance(error, Transient)
            return None


def _same(leaked: Credential, current: Credential) -> bool:
    return (leaked.username, leaked.password) == (current.username, current.password)
