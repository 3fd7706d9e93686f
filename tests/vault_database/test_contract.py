"""The contract of a target that keeps its own secrets: on a real OpenBao and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.crash import Sandbox, delegated_scenarios, explore, explore_failures
from rotator.testing.delegated_suite import DelegatedSuite
from tests.vault_database.sandboxes import OPTIONS, Shop, target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.testing.postgres import ScratchPostgres
    from tests.servers.openbao import ScratchOpenBao


@pytest.fixture
def make_static(
    bao: ScratchOpenBao, server: ScratchPostgres, tmp_path: Path
) -> Callable[[], Sandbox]:
    """Return what makes sandboxes with a static role each."""

    def make() -> Sandbox:
        shop = Shop(bao=bao, server=server).set_up()
        made = target(shop, tmp_path)
        return Sandbox(
            rotation=lambda: made.rotation("static-role", OPTIONS),
            backend=made.backend("static-role", OPTIONS),
            accepts=shop.lets_in,
            state=lambda: shop.verifier(shop.role),
            rotations=shop.rotations,
            lose_password=shop.lose_the_password,
            rotate_by_itself=shop.rotate_by_itself,
            secret=shop.role,
            path=shop.role,
        )

    return make


@pytest.fixture
def make_root(
    bao: ScratchOpenBao, server: ScratchPostgres, tmp_path: Path
) -> Callable[[], Sandbox]:
    """Return what makes sandboxes with a connection each."""

    def make() -> Sandbox:
        shop = Shop(bao=bao, server=server).set_up()
        made = target(shop, tmp_path)
        return Sandbox(
            rotation=lambda: made.rotation("root", OPTIONS),
            backend=made.backend("root", OPTIONS),
            state=lambda: shop.verifier(shop.root),
            secret=shop.connection,
            path=shop.connection,
        )

    return make


class TestStaticRole(DelegatedSuite):
    """A static role passes."""

    # Everything is minutes of logins.
    sample = 8

    @pytest.fixture
    def make_sandbox(self, make_static: Callable[[], Sandbox]) -> Callable[[], Sandbox]:
        return make_static


class TestRoot(DelegatedSuite):
    """The engine's own login passes."""

    sample = 8

    @pytest.fixture
    def make_sandbox(self, make_root: Callable[[], Sandbox]) -> Callable[[], Sandbox]:
        return make_root


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_request_survives_a_crash_and_a_failure_at_every_call(make_static: Callable[[], Sandbox]):
    """Killed or failing before and after each call, it ends, once, and what is served logs in."""
    scenario = next(one for one in delegated_scenarios(make_static) if one.name == "request")
    for report in (explore(scenario), explore_failures(scenario)):
        assert not report.violations, str(report)
        assert report.runs > 30, str(report)
