"""The backend in memory keeps the contract to the letter, and forgets what it need not keep."""

from __future__ import annotations

import pytest

from rotator.api import Conflict, Credential, KeepsValues, Secret, SecretBackend, TellsRotations
from rotator.testing.fake_backend import FakeBackend

_PATH = "apps/app"


def _credential(name: str, **fields: object) -> Credential:
    return Credential(username=name, password=Secret(f"password-of-{name}"), fields=fields)


@pytest.fixture(params=[False, True], ids=["labels", "copies"])
def backend(request: pytest.FixtureRequest) -> FakeBackend:
    return FakeBackend(copies=request.param)


def _publish(backend: FakeBackend, rotation: str, name: str) -> str:
    current = backend.current(_PATH)
    backend.stage(_PATH, rotation, _credential(name))
    return backend.publish(_PATH, rotation, expect=current.id if current else None)


def test_it_is_a_backend_with_all_abilities(backend: FakeBackend):
    """It can stand wherever a real one can."""
    contract: SecretBackend = backend
    assert isinstance(contract, KeepsValues)
    assert isinstance(contract, TellsRotations)


def test_what_is_staged_is_unseen_by_consumers(backend: FakeBackend):
    """Only its own rotation finds it."""
    backend.stage(_PATH, "r1", _credential("a"))
    assert backend.current(_PATH) is None
    assert backend.staged(_PATH, "r1") == _credential("a")
    assert backend.staged(_PATH, "r2") is None
    assert backend.staged("elsewhere", "r1") is None


def test_the_first_value_staged_wins(backend: FakeBackend):
    """A second engine, or a second try, gets what is stored."""
    backend.stage(_PATH, "r1", _credential("a"))
    assert backend.stage(_PATH, "r1", _credential("b")) == _credential("a")
    assert backend.staged(_PATH, "r1") == _credential("a")


def test_staging_what_was_published_stages_nothing(backend: FakeBackend):
    """A very late second try leaves no orphan."""
    _publish(backend, "r1", "a")
    assert backend.stage(_PATH, "r1", _credential("b")) == _credential("a")
    assert backend.pending(_PATH) == {}


def test_publishing_makes_it_current_and_empties_the_stage(backend: FakeBackend):
    """Consumers read it under its version, with the rotation that wrote it."""
    version = _publish(backend, "r1", "a")
    current = backend.current(_PATH)
    assert current is not None
    assert (current.id, current.rotation_id) == (version, "r1")
    assert current == backend.read(_PATH, version)
    assert backend.staged(_PATH, "r1") is None


def test_publishing_twice_is_publishing_once(backend: FakeBackend):
    """Whatever is expected the second time."""
    version = _publish(backend, "r1", "a")
    assert backend.publish(_PATH, "r1", expect=None) == version
    assert backend.publish(_PATH, "r1", expect="nonsense") == version


def test_a_published_rotation_that_is_no_longer_current_is_not_published_again(
    backend: FakeBackend,
):
    """What came after it stays."""
    _publish(backend, "r1", "a")
    _publish(backend, "r2", "b")
    with pytest.raises(Conflict):
        backend.publish(_PATH, "r1", expect=None)


@pytest.mark.parametrize("expect", [None, "7"])
def test_publishing_over_somebody_else_is_refused(backend: FakeBackend, expect: str | None):
    """Nothing is overwritten, and the staged value stays."""
    theirs = backend.written_by_a_stranger(_PATH, _credential("theirs"))
    backend.stage(_PATH, "r1", _credential("a"))
    with pytest.raises(Conflict):
        backend.publish(_PATH, "r1", expect=expect)
    current = backend.current(_PATH)
    assert current is not None
    assert (current.id, current.rotation_id) == (theirs, None)
    assert backend.staged(_PATH, "r1") is not None


def test_publishing_nothing_is_refused(backend: FakeBackend):
    """There must be something staged."""
    with pytest.raises(Conflict, match="nothing is staged"):
        backend.publish(_PATH, "r1", expect=None)


def test_discarding_forgets_the_stage_and_nothing_else(backend: FakeBackend):
    """Twice is once, nothing there is success, and what is published stays."""
    version = _publish(backend, "r1", "a")
    backend.stage(_PATH, "r2", _credential("b"))
    for rotation in ("r2", "r2", "r1", "never"):
        backend.discard(_PATH, rotation)
    assert backend.pending(_PATH) == {}
    assert backend.read(_PATH, version) is not None


def test_only_the_current_and_the_previous_version_are_held(backend: FakeBackend):
    """As AWS does: whoever relies on an older one is found out."""
    first, second, third = (
        _publish(backend, f"r{number}", f"login-{number}") for number in range(3)
    )
    assert backend.read(_PATH, first) is None
    assert backend.read(_PATH, second) is not None
    assert backend.read(_PATH, third) is not None


def test_restoring_brings_the_previous_value_back(backend: FakeBackend):
    """Twice is once; the one it replaces can still be read."""
    old, new = _publish(backend, "r1", "a"), _publish(backend, "r2", "b")
    version = backend.restore(_PATH, expect=new, to=old)
    assert backend.restore(_PATH, expect=new, to=old) == version
    current = backend.current(_PATH)
    assert current is not None
    assert (current.id, current.credential) == (version, _credential("a"))
    replaced = backend.read(_PATH, new)
    assert replaced is not None
    assert replaced.credential == _credential("b")


def test_restoring_over_somebody_else_is_refused(backend: FakeBackend):
    """What was written since stays."""
    old, new = _publish(backend, "r1", "a"), _publish(backend, "r2", "b")
    theirs = backend.written_by_a_stranger(_PATH, _credential("theirs"))
    with pytest.raises(Conflict):
        backend.restore(_PATH, expect=new, to=old)
    current = backend.current(_PATH)
    assert current is not None
    assert current.id == theirs


def test_restoring_what_is_gone_is_refused(backend: FakeBackend):
    """A value that is no longer held cannot come back."""
    versions = [_publish(backend, f"r{number}", f"login-{number}") for number in range(3)]
    with pytest.raises(Conflict, match="no longer held"):
        backend.restore(_PATH, expect=versions[2], to=versions[0])


def test_fields_it_does_not_know_are_kept(backend: FakeBackend):
    """And later changes to the caller's own mapping do not reach what is stored."""
    fields: dict[str, object] = {"host": "db", "port": 5432}
    backend.stage(_PATH, "r1", Credential(username="a", password=Secret("p"), fields=fields))
    fields["host"] = "elsewhere"
    stored = backend.staged(_PATH, "r1")
    assert stored is not None
    assert stored.fields == {"host": "db", "port": 5432}


def test_it_tells_which_passwords_can_still_be_read(backend: FakeBackend):
    """Pending, current and previous ones; no others."""
    for number in range(3):
        _publish(backend, f"r{number}", f"login-{number}")
    backend.stage(_PATH, "r3", _credential("login-3"))
    held = [number for number in range(5) if backend.holds(f"password-of-login-{number}")]
    assert held == [1, 2, 3]


def test_it_tells_which_rotations_it_has_seen(backend: FakeBackend):
    """Those that wrote what is held, pending ones too, and no stranger."""
    _publish(backend, "r1", "a")
    backend.written_by_a_stranger(_PATH, _credential("theirs"))
    backend.stage(_PATH, "r2", _credential("b"))
    assert backend.rotation_ids(_PATH) == {"r1", "r2"}


def test_single_values_are_kept_beside(backend: FakeBackend):
    """Signing keys and anchors."""
    assert backend.get_value("keys", "signing") is None
    backend.put_value("keys", "signing", Secret("first"))
    backend.put_value("keys", "signing", Secret("second"))
    assert backend.get_value("keys", "signing") == Secret("second")
