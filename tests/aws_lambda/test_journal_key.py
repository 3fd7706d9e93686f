"""A function goes on with the new key after the journal's signing key was replaced."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rotator.core.secret import Secret
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from tests.aws_lambda.sandboxes import Sandbox
from tests.journal.test_handovers import Store


def test_a_warm_function_goes_on_with_the_new_key(sandbox: Sandbox, tmp_path: Path):
    """It reads the value anew when a record has a seal that its key did not make."""
    url = sandbox.keep_journal_in(sandbox.server)
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(sandbox.environ["SIGNING_KEY"])
    sandbox.environ["ROTATOR_JOURNAL_SIGNING_KEY"] = f"file:{file}"
    key = Secret(file.read_text())
    store = Store(ring=key, old=key)
    password = Secret(sandbox.environ["JOURNAL_PASSWORD"])
    sandbox.secret()
    with closing(sandbox.function()) as sandbox.warm:
        assert sandbox.rotate() == []
        journal = SqlJournal(
            url, clock=ManualClock(), actor="test", password=password, key=store.key
        )
        with closing(journal):
            store.rotate(journal)
            file.write_text(store.ring.reveal())
            sandbox.sweep()
            assert sandbox.rotate() == []
            sandbox.sweep()
            assert store.verify(journal).damage == []
