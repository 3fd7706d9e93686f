"""Secrets that another system rotates, over fakes: the harness at every point, and what a daemon does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.daemon_settings import DaemonSettings, Topic
from rotator.core.errors import Denied, NotDue, Transient
from rotator.core.model import Credential, Kind, Policy, Version
from rotator.core.secret import Secret
from rotator.dispatch.worker import topic_of
from rotator.engine import Engine, ManagedSecret
from rotator.testing.crash import (
    Sandbox,
    Scenario,
    delegated_sandbox,
    delegated_scenarios,
    explore,
    explore_failures,
    explore_outages,
    explore_takeovers,
)
from rotator.testing.delegated_suite import DelegatedSuite
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fakes import ListLog, SeededEntropy
from tests.dispatch.sandboxes import Entry, Place

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = timedelta(days=1)
_SCENARIOS = [one.name for one in delegated_scenarios(delegated_sandbox)]


class TestFake(DelegatedSuite):
    """The fake keeps the contract that the suite holds plugins to."""

    @pytest.fixture
    def make_sandbox(self) -> Callable[[], Sandbox]:
        return delegated_sandbox


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
    found = delegated_scenarios(lambda: delegated_sandbox(_Unseen()))
    report = explore_failures(next(one for one in found if one.name == "request"))
    assert not report.violations, str(report)


@pytest.mark.parametrize("name", _SCENARIOS)
def test_it_ends_whatever_happens_on_the_way(name: str):
    """Killed, failing, cut off and overtaken at every point, and between the system's two effects."""
    scenario = next(one for one in delegated_scenarios(delegated_sandbox) if one.name == name)
    for look in (explore, explore_failures, explore_outages, explore_takeovers):
        report = look(scenario)
        assert not report.violations, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", _SCENARIOS)
def test_it_ends_whatever_happens_twice(name: str):
    """A second death at every point of each recovery."""
    scenario = next(one for one in delegated_scenarios(delegated_sandbox) if one.name == name)
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

    def make() -> Sandbox:
        sandbox = delegated_sandbox()
        assert isinstance(sandbox.backend, FakeEngine)
        _forgets(sandbox.backend)
        return sandbox

    scenario: Scenario = next(one for one in delegated_scenarios(make) if one.name == "request")
    assert "rotations were made for one request" in str(explore(scenario))


# -- one engine ------------------------------------------------------------------------------------


def _engine(sandbox: Sandbox) -> Engine:
    return Engine(
        journal=sandbox.journal,
        clock=sandbox.clock,
        entropy=SeededEntropy(),
        log=ListLog(),
        holder=lambda: "test",
    )


def _secret(sandbox: Sandbox, policy: Policy) -> ManagedSecret:
    return ManagedSecret(
        name=sandbox.secret,
        path=sandbox.path,
        backend_name="engine",
        backend=sandbox.backend,
        target_name="engine",
        rotation=sandbox.rotation(),
        plugin="fake",
        strategy="static-role",
        policy=policy,
    )


def test_who_comes_second_finds_it_done():
    """Two daemons find it due: the look under the lease leaves one rotation."""
    sandbox = delegated_sandbox()
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    sandbox.clock.advance(2 * _DAY)
    assert engine.rotate(secret, only_if_due=True).old_refused is True
    with pytest.raises(NotDue):
        engine.rotate(secret, only_if_due=True)
    assert sandbox.rotations is not None
    assert sandbox.rotations() == 1


def test_what_was_rotated_by_itself_is_not_rotated_again_when_due():
    """It is written down, and its own age decides when it is due next."""
    sandbox = delegated_sandbox()
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    sandbox.clock.advance(2 * _DAY)
    assert sandbox.rotate_by_itself is not None
    sandbox.rotate_by_itself()
    with pytest.raises(NotDue, match="rotated by itself"):
        engine.rotate(secret, only_if_due=True)
    assert sandbox.rotations is not None
    assert sandbox.rotations() == 1
    record = sandbox.journal.secret(sandbox.secret)
    assert record is not None
    assert record.next_due == sandbox.clock.now() + _DAY


def test_an_old_credential_that_still_gets_in_is_an_alarm():
    """It was rotated and written down; that it lives on is what a person must hear of."""
    sandbox = delegated_sandbox()
    fake = sandbox.backend
    assert isinstance(fake, FakeEngine)

    class Trusting(FakeDelegatedRotation):
        def probe(self, credential, ctx):
            return credential.password.reveal().startswith("password-")

    secret = replace(_secret(sandbox, Policy()), rotation=Trusting(fake))
    with pytest.raises(Denied, match="still accepted") as told:
        _engine(sandbox).rotate(secret)
    assert "The application is safe" in told.value.safety
    followed = sandbox.journal.events(sandbox.secret)[-1]
    assert (followed.kind, followed.data["old_refused"]) == (Kind.FOLLOWED, False)


# -- a daemon --------------------------------------------------------------------------------------


class Kept(Place):
    """A daemon's sandbox in which another system keeps and rotates the secrets."""

    def secret(self, name: str) -> ManagedSecret:
        made = Place.secret(self, name)
        return replace(made, backend=engines[name], rotation=FakeDelegatedRotation(engines[name]))


engines: dict[str, FakeEngine] = {}


@pytest.fixture
def place() -> Kept:
    engines["app"] = FakeEngine()
    policy = Policy(every=30 * _DAY, attempts=2, cycles=2)
    place = Kept(entries={"app": Entry(policy=policy)}, duty=DaemonSettings(verify_every=_DAY))
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
