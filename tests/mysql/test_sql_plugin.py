"""The contract of the plugin `sql`, on real servers: MariaDB and MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.rotation_suite import RotationSuite
from tests.sql.sandboxes import on_mariadb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import Sandbox
    from tests.servers.mysql_like import MySqlLikeServer

OTHERS = ("alternating-users", "single-user")


class TestContract(RotationSuite):
    """All three strategies pass, without a transaction around their statements."""

    sample = 3

    @pytest.fixture(
        params=["new-user", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)]
    )
    def make_sandbox(
        self, request: pytest.FixtureRequest, server: MySqlLikeServer
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes accounts of a sandbox's own."""
        with on_mariadb(server, request.param) as make:
            yield make
