"""The rotation function: AWS's four steps, each driven as far as the engine's step of that name."""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from rotator import world
from rotator.backends.aws import led, rds
from rotator.backends.aws.backend import CURRENT, PENDING
from rotator.backends.aws.client import Client
from rotator.backends.aws.led import LedBackend
from rotator.backends.aws.options import AwsOptions
from rotator.core.errors import Conflict, NotDue, RotatorError, Transient, UsageError
from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.secret import Secret
from rotator.engine import Engine, ManagedSecret
from rotator.faces.aws_lambda import lines
from rotator.faces.aws_lambda import settings as environment
from rotator.faces.aws_lambda.described import Described, check_pending, described
from rotator.journal.log import Head, LogJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from datetime import datetime

    from rotator.core.model import Credential, Json, Version
    from rotator.core.ports import Log
    from rotator.engine import Result
    from rotator.faces.aws_lambda.settings import Settings
    from rotator.journal.sql import SqlJournal

# AWS's names of the steps, in both spellings of its documentation, and how far each of them goes.
STEPS: Final[Mapping[str, Step]] = {
    "createSecret": Step.STAGE,
    "setSecret": Step.CREATE,
    "testSecret": Step.VERIFY,
    "finishSecret": Step.PUBLISH,
    "create_secret": Step.STAGE,
    "set_secret": Step.CREATE,
    "test_secret": Step.VERIFY,
    "finish_secret": Step.PUBLISH,
}
_ORDER: Final = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH)
_BACKEND: Final = "aws"
_REASON: Final = "AWS Secrets Manager rotates it"
_ARN_PARTS: Final = 7
# Kept back of the function's own time limit, in seconds, to write down how it ended.
_MARGIN: Final = 1.5
# How long a step may take where the function's own time does not say less.
_STEP: Final = 30.0
_LOCAL: Final = 60.0


@functools.cache
def function() -> Function:
    """Return the function of this process: what is made once is used by every invocation."""
    return Function(environment.settings(os.environ), environ=os.environ)


@dataclass(slots=True, kw_only=True)
class _Event:
    """A rotation event, as far as it is sound."""

    step: Step
    arn: str
    token: str
    rotation_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A secret as AWS holds it now."""

    arn: str
    name: str
    stages: Mapping[str, list[str]]
    current: Version
    previous: Version | None
    head: Head | None
    published_at: datetime | None
    about: Described

    def has(self, version: str, label: str) -> bool:
        return label in self.stages.get(version, ())

    def is_under_way(self, beside: str | None = None) -> bool:
        """Return whether AWS is at a rotation, another one than that of version `beside`."""
        return any(
            PENDING in labels and CURRENT not in labels
            for version, labels in self.stages.items()
            if version != beside
        )


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
        options = AwsOptions(
            region=settings.region, endpoint=settings.endpoint, writes_a_second=1000
        )
        self._settings: Settings = settings
        self._environ: Mapping[str, str] = environ
        self._clock: world.SystemClock = world.SystemClock()
        self._client: Client = Client(options)
        self._backend: LedBackend = LedBackend(_BACKEND, options, self._client)
        self._line: Callable[[str], None] = line or lines.write
        self._log: Log = log or lines.Lines(environ.get("ROTATOR_LOG_LEVEL") or "info")
        self._sql: SqlJournal | None = None
        self._engine: Engine | None = None
        self._controlled: set[str] = set()

    def close(self) -> None:
        """Give back the connections; Lambda just stops a process."""
        self._client.close()
        if self._sql is not None:
            self._sql.close()

    # -- what Lambda calls ---------------------------------------------------------------------

    def handle(self, event: object, context: Any) -> None:
        """Do one step. Returns when it is done, also when it was done before."""
        asked, ends = _sound(event), self._ends(context)
        _require_account(asked, context)
        self._backend.rotation_token = asked.rotation_token
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
        if labels is None:
            raise UsageError(
                f"the secret has no version {asked.token} to be rotated to.",
                safety="Nothing was changed.",
                hint="If its rotation was undone, ask for another: aws secretsmanager rotate-secret",
            )
        if CURRENT not in labels and PENDING not in labels:
            raise UsageError(
                f"version {asked.token} has the label AWSPENDING no more.",
                safety="Nothing was changed.",
                hint="Ask for another rotation: aws secretsmanager rotate-secret",
            )
        known = self._known(asked.arn, about)
        request = _request(context)
        if CURRENT in labels:
            if asked.step is Step.PUBLISH:
                self._end(known, asked.token, ends, request)
            return
        pending = self._pending(asked, known)
        if pending is None and asked.step is Step.VERIFY:
            # RotateImmediately=false: AWS tries the function, with a version that has no value.
            self._try_out(known, ends, request)
            return
        if pending is not None:
            check_pending(known.about, known.current.credential, pending)
        self._advance(known, asked, pending, ends, request)

    def sweep(self, context: Any) -> dict[str, Any]:
        """End what is due: revoke old logins whose grace is over, finish what was interrupted."""
        ends = self._ends(context)
        request = _request(context)
        found: dict[str, Any] = {"ended": 0, "waiting": 0, "failed": []}
        for arn in self._to_sweep(context):
            if self._clock.monotonic() + 2 * _MARGIN > ends:
                found["left"] = "the function's time was up; the next sweep goes on"
                break
            try:
                ended = self._sweep_one(arn, ends, request)
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

    def _advance(
        self,
        known: _Known,
        asked: _Event,
        pending: Credential | None,
        ends: float,
        request: str,
    ) -> None:
        if (
            asked.step is Step.STAGE
            and pending is None
            and self._settings.journal == environment.LOG
        ):
            known = self._after_earlier(known, asked.token, ends, request)
        with self._at_work(known, asked.step, asked.token, pending, ends, request) as (
            engine,
            secret,
        ):
            to = asked.step
            if to is Step.CREATE and not secret.rotation.overlaps:
                # Once the password is set, what is current does not log in: it is tried and published
                # at once, not by AWS's next two calls. They find it done.
                to = Step.PUBLISH
            result = engine.advance(
                secret,
                rotation_id=asked.token,
                to=to,
                reason=_REASON,
                others=_others(known),
                patience=timedelta(seconds=self._left(ends) * 0.3),
                ends=ends,
            )
            if result.outcome is Outcome.UNDONE or not _got(result, to):
                raise result.error or Transient("it has not got that far yet.")
            if to is Step.PUBLISH and not secret.rotation.overlaps:
                # Nothing is left to wait for: prove at once that the old password is refused.
                self._prove(engine, secret)

    def _prove(self, engine: Engine, secret: ManagedSecret) -> None:
        try:
            _ = engine.resume(secret)
        except RotatorError as error:
            # It is published: that is what AWS asked for. The sweep comes back to the rest.
            self._log.warning("not ended", secret=secret.name, kind=error.kind, what=error.what)

    def _end(self, known: _Known, token: str, ends: float, request: str) -> None:
        """A finishSecret that comes again: write down what a cut-off one could not."""
        if self._settings.journal == environment.LOG:
            return
        with self._at_work(known, Step.PUBLISH, token, None, ends, request) as (engine, secret):
            opened = self._journal().open_rotation(secret.name)
            if opened is not None and opened.id == token:
                _ = engine.resume(secret)

    def _try_out(self, known: _Known, ends: float, request: str) -> None:
        """Log in with what is current, and see that the admin can."""
        with self._at_work(known, None, "", None, ends, request) as (engine, secret):
            health = engine.check(secret)
            if not health.accepted:
                raise UsageError(
                    f"the target refuses login {health.login!r} with what is current.",
                    safety="Nothing was changed. The application is NOT safe: what it reads does not log in.",
                    hint="Write the password that works into the secret.",
                )

    def _pending(self, asked: _Event, known: _Known) -> Credential | None:
        """Return what is pending; waited for where an earlier step must have written it."""
        if asked.step is Step.STAGE:
            return self._backend.staged(known.arn, asked.token)
        return self._backend.staged_in_time(known.arn, asked.token)

    # -- afterwards ----------------------------------------------------------------------------

    def _to_sweep(self, context: Any) -> Iterable[str]:
        if self._settings.journal == environment.LOG:
            arn = str(getattr(context, "invoked_function_arn", ""))
            return self._backend.rotated_by(self._environ.get("ROTATOR_FUNCTION_ARN") or arn)
        journal = self._journal()
        opened = [one for one in journal.secrets() if one.open_rotation is not None]
        found: list[str] = []
        for one in opened:
            requested = journal.history(one.open_rotation or "")[0].data
            if requested.get("backend") == _BACKEND and str(requested.get("path")).startswith(
                "arn:"
            ):
                found.append(str(requested["path"]))
        return found

    def _sweep_one(self, arn: str, ends: float, request: str) -> bool | None:
        """Return whether its rotation has ended; None when there was none."""
        about = self._backend.describe(arn)
        if about is None:
            return None
        known = self._known(arn, about)
        if self._settings.journal == environment.LOG:
            return self._revoke_by_log(known, ends, request)
        with self._at_work(known, None, "", None, ends, request) as (engine, secret):
            opened = self._journal().open_rotation(secret.name)
            if opened is None or known.is_under_way():
                return None  # nothing is open, or AWS is at it
            return self._swept(engine.resume(secret))

    def _after_earlier(self, known: _Known, token: str, ends: float, request: str) -> _Known:
        """Before a rotation begins the one before must be over, and its old login gone.

        Return the secret as it is then.
        """
        ended = self._revoke_by_log(known, ends, request, beside=token)
        if ended is None:
            return known
        if ended:
            return self._known(known.arn, self._backend.describe(known.arn) or {})
        raise NotDue(
            "its last rotation is not over: the old credential is in its grace period, or in use.",
            hint="It is ended by the sweep once that is over; a shorter ROTATOR_GRACE ends it earlier.",
        )

    def _revoke_by_log(
        self, known: _Known, ends: float, request: str, *, beside: str | None = None
    ) -> bool | None:
        """Revoke what AWSPREVIOUS still serves; the versions and their labels say what is to be done.

        Nothing while AWS is at another rotation, but for that of version `beside`.
        """
        previous, current = known.previous, known.current
        if (
            previous is None
            or known.head is None
            or known.has(previous.id, led.REVOKED)
            or known.is_under_way(beside)
        ):
            return None
        with self._at_work(known, None, current.id, None, ends, request, revoking=True) as (
            engine,
            secret,
        ):
            ended = self._swept(engine.resume(secret))
        if ended:
            self._backend.mark_revoked(known.arn, previous.id)
        return ended

    @staticmethod
    def _swept(result: Result | None) -> bool | None:
        if result is None:
            return None
        if result.error is not None:
            raise result.error
        return result.outcome is not None

    # -- what it works with --------------------------------------------------------------------

    @contextmanager
    def _at_work(
        self,
        known: _Known,
        step: Step | None,
        token: str,
        pending: Credential | None,
        ends: float,
        request: str,
        *,
        revoking: bool = False,
    ) -> Generator[tuple[Engine, ManagedSecret]]:
        """Yield the engine and the secret, with a target that lasts as long as the step."""
        left = self._left(ends)
        if left < _MARGIN:
            raise Transient(
                "there is no time left for this step.",
                safety="Nothing was changed by it.",
                hint="Raise the function's timeout: a minute is well.",
            )
        about = known.about
        target = about.plugin.target(
            about.host, about.target_options, self._admin(known, step, pending)
        )
        try:
            policy = replace(
                self._settings.policy, step_timeout=timedelta(seconds=min(_STEP, left * 0.6))
            )
            secret = ManagedSecret(
                name=known.name,
                path=known.arn,
                backend_name=_BACKEND,
                backend=self._backend,
                target_name=f"{about.host}",
                rotation=target.rotation(about.strategy, about.secret_options),
                plugin=about.plugin.info.name,
                strategy=about.strategy,
                policy=policy,
            )
            if self._settings.journal == environment.LOG:
                events = _recalled(secret, known, step, token, pending, self._clock.now, revoking)
                journal = LogJournal(
                    clock=self._clock,
                    actor=self._actor(),
                    request=request,
                    line=self._line,
                    keep=lambda _name, head: self._backend.keep_head(known.arn, head.text()),
                )
                journal.recall(known.name, known.head or Head(), events)
                try:
                    yield self._engine_over(journal), secret
                finally:
                    journal.close()
            else:
                if self._engine is None:
                    self._engine = self._engine_over(self._journal())
                yield self._engine, secret
        finally:
            target.close()

    def _engine_over(self, journal: LogJournal | SqlJournal) -> Engine:
        return Engine(
            journal=journal,
            clock=self._clock,
            entropy=world.SystemEntropy(),
            log=self._log,
            holder=world.holder,
            controlled=self._controlled,
        )

    def _journal(self) -> SqlJournal:
        if self._sql is None:
            from rotator.journal.sql import SqlJournal  # noqa: PLC0415 # only where it is wanted

            password = self._settings.journal_password
            self._sql = SqlJournal(
                self._settings.journal,
                clock=self._clock,
                actor=self._actor(),
                password=self._resolved(password) if password else None,
                is_dead=world.is_dead,
            )
        return self._sql

    def _resolved(self, reference: str) -> Secret:
        from pathlib import Path  # noqa: PLC0415 # as above

        from rotator.references import Resolver  # noqa: PLC0415 # as above

        return Resolver(lambda _name: self._backend, Path(), self._environ).secret(reference)

    def _actor(self) -> str:
        return f"lambda:{self._settings.function}"

    def _known(self, arn: str, about: Mapping[str, Any]) -> _Known:
        stages = cast("Mapping[str, list[str]]", about.get("VersionIdsToStages", {}))
        by_label = {label: name for name, labels in stages.items() for label in labels}
        current = self._backend.current(arn)
        if current is None:
            raise UsageError(
                "the secret has no current value.",
                safety="Nothing was changed.",
                hint="Write the login as it stands into the secret first.",
            )
        previous = by_label.get(led.PREVIOUS)
        says = described(current, self._settings.strategy, self._settings.sslrootcert)
        return _Known(
            arn=arn,
            name=str(about["Name"]),
            stages=stages,
            current=current,
            # Without overlap nothing is left of it that could be revoked, or be taken over.
            previous=self._previous(arn, previous) if previous and says.overlaps else None,
            head=Head.parse(_tags(about).get(led.HEAD_TAG)),
            published_at=about.get("LastRotatedDate") or current.created,
            about=says,
        )

    def _previous(self, arn: str, version: str) -> Version | None:
        try:
            return self._backend.read(arn, version)
        except RotatorError as error:
            # Somebody's value of another shape: nothing that we could revoke.
            self._log.warning("previous", secret=arn, what=error.what)
            return None

    # -- the admin -----------------------------------------------------------------------------

    def _admin(
        self, known: _Known, step: Step | None, pending: Credential | None
    ) -> Callable[[], Credential]:
        if known.about.master is None:
            return _Own(known.current.credential, pending, step)
        # Read and compared before anything begins; the last step does without.
        read = [] if step is Step.PUBLISH else [self._master(known.about)]
        return lambda: read.pop() if read else self._master(known.about)

    def _master(self, about: Described) -> Credential:
        master = about.master or ""
        found = self._backend.current(master)
        if found is None:
            raise UsageError(
                f"the admin's secret {master} is not there, or has no current value.",
                safety="Nothing was changed.",
                hint="Correct `masterarn` of the secret.",
            )
        self._require_same_host(about, master, found.credential)
        return found.credential

    def _require_same_host(self, about: Described, master: str, admin: Credential) -> None:
        """The admin's password goes to the host that its own secret names, and to no other."""
        host = admin.fields.get("host")
        hosts = {str(host)} if host else set[str]()
        if not host:
            tags = _tags(self._backend.describe(master) or {})
            if rds.is_managed(tags):
                hosts = rds.hosts(self._client, tags)
        if about.host not in hosts:
            raise Conflict(
                f"the secret is for host {about.host!r}, and the admin's secret for {', '.join(sorted(hosts)) or 'no host at all'}.",
                safety="Nothing was sent to it.",
                hint="Correct `host` or `masterarn` of the secret. An admin's secret without `host` must be one that RDS manages.",
            )

    # -- time ----------------------------------------------------------------------------------

    def _ends(self, context: Any) -> float:
        """Return when the function must have ended, on the monotonic scale."""
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _LOCAL if left is None else float(left()) / 1000
        return self._clock.monotonic() + seconds - _MARGIN

    def _left(self, ends: float) -> float:
        return ends - self._clock.monotonic()


class _Own:
    """The admin of a login that changes its own password: itself, with whichever password works.

    Before `create` that is the current one, after it the pending one. Only where a try may have
    been cut off between the two is the other one tried.
    """

    def __init__(self, current: Credential, pending: Credential | None, step: Step | None) -> None:
        if pending is None or step in (None, Step.STAGE):
            self._order: tuple[Credential, ...] = (current,)
        elif step is Step.CREATE:
            self._order = (current, pending)
        else:
            self._order = (pending, current)
        self._next: int = 0

    def __call__(self) -> Credential:
        """Return one; asked again, the other: it is asked again when the first was refused."""
        chosen = self._order[self._next % len(self._order)]
        self._next += 1
        return chosen


def _sound(event: object) -> _Event:
    """Read an event. Raises `UsageError` that names what is wrong with it."""
    given = cast("dict[str, Any]", event) if isinstance(event, dict) else {}
    step, arn, token = (given.get(one) for one in ("Step", "SecretId", "ClientRequestToken"))
    if not isinstance(step, str) or step not in STEPS:
        said = "no step" if step is None else "a step that is not known"
        raise UsageError(
            f"the event names {said}.",
            safety="Nothing was changed.",
            hint=f"One of {', '.join(list(STEPS)[:4])}: this function is for Secrets Manager's rotation.",
        )
    if not isinstance(arn, str) or not _is_secret(arn):
        raise UsageError(
            "the event's SecretId is not the ARN of a secret.", safety="Nothing was changed."
        )
    if not isinstance(token, str) or not token:
        raise UsageError("the event has no ClientRequestToken.", safety="Nothing was changed.")
    rotation_token = given.get("RotationToken")
    return _Event(
        step=STEPS[step],
        arn=arn,
        token=token,
        rotation_token=Secret(str(rotation_token)) if rotation_token else None,
    )


def _is_secret(arn: str) -> bool:
    parts = arn.split(":")
    return len(parts) == _ARN_PARTS and (parts[0], parts[2], parts[5]) == (
        "arn",
        "secretsmanager",
        "secret",
    )


def _require_account(asked: _Event, context: Any) -> None:
    """Refuse the secret of another account, unless AWS gave a token for just that."""
    ours = str(getattr(context, "invoked_function_arn", "")).split(":")
    account = asked.arn.split(":")[4]
    if len(ours) > 4 and ours[4] != account and asked.rotation_token is None:  # noqa: PLR2004 # arn:partition:service:region:account
        raise UsageError(
            f"the secret is in account {account}, and this function in {ours[4]}.",
            safety="Nothing was changed.",
            hint="Give each account its own function, and let only that account invoke it (aws:SourceAccount).",
        )


def _request(context: Any) -> str:
    """Return what tells this invocation from every other."""
    return str(getattr(context, "aws_request_id", "") or world.holder())


def _tags(about: Mapping[str, Any]) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in about.get("Tags", ())}


def _got(result: Result, to: Step) -> bool:
    if to is Step.PUBLISH:
        return result.published
    return result.error is None


def _others(known: _Known) -> tuple[Version, ...]:
    """Return the version with the other login of a pair that AWS's template has made."""
    previous = known.previous
    if known.about.strategy != "alternating-users" or previous is None:
        return ()
    name = previous.credential.username
    is_other = name in known.about.pair and name != known.current.credential.username
    return (previous,) if is_other else ()


def _recalled(
    secret: ManagedSecret,
    known: _Known,
    step: Step | None,
    token: str,
    pending: Credential | None,
    now: Callable[[], datetime],
    revoking: bool,  # noqa: FBT001 # one of two ways to read the same labels
) -> list[tuple[NewEvent, datetime]]:
    """Return what AWS's versions and labels say has happened, as events, where no journal tells."""
    if known.head is None:
        return []  # none of it was ours: what is there is met as somebody else's work
    at = now()
    old = known.previous if revoking else known.current
    logins = [one for one in (*_others(known), known.current) if not revoking or one is not old]
    found: list[tuple[NewEvent, datetime]] = []
    for one in (*([old] if revoking and old else []), *logins):
        data: dict[str, Json] = {"login": one.credential.username, "version": one.id}
        found.append((NewEvent(kind=Kind.ADOPTED, data=data), at))
    if old is None or not token or (pending is None and not revoking):
        return found
    done = _ORDER if revoking else _ORDER[: max(_ORDER.index(step), 1)] if step else ()
    new = known.current.credential if revoking else cast("Credential", pending)
    requested: dict[str, Json] = {
        "reason": _REASON,
        "plugin": secret.plugin,
        "strategy": secret.strategy,
        "overlaps": secret.rotation.overlaps,
        "old_version": old.id,
        "old_login": old.credential.username,
        "path": secret.path,
        "backend": secret.backend_name,
    }
    found.append((NewEvent(kind=Kind.REQUESTED, rotation_id=token, data=requested), at))
    for one in done:
        data = {"login": new.username, "version": token if one is Step.PUBLISH else None}
        when = (known.published_at or at) if one is Step.PUBLISH else at
        for kind in (Kind.STARTED, Kind.FINISHED):
            told = data if kind is Kind.FINISHED else {}
            found.append((NewEvent(kind=kind, rotation_id=token, step=one, data=told), when))
    return found
