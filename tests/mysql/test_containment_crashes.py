"""A containment on MariaDB or MySQL that dies at any statement goes on in the next process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pymysql
import pytest

from rotations.mysql.server import Connection
from tests.containment_crashes import Statements, survived
from tests.mysql.sandboxes import STRATEGIES, logs_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential
    from tests.mysql.harness import Harness


def _survived(harness: Harness, strategy: str, patch: pytest.MonkeyPatch, every: int) -> int:
    secret = harness.secret(strategy)
    harness.adopt(secret)
    server = harness.server

    def open_session(credential: Credential) -> Callable[[], bool]:
        session = server.connect(credential.username, credential.password.reveal())

        def works() -> bool:
            try:
                session.ping(reconnect=False)
            except (pymysql.MySQLError, OSError):
                return False
            return True

        return works

    return survived(
        harness,
        secret,
        Statements(owner=Connection, method="ask", of=lambda link: link.user == "root"),
        patch,
        every=every,
        logs_in=lambda credential: logs_in(server, credential),
        open_session=open_session,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_some_deaths(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """At every 29th statement, before it or after it."""
    assert _survived(harness, strategy, monkeypatch, 29) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_a_death_at_every_statement(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each one that the admin sends."""
    assert _survived(harness, strategy, monkeypatch, 1) >= 40
