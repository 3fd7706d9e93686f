"""The contract of a rotation plugin, as tests: each method by itself, then crashes at every call.

A plugin's strategy proves itself in three lines:

    class TestNewUser(RotationSuite):
        def new_sandbox(self, folder):
            return Sandbox.of(PLUGIN, "new-user", target_options=Options(path=folder / "app.db"))
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from rotator.api import (
    CountsSessions,
    Credential,
    DrawsKeys,
    Examines,
    Explains,
    InUse,
    Refused,
    Secret,
    StepError,
    Transient,
    abilities_of_rotation,
)
from rotator.testing.crash import Sandbox, assert_survives_crashes
from rotator.testing.fakes import ListLog, step_context
from rotator.testing.sampling import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rotator.api import Rotation, StepContext

_EMPTY: Final = Secret("")
_NO_WORLD: Final = """\
{name} does not say how a sandbox is made: the plugin under test, on a fresh target. Give it

    def new_sandbox(self, folder):
        return Sandbox.of(PLUGIN, "its-strategy", target_options=..., secret_options=...)

or, where it takes a server that other fixtures start, a fixture `make_sandbox` that returns such a
function of no arguments."""


class RotationSuite(Sampled):
    """Every test works in a sandbox of its own: a target as it is before the first rotation.

    Whoever uses it says how a sandbox is made: by the method `new_sandbox`, or, where that takes a
    server that other fixtures start, by a fixture `make_sandbox` that returns a function.
    """

    def new_sandbox(self, folder: Path) -> Sandbox:
        """Return a fresh sandbox, `folder` being an empty one of its own."""
        _ = folder
        name = type(self).__name__
        pytest.fail(_NO_WORLD.format(name=name), pytrace=False)

    @pytest.fixture
    def make_sandbox(self, tmp_path: Path) -> Callable[[], Sandbox]:
        """Return what makes a fresh sandbox."""
        numbers = itertools.count(1)

        def make() -> Sandbox:
            folder = tmp_path / f"sandbox-{next(numbers)}"
            folder.mkdir()
            return self.new_sandbox(folder)

        return make

    @pytest.fixture
    def place(self, make_sandbox: Callable[[], Sandbox]) -> Iterator[RotationHarness]:
        """Return a fresh place to work in."""
        sandbox = make_sandbox()
        yield RotationHarness(sandbox)
        sandbox.close()

    # -- propose -------------------------------------------------------------------------------

    def test_proposing_writes_nothing(self, place: RotationHarness) -> None:
        """It may look at the target; whatever it draws, it draws anew each time."""
        place.require_proposals()
        before = place.state()
        first = place.rotation.propose(None, place.ctx())
        second = place.rotation.propose(None, place.ctx())
        assert place.state() == before
        assert first.username
        assert first.password != second.password

    def test_the_password_is_one_that_the_policy_drew(self, place: RotationHarness) -> None:
        """Nobody else knows what the target, the policy and its users can bear."""
        place.require_proposals()
        drawn: list[Secret] = []

        def draw() -> Secret:
            drawn.append(Secret(f"drawn-{len(drawn)}-Aa1+"))
            return drawn[-1]

        proposed = place.rotation.propose(None, replace(place.ctx(), new_password=draw))
        assert proposed.password in drawn

    # -- create --------------------------------------------------------------------------------

    def test_what_was_created_logs_in(self, place: RotationHarness) -> None:
        """And nothing else does: not with another password, not under another name."""
        new = place.create()
        assert place.lets_in(new)
        wrong = Secret(new.password.reveal() + "x")
        assert not place.probe(replace(new, password=wrong))
        if not place.draws:
            # Many APIs accept the value of a key without its id.
            assert not place.probe(replace(new, username=f"{new.username}x"))

    def test_creating_twice_is_creating_once(self, place: RotationHarness) -> None:
        """The first time may have been cut off after it had worked."""
        old = place.create()
        new = place.propose(old)
        place.rotation.create(new, place.ctx(old))
        usable = place.usable()
        place.again().create(new, place.ctx(old))
        assert place.usable() == usable
        assert place.lets_in(new)
        assert place.lets_in(old) is place.rotation.overlaps

    def test_old_and_new_are_valid_together_where_it_says_so(self, place: RotationHarness) -> None:
        """`overlaps` is what the engine and the user rely on."""
        old = place.create()
        new = place.create(old)
        assert place.lets_in(new)
        assert place.lets_in(old) is place.rotation.overlaps

    def test_a_login_of_somebody_else_is_not_taken(self, place: RotationHarness) -> None:
        """What bears no mark of ours is not altered, whoever asks for it."""
        place.require_proposals()
        theirs = place.foreign()
        before = place.state()
        mine = replace(theirs, password=place.propose().password)
        with pytest.raises(StepError):
            place.rotation.create(mine, place.ctx())
        assert place.state() == before
        assert place.lets_in(theirs)

    # -- verify, probe -------------------------------------------------------------------------

    def test_verifying_tells_what_was_tried(self, place: RotationHarness) -> None:
        """Each check by its name; nothing is changed, and no secret is in the evidence."""
        old = place.create()
        new = place.create(old)
        before = place.state()
        evidence = place.rotation.verify(new, place.ctx(old))
        assert evidence.ok
        assert evidence.checks
        assert place.state() == before
        said = repr(evidence)
        assert not any(one.password.reveal() in said for one in (old, new))

    def test_verifying_what_does_not_log_in_is_refused(self, place: RotationHarness) -> None:
        """With the reason, and without the password."""
        new = place.create()
        wrong = replace(new, password=Secret("not-its-password-Aa1+"))
        with pytest.raises(Refused) as raised:
            _ = place.rotation.verify(wrong, place.ctx())
        assert "not-its-password" not in str(raised.value)

    def test_probing_changes_nothing(self, place: RotationHarness) -> None:
        """Neither when it is let in nor when it is refused."""
        new = place.create()
        before = place.state()
        assert place.probe(new)
        assert not place.probe(replace(new, password=Secret("not-its-password-Aa1+")))
        assert place.state() == before

    # -- revoke --------------------------------------------------------------------------------

    def test_what_was_revoked_is_refused_and_the_current_one_logs_in(
        self, place: RotationHarness
    ) -> None:
        """That is what the word means."""
        old = place.create()
        new = place.create(old)
        place.rotation.revoke(old, place.ctx(new))
        assert not place.lets_in(old)
        assert place.lets_in(new)

    def test_revoking_twice_is_revoking_once(self, place: RotationHarness) -> None:
        """Gone already is success."""
        old = place.create()
        new = place.create(old)
        place.rotation.revoke(old, place.ctx(new))
        before = place.state()
        place.again().revoke(old, place.ctx(new))
        assert place.state() == before

    def test_revoking_needs_no_old_password(self, place: RotationHarness) -> None:
        """The backend may have forgotten it."""
        old = place.create()
        new = place.create(old)
        place.rotation.revoke(replace(old, password=_EMPTY), place.ctx(new))
        assert not place.lets_in(old)
        assert place.lets_in(new)

    def test_the_current_login_is_never_revoked(self, place: RotationHarness) -> None:
        """Whatever goes wrong above: a call that names it leaves it in."""
        new = place.create()
        with suppress(StepError):
            place.rotation.revoke(new, place.ctx(new))
        assert place.lets_in(new)

    def test_a_login_of_somebody_else_is_not_revoked(self, place: RotationHarness) -> None:
        """Unless it was handed over to us."""
        theirs = place.foreign()
        new = place.create()
        before = place.state()
        with suppress(StepError):
            place.rotation.revoke(theirs, place.ctx(new))
        assert place.state() == before
        assert place.lets_in(theirs)

    # -- withdraw ------------------------------------------------------------------------------

    def test_withdrawing_leaves_what_was_before(self, place: RotationHarness) -> None:
        """The current one logs in, the new one does not, and no login is left over."""
        old = place.create()
        usable = place.usable()
        new = place.create(old)
        place.rotation.withdraw(new, place.ctx(old))
        assert place.lets_in(old)
        assert not place.lets_in(new)
        assert place.usable() == usable

    def test_withdrawing_the_first_one_leaves_nothing(self, place: RotationHarness) -> None:
        """There is no current one to keep."""
        before = place.usable()
        new = place.create()
        place.rotation.withdraw(new, place.ctx())
        assert not place.lets_in(new)
        assert place.usable() == before

    def test_withdrawing_twice_is_withdrawing_once(self, place: RotationHarness) -> None:
        """And the password is not needed."""
        old = place.create()
        new = place.create(old)
        forgotten = replace(new, password=_EMPTY)
        place.rotation.withdraw(forgotten, place.ctx(old))
        usable = place.usable()
        place.again().withdraw(forgotten, place.ctx(old))
        assert place.usable() == usable
        assert place.lets_in(old)
        assert not place.lets_in(new)

    def test_withdrawing_what_was_never_created_is_success(self, place: RotationHarness) -> None:
        """The engine may have died between staging and creating."""
        old = place.create()
        usable = place.usable()
        if place.draws:
            new = replace(old, username=f"{old.username}x", password=_EMPTY)
        else:
            new = place.propose(old)
        place.rotation.withdraw(new, place.ctx(old))
        assert place.usable() == usable
        assert place.lets_in(old)

    # -- time, texts ---------------------------------------------------------------------------

    @pytest.mark.parametrize("step", ["create", "revoke", "withdraw"])
    def test_nothing_is_sent_when_the_time_is_up(self, place: RotationHarness, step: str) -> None:
        """Another engine may be at work by then."""
        old = place.create()
        if step == "create" and place.draws:
            step, new = "draw", old
        else:
            new = place.propose(old) if step == "create" else place.create(old)
        before = place.state()
        current = new if step == "revoke" else old
        late = replace(place.ctx(current), deadline=place.sandbox.clock.monotonic() - 1)
        if step == "revoke" and not place.rotation.overlaps:
            # The old one went when the new one was set: there may be nothing left to send.
            with suppress(Transient):
                place.rotation.revoke(old, late)
        else:
            with pytest.raises(Transient):
                getattr(place.rotation, step)(old if step == "revoke" else new, late)
        assert place.state() == before

    def test_no_log_line_holds_a_secret(self, place: RotationHarness) -> None:
        """Over a whole turn, in event and facts."""
        old = place.create()
        new = place.create(old)
        _ = place.rotation.verify(new, place.ctx(old))
        place.rotation.revoke(old, place.ctx(new))
        said = str(place.log.lines)
        assert not any(one.password.reveal() in said for one in (old, new))

    def test_it_is_what_its_plugin_declares(self, place: RotationHarness) -> None:
        """Whether old and new overlap, and what it can do beyond the contract: no less, no more."""
        declared = place.sandbox.declared
        if declared is None:
            pytest.skip("the sandbox was not made by `Sandbox.of`")
        assert declared.overlaps is place.rotation.overlaps
        able = set(abilities_of_rotation(place.rotation))
        assert set(declared.abilities) <= able
        assert able <= {*declared.abilities, *declared.optional_abilities}
        assert declared.summary

    # -- keys that the target draws ------------------------------------------------------------

    def test_each_key_that_is_drawn_is_another_one(self, place: RotationHarness) -> None:
        """The target lists both as the secret's own, and old and new are valid together."""
        draws = place.require_draws()
        assert draws.keys(place.ctx()) == []
        old = place.create()
        new = place.create(old)
        assert place.rotation.overlaps
        assert new.username != old.username
        assert new.password != old.password
        assert sorted(draws.keys(place.ctx(new))) == sorted((old.username, new.username))
        place.rotation.revoke(old, place.ctx(new))
        assert old.username not in place.usable()

    def test_listing_keys_changes_nothing(self, place: RotationHarness) -> None:
        """It is what the engine does first in each `create`."""
        draws = place.require_draws()
        old = place.create()
        before = place.state()
        assert draws.keys(place.ctx(old)) == [old.username]
        assert place.state() == before

    def test_a_key_that_nobody_stored_is_listed_and_can_be_ended(
        self, place: RotationHarness
    ) -> None:
        """The engine may have died before it stored the answer: only the key's id is known then."""
        draws = place.require_draws()
        old = place.create()
        lost = draws.draw(old, place.ctx(old))
        assert place.again() is not draws
        assert lost.username in place.require_draws().keys(place.ctx(old))
        place.rotation.withdraw(replace(lost, password=_EMPTY), place.ctx(old))
        assert place.require_draws().keys(place.ctx(old)) == [old.username]
        assert not place.lets_in(lost)
        assert place.lets_in(old)

    def test_a_key_of_somebody_else_is_not_listed(self, place: RotationHarness) -> None:
        """What is listed and unknown is ended."""
        draws = place.require_draws()
        theirs = place.foreign()
        assert theirs.username not in draws.keys(place.ctx())
        mine = place.create()
        assert draws.keys(place.ctx(mine)) == [mine.username]
        assert place.lets_in(theirs)

    # -- abilities, where it has them ----------------------------------------------------------

    def test_open_sessions_hold_a_revoke_up(self, place: RotationHarness) -> None:
        """They are told, and ended only when the policy or a person says so."""
        rotation = place.rotation
        if not isinstance(rotation, CountsSessions) or place.sandbox.open_session is None:
            pytest.skip("it does not count sessions, or the sandbox opens none")
        old = place.create()
        assert rotation.sessions(old.username, place.ctx()) == []
        place.sandbox.open_session(old.username)
        new = place.create(old)
        if new.username == old.username:
            pytest.skip("old and new are one login: its sessions stay open")
        assert [one.login for one in rotation.sessions(old.username, place.ctx())] == [old.username]
        assert rotation.sessions(new.username, place.ctx()) == []
        with pytest.raises(InUse) as raised:
            rotation.revoke(old, place.ctx(new))
        assert len(raised.value.sessions) == 1
        rotation.revoke(old, replace(place.ctx(new), end_sessions=True))
        assert rotation.sessions(old.username, place.ctx()) == []
        assert not place.lets_in(old)
        assert place.lets_in(new)

    def test_explaining_shows_no_secret_and_changes_nothing(self, place: RotationHarness) -> None:
        """A plan may be pasted into a ticket."""
        if not isinstance(place.rotation, Explains):
            pytest.skip("it does not explain itself")
        old = place.create()
        before = place.state()
        planned = place.rotation.explain(old, place.ctx(old))
        assert planned
        assert place.state() == before
        assert old.password.reveal() not in str(planned)

    def test_examining_changes_nothing(self, place: RotationHarness) -> None:
        """`doctor` may be run at any time."""
        if not isinstance(place.rotation, Examines):
            pytest.skip("it does not examine the target")
        old = place.create()
        before = place.state()
        findings = place.rotation.examine(old, place.ctx(old))
        assert findings
        assert place.state() == before
        assert old.password.reveal() not in str(findings)

    # -- what others have put there ------------------------------------------------------------

    def test_nothing_that_others_planted_runs_as_the_admin(self, place: RotationHarness) -> None:
        """Over a whole rotation, its withdrawal, and all that only looks."""
        if place.sandbox.plant is None:
            pytest.skip("the sandbox plants nothing")
        ran = place.sandbox.plant()
        try:
            _whole_turn(place)
        finally:
            assert list(ran()) == []

    # -- the harness ---------------------------------------------------------------------------

    def test_it_survives_crashes_and_failures(
        self, make_sandbox: Callable[[], Sandbox], tried: int | None
    ) -> None:
        """Before and after its calls, in every scenario that the sandbox allows, all promises hold."""
        assert assert_survives_crashes(make_sandbox, sample=tried) > 0


def _whole_turn(place: RotationHarness) -> None:
    """Rotate, withdraw, and look in every way that the rotation has."""
    old = place.create()
    rotation = place.again()
    if isinstance(rotation, Explains):
        _ = rotation.explain(old, place.ctx(old))
    if isinstance(rotation, Examines):
        _ = rotation.examine(old, place.ctx(old))
    rotation.withdraw(place.create(old), place.ctx(old))
    new = place.create(old)
    _ = rotation.verify(new, place.ctx(old))
    if isinstance(rotation, CountsSessions):
        _ = rotation.sessions(new.username, place.ctx(new))
    rotation.revoke(old, place.ctx(new))
    assert place.probe(new)


class RotationHarness:
    """One sandbox, and one rotation on it, called as the engine would."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox: Sandbox = sandbox
        self.rotation: Rotation = sandbox.rotation()
        self.log: ListLog = ListLog()
        self._turn: int = 0

    @property
    def draws(self) -> bool:
        """Whether the target draws the keys."""
        return isinstance(self.rotation, DrawsKeys)

    def require_draws(self) -> DrawsKeys:
        """Return the rotation where the target draws the keys; else skip the test."""
        if not isinstance(self.rotation, DrawsKeys):
            pytest.skip("the target draws no keys")
        return self.rotation

    def require_proposals(self) -> None:
        """Skip the test where the target draws the keys: nothing is proposed then."""
        if self.draws:
            pytest.skip("the target draws the keys, so nothing is proposed")

    def again(self) -> Rotation:
        """Return the rotation as the next process would make it."""
        self.rotation = self.sandbox.rotation()
        return self.rotation

    def ctx(self, current: Credential | None = None) -> StepContext:
        """Return the context of a step."""
        return step_context(
            secret=self.sandbox.secret,
            rotation_id=f"00000000-0000-4000-8000-{self._turn:012}",
            current=current,
            clock=self.sandbox.clock,
            entropy=self.sandbox.entropy,
            log=self.log,
        )

    def propose(self, current: Credential | None = None) -> Credential:
        """Propose a credential and keep it as the engine would, before the target hears of it."""
        self.require_proposals()
        self._turn += 1
        ctx = self.ctx(current)
        proposed = self.rotation.propose(current, ctx)
        return self.sandbox.backend.stage(self.sandbox.path, ctx.rotation_id, proposed)

    def create(self, current: Credential | None = None) -> Credential:
        """Propose and create a credential, or let the target draw one and keep it."""
        if isinstance(self.rotation, DrawsKeys):
            self._turn += 1
            ctx = self.ctx(current)
            drawn = self.rotation.draw(current, ctx)
            return self.sandbox.backend.stage(self.sandbox.path, ctx.rotation_id, drawn)
        new = self.propose(current)
        self.rotation.create(new, self.ctx(current))
        return new

    def probe(self, credential: Credential) -> bool:
        """Ask the plugin whether it logs in."""
        return self.rotation.probe(credential, self.ctx())

    def lets_in(self, credential: Credential) -> bool:
        """Ask the target, and the plugin too: both must say the same."""
        accepted = self.sandbox.lets_in(credential)
        assert self.probe(credential) is accepted
        return accepted

    def state(self) -> object:
        """Return what the target holds, where the sandbox can tell."""
        return self.sandbox.state() if self.sandbox.state is not None else None

    def usable(self) -> set[str]:
        """Return the logins that somebody could get into, where the sandbox can tell."""
        return self.sandbox.usable() if self.sandbox.usable is not None else set()

    def foreign(self) -> Credential:
        """Return a login that is not ours, where the sandbox can make one."""
        if self.sandbox.foreign is None:
            pytest.skip("the sandbox makes no foreign login")
        return self.sandbox.foreign()
