"""Secrets that another system rotates, over fakes: the harness at every point, and what a daemon does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.daemon_settings import Duty, Topic
from rotator.core.errors import Denied, NotDue, Transient
from rotator.core.model import Credential, Kind, Policy, Version
from rotator.core.secret import Secret
from rotator.dispatch.worker import topic_of
from rotator.engine import Engine, ManagedSecret
from rotator.testing.crash import (
    Scenario,
    World,
    explore,
    explore_failures,
    explore_outages,
    explore_takeovers,
    led_scenarios,
    led_world,
)
from rotator.testing.delegated_suite import LedSuite
from rotator.testing.fake_engine import FakeEngine, FakeFollowed
from rotator.testing.fakes import ListLog, SeededEntropy
from tests.dispatch.worlds import Entry, Place

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = timedelta(days=1)
_SCENARIOS = [one.name for one in led_scenarios(led_world)]


class TestFake(LedSuite):
    """The fake keeps the contract that the suite holds plugins to."""

    @pytest.fixture
    def make_world(self) -> Callable[[], World]:
        return led_world


class _Unseen(FakeEngine):
    """Shows its password to nobody, and tries it itself."""

    def current(self, path: str) -> Version | None:
        found = super().current(path)
        assert found is not None
        return replace(found, credential=replace(found.credential, password=Secret("")))

    def accepts(self, credential: Credential) -> bool:
        return not credential.password.reveal()


def test_the_harness_takes_no_text_for_a_password_that_it_was_not_shown():
    """An empty one is in every text."""
    found = led_scenarios(lambda: led_world(_Unseen()))
    report = explore_failures(next(one for one in found if one.name == "request"))
    assert not report.violations, str(report)


@pytest.mark.parametrize("name", _SCENARIOS)
def test_it_ends_whatever_happens_on_the_way(name: str):
    """Killed, failing, cut off and overtaken at every point, and between the system's two effects."""
    scenario = next(one for one in led_scenarios(led_world) if one.name == name)
    for look in (explore, explore_failures, explore_outages, explore_takeovers):
        report = look(scenario)
        assert not report.violations, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", _SCENARIOS)
def test_it_ends_whatever_happens_twice(name: str):
    """A second death at every point of each recovery."""
    scenario = next(one for one in led_scenarios(led_world) if one.name == name)
    report = explore(scenario, double=True)
    assert not report.violations, str(report)


def _forgets(engine: FakeEngine) -> FakeEngine:
    """Make a backend that rotates each time it is asked, whatever has happened."""
    asked = engine.request_rotation
    engine.request_rotation = lambda path, rotation_id, *, expect: asked(  # type: ignore[method-assign]
        path, rotation_id, expect=str(engine.kept[0])
    )
    return engine


def test_the_harness_finds_a_backend_that_rotates_twice_for_one_request():
    """Not looking at `expect` is the mistake that is easily made."""

    def make() -> World:
        world = led_world()
        assert isinstance(world.backend, FakeEngine)
        _forgets(world.backend)
        return world

    scenario: Scenario = next(one for one in led_scenarios(make) if one.name == "request")
    assert "rotations were made for one request" in str(explore(scenario))


# -- one engine ------------------------------------------------------------------------------------


def _engine(world: World) -> Engine:
    return Engine(
        journal=world.journal,
        clock=world.clock,
        entropy=SeededEntropy(),
        log=ListLog(),
        holder=lambda: "test",
    )


def _secret(world: World, policy: Policy) -> ManagedSecret:
    return ManagedSecret(
        name=world.secret,
        path=world.path,
        backend_name="engine",
        backend=world.backend,
        target_name="engine",
        rotation=world.rotation(),
        plugin="fake",
        strategy="static-role",
        policy=policy,
    )


def test_who_comes_second_finds_it_done():
    """Two daemons find it due: the look under the lease leaves one rotation."""
    world = led_world()
    engine, secret = _engine(world), _secret(world, Policy(every=_DAY))
    engine.adopt(secret)
    world.clock.advance(2 * _DAY)
    assert engine.rotate(secret, only_if_due=True).old_refused is True
    with pytest.raises(NotDue):
        engine.rotate(secret, only_if_due=True)
    assert world.rotations is not None
    assert world.rotations() == 1


def test_what_was_rotated_by_itself_is_not_rotated_again_when_due():
    """It is written down, and its own age decides when it is due next."""
    world = led_world()
    engine, secret = _engine(world), _secret(world, Policy(every=_DAY))
    engine.adopt(secret)
    world.clock.advance(2 * _DAY)
    assert world.rotate_by_itself is not None
    world.rotate_by_itself()
    with pytest.raises(NotDue, match="rotated by itself"):
        engine.rotate(secret, only_if_due=True)
    assert world.rotations is not None
    assert world.rotations() == 1
    record = world.journal.secret(world.secret)
    assert record is not None
    assert record.next_due == world.clock.now() + _DAY


def test_an_old_credential_that_still_gets_in_is_an_alarm():
    """It was rotated and written down; that it lives on is what a person must hear of."""
    world = led_world()
    fake = world.backend
    assert isinstance(fake, FakeEngine)

    class Trusting(FakeFollowed):
        def probe(self, credential, ctx):
            return credential.password.reveal().startswith("password-")

    secret = replace(_secret(world, Policy()), rotation=Trusting(fake))
    with pytest.raises(Denied, match="still accepted") as told:
        _engine(world).rotate(secret)
    assert "The application is safe" in told.value.safety
    followed = world.journal.events(world.secret)[-1]
    assert (followed.kind, followed.data["old_refused"]) == (Kind.FOLLOWED, False)


# -- a daemon --------------------------------------------------------------------------------------


class Kept(Place):
    """A daemon's world in which another system keeps and rotates the secrets."""

    def secret(self, name: str) -> ManagedSecret:
        made = Place.secret(self, name)
        return replace(made, backend=engines[name], rotation=FakeFollowed(engines[name]))


engines: dict[str, FakeEngine] = {}


@pytest.fixture
def place() -> Kept:
    engines["app"] = FakeEngine()
    policy = Policy(every=30 * _DAY, attempts=2, cycles=2)
    place = Kept(entries={"app": Entry(policy=policy)}, duty=Duty(verify_every=_DAY))
    place.engine.adopt(place.secret("app"))
    return place


def test_a_daemon_rotates_by_our_schedule(place: Kept):
    """Once in thirty days, each proven."""
    place.live(place.daemon(), place.clock.at + 95 * _DAY)
    assert engines["app"].rotations == 3
    followed = [one for one in place.written if one.kind is Kind.FOLLOWED]
    assert [one.data["old_refused"] for one in followed] == [True] * 3
    assert topic_of(followed[0].kind, followed[0].data) is Topic.ROTATED


def test_a_daemon_brings_back_what_the_system_has_lost(place: Kept):
    """It finds out when it looks, tells, and has another password made at once."""
    daemon = place.daemon()
    place.live(daemon, place.clock.at + _DAY)
    engines["app"].lose()
    place.live(daemon, place.clock.at + 2 * _DAY)
    assert Topic.REFUSED in [one[0] for one in place.told]
    assert engines["app"].rotations == 1
    served = engines["app"].current("app")
    assert served is not None
    assert engines["app"].accepts(served.credential)


def test_a_daemon_notices_the_systems_own_schedule(place: Kept):
    """No drift is told, and it does not rotate on top of it."""
    daemon = place.daemon()
    place.live(daemon, place.clock.at + 29 * _DAY)
    engines["app"].rotate()
    place.live(daemon, place.clock.at + 3 * _DAY)
    assert not place.told
    assert engines["app"].rotations == 1


def test_a_daemon_leaves_to_a_person_what_goes_on_failing(place: Kept):
    """It backs off between the tries, parks the secret, and hammers nobody."""
    asked: list[object] = []

    def fail(path: str, rotation_id: str, *, expect: str | None) -> str:
        asked.append(expect)
        raise Transient("the engine does not reach the database.")

    engines["app"].request_rotation = fail  # type: ignore[method-assign]
    place.live(place.daemon(), place.clock.at + 40 * _DAY)
    record = place.journal.secret("app")
    assert record is not None
    assert record.parked is not None
    assert "4 times in a row" in record.parked
    assert len(asked) == 4
    failed = [one for one in place.written if one.kind is Kind.FAILED]
    assert topic_of(failed[0].kind, failed[0].data) is None
    assert topic_of(failed[-1].kind, failed[-1].data) is Topic.FAILED
