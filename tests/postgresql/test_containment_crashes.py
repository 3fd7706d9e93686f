"""A containment on PostgreSQL that dies at any statement goes on in the next process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from rotator.api import Credential, Secret
from tests.containment_crashes import Statements, survived
from tests.postgresql.test_rotating import STRATEGIES, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgresql.conftest import Harness


def _survived(harness: Harness, strategy: str, patch: pytest.MonkeyPatch, every: int) -> int:
    name = f"{harness.group}_admin"
    harness.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'admin-password'")
    admin = Credential(username=name, password=Secret("admin-password"))
    secret = harness.secret(strategy, admin=admin, **options(harness, strategy))
    _ = harness.engine.rotate(secret)

    def open_session(credential: Credential) -> Callable[[], bool]:
        connection = harness.connect(credential)

        def works() -> bool:
            try:
                _ = connection.execute("SELECT 1")
            except psycopg.OperationalError:
                return False
            return True

        return works

    return survived(
        harness,
        secret,
        Statements(
            owner=psycopg.Connection, method="execute", of=lambda link: link.info.user == name
        ),
        patch,
        every=every,
        logs_in=harness.logs_in,
        open_session=open_session,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_some_deaths(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """At every seventh statement, before it or after it."""
    assert _survived(harness, strategy, monkeypatch, 7) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_a_death_at_every_statement(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each one that the admin sends."""
    assert _survived(harness, strategy, monkeypatch, 1) >= 40
