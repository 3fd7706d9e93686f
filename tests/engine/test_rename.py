"""`Engine.rename`: a history goes on under another name."""

from __future__ import annotations

import pytest

from rotator.core.errors import Parked, UsageError
from rotator.core.model import Kind, Outcome
from tests.engine.sandboxes import DAY, EngineSandbox, Killed, fail_next


def test_a_renamed_secret_keeps_its_login_version_and_due_date(rotated: EngineSandbox):
    """Nothing changes on the target or in the backend."""
    before, state = rotated.record, rotated.target.state()
    rotated.engine.rename("app", rotated.named("web"), reason="a new team")
    record = rotated.journal.secret("web")
    assert record is not None
    assert (record.version, record.login, record.next_due) == (
        before.version,
        before.login,
        before.next_due,
    )
    assert rotated.record.renamed_to == "web"
    assert rotated.target.state() == state


def test_a_renamed_secret_stays_parked(rotated: EngineSandbox):
    """Somebody stopped it; another name starts nothing."""
    rotated.engine.park(rotated.named("app"), reason="the vendor works on it")
    rotated.engine.rename("app", rotated.named("web"))
    record = rotated.journal.secret("web")
    assert record is not None
    assert record.parked == "the vendor works on it"
    assert rotated.record.parked is None
    with pytest.raises(Parked):
        rotated.engine.rotate(rotated.named("web"))
    rotated.engine.unpark(rotated.named("web"), reason="done")
    assert rotated.engine.rotate(rotated.named("web"), patience=DAY).outcome is Outcome.DONE


def test_both_chains_of_a_renamed_secret_name_each_other(rotated: EngineSandbox):
    """So that they are read as one."""
    head = rotated.record.head
    rotated.engine.rename("app", rotated.named("web"))
    assert (rotated.last.kind, rotated.last.data["to"]) == (Kind.RENAMED, "web")
    first = rotated.journal.events("web")[0]
    assert (first.data["from"], first.data["from_hash"]) == ("app", head)


def test_a_renamed_secret_is_rotated(rotated: EngineSandbox):
    """The marks of its former name on the target are its own."""
    old = rotated.served
    rotated.engine.rename("app", rotated.named("web"))
    result = rotated.engine.rotate(rotated.named("web"), patience=DAY)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert old.username not in rotated.target.accounts
    assert rotated.target.violations == []


def test_rename_that_was_killed_is_run_again(rotated: EngineSandbox):
    """It does what was left undone, once."""
    rotated.journal.append, works = _second_killed(rotated), rotated.journal.append
    with pytest.raises(Killed):
        rotated.engine.rename("app", rotated.named("web"))
    rotated.journal.append = works
    assert rotated.record.renamed_to is None
    rotated.process().rename("app", rotated.named("web"))
    assert rotated.record.renamed_to == "web"
    assert len(rotated.journal.events("web")) == 1


def test_rename_refuses_an_unknown_name(rotated: EngineSandbox):
    """There is no history to take over."""
    with pytest.raises(UsageError, match="knows no credential"):
        rotated.engine.rename("another", rotated.named("web"))


def test_rename_refuses_while_a_rotation_is_open(in_grace: EngineSandbox):
    """It would go on under no name."""
    with pytest.raises(UsageError, match="still open"):
        in_grace.engine.rename("app", in_grace.named("web"))


def test_rename_refuses_a_name_that_has_a_credential(rotated: EngineSandbox):
    """Two histories cannot become one."""
    rotated.engine.adopt(rotated.named("web"))
    with pytest.raises(UsageError, match="knows a credential of web already"):
        rotated.engine.rename("app", rotated.named("web"))


def test_rename_refuses_a_path_that_serves_another_version(rotated: EngineSandbox):
    """The new entry names another place, or somebody else wrote there."""
    rotated.write_by_hand(rotated.handed_over())
    with pytest.raises(UsageError, match="is at version"):
        rotated.engine.rename("app", rotated.named("web"))


def _second_killed(sandbox: EngineSandbox):
    """Return an `append` that works once and then ends the process."""
    works = sandbox.journal.append
    calls = fail_next(sandbox.journal, "append")

    def append(*arguments):
        if calls:
            raise Killed
        calls.append(0)
        return works(*arguments)

    return append
