"""Which passwords log in: one login each, and at most one refused login for an account in an hour."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rotator.core.secret import Secret
    from rotator.find.model import Candidate

# Servers that are tried at the same time; the logins on one are tried one after the other.
_THREADS: Final = 8
# A shorter password appears in names by chance.
_SHORTEST: Final = 6


class Verdict(StrEnum):
    """What is known of a candidate.

    `valid`: its login authenticated, and a wrong password did not. `valid-elsewhere`: the same, but the
    database that is named beside it does not exist there. `would-lock`: a refused login may lock the
    account. `unreachable`: the server did not answer in time. `not-tried`: the reason says why.
    """

    VALID = "valid"
    ELSEWHERE = "valid-elsewhere"
    REFUSED = "refused"
    WOULD_LOCK = "would-lock"
    UNREACHABLE = "unreachable"
    NOT_TRIED = "not-tried"

    @property
    def is_valid(self) -> bool:
        """Whether somebody who finds this password can log in with it."""
        return self in (Verdict.VALID, Verdict.ELSEWHERE)

    @property
    def is_open(self) -> bool:
        """Whether the password may be valid."""
        return self in (Verdict.WOULD_LOCK, Verdict.UNREACHABLE, Verdict.NOT_TRIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict on one candidate. `reason`: why it is not more definite. `server`: where it was tried."""

    verdict: Verdict
    reason: str = ""
    server: str | None = None


NOT_TRIED: Final = Outcome(verdict=Verdict.NOT_TRIED)


class Answer(Enum):
    """How a server answers a login. `WITHOUT_DATABASE`: accepted, but not in the database that was named."""

    ACCEPTED = auto()
    WITHOUT_DATABASE = auto()
    REJECTED = auto()


class Unanswered(Exception):  # nothing is wrong in here
    """A login was neither accepted nor rejected. `is_away`: the server did not answer."""

    def __init__(self, reason: str, *, is_away: bool = False) -> None:
        super().__init__(reason)
        self.reason: str = reason
        self.is_away: bool = is_away


class LoginServer(Protocol):
    """One server on which logins can be tried."""

    @property
    def name(self) -> str:
        """Its name for people, such as `target main`."""
        ...

    @property
    def address(self) -> str:
        """Its host and port, such as `db.example.org:5432`."""
        ...

    def attempt(self, login: str, password: Secret, database: str | None) -> Answer:
        """Log in once. Raises `Unanswered`, after some seconds at the latest."""
        ...

    def may_lock(self, login: str) -> bool:
        """Return whether a refused login may lock the account, or whether that is unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a candidate is to be tried, and as whom."""

    server: LoginServer
    login: str
    database: str | None = None


class Places(Protocol):
    """Knows which server a candidate belongs to."""

    def of(self, candidate: Candidate) -> Place | str:
        """Return the place, or the reason why there is none."""
        ...


class RefusedLogins(Protocol):
    """Remembers, also between runs, which accounts have had a refused login within the hour."""

    def until(self, account: str) -> datetime | None:
        """Return until when no login of this account may be refused again; None where one may."""
        ...

    def expect(self, account: str) -> None:
        """Record, before a login, that it may be refused."""
        ...

    def clear(self, account: str) -> None:
        """Record that no login of this account was refused."""
        ...


@dataclass(slots=True)
class _Try:
    """One password of an account, and the candidates that have it."""

    password: Secret
    database: str | None
    candidates: list[int] = field(default_factory=list[int])


# By login, then by password.
_Accounts = dict[str, dict[str, _Try]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What logins are tried with.

    `unknown_login` draws a login that exists nowhere, `wrong_password` a password that nobody has. `record`
    gets the server, the login and the answer of each attempt.
    """

    places: Places
    refused: RefusedLogins
    unknown_login: Callable[[], str]
    wrong_password: Callable[[], Secret]
    record: Callable[[str, str, Answer], None]


class LoginAttempts:
    """Tries candidates. Nothing that it remembers or records contains a password."""

    def __init__(self, means: Means, candidates: Sequence[Candidate]) -> None:
        self._means: Means = means
        self._candidates: Sequence[Candidate] = candidates
        # What has the same text as a password is not recorded.
        self._values: frozenset[str] = frozenset(one.match.value.reveal() for one in candidates)

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of each candidate, in their order."""
        outcomes: dict[int, Outcome] = {}
        servers: dict[str, tuple[LoginServer, _Accounts]] = {}
        for i in sorted(range(len(self._candidates)), key=self._order):
            candidate = self._candidates[i]
            place = self._means.places.of(candidate)
            if isinstance(place, str):
                outcomes[i] = Outcome(verdict=Verdict.NOT_TRIED, reason=place)
                continue
            _, accounts = servers.setdefault(place.server.address, (place.server, {}))
            password = candidate.match.value
            tries = accounts.setdefault(place.login, {})
            tries.setdefault(password.reveal(), _Try(password, place.database)).candidates.append(i)
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            for found in pool.map(self._on_server, servers.values()):
                outcomes |= found
        return [outcomes[i] for i in range(len(self._candidates))]

    def _order(self, i: int) -> tuple[bool, bool, bool]:
        """What is likely to be accepted comes first: a refused password ends the tries of its account."""
        candidate = self._candidates[i]
        return not is_current(candidate), candidate.is_weak, bool(candidate.commit)

    def _on_server(self, tried: tuple[LoginServer, _Accounts]) -> dict[int, Outcome]:
        server, accounts = tried
        hindrance = self._untrustworthy(server)
        outcomes: dict[int, Outcome] = {}
        for login, tries in accounts.items():
            if hindrance is None:
                account = _Account(self._means, server, login, self._shown(login))
                outcomes |= account.outcomes(list(tries.values()))
                hindrance = account.away
            else:
                outcomes |= {i: hindrance for one in tries.values() for i in one.candidates}
        return outcomes

    def _untrustworthy(self, server: LoginServer) -> Outcome | None:
        """Return why no login on a server proves anything; None where it refuses one that does not exist."""
        login = self._means.unknown_login()
        try:
            answer = server.attempt(login, self._means.wrong_password(), None)
        except Unanswered as error:
            return _hindered(server, error)
        self._means.record(server.name, login, answer)
        if answer is Answer.REJECTED:
            return None
        return _not_tried(
            server,
            f"{server.name} accepts a login that does not exist, so no login there proves anything",
        )

    def _shown(self, login: str) -> str:
        """Return a login for a record: a text may name the password where it means the login."""
        hidden = login in self._values or any(
            len(one) >= _SHORTEST and one in login for one in self._values
        )
        return "(redacted)" if hidden else login


class _Account:
    """One account on one server: its passwords are tried until one is refused."""

    def __init__(self, means: Means, server: LoginServer, login: str, shown: str) -> None:
        """`shown`: what the login is called in records."""
        self._means: Means = means
        self._server: LoginServer = server
        self._login: str = login
        self._shown: str = shown
        self._name: str = f"{server.address}/{shown}"
        # Set once the server does not answer.
        self.away: Outcome | None = None

    def outcomes(self, tries: list[_Try]) -> dict[int, Outcome]:
        """Return the outcome of each candidate of this account."""
        hindrance = self._hindrance()
        found: dict[int, Outcome] = {}
        accepted: list[tuple[_Try, Answer]] = []
        refused = False
        for one in tries:
            outcome = hindrance
            if outcome is None:
                try:
                    answer = self._attempt(one.password, one.database)
                except Unanswered as error:
                    hindrance = outcome = self._unanswered(error)
                else:
                    if answer is Answer.REJECTED:
                        refused = True
                        outcome = Outcome(verdict=Verdict.REFUSED, server=self._server.name)
                        hindrance = _not_tried(
                            self._server, "another password of this account was refused in this run"
                        )
                    else:
                        accepted.append((one, answer))
                        continue
            found |= dict.fromkeys(one.candidates, outcome)
        if accepted:
            unproven = None if refused else self._control(accepted[0][0].database)
            for one, answer in accepted:
                verdict = Verdict.VALID if answer is Answer.ACCEPTED else Verdict.ELSEWHERE
                reason = (
                    ""
                    if answer is Answer.ACCEPTED
                    else "the database that it names is missing there, or closed to it"
                )
                proven = Outcome(verdict=verdict, reason=reason, server=self._server.name)
                found |= dict.fromkeys(one.candidates, unproven or proven)
        return found

    def _hindrance(self) -> Outcome | None:
        """Return why no password of this account may be tried."""
        try:
            if self._server.may_lock(self._login):
                return Outcome(
                    verdict=Verdict.WOULD_LOCK,
                    reason="a refused login may lock this account",
                    server=self._server.name,
                )
        except Unanswered as error:
            return self._unanswered(error)
        until = self._means.refused.until(self._name)
        if until is None:
            return None
        return _not_tried(
            self._server,
            f"a login of this account was refused within the hour; the next may follow at {until:%H:%M} UTC",
        )

    def _attempt(self, password: Secret, database: str | None) -> Answer:
        self._means.refused.expect(self._name)
        answer = self._server.attempt(self._login, password, database)
        self._means.record(self._server.name, self._shown, answer)
        if answer is not Answer.REJECTED:
            self._means.refused.clear(self._name)
        return answer

    def _control(self, database: str | None) -> Outcome | None:
        """Return why an accepted login proves nothing; None where a wrong password is refused."""
        try:
            wrong = self._means.wrong_password()
            if self._attempt(wrong, database) is Answer.REJECTED:
                return None
        except Unanswered as error:
            return self._unanswered(error)
        return _not_tried(
            self._server,
            f"{self._server.name} accepts any password for this login, so its login proves nothing",
        )

    def _unanswered(self, error: Unanswered) -> Outcome:
        outcome = _hindered(self._server, error)
        if error.is_away:
            self.away = outcome
        return outcome


def is_current(candidate: Candidate) -> bool:
    """Return whether a candidate has the value that a backend serves now."""
    return candidate.known is not None and candidate.known.endswith("(current)")


def _not_tried(server: LoginServer, reason: str) -> Outcome:
    return Outcome(verdict=Verdict.NOT_TRIED, reason=reason, server=server.name)


def _hindered(server: LoginServer, error: Unanswered) -> Outcome:
    verdict = Verdict.UNREACHABLE if error.is_away else Verdict.NOT_TRIED
    return Outcome(verdict=verdict, reason=error.reason, server=server.name)
