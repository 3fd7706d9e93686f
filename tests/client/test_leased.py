"""A credential whose logins are leases: the next one is taken in time, a refused one never tried again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rotator.client import Credential, DaemonError, Login, SourceError
from rotator.client.leases import LeasedCredential
from rotator.client.refusals import Refusal

HOUR = 3600.0


class Refusing(Exception):
    """What a driver raises when the server refuses the login."""


class Lender:
    """Issues leases of an hour, and can be away."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.released: list[str] = []
        self.away: DaemonError | None = None
        self.answer: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "the lender"

    def instance(self, number: int) -> str:
        return "web-1"

    def lease(self, path: str, asked: dict[str, Any]) -> Any:
        if self.away is not None:
            raise self.away
        if path == "/release":
            self.released.append(asked["lease"])
            return {"lease": asked["lease"], "state": "ended"}
        self.asked.append(dict(asked))
        number = len(self.asked)
        named = {
            "username": f"app_{number}",
            "password": "not-a-real-one",
            "fields": {"host": "db"},
        }
        times = {"ends_in": HOUR, "take_next_in": HOUR * 2 / 3}
        return {"lease": f"lease-{number}", **named, **times, **self.answer}


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leased(lender: Lender, clock: Clock) -> LeasedCredential:
    lends: Any = lender
    return LeasedCredential("app-db", lends, clock=clock, sleep=clock.sleep, reason="orders")


def _settle() -> None:
    """Wait for a read in the background."""
    for thread in threading.enumerate():
        if thread.name == "rotator-refresh":
            thread.join(10)


def _refusal_of(error: BaseException) -> Refusal | None:
    return Refusal.LOGIN if isinstance(error, Refusing) else None


def test_leased_asks_for_its_own_login(lender: Lender):
    lends: Any = lender
    made = Credential.leased("app-db", lends, ttl=1800, reason="orders")
    login = made.current()
    assert (login.username, login.version, dict(login.fields)) == (
        "app_1",
        "lease-1",
        {"host": "db"},
    )
    asked = {"secret": "app-db", "instance": "web-1", "ttl": 1800, "reason": "orders"}
    assert lender.asked == [asked]


def test_next_lease_is_taken_at_two_thirds_while_the_old_one_works(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    assert leased.current().username == "app_1"
    clock.now = HOUR * 2 / 3 * 0.89
    assert leased.current().username == "app_1"
    _settle()
    assert len(lender.asked) == 1
    clock.now = HOUR * 2 / 3
    # The old one, for one more time: nobody waits for the next.
    assert leased.current().username == "app_1"
    _settle()
    assert leased.current().username == "app_2"
    assert leased.is_outdated("lease-1")
    assert lender.released == []


def test_lease_stays_in_use_while_the_lender_is_away(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    _ = leased.current()
    lender.away = DaemonError("the lender is unreachable.")
    clock.now = HOUR * 0.7
    _ = leased.current()
    _settle()
    assert leased.current().username == "app_1"
    assert leased.health().is_stale
    lender.away = None
    clock.now += 30
    _ = leased.current()
    _settle()
    assert leased.current().username == "app_2"


def test_lease_that_has_ended_is_replaced_before_it_is_used(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    """As after a pause of the whole machine."""
    _ = leased.current()
    clock.now = HOUR + 1
    assert leased.current().username == "app_2"
    lender.away = DaemonError("the lender is unreachable.")
    clock.now += HOUR + 1
    assert leased.current().username == "app_2"


def test_refused_login_is_never_sent_again(leased: LeasedCredential, lender: Lender, clock: Clock):
    sent: list[str] = []

    def connect(login: Login) -> str:
        sent.append(login.username)
        if login.username == "app_1":
            raise Refusing
        return login.username

    assert leased.connect(connect, refusal_of=_refusal_of) == "app_2"
    assert leased.connect(connect, refusal_of=_refusal_of) == "app_2"
    assert sent == ["app_1", "app_2", "app_2"]
    assert lender.asked[1]["refused"] == ["lease-1"]


def test_server_that_refuses_every_login_costs_few_leases(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    sent: list[str] = []

    def connect(login: Login) -> str:
        sent.append(login.username)
        raise Refusing

    while clock.now < 600:
        with pytest.raises(Exception, match=r"refused|^$"):
            leased.connect(connect, refusal_of=_refusal_of)
        clock.now += 1
    assert len(sent) == len(set(sent))
    assert len(lender.asked) <= 20


def test_lease_that_was_revoked_is_refused_and_nobody_else_is_asked(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    """While the lender is away, the refused login is not tried, and the application is told why."""
    sent: list[str] = []

    def connect(login: Login) -> str:
        sent.append(login.username)
        raise Refusing

    _ = leased.current()
    lender.away = DaemonError("the lender is unreachable.")
    for _ in range(3):
        with pytest.raises(Exception, match=r"refused|^$"):
            leased.connect(connect, refusal_of=_refusal_of)
    assert sent == ["app_1"]


def test_close_ends_the_leases_that_are_left(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    _ = leased.current()
    clock.now = HOUR * 0.7
    _ = leased.refresh()
    leased.close()
    assert lender.released == ["lease-1", "lease-2"]
    with pytest.raises(SourceError, match="closed"):
        leased.refresh()


def test_close_does_not_ask_about_a_lease_that_has_ended(
    leased: LeasedCredential, lender: Lender, clock: Clock
):
    _ = leased.current()
    clock.now = HOUR + 1
    leased.close()
    assert lender.released == []


def test_lease_that_comes_after_close_is_ended(leased: LeasedCredential, lender: Lender):
    issue = lender.lease

    def slow(path: str, asked: dict[str, Any]) -> Any:
        answer = issue(path, asked)
        if not path:
            leased.close()
        return answer

    lender.lease = slow
    with pytest.raises(SourceError, match="closed"):
        leased.current()
    assert lender.released == ["lease-1"]


def test_close_survives_a_lender_that_is_away(leased: LeasedCredential, lender: Lender):
    _ = leased.current()
    lender.away = DaemonError("the lender is unreachable.")
    leased.close()


def test_forked_process_leaves_the_leases_of_its_parent(leased: LeasedCredential, lender: Lender):
    _ = leased.current()
    leased._start_anew()
    leased.close()
    assert lender.released == []


def test_error_of_the_lender_is_told_with_its_remedy(leased: LeasedCredential, lender: Lender):
    told = {"error": "all 2 leases are taken.", "hint": "See who holds them."}
    lender.away = DaemonError("the lender failed (HTTP status 422).", 422, told)
    with pytest.raises(SourceError, match=r"all 2 leases are taken\. See who holds them"):
        leased.current()


@pytest.mark.parametrize(
    "damaged",
    [
        {"lease": None},
        {"ends_in": "soon"},
        {"take_next_in": None},
        {"username": 7},
        {"password": None},
    ],
)
def test_damaged_answer_is_an_error_without_its_values(
    leased: LeasedCredential, lender: Lender, damaged: dict[str, Any]
):
    lender.answer = damaged
    with pytest.raises(SourceError) as raised:
        leased.current()
    assert "not-a-real-one" not in str(raised.value)
