"""Logins with candidates: how many, in which order, and what an answer proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import pytest

from rotator.core.secret import Secret
from rotator.find.login_attempts import (
    Answer,
    LoginAttempts,
    Means,
    Outcome,
    Place,
    Unanswered,
    Verdict,
)
from rotator.find.model import Account, Candidate, Match

_LATER: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class FakeServer:
    """A server. `trusted`: logins for which any password is accepted; "*" for all."""

    passwords: dict[str, str] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()
    locking: frozenset[str] = frozenset()
    away: bool = False
    databases: frozenset[str | None] = frozenset({None, "shop"})
    name: str = "target main"
    address: str = "db:5432"
    logins: list[tuple[str, str]] = field(default_factory=list)

    def attempt(self, login: str, password: Secret, database: str | None) -> Answer:
        self.logins.append((login, password.reveal()))
        if self.away:
            raise Unanswered("no answer", is_away=True)
        if {login, "*"}.isdisjoint(self.trusted) and self.passwords.get(login) != password.reveal():
            return Answer.REJECTED
        return Answer.ACCEPTED if database in self.databases else Answer.WITHOUT_DATABASE

    def may_lock(self, login: str) -> bool:
        return login in self.locking

    def refused(self, login: str) -> int:
        return sum(name == login and self.passwords.get(name) != one for name, one in self.logins)


@dataclass(slots=True)
class FakePlaces:
    """All candidates belong to one server."""

    server: FakeServer

    def of(self, candidate: Candidate) -> Place | str:
        account = candidate.match.account
        if account.login is None:
            return "no login"
        return Place(server=self.server, login=account.login, database=account.database)


class FakeMemory:
    """Accounts that have had a refused login."""

    def __init__(self) -> None:
        self.accounts: set[str] = set()

    def until(self, account: str) -> datetime | None:
        return _LATER if account in self.accounts else None

    def expect(self, account: str) -> None:
        self.accounts.add(account)

    def clear(self, account: str) -> None:
        self.accounts.discard(account)


def candidate(
    password: str,
    login: str | None = "shop",
    database: str | None = "shop",
    known: str | None = None,
) -> Candidate:
    match = Match(
        start=0, end=0, value=Secret(password), role="", name="password",
        account=Account(login=login, hosts=("db",), database=database),
    )  # fmt: skip
    return Candidate(file="a.env", line=1, column=1, match=match, known=known)


def tried(
    server: FakeServer, *candidates: Candidate, memory: FakeMemory | None = None
) -> list[Outcome]:
    means = Means(
        places=FakePlaces(server),
        refused=memory or FakeMemory(),
        unknown_login=lambda: "nobody_1",
        wrong_password=lambda: Secret("wrong-by-chance"),
        record=lambda _server, _login, _answer: None,
    )
    return LoginAttempts(means, candidates).outcomes()


@pytest.mark.parametrize(
    ("server", "verdict"),
    [
        (FakeServer({"shop": "right-1"}), "valid"),
        (FakeServer({"shop": "other-1"}), "refused"),
        (FakeServer(), "refused"),
        (FakeServer({"shop": "right-1"}, databases=frozenset({None})), "valid-elsewhere"),
        (FakeServer({"shop": "right-1"}, trusted=frozenset({"*"})), "not-tried"),
        (FakeServer({"shop": "right-1"}, trusted=frozenset({"shop"})), "not-tried"),
        (FakeServer({"shop": "right-1"}, locking=frozenset({"shop"})), "would-lock"),
        (FakeServer({"shop": "right-1"}, away=True), "unreachable"),
    ],
    ids=["valid", "changed", "missing", "database", "trust", "trust of one", "locks", "away"],
)
def test_verdict(server: FakeServer, verdict: str):
    """A password is valid only where a wrong one is refused for the same login."""
    (outcome,) = tried(server, candidate("right-1"))
    assert outcome.verdict == verdict
    assert server.refused("shop") <= (0 if server.trusted == {"*"} else 1)


def test_a_server_that_accepts_anybody_sees_no_real_login():
    """The first login is one that does not exist."""
    server = FakeServer({"shop": "right-1"}, trusted=frozenset({"*"}))
    tried(server, candidate("right-1"))
    assert [login for login, _ in server.logins] == ["nobody_1"]


def test_an_unreachable_server_is_counted_once():
    """Its other candidates are not tried."""
    server = FakeServer(away=True)
    outcomes = tried(server, candidate("a-1"), candidate("b-1", "web"), candidate("c-1", "app"))
    assert {one.verdict for one in outcomes} == {Verdict.UNREACHABLE}
    assert len(server.logins) == 1


def test_the_same_password_is_tried_once():
    """However often it is written down."""
    server = FakeServer({"shop": "right-1"})
    outcomes = tried(server, *(candidate("right-1") for _ in range(5)))
    assert [one.verdict for one in outcomes] == ["valid"] * 5
    assert server.logins.count(("shop", "right-1")) == 1


def test_an_account_has_one_refused_login_in_a_run():
    """A refused password proves that passwords are checked; the others of the account are not tried."""
    server = FakeServer({"shop": "right-1"})
    outcomes = tried(server, candidate("right-1"), candidate("wrong-1"), candidate("wrong-2"))
    assert [one.verdict for one in outcomes] == ["valid", "refused", "not-tried"]
    assert server.refused("shop") == 1


def test_an_account_has_one_refused_login_in_an_hour():
    """Runs share what they remember; an accepted login leaves the control's refusal."""
    server, memory = FakeServer({"shop": "right-1"}), FakeMemory()
    tried(server, candidate("wrong-1"), memory=memory)
    (outcome,) = tried(server, candidate("right-1"), memory=memory)
    assert outcome.verdict is Verdict.NOT_TRIED
    assert "00:00" in outcome.reason
    assert server.refused("shop") == 1


def test_what_is_served_now_is_tried_first():
    """After it comes what is no well-known example; both before a refusal ends the tries."""
    server = FakeServer({"shop": "right-1"})
    outcomes = tried(server, candidate("wrong-1"), candidate("right-1", known="app (current)"))
    assert [one.verdict for one in outcomes] == ["refused", "valid"]


def test_no_account_is_remembered_by_a_password():
    """A text may name the password where it means the login."""
    server, memory = FakeServer(), FakeMemory()
    tried(
        server,
        candidate("hunter2x", "hunter2x"),
        candidate("Kanarie7", "x-Kanarie7"),
        memory=memory,
    )
    assert memory.accounts == {"db:5432/(redacted)"}
