import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rotations.command import PLUGIN, SecretOptions, TargetOptions
from rotator.testing import RotationSuite, Sandbox

PROGRAM = Path(__file__).with_name("sqlite_logins")


class TestProgram(RotationSuite):
    sample = 5

    @pytest.fixture(autouse=True, params=["new-user", "single-user"])
    def strategy(self, request):
        self._strategy = request.param

    def new_sandbox(self, folder: Path) -> Sandbox:
        file = str(folder / "logins.db")
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE logins (name PRIMARY KEY, hash, owner)")
        return Sandbox.of(
            PLUGIN,
            self._strategy,
            target_options=TargetOptions(program=PROGRAM, settings={"path": file}),
            secret_options=SecretOptions(username="shop"),
        )
