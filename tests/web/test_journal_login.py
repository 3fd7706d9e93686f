"""The console's own login to a journal in PostgreSQL: it reads, appends requests, and can do no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator.core.model import Kind, NewEvent
from rotator.core.secret import Secret
from rotator.faces.web.app import rules
from rotator.faces.web.live import Streams
from rotator.journal.sql import SqlJournal
from rotator.system import SystemClock
from tests.journal.conftest import TTL
from tests.web.conftest import ROLES, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.postgres import ScratchPostgres

_RIGHTS = Path(__file__).parents[2] / "deploy" / "postgresql" / "console-role.sql"
_LOGIN_PHRASE = "c0nsole-db-77e1"
_DATABASE = "console_login"


@pytest.fixture
def site(postgres: ScratchPostgres, open_site: Callable[..., Site], cli: Any) -> Iterator[Site]:
    """A console over a journal in PostgreSQL, with a login that has the rights of the file in `deploy`."""
    where = f"{postgres.host}:{postgres.port}/{_DATABASE}"
    with postgres.connect() as admin:
        admin.execute(f"CREATE DATABASE {_DATABASE}")
        admin.execute(f"CREATE ROLE rotator_console LOGIN PASSWORD '{_LOGIN_PHRASE}'")
    owner = SqlJournal(
        f"postgresql://postgres@{where}",
        clock=SystemClock(),
        actor="test",
        password=Secret(postgres.superuser_password),
        upgrade=True,
    )
    try:
        with owner.writing() as db:
            db.exec_driver_sql(_RIGHTS.read_text().replace("%", "%%"))
        for number in range(60):
            lock = owner.acquire(f"secret-{number}", "holder", TTL)
            told = NewEvent(kind=Kind.PARKED, data={"reason": f"reason {number}"})
            owner.append(lock, [told] * 3, TTL)
            owner.release(lock)
        file = cli.folder / "db-login"
        file.touch(mode=0o600)
        file.write_text(_LOGIN_PHRASE)
        web = f'web: {{journal: {{url: "postgresql://rotator_console@{where}", password: "file:db-login"}}}}\n'
        yield open_site(ROLES + web)
    finally:
        owner.close()
        with postgres.connect() as admin:
            admin.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
            admin.execute("DROP ROLE rotator_console")


def test_it_suffices_for_every_page_and_request_and_for_nothing_else(
    site: Site, postgres: ScratchPostgres
):
    """Every page answers and a request is appended; events can be neither written, changed nor removed."""
    browser = site.browser("admin")
    for one in rules(Streams()):
        if one.method == "GET" and "{" not in one.path and one.path != "/events":
            assert browser.get(one.path).status_code < 500, one.path
    newest = site.console.browser.newest(50)
    assert len(newest.events) >= 50
    token = browser.get("/api/v1/session").json()["token"]
    asked = {"token": token, "seq": "0", "reason": "tests"}
    assert browser.post("/secrets/web/request/rotate", asked).status_code == 303
    assert [one.secret for one in site.console.requests.open()] == ["web"]
    login = {
        "host": postgres.host,
        "port": postgres.port,
        "dbname": _DATABASE,
        "user": "rotator_console",
        "password": _LOGIN_PHRASE,
        "autocommit": True,
    }
    with psycopg.connect(**login) as db:
        for statement in (
            "UPDATE events SET actor = 'x'",
            "DELETE FROM events",
            "INSERT INTO events SELECT * FROM events",
            "TRUNCATE events",
            "UPDATE secrets SET parked = NULL",
            "UPDATE requests SET writer = 'x'",
            "DELETE FROM requests",
            "DELETE FROM checkpoints",
            "UPDATE consumers SET version = 'x'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)


def test_newest_events_of_a_large_table_come_a_page_at_a_time(site: Site):
    """By blocks of the table: every event once, newest first, without an index on the time."""
    seen, before = [], None
    while True:
        page = site.console.browser.newest(20, before)
        seen += [(event.secret, event.seq) for event in page.events]
        before = page.older
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 180
