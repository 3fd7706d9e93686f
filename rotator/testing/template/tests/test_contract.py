import sqlite3
from contextlib import closing
from pathlib import Path

from rotator.testing import RotationSuite, Sandbox

from rotator_sqlite import PLUGIN, Options


class TestNewUser(RotationSuite):
    sample = 100

    def new_sandbox(self, folder: Path) -> Sandbox:
        with closing(sqlite3.connect(folder / "app.db")) as db:
            db.execute("CREATE TABLE logins (name PRIMARY KEY, hash, owner)")
        return Sandbox.of(PLUGIN, "new-user", target_options=Options(path=folder / "app.db"))
