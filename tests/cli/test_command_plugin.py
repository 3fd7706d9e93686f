"""The whole program with a program of one's own as the target."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from rotator.testing.templates import COMMAND_FILES, PROGRAM, write_template

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_CONFIG = """\
version: 1
journal: {url: "sqlite:///rotator.db", signing_key: "local:rotator/audit#private_key"}
backends: {local: {type: local}}
targets:
  mine: {plugin: command, program: mine/sqlite_logins, settings: {path: FOLDER/logins.db}}
secrets:
  shop: {target: mine, backend: local, strategy: new-user, options: {prefix: web}}
"""


def test_a_program_rotates_a_secret_and_no_file_holds_its_passwords(bare: Cli):
    """From `init` to a revoke; doctor finds nothing, and the journal verifies."""
    write_template(bare.folder / "mine", COMMAND_FILES)
    with closing(sqlite3.connect(bare.folder / "logins.db")) as db:
        db.execute("CREATE TABLE logins (name PRIMARY KEY, hash, owner)")
    bare("init")
    bare.write(_CONFIG.replace("FOLDER", str(bare.folder)))
    shown, passwords = list[str](), list[str]()
    for _ in range(2):
        shown.append(bare("rotate", "shop").out)
        passwords.append(bare("get", "shop", "--field", "password", "--reveal").out.strip())
    shown += [bare("revoke", "shop").out, bare("doctor").out, bare("audit", "verify").out]
    assert bare("get", "shop", "--field", "username").out.startswith("web_r")
    (bare.folder / "mine" / PROGRAM).chmod(0o777)
    failed = bare.json("rotate", "shop", code=None)
    assert "can be written by others" in str(failed.errors)
    shown.append(str(failed.answer))
    for file in bare.folder.rglob("*"):
        if file.is_file():
            shown.append(file.read_bytes().decode(errors="replace"))
    assert not [text for text in shown for password in passwords if password in text]
