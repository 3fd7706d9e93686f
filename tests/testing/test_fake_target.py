"""The target in memory refuses what a real one refuses, and records who breaks a promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rotator.api import Conflict, Credential, InUse, Refused, Secret, StepContext, Transient
from rotator.testing.fake_rotations import STRATEGIES, fake_rotation
from rotator.testing.fake_target import Account, FakeTarget
from rotator.testing.fakes import step_context


@pytest.fixture
def target() -> FakeTarget:
    """A target beside a backend that holds every password."""
    return FakeTarget(stored=lambda _password: True)


@pytest.fixture
def ctx() -> StepContext:
    return step_context(secret="app")


def test_a_login_authenticates_with_its_own_password_only(target: FakeTarget, ctx: StepContext):
    """As on a real server with passwords."""
    target.create_login("app", "right", ctx)
    assert target.accepts("app", "right")
    assert not target.accepts("app", "wrong")
    assert not target.accepts("other", "right")
    assert target.usable() == {"app"}


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32])
def test_a_name_that_does_not_fit_is_refused(target: FakeTarget, ctx: StepContext, name: str):
    """Rather than cut in silence."""
    with pytest.raises(Refused):
        target.create_login(name, "password", ctx)


def test_an_empty_password_is_refused(target: FakeTarget, ctx: StepContext):
    """It would be a login for everybody."""
    with pytest.raises(Refused):
        target.create_login("app", "", ctx)


def test_a_login_is_made_once(target: FakeTarget, ctx: StepContext):
    """`CREATE ROLE` of one that exists fails."""
    target.create_login("app", "password", ctx)
    with pytest.raises(Conflict):
        target.create_login("app", "password", ctx)


@pytest.mark.parametrize("statement", ["set_password", "drop", "disable", "discard_old_password"])
def test_a_login_that_does_not_exist_cannot_be_changed(
    target: FakeTarget, ctx: StepContext, statement: str
):
    """A plugin has to look first."""
    arguments = ["nobody", "password"] if statement == "set_password" else ["nobody"]
    with pytest.raises(Refused):
        getattr(target, statement)(*arguments, ctx)


def test_a_password_that_no_backend_holds_is_a_violation(ctx: StepContext):
    """P2, on creating a login and on changing its password."""
    target = FakeTarget(stored=lambda password: password == "kept")
    target.create_login("app", "kept", ctx)
    assert target.violations == []
    target.set_password("app", "lost", ctx)
    target.create_login("other", "lost", ctx)
    assert [one[:2] for one in target.violations] == ["P2", "P2"]


def test_a_change_of_a_foreign_login_is_a_violation(target: FakeTarget, ctx: StepContext):
    """P9: unmarked, or marked by another secret; an adopted one is ours."""
    target.accounts["theirs"] = Account(passwords=["x"])
    target.create_login("others", "x", replace(ctx, secret="another"))
    target.accounts["handed-over"] = Account(passwords=["x"])
    target.set_password("handed-over", "y", replace(ctx, adopted=frozenset({"handed-over"})))
    assert target.violations == []
    target.set_password("theirs", "y", ctx)
    target.drop("others", ctx)
    assert [one[:2] for one in target.violations] == ["P9", "P9"]


def test_a_drop_of_a_login_in_use_is_a_violation(target: FakeTarget, ctx: StepContext):
    """P5: the open session would break."""
    target.create_login("app", "x", ctx)
    target.open_session("app")
    target.drop("app", ctx)
    assert target.violations == ["P5: login 'app' was dropped under its open sessions."]


def test_an_end_of_sessions_without_leave_is_a_violation(target: FakeTarget, ctx: StepContext):
    """P5: only the policy or an operator may end them."""
    for name, allowed in (("a", True), ("b", False)):
        target.create_login(name, "x", ctx)
        target.open_session(name)
        target.end_sessions(name, replace(ctx, end_sessions=allowed))
    assert target.violations == ["P5: sessions of 'b' were ended without being told to."]
    assert target.sessions("a") == []


def test_retaining_keeps_the_one_that_is_replaced_and_no_older_one(
    target: FakeTarget, ctx: StepContext
):
    """As MySQL's RETAIN CURRENT PASSWORD, which forgets the secondary one."""
    target.create_login("app", "1", ctx)
    target.set_password("app", "2", ctx, retain=True)
    assert [target.accepts("app", one) for one in "12"] == [True, True]
    target.set_password("app", "3", ctx, retain=True)
    assert [target.accepts("app", one) for one in "123"] == [False, True, True]
    target.discard_old_password("app", ctx)
    assert [target.accepts("app", one) for one in "123"] == [False, False, True]


# -- the plugins over it -------------------------------------------------------------------------


def _old_and_new(
    strategy: str, target: FakeTarget, ctx: StepContext
) -> tuple[Credential, Credential, StepContext]:
    rotation = fake_rotation(strategy, target)
    old = rotation.propose(None, ctx)
    rotation.create(old, ctx)
    later = replace(ctx, current=old)
    return old, rotation.propose(old, later), later


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_method_of_every_strategy_is_an_ensure(
    strategy: str, target: FakeTarget, ctx: StepContext
):
    """Twice equals once: create, revoke, and withdraw on another rotation."""
    rotation = fake_rotation(strategy, target)
    old, new, ctx = _old_and_new(strategy, target, ctx)

    def twice(act: object, credential: Credential, context: StepContext) -> None:
        states = []
        for _ in range(2):
            act(credential, context)  # pyright: ignore[reportCallIssue] # a method of the contract
            states.append(target.state())
        assert states[0] == states[1]

    before = target.state()
    twice(rotation.create, new, ctx)
    assert rotation.probe(new, ctx)
    assert rotation.probe(old, ctx) is rotation.overlaps
    twice(rotation.withdraw, new, ctx)
    assert rotation.probe(old, ctx)
    assert not rotation.probe(new, ctx)
    if strategy != "alternating-users":  # its second login stays, closed
        assert target.state() == before
    twice(rotation.create, new, ctx)
    twice(rotation.revoke, old, replace(ctx, current=new))
    assert rotation.probe(new, ctx)
    assert not rotation.probe(old, ctx)
    assert target.violations == []


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
def test_a_login_in_use_is_not_taken_away(strategy: str, target: FakeTarget, ctx: StepContext):
    """Revoke lists the open sessions, rejects new ones, and ends them only by `end_sessions`."""
    rotation = fake_rotation(strategy, target)
    old, new, ctx = _old_and_new(strategy, target, ctx)
    rotation.create(new, ctx)
    target.open_session(old.username)
    with pytest.raises(InUse) as caught:
        rotation.revoke(old, replace(ctx, current=new))
    assert len(caught.value.sessions) == 1
    assert not rotation.probe(old, ctx)
    rotation.revoke(old, replace(ctx, current=new, end_sessions=True))
    assert target.violations == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_foreign_login_is_left_alone(strategy: str, target: FakeTarget, ctx: StepContext):
    """A login that is in the way and not ours is a conflict."""
    rotation = fake_rotation(strategy, target)
    new = rotation.propose(None, ctx)
    target.accounts[new.username] = Account(passwords=["theirs"])
    with pytest.raises(Conflict):
        rotation.create(new, ctx)
    with pytest.raises(Conflict):
        rotation.withdraw(new, ctx)
    assert target.accepts(new.username, "theirs")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_sent_after_the_deadline(strategy: str, target: FakeTarget):
    """Another engine may be at work by then."""
    rotation = fake_rotation(strategy, target)
    late = step_context(secret="app", timeout=0)
    new = Credential(username="app_a", password=Secret("password"))
    for method in (rotation.create, rotation.withdraw, rotation.revoke):
        with pytest.raises(Transient):
            method(new, replace(late, current=replace(new, username="app_a")))
    assert target.state() == {}


# -- containment -------------------------------------------------------------------------------------


def test_a_fenced_login_accepts_no_password_and_keeps_its_sessions(
    target: FakeTarget, ctx: StepContext
):
    """Its rights and its owner stay too."""
    target.create_login("app", "a", ctx)
    target.open_session("app")
    target.fence("app", ctx)
    assert not target.accepts("app", "a")
    assert not any(target.accepts("app", kept) for kept in target.accounts["app"].passwords)
    assert len(target.sessions("app")) == 1
    before = target.state()
    target.fence("app", ctx)
    assert target.state() == before
    assert target.violations == []


def test_sessions_that_began_before_a_moment_end_and_later_ones_stay(
    target: FakeTarget, ctx: StepContext
):
    """The moment is the target's own count."""
    target.create_login("app", "a", ctx)
    target.open_session("app")
    moment = target.moment()
    target.open_session("app")
    target.end_sessions_before("app", moment, ctx)
    assert target.accounts["app"].began > [moment]
    assert len(target.sessions("app")) == 1
