"""Three passwords are tried at each address, and what is unknown keeps its reason."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rotator.api import Credential, Entrance, Secret, Transient, password_of_nobody, try_entrances
from rotator.core import entrances
from rotator.core.errors import Denied
from rotator.system import SystemClock, SystemEntropy
from rotator.testing.fakes import step_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import StepContext

_LEAKED = Credential(username="app", password=Secret("leaked-4c1f"))
_CURRENT = Credential(username="app", password=Secret("current-9e2a"))


class Addresses:
    """Addresses with the passwords that each accepts; it counts the attempts."""

    def __init__(self, **accepted: set[str] | Exception) -> None:
        self.accepted = accepted
        self.tried: list[tuple[str, str]] = []

    def attempt(self, address: str, credential: Credential, ctx: StepContext) -> bool:
        ctx.require_time()
        password = credential.password.reveal()
        self.tried.append((address, password))
        answer = self.accepted[address]
        if isinstance(answer, Exception):
            raise answer
        return password in answer or "any" in answer


def _ctx(seconds: float = 30.0) -> StepContext:
    return step_context(clock=SystemClock(), entropy=SystemEntropy(), timeout=seconds)


def _tried(
    attempt: Callable[[str, Credential, StepContext], bool],
    *addresses: str,
    leaked: Credential = _LEAKED,
    current: Credential | None = _CURRENT,
    may_lock: bool = False,
) -> list[Entrance]:
    return try_entrances(addresses, attempt, leaked, current, _ctx(), may_lock=may_lock)


def test_each_address_has_its_own_answers():
    """In the order of the addresses, each once."""
    places = Addresses(primary={"current-9e2a"}, pooler={"leaked-4c1f"}, open={"any"})
    assert _tried(places.attempt, "primary", "pooler", "open", "primary") == [
        Entrance(address="primary", current=True, wrong=False, leaked=False),
        Entrance(address="pooler", current=False, wrong=False, leaked=True),
        Entrance(address="open", current=True, wrong=True, leaked=True),
    ]
    assert len(places.tried) == 9


def test_the_password_of_nobody_is_tried_with_a_login_that_exists():
    """One that is gone is rejected also where no password is asked for."""
    gone, served = Credential(username="app_1", password=Secret("leaked-4c1f")), _CURRENT

    def trusts(_address: str, credential: Credential, _ctx: StepContext) -> bool:
        return credential.username == served.username

    (place,) = _tried(trusts, "primary", leaked=gone, current=served)
    assert place == Entrance(address="primary", current=True, wrong=True, leaked=False)


def test_what_is_unreachable_is_tried_once_and_keeps_its_reason():
    """The other addresses are tried all the same."""
    places = Addresses(primary={"current-9e2a"}, replica=Transient("it is unreachable."))
    primary, replica = _tried(places.attempt, "primary", "replica")
    assert primary.leaked is False
    assert replica == Entrance(address="replica", why="it is unreachable")
    assert [address for address, _ in places.tried].count("replica") == 1


def test_what_cannot_be_known_is_tried_with_each_password():
    """The reason appears once."""
    places = Addresses(primary=Denied("the database does not exist."))
    (primary,) = _tried(places.attempt, "primary")
    assert primary == Entrance(address="primary", why="the database does not exist")
    assert len(places.tried) == 3


def test_a_login_that_could_lock_gets_no_wrong_password():
    """Only the current one is tried."""
    places = Addresses(primary={"current-9e2a"})
    (primary,) = _tried(places.attempt, "primary", may_lock=True)
    assert (primary.current, primary.wrong, primary.leaked) == (True, None, None)
    assert "could lock the account" in primary.why
    assert [password for _, password in places.tried] == ["current-9e2a"]


def test_a_password_that_is_no_longer_known_is_not_tried():
    """And neither is a current one that does not exist."""
    places = Addresses(primary={"current-9e2a"})
    forgotten = Credential(username="app", password=Secret(""))
    (primary,) = _tried(places.attempt, "primary", leaked=forgotten, current=None)
    assert (primary.current, primary.wrong, primary.leaked) == (None, False, None)
    assert "no longer known" in primary.why
    assert "no current password" in primary.why


def test_a_leaked_password_that_is_served_is_tried_once():
    """One failed login fewer."""
    places = Addresses(primary={"leaked-4c1f"})
    (primary,) = _tried(places.attempt, "primary", current=_LEAKED)
    assert (primary.current, primary.wrong, primary.leaked) == (True, False, True)
    assert len(places.tried) == 2


def test_an_address_that_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch):
    """All together take a limited time."""
    monkeypatch.setattr(entrances, "_SECONDS", 0.3)
    places = Addresses(primary={"current-9e2a"})

    def attempt(address: str, credential: Credential, ctx: StepContext) -> bool:
        if address == "silent":
            time.sleep(1.0)
        return places.attempt(address, credential, ctx)

    begun = time.monotonic()
    silent, primary = _tried(attempt, "silent", "primary")
    assert time.monotonic() - begun < 0.9
    assert (silent.leaked, primary.leaked) == (None, False)
    assert "did not answer" in silent.why


def test_without_time_nothing_is_tried():
    """Another engine may be at work."""
    places = Addresses(primary={"current-9e2a"})
    with pytest.raises(Transient, match="time was up"):
        _ = try_entrances(["primary"], places.attempt, _LEAKED, _CURRENT, _ctx(0.0))
    assert places.tried == []


def test_each_password_of_nobody_is_another():
    """Long enough that nobody guesses it."""
    ctx = _ctx()
    drawn = {password_of_nobody(ctx).reveal() for _ in range(100)}
    assert len(drawn) == 100
    assert min(map(len, drawn)) >= 32
