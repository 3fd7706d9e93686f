"""What answers in the place of a PostgreSQL or MySQL stalls, drips or floods: a login's try ends."""

from __future__ import annotations

from typing import Any, Final

import pytest

from rotations import mysql, postgresql
from rotator.api import Credential, Secret, StepError
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from rotator.testing.hostile import MYSQL, POSTGRESQL, HostileServer, within

_SECONDS: Final = 0.4
_ADMIN: Final = Credential(username="admin", password=Secret("a-password-of-the-admin"))


def _try(plugin: Any, server: HostileServer) -> None:
    options = plugin.info.target_options(host="127.0.0.1", port=server.port)
    target = plugin.target("t", options, lambda: _ADMIN)
    rotation = target.rotation("single-user", plugin.info.secret_options(username="app"))
    ctx = step_context(clock=SystemClock(), timeout=_SECONDS)
    with within(seconds=_SECONDS), pytest.raises(StepError):
        rotation.probe(_ADMIN, ctx)
    target.close()


@pytest.mark.parametrize("kind", POSTGRESQL)
def test_postgresql_ends_within_its_time_and_memory_whatever_answers(kind: str):
    """Libpq's own limits are those of single reads."""
    with HostileServer(POSTGRESQL[kind]) as server:
        _try(postgresql.PLUGIN, server)


@pytest.mark.parametrize("kind", MYSQL)
def test_mysql_ends_within_its_time_and_memory_whatever_answers(kind: str):
    """Here the server speaks first."""
    with HostileServer(MYSQL[kind], speaks_first=True) as server:
        _try(mysql.PLUGIN, server)
