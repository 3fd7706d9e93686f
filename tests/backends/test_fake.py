"""The backend in memory keeps the contract to the letter, and forgets what it need not keep."""

from __future__ import annotations

import pytest

from rotator.api import Conflict, Credential, Secret
from rotator.testing.backend_suite import BackendSuite, credential, publish
from rotator.testing.fake_backend import FakeBackend

_PATH = "apps/app"


@pytest.fixture(params=[False, True], ids=["labels", "copies"])
def backend(request: pytest.FixtureRequest) -> FakeBackend:
    return FakeBackend(copies=request.param)


class TestContract(BackendSuite):
    """It can stand wherever a real one can."""

    @pytest.fixture(params=[False, True], ids=["labels", "copies"])
    def backend(self, request: pytest.FixtureRequest) -> FakeBackend:
        """Return one that moves labels, or one that writes copies."""
        return FakeBackend(copies=request.param)


@pytest.mark.parametrize("expect", [None, "7"])
def test_publishing_over_a_stranger_is_refused(backend: FakeBackend, expect: str | None):
    """Somebody who knows nothing of us leaves no rotation id; their value stays."""
    theirs = backend.written_by_a_stranger(_PATH, credential("theirs"))
    backend.stage(_PATH, "r1", credential("a"))
    with pytest.raises(Conflict):
        backend.publish(_PATH, "r1", expect=expect)
    current = backend.current(_PATH)
    assert current is not None
    assert (current.id, current.rotation_id) == (theirs, None)
    assert backend.rotation_ids(_PATH) == {"r1"}


def test_only_the_current_and_the_previous_version_are_held(backend: FakeBackend):
    """As AWS does: whoever relies on an older one is found out."""
    first, second, third = (
        publish(backend, _PATH, f"r{number}", f"login-{number}") for number in range(3)
    )
    assert backend.read(_PATH, first) is None
    assert backend.read(_PATH, second) is not None
    with pytest.raises(Conflict, match="no longer held"):
        backend.restore(_PATH, expect=third, to=first)


def test_later_changes_to_the_callers_mapping_do_not_reach_what_is_stored(backend: FakeBackend):
    """A value is a value."""
    fields: dict[str, object] = {"host": "db"}
    backend.stage(_PATH, "r1", Credential(username="a", password=Secret("p"), fields=fields))
    fields["host"] = "elsewhere"
    stored = backend.staged(_PATH, "r1")
    assert stored is not None
    assert stored.fields == {"host": "db"}


def test_it_tells_which_passwords_can_still_be_read(backend: FakeBackend):
    """Pending, current and previous ones; no others."""
    for number in range(3):
        publish(backend, _PATH, f"r{number}", f"login-{number}")
    backend.stage(_PATH, "r3", credential("login-3"))
    held = [number for number in range(5) if backend.holds(f"password-of-login-{number}")]
    assert held == [1, 2, 3]
