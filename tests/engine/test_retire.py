"""`Engine.retire`: a secret leaves our care, with or without its login and its value."""

from __future__ import annotations

import pytest

from rotator.core.errors import Conflict, InUse, UsageError
from rotator.core.model import Outcome
from rotator.engine import Retirement
from rotator.testing.fake_backend import FakeBackend
from tests.engine.sandboxes import DAY, EngineSandbox, Killed, fail_next


class _Removing(FakeBackend):
    """A backend that can remove a secret."""

    removed: bool = False

    def remove(self, path: str, *, expect: str | None) -> None:
        assert self.current(path) is None or expect is not None
        self.removed = True


def test_retire_leaves_the_login_as_it_is(rotated: EngineSandbox):
    """The application goes on."""
    state, served = rotated.target.state(), rotated.served
    retired = rotated.engine.retire(rotated.secret, Retirement(reason="moved"))
    assert (retired.dropped, retired.removed, retired.still_open) == (False, False, None)
    assert (rotated.target.state(), rotated.served) == (state, served)
    assert rotated.record.retired == "moved"
    assert rotated.record.next_due is None


def test_retire_drops_the_login_and_proves_that_it_is_rejected(rotated: EngineSandbox):
    """It is asked for, so that no login is lost by mistake."""
    served = rotated.served
    retired = rotated.engine.retire(rotated.secret, Retirement(drop_login=True))
    assert (retired.login, retired.dropped, retired.refused) == (served.username, True, True)
    assert not rotated.accepts(served)


def test_retire_does_not_drop_a_login_that_is_in_use(rotated: EngineSandbox):
    """Nothing is retired then."""
    rotated.target.open_session(rotated.served.username)
    with pytest.raises(InUse, match="1 open session"):
        rotated.engine.retire(rotated.secret, Retirement(drop_login=True))
    assert rotated.record.retired is None
    assert rotated.accepts(rotated.served)


def test_retire_ends_the_sessions_on_an_operators_word(rotated: EngineSandbox):
    """Then it drops the login."""
    rotated.target.open_session(rotated.served.username)
    asked = Retirement(drop_login=True, end_sessions=True)
    assert rotated.engine.retire(rotated.secret, asked).refused is True


def test_retire_does_not_drop_a_login_that_the_journal_does_not_know(rotated: EngineSandbox):
    """Somebody else wrote what the backend serves."""
    rotated.write_by_hand(rotated.handed_over())
    state = rotated.target.state()
    with pytest.raises(Conflict, match="somebody else wrote"):
        rotated.engine.retire(rotated.secret, Retirement(drop_login=True))
    assert rotated.target.state() == state


def test_retire_refuses_what_the_backend_cannot_do(rotated: EngineSandbox):
    """Before anything is changed."""
    before = rotated.everything()
    with pytest.raises(UsageError, match="cannot remove"):
        rotated.engine.retire(rotated.secret, Retirement(remove_value=True))
    assert rotated.everything() == before


def test_retire_removes_the_value_from_a_backend_that_can():
    """After the login, which needs it."""
    backend = _Removing()
    sandbox = EngineSandbox(backend=backend)
    sandbox.engine.rotate(sandbox.secret)
    asked = Retirement(drop_login=True, remove_value=True)
    retired = sandbox.engine.retire(sandbox.secret, asked)
    assert (retired.removed, backend.removed) == (True, True)


def test_retire_completes_a_published_rotation_first(rotated: EngineSandbox):
    """The old login ends with it."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.engine.retire(rotated.secret, Retirement())
    assert not rotated.accepts(old)
    assert rotated.journal.rotations("app", 1)[0].outcome is Outcome.DONE


def test_retire_undoes_an_unpublished_rotation_first(rotated: EngineSandbox):
    """The new login ends with it."""
    logins = rotated.target.usable()
    fail_next(rotated.rotation, "verify", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret)
    rotated.process().retire(rotated.secret, Retirement())
    assert rotated.target.usable() == logins
    assert rotated.journal.rotations("app", 1)[0].outcome is Outcome.UNDONE


def test_retire_stops_where_the_open_rotation_cannot_be_completed(in_grace: EngineSandbox):
    """Its result shows why; nothing is retired."""
    in_grace.target.open_session(in_grace.opened.old_login or "")
    retired = in_grace.engine.retire(in_grace.secret, Retirement())
    assert retired.still_open is not None
    assert "open sessions" in retired.still_open.waiting
    assert in_grace.record.retired is None


def test_retire_that_was_killed_is_run_again(rotated: EngineSandbox):
    """Each of its steps is an ensure."""
    fail_next(rotated.rotation, "close_login", Killed(), done=True)
    with pytest.raises(Killed):
        rotated.engine.retire(rotated.secret, Retirement(drop_login=True))
    assert rotated.record.retiring is not None
    assert rotated.process().retire(rotated.secret, Retirement(drop_login=True)).refused is True
    assert rotated.record.retired is not None


def test_retire_refuses_what_is_not_under_our_care(sandbox: EngineSandbox):
    """Not known, or retired before."""
    with pytest.raises(UsageError, match="not under management"):
        sandbox.engine.retire(sandbox.secret, Retirement())
    sandbox.engine.rotate(sandbox.secret)
    sandbox.engine.retire(sandbox.secret, Retirement())
    with pytest.raises(UsageError, match="not under management"):
        sandbox.engine.retire(sandbox.secret, Retirement())


def test_a_retired_secret_comes_back_by_its_adoption(rotated: EngineSandbox):
    """Its login was left, so it can be adopted."""
    rotated.engine.retire(rotated.secret, Retirement())
    rotated.engine.adopt(rotated.secret)
    assert rotated.record.retired is None
    assert rotated.engine.rotate(rotated.secret, patience=DAY).outcome is Outcome.DONE
