"""A MariaDB and a MySQL for the tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mysql.dialects import DIALECTS, MARIADB, MYSQL, Dialect
from tests.mysql.harness import Harness, built

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.mysql_like import MySqlLikeServer


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MySqlLikeServer]:
    """One whose general log holds every statement, and its binary log every change."""
    yield from _started(MARIADB)


@pytest.fixture(scope="session")
def real_mysql() -> Iterator[MySqlLikeServer]:
    """The same of a MySQL."""
    yield from _started(MYSQL)


@pytest.fixture(params=DIALECTS, ids=lambda one: one.product)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Return each of the two in turn."""
    return request.param


@pytest.fixture
def server(request: pytest.FixtureRequest, dialect: Dialect) -> MySqlLikeServer:
    """Return the server that understands the dialect."""
    return request.getfixturevalue("mariadb" if dialect is MARIADB else "real_mysql")


@pytest.fixture
def harness(server: MySqlLikeServer, dialect: Dialect, tmp_path: Path) -> Iterator[Harness]:
    """Return a harness on that server."""
    yield from built(server, dialect, tmp_path)


def _started(dialect: Dialect) -> Iterator[MySqlLikeServer]:
    if dialect.missing:
        pytest.skip(dialect.missing)
    with dialect.start() as server:
        yield server
