"""The contract of a target that keeps and rotates its own secrets, as tests; then crashes at every call.

A strategy proves itself with a file of a few lines:

    class TestStaticRole(LedSuite):
        @pytest.fixture
        def make_world(self, engine):
            return lambda: World(rotation=lambda: my_rotation(engine), backend=my_backend(engine))
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotator.core.delegated import Followed
from rotator.core.errors import Denied, Refused
from rotator.core.ports import Examines, Explains, RotatesItself
from rotator.core.secret import Secret
from rotator.testing.crash import World, assert_survives_crashes
from rotator.testing.fakes import ListLog, step_context
from rotator.testing.sampling import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.model import Credential, Version
    from rotator.core.ports import StepContext

_REQUEST = "00000000-0000-4000-8000-00000000000a"


class LedSuite(Sampled):
    """Every test works in a world of its own, in which something is served already."""

    @pytest.fixture
    def make_world(self) -> Callable[[], World]:
        """Return what makes a fresh world: overridden by whoever uses the suite."""
        raise NotImplementedError

    @pytest.fixture
    def world(self, make_world: Callable[[], World]) -> World:
        """Return a fresh world."""
        return make_world()

    # -- what is served ------------------------------------------------------------------------

    def test_what_is_served_logs_in(self, world: World) -> None:
        """And neither another password nor another name does."""
        served = _served(world).credential
        rotation, ctx = world.rotation(), _context(world)
        assert rotation.probe(served, ctx)
        wrong = replace(served, password=Secret("not-the-one-that-is-served"))
        assert not rotation.probe(wrong, ctx)
        assert not rotation.probe(replace(wrong, username=f"{served.username}x"), ctx)

    def test_a_version_is_the_same_until_something_changes(self, world: World) -> None:
        """Reading twice is reading once; that version can be read, and no other."""
        first, second = _served(world), _served(world)
        assert (first.id, first.credential) == (second.id, second.credential)
        assert world.backend.read(world.path, first.id) is not None
        assert world.backend.read(world.path, f"{first.id}-not") is None

    def test_verifying_shows_evidence(self, world: World) -> None:
        """Every check in it is as it must be, and has a name."""
        evidence = world.rotation().verify(_served(world).credential, _context(world))
        assert evidence.ok
        assert all(one.name for one in evidence.checks)

    def test_verifying_refuses_what_does_not_log_in(self, world: World) -> None:
        """By the error that says so, or by a check that failed."""
        wrong = replace(_served(world).credential, password=Secret("never-set-anywhere"))
        try:
            evidence = world.rotation().verify(wrong, _context(world))
        except Refused:
            return
        assert not evidence.ok

    def test_looking_changes_nothing(self, world: World) -> None:
        """Neither reading nor trying, explaining or examining."""
        before, made = _state(world), _made(world)
        served = _served(world).credential
        rotation, ctx = world.rotation(), _context(world)
        _ = rotation.probe(served, ctx), rotation.verify(served, ctx)
        if isinstance(rotation, Explains):
            assert all(one.text for one in rotation.explain(served, ctx))
        if isinstance(rotation, Examines):
            _ = rotation.examine(served, ctx)
        assert (_state(world), _made(world)) == (before, made)

    # -- rotating ------------------------------------------------------------------------------

    def test_a_request_makes_another_credential_current(self, world: World) -> None:
        """What is served then logs in, and what was served before does not."""
        before = _served(world)
        after = _rotate(world, before)
        assert world.lets_in(after.credential)
        if before.credential.password.reveal():
            assert after.id != before.id
            assert after.credential.password != before.credential.password
            assert not world.lets_in(before.credential)

    def test_a_request_made_again_makes_no_second_one(self, world: World) -> None:
        """The answer to the first may have been lost, and the process with it."""
        before = _served(world)
        if not before.credential.password.reveal():
            pytest.skip("a rotation that shows no version cannot be told from none")
        after, made = _rotate(world, before), _made(world)
        again = _owner(world).request_rotation(world.path, _REQUEST, expect=before.id)
        assert again == after.id == _served(world).id
        assert _made(world) == made

    def test_what_happened_by_itself_is_not_done_again(self, world: World) -> None:
        """Somebody else has rotated it since `expect` was served."""
        if world.rotate_by_itself is None:
            pytest.skip("this world cannot rotate by itself")
        before = _served(world)
        world.rotate_by_itself()
        there, made = _served(world), _made(world)
        assert _owner(world).request_rotation(world.path, _REQUEST, expect=before.id) == there.id
        assert _made(world) == made

    def test_a_password_that_was_lost_is_replaced(self, world: World) -> None:
        """The target has another one than is served: a request brings both together again."""
        if world.lose_password is None:
            pytest.skip("this world cannot lose its password")
        world.lose_password()
        before = _served(world)
        assert not world.lets_in(before.credential)
        assert world.lets_in(_rotate(world, before).credential)

    # -- what is not ours ----------------------------------------------------------------------

    def test_nothing_can_be_given_to_it(self, world: World) -> None:
        """Staging, publishing and going back are refused in words, and nothing changes."""
        served, backend = _served(world), world.backend
        before, made = _state(world), _made(world)
        new = replace(served.credential, password=Secret("brought-from-outside"))
        for act in (
            lambda: backend.stage(world.path, _REQUEST, new),
            lambda: backend.publish(world.path, _REQUEST, expect=served.id),
            lambda: backend.restore(world.path, expect=served.id, to=served.id),
            lambda: world.rotation().create(new, _context(world)),
            lambda: world.rotation().revoke(new, _context(world)),
            lambda: world.rotation().withdraw(new, _context(world)),
            lambda: world.rotation().propose(None, _context(world)),
        ):
            with pytest.raises(Denied) as told:
                act()
            assert told.value.hint
            assert "brought-from-outside" not in str(told.value)
        backend.discard(world.path, _REQUEST)
        assert backend.staged(world.path, _REQUEST) is None
        assert (_state(world), _made(world)) == (before, made)

    def test_it_says_that_it_rotates_by_itself(self, world: World) -> None:
        """That is how the engine knows to ask rather than to act; and there is no overlap."""
        assert isinstance(world.rotation(), Followed)
        assert _owner(world).rotates_itself(world.path)
        assert not world.rotation().overlaps

    def test_no_secret_is_told(self, world: World) -> None:
        """Neither in the log nor in evidence nor in what a credential shows of itself."""
        log = ListLog()
        before = _served(world)
        after = _rotate(world, before)
        evidence = world.rotation().verify(after.credential, _context(world, log))
        told = f"{log.lines} {evidence} {before} {after}"
        for one in (before, after):
            password = one.credential.password.reveal()
            assert not password or password not in told

    def test_it_survives_crashes_and_failures(
        self, make_world: Callable[[], World], tried: int | None
    ) -> None:
        """Before and after its calls, in every scenario: it ends, and what is served logs in."""
        assert assert_survives_crashes(make_world, sample=tried) > 0


def _served(world: World) -> Version:
    found = world.backend.current(world.path)
    assert found is not None
    return found


def _owner(world: World) -> RotatesItself:
    assert isinstance(world.backend, RotatesItself)
    return world.backend


def _rotate(world: World, before: Version) -> Version:
    awaited = _owner(world).request_rotation(world.path, _REQUEST, expect=before.id)
    after = _served(world)
    assert after.id == awaited
    return after


def _context(world: World, log: ListLog | None = None) -> StepContext:
    served: Credential = _served(world).credential
    return step_context(secret=world.secret, path=world.path, current=served, log=log)


def _state(world: World) -> object:
    return world.state() if world.state is not None else None


def _made(world: World) -> int:
    return world.rotations() if world.rotations is not None else 0
