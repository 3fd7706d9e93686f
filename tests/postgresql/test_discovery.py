"""The roles of a real server, as `rotator discover` lists them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import TargetOptions
from rotator.api import Credential, ListsLogins, Secret
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from tests.report.servers import LookedAt

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from rotator.api import FoundLogin
    from tests.postgresql.conftest import Harness


def logins_of(harness: Harness, admin: Credential | None = None) -> dict[str, FoundLogin]:
    """Return the roles by name."""
    server = harness.server
    password = Secret(server.superuser_password)
    who = admin or Credential(username="postgres", password=password)
    options = TargetOptions(host=server.host, port=server.port, dbname=harness.dbname)
    target = PLUGIN.target("main", options, lambda: who)
    assert isinstance(target, ListsLogins)
    try:
        found = target.logins(step_context(clock=SystemClock()))
    finally:
        target.close()
    return {login.login: login for login in found}


def test_roles_are_listed_with_marks_rights_and_sessions(harness: Harness):
    """What a look at the catalog shows, together."""
    secret = harness.secret(group=harness.group)
    _ = harness.engine.rotate(secret)
    served = harness.serves(secret).username
    name = f"{harness.dbname}_found"
    with harness.server.connect() as admin:
        admin.execute(
            f"""
            CREATE ROLE {name} LOGIN CREATEDB REPLICATION PASSWORD 'x' VALID UNTIL '2031-01-02 00:00Z';
            COMMENT ON ROLE {name} IS 'belongs to billing';
            GRANT pg_monitor TO {name};
            CREATE ROLE {name}_admin LOGIN VALID UNTIL 'infinity' IN ROLE postgres;
            CREATE ROLE {name}_group;
            """.encode()
        )
        try:
            logins = logins_of(harness)
        finally:
            admin.execute(f"DROP ROLE {name}, {name}_admin, {name}_group".encode())
    found = logins[name]
    assert (found.can_login, found.is_superuser, found.is_marked) == (True, False, False)
    assert found.rights == ("CREATEDB", "REPLICATION", "pg_monitor")
    assert found.comment == "belongs to billing"
    assert found.password_expires is not None
    assert found.password_expires.year == 2031
    assert (found.sessions, found.last_used) == (0, None)
    assert logins[f"{name}_admin"].is_superuser
    assert logins[f"{name}_admin"].password_expires is None
    assert f"{name}_group" not in logins
    assert (logins["postgres"].sessions or 0) >= 1
    assert logins["postgres"].last_used is not None
    assert logins[served].is_marked
    assert logins[served].is_of(secret.name)
    assert not logins[served].is_of("another secret")
    assert logins[served].remove == f"DROP OWNED BY {_quoted(served)}; DROP ROLE {_quoted(served)}"


def test_an_admin_without_further_rights_can_list_logins(harness: Harness):
    """It does not see when others were last active; how many sessions they have it sees."""
    name = f"{harness.dbname}_little"
    with harness.server.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'a-little-one'".encode())
        try:
            logins = logins_of(harness, Credential(username=name, password=Secret("a-little-one")))
        finally:
            admin.execute(f"DROP ROLE {name}".encode())
    assert (logins["postgres"].sessions or 0) >= 1
    assert logins["postgres"].last_used is None
    assert logins["postgres"].is_superuser


def _quoted(name: str) -> str:
    return f'"{name}"'


def test_a_report_names_the_roles_that_nobody_manages(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Until a look finds them gone; a role that cannot log in is none."""
    server, name = harness.server, f"{harness.dbname}_legacy"
    monkeypatch.setenv("ADMIN_PASSWORD", server.superuser_password)
    place = {"plugin": "postgresql", "host": server.host, "port": server.port}
    admin = {"username": "postgres", "password": "env:ADMIN_PASSWORD"}
    target = LookedAt(tmp_path, {**place, "dbname": harness.dbname, "admin": admin})
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN; CREATE ROLE {name}_group".encode())
    try:
        [main] = target.report(timedelta(hours=1))["coverage"]
    finally:
        with server.connect() as connection:
            connection.execute(f"DROP ROLE {name}, {name}_group".encode())
    assert (main["word"], name in main["names"]["unmanaged"]) == ("exception", True)
    assert "postgres" in main["names"]["admin"]
    assert not any(f"{name}_group" in names for names in main["names"].values())
    [after] = target.report(timedelta(hours=1))["coverage"]
    assert name not in after["names"]["unmanaged"]
    assert after["seq"] == main["seq"] + 1
