"""Django's MySQL engine follows a credential, over mysqlclient and over PyMySQL in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import django
import pymysql
import pytest
from django.conf import settings

from rotator.client import Credential, Login
from rotator.core.secret import Secret
from tests.servers import mariadb
from tests.servers.mysql_like import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES = ("MySQLdb", "django.db.backends.mysql", "rotator.client.django.mysql")


class Source:
    """A backend that serves what the test wants."""

    refresh = 300.0

    def __init__(self) -> None:
        self.login = self._login("app_a", "one", "1")

    def read(self) -> Login:
        return self.login

    def serve(self, username: str, password: str, version: str) -> None:
        self.login = self._login(username, password, version)

    def _login(self, username: str, password: str, version: str) -> Login:
        return Login(username=username, password=Secret(password), version=version)


@pytest.fixture(scope="module")
def server() -> Iterator[mariadb.ScratchMariaDB]:
    if not mariadb.is_installed():
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server-core")
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    with mariadb.ScratchMariaDB("--performance-schema=ON") as started:
        started.run(
            "CREATE DATABASE shop",
            "CREATE USER 'app_a'@'127.0.0.1' IDENTIFIED BY 'one'",
            "CREATE USER 'app_b'@'127.0.0.1' IDENTIFIED BY 'two'",
            "GRANT ALL ON shop.* TO 'app_a'@'127.0.0.1'",
            "GRANT ALL ON shop.* TO 'app_b'@'127.0.0.1'",
        )
        yield started


@pytest.fixture(scope="module", params=["mysqlclient", "pymysql"])
def driver(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let Django import one driver, whichever it has imported before."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith(_MODULES)]:
            patch.delitem(sys.modules, name)
        if request.param == "pymysql":
            patch.setitem(sys.modules, "MySQLdb", pymysql)
            # Importing `MySQLdb.err` then puts a second copy of that module into the package.
            for name in ("constants", "converters", "err"):
                patch.setattr(pymysql, name, getattr(pymysql, name))
        else:
            patch.syspath_prepend(str(cache_folder() / "mysqlclient"))
            try:
                import MySQLdb  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
            except ImportError:
                pytest.skip("mysqlclient is not here, or of another Python: .ci/run unpacks it")
        yield request.param
        for name in [name for name in sys.modules if name.startswith(_MODULES)]:
            patch.delitem(sys.modules, name)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def wrapper(server: mariadb.ScratchMariaDB, driver: str, source: Source) -> Iterator[Any]:
    from django.db.utils import ConnectionHandler

    default = {
        "ENGINE": "rotator.client.django.mysql",
        "NAME": "shop",
        "HOST": server.host,
        "PORT": server.port,
        "OPTIONS": {"credential": Credential(source, patience=0.5)},
        "CONN_MAX_AGE": 600,
    }
    opened = ConnectionHandler({"default": default})["default"]
    with closing(opened):
        yield opened


def _row(wrapper: Any, query: str) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


def _user(wrapper: Any) -> str:
    return _row(wrapper, "SELECT USER()")[0].partition("@")[0]


def _publish(wrapper: Any, source: Source, *login: str) -> None:
    source.serve(*login)
    wrapper.settings_dict["OPTIONS"]["credential"].refresh()


def test_the_driver_is_the_one_that_is_tested(wrapper: Any, driver: str):
    assert wrapper.Database.__name__ == {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}[driver]


def test_the_next_request_uses_the_new_login(wrapper: Any, source: Source):
    assert _user(wrapper) == "app_a"
    _publish(wrapper, source, "app_b", "two", "2")
    wrapper.close_if_unusable_or_obsolete()
    assert _user(wrapper) == "app_b"


def test_a_transaction_keeps_its_connection(wrapper: Any, source: Source):
    assert _user(wrapper) == "app_a"
    wrapper.in_atomic_block = True
    _publish(wrapper, source, "app_b", "two", "2")
    wrapper.close_if_unusable_or_obsolete()
    assert _user(wrapper) == "app_a"
    wrapper.in_atomic_block = False


def test_a_refused_login_is_replaced_by_the_version_that_is_served_now(
    wrapper: Any, source: Source
):
    source.serve("app_a", "wrong", "1")
    wrapper.settings_dict["OPTIONS"]["credential"].current()
    source.serve("app_b", "two", "2")
    assert _user(wrapper) == "app_b"


def test_a_refused_login_is_an_operational_error_of_django(wrapper: Any, source: Source):
    from django.db.utils import OperationalError

    source.serve("app_a", "wrong", "1")
    with pytest.raises(OperationalError, match="1045"):
        _user(wrapper)


def test_the_mark_of_the_version_is_in_the_connections_attributes(
    server: mariadb.ScratchMariaDB, wrapper: Any, source: Source, driver: str
):
    """Only PyMySQL has a way to send it."""
    number = _row(wrapper, "SELECT CONNECTION_ID()")[0]
    programs = server.run(
        "SELECT attr_value FROM performance_schema.session_connect_attrs"
        f" WHERE attr_name = 'program_name' AND processlist_id = {number}"
    )
    is_marked = [(f"r:{source.login.mark}",)] == programs
    assert is_marked is (driver == "pymysql")


def test_dbshell_runs_with_the_current_login(wrapper: Any, source: Source):
    _publish(wrapper, source, "app_b", "two", "2")
    arguments, environment = wrapper.client.settings_to_cmd_args_env(
        wrapper.settings_dict, ["-N", "-e", "SELECT USER()"]
    )
    assert "two" not in arguments
    program = shutil.which("mysql") or shutil.which("mariadb")
    if program is None:
        pytest.skip("there is no client program: apt-get install mariadb-client-core")
    shell = subprocess.run(
        [program, *arguments[1:]],
        env=dict(os.environ) | (environment or {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shell.stdout.partition("@")[0] == "app_b"


def test_a_lost_connection_is_replaced(server: Any, wrapper: Any):
    number = _row(wrapper, "SELECT CONNECTION_ID()")[0]
    server.run(f"KILL {number}")
    with suppress(Exception):
        _user(wrapper)
    wrapper.close_if_unusable_or_obsolete()
    assert _user(wrapper) == "app_a"
