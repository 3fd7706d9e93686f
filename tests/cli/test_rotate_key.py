"""`rotator audit rotate-key` ends with one key, wherever it is interrupted."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rotator import system
from rotator.backends.local import LocalBackend
from rotator.bootstrap import journal_integrity, open_app
from rotator.journal import chain
from rotator.journal.key_ring import KeyRing
from rotator.journal.sql import SqlJournal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from rotator.core.secret import Secret
    from tests.cli.conftest import Cli

_PATH, _FIELD = "rotator/audit", "private_key"


class _KilledError(BaseException):
    """The process ends here: no `except` and no result."""


class _Points:
    """Ends the process before or after one write of many."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.is_dead = False
        for owner, name in (
            (LocalBackend, "put_value"),
            (SqlJournal, "append"),
            (SqlJournal, "release"),
            (journal_integrity, "hand_over"),
        ):
            patch.setattr(owner, name, self._ending(getattr(owner, name)))

    def _ending(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*given: Any, **named: Any) -> Any:
            self._pass()
            result = write(*given, **named)
            self._pass()
            return result

        return killed

    def _pass(self) -> None:
        if self.is_dead or self.left == 0:
            # Nothing that it still tries, such as giving back a lease, happens.
            self.is_dead = True
            raise _KilledError
        self.left -= 1


def _ring(cli: Cli) -> KeyRing:
    with cli.app() as app:
        return KeyRing.parse(_value(app))


def _value(app: Any) -> Secret:
    value = app.backend("local").get_value(_PATH, _FIELD)
    assert value is not None
    return value


def test_the_key_is_replaced_and_everything_goes_on(cli: Cli, tmp_path: Path):
    """A new public key; the old one is gone from the backend, and still verifies what it signed."""
    cli("rotate", "app")
    old = _ring(cli).private[0]
    (tmp_path / "old.pub").write_text(chain.public_key(old))
    rotated = cli.json("audit", "rotate-key", "--leaked", "--reason", "a laptop was stolen").data
    (tmp_path / "new.pub").write_text(rotated["public_key"])
    assert old.reveal() not in cli("audit", "rotate-key", "--reason", "again").out
    cli("rotate", "web")
    first, second = cli.json("audit", "verify").data["key_rotations"]
    assert [first["before"], first["key"], first["leaked"]] == [
        chain.key_id(chain.public_key(old)),
        rotated["key"],
        True,
    ]
    assert [second["before"], second["leaked"]] == [rotated["key"], False]
    assert "LEAKED" in cli("audit", "verify", "--public-key", str(tmp_path / "old.pub")).out
    cli("audit", "verify", "--public-key", str(tmp_path / "new.pub"))
    cli("audit", "export", "--out", str(tmp_path / "out"))
    for key in ("old.pub", "new.pub"):
        cli(
            "audit",
            "verify",
            "--export",
            str(tmp_path / "out"),
            "--public-key",
            str(tmp_path / key),
        )
    assert "a laptop was stolen" in cli("audit", "show").out
    assert [one.reveal() for one in _ring(cli).private] != [old.reveal()]
    assert cli.json("doctor", code=None).data["findings"]


def test_an_interrupted_rotation_of_the_key_is_finished_by_the_next(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After the death at any of its writes all commands go on, and run again it ends with one key."""
    cli("rotate", "app")
    kept = tmp_path / "kept"
    shutil.copytree(cli.folder, kept, ignore=shutil.ignore_patterns("kept"))
    monkeypatch.setattr(system, "is_dead", lambda _holder: True)
    old = _ring(cli).private[0]
    number, ends = 0, list[int]()
    while True:
        for file in kept.iterdir():
            if file.is_file():
                shutil.copy2(file, cli.folder / file.name)
        for stale in cli.folder.glob("*.db-*"):
            stale.unlink()
        with monkeypatch.context() as patch, open_app(cli.config, face="test") as app:
            points = _Points(patch)
            points.left = number
            with suppress(_KilledError):
                app.rotate_key("yearly")
        if not points.is_dead:
            break
        with cli.app() as app:
            assert app.verify_journal().damage == [], number
            app.journal.release(app.journal.acquire("app", "another", journal_integrity.WRITING))
            app.checkpoint()
            ends.append(len(KeyRing.parse(_value(app)).private))
            app.rotate_key("yearly")
            assert app.verify_journal().damage == [], number
        ring = _ring(cli)
        assert len(ring.private) == 1, number
        assert ring.private[0] != old
        number += 1
    assert number > 10
    # Before the journal took the new key, both stay; after it, the next command removes the old one.
    assert set(ends) == {1, 2}


def test_a_running_daemon_goes_on_after_the_key_was_replaced(cli: Cli):
    """It has loaded the old key, and checks the journal with it."""
    cli("rotate", "app")
    with cli.app() as daemon:
        assert daemon.watch_journal().damage == []
        cli("audit", "rotate-key", "--reason", "yearly")
        assert daemon.watch_journal().damage == []
        daemon.checkpoint()
    cli("audit", "verify")


def test_without_a_signing_key_there_is_nothing_to_replace(cli: Cli):
    """The command says what to set."""
    cli.edit(', signing_key: "local:rotator/audit#private_key"', "")
    assert "names no signing key" in cli("audit", "rotate-key", "--reason", "x", code=2).err
