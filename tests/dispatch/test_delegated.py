"""A daemon over secrets that another system rotates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.core.daemon_settings import DaemonSettings, Topic
from rotator.core.errors import Transient
from rotator.core.model import Kind, Policy, Step
from rotator.dispatch.worker import topic_of
from rotator.engine import ManagedSecret
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from tests.dispatch.sandboxes import Entry, Place

_DAY = timedelta(days=1)


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


def test_a_daemon_requests_rotations_by_the_schedule_of_the_policy(place: Kept):
    """Once in thirty days, each proven."""
    place.live(place.daemon(), place.clock.at + 95 * _DAY)
    assert engines["app"].rotations == 3
    tried = [one for one in place.written if (one.kind, one.step) == (Kind.FINISHED, Step.REVOKE)]
    assert [one.data["refused"] for one in tried] == [True] * 3
    ended = [one for one in place.written if one.kind is Kind.ENDED]
    assert [topic_of(one.kind, one.data) for one in ended] == [Topic.ROTATED] * 3


def test_a_daemon_has_a_lost_password_replaced(place: Kept):
    """It finds out at its check, notifies, and requests another password at once."""
    daemon = place.daemon()
    place.live(daemon, place.clock.at + _DAY)
    engines["app"].lose()
    place.live(daemon, place.clock.at + 2 * _DAY)
    assert Topic.REFUSED in [one[0] for one in place.told]
    assert engines["app"].rotations == 1
    served = engines["app"].current("app")
    assert served is not None
    assert engines["app"].accepts(served.credential)


def test_a_daemon_records_rotations_by_the_schedule_of_the_owner(place: Kept):
    """It notifies of no drift, and does not rotate on top of it."""
    daemon = place.daemon()
    place.live(daemon, place.clock.at + 29 * _DAY)
    engines["app"].rotate()
    place.live(daemon, place.clock.at + 3 * _DAY)
    assert not place.told
    assert engines["app"].rotations == 1


def test_a_daemon_parks_a_secret_that_goes_on_failing(place: Kept):
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
    assert "does not reach the database" in record.parked
    assert len(asked) == 4
    failed = [one for one in place.written if one.kind is Kind.FAILED]
    assert [topic_of(one.kind, one.data) for one in failed] == [None] * 4
    (parked,) = (one for one in place.written if one.kind is Kind.PARKED)
    assert topic_of(parked.kind, parked.data) is Topic.PARKED
