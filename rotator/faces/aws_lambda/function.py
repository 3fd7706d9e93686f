"""The rotation function: AWS's four steps, each driven as far as the engine's step of that name."""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from rotator import system
from rotator.backends.aws import aws_driven
from rotator.backends.aws.aws_driven import AwsDrivenBackend
from rotator.backends.aws.backend import CURRENT, PENDING
from rotator.backends.aws.client import Client, NotAllowed
from rotator.backends.aws.options import AwsOptions
from rotator.core.errors import Denied, NotDue, RotatorError, Transient, UsageError
from rotator.core.model import Kind, Outcome, Step
from rotator.core.ports import StepContext
from rotator.engine import Engine, ManagedSecret
from rotator.faces.aws_lambda import json_log
from rotator.faces.aws_lambda import settings as environment
from rotator.faces.aws_lambda.credentials import Master, Own, tags_of
from rotator.faces.aws_lambda.events import Event, request_of, require_account, sound, swept
from rotator.faces.aws_lambda.read_replica import on_reader
from rotator.faces.aws_lambda.replay import REASON, recall
from rotator.faces.aws_lambda.secret_json import Described, Operators, check_pending, described
from rotator.faces.aws_lambda.state_tag import StateTag
from rotator.journal.log import Head, LogJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from rotator.core.model import Credential, Version
    from rotator.core.model import Event as Told
    from rotator.core.ports import Log, Target
    from rotator.core.secret import Secret
    from rotator.engine import Result
    from rotator.faces.aws_lambda.settings import Settings
    from rotator.journal.event_key import EventKey
    from rotator.journal.sql import SqlJournal

_BACKEND: Final = "aws"
# Kept back of the function's own time limit, in seconds, to write down how it ended.
_MARGIN: Final = 1.5
# How long a step may take where the function's own time does not say less. Whoever comes after one that was
# cut off while it closed a login waits for as long.
_STEP: Final = 15.0
_LOCAL: Final = 60.0
# How long AWS may take for one answer.
_PATIENCE: Final = timedelta(seconds=3)
# How long a statement that closes a login may still wait for a lock after its step's time is up.
_LOCK: Final = timedelta(seconds=10)
# AWS tries a step again several times, within some minutes; what is older than this it has given up.
_GIVEN_UP: Final = timedelta(minutes=15)


@functools.cache
def function() -> Function:
    """Return the function of this process: what is made once is used by every invocation."""
    return Function(environment.settings(os.environ), environ=os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A secret as AWS holds it now."""

    arn: str
    name: str
    stages: Mapping[str, list[str]]
    current: Version
    head: Head | None
    memory: StateTag | None
    about: Described

    def under_way(self, beside: str | None = None) -> str | None:
        """Return the version to which AWS is rotating it, another one than `beside`."""
        return _under_way(self.stages, beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One invocation: when it must have ended, on the monotonic scale, and what tells it from others."""

    ends: float
    request: str


class Function:
    """One process of a rotation function."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        line: Callable[[str], None] | None = None,
        log: Log | None = None,
    ) -> None:
        """Nothing is connected yet. `line` writes a line of the journal where that is the log."""
        # No pace of our own: a function writes a few times, and AWS says when it is too much.
        # And little patience: a step has the function's own time, which a silent AWS must not take.
        options = AwsOptions(
            region=settings.region,
            endpoint=settings.endpoint,
            writes_a_second=1000,
            timeout=_PATIENCE,
            attempts=2,
        )
        self._settings: Settings = settings
        self._environ: Mapping[str, str] = environ
        self._clock: system.SystemClock = system.SystemClock()
        self._client: Client = Client(options)
        self._backend: AwsDrivenBackend = AwsDrivenBackend(_BACKEND, options, self._client)
        self._line: Callable[[str], None] = line or json_log.write
        self._log: Log = log or json_log.JsonLog(environ.get("ROTATOR_LOG_LEVEL") or "info")
        self._sql: SqlJournal | None = None
        self._engine: Engine | None = None
        self._event_key: EventKey | None = None
        self._controlled: set[str] = set()
        for one in settings.warnings:
            self._log.warning("settings", what=one)

    def close(self) -> None:
        """Give back the connections; Lambda just stops a process."""
        self._client.close()
        if self._sql is not None:
            self._sql.close()

    # -- what Lambda calls ---------------------------------------------------------------------

    def handle(self, event: object, context: Any) -> None:
        """Do one step. Returns when it is done, also when it was done before."""
        asked, call = sound(event), self._call(context)
        require_account(asked, context)
        self._backend.begin(asked.rotation_token)
        about = self._backend.describe(asked.arn)
        if about is None:
            raise UsageError(f"there is no secret {asked.arn}.", safety="Nothing was changed.")
        if not about.get("RotationEnabled"):
            raise UsageError(
                "rotation is not turned on for this secret.",
                safety="Nothing was changed.",
                hint="aws secretsmanager rotate-secret turns it on.",
            )
        labels = about.get("VersionIdsToStages", {}).get(asked.token)
        if labels is not None and CURRENT in labels:
            if asked.step is Step.PUBLISH:
                self._end(asked, about, call)
            return
        self._require_pending(asked, labels)
        known = self._known(asked.arn, about)
        pending = self._pending(asked, known)
        if pending is None and asked.step is Step.VERIFY:
            # RotateImmediately=false: AWS tries the function, with a version that has no value.
            self._try_out(known, call)
            return
        if pending is not None:
            check_pending(known.about, known.current.credential, pending)
        self._advance(self._not_busy(known, call), asked, pending, call)

    def sweep(self, event: object, context: Any) -> dict[str, Any]:
        """End what is due: revoke old logins whose grace is over, finish what was interrupted."""
        asked, call = swept(event), self._call(context)
        require_account(asked, context)
        self._backend.begin()
        found: dict[str, Any] = {"ended": 0, "waiting": 0, "failed": []}
        for arn in [asked.arn] if asked.arn else self._to_sweep(context):
            if self._clock.monotonic() + 2 * _MARGIN > call.ends:
                found["left"] = "the function's time was up; the next sweep goes on"
                break
            try:
                ended = self._sweep_one(arn, call, now=asked.now)
            except RotatorError as error:
                self._log.error("sweep", secret=arn, kind=error.kind, what=error.what)
                found["failed"].append(str(error))
            else:
                found["ended"] += ended is True
                found["waiting"] += ended is False
        if found["failed"]:
            raise Transient(
                f"{len(found['failed'])} secret(s) could not be swept: {'; '.join(found['failed'])}"
            )
        return found

    # -- a step --------------------------------------------------------------------------------

    def _require_pending(self, asked: Event, labels: list[str] | None) -> None:
        if labels is None:
            raise UsageError(
                f"the secret has no version {asked.token} to be rotated to.",
                safety="Nothing was changed.",
                hint="If its rotation was undone, ask for another: aws secretsmanager rotate-secret",
            )
        if PENDING not in labels:
            raise UsageError(
                f"version {asked.token} has the label AWSPENDING no more.",
                safety="Nothing was changed.",
                hint="Ask for another rotation: aws secretsmanager rotate-secret",
            )
        if aws_driven.PREVIOUS in labels:
            # Its password was replaced since; perhaps because somebody knew it.
            self._backend.discard(asked.arn, asked.token)
            raise UsageError(
                f"version {asked.token} was current before, so it is not made current again.",
                safety="Nothing was changed but its label AWSPENDING, which was left over.",
                hint="Ask for another rotation: aws secretsmanager rotate-secret",
            )

    def _advance(
        self, known: _Known, asked: Event, pending: Credential | None, call: _Call
    ) -> None:
        with self._at_work(known, call, token=asked.token, pending=pending) as (engine, secret):
            to = asked.step
            if to in (Step.CREATE, Step.VERIFY) and not secret.rotation.overlaps:
                # Once the password is set, what is current does not log in: it is tried and published
                # at once, not by AWS's next two calls. They find it done.
                to = Step.PUBLISH
            self._take_over(engine, secret, known)
            try:
                result = engine.advance(
                    secret,
                    rotation_id=asked.token,
                    to=to,
                    reason=REASON,
                    others=self._others(known),
                    patience=timedelta(seconds=self._left(call) * 0.3),
                    ends=call.ends,
                )
            except NotDue as early:
                if pending is None:
                    # Or the sweep, which leaves alone what AWS is at, would never end it.
                    self._backend.discard(asked.arn, asked.token)
                early.hint = "The sweep ends it once that is over; at once: invoke it with SecretId and now (`rotator docs lambda`). Then ask for another rotation."
                raise
            if result.outcome is Outcome.UNDONE or not _got(result, to):
                raise result.error or Transient("it has not got that far yet.")
            if to is Step.PUBLISH and not secret.rotation.overlaps:
                # Nothing is left to wait for: prove at once that the old password is refused.
                self._prove(engine, secret, call)

    def _prove(self, engine: Engine, secret: ManagedSecret, call: _Call) -> None:
        try:
            _ = engine.resume(secret, ends=call.ends)
        except RotatorError as error:
            # It is published: that is what AWS asked for. The sweep comes back to the rest.
            self._log.warning("not ended", secret=secret.name, kind=error.kind, what=error.what)

    def _end(self, asked: Event, about: Mapping[str, Any], call: _Call) -> None:
        """A finishSecret that comes again: write down what a cut-off one could not."""
        try:
            known = self._known(asked.arn, about)
            memory = known.memory
            if self._is_log and (
                memory is None or memory.rotation != asked.token or not memory.is_open
            ):
                return
            with self._at_work(known, call, token=asked.token) as (engine, secret):
                opened = self._opened(known)
                if opened == asked.token:
                    self._prove(engine, secret, call)
        except RotatorError as error:
            # What AWS asked for is done.
            self._log.warning("not ended", secret=asked.arn, kind=error.kind, what=error.what)

    def _try_out(self, known: _Known, call: _Call) -> None:
        """Log in with what is current, and see that the admin can."""
        with self._at_work(known, call) as (engine, secret):
            health = engine.check(secret)
            if not health.accepted:
                raise UsageError(
                    f"the target rejects login {health.login!r} with what is current{health.rejection.because}.",
                    safety="Nothing was changed. The application is NOT safe: what it reads does not log in.",
                    hint=health.rejection.hint or "Write the password that works into the secret.",
                )

    def _pending(self, asked: Event, known: _Known) -> Credential | None:
        """Return what is pending; waited for where an earlier step must have written it."""
        if asked.step is Step.STAGE:
            return self._backend.staged(known.arn, asked.token)
        return self._backend.staged_in_time(known.arn, asked.token)

    def _not_busy(self, known: _Known, call: _Call) -> _Known:
        """Wait while somebody may be closing the old login; return the secret as it is then."""
        until = known.memory.busy_until if known.memory is not None else None
        if until is None or until <= self._clock.now():
            return known
        wait = (until - self._clock.now()).total_seconds()
        if wait > self._left(call) * 0.8:
            raise Transient(
                "a sweep is closing the login that it had before the last rotation.",
                safety="Nothing was changed.",
                hint=f"AWS tries again by itself; it is over at {until:%H:%M:%S} UTC at the latest.",
            )
        self._clock.sleep(wait)
        return self._known(known.arn, self._backend.describe(known.arn) or {})

    # -- afterwards ----------------------------------------------------------------------------

    def _to_sweep(self, context: Any) -> Iterable[str]:
        here = str(getattr(context, "invoked_function_arn", ""))
        if self._is_log:
            arn = self._environ.get("ROTATOR_FUNCTION_ARN") or here
            found = self._backend.rotated_by(arn)
            if not found:
                self._log.warning("nothing to sweep", function=arn)
            return found
        journal = self._journal()
        opened = [one for one in journal.secrets() if one.open_rotation is not None]
        paths: list[str] = []
        for one in opened:
            requested = journal.history(one.open_rotation or "")[0].data
            path = str(requested.get("path"))
            # A journal may be shared with functions of other regions and accounts.
            same = path.split(":")[3:5] == here.split(":")[3:5] or not here
            if requested.get("backend") == _BACKEND and path.startswith("arn:") and same:
                paths.append(path)
        return paths

    def _sweep_one(self, arn: str, call: _Call, *, now: bool) -> bool | None:
        """Return whether its rotation has ended; None when there was none."""
        about = self._backend.describe(arn)
        if about is None:
            return None
        known = self._known(arn, about)
        opened, under_way = self._opened(known), known.under_way()
        if under_way is not None and aws_driven.PREVIOUS in known.stages[under_way]:
            # Somebody has made another one current since. AWS would begin no rotation any more.
            self._backend.discard(arn, under_way)
            under_way = None
        if under_way is not None:
            return self._stuck(known, under_way, call)
        if opened is None:
            return None
        memory = known.memory
        if memory is not None and memory.may_be_published:
            if known.current.id not in (memory.rotation, memory.old):
                why = "somebody else's value is current, so its old login is left as it is"
                self._log.warning("not swept", secret=known.name, why=why)
                return None
            if memory.busy_until is not None and memory.busy_until > self._clock.now():
                return False
        with self._at_work(known, call, token=known.current.id) as (engine, secret):
            if opened != known.current.id and not self._was_published(opened):
                # Somebody has taken AWSPENDING away: nobody comes back to it.
                return self._swept(engine.rollback(secret, reason="AWS has given it up"))
            self._take_over(engine, secret, known)
            if now:
                said = "asked for at once"
                return self._swept(engine.revoke(secret, reason=said, end_sessions=True))
            return self._swept(engine.resume(secret, ends=call.ends))

    def _stuck(self, known: _Known, pending: str, call: _Call) -> bool | None:
        """Go on where AWS has given up half-way, and the application is locked out until it goes on."""
        found = self._backend.read(known.arn, pending)
        if found is None or found.created is None:
            return None
        if self._clock.now() - found.created < _GIVEN_UP:
            return None
        check_pending(known.about, known.current.credential, found.credential)
        with self._at_work(known, call, token=pending, pending=found.credential) as (
            engine,
            secret,
        ):
            if engine.check(secret).accepted:
                return None
            result = engine.advance(
                secret, rotation_id=pending, to=Step.PUBLISH, reason=REASON, ends=call.ends
            )
            if not result.published:
                raise result.error or Transient("it has not got that far yet.")
            self._prove(engine, secret, call)
            return True

    def _take_over(self, engine: Engine, secret: ManagedSecret, known: _Known) -> None:
        """Go on with a value that somebody wrote for the published one: the same login, another key beside it.

        Without a database the published rotation is forgotten instead, see `recall`.
        """
        opened = self._opened(known)
        if self._is_log or opened in (None, known.current.id) or not self._was_published(opened):
            return
        try:
            _ = engine.adopt(secret, reason=REASON)
        except UsageError as error:
            # Another login, or one that does not log in: what stops because of it says so.
            self._log.warning("not taken over", secret=secret.name, what=error.what)

    @staticmethod
    def _swept(result: Result | None) -> bool | None:
        if result is None:
            return None
        if result.error is not None and result.outcome is not Outcome.UNDONE:
            raise result.error
        return result.outcome is not None

    def _opened(self, known: _Known) -> str | None:
        """Return the rotation that has not ended."""
        if self._is_log:
            memory = known.memory
            return memory.rotation if memory is not None and memory.is_open else None
        found = self._journal().open_rotation(known.name)
        return None if found is None else found.id

    def _was_published(self, rotation: str) -> bool:
        if self._is_log:
            return False
        found = self._journal().rotation(rotation)
        return found is not None and found.published_at is not None

    # -- what it works with --------------------------------------------------------------------

    @contextmanager
    def _at_work(
        self,
        known: _Known,
        call: _Call,
        *,
        token: str | None = None,
        pending: Credential | None = None,
    ) -> Generator[tuple[Engine, ManagedSecret]]:
        """Yield the engine and the secret, with a target that lasts as long as the step.

        `token`: the rotation at which AWS is, if any, and what is pending for it.
        """
        left = self._left(call)
        if left < _MARGIN:
            raise Transient(
                "there is no time left for this step.",
                safety="Nothing was changed by it.",
                hint="Raise the function's timeout: a minute is well.",
            )
        about, admin = known.about, self._admin(known, token, pending)
        writer = None if isinstance(admin, Own) else admin.writer
        places = [about] if writer is None else [about.at(writer.host, writer.port), about]
        targets = [one.plugin.target(one.host, one.target_options, admin) for one in places]
        try:
            secret = self._secret(known, targets, left)
            if isinstance(admin, Own):
                admin.accepts = lambda one: secret.rotation.probe(one, self._look(known, call))
            if not self._is_log:
                if self._engine is None:
                    self._engine = self._engine_over(self._journal())
                yield self._engine, secret
                return
            journal = self._log_journal(known, secret, call, token)
            try:
                yield self._engine_over(journal), secret
            except BaseException:
                try:
                    journal.close()
                except RotatorError as lost:
                    self._log.error("journal", secret=known.name, what=lost.what)
                raise
            journal.close()
        finally:
            for target in targets:
                target.close()

    def _secret(self, known: _Known, targets: Sequence[Target], left: float) -> ManagedSecret:
        """`targets`: where it is changed, and, if that is elsewhere, where it is used."""
        about = known.about
        rotation, *reader = [one.rotation(about.strategy, about.secret_options) for one in targets]
        if reader:
            rotation = on_reader(rotation, reader[0], about.host)
        timeout = timedelta(seconds=min(_STEP, left * 0.6))
        return ManagedSecret(
            name=known.name,
            path=known.arn,
            backend_name=_BACKEND,
            backend=self._backend,
            target_name=f"{about.host}",
            rotation=rotation,
            plugin=about.plugin.info.name,
            strategy=about.strategy,
            policy=replace(self._settings.policy, step_timeout=timeout),
        )

    def _log_journal(
        self, known: _Known, secret: ManagedSecret, call: _Call, token: str | None
    ) -> LogJournal:
        """Return a journal that goes on where the last invocation's ended."""
        memory, overlaps = known.memory or StateTag(), secret.rotation.overlaps

        def closes(event: Told) -> bool:
            return overlaps and event.kind is Kind.STARTED and event.step is Step.REVOKE

        def matters(event: Told) -> bool:
            published = event.kind is Kind.STARTED and event.step is Step.PUBLISH
            return closes(event) or (overlaps and published)

        def keep(head: Head, events: list[Told]) -> None:
            nonlocal memory
            memory = replace(memory.after(events), busy_until=None)
            if closing := closes(events[-1]):
                longest = min(secret.policy.step_timeout, timedelta(seconds=self._left(call)))
                memory = replace(memory, busy_until=self._clock.now() + longest + _LOCK)
            tags = {aws_driven.HEAD_TAG: head.text(), aws_driven.STATE_TAG: memory.text()}
            self._backend.keep_tags(known.arn, tags)
            if closing and self._began(known.arn, token):
                raise Transient(
                    "AWS has begun another rotation, so the old login was left as it is.",
                    safety="The application is safe: nothing was changed.",
                )

        journal = LogJournal(
            clock=self._clock,
            actor=self._actor(),
            request=call.request,
            line=self._line,
            keep=keep,
            urgent=matters,
            key=self._key(),
        )
        events = recall(
            secret,
            memory,
            known.current,
            read=lambda version: self._backend.read(known.arn, version),
            staged=lambda version: self._backend.staged(known.arn, version),
            now=self._clock.now(),
        )
        journal.recall(known.name, known.head or Head(), events)
        return journal

    def _began(self, arn: str, token: str | None) -> bool:
        """Return whether AWS rotates the secret, to another version than `token`.

        AWS sets AWSPENDING before it calls us; whoever is called after this look finds that we are busy.
        """
        stages = (self._backend.describe(arn) or {}).get("VersionIdsToStages", {})
        return _under_way(stages, token) is not None

    def _engine_over(self, journal: LogJournal | SqlJournal) -> Engine:
        return Engine(
            journal=journal,
            clock=self._clock,
            entropy=system.SystemEntropy(),
            log=self._log,
            holder=system.holder,
            controlled=self._controlled,
        )

    def _look(self, known: _Known, call: _Call) -> StepContext:
        """Return the context of a login that is only tried."""
        policy, entropy = self._settings.policy, system.SystemEntropy()
        return StepContext(
            secret=known.name,
            rotation_id="",
            current=known.current.credential,
            deadline=call.ends,
            clock=self._clock,
            entropy=entropy,
            log=self._log,
            new_password=lambda: policy.password.generate(entropy),
        )

    @property
    def _is_log(self) -> bool:
        return self._settings.journal == environment.LOG

    def _journal(self) -> SqlJournal:
        if self._sql is None:
            from rotator.journal.sql import SqlJournal  # noqa: PLC0415 # only where it is wanted

            password = self._settings.journal_password
            self._sql = SqlJournal(
                self._settings.journal,
                clock=self._clock,
                actor=self._actor(),
                password=self._resolved(password) if password else None,
                is_dead=system.is_dead,
                alone=True,
                key=self._introduced if self._settings.signing_key else None,
            )
        return self._sql

    def _introduced(self, journal: SqlJournal) -> EventKey:
        """Return the key of the writers, which the journal must know already."""
        journal.require_introduced()
        key = self._key()
        if key is None:
            raise UsageError("ROTATOR_JOURNAL_SIGNING_KEY is empty.")
        return key

    def _key(self) -> EventKey | None:
        """Return what authenticates events, where a signing key is named; looked up once."""
        if self._event_key is None and self._settings.signing_key:
            from rotator.journal.event_key import EventKey  # noqa: PLC0415 # as above

            self._event_key = EventKey.derive(self._resolved(self._settings.signing_key))
        return self._event_key

    def _resolved(self, reference: str) -> Secret:
        from pathlib import Path  # noqa: PLC0415 # as above

        from rotator.references import Resolver  # noqa: PLC0415 # as above

        return Resolver(lambda _name: self._backend, Path(), self._environ).secret(reference)

    def _actor(self) -> str:
        return f"lambda:{self._settings.function}"

    def _known(self, arn: str, about: Mapping[str, Any]) -> _Known:
        current = self._backend.current(arn)
        if current is None:
            raise UsageError(
                "the secret has no current value.",
                safety="Nothing was changed.",
                hint="Write the login as it stands into the secret first.",
            )
        tags = tags_of(about)
        return _Known(
            arn=arn,
            name=str(about["Name"]),
            stages=cast("Mapping[str, list[str]]", about.get("VersionIdsToStages", {})),
            current=current,
            head=Head.parse(tags.get(aws_driven.HEAD_TAG)),
            memory=StateTag.parse(tags.get(aws_driven.STATE_TAG)) if self._is_log else None,
            about=described(
                current,
                Operators(
                    strategy=self._settings.strategy, options=self._settings.options, tags=tags
                ),
                self._settings.sslrootcert,
            ),
        )

    def _others(self, known: _Known) -> tuple[Version, ...]:
        """Return the version with the other login of a pair that AWS's template has made."""
        if known.about.strategy != "alternating-users":
            return ()
        names = (name for name, labels in known.stages.items() if aws_driven.PREVIOUS in labels)
        version = next(names, None)
        try:
            previous = self._backend.read(known.arn, version) if version else None
        except NotAllowed:
            raise
        except Denied as error:
            # Somebody's value of another shape: nobody's login.
            self._log.warning("previous", secret=known.arn, what=error.what)
            return ()
        if previous is None:
            return ()
        name = previous.credential.username
        is_other = name in known.about.pair and name != known.current.credential.username
        return (previous,) if is_other else ()

    def _admin(self, known: _Known, token: str | None, pending: Credential | None) -> Own | Master:
        if known.about.master is not None:
            admin = Master(self._backend, self._client, known.about)
            admin.read()
            return admin
        opened = self._opened(known)
        left = None
        if opened not in (None, token, known.current.id):
            left = self._backend.staged(known.arn, opened or "")
        found = [known.current.credential, pending, left]
        return Own([one for one in found if one is not None])

    # -- time ----------------------------------------------------------------------------------

    def _call(self, context: Any) -> _Call:
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _LOCAL if left is None else float(left()) / 1000
        ends = self._clock.monotonic() + seconds - _MARGIN
        return _Call(ends=ends, request=request_of(context))

    def _left(self, call: _Call) -> float:
        return call.ends - self._clock.monotonic()


def _got(result: Result, to: Step) -> bool:
    if to is Step.PUBLISH:
        return result.published
    return result.error is None and result.until is None


def _under_way(stages: Mapping[str, list[str]], beside: str | None) -> str | None:
    """Return the version, another one than `beside`, that is pending and not current."""
    found = (
        version
        for version, labels in stages.items()
        if version != beside and PENDING in labels and CURRENT not in labels
    )
    return next(found, None)
