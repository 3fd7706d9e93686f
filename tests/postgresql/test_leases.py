"""Leases on a real PostgreSQL: the server itself ends what nobody has ended, and nothing is left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.leases import LeaseOutcome, LeaseTerms
from rotator.engine import LeaseRequest

if TYPE_CHECKING:
    from rotator.engine import ManagedSecret
    from tests.postgresql.conftest import Harness

MINUTE = timedelta(minutes=1)
WEB = LeaseRequest(holder="web")


@pytest.fixture
def lent(harness: Harness) -> ManagedSecret:
    secret = replace(
        harness.secret(group=harness.group), leases=LeaseTerms(ttl=10 * MINUTE, longest=20 * MINUTE)
    )
    harness.engine.rotate(secret)
    return secret


def _valid_until(harness: Harness, login: str | None) -> datetime:
    ((until,),) = harness.sql("SELECT rolvaliduntil FROM pg_roles WHERE rolname = %s", login)
    return until


def _acl_entries(harness: Harness) -> object:
    return harness.sql(
        "SELECT (SELECT count(*) FROM pg_roles), (SELECT count(*) FROM pg_shdepend),"
        " (SELECT count(*) FROM pg_auth_members), (SELECT count(*) FROM pg_shdescription)"
    )


def test_lease_has_the_rights_of_the_current_login(harness: Harness, lent: ManagedSecret):
    lease = harness.engine.leases.issue(lent, WEB)
    with harness.connect(lease.credential) as link:
        link.execute("INSERT INTO orders VALUES (1)")
        link.execute("CREATE TABLE made_by_a_lease ()")
    harness.engine.leases.end(lent, lease.record.id)
    # What it made belongs to the group.
    assert harness.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_a_lease'") == [
        (harness.group,)
    ]


def test_server_ends_a_login_by_its_own_clock(harness: Harness, lent: ManagedSecret):
    lease = harness.engine.leases.issue(lent, WEB).record
    margin = timedelta(seconds=5)
    assert abs(_valid_until(harness, lease.login) - lease.ends_at - margin) < timedelta(seconds=1)
    renewed = harness.engine.leases.renew(lent, lease.id, ttl=15 * MINUTE).record
    assert renewed.ends_at > lease.ends_at
    moved = _valid_until(harness, lease.login)
    assert abs(moved - renewed.ends_at - margin) < timedelta(seconds=1)


def test_login_whose_end_nobody_made_is_rejected(harness: Harness, lent: ManagedSecret):
    lease = harness.engine.leases.issue(lent, WEB)
    past = datetime.now(UTC) - MINUTE
    harness.sql(f"ALTER ROLE {lease.record.login} VALID UNTIL '{past.isoformat()}'")
    assert not harness.logs_in(lease.credential)
    ended = harness.engine.leases.end(lent, lease.record.id)
    assert ended.outcome is LeaseOutcome.ENDED


def test_ended_leases_leave_no_login_and_no_right(harness: Harness, lent: ManagedSecret):
    before = _acl_entries(harness)
    for _ in range(3):
        lease = harness.engine.leases.issue(lent, WEB)
        session = harness.connect(lease.credential)
        harness.engine.leases.end(lent, lease.record.id)
        assert not harness.logs_in(lease.credential)
        session.close()
    assert _acl_entries(harness) == before


def test_rotation_goes_on_beside_leases(harness: Harness, lent: ManagedSecret):
    lease = harness.engine.leases.issue(lent, WEB)
    harness.engine.rotate(lent)
    assert harness.logs_in(lease.credential)
    assert harness.logs_in(harness.serves(lent))
    harness.engine.leases.end(lent, lease.record.id)
    assert harness.logs_in(harness.serves(lent))
