"""The contract of a target that keeps and rotates its own secrets, as tests; then crashes at every call.

A strategy proves itself with a file of a few lines:

    class TestStaticRole(LedSuite):
        @pytest.fixture
        def make_sandbox(self, engine):
            return lambda: Sandbox(rotation=lambda: my_rotation(engine), backend=my_backend(engine))
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotator.core.contracts.delegated import RotatesOnRequest
from rotator.core.contracts.rotation import Examines, Explains
from rotator.core.delegated import DelegatedRotation
from rotator.core.errors import Denied, Refused
from rotator.core.secret import Secret
from rotator.testing.crash import Sandbox, assert_survives_crashes
from rotator.testing.fakes import ListLog, step_context
from rotator.testing.sampling import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Credential, Version

_REQUEST = "00000000-0000-4000-8000-00000000000a"


class DelegatedSuite(Sampled):
    """Every test works in a sandbox of its own, in which something is served already."""

    @pytest.fixture
    def make_sandbox(self) -> Callable[[], Sandbox]:
        """Return what makes a fresh sandbox: each suite overrides it."""
        raise NotImplementedError

    @pytest.fixture
    def sandbox(self, make_sandbox: Callable[[], Sandbox]) -> Sandbox:
        """Return a fresh sandbox."""
        return make_sandbox()

    # -- what is served ------------------------------------------------------------------------

    def test_what_is_served_logs_in(self, sandbox: Sandbox) -> None:
        """And neither another password nor another name does."""
        served = _served(sandbox).credential
        rotation, ctx = sandbox.rotation(), _context(sandbox)
        assert rotation.probe(served, ctx)
        wrong = replace(served, password=Secret("not-the-one-that-is-served"))
        assert not rotation.probe(wrong, ctx)
        assert not rotation.probe(replace(wrong, username=f"{served.username}x"), ctx)

    def test_a_version_is_the_same_until_something_changes(self, sandbox: Sandbox) -> None:
        """Reading twice is reading once; that version can be read, and no other."""
        first, second = _served(sandbox), _served(sandbox)
        assert (first.id, first.credential) == (second.id, second.credential)
        assert sandbox.backend.read(sandbox.path, first.id) is not None
        assert sandbox.backend.read(sandbox.path, f"{first.id}-not") is None

    def test_verifying_shows_evidence(self, sandbox: Sandbox) -> None:
        """Every check in it is as it must be, and has a name."""
        evidence = sandbox.rotation().verify(_served(sandbox).credential, _context(sandbox))
        assert evidence.ok
        assert all(one.name for one in evidence.checks)

    def test_verifying_refuses_what_does_not_log_in(self, sandbox: Sandbox) -> None:
        """By the error that says so, or by a check that failed."""
        wrong = replace(_served(sandbox).credential, password=Secret("never-set-anywhere"))
        try:
            evidence = sandbox.rotation().verify(wrong, _context(sandbox))
        except Refused:
            return
        assert not evidence.ok

    def test_looking_changes_nothing(self, sandbox: Sandbox) -> None:
        """Neither reading nor trying, explaining or examining."""
        before, made = _state(sandbox), _made(sandbox)
        served = _served(sandbox).credential
        rotation, ctx = sandbox.rotation(), _context(sandbox)
        _ = rotation.probe(served, ctx), rotation.verify(served, ctx)
        if isinstance(rotation, Explains):
            assert all(one.text for one in rotation.explain(served, ctx))
        if isinstance(rotation, Examines):
            _ = rotation.examine(served, ctx)
        assert (_state(sandbox), _made(sandbox)) == (before, made)

    # -- rotating ------------------------------------------------------------------------------

    def test_a_request_makes_another_credential_current(self, sandbox: Sandbox) -> None:
        """What is served then logs in, and what was served before does not."""
        before = _served(sandbox)
        after = _rotate(sandbox, before)
        assert sandbox.lets_in(after.credential)
        if before.credential.password.reveal():
            assert after.id != before.id
            assert after.credential.password != before.credential.password
            assert not sandbox.lets_in(before.credential)

    def test_a_request_made_again_makes_no_second_one(self, sandbox: Sandbox) -> None:
        """The answer to the first may have been lost, and the process with it."""
        before = _served(sandbox)
        if not before.credential.password.reveal():
            pytest.skip("a rotation that shows no version cannot be told from none")
        after, made = _rotate(sandbox, before), _made(sandbox)
        again = _owner(sandbox).request_rotation(sandbox.path, _REQUEST, expect=before.id)
        assert again == after.id == _served(sandbox).id
        assert _made(sandbox) == made

    def test_what_happened_by_itself_is_not_done_again(self, sandbox: Sandbox) -> None:
        """Somebody else has rotated it since `expect` was served."""
        if sandbox.rotate_by_itself is None:
            pytest.skip("this sandbox cannot rotate by itself")
        before = _served(sandbox)
        sandbox.rotate_by_itself()
        there, made = _served(sandbox), _made(sandbox)
        assert (
            _owner(sandbox).request_rotation(sandbox.path, _REQUEST, expect=before.id) == there.id
        )
        assert _made(sandbox) == made

    def test_a_password_that_was_lost_is_replaced(self, sandbox: Sandbox) -> None:
        """The target has another one than is served: a request brings both together again."""
        if sandbox.lose_password is None:
            pytest.skip("this sandbox cannot lose its password")
        sandbox.lose_password()
        before = _served(sandbox)
        assert not sandbox.lets_in(before.credential)
        assert sandbox.lets_in(_rotate(sandbox, before).credential)

    # -- what is not ours ----------------------------------------------------------------------

    def test_nothing_can_be_given_to_it(self, sandbox: Sandbox) -> None:
        """Staging, publishing and going back are refused in words, and nothing changes."""
        served, backend = _served(sandbox), sandbox.backend
        before, made = _state(sandbox), _made(sandbox)
        new = replace(served.credential, password=Secret("brought-from-outside"))
        for act in (
            lambda: backend.stage(sandbox.path, _REQUEST, new),
            lambda: backend.publish(sandbox.path, _REQUEST, expect=served.id),
            lambda: backend.restore(sandbox.path, expect=served.id, to=served.id),
            lambda: sandbox.rotation().create(new, _context(sandbox)),
            lambda: sandbox.rotation().revoke(new, _context(sandbox)),
            lambda: sandbox.rotation().withdraw(new, _context(sandbox)),
            lambda: sandbox.rotation().propose(None, _context(sandbox)),
        ):
            with pytest.raises(Denied) as told:
                act()
            assert told.value.hint
            assert "brought-from-outside" not in str(told.value)
        backend.discard(sandbox.path, _REQUEST)
        assert backend.staged(sandbox.path, _REQUEST) is None
        assert (_state(sandbox), _made(sandbox)) == (before, made)

    def test_it_says_that_it_rotates_by_itself(self, sandbox: Sandbox) -> None:
        """That is how the engine knows to ask rather than to act; and there is no overlap."""
        assert isinstance(sandbox.rotation(), DelegatedRotation)
        assert _owner(sandbox).rotates_itself(sandbox.path)
        assert not sandbox.rotation().overlaps

    def test_no_secret_is_told(self, sandbox: Sandbox) -> None:
        """Neither in the log nor in evidence nor in what a credential shows of itself."""
        log = ListLog()
        before = _served(sandbox)
        after = _rotate(sandbox, before)
        evidence = sandbox.rotation().verify(after.credential, _context(sandbox, log))
        told = f"{log.lines} {evidence} {before} {after}"
        for one in (before, after):
            password = one.credential.password.reveal()
            assert not password or password not in told

    def test_it_survives_crashes_and_failures(
        self, make_sandbox: Callable[[], Sandbox], tried: int | None
    ) -> None:
        """Before and after its calls, in every scenario: it ends, and what is served logs in."""
        assert assert_survives_crashes(make_sandbox, sample=tried) > 0


def _served(sandbox: Sandbox) -> Version:
    found = sandbox.backend.current(sandbox.path)
    assert found is not None
    return found


def _owner(sandbox: Sandbox) -> RotatesOnRequest:
    assert isinstance(sandbox.backend, RotatesOnRequest)
    return sandbox.backend


def _rotate(sandbox: Sandbox, before: Version) -> Version:
    awaited = _owner(sandbox).request_rotation(sandbox.path, _REQUEST, expect=before.id)
    after = _served(sandbox)
    assert after.id == awaited
    return after


def _context(sandbox: Sandbox, log: ListLog | None = None) -> StepContext:
    served: Credential = _served(sandbox).credential
    return step_context(secret=sandbox.secret, path=sandbox.path, current=served, log=log)


def _state(sandbox: Sandbox) -> object:
    return sandbox.state() if sandbox.state is not None else None


def _made(sandbox: Sandbox) -> int:
    return sandbox.rotations() if sandbox.rotations is not None else 0
