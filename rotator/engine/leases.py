"""Leases: logins that are made for one holder, for a limited time, and dropped at its end.

A lease uses the steps of a rotation under a lock of its own: staged durably, created, verified by a login,
handed out, revoked, and proven rejected. Its record in the journal decides what is to be done about it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from shlex import quote
from typing import TYPE_CHECKING, Final, TypeVar, cast

from rotator.core import durations
from rotator.core.commands import end_leases_command
from rotator.core.contracts.rotation import ExpiresLogins
from rotator.core.deadline import time_limit
from rotator.core.errors import (
    RETRIED,
    InUse,
    LeaseEnded,
    Refused,
    RotatorError,
    StepError,
    Transient,
    Unavailable,
    Unprovable,
    UsageError,
)
from rotator.core.identifiers import new_id
from rotator.core.lease_chain import chain_of
from rotator.core.leases import (
    BACKSTOP,
    LONGEST_RETRY,
    SHORTEST,
    AtEnd,
    LeaseOutcome,
    LeaseRecord,
    LeaseState,
    LeaseTerms,
    Share,
    kept_at,
    next_try,
    renewed_end,
)
from rotator.core.model import Credential, Kind, NewEvent
from rotator.core.secret import Secret
from rotator.core.state_machine import step_backoff
from rotator.engine.error_origin import tag_errors
from rotator.engine.lock import locked_in_time
from rotator.engine.steps import Steps, checked_data, wrap_plugin_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.plugin import MarkedLogin
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.leases import LeaseBook
    from rotator.core.model import Json, Lock
    from rotator.engine.context import EngineContext
    from rotator.engine.lock import LockedSecret
    from rotator.engine.steps import ManagedSecret

T = TypeVar("T")

# The lock of a call that only writes to the journal.
_WRITING: Final = timedelta(seconds=60)
# So many holders an error names.
_NAMED: Final = 5
_UNCHANGED: Final = "Nothing was changed."
_NOT_ISSUED: Final = "No lease was issued."


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """Who wants a lease, what for, and for how long; None for the time that the secret's terms give.

    `instance`: which process of the holder. It matters where instances share one login.
    `refused`: ids of leases whose login the target refused to it; it does not get one of these.
    """

    holder: str
    instance: str = ""
    purpose: str = ""
    ttl: timedelta | None = None
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedLease:
    """A lease with its credential, which is handed out this once. `take_next_at`: when to take the next one."""

    record: LeaseRecord
    credential: Credential
    take_next_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewedLease:
    """A lease after its renewal. `final`: its end cannot be moved any further."""

    record: LeaseRecord
    final: bool
    take_next_at: datetime


class Leases:
    """Issues, renews and ends leases."""

    def __init__(self, engine: EngineContext, book: LeaseBook) -> None:
        """`book`: the leases that the journal knows."""
        self._engine: EngineContext = engine
        self._book: LeaseBook = book

    def issue(
        self,
        secret: ManagedSecret,
        asked: LeaseRequest,
        *,
        patience: timedelta = timedelta(0),
        check: Callable[[Credential], object] | None = None,
    ) -> IssuedLease:
        """Make a login for a holder, verify it by a login, and hand it out.

        `check` may refuse a credential by `UsageError`: first it gets one of the same fields, before
        anything is made or shared.

        Where instances of one consumer share a login, another one gets the same while more than a third
        of its time is left. Raises `UsageError` for terms that are not met, `Busy`, `JournalError`,
        or a `StepError`; then the login is undone, by the daemon if not at once.
        """
        terms = _terms(secret)
        ttl = _checked_ttl(terms.ttl if asked.ttl is None else asked.ttl, terms)
        with self._locked(secret, patience) as lock:
            self._require_managed(secret.name)
            if terms.share is Share.CONSUMER:
                shared = self._join(lock, secret, asked, check)
                if shared is not None:
                    return shared
            if self._book.count(secret.name) >= terms.limit:
                raise UsageError(
                    f"all {terms.limit} leases are taken.",
                    hint=f"See who holds them: rotator lease list {secret.name}",
                    safety=_NOT_ISSUED,
                )
            if check is not None:
                _ = check(self._example(lock, secret))
            left = secret.policy.proposals
            while True:
                left -= 1
                try:
                    return self._issue(lock, secret, asked, terms, ttl)
                except Refused:
                    if left <= 0:
                        raise

    def renew(
        self,
        secret: ManagedSecret,
        id_: str,
        *,
        ttl: timedelta | None = None,
        patience: timedelta = timedelta(0),
    ) -> RenewedLease:
        """Move the end of a lease to `ttl` from now, but not beyond its longest time.

        Raises `LeaseEnded` for one that has ended. After a lost answer, doing it again is harmless.
        """
        with self._locked(secret, patience) as lock:
            record, now = self._get(id_), self._engine.clock.now()
            self._require_live(record, now)
            try:
                terms = _terms(secret)
                ttl = _checked_ttl(terms.ttl if ttl is None else ttl, terms)
            except UsageError as error:
                error.safety = f"The lease still ends at {_moment(record.ends_at)}, as before."
                raise
            ends, final = renewed_end(record, ttl, now)
            work = self._work(lock, secret, id_)
            data: dict[str, Json] = {"ends": ends.isoformat(), "final": final}
            if isinstance(secret.rotation, ExpiresLogins):
                self._append(lock, Kind.LEASE_RENEWING, id_, data)
                try:
                    work.expire(record, ends - now + BACKSTOP)
                except StepError as error:
                    error.safety = f"The lease still ends at {_moment(record.ends_at)}, as before."
                    failed: dict[str, Json] = {"kind": error.kind, "what": error.what}
                    self._append(lock, Kind.LEASE_RENEWED, id_, failed)
                    raise
            self._append(lock, Kind.LEASE_RENEWED, id_, data)
            record = self._get(id_)
            return RenewedLease(record=record, final=final, take_next_at=record.take_next_at(terms))

    def release(
        self, secret: ManagedSecret, id_: str, instance: str, *, patience: timedelta = timedelta(0)
    ) -> LeaseRecord:
        """Let go of a lease. It ends when no instance holds it any more."""
        with self._locked(secret, patience) as lock:
            record = self._get(id_)
            if record.state is not LeaseState.LIVE:
                # Its end was begun before, and may have been interrupted.
                return self._end(lock, secret, record, "")
            if instance not in record.instances:
                return record
            if record.instances != (instance,):
                self._append(lock, Kind.LEASE_RELEASED, id_, {"instance": instance})
                record = self._get(id_)
            if instance in record.instances:
                return self._end(lock, secret, record, "released by its holder")
            return record

    def end(
        self,
        secret: ManagedSecret,
        id_: str,
        *,
        reason: str = "",
        patience: timedelta = timedelta(0),
    ) -> LeaseRecord:
        """End a lease now, regardless of its holder: drop its login, and prove that it is rejected.

        Raises a `StepError` where that fails. It is then tried again for as long as it takes.
        """
        with self._locked(secret, patience) as lock:
            return self._end(lock, secret, self._get(id_), reason)

    def strand(self, id_: str, error: RotatorError) -> None:
        """Record that a lease cannot be ended, because what it was made on cannot be opened."""
        record = self._get(id_)
        failure = self._failure(record, error)
        failed = NewEvent(kind=Kind.LEASE_FAILED, rotation_id=id_, data=failure)
        with _writing(self._engine, record.secret) as held:
            self._write(held, [failed])

    def abandon(self, secret: str, reason: str) -> list[str]:
        """Close the leases of a secret whose target is gone; return the logins that may be valid."""
        with _writing(self._engine, secret) as held:
            left = self._book.open(secret)
            outcome = LeaseOutcome.ABANDONED.value
            self._write(
                held,
                [
                    NewEvent(
                        kind=Kind.LEASE_ENDED,
                        rotation_id=one.id,
                        data={"outcome": outcome, "login": one.login, "reason": reason},
                    )
                    for one in left
                ],
            )
        return [one.login for one in left if one.login is not None]

    @contextmanager
    def kept_closed(self, secret: str, then: str) -> Generator[None]:
        """Require that no lease of a secret is open, and let none be issued meanwhile.

        `then`: the command that goes on afterwards. Raises `UsageError` or `Busy`.
        """
        with _writing(self._engine, secret):
            self.require_none(secret, then)
            yield

    def require_none(self, secret: str, then: str, or_else: str = "") -> None:
        """Raise `UsageError` while leases of a secret are open. `or_else`: one more way out."""
        found = self._book.open(secret)
        if not found:
            return
        number = "1 lease is" if len(found) == 1 else f"{len(found)} leases are"
        holders = sorted({one.holder for one in found})
        some = ", ".join(holders[:_NAMED]) + (" and others" if len(holders) > _NAMED else "")
        error = UsageError(
            f"{number} open, held by {some}.",
            hint=f"End them: {end_leases_command(secret)}\n"
            f"Or wait for their end: rotator lease list {secret}\nThen: {then}\n{or_else}".rstrip(),
            safety=_UNCHANGED,
        )
        error.secret = secret
        raise error

    def reconcile(
        self,
        secret: ManagedSecret,
        marked: Callable[[StepContext], Sequence[MarkedLogin]],
        *,
        patience: timedelta = timedelta(0),
    ) -> int:
        """Compare the target's marked logins with the journal; return how many differences were ended.

        A login that bears the mark of the secret's leases and belongs to no open lease is dropped. A live
        lease whose login is gone is closed as `lost`.
        """
        ended = 0
        with self._locked(secret, patience) as lock:
            work = self._work(lock, secret, new_id(self._engine.entropy))
            found = {one.login for one in work.list(marked) if one.is_of(lock.name)}
            for record in self._book.open(secret.name):
                # While the lock is held, nobody else is making one.
                if record.state is LeaseState.REQUESTED:
                    _ = self._end(lock, secret, record, "")
                elif record.state is LeaseState.LIVE and record.login not in found:
                    lost = LeaseOutcome.LOST
                    _ = self._end(lock, secret, record, "its login is gone", lost)
                    ended += 1
                found.discard(record.login or "")
            for login in sorted(found):
                work = self._work(lock, secret, new_id(self._engine.entropy))
                work.end_stray(login)
                ended += 1
        return ended

    # -- issuing -------------------------------------------------------------------------------

    def _issue(
        self,
        lock: LockedSecret,
        secret: ManagedSecret,
        asked: LeaseRequest,
        terms: LeaseTerms,
        ttl: timedelta,
    ) -> IssuedLease:
        id_, now = new_id(self._engine.entropy), self._engine.clock.now()
        requested: dict[str, Json] = {
            "holder": asked.holder,
            "reason": asked.purpose,
            "instances": [asked.instance],
            "ends": (now + ttl).isoformat(),
            "latest": (now + terms.longest).isoformat(),
            "plugin": secret.plugin,
            "strategy": secret.strategy,
            "target": secret.target_name,
            "backend": secret.backend_name,
            "path": secret.path,
            **({"entry": secret.entry} if secret.entry else {}),
        }
        self._append(lock, Kind.LEASE_REQUESTED, id_, requested)
        work, record = self._work(lock, secret, id_), self._get(id_)
        try:
            credential, issued = work.make(record)
        except StepError as error:
            self._give_up(lock, work, record, error)
            raise
        self._append(lock, Kind.LEASE_ISSUED, id_, issued)
        if terms.share is Share.NONE:
            work.forget()
        record = self._get(id_)
        return IssuedLease(
            record=record, credential=credential, take_next_at=record.take_next_at(terms)
        )

    def _give_up(
        self, lock: LockedSecret, work: _Work, record: LeaseRecord, error: StepError
    ) -> None:
        """Undo a lease that could not be issued."""
        error.safety = f"{_NOT_ISSUED} The current login is unchanged."
        try:
            self._undo(lock, work, record, {"kind": error.kind, "what": error.what})
        except StepError as left:
            error.safety = (
                f"{_NOT_ISSUED} Its login could not be removed yet ({left.what}) The daemon tries"
                " again."
            )

    def _join(
        self,
        lock: LockedSecret,
        secret: ManagedSecret,
        asked: LeaseRequest,
        check: Callable[[Credential], object] | None,
    ) -> IssuedLease | None:
        """Hand out the login that another instance of the holder has; None where there is none."""
        now = self._engine.clock.now()
        for record in reversed(self._book.open(secret.name)):
            if record.id in asked.refused or not record.can_be_shared(asked.holder, now):
                continue
            credential = self._work(lock, secret, record.id).kept()
            if credential is not None:
                if check is not None:
                    _ = check(credential)
                self._append(lock, Kind.LEASE_JOINED, record.id, {"instance": asked.instance})
                joined = self._get(record.id)
                return IssuedLease(
                    record=joined,
                    credential=credential,
                    take_next_at=joined.take_next_at(_terms(secret)),
                )
        return None

    def _example(self, lock: LockedSecret, secret: ManagedSecret) -> Credential:
        try:
            return self._work(lock, secret, new_id(self._engine.entropy)).example()
        except StepError as error:
            error.safety = _NOT_ISSUED
            raise

    # -- ending --------------------------------------------------------------------------------

    def _end(
        self,
        lock: LockedSecret,
        secret: ManagedSecret,
        record: LeaseRecord,
        reason: str,
        outcome: LeaseOutcome = LeaseOutcome.ENDED,
    ) -> LeaseRecord:
        work = self._work(lock, secret, record.id)
        if record.state is LeaseState.REQUESTED:
            what = "the process that requested it stopped before it was issued"
            self._undo(lock, work, record, {"kind": "aborted", "what": what})
        elif record.state is not LeaseState.ENDED:
            if record.state is LeaseState.LIVE:
                self._append(lock, Kind.LEASE_ENDING, record.id, {"reason": reason})
            at_end = secret.leases.at_end if secret.leases is not None else AtEnd.TERMINATE
            with self._recorded(lock, record):
                ended = work.close(record.login or "", end_sessions=at_end is AtEnd.TERMINATE)
            ended = {"outcome": outcome.value, "reason": reason, **ended}
            self._append(lock, Kind.LEASE_ENDED, record.id, ended)
        return self._get(record.id)

    def _undo(
        self, lock: LockedSecret, work: _Work, record: LeaseRecord, cause: Mapping[str, Json]
    ) -> None:
        with self._recorded(lock, record):
            login = work.withdraw()
        ended = {"outcome": LeaseOutcome.UNDONE.value, "login": login, **cause}
        self._append(lock, Kind.LEASE_ENDED, record.id, ended)

    @contextmanager
    def _recorded(self, lock: LockedSecret, record: LeaseRecord) -> Generator[None]:
        """Record why a lease could not be ended now, and when that is tried again.

        What keeps back every lease of a target is no failure of this one.
        """
        try:
            yield
        except Unavailable as error:
            error.safety = error.safety or _left(record)
            raise
        except StepError as error:
            error.safety = error.safety or _left(record)
            self._append(lock, Kind.LEASE_FAILED, record.id, self._failure(record, error))
            raise

    def _failure(self, record: LeaseRecord, error: RotatorError) -> dict[str, Json]:
        """Return what the journal should know of a failed end."""
        now = self._engine.clock.now()
        again = now + LONGEST_RETRY if isinstance(error, InUse) else next_try(record, now)
        return {
            "kind": error.kind,
            "what": error.what,
            "hint": error.hint or "rotator tries again for as long as it takes.",
            "login": record.login,
            "failures": record.failures + 1,
            "next_try": again.isoformat(),
        }

    # -- what they have in common --------------------------------------------------------------

    @contextmanager
    def _locked(self, secret: ManagedSecret, patience: timedelta) -> Generator[LockedSecret]:
        """Lock the leases of a secret. Its rotations do not wait for that, nor it for them."""
        chain = replace(secret, name=chain_of(secret.name))
        try:
            with locked_in_time(self._engine, chain, patience) as lock:
                yield lock
        except RotatorError as error:
            error.secret = secret.name
            raise

    def _work(self, lock: LockedSecret, secret: ManagedSecret, id_: str) -> _Work:
        return _Work(lock, secret, id_)

    def _get(self, id_: str) -> LeaseRecord:
        record = self._book.get(id_)
        if record is None:
            raise UsageError(
                f"there is no lease {id_!r}.",
                hint="See all of them: rotator lease list",
                safety=_UNCHANGED,
            )
        return record

    @staticmethod
    def _require_live(record: LeaseRecord, now: datetime) -> None:
        if record.state is LeaseState.LIVE and now < record.ends_at:
            return
        login = record.login or "-"
        if record.state is LeaseState.REQUESTED:
            what, safety = "is not issued yet.", "Nobody has its login."
        elif record.is_stranded:
            what = "has ended, but its end fails."
            safety = f"Its login {login!r} may still be valid. The daemon tries again."
        elif record.state is LeaseState.ENDED:
            what, safety = "has ended.", "Its login is no longer valid."
        else:
            what, safety = "has ended.", f"The daemon is about to drop its login {login!r}."
        raise LeaseEnded(
            f"lease {record.id} {what}",
            hint=f"Take a new one: rotator lease issue {record.secret} --for {quote(record.holder)}",
            safety=safety,
        )

    def _require_managed(self, name: str) -> None:
        """Refuse a secret whose management has ended, or is just being ended."""
        record = self._engine.journal.secret(name)
        if record is None:
            return
        if record.retired is not None or record.retiring is not None:
            raise UsageError(
                "it is retired, so its logins are not lent.",
                hint=f"If it is in use again: rotator adopt {name}",
                safety=_NOT_ISSUED,
            )
        if record.renamed_to is not None:
            raise UsageError(
                f"it is named {record.renamed_to} now.",
                hint=f"See it: rotator status {record.renamed_to}",
                safety=_NOT_ISSUED,
            )

    def _write(self, held: Lock, events: list[NewEvent]) -> None:
        for event in self._engine.journal.append(held, events, _WRITING):
            self._engine.observer(event)

    @staticmethod
    def _append(lock: LockedSecret, kind: Kind, id_: str, data: Mapping[str, Json]) -> None:
        _ = lock.append([NewEvent(kind=kind, rotation_id=id_, data=data)])


class _Work:
    """What one lease needs of its target and its backend."""

    def __init__(self, lock: LockedSecret, secret: ManagedSecret, id_: str) -> None:
        """`lock` is that of the chain of the secret's leases."""
        self._lock: LockedSecret = lock
        self._secret: ManagedSecret = secret
        self._id: str = id_
        self._path: str = kept_at(secret.path)
        target = f"target {secret.target_name}"
        self._rotation: Rotation = tag_errors(secret.rotation, target, lock.contacts)
        record = lock.journal.secret(secret.name)
        # The logins of leases bear the mark of their chain, and get the rights of one with the secret's.
        self._steps: Steps = Steps(
            secret=lock.secret,
            rotation_id=id_,
            clock=lock.clock,
            entropy=lock.engine.entropy,
            log=lock.log,
            controlled=lock.engine.controlled,
            adopted=frozenset(record.adopted if record else ()),
            former_names=frozenset({secret.name, *(record.former_names if record else ())}),
            wrote=lambda _id: False,
            contacts=lock.contacts,
        )

    def make(self, record: LeaseRecord) -> tuple[Credential, dict[str, Json]]:
        """Stage, create and verify a login; return it, and what the journal should know of it."""
        current = self._tried("stage", self._current)
        new = self._tried("stage", lambda: self._stage(current))

        def create() -> None:
            self._rotation.create(new, self._context(current, self._lasts(record)))

        def verify() -> dict[str, Json]:
            self._steps.control(new.username)
            ctx = self._context(current, self._lasts(record))
            return checked_data(self._rotation.verify(new, ctx))

        self._tried("create", create)
        checks = self._tried("verify", verify)
        if self._lock.clock.now() >= record.ends_at:
            raise Transient("the login was ready only after the end of the lease.")
        return new, {"login": new.username, **checks}

    def example(self) -> Credential:
        """Return a credential with the fields of the next one. It is on no target."""
        with self._acting("stage"):
            current = self._current()
            return self._rotation.propose(current, self._context(current))

    def kept(self) -> Credential | None:
        """Return the credential, where the backend still holds it."""
        return self._tried("stage", lambda: self._backend.staged(self._path, self._id))

    def forget(self) -> None:
        """Let the backend forget the credential, which its holder has. What fails is done at the end."""
        try:
            with self._acting("discard"):
                self._backend.discard(self._path, self._id)
        except StepError as error:
            self._lock.log.warning("lock value kept", lock=self._id, what=error.what)

    def expire(self, record: LeaseRecord, lasts: timedelta) -> None:
        """Let the target itself end the login then."""
        login = Credential(username=record.login or "", password=Secret(""))
        expires = cast("ExpiresLogins", self._rotation)
        self._tried("create", lambda: expires.expire(login, self._context(None, lasts)))

    def close(self, login: str, *, end_sessions: bool) -> dict[str, Json]:
        """Drop the login, and prove that the target rejects it; return what the journal should know."""
        with self._acting("revoke"):
            current, kept = self._current(), self._backend.staged(self._path, self._id)
            old = kept or Credential(username=login, password=Secret(""))
            ctx = self._steps.context(current, end_sessions=end_sessions)
            self._rotation.revoke(old, ctx)
            proof = self._proof(login, kept, ctx)
            self._backend.discard(self._path, self._id)
            return {"login": login, **proof}

    def list(self, marked: Callable[[StepContext], Sequence[MarkedLogin]]) -> Sequence[MarkedLogin]:
        """Return the logins of the target that bear marks."""
        with self._acting("list"):
            return marked(self._steps.context(None))

    def end_stray(self, login: str) -> None:
        """Drop a login that bears the mark of leases, and that no lease accounts for."""
        data: dict[str, Json] = {"login": login, "reason": "no lease accounts for this login"}
        intent = NewEvent(kind=Kind.LEASE_ENDING, rotation_id=self._id, data=data)
        _ = self._lock.append([intent])
        data |= {"outcome": LeaseOutcome.ENDED.value, **self.close(login, end_sessions=True)}
        _ = self._lock.append([replace(intent, kind=Kind.LEASE_ENDED, data=data)])

    def withdraw(self) -> str | None:
        """Leave target and backend as if the lease had never been requested; return its login."""
        with self._acting("withdraw"):
            staged = self._backend.staged(self._path, self._id)
            if staged is not None:
                # What was never staged was never created.
                self._rotation.withdraw(staged, self._steps.context(self._current()))
            self._backend.discard(self._path, self._id)
            return staged.username if staged is not None else None

    def _proof(self, login: str, kept: Credential | None, ctx: StepContext) -> dict[str, Json]:
        """Try to log in once more. Where its password was forgotten, another one is tried: the login is gone."""
        if self._steps.may_lock(login, ctx):
            return {"refused": None, "untried": "a failed login could lock the account"}
        tried = kept or Credential(username=login, password=ctx.new_password())
        if self._rotation.probe(tried, ctx):
            raise Unprovable(
                f"login {login!r} is still accepted after it was dropped.",
                hint="Look for another way in, such as `trust` in pg_hba.conf, and close it.",
            )
        return {"refused": True, "tried": "its password" if kept else "another password"}

    @property
    def _backend(self) -> SecretBackend:
        return self._lock.backend

    def _current(self) -> Credential | None:
        """Return what the secret serves: the login whose rights those of leases have."""
        current = self._backend.current(self._secret.path)
        return current.credential if current is not None else None

    def _stage(self, current: Credential | None) -> Credential:
        staged = self._backend.staged(self._path, self._id)
        if staged is not None:
            return staged
        if current is not None:
            self._steps.control(current.username)
        proposed = self._rotation.propose(current, self._context(current))
        return self._backend.stage(self._path, self._id, proposed)

    def _lasts(self, record: LeaseRecord) -> timedelta:
        return record.lasts(self._lock.clock.now())

    def _context(self, current: Credential | None, lasts: timedelta | None = None) -> StepContext:
        return replace(self._steps.context(current), lasts=lasts)

    def _tried(self, step: str, work: Callable[[], T]) -> T:
        """Do one step, again after a failure that may pass. Each is an ensure."""
        policy, failures = self._secret.policy, 0
        while True:
            try:
                with self._acting(step):
                    return work()
            except StepError as error:
                failures += 1
                passes = error.kind in RETRIED and not isinstance(error, Unavailable)
                if not passes or failures >= policy.attempts or self._lock.engine.should_stop():
                    raise
            self._lock.wait(self._lock.clock.now() + step_backoff(self._id, failures, policy))
            self._lock.renew()

    @contextmanager
    def _acting(self, step: str) -> Generator[None]:
        self._lock.allow(self._steps)
        name, limit = self._secret.name, self._secret.policy.step_timeout.total_seconds()
        with wrap_plugin_errors(self._lock.log, name, self._id, step), time_limit(limit):
            yield


@contextmanager
def _writing(engine: EngineContext, secret: str) -> Generator[Lock]:
    """Lock the leases of a secret for what touches no target."""
    held = engine.journal.acquire(chain_of(secret), engine.holder(), _WRITING)
    try:
        yield held
    finally:
        engine.journal.release(held)


def _left(record: LeaseRecord) -> str:
    """Return what a failed end means."""
    login = f"Login {record.login!r} may still be valid. " if record.login else ""
    return f"{login}The daemon tries again."


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _terms(secret: ManagedSecret) -> LeaseTerms:
    if secret.leases is None:
        raise UsageError(
            "this secret has no `leases`, so its logins are not lent.",
            hint="Set `leases: {ttl: 1h, max: 24h}` in its entry. It requires the strategy new-user.",
            safety=_UNCHANGED,
        )
    return secret.leases


def _checked_ttl(ttl: timedelta, terms: LeaseTerms) -> timedelta:
    if SHORTEST <= ttl <= terms.longest:
        return ttl
    bounds = durations.write(SHORTEST), durations.write(terms.longest)
    raise UsageError(
        f"a lease of this secret lasts from {bounds[0]} to {bounds[1]}, not {durations.write(ttl)}.",
        hint="The longest time is `max` under `leases` in its entry.",
        safety=_UNCHANGED,
    )
