"""`Engine.let_go`: a secret that nobody can work on leaves our care; only the journal is written."""

from __future__ import annotations

import pytest

from rotator.core.errors import Busy, UsageError
from rotator.core.model import Outcome
from tests.engine.sandboxes import HOUR, EngineSandbox


def test_let_go_writes_only_the_journal(rotated: EngineSandbox):
    """Its target or entry is gone."""
    state, served = rotated.target.state(), rotated.served
    rotated.engine.let_go("app", reason="the server is gone")
    assert (rotated.target.state(), rotated.served) == (state, served)
    assert rotated.record.retired == "the server is gone"


def test_let_go_ends_what_is_open_and_names_its_logins(in_grace: EngineSandbox):
    """They may be valid, and somebody must end them by hand."""
    opened = in_grace.opened
    in_grace.engine.let_go("app", reason="gone")
    ended = in_grace.journal.history(opened.id)[-1]
    assert ended.data["outcome"] == Outcome.UNDONE.value
    assert str(opened.old_login) in str(ended.data["what"])
    assert str(opened.new_login) in str(ended.data["what"])
    assert in_grace.journal.open_rotation("app") is None


def test_let_go_refuses_what_is_not_under_our_care(rotated: EngineSandbox):
    """Not known, or retired before."""
    with pytest.raises(UsageError, match="not under management"):
        rotated.engine.let_go("another", reason="gone")
    rotated.engine.let_go("app", reason="gone")
    with pytest.raises(UsageError, match="not under management"):
        rotated.engine.let_go("app", reason="gone")


def test_let_go_refuses_a_secret_that_another_engine_works_on(rotated: EngineSandbox):
    """One lock, one engine."""
    rotated.journal.acquire("app", "another", HOUR)
    with pytest.raises(Busy):
        rotated.engine.let_go("app", reason="gone")


def test_let_go_gives_its_lease_back(rotated: EngineSandbox):
    """Also when it refuses."""
    rotated.engine.let_go("app", reason="gone")
    with pytest.raises(UsageError):
        rotated.engine.let_go("app", reason="gone")
    assert rotated.journal.acquire("app", "another", HOUR)
