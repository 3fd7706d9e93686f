"""Django's engines follow a credential: pooled or not, across requests, and in `dbshell`."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings

from rotator.client import Credential, Login
from rotator.core.secret import Secret
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator


class Source:
    """A backend that serves what the test says."""

    refresh = 300.0

    def __init__(self, username: str, password: str) -> None:
        self.login = Login(username=username, password=Secret(password), version="1")

    def read(self) -> Login:
        return self.login

    def serve(self, username: str, password: str, version: str) -> None:
        self.login = Login(username=username, password=Secret(password), version=version)


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    with ScratchPostgres() as started:
        with started.connect() as admin:
            admin.execute("CREATE ROLE app_a LOGIN PASSWORD 'one'")
            admin.execute("CREATE ROLE app_b LOGIN PASSWORD 'two'")
        yield started


@pytest.fixture
def source() -> Source:
    return Source("app_a", "one")


def _wrapper(server: ScratchPostgres, source: Source, **options: Any) -> Any:
    from django.db.utils import ConnectionHandler

    default = {
        "ENGINE": "rotator.client.django.postgresql",
        "NAME": "postgres",
        "HOST": server.host,
        "PORT": server.port,
        "OPTIONS": {"credential": Credential(source), **options},
        "CONN_MAX_AGE": 0 if "pool" in options else 600,
    }
    return ConnectionHandler({"default": default})["default"]


def _user(wrapper: Any) -> str:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT session_user")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("pool", [None, True, {"min_size": 1, "max_size": 2}])
def test_the_next_request_uses_the_new_login(server: ScratchPostgres, source: Source, pool: Any):
    wrapper = _wrapper(server, source, **({"pool": pool} if pool else {}))
    with closing(wrapper):
        assert _user(wrapper) == "app_a"
        source.serve("app_b", "two", "2")
        wrapper.settings_dict["OPTIONS"]["credential"].refresh()
        # What Django does at the begin and at the end of each request.
        wrapper.close_if_unusable_or_obsolete()
        assert _user(wrapper) == "app_b"
        wrapper.close()
        assert _user(wrapper) == "app_b"
    if pool:
        wrapper.close_pool()


def test_a_transaction_keeps_its_connection(server: ScratchPostgres, source: Source):
    wrapper = _wrapper(server, source)
    with closing(wrapper):
        assert _user(wrapper) == "app_a"
        wrapper.in_atomic_block = True
        source.serve("app_b", "two", "2")
        wrapper.settings_dict["OPTIONS"]["credential"].refresh()
        wrapper.close_if_unusable_or_obsolete()
        assert _user(wrapper) == "app_a"
        wrapper.in_atomic_block = False


def test_the_mark_of_the_version_is_in_the_name_of_the_application(
    server: ScratchPostgres, source: Source
):
    wrapper = _wrapper(server, source, application_name="web")
    with closing(wrapper), wrapper.cursor() as cursor:
        cursor.execute("SHOW application_name")
        assert cursor.fetchone()[0] == f"web r:{source.login.mark}"


def test_dbshell_uses_the_current_login(server: ScratchPostgres, source: Source):
    wrapper = _wrapper(server, source)
    arguments, environment = wrapper.client.settings_to_cmd_args_env(wrapper.settings_dict, [])
    assert arguments[:3] == ["psql", "-U", "app_a"]
    assert environment == {"PGPASSWORD": "one"}


def test_dbshell_runs_with_the_current_login(server: ScratchPostgres, source: Source):
    program = shutil.which("psql")
    if program is None:
        pytest.skip("there is no psql: apt-get install postgresql-client")
    wrapper = _wrapper(server, source)
    source.serve("app_b", "two", "2")
    wrapper.settings_dict["OPTIONS"]["credential"].refresh()
    arguments, environment = wrapper.client.settings_to_cmd_args_env(
        wrapper.settings_dict, ["-At", "-c", "SELECT session_user"]
    )
    shell = subprocess.run(
        [program, *arguments[1:]],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shell.stdout == "app_b\n"


def test_a_database_without_a_credential_is_an_error_of_the_settings(server: ScratchPostgres):
    from django.core.exceptions import ImproperlyConfigured

    wrapper = _wrapper(server, Source("app_a", "one"))
    del wrapper.settings_dict["OPTIONS"]["credential"]
    with pytest.raises(ImproperlyConfigured, match=r"OPTIONS\['credential'\]"):
        wrapper.connect()
