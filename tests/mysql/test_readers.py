"""Replicas that applications read from: nothing is published, or proven revoked, before they follow."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pymysql
import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret, Severity, Transient, UsageError
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from tests.mysql.dialects import MARIADB, MYSQL, Dialect, is_let_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.api import Contains, Rotation, StepContext
    from tests.servers.mysql_like import MySqlLikeServer

_OLD = Credential(username="app", password=Secret("the-old-password"))
_NEW = Credential(username="app", password=Secret("the-new-password"))


@pytest.fixture(
    scope="module",
    params=[MARIADB, pytest.param(MYSQL, marks=pytest.mark.slow)],
    ids=lambda one: one.product,
)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Return each of the two in turn."""
    return request.param


@pytest.fixture(scope="module")
def primary(dialect: Dialect) -> Iterator[MySqlLikeServer]:
    if dialect.missing:
        pytest.skip(dialect.missing)
    with dialect.start("--server-id=1") as made:
        made.run("CREATE USER copy@'127.0.0.1' IDENTIFIED BY 'copy-1'")
        made.run("GRANT REPLICATION SLAVE ON *.* TO copy@'127.0.0.1'")
        yield made


@pytest.fixture(scope="module")
def replica(dialect: Dialect, primary: MySqlLikeServer) -> Iterator[MySqlLikeServer]:
    with dialect.start("--server-id=2") as made:
        file, at, *_ = primary.run(dialect.position)[0]
        made.run(*(one.format(port=primary.port, file=file, at=at) for one in dialect.follow))
        # Its own root has another password.
        primary.run(
            "CREATE USER boss@'127.0.0.1' IDENTIFIED BY 'boss-1'",
            "GRANT ALL ON *.* TO boss@'127.0.0.1' WITH GRANT OPTION",
        )
        ends = time.monotonic() + 30
        while not is_let_in(made, "boss", "boss-1"):
            assert time.monotonic() < ends
            time.sleep(0.02)
        yield made


@pytest.fixture
def rotation(primary: MySqlLikeServer, replica: MySqlLikeServer) -> Iterator[Rotation]:
    """A rotation in place of login `app`, which both servers have."""
    admin = Credential(username="boss", password=Secret("boss-1"))
    options = TargetOptions(port=primary.port, readers=(f"127.0.0.1:{replica.port}",))
    target = PLUGIN.target("main", options, lambda: admin)
    primary.run("DROP USER IF EXISTS app", "CREATE USER app IDENTIFIED BY 'the-old-password'")
    made = target.rotation("single-user", SecretOptions(username="app"))
    assert made.probe(_OLD, _ctx())
    yield made
    target.close()


def _ctx(seconds: float = 20.0) -> StepContext:
    return step_context(
        secret="app",
        clock=SystemClock(),
        timeout=seconds,
        current=_OLD,
        adopted=frozenset({"app"}),
    )


def test_a_new_login_is_proven_on_each_reader(rotation: Rotation, replica: MySqlLikeServer):
    """The evidence names them."""
    rotation.create(_NEW, _ctx())
    checks = rotation.verify(_NEW, _ctx()).checks
    assert f"login at 127.0.0.1:{replica.port}" in [one.name for one in checks]
    assert is_let_in(replica, "app", "the-new-password")
    assert not rotation.probe(_OLD, _ctx())


def test_a_reader_that_lags_delays_the_step_and_counts_no_wrong_password(
    rotation: Rotation, replica: MySqlLikeServer, dialect: Dialect
):
    """Neither the new nor the old login is proven before it follows; `doctor` names it."""
    replica.run(dialect.pause)
    refused = _refused(replica)
    try:
        rotation.create(_NEW, _ctx())
        with pytest.raises(Transient, match=f"still rejected by 127.0.0.1:{replica.port}"):
            rotation.verify(_NEW, _ctx(1))
        with pytest.raises(Transient, match="still accepted"):
            rotation.probe(_OLD, _ctx(1))
        found = rotation.examine(_NEW, _ctx())  # pyright: ignore[reportAttributeAccessIssue]
        red = [one for one in found if one.severity is Severity.ERROR]
        assert [one.subject for one in red] == [f"reader 127.0.0.1:{replica.port}"]
        assert "rejects the current login 'app'" in red[0].message
        # Neither a step nor `doctor` has tried a login that the replica did not know yet.
        assert _refused(replica) == refused
    finally:
        replica.run(dialect.resume)
    assert rotation.probe(_NEW, _ctx())
    assert not rotation.probe(_OLD, _ctx())


def test_sessions_on_a_reader_count(rotation: Rotation, replica: MySqlLikeServer):
    """An application may read there only."""
    with replica.connect("app", "the-old-password"):
        assert len(rotation.sessions("app", _ctx())) == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_reader_that_lags_is_missing_from_the_moment_and_named(
    rotation: Rotation, replica: MySqlLikeServer, dialect: Dialect
):
    """It accepts the leaked password until it follows, so all its sessions count as earlier."""
    contains: Contains = rotation  # pyright: ignore[reportAssignmentType]
    address = f"127.0.0.1:{replica.port}"
    replica.run(dialect.pause)
    try:
        moment = contains.fence(replace(_OLD, password=Secret("")), _ctx())
        assert address not in json.loads(moment)
        session = replica.connect("app", "the-old-password")
        (lagging,) = [
            one for one in contains.entrances(_OLD, _NEW, _ctx()) if one.address == address
        ]
        assert (lagging.wrong, lagging.leaked) == (False, True)
        assert len(contains.end_sessions("app", moment, _ctx())) == 1
        with pytest.raises(pymysql.MySQLError):
            session.ping(reconnect=False)
    finally:
        replica.run(dialect.resume)
    assert address in json.loads(contains.moment(_ctx()))
    assert not [one for one in contains.entrances(_OLD, _NEW, _ctx()) if one.leaked]


@pytest.mark.parametrize("reader", ["", "db-2:port", "db-2:70000", "a b"])
def test_a_reader_that_names_no_host_is_refused(reader: str):
    """When the configuration is read."""
    with pytest.raises(UsageError, match="does not name a host"):
        _ = TargetOptions(readers=(reader,))


def _refused(server: MySqlLikeServer) -> int:
    """Return how many logins failed, by the general log."""
    return server.log_text().count("Access denied")
