"""Each statement is kept back by a proxy until its client has given up, and delivered at a later moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotations.mysql.server import Connection
from rotator.testing.crash import explore_frozen, scenarios
from rotator.testing.holding_proxy import HoldingProxy
from tests.mysql.sandboxes import STRATEGIES, effects, sandboxes
from tests.sampling import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.crash import Effects
    from tests.servers.mysql_like import MySqlLikeServer


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Make every statement of the plugin's admin a point of its own."""
    tapped = effects()
    monkeypatch.setattr(Connection, "run", tapped.through(Connection.run))
    return tapped


def _explore(
    server: MySqlLikeServer, strategy: str, name: str, statements: Effects, sample: int | None
) -> None:
    with (
        HoldingProxy(server.host, server.port) as proxy,
        sandboxes(server, strategy, statements, port=proxy.port) as make,
    ):

        def hold(link: Connection) -> Callable[[], None]:
            return proxy.hold(link.client_port)

        scenario = next(one for one in scenarios(make) if one.name == name)
        report = explore_frozen(scenario, statements, hold, sample=sample)
    assert not report.violations, str(report)
    assert report.runs > 1


@pytest.mark.parametrize("strategy", sampled(STRATEGIES, of=4, first=1))
def test_a_statement_that_arrives_late_breaks_no_promise(
    server: MySqlLikeServer, strategy: str, statements: Effects
):
    """A sample: the client gives up, and the server gets the statement at a later moment."""
    _explore(server, strategy, "rotation", statements, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["rotation", "rollback before publish"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_statement_that_arrives_late_breaks_a_promise(
    server: MySqlLikeServer, strategy: str, name: str, statements: Effects
):
    """Every statement, delivered at every later call of the engine."""
    _explore(server, strategy, name, statements, sample=None)
