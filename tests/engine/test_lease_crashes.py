"""A process that dies at any call of issue, renew, release or end leaves nothing behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from rotator.core.contracts.plugin import MarkedLogin
from rotator.core.errors import LeaseEnded
from rotator.core.leases import BACKSTOP, LeaseState, LeaseTerms, Share
from rotator.engine import IssuedLease, LeaseRequest
from rotator.journal import audit
from rotator.journal.sql import SqlJournal
from tests.engine.sandboxes import HOUR, PATH, EngineSandbox, Killed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.core.contracts.rotation import StepContext

MINUTE: Final = timedelta(minutes=1)
TERMS: Final = LeaseTerms(ttl=10 * MINUTE, longest=HOUR, limit=3)
# What a process calls of the world outside, for leases.
_CALLS: Final = (
    *(("journal", name) for name in ("acquire", "append", "release", "secret", "history")),
    *(("backend", name) for name in ("current", "staged", "stage", "discard")),
    *(("rotation", name) for name in ("propose", "create", "verify", "revoke", "withdraw")),
    *(("rotation", name) for name in ("probe", "expire")),
)
_MOST_CALLS: Final = 60


class _Dying:
    """Lets a process die at its `nth` call, before its effect or after it; afterwards it does nothing."""

    def __init__(self, sandbox: EngineSandbox, nth: int, *, done: bool) -> None:
        self._nth, self._done = nth, done
        self.calls = 0
        self._restore: list[Callable[[], None]] = []
        for port, name in _CALLS:
            owner = getattr(sandbox, port)
            if hasattr(owner, name):
                self._wrap(owner, name)

    def _wrap(self, owner: Any, name: str) -> None:
        works, had = getattr(owner, name), name in vars(owner)

        def call(*arguments: object, **named: object) -> object:
            self.calls += 1
            # A dead process releases no lock and writes no event.
            if self.calls > self._nth:
                raise Killed
            if self.calls == self._nth:
                if self._done:
                    works(*arguments, **named)
                raise Killed
            return works(*arguments, **named)

        setattr(owner, name, call)
        self._restore.append(
            (lambda: setattr(owner, name, works)) if had else (lambda: delattr(owner, name))
        )

    def end(self) -> None:
        for restore in self._restore:
            restore()


def _issue(sandbox: EngineSandbox, instance: str = "a") -> IssuedLease:
    asked = LeaseRequest(holder="web", instance=instance)
    return sandbox.engine.leases.issue(sandbox.secret, asked)


def _end(sandbox: EngineSandbox, lease: str) -> object:
    return sandbox.engine.leases.end(sandbox.secret, lease)


def _renew(sandbox: EngineSandbox, lease: str) -> object:
    return sandbox.engine.leases.renew(sandbox.secret, lease)


def _release(sandbox: EngineSandbox, lease: str) -> object:
    return sandbox.engine.leases.release(sandbox.secret, lease, "a")


def _issue_another(sandbox: EngineSandbox, _lease: str) -> object:
    return _issue(sandbox, "b")


def _issue_refused(sandbox: EngineSandbox, _lease: str) -> object:
    sandbox.target.refuse_next = 1
    return _issue(sandbox, "b")


_WORK: Final = {
    "issue": _issue_another,
    "issue after a refusal": _issue_refused,
    "renew": _renew,
    "release": _release,
    "end": _end,
}


def _marked(sandbox: EngineSandbox, _ctx: StepContext) -> list[MarkedLogin]:
    return [
        MarkedLogin(login=name, can_login=one.can_login, is_of=one.owner.__eq__)
        for name, one in sandbox.target.accounts.items()
        if one.owner is not None
    ]


def _restarted(sandbox: EngineSandbox, *, lists: bool) -> None:
    """Do what the daemon does until every lease is over: reconcile, then end what is due.

    `lists`: the target lists the logins with marks; without that, nothing is reconciled.
    """
    # The lock of the process that died is over first.
    sandbox.clock.advance(10 * MINUTE)
    leases = sandbox.engine.leases
    if lists:
        leases.reconcile(sandbox.secret, lambda ctx: _marked(sandbox, ctx))
    sandbox.clock.advance(HOUR + BACKSTOP)
    for one in sandbox.journal.leases.due(sandbox.clock.now(), 99):
        leases.end(sandbox.secret, one.id)


def _sandbox(share: Share) -> tuple[EngineSandbox, object]:
    sandbox = EngineSandbox()
    sandbox.engine.rotate(sandbox.secret)
    sandbox.leases = replace(TERMS, share=share)
    return sandbox, sandbox.target.state()


@pytest.mark.parametrize("lists", [True, False], ids=["reconciled", "ended"])
@pytest.mark.parametrize("share", list(Share))
@pytest.mark.parametrize("work", list(_WORK))
def test_crash_at_any_call_leaves_no_login_beyond_its_end(work: str, share: Share, *, lists: bool):
    for done in (False, True):
        for nth in range(1, _MOST_CALLS):
            sandbox, before = _sandbox(share)
            lease = _issue(sandbox)
            dying = _Dying(sandbox, nth, done=done)
            with suppress(Killed):
                _WORK[work](sandbox, lease.record.id)
            dying.end()
            where = f"{work}: call {nth}, {'after' if done else 'before'} its effect"
            _restarted(sandbox, lists=lists)
            assert sandbox.target.state() == before, where
            assert sandbox.backend.pending(f"leases/{PATH}") == {}, where
            assert sandbox.journal.leases.open() == [], where
            assert sandbox.target.violations == [], where
            assert sandbox.journal.violations == [], where
            assert all(
                one.state is LeaseState.ENDED for one in sandbox.journal.leases.recent(99)
            ), where
            if dying.calls < nth:
                break
        else:
            pytest.fail(f"{work} makes more than {_MOST_CALLS} calls")


@pytest.mark.parametrize("work", list(_WORK))
def test_journal_in_a_database_verifies_after_a_crash(work: str, tmp_path: Path):
    """A sample: every fifth call, and the end of the work."""
    for nth in range(1, _MOST_CALLS, 5):
        sandbox = EngineSandbox()
        journal = SqlJournal(
            f"sqlite:///{tmp_path}/{nth}.db", clock=sandbox.clock, actor="test", upgrade=True
        )
        sandbox.journal = cast("Any", journal)
        sandbox.engine = sandbox.process()
        sandbox.engine.rotate(sandbox.secret)
        sandbox.leases, before = TERMS, sandbox.target.state()
        lease = _issue(sandbox)
        dying = _Dying(sandbox, nth, done=True)
        with suppress(Killed):
            _WORK[work](sandbox, lease.record.id)
        dying.end()
        _restarted(sandbox, lists=False)
        assert sandbox.target.state() == before, f"{work}: call {nth}"
        assert journal.leases.open() == []
        assert audit.verify(journal).damage == []
        journal.close()
        if dying.calls < nth:
            break


@pytest.mark.parametrize("work", ["renew", "release", "end"])
def test_command_whose_process_died_can_be_run_again(work: str):
    for nth in range(1, _MOST_CALLS):
        sandbox, before = _sandbox(Share.NONE)
        lease = _issue(sandbox)
        dying = _Dying(sandbox, nth, done=True)
        with suppress(Killed):
            _WORK[work](sandbox, lease.record.id)
        dying.end()
        sandbox.clock.advance(5 * MINUTE)
        with suppress(LeaseEnded):
            _WORK[work](sandbox, lease.record.id)
        if work != "renew":
            assert sandbox.target.state() == before, f"{work}: call {nth}"
        if dying.calls < nth:
            return
    pytest.fail(f"{work} makes more than {_MOST_CALLS} calls")
