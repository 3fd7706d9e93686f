"""What makes a user what it is reaches its successor, whole and without excess, on every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rotator.api import Credential, Denied, Secret
from rotator.testing.fakes import step_context
from tests.valkey.profiles import KINDS, Profiles, run
from tests.valkey.sandboxes import STRATEGIES, acl_of

if TYPE_CHECKING:
    from tests.servers.valkey import ScratchValkey
    from tests.valkey.harness import Harness


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_rule_reaches_every_successor(server: ScratchValkey, kind: str):
    """By every strategy, in each of its forms, and back where a rotation is undone."""
    profiles = Profiles(servers=[server])
    for strategy in STRATEGIES:
        for rules in KINDS[kind]:
            profiles.turn(strategy, list(rules))
    assert not profiles.differences


def test_users_that_are_drawn_at_random_stay_what_they_are(server: ScratchValkey):
    """Compared by ACL GETUSER, where the plugin reads ACL LIST; many more: make profiles."""
    assert not run([server], 50, seed=15).differences


def test_users_stay_what_they_are_on_every_node(pair: list[ScratchValkey]):
    """Also where the nodes do not agree on the rules: each keeps its own."""
    assert not run(pair, 8, seed=16).differences


def test_what_a_successor_has_in_excess_is_seen(harness: Harness):
    """Somebody gave the new user more between create and verify."""
    (server,) = harness.servers
    secret = harness.secret("alternating-users")
    harness.adopt(secret)
    current = harness.serves(secret)
    ctx = step_context(secret=secret.name, current=current, adopted=frozenset({harness.name}))
    new = secret.rotation.propose(current, ctx)
    secret.rotation.create(new, ctx)
    server.run("ACL SETUSER", new.username, "+flushall", "~more:*")
    with pytest.raises(Exception, match=r"has in excess .*~more"):
        secret.rotation.verify(new, ctx)


@pytest.mark.parametrize("how", ["off", "nopass"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_login_that_somebody_closed_or_opened_gets_no_successor(
    harness: Harness, strategy: str, how: str
):
    """It would be open again, or ask for a password that nobody has; the plan and the doctor say so too."""
    (server,) = harness.servers
    secret = harness.secret(strategy)
    harness.adopt(secret)
    current = harness.serves(secret)
    server.run("ACL SETUSER", harness.name, how)
    ctx = step_context(secret=secret.name, current=current, adopted=frozenset({harness.name}))
    before = acl_of(server, harness.name, "rotator:")
    rotation: Any = secret.rotation
    with pytest.raises(Denied, match=r"is off|nopass"):
        rotation.create(rotation.propose(current, ctx), ctx)
    with pytest.raises(Denied, match=r"is off|nopass"):
        rotation.explain(current, ctx)
    found = rotation.examine(current, ctx)
    assert any("is off" in one.message or "nopass" in one.message for one in found)
    assert acl_of(server, harness.name, "rotator:") == before


def test_a_password_that_was_set_by_hand_lives_until_the_revoke_that_announces_its_end(
    harness: Harness,
):
    """An undone rotation leaves it; the plan counts it; in place it is refused, as it would end at once."""
    (server,) = harness.servers
    server.run("ACL SETUSER", harness.name, ">set-by-hand")
    by_hand = Credential(username=harness.name, password=Secret("set-by-hand"))
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    current = harness.serves(secret)
    rotation: Any = secret.rotation
    ctx = step_context(secret=secret.name, current=current, adopted=frozenset({harness.name}))
    planned = " ".join(one.text for one in rotation.explain(current, ctx))
    assert "removes 1 more password(s) of this user, set manually" in planned
    new = rotation.propose(current, ctx)
    rotation.create(new, ctx)
    assert server.lets_in(harness.name, "set-by-hand")
    rotation.withdraw(new, ctx)
    assert server.lets_in(harness.name, "set-by-hand")
    assert not rotation.probe(new, ctx)
    single: Any = harness.secret("single-user").rotation
    with pytest.raises(Denied, match="1 more password") as raised:
        single.create(new, ctx)
    assert "dual-password" in raised.value.hint
    assert rotation.probe(by_hand, ctx)


def test_the_admin_of_a_target_can_set_any_login_s_password(harness: Harness):
    """As another target's secret asks for, whatever the login has now."""
    (server,) = harness.servers
    secret = harness.secret("single-user")
    new = Credential(username=harness.name, password=Secret("what-somebody-else-drew"))
    ctx = step_context(current=new, adopted=frozenset({harness.name}))
    secret.rotation.create(new, ctx)
    assert server.lets_in(harness.name, "what-somebody-else-drew")
