"""The accounts of real servers, as `rotator discover` lists them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rotations.mysql import PLUGIN
from rotations.mysql.options import TargetOptions
from rotator.api import Credential, ListsLogins, Secret
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from tests.report.servers import LookedAt

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from rotator.api import FoundLogin
    from tests.mysql.harness import Harness


def logins_of(harness: Harness) -> dict[str, FoundLogin]:
    """Return the accounts by name."""
    server = harness.server
    options = TargetOptions(host=server.host, port=server.port)
    root = Credential(username="root", password=Secret(server.root_password))
    target = PLUGIN.target("main", options, lambda: root)
    assert isinstance(target, ListsLogins)
    try:
        found = target.logins(step_context(clock=SystemClock()))
    finally:
        target.close()
    return {login.login: login for login in found}


def test_accounts_are_listed_with_marks_rights_and_ages(harness: Harness):
    """On both servers, which keep the age of a password in different places."""
    secret = harness.secret("new-user")
    harness.adopt(secret)
    _ = harness.engine.rotate(secret)
    served = harness.serves(secret).username
    name = f"{harness.name}_found"
    harness.server.run(
        f"CREATE USER {name}@'10.%' IDENTIFIED BY 'some-password-1'",
        f"GRANT PROCESS, FILE ON *.* TO {name}@'10.%'",
        f"CREATE USER {name}_off@'%' IDENTIFIED BY 'some-password-1' ACCOUNT LOCK",
        f"CREATE ROLE {name}_role",
    )
    try:
        logins = logins_of(harness)
    finally:
        harness.server.run(f"DROP USER {name}@'10.%', {name}_off@'%'", f"DROP ROLE {name}_role")
    found = logins[name]
    assert (found.host, found.can_login, found.has_password) == ("10.%", True, True)
    assert found.rights == ("FILE", "PROCESS")
    assert found.password_set is not None
    assert datetime.now(UTC) - found.password_set < timedelta(minutes=5)
    assert found.remove == f"DROP USER `{name}`@`10.%`"
    assert not found.is_of(secret.name)
    assert not logins[f"{name}_off"].can_login
    assert f"{name}_role" not in logins
    assert logins[served].is_of(secret.name)
    assert not logins[served].is_of("another secret")
    assert logins["root"].is_superuser
    assert not any(login.login.startswith("rotator:") for login in logins.values())


def test_a_report_names_the_accounts_that_nobody_manages(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With their host; one that is locked is counted apart."""
    server, name = harness.server, f"{harness.name}_legacy"
    monkeypatch.setenv("ADMIN_PASSWORD", server.root_password)
    place = {"plugin": "mysql", "host": server.host, "port": server.port}
    admin = {"username": "root", "password": "env:ADMIN_PASSWORD"}
    target = LookedAt(tmp_path, {**place, "admin": admin})
    server.run(
        f"CREATE USER {name}@'10.%' IDENTIFIED BY 'some-password-1'",
        f"CREATE USER {name}_off@'%' IDENTIFIED BY 'some-password-1' ACCOUNT LOCK",
    )
    try:
        [main] = target.report(timedelta(hours=1))["coverage"]
    finally:
        server.run(f"DROP USER {name}@'10.%', {name}_off@'%'")
    assert f"{name}@10.%" in main["names"]["unmanaged"]
    assert f"{name}_off@%" in main["names"]["disabled"]
    assert any(one.startswith("root@") for one in main["names"]["admin"])
    [after] = target.report(timedelta(hours=1))["coverage"]
    assert f"{name}@10.%" not in after["names"]["unmanaged"]
