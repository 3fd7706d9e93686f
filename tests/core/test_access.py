"""Who may do what, by the roles and approval rules of the configuration."""

from __future__ import annotations

import pytest

from rotator.core.access import (
    PERMISSIONS,
    Access,
    Actor,
    ApprovalRule,
    Grant,
    Permission,
    Role,
    Selector,
    Subject,
    missing_approvals,
)

ALICE = Actor(subject="alice", method="os", face="cli", host="vm", groups=("dba",))
BOB = Actor(subject="bob", method="oidc", face="web", host="10.0.0.7", groups=("ops",))
SHOP, BILLING = Subject(name="shop-db", tags=("prod",)), Subject(name="billing")


def test_an_actor_reads_like_before_and_as_data():
    """The text of events stays; the structure comes back from what events record."""
    assert str(ALICE) == "cli:alice@vm"
    back = Actor.from_data(ALICE.as_data())
    assert back is not None
    assert (back.subject, back.method, back.face, back.host) == ("alice", "os", "cli", "vm")
    assert Actor.from_data("cli:alice@vm") is None


@pytest.mark.parametrize(
    ("actor", "permission", "expected"),
    [
        (ALICE, Permission.ROTATE, True),
        (ALICE, Permission.REVEAL, True),
        (BOB, Permission.VIEW, True),
        (BOB, Permission.ROTATE, False),
    ],
)
def test_without_roles_only_users_of_the_system_may_change(actor, permission, expected):  # type: ignore[no-untyped-def]
    assert Access().may(actor, permission, SHOP) is expected


@pytest.mark.parametrize(
    ("grant", "actor", "expected"),
    [
        ({"subjects": ("alice",)}, ALICE, True),
        ({"subjects": ("os:alice",)}, ALICE, True),
        ({"subjects": ("oidc:alice",)}, ALICE, False),
        ({"subjects": ("Alice",)}, ALICE, False),
        ({"groups": ("dba",)}, ALICE, True),
        ({"groups": ("oidc:dba",)}, ALICE, False),
        ({"groups": ("oidc:ops",)}, BOB, True),
        ({"subjects": ("dba",)}, ALICE, False),
    ],
)
def test_a_role_is_for_subjects_and_groups(grant, actor, expected):  # type: ignore[no-untyped-def]
    access = Access(grants=(Grant(role=Role.OPERATOR, **grant),))
    assert access.may(actor, Permission.ROTATE, SHOP) is expected


@pytest.mark.parametrize(
    ("where", "secret", "expected"),
    [
        (Selector(), BILLING, True),
        (Selector(tags=("prod", "test")), SHOP, True),
        (Selector(tags=("prod",)), BILLING, False),
        (Selector(names=("shop-*",)), SHOP, True),
        (Selector(names=("shop-*",)), BILLING, False),
        (Selector(tags=("prod",), names=("billing",)), SHOP, False),
    ],
)
def test_a_role_is_over_tags_and_names(where, secret, expected):  # type: ignore[no-untyped-def]
    access = Access(grants=(Grant(role=Role.OPERATOR, subjects=("alice",), where=where),))
    assert access.may(ALICE, Permission.ROTATE, secret) is expected
    assert access.may(ALICE, Permission.ROTATE)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_each_role_allows_its_own_permissions_only(role: Role, permission: Permission):
    access = Access(grants=(Grant(role=role, subjects=("alice",)),))
    assert access.may(ALICE, permission, SHOP) is (permission in PERMISSIONS[role])
    assert not access.may(BOB, permission, SHOP)


def test_only_breakers_and_admins_kill_and_break_glass():
    for permission in (Permission.KILL, Permission.BREAK_GLASS):
        held = {role for role in Role if permission in PERMISSIONS[role]}
        assert held == {Role.BREAKER, Role.ADMIN}


@pytest.mark.parametrize(
    ("rule", "approvers", "expected"),
    [
        ({}, [], 1),
        ({}, [BOB], 0),
        ({}, [ALICE], 1),
        ({"not_self": False}, [ALICE], 0),
        ({"by": 2}, [BOB], 1),
        ({"by": 2}, [BOB, BOB], 1),
        ({"by": 2, "not_self": False}, [ALICE, BOB], 0),
    ],
)
def test_approvals_count_by_different_subjects(rule, approvers, expected):  # type: ignore[no-untyped-def]
    rules = [ApprovalRule(actions=(Permission.ROTATE,), **rule)]
    assert missing_approvals(rules, ALICE, approvers) == expected
    assert missing_approvals([], ALICE, []) == 0


def test_a_request_keeps_only_the_groups_that_the_configuration_names():
    access = Access(grants=(Grant(role=Role.VIEWER, groups=("os:dba",)),))
    many = Actor(subject="a", method="os", face="cli", host="h", groups=("dba", "games"))
    assert access.known_groups(many).groups == ("dba",)
