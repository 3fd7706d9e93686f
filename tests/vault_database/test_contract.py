"""The contract of a target that keeps its own secrets: on a real OpenBao and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.crash import World, explore, explore_failures, led_scenarios
from rotator.testing.delegated_suite import LedSuite
from tests.vault_database.worlds import OPTIONS, Shop, target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.testing.openbao import ScratchOpenBao
    from rotator.testing.postgres import ScratchPostgres


@pytest.fixture
def make_static(
    bao: ScratchOpenBao, server: ScratchPostgres, tmp_path: Path
) -> Callable[[], World]:
    """Return what makes worlds with a static role each."""

    def make() -> World:
        shop = Shop(bao=bao, server=server).set_up()
        made = target(shop, tmp_path)
        return World(
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
def make_root(bao: ScratchOpenBao, server: ScratchPostgres, tmp_path: Path) -> Callable[[], World]:
    """Return what makes worlds with a connection each."""

    def make() -> World:
        shop = Shop(bao=bao, server=server).set_up()
        made = target(shop, tmp_path)
        return World(
            rotation=lambda: made.rotation("root", OPTIONS),
            backend=made.backend("root", OPTIONS),
            state=lambda: shop.verifier(shop.root),
            secret=shop.connection,
            path=shop.connection,
        )

    return make


class TestStaticRole(LedSuite):
    """A static role passes."""

    # Everything is minutes of logins.
    sample = 8

    @pytest.fixture
    def make_world(self, make_static: Callable[[], World]) -> Callable[[], World]:
        return make_static


class TestRoot(LedSuite):
    """The engine's own login passes."""

    sample = 8

    @pytest.fixture
    def make_world(self, make_root: Callable[[], World]) -> Callable[[], World]:
        return make_root


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_request_survives_a_crash_and_a_failure_at_every_call(make_static: Callable[[], World]):
    """Killed or failing before and after each call, it ends, once, and what is served logs in."""
    scenario = next(one for one in led_scenarios(make_static) if one.name == "request")
    for report in (explore(scenario), explore_failures(scenario)):
        assert not report.violations, str(report)
        assert report.runs > 30, str(report)
