"""An engine that is killed after the database has committed and before it has kept the password.

OpenBao keeps no record of what it was about to set where its storage has transactions, as raft has:
the record is part of the transaction that dies with it. What it serves then is refused, for ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.servers.openbao import ScratchOpenBao
from tests.vault_database.sandboxes import MOUNT, ROOT_PASSWORD, Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.postgres import ScratchPostgres
    from tests.cli.installed_program import Real


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    """One that keeps what it has when it is killed."""
    with ScratchOpenBao(durable=True) as started:
        _ = started.call("POST", f"sys/mounts/{MOUNT}", type="database")
        yield started


@pytest.fixture
def shop(bao: ScratchOpenBao, server: ScratchPostgres) -> Shop:
    shop = Shop(bao=bao, server=server)
    shop.set_up()
    shop.make_slow_commits(0.5)
    return shop


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _kill_in_the_middle(rotator: Real, shop: Shop, name: str) -> None:
    """Kill the engine in the database's commit, then the rotator that waits for an answer."""
    process = rotator.start("rotate", name, "--wait")
    _until(shop.commits_slowly)
    shop.bao.kill()
    process.kill()
    process.wait()
    _until(lambda: not shop.commits_slowly())
    shop.bao.restart()


def test_what_a_killed_engine_lost_is_brought_back(rotator: Real, shop: Shop):
    """It serves the password from before, which is refused; `resume` has another one made."""
    rotator("adopt", "app")
    before = shop.serves()
    shop.slow_down_role()
    _kill_in_the_middle(rotator, shop, "app")
    assert shop.serves() == before
    assert not shop.lets_in(before)

    assert rotator.json("status", "app").data["secrets"][0]["state"] == "rotating"
    rotator("resume")
    assert shop.lets_in(shop.serves())
    assert not shop.lets_in(before)
    events = rotator.json("audit", "show", "app").data["events"]
    # What is served is rejected: a second request, of the same rotation.
    finished = [one["step"] for one in events if one["kind"] == "finished"]
    assert finished == ["check", "request", "await", "prove", "revoke"]
    assert [one["kind"] for one in events].count("requested") == 1
    assert events[-1]["data"]["outcome"] == "done"


def test_a_killed_engine_that_is_locked_out_is_told(rotator: Real, shop: Shop):
    """Its own new password is lost: applications go on, and a person is told what to do."""
    rotator("adopt", "root")
    shop.connect(ROOT_PASSWORD, root_rotation_statements=shop.slow_change())
    served = shop.serves()
    _kill_in_the_middle(rotator, shop, "root")
    failed = rotator("resume", code=3)
    assert "its password differs from the one that the engine stores" in failed.out
    assert "Applications are safe" in failed.out
    assert shop.lets_in(served)

    shop.sql(f"ALTER ROLE {shop.root} PASSWORD 'set-by-a-person'")
    shop.connect("set-by-a-person")
    rotator("unpark", "root", "--reason", "its password was set")
    rotator("rotate", "root")
    rotator("rotate", "app")
    assert shop.lets_in(shop.serves())
