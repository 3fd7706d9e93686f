"""The users of real nodes, as `rotator discover` lists them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rotations.valkey import PLUGIN
from rotations.valkey.options import TargetOptions
from rotator.api import ListsLogins, Transient
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from tests.harness import FIRST
from tests.valkey.sandboxes import admin_of

if TYPE_CHECKING:
    from rotator.api import FoundLogin
    from tests.valkey.harness import Harness


def logins_of(harness: Harness) -> dict[str, FoundLogin]:
    """Return the users by name."""
    first, *others = harness.servers
    nodes = tuple(one.place for one in others)
    options = TargetOptions(host=first.host, port=first.port, nodes=nodes)
    target = PLUGIN.target("cache", options, lambda: admin_of(first))
    assert isinstance(target, ListsLogins)
    try:
        found = target.logins(step_context(clock=SystemClock()))
    finally:
        target.close()
    return {login.login: login for login in found}


def test_users_are_listed_with_sessions_and_rights(harness_of_two: Harness):
    """Together from all nodes; marks are not listed as users."""
    harness = harness_of_two
    secret = harness.secret("new-user", nodes=tuple(one.place for one in harness.servers[1:]))
    harness.adopt(secret)
    _ = harness.engine.rotate(secret)
    served = harness.serves(secret)
    client = harness.servers[1].client(served.username, served.password.reveal())
    with closing(client):
        client.ping()
        logins = logins_of(harness)
    login = logins[served.username]
    assert login.sessions == 1
    assert login.last_used is not None
    assert login.can_login
    assert not login.is_superuser
    assert login.is_of(secret.name)
    assert not login.is_of("another secret")
    assert login.remove == f"ACL DELUSER {served.username}"
    assert logins["default"].is_superuser
    assert not logins["default"].is_of(secret.name)
    assert not any(name.startswith("rotator:") for name in logins)


def test_replication_is_internal(harness_of_two: Harness):
    """Its login belongs to the servers."""
    assert logins_of(harness_of_two)["replication"].is_internal


def test_what_nodes_do_not_share_is_shown(harness_of_two: Harness):
    """A user that one node lacks, one without a password, and one that is off."""
    harness = harness_of_two
    primary, replica = harness.servers
    primary.run("ACL SETUSER", "only-here", "on", f">{FIRST}", "+ping")
    primary.run("ACL SETUSER", "open-to-all", "on", "nopass", "+ping")
    primary.run("ACL SETUSER", "resting", "off", f">{FIRST}", "+ping")
    try:
        logins = logins_of(harness)
        assert replica.place in logins["only-here"].comment
        assert not logins["open-to-all"].has_password
        assert logins["open-to-all"].can_login
        assert not logins["resting"].can_login
    finally:
        primary.run("ACL DELUSER", "only-here", "open-to-all", "resting")


def test_a_node_that_is_away_is_named(harness: Harness):
    """A list without its users would look complete."""
    first = harness.servers[0]
    options = TargetOptions(host=first.host, port=first.port, nodes=("127.0.0.1:1",))
    target = PLUGIN.target("cache", options, lambda: admin_of(first))
    assert isinstance(target, ListsLogins)
    try:
        with pytest.raises(Transient, match=r"127\.0\.0\.1:1 "):
            _ = target.logins(step_context(clock=SystemClock()))
    finally:
        target.close()
