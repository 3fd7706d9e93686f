"""Logins in an SQLite file, in a table that was made by
`CREATE TABLE logins (name PRIMARY KEY, hash, owner)`.
"""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from rotator import api


@dataclass(frozen=True, kw_only=True)
class Options:
    path: Path = field(metadata={"help": "The SQLite file with the table `logins`."})


class NewUser:
    """A fresh login each time."""

    overlaps = True

    def __init__(self, target: Options, secret: object) -> None:
        self._path = target.path

    def propose(self, current: api.Credential | None, ctx: api.StepContext) -> api.Credential:
        return api.candidate(api.successor(ctx.secret, ctx.entropy), current, ctx)

    def create(self, new: api.Credential, ctx: api.StepContext) -> None:
        self._change("REPLACE INTO logins VALUES (?, ?, ?)", ctx, new, hashed(new), ctx.secret)

    def verify(self, new: api.Credential, ctx: api.StepContext) -> api.Evidence:
        if not self.probe(new, ctx):
            raise api.Refused(f"login {new.username!r} is not let in.")
        return api.Evidence(checks=(api.Check(name="logs in", ok=True),))

    def probe(self, credential: api.Credential, ctx: api.StepContext) -> bool:
        found = self._run("SELECT hash FROM logins WHERE name = ?", credential.username)
        return found == [(hashed(credential),)]

    def revoke(self, old: api.Credential, ctx: api.StepContext) -> None:
        self._change("DELETE FROM logins WHERE name = ?", ctx, old)

    withdraw = revoke

    def _change(self, sql: str, ctx: api.StepContext, login: api.Credential, *values: str) -> None:
        owners = self._run("SELECT owner FROM logins WHERE name = ?", login.username)
        if owners not in ([], [(ctx.secret,)]) and login.username not in ctx.adopted:
            raise api.Conflict(f"login {login.username!r} is not ours.")
        api.require_not_current(login.username, ctx)
        ctx.require_time()
        self._run(sql, login.username, *values)

    def _run(self, sql: str, *values: str) -> list[tuple[str]]:
        try:
            with closing(sqlite3.connect(self._path)) as db, db:
                return db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise api.Transient(f"{self._path}: {error.sqlite_errorname}.") from error


def hashed(login: api.Credential) -> str:
    # Its passwords are long and drawn by chance: a slow hash would make them no safer.
    return hashlib.sha256(f"{login.username}:{login.password.reveal()}".encode()).hexdigest()


PLUGIN = api.Plugin(
    name="sqlite",
    summary="Logins in a table of an SQLite file.",
    strategies={"new-user": NewUser},
    target_options=Options,
)
