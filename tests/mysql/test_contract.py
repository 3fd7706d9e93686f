"""The contract of a plugin, on a real MariaDB and a real MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotations.mysql.server import Connection
from rotator.testing.crash import explore, scenarios
from rotator.testing.rotation_suite import RotationSuite
from tests.copied_rights import CopiesRights
from tests.mysql.dialects import MARIADB, MYSQL, Dialect
from tests.mysql.sandboxes import STRATEGIES, effects, sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import Sandbox
    from tests.servers.mysql_like import MySqlLikeServer


class _Contract(CopiesRights, RotationSuite):
    """All four strategies pass."""

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self, request: pytest.FixtureRequest, server: MySqlLikeServer
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes accounts of a sandbox's own."""
        with sandboxes(server, request.param) as make:
            yield make


class TestMariaDB(_Contract):
    """On MariaDB. The whole of the harness is minutes of logins."""

    sample = 6

    @pytest.fixture
    def dialect(self) -> Dialect:
        """Return MariaDB's."""
        return MARIADB


class TestMySQL(_Contract):
    """On MySQL, where a login without TLS costs an exchange of keys."""

    sample = 2

    @pytest.fixture
    def dialect(self) -> Dialect:
        """Return MySQL's."""
        return MYSQL


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["first credential", "rotation", "rollback before publish"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_survives_a_crash_at_every_statement(
    server: MySqlLikeServer, strategy: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Killed before and after each one it sends, it leaves no orphan and no outage."""
    statements = effects()
    monkeypatch.setattr(Connection, "run", statements.through(Connection.run))
    with sandboxes(server, strategy, statements) as make:
        scenario = next(one for one in scenarios(make) if one.name == name)
        report = explore(scenario)
    assert not report.violations, str(report)
    assert report.runs > 30, str(report)
    assert report.inner >= 4
