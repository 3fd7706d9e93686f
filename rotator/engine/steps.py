"""What each step of a rotation does: the calls to the target and the backend, in thin functions."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from rotator.core.contracts.backend import OffersNext
from rotator.core.contracts.rotation import (
    Contains,
    CountsSessions,
    DrawsKeys,
    Examines,
    ExplainsRejections,
    LocksAccounts,
    StepContext,
)
from rotator.core.deadline import time_limit
from rotator.core.drawn_keys import orphans
from rotator.core.errors import (
    RETRIED,
    Conflict,
    CurrentRejected,
    Denied,
    InUse,
    LockLost,
    Parked,
    Refused,
    RotatorError,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    Unprovable,
    UsageError,
)
from rotator.core.history import text
from rotator.core.identifiers import successor
from rotator.core.model import (
    UNEXPLAINED,
    Credential,
    Evidence,
    Kind,
    Policy,
    Step,
)
from rotator.core.schedule import as_data, next_due
from rotator.core.secret import Secret
from rotator.core.state_machine import (
    Direction,
    grace_ends,
    prepare_ends,
    prepare_is_over,
    progress,
)
from rotator.engine.admin_proof import require_no_errors
from rotator.engine.copies import Copies, Copy, same
from rotator.engine.delegated import DelegatedSteps
from rotator.engine.error_origin import Contacts, tag_errors
from rotator.engine.safety import NOT_SAFE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from datetime import datetime

    from rotator.core.consumers import Consumer, ConsumerRegistry, Verdict
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.plugin import TriesLogins
    from rotator.core.contracts.rotation import Rotation
    from rotator.core.leases import LeaseTerms
    from rotator.core.model import Event, Json, Rejection, Version
    from rotator.core.ports import Clock, Entropy, Log
    from rotator.core.session import Session
    from rotator.engine.admin_proof import AdminProof

_ERRORS: Final[Mapping[str, type[RotatorError]]] = {
    one.kind: one
    for one in (
        Transient,
        Unavailable,
        Refused,
        Denied,
        CurrentRejected,
        Unprovable,
        Conflict,
        Unknown,
    )
}
# After publish, what is current is known to log in for this long.
_A_WHILE: Final = timedelta(minutes=1)
_UNCHANGED: Final = "Nothing was changed: the admin logs in as before."


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedSecret:
    """One secret with everything that is needed to rotate it."""

    name: str
    path: str
    backend_name: str
    backend: SecretBackend
    target_name: str
    rotation: Rotation
    plugin: str
    strategy: str
    policy: Policy
    tags: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    # Where it is the admin of a target.
    admin_proof: AdminProof | None = None
    # On which terms its logins are lent; None where they are not.
    leases: LeaseTerms | None = None
    # What the journal keeps of its entry, so that a rotation can be completed without the entry.
    entry: Mapping[str, Json] = field(default_factory=dict[str, "Json"])


def require_wrong_password_rejected(
    target: str,
    logins: Rotation | TriesLogins,
    ctx: StepContext,
    *,
    entropy: Entropy,
    login: str | None = None,
) -> None:
    """Raise `Unprovable` where a login with a wrong password succeeds; `login`: else one that is not there."""
    wrong = Credential(
        username=login or successor("rotator_control", entropy),
        password=Policy().password.generate(entropy),
    )
    if logins.probe(wrong, ctx):
        raise Unprovable(
            f"target {target!r} let login {wrong.username!r} in with a wrong password, so no check on it means anything.",
            hint="Make it ask for passwords (on PostgreSQL: no `trust` in pg_hba.conf for this login and our address).",
            safety="Nothing was changed.",
        )


class Steps:
    """The steps of one rotation. What was read once in this process is not read again."""

    def __init__(
        self,
        *,
        secret: ManagedSecret,
        rotation_id: str,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        controlled: set[str],
        adopted: frozenset[str],
        wrote: Callable[[str], bool],
        named: Callable[[], frozenset[str]] = frozenset,
        contacts: Contacts | None = None,
        former_names: frozenset[str] = frozenset(),
        registry: ConsumerRegistry | None = None,
    ) -> None:
        """`controlled` names the targets that have refused a wrong password in this process;
        `wrote` returns whether a rotation id is one of this secret's, `named` returns every login that a
        rotation of it has named. `contacts`: the hosts that answered.
        `registry`: what the secret's consumers have reported.
        """
        target, backend = f"target {secret.target_name}", f"backend {secret.backend_name}"
        self._secret: ManagedSecret = secret
        self._rotation: Rotation = tag_errors(secret.rotation, target, contacts)
        self._backend: SecretBackend = tag_errors(secret.backend, backend, contacts)
        self._id: str = rotation_id
        self._clock: Clock = clock
        self._entropy: Entropy = entropy
        self._log: Log = log
        self._controlled: set[str] = controlled
        self._adopted: frozenset[str] = adopted
        self._former_names: frozenset[str] = former_names
        self._named: Callable[[], frozenset[str]] = named
        self._registry: ConsumerRegistry | None = registry
        self.copies: Copies = Copies(
            secret.copies, rotation_id, wrote=wrote, before_effect=self._require_lock
        )
        self._new: Credential | None = None
        self._current: Version | None = None
        self._deadline: float | None = None
        self._lock_ends: datetime | None = None
        self._run: Mapping[Step, Callable[[list[Event], bool], Mapping[str, Json]]] = {
            Step.STAGE: self._stage,
            Step.PREPARE: self._prepare,
            Step.CREATE: self._create,
            Step.VERIFY: self._verify,
            Step.PUBLISH: self._publish,
            Step.COPY: self._copy,
            Step.DRAIN: self._drain,
            Step.REVOKE: self._revoke,
            Step.RESTORE: self._restore,
            Step.WITHDRAW: self._withdraw,
            Step.DISCARD: self._discard,
            Step.FENCE: self._fence,
        }
        self._delegated: DelegatedSteps | None = None

    def know_current(self, current: Version | None) -> None:
        """Spare the first step a read: this was current a moment ago."""
        self._current = current

    def allow(self, *, deadline: float, lease_ends: datetime) -> None:
        """Say how long the next step may act: until the first of them, and not a moment longer.

        `deadline` is on the monotonic scale, `lease_ends` a time of day: one of them stands still
        while a machine is suspended, the other may be set.
        """
        self._deadline, self._lock_ends = deadline, lease_ends

    def run(self, step: Step, history: list[Event], *, end_sessions: bool) -> Mapping[str, Json]:
        """Run one step; return what the journal should know. Raises only `RotatorError`."""
        told = wrap_plugin_errors(self._log, self._secret.name, self._id, step.value)
        with told, time_limit(max(0.0, self._ends() - self._clock.monotonic())):
            if history[0].data.get("delegated"):
                return self._of_another_system.run(step, history)
            return self._run[step](history, end_sessions)

    @property
    def _of_another_system(self) -> DelegatedSteps:
        if self._delegated is None:
            self._delegated = DelegatedSteps(
                self, self._secret, self._backend, self._rotation, self._id
            )
        return self._delegated

    def context(
        self, current: Credential | None, *, end_sessions: bool = False, fenced: bool = False
    ) -> StepContext:
        """Return what the plugin is told, with a deadline from now."""
        self._require_lock()
        policy = self._secret.policy
        return StepContext(
            secret=self._secret.name,
            path=self._secret.path,
            rotation_id=self._id,
            current=current,
            deadline=self._ends(),
            clock=self._clock,
            entropy=self._entropy,
            log=self._log,
            new_password=lambda: policy.password.generate(self._entropy),
            adopted=self._adopted,
            former_names=self._former_names,
            end_sessions=end_sessions,
            fenced=fenced,
        )

    def _ends(self) -> float:
        """Return the step's end, on the monotonic scale."""
        if self._deadline is not None:
            return self._deadline
        return self._clock.monotonic() + self._secret.policy.step_timeout.total_seconds()

    def control(self, login: str | None) -> None:
        """Require once per target and process that a wrong password is refused.

        Where it is accepted (`trust` in pg_hba.conf), no login on that target proves anything. A
        wrong password is never sent to an account that it could lock.
        """
        target = self._secret.target_name
        if target in self._controlled:
            return
        if login is not None and self.may_lock(login, self.context(None)):
            login = None
        require_wrong_password_rejected(
            target, self._rotation, self.context(None), login=login, entropy=self._entropy
        )
        if login is not None:
            self._controlled.add(target)

    def rejection(self, credential: Credential) -> Rejection:
        """Return why the target rejects a credential. `text` is empty where nothing shows the cause.

        Where it cannot be asked now, that is no error: what was seen stays true.
        """
        found = None
        if isinstance(self._secret.rotation, ExplainsRejections):
            explains = cast("ExplainsRejections", self._rotation)
            with suppress(StepError):
                found = explains.rejection(credential, self.context(credential))
        return found or UNEXPLAINED

    # -- forward -------------------------------------------------------------------------------

    def _stage(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001 # one shape for all steps
        current = self._found_unchanged(history)
        credential = current.credential if current else None
        new = (
            self._backend.staged(self._secret.path, self._id)
            if _again(history, Step.STAGE)
            else None
        )
        if new is None:
            proposed = self._rotation.propose(credential, self.context(credential))
            self._require_lock()
            new = self._backend.stage(self._secret.path, self._id, proposed)
        self._new, self._current = new, current
        return {"login": new.username}

    def _found_unchanged(self, history: list[Event]) -> Version | None:
        """Return what the backend serves, before anything new is made. Raises where it is not what it was."""
        expected = text(history[0].data, "old_version")
        current = self._current or self._backend.current(self._secret.path)
        self._current = None
        if not _is_version(current, expected, text(history[0].data, "old_login")):
            raise _written_by_others(self._secret, expected)
        credential = current.credential if current else None
        self.copies.check(credential)
        self.control(credential.username if credential else None)
        return current

    def _draw(self, history: list[Event]) -> Mapping[str, Json]:
        """Let the target draw a key, and stage it before anything else happens.

        A key whose value was lost on the way to the backend is ended first.
        """
        current, path = self._found_unchanged(history), self._secret.path
        credential = current.credential if current else None
        again = _again(history, Step.CREATE)
        new = self._backend.staged(path, self._id) if again else None
        ended: dict[str, Json] = {}
        if new is None:
            ended = self._end_orphans(history, credential)
            drawn = self._draws.draw(credential, self.context(credential))
            kept = credential.fields if credential else {}
            drawn = replace(drawn, fields={**kept, **drawn.fields})
            self._require_lock()
            new = self._backend.stage(path, self._id, drawn)
            if new.username != drawn.username:
                # Staged by an engine that was at work at the same time: this key is one too many.
                self._rotation.withdraw(drawn, self.context(credential))
        self._new, self._current = new, current
        return {"login": new.username, **ended}

    def _end_orphans(self, history: list[Event], current: Credential | None) -> dict[str, Json]:
        """End the keys of this secret that nobody knows; return which they were."""
        known = {current.username if current else None, text(history[0].data, "old_login")}
        known |= {self._new.username if self._new else None, *self._adopted}
        lost = orphans(self._draws.keys(self.context(current)), known)
        # Only where one is left is it worth reading what the journal has named.
        lost = orphans(lost, self._named()) if lost else ()
        for key in lost:
            unknown = Credential(username=key, password=Secret(""))
            self._rotation.withdraw(unknown, self.context(current))
        if lost:
            facts = {"secret": self._secret.name, "rotation_id": self._id}
            self._log.warning("ended keys whose value was lost", **facts, keys=list(lost))
        return {"orphans": list(lost)} if lost else {}

    @property
    def _draws(self) -> DrawsKeys:
        if not isinstance(self._secret.rotation, DrawsKeys):
            raise Denied(
                "this rotation started under a strategy whose keys the target draws.",
                hint=f"Set the strategy of secret {self._secret.name!r} back until it has ended.",
            )
        return cast("DrawsKeys", self._rotation)

    def _prepare(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        state, policy = progress(history), self._secret.policy
        if state.waited is None:
            old = text(history[0].data, "old_version")
            _ = self._staged(), self._old(history)
            self._require_lock()
            self._next_of_backend().offer(self._secret.path, self._id, expect=old or "")
        verdict = self.prepared()
        facts: dict[str, Json] = {} if verdict is None else {"consumers": verdict.facts()}
        waiting = verdict.unprepared() if verdict is not None else ()
        ends = prepare_ends(state, policy)
        if verdict is not None and waiting and (ends is None or self._clock.now() < ends):
            held = prepare_is_over(state, self._clock.now(), policy)
            from rotator.core.consumers import READ_NEXT  # noqa: PLC0415 # only where consumers are registered

            waits = "; ".join(one.line(READ_NEXT) for one in waiting)
            raise InUse(
                f"consumers have not read the next version: {waits}.",
                consumers={**verdict.facts(), **({"held": True} if held else {})},
                hint=f"Rotate without waiting for them: rotator revoke {self._secret.name} --reason WHY",
            )
        if waiting and state.revoke_now:
            facts["gate_overridden"] = True
        return facts

    def prepared(self) -> Verdict | None:
        """Return which consumers have read what this rotation is to publish; None without a registry."""
        name = self._secret.name
        if self._registry is None:
            return None
        from rotator.core.consumers import assess_prepared  # noqa: PLC0415 # only where consumers are registered

        return assess_prepared(
            self._secret.consumers,
            self._registry.instances(name),
            self._registry.prepared(name),
            rotation_id=self._id,
        )

    def _next_of_backend(self) -> OffersNext:
        return cast("OffersNext", self._backend)

    def _retract(self, history: list[Event]) -> None:
        """Remove what consumers read as the next version."""
        if Step.PREPARE in progress(history).begun and isinstance(self._secret.backend, OffersNext):
            self._require_lock()
            self._next_of_backend().retract(self._secret.path, self._id)

    def _create(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        if progress(history).draws:
            return self._draw(history)
        current = self._old(history)
        if current is not None:
            # Before the password is set, not after: where there is no overlap every moment counts.
            self.control(current.username)
        new, leak = self._staged(), progress(history).leak
        ctx = self.context(current, fenced=_is_fenced(history))
        if current is not None and not ctx.fenced:
            self._require_second_way(current, history, ctx)
        self._rotation.create(new, ctx)
        if leak is None or current is None or current.username != new.username:
            return {}
        # In place: what began before now began with the leaked password.
        return {"moment": self._contains.moment(ctx)} if self.contains else {}

    def _require_second_way(
        self, current: Credential, history: list[Event], ctx: StepContext
    ) -> None:
        """Where an admin is rotated: check that it, and the admin that rotates it, have the rights they need.

        Not once a create in place was begun: what is served may be invalid by then.
        """
        proof, rotation = self._secret.admin_proof, self._secret.rotation
        if proof is None or (not rotation.overlaps and _again(history, Step.CREATE)):
            return
        try:
            if isinstance(rotation, Examines):
                require_no_errors(cast("Examines", self._rotation).examine(current, ctx))
            # An admin that is rejected may be why somebody rotates it.
            if self.accepts(current, ctx) is not False:
                _ = proof.prove(current, ctx)
        except StepError as error:
            error.safety = error.safety or _UNCHANGED
            raise

    def _fence(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        """Make the leaked password invalid, and end what began with it. The backend need not answer."""
        login = text(history[0].data, "old_login")
        if login is None or not self.contains:
            raise Denied(
                f"the plugin `{self._secret.plugin}` cannot make a password invalid at once."
            )
        leaked, ctx = Credential(username=login, password=Secret("")), self.context(None)
        moment = self._contains.fence(leaked, ctx)
        return {"login": login, "moment": moment, **self._end_sessions(login, moment, ctx)}

    def _end_sessions(self, login: str, before: str, ctx: StepContext) -> dict[str, Json]:
        """End the sessions that began before a moment; return how many ended and how many are left."""
        try:
            ended = self._contains.end_sessions(login, before, ctx)
        except InUse as left:
            return {"sessions_left": len(left.sessions)}
        except Denied as denied:
            return {"sessions_unended": denied.what}
        return {"sessions_ended": len(ended)}

    @property
    def contains(self) -> bool:
        """Whether the plugin can make a leaked password invalid at once, and end its sessions."""
        return isinstance(self._secret.rotation, Contains)

    @property
    def _contains(self) -> Contains:
        return cast("Contains", self._rotation)

    def _verify(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        new, current = self._staged(), self._old(history)
        self.control(new.username)
        ctx = self.context(current, fenced=_is_fenced(history))
        evidence = self._rotation.verify(new, ctx)
        if evidence.ok and (proof := self._secret.admin_proof) is not None:
            evidence = Evidence(checks=(*evidence.checks, *proof.prove(new, ctx, over=current)))
        return checked_data(evidence)

    def _publish(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        path, secret = self._secret.path, self._secret
        # In a later process the staged value may already be gone: then publish has happened.
        new = self._new or self._backend.staged(path, self._id)
        expect = text(history[0].data, "old_version")
        version = self._publish_once(expect)
        # From here on the new credential is what consumers read: nothing that goes wrong now may
        # look as if it had not been published.
        try:
            back = self._backend.read(path, version)
        except StepError as error:
            raise Unknown(
                f"version {version} was published and could not be read back: {error.what}",
                hint=error.hint,
            ) from error
        if back is None or back.rotation_id != self._id:
            raise Unknown(f"version {version} was published and could not be read back.")
        if new is not None and not same(back.credential, new):
            raise Unknown(
                f"version {version} was published and does not hold what was staged.",
                hint="Look at it in the backend; both the old and the new login are still valid.",
            )
        self._current = back
        if secret.admin_proof is not None and secret.rotation.overlaps:
            secret.admin_proof.renew()
        due = next_due(secret.policy, self._clock.now(), secret.name)
        return {
            "version": version,
            "login": back.credential.username,
            **as_data(secret.policy, due),
        }

    def _copy(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        kept, login = made_current(history), made_current(history, "login")
        if not _is_version(self._current, kept, login):
            self._current = self._backend.current(self._secret.path)
        if self._current is None or not _is_version(self._current, kept, login):
            raise _no_longer_served(self._secret.name, kept)
        old = text(history[0].data, "old_version")

        def before() -> Credential | None:
            found = self._backend.read(self._secret.path, old) if old else None
            return found.credential if found else None

        back = progress(history).direction is Direction.ROLLBACK
        return {"copies": self.copies.write(self._current.credential, before, back=back)}

    def _drain(self, history: list[Event], end_sessions: bool) -> Mapping[str, Json]:  # noqa: FBT001
        old, new = self._parties(history)
        if progress(history).waited is None:
            self._retract(history)
        counted = isinstance(self._secret.rotation, CountsSessions)
        # Without an overlap the old credential is invalid already: no gate could keep it.
        verdict = self.verdict_of(history) if progress(history).overlaps else None
        facts: dict[str, Json] = {} if verdict is None else {"consumers": verdict.facts()}
        if verdict is not None:
            state = progress(history)
            ends = grace_ends(state, self._secret.policy) or self._clock.now()
            # A leaked password gives every declared consumer the same limited time.
            holding = (
                verdict.holding(self._clock.now(), ends) if state.leak is None else verdict.behind()
            )
            overridden = state.revoke_now or (state.leak is not None and end_sessions)
            if holding and not overridden:
                waits = "; ".join(standing.line() for standing in holding)
                raise InUse(
                    f"consumers have not confirmed version {verdict.version}: {waits}.",
                    consumers=verdict.facts(),
                    hint=f"See who is behind: rotator consumers {self._secret.name}",
                )
            if holding:
                facts["gate_overridden"] = True
        if old == new or not counted:
            return {"counted": False, **facts}
        open_sessions = self._sessions(old)
        if open_sessions and not end_sessions:
            raise InUse(f"the old login {old!r} still has open sessions.", sessions=open_sessions)
        return {"counted": True, "open": len(open_sessions), **facts}

    def verdict_of(self, history: list[Event]) -> Verdict | None:
        """Return the verdict on the version that a rotation has made current; None before that."""
        version, logins = made_current(history), self._parties(history)
        if not self._secret.consumers or version is None:
            return None
        return self.verdict(version, [login for login in logins if login])

    def verdict(self, version: str, logins: Iterable[str]) -> Verdict | None:
        """Return which consumers use a version, by their reports and by the sessions of these logins.

        None without a registry. Raises as a step does.
        """
        if self._registry is None:
            return None
        reports, sessions = self._registry.instances(self._secret.name), list["Session"]()
        if isinstance(self._secret.rotation, CountsSessions):
            for login in sorted(set(logins)):
                sessions += self._sessions(login)
        from rotator.core.consumers import assess  # noqa: PLC0415 # only where consumers are registered

        return assess(self._secret.consumers, reports, sessions, version=version)

    def _sessions(self, login: str) -> list[Session]:
        return cast("CountsSessions", self._rotation).sessions(login, self.context(None))

    def _revoke(self, history: list[Event], end_sessions: bool) -> Mapping[str, Json]:  # noqa: FBT001
        path, login = self._secret.path, self._parties(history)[0]
        rolled_back = progress(history).direction is Direction.ROLLBACK
        kept = made_current(history)
        gone = (
            _finished(history, Step.PUBLISH)
            if rolled_back
            else text(history[0].data, "old_version")
        )
        current = self._backend.current(path)
        if current is None or not _is_version(current, kept, made_current(history, "login")):
            raise _no_longer_served(self._secret.name, kept)
        self.copies.require_held(current.credential, history)
        held = self._backend.read(path, gone) if gone else None
        # By its number it may be another value by now.
        known = held is not None and held.credential.username == login
        old = held.credential if held and known else Credential(username=login, password=Secret(""))
        ctx = self.context(current.credential, end_sessions=end_sessions)
        self._require_current(current.credential, history, ctx)
        self._rotation.revoke(old, ctx)
        ended = self._ended_by_revoke(history, old, current.credential, ctx)
        untried = self._untried(old, ctx)
        if not untried and self._rotation.probe(old, ctx):
            raise Unprovable(
                f"the old credential (login {old.username!r}) is still accepted after it was revoked.",
                hint="Look for another way in, such as `trust` in pg_hba.conf, and close it.",
            )
        if not self._rotation.probe(current.credential, ctx):
            why = self.rejection(current.credential)
            raise CurrentRejected(
                f"after the revoke the target rejects the current login {current.credential.username!r}{why.because}.",
                safety=NOT_SAFE,
                hint=why.hint or "Look at that login on the target first.",
            )
        if untried:
            return {"login": old.username, "refused": None, "untried": untried, **ended}
        return {"login": old.username, "refused": True, **ended}

    def _ended_by_revoke(
        self, history: list[Event], old: Credential, current: Credential, ctx: StepContext
    ) -> dict[str, Json]:
        """End the sessions that may have begun with a leaked password, where its login stays in use."""
        state = progress(history)
        if state.leak is None or old.username != current.username or not self.contains:
            return {}
        # With two passwords valid side by side, nobody knows with which of them a session began.
        begun = None if state.overlaps else _moment(history)
        moment = begun or self._contains.moment(ctx)
        return {"moment": moment, **self._end_sessions(old.username, moment, ctx)}

    def _untried(self, old: Credential, ctx: StepContext) -> str:
        """Return why a login with the old credential is not tried after the revoke; empty to try it."""
        if not old.password.reveal():
            return "its password is no longer known"
        if self.may_lock(old.username, ctx):
            return "a failed login could lock the account"
        return ""

    def _require_current(self, current: Credential, history: list[Event], ctx: StepContext) -> None:
        """Where what is current has not been tried for a while: it must log in before the old one goes."""
        since = progress(history).pivot_at
        if since is not None and self._clock.now() - since < _A_WHILE:
            return
        if not self._rotation.probe(current, ctx):
            why = self.rejection(current)
            raise CurrentRejected(
                f"the target rejects the current login {current.username!r}{why.because}, so the old one was not revoked.",
                safety=f"{NOT_SAFE} The old login was left as it is.",
                hint=why.hint
                or "Set the password that the backend serves on the target; then resume.",
            )

    # -- backward ------------------------------------------------------------------------------

    def _restore(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        path = self._secret.path
        old, new = text(history[0].data, "old_version"), _finished(history, Step.PUBLISH)
        if old is None or new is None:
            raise Conflict("there is no earlier version to go back to.")
        kept = self._backend.read(path, old)
        if kept is not None and not _is_version(kept, old, text(history[0].data, "old_login")):
            raise _written_by_others(self._secret, old)
        self._require_lock()
        version = self._backend.restore(path, expect=new, to=old)
        back = self._backend.read(path, version)
        if back is None:
            raise Unknown(f"version {version} was restored but could not be read back.")
        return {"version": version, "login": back.credential.username}

    def _withdraw(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        login, draws = _new_login(history), progress(history).draws
        new = self._new or self._backend.staged(self._secret.path, self._id)
        if new is None and login is not None:
            new = Credential(username=login, password=Secret(""))
        if new is None and not draws:
            return {"login": None}
        current = self._backend.current(self._secret.path)
        old_login = text(history[0].data, "old_login")
        if current and new and self._serves(current, new, old_login):
            raise Conflict(
                "the new credential is the one that the backend serves, so it was not withdrawn.",
                hint="Look at the backend's own record of who made it current.",
            )
        old = text(history[0].data, "old_version")
        if current is not None and current.id == old and not _is_version(current, old, old_login):
            raise _written_by_others(self._secret, old)
        credential = current.credential if current else None
        ended = self._end_orphans(history, credential) if draws else {}
        ctx = self.context(credential)
        if new is None:
            accepted = None if credential is None else self.accepts(credential, ctx)
            return {"login": None, "current_accepted": accepted, **ended}
        if credential is not None and self._wrote_nothing(history):
            # In place: where the served password is still valid, no other one was set.
            if self.accepts(credential, ctx):
                self._clear_proof(ctx)
                return {"login": new.username, "current_accepted": True}
            ctx = self.context(credential)
        self._rotation.withdraw(new, ctx)
        self._clear_proof(ctx)
        return {"login": new.username, **self._after_undo(credential, ctx), **ended}

    def _clear_proof(self, ctx: StepContext) -> None:
        if self._secret.admin_proof is not None:
            self._secret.admin_proof.clear(ctx)

    def _wrote_nothing(self, history: list[Event]) -> bool:
        """Return whether a create in place is known to have failed before it changed anything."""
        state = progress(history)
        if state.overlaps or Step.CREATE in state.done:
            return False
        created = [event for event in history if event.step is Step.CREATE]
        failed = [event for event in created if event.kind is Kind.FAILED]
        unclear = any(text(event.data, "kind") == Unknown.kind for event in failed)
        return not unclear and 2 * len(failed) == len(created)

    def _discard(self, history: list[Event], _end: bool) -> Mapping[str, Json]:  # noqa: FBT001
        self._retract(history)
        self._require_lock()
        self._backend.discard(self._secret.path, self._id)
        state = progress(history)
        kind = text(state.cause.data, "kind") if state.cause is not None else None
        if Step.CREATE in state.begun or kind in (None, "aborted", *RETRIED):
            return {}
        # Nothing was withdrawn, so nobody has tried what is served; a host that is away is spared.
        current = self._backend.current(self._secret.path)
        if current is None:
            return {}
        return self._after_undo(current.credential, self.context(current.credential))

    def _after_undo(self, current: Credential | None, ctx: StepContext) -> Mapping[str, Json]:
        """Return whether what is served logs in; where it does not, as which login, why, and the remedy."""
        accepted = None if current is None else self.accepts(current, ctx)
        if current is None or accepted is not False:
            return {"current_accepted": accepted}
        why = self.rejection(current)
        return {
            "current_accepted": False,
            "current_login": current.username,
            **({"cause": why.cause, "why": why.text} if why.cause else {}),
            **({"hint": why.hint} if why.hint else {}),
        }

    def accepts(self, credential: Credential, ctx: StepContext) -> bool | None:
        """Return whether a credential logs in; None where that cannot be told, or could lock it."""
        try:
            if self.may_lock(credential.username, ctx):
                return None
            return self._rotation.probe(credential, ctx)
        except StepError:
            return None

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Return whether one more wrong password could lock this account."""
        if not isinstance(self._secret.rotation, LocksAccounts):
            return False
        return cast("LocksAccounts", self._rotation).may_lock(login, ctx)

    def _publish_once(self, expect: str | None) -> str:
        """Publish; where that fails, ask the backend whether it happened all the same."""
        path = self._secret.path
        self._require_lock()
        try:
            return self._backend.publish(path, self._id, expect=expect)
        except StepError as error:
            try:
                current = self._backend.current(path)
            except StepError:
                raise Unknown(f"the publish outcome is unknown: {error.what}") from error
            if current is not None and current.rotation_id == self._id:
                # Run again, it does what it left undone, such as forgetting the staged value.
                raise Unknown(
                    f"it is published, but not all of that was done: {error.what}", hint=error.hint
                ) from error
            raise

    # -- what the steps know -------------------------------------------------------------------

    def _serves(self, current: Version, new: Credential, old_login: str | None) -> bool:
        """Return whether what the backend serves is the new credential, whoever made it so."""
        served = current.credential
        if current.rotation_id == self._id:
            return True
        if served.username != new.username:
            return False
        return served.password == new.password or served.username != old_login

    def _require_lock(self) -> None:
        """Stop before the next effect when we have been asleep for longer than our lock."""
        if self._lock_ends is not None and self._clock.now() >= self._lock_ends:
            raise LockLost(
                "this step took longer than its lock, so another rotator may have taken over.",
                safety="It stopped before its next effect.",
                hint=f"Check its state: rotator status {self._secret.name}",
            )

    def _staged(self) -> Credential:
        if self._new is None:
            self._new = self._backend.staged(self._secret.path, self._id)
        if self._new is None:
            raise Conflict(
                "the staged credential is no longer in the backend: somebody removed it."
            )
        return self._new

    def _old(self, history: list[Event]) -> Credential | None:
        """Return the credential that this rotation replaces: what the backend serves until publish."""
        expected = text(history[0].data, "old_version")
        if self._current is None:
            self._current = self._backend.current(self._secret.path)
        if not _is_version(self._current, expected, text(history[0].data, "old_login")):
            raise _written_by_others(self._secret, expected)
        return self._current.credential if self._current else None

    def _parties(self, history: list[Event]) -> tuple[str, str]:
        """Return the login that is to go and the one that stays."""
        old = text(history[0].data, "old_login") or ""
        new = _new_login(history) or ""
        return (new, old) if progress(history).direction is Direction.ROLLBACK else (old, new)


@contextmanager
def wrap_plugin_errors(log: Log, secret: str, rotation_id: str, step: str) -> Generator[None]:
    """Let only `RotatorError` out of a plugin or backend."""
    try:
        yield
    except UsageError as error:
        # A reference that leads nowhere, found out at work: nothing that a retry would mend.
        raise Denied(error.what, hint=error.hint, safety=error.safety) from error
    except RotatorError:
        raise
    except Exception as bug:
        # Whether it acted is not known; its text may hold anything, so only its type and its place
        # are told.
        name, at = type(bug).__name__, _place(bug)
        facts = {"secret": secret, "rotation_id": rotation_id, "step": step}
        log.error("unexpected", **facts, error=name, at=at)  # noqa: TRY400 # its text may hold anything
        raise Unknown(
            f"an unexpected {name} came out of the plugin or backend.",
            hint="This is a bug in it: please report it.",
        ) from bug


def checked_data(evidence: Evidence) -> dict[str, Json]:
    """Return the checks of a verification as the journal keeps them. Raises `Refused` if one failed."""
    if not evidence.ok:
        missing = ", ".join(one.name for one in evidence.checks if not one.ok)
        raise Refused(f"the new credential failed its checks: {missing}.")
    checks: list[Json] = [
        {"name": one.name, "ok": one.ok, "detail": one.detail} for one in evidence.checks
    ]
    return {"checks": checks}


def failure(event: Event) -> RotatorError:
    """Return the error that an event of the journal tells of."""
    kind = text(event.data, "kind")
    what = text(event.data, "what") or text(event.data, "reason") or "it failed"
    if event.kind is Kind.PARKED:
        error: RotatorError = Parked(what, hint=text(event.data, "hint") or "")
    else:
        error = _ERRORS.get(kind or "", StepError)(what, hint=text(event.data, "hint") or "")
    error.safety = text(event.data, "safety") or ""
    error.secret = event.secret
    error.step = event.step.value if event.step else None
    error.origin = text(event.data, "origin")
    return error


def _place(error: Exception) -> str:
    """Return the file and line that raised: no values, as a traceback with locals would show."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


def _is_version(found: Version | None, version: str | None, login: str | None) -> bool:
    """Return whether this is the version that the journal knows: its number, and whose login it is."""
    if found is None:
        return version is None
    return found.id == version and login in (None, found.credential.username)


def _written_by_others(secret: ManagedSecret, expected: str | None) -> Conflict:
    return Conflict(
        f"somebody else wrote to {secret.path!r} in {secret.backend_name!r}: it no longer holds version {expected} unchanged.",
        hint=f"If the new value is correct, take it over: rotator adopt {secret.name}",
    )


def _no_longer_served(secret: str, version: str | None) -> Conflict:
    return Conflict(
        f"the backend no longer serves version {version} that this rotation made current.",
        hint=f"Nothing is revoked meanwhile. Restore it, or take over the new value: rotator adopt {secret}",
        safety="The old credential is still valid.",
    )


def _finished(history: list[Event], step: Step, key: str = "version") -> str | None:
    """Return what the newest successful run of a step left behind."""
    for event in reversed(history):
        if event.kind is Kind.FINISHED and event.step is step:
            return text(event.data, key)
    return None


def _new_login(history: list[Event]) -> str | None:
    """Return the login of the new credential, once it is staged."""
    return _finished(history, Step.STAGE, "login") or _finished(history, Step.CREATE, "login")


def made_current(history: list[Event], key: str = "version") -> str | None:
    """Return the version that must be current now: published, restored, or since adopted."""
    for event in reversed(history):
        if event.kind is Kind.ADOPTED or (
            event.kind is Kind.FINISHED and event.step in (Step.PUBLISH, Step.RESTORE)
        ):
            return text(event.data, key)
    return None


def _is_fenced(history: list[Event]) -> bool:
    """Return whether the old password was made invalid before the new one was made."""
    return any(event.kind is Kind.STARTED and event.step is Step.FENCE for event in history)


def _moment(history: list[Event]) -> str | None:
    """Return the newest moment before which a session may have begun with the old password."""
    moments = [text(event.data, "moment") for event in history if event.kind is Kind.FINISHED]
    return next((one for one in reversed(moments) if one is not None), None)


def _again(history: list[Event], step: Step) -> bool:
    """Return whether the step that was just started had been started before."""
    starts = [event for event in history if event.kind is Kind.STARTED and event.step is step]
    return len(starts) > 1
