"""The harness finds what it is for: broken plugins, broken backends and broken engines."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rotator.api import Secret
from rotator.core import state_machine
from rotator.core.consumers import Verdict
from rotator.core.model import Credential, Step
from rotator.engine.steps import Steps
from rotator.testing.crash import (
    Process,
    Sandbox,
    assert_survives_crashes,
    explore,
    explore_failures,
    explore_strangers,
    explore_takeovers,
    fake_sandbox,
    scenarios,
)
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_rotations import DualPassword, NewUser, SingleUser
from rotator.testing.fake_target import Account, FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Rotation, StepContext
    from rotator.core.model import Event
    from rotator.testing.crash import Report, Scenario


def _sandbox(make: Callable[[FakeTarget], Rotation], backend: FakeBackend | None = None) -> Sandbox:
    backend = backend or FakeBackend()
    target = FakeTarget(stored=backend.holds)
    return Sandbox(
        rotation=lambda: make(target),
        backend=backend,
        usable=target.usable,
        accepts=lambda one: target.accepts(one.username, one.password.reveal()),
        state=target.state,
        violations=lambda: target.violations,
        tapped=(backend, target),
    )


def _scenario(make_sandbox: Callable[[], Sandbox], name: str = "rotation") -> Scenario:
    return next(one for one in scenarios(make_sandbox) if one.name == name)


def _found(report: Report) -> str:
    assert report.violations, f"nothing was found by {report}"
    return str(report)


@pytest.mark.parametrize(
    ("sample", "least"), [(60, 60), pytest.param(None, 1000, marks=pytest.mark.slow)]
)
def test_a_plugin_author_needs_one_call(sample: int | None, least: int):
    """`assert_survives_crashes` runs every scenario of a sound plugin and returns how many sandboxes."""
    assert assert_survives_crashes(partial(fake_sandbox, "single-user"), sample=sample) >= least


def test_a_plugin_that_draws_its_own_password_is_found():
    """A password that the backend does not hold breaks P2."""

    class Own(NewUser):
        def create(self, new: Credential, ctx: StepContext) -> None:
            super().create(replace(new, password=Secret("made up on the spot")), ctx)

    assert "P2: a password was set" in _found(explore(_scenario(lambda: _sandbox(Own))))


def test_a_plugin_that_drops_the_old_login_in_create_is_found():
    """The current credential must log in until another one is published."""

    class Eager(NewUser):
        def create(self, new: Credential, ctx: StepContext) -> None:
            super().create(new, ctx)
            if ctx.current is not None:
                self._drop(ctx.current.username, ctx)

    assert "P1: the current login" in _found(explore(_scenario(lambda: _sandbox(Eager))))


def test_a_plugin_whose_create_is_no_ensure_is_found():
    """Retaining the current password twice pushes the current one out."""

    class Forgetful(DualPassword):
        def create(self, new: Credential, ctx: StepContext) -> None:
            if ctx.current is None:
                super().create(new, ctx)
            else:
                password = new.password.reveal()
                self._target.set_password(new.username, password, ctx, retain=True)

    assert "P1: the current login" in _found(explore(_scenario(lambda: _sandbox(Forgetful))))


def test_a_plugin_that_leaves_the_old_login_behind_is_found():
    """After a rotation exactly one credential is valid."""

    class Lazy(NewUser):
        def revoke(self, old: Credential, ctx: StepContext) -> None:
            return

    assert "P3: these logins are valid" in _found(explore(_scenario(lambda: _sandbox(Lazy))))


def test_a_plugin_that_does_not_withdraw_is_found():
    """What was rolled back before publish leaves no orphan login."""

    class Keeping(NewUser):
        def withdraw(self, new: Credential, ctx: StepContext) -> None:
            return

    scenario = _scenario(lambda: _sandbox(Keeping), "rollback before publish")
    assert "P3: orphan logins" in _found(explore(scenario))


def test_a_plugin_that_writes_while_it_proposes_is_found():
    """Proposing changes nothing on the target."""

    class Hasty(SingleUser):
        def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
            new = super().propose(current, ctx)
            self._set(new, ctx)
            return new

    assert "rotation.propose changed something" in _found(
        explore(_scenario(lambda: _sandbox(Hasty)))
    )


def test_a_plugin_that_takes_somebody_elses_login_is_found():
    """A login that is not marked as ours is neither altered nor dropped."""

    class Grabbing(SingleUser):
        def _ours(self, name: str, ctx: StepContext) -> bool:
            return name in self._target.accounts

    def make(target: FakeTarget) -> Rotation:
        target.accounts.setdefault("app", Account(passwords=["theirs"]))
        return Grabbing(target)

    report = explore(_scenario(lambda: _sandbox(make), "first credential"))
    assert "P9: login 'app' is not ours" in _found(report)


def test_a_plugin_that_acts_after_its_deadline_is_found():
    """An engine frozen past its lock must not undo what another one has done since."""

    class Late(SingleUser):
        def create(self, new: Credential, ctx: StepContext) -> None:
            super().create(new, replace(ctx, deadline=math.inf))

    report = explore_takeovers(_scenario(lambda: _sandbox(Late)), by=Process.rollback)
    assert "overtaken before rotation.create: P1: the current login" in _found(report)


def test_a_backend_that_loses_what_was_staged_is_found():
    """A staged value must be durable before the target hears of it."""

    class Losing(FakeBackend):
        def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
            return new

    with pytest.raises(AssertionError, match="P2"):
        assert_survives_crashes(lambda: _sandbox(NewUser, Losing()))


def test_a_backend_that_overwrites_a_stranger_is_found():
    """What somebody else wrote stays."""

    class Rude(FakeBackend):
        def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
            current = self.current(path)
            return super().publish(path, rotation_id, expect=current.id if current else None)

    report = explore_strangers(_scenario(lambda: _sandbox(NewUser, Rude())))
    assert "what somebody else wrote was overwritten" in _found(report)


def test_an_engine_that_publishes_before_it_creates_is_found(monkeypatch: pytest.MonkeyPatch):
    """Consumers must not be given a credential that does not log in yet."""
    create = Steps._create

    def hasty(self: Steps, history: list[Event], end: bool) -> object:  # noqa: FBT001 # as the engine's own
        version = self._backend.current(self._secret.path)
        self._backend.publish(self._secret.path, self._id, expect=version.id if version else None)
        return create(self, history, end)

    monkeypatch.setattr(Steps, "_create", hasty)
    found = _found(explore(_scenario(partial(fake_sandbox, "new-user"))))
    assert "P4: backend.publish with `create started`" in found
    assert "P1: the current login" in found


def test_an_engine_that_skips_the_intent_is_found(monkeypatch: pytest.MonkeyPatch):
    """An effect without a committed intent before it breaks P4."""
    stage = Steps._stage

    def both(self: Steps, history: list[Event], end: bool) -> object:  # noqa: FBT001
        result = stage(self, history, end)
        self._create(history, end)
        return result

    monkeypatch.setattr(Steps, "_stage", both)
    found = _found(explore(_scenario(partial(fake_sandbox, "new-user"))))
    assert "P4: rotation.create with `stage started`" in found


def test_an_engine_that_revokes_without_proof_is_found(monkeypatch: pytest.MonkeyPatch):
    """A rotation that is done carries the proof that the old credential is refused."""
    revoke = Steps._revoke

    def unproven(self: Steps, history: list[Event], end: bool) -> object:  # noqa: FBT001
        return {**revoke(self, history, end), "refused": None}

    monkeypatch.setattr(Steps, "_revoke", unproven)
    found = _found(explore(_scenario(partial(fake_sandbox, "new-user"))))
    assert "has no proof that the old one is refused" in found


def test_an_engine_that_does_not_look_after_a_lost_answer_is_found(
    monkeypatch: pytest.MonkeyPatch,
):
    """Taking a publish whose answer was lost for undone withdraws what consumers read."""
    failed = state_machine._failed

    def careless(state: state_machine.Progress, event: Event) -> None:
        failed(state, event)
        if event.step is Step.PUBLISH:
            state.maybe_published = False
            state_machine._turn_back(state, event)

    monkeypatch.setattr(state_machine, "_failed", careless)
    report = explore_failures(_scenario(partial(fake_sandbox, "new-user")))
    assert "Unknown after backend.publish" in _found(report)


def test_an_engine_that_leaves_the_next_version_readable_is_found(monkeypatch: pytest.MonkeyPatch):
    """What consumers read as the next version goes with the rotation, published or undone."""
    monkeypatch.setattr(Steps, "_retract", lambda _self, _history: None)
    single_user = partial(fake_sandbox, "single-user")
    for name in ("rotation whose consumers prepare", "rollback while consumers prepare"):
        assert "P3: a next version was left behind" in _found(explore(_scenario(single_user, name)))


def test_an_engine_that_does_not_wait_for_its_consumers_is_found(monkeypatch: pytest.MonkeyPatch):
    """The target changes once the consumers have read the next version, or their time is over."""
    monkeypatch.setattr(Verdict, "unprepared", lambda _self: ())
    scenario = _scenario(partial(fake_sandbox, "single-user"), "rotation whose consumers prepare")
    assert "before consumers have read the next version" in _found(explore(scenario))


def test_an_engine_that_offers_before_its_intent_is_found(monkeypatch: pytest.MonkeyPatch):
    """Showing consumers the next version is an effect of its own."""
    stage = Steps._stage

    def hasty(self: Steps, history: list[Event], end: bool) -> object:  # noqa: FBT001
        result = stage(self, history, end)
        old = history[0].data.get("old_version")
        if old:
            self._next_of_backend().offer(self._secret.path, self._id, expect=str(old))
        return result

    monkeypatch.setattr(Steps, "_stage", hasty)
    scenario = _scenario(partial(fake_sandbox, "single-user"), "rotation whose consumers prepare")
    assert "P4: backend.offer with `stage started`" in _found(explore(scenario))


def test_each_finding_names_its_place():
    """A violation names the scenario, the crash and the place where the promise was first broken."""

    class Lazy(NewUser):
        def revoke(self, old: Credential, ctx: StepContext) -> None:
            return

    report = explore(_scenario(lambda: _sandbox(Lazy)))
    undisturbed = report.violations[0]
    assert (undisturbed.scenario, undisturbed.place) == ("rotation", "undisturbed")
    assert "(first seen " in undisturbed.what
    assert "rotation, crash after journal.acquire: P3" in str(report)
