"""The contract of the plugin `sql`, on a real PostgreSQL."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rotations.sql import PLUGIN, SecretOptions, TargetOptions
from rotator.api import (
    Credential,
    Denied,
    Refused,
    Secret,
    StepError,
    Transient,
    Unavailable,
    Unknown,
)
from rotator.testing.fakes import step_context
from rotator.testing.postgres import SUPERUSER
from rotator.testing.rotation_suite import RotationSuite
from tests.sql.sandboxes import POSTGRESQL, STRATEGIES, on_postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.api import Rotation
    from rotator.testing.crash import Sandbox
    from rotator.testing.postgres import ScratchPostgres


class TestContract(RotationSuite):
    """All three strategies pass."""

    sample = 3

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self, request: pytest.FixtureRequest, postgres: ScratchPostgres
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes roles of a sandbox's own."""
        with on_postgresql(postgres, request.param) as make:
            yield make


_NEW = Credential(username="sq", password=Secret("new'Wm63%\\xt9q:p"))


def _rotation(server: ScratchPostgres, **changed: Any) -> Rotation:
    port = changed.pop("port", server.port)
    admin = Credential(username=SUPERUSER, password=Secret(server.superuser_password))
    admin = changed.pop("admin", admin)
    probes = changed.pop("probes", ())
    options = TargetOptions(
        **({"url": f"postgresql+psycopg://{server.host}:{port}/postgres"} | POSTGRESQL | changed)
    )
    chosen = SecretOptions(identifiers={"group": "pg_monitor"}, probes=probes)
    return PLUGIN.target("main", options, lambda: admin).rotation("new-user", chosen)


def _error(rotation: Rotation, seconds: float = 10) -> StepError:
    ctx = step_context(secret="app")
    ctx = replace(ctx, deadline=ctx.clock.monotonic() + seconds)
    begun = time.monotonic()
    with pytest.raises(StepError) as caught:
        rotation.create(_NEW, ctx)
    assert time.monotonic() - begun < seconds + 1
    error = caught.value
    shown = f"{error} {error.__cause__!r} {error.__context__!r}"
    assert "Wm63" not in shown
    return error


def test_a_password_with_any_character_logs_in_as_it_is(postgres: ScratchPostgres):
    """What the server stores is what the backend stores."""
    rotation, ctx = _rotation(postgres), step_context(secret="app")
    rotation.create(_NEW, ctx)
    try:
        assert rotation.verify(_NEW, ctx).ok
        assert not rotation.probe(replace(_NEW, password=Secret("another-Wm63xt9q")), ctx)
    finally:
        rotation.revoke(_NEW, ctx)
    assert not rotation.probe(_NEW, ctx)


def test_a_broken_statement_is_named_by_its_number_without_its_text(postgres: ScratchPostgres):
    """PostgreSQL repeats a part of it, which may be a password; nothing was changed."""
    broken = ("CREATE ROLE {login}", "ALTER ROLE {login} PASSWORD {password} RUBBISH")
    rotation = _rotation(postgres, create=broken)
    error = _error(rotation)
    assert isinstance(error, Denied)
    assert "statement 2 failed (SyntaxError 42601)" in error.what
    with postgres.connect() as link:
        found = link.execute("SELECT 1 FROM pg_roles WHERE rolname = 'sq'").fetchall()
    assert found == []


def test_a_statement_that_hangs_ends_with_the_step(postgres: ScratchPostgres):
    """Its result is unknown; what follows it is not sent."""
    hanging = ("SELECT pg_sleep(1.5)", "CREATE ROLE {login} PASSWORD {password}")
    error = _error(_rotation(postgres, create=hanging), seconds=0.5)
    assert isinstance(error, Unknown)
    limit = time.monotonic() + 10
    with postgres.connect() as link:
        asleep = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(1.5)%'"
        pids = [pid for (pid,) in link.execute(asleep).fetchall()]
        assert pids
        alive = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)"
        while link.execute(alive, [pids]).fetchall() and time.monotonic() < limit:
            time.sleep(0.05)
        found = link.execute("SELECT 1 FROM pg_roles WHERE rolname = 'sq'").fetchall()
    assert found == []


def test_what_the_server_lacks_is_told_apart(postgres: ScratchPostgres):
    """Unreachable, a rejected admin, an error that is no rejection."""
    assert type(_error(_rotation(postgres, port=1))) is Transient
    wrong = Credential(username=SUPERUSER, password=Secret("not-its-Wm63xt9q"))
    rejected = _error(_rotation(postgres, admin=wrong))
    assert isinstance(rejected, Unavailable)
    assert "`admin` of target 'main'" in rejected.hint
    with pytest.raises(Transient, match="unknown"):
        _rotation(postgres, login_url="postgresql+psycopg://127.0.0.1:1/x").probe(
            _NEW, step_context()
        )


def test_a_failed_probe_refuses_the_login(postgres: ScratchPostgres):
    """It authenticates, and cannot do its work."""
    rotation, ctx = _rotation(postgres), step_context(secret="app")
    rotation.create(_NEW, ctx)
    try:
        probing = _rotation(postgres, probes=("SELECT 1", "SELECT * FROM pg_authid"))
        with pytest.raises(Refused, match="probe 2 failed"):
            probing.verify(_NEW, ctx)
    finally:
        rotation.revoke(_NEW, ctx)
