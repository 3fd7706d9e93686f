"""Statements of an operator's own: what is refused before anything is sent, and how values are quoted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql

from rotations.sql import PLUGIN, SecretOptions, TargetOptions
from rotations.sql.server import identifier, literal
from rotations.sql.statements import parse
from rotator.api import Credential, Secret, UsageError
from tests.sql.sandboxes import POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Callable

_URL = "postgresql+psycopg://127.0.0.1:1/postgres"
_ADMIN = Credential(username="root", password=Secret("admin-Wm63xt9q"))


def _options(**changed: Any) -> TargetOptions:
    return TargetOptions(**({"url": _URL} | POSTGRESQL | changed))


def _rotation(strategy: str = "new-user", *, secret: dict[str, Any] | None = None, **changed: Any):
    given = {"identifiers": {"group": "g"}} | (secret or {})
    target = PLUGIN.target("main", _options(**changed), lambda: _ADMIN)
    return target.rotation(strategy, SecretOptions(**given))


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("CREATE USER '{login}'", "inside quotes"),
        ('CREATE USER "{login}" PASSWORD {password}', "inside quotes"),
        ("CREATE USER `{login}`", "inside quotes"),
        ("CREATE USER {login} -- {password}\n", "inside quotes"),
        ("CREATE USER {login} /* {password} */", "inside quotes"),
        ("DO $$ CREATE USER {login} $$", "inside quotes"),
        ("DO $x$ '$$ {login} $x$", "inside quotes"),
        ("CREATE USER 'it''s {login}'", "inside quotes"),
        ("CREATE USER {login} PASSWORD 'x", "without its end"),
        ("SELECT E'\\' {login} \\''", "backslash before a quote"),
        ("CREATE USER {Login}", "begins no placeholder"),
        ("CREATE USER {login:int}", "begins no placeholder"),
        ("CREATE USER {login", "begins no placeholder"),
        ("CREATE USER {}", "begins no placeholder"),
        ("CREATE USER login}", "begins no placeholder"),
        (" \n", "empty statement"),
    ],
)
def test_a_statement_that_cannot_be_filled_safely_is_refused(statement: str, shown: str):
    """When the configuration is read."""
    with pytest.raises(UsageError, match=shown):
        _options(create=(statement,))


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"create": ("CREATE ROLE {login}",)}, "no statement of `create` contains {password}"),
        ({"revoke": ("DROP ROLE {login} {password}",)}, "contains {password}"),
        ({"owner": "SELECT 1"}, "must contain {login}"),
        ({"sessions": "SELECT 1"}, "must contain {login}"),
        ({"url": "postgresql+psycopg://root:hunter2xyz@db/x"}, "contains a login"),
        ({"url": "postgresql+psycopg://root@db/x"}, "contains a login"),
        ({"url": "no url, hunter2xyz"}, "not an SQLAlchemy URL"),
        ({"url": "exotic://db"}, "does not know how a driver reports"),
    ],
)
def test_a_target_that_cannot_work_is_refused(changed: dict[str, Any], shown: str):
    """Nothing of a URL is repeated."""
    with pytest.raises(UsageError) as caught:
        _options(**changed)
    assert shown in caught.value.what
    assert "hunter2xyz" not in str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "changed", "secret", "shown"),
    [
        ("new-user", {"create": ()}, {}, "requires `create`"),
        ("new-user", {"revoke": ()}, {}, "requires `revoke`"),
        ("alternating-users", {}, {"users": ("a", "b")}, "requires `update`"),
        ("single-user", {}, {}, "requires `update`"),
        ("new-user", {}, {"identifiers": {}}, "unknown placeholder {group}"),
        ("new-user", {}, {"identifiers": {"group": "g", "login": "x"}}, "must not contain `login`"),
        ("other", {}, {}, "no strategy"),
    ],
)
def test_a_strategy_without_its_statements_is_refused(
    strategy: str, changed: dict[str, Any], secret: dict[str, Any], shown: str
):
    """Before the first rotation."""
    with pytest.raises(UsageError) as caught:
        _rotation(strategy, secret=secret, **changed)
    assert shown in caught.value.what


def test_braces_and_what_is_quoted_are_kept():
    """Nothing is split at a semicolon."""
    one = parse("SELECT '{{x}}; ''', {{1}} \"a;b\"; -- {{no}}\n {login}", "owner")
    filled = one.filled({"login": "app"}, lambda name: f"<{name}>", str)
    assert filled == "SELECT '{{x}}; ''', {1} \"a;b\"; -- {{no}}\n <app>"


_VALUE = "a'b\"c`d\\e%f%%g:h{i}]?j"


@pytest.mark.parametrize(
    ("dialect", "name", "text"),
    [
        (postgresql.psycopg.dialect, '"a\'b""c`d\\e%f%%g:h{i}]?j"', None),
        (mysql.pymysql.dialect, "`a'b\"c``d\\e%f%%g:h{i}]?j`", "'a''b\"c`d\\\\e%f%%g:h{i}]?j'"),
        (mssql.pyodbc.dialect, "[a'b\"c`d\\e%f%%g:h{i}]]?j]", "'a''b\"c`d\\e%f%%g:h{i}]?j'"),
        (oracle.oracledb.dialect, '"a\'b""c`d\\e%f%%g:h{i}]?j"', "'a''b\"c`d\\e%f%%g:h{i}]?j'"),
    ],
)
def test_values_are_quoted_by_the_dialect(dialect: Callable[[], Any], name: str, text: str | None):
    """Each as its manual demands, and a percent sign is one."""
    assert identifier(_VALUE, dialect()) == name
    if text is not None:
        assert literal(_VALUE, dialect()) == text


def test_a_missing_driver_is_named_by_doctor(monkeypatch: pytest.MonkeyPatch):
    """Everything of the target waits."""
    from rotator.testing.fakes import step_context

    monkeypatch.setitem(sys.modules, "pyodbc", None)
    target = PLUGIN.target(
        "main", _options(url="mssql+pyodbc://db.example.org/master"), lambda: _ADMIN
    )
    [finding] = target.examine(step_context())
    assert finding.severity == "error"
    assert "driver is not installed" in finding.message
