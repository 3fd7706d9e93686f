"""Wires the function: the only module here that names concrete backends, journals and clocks.

Not `rotator.bootstrap`: its configuration and database drivers would triple a cold start. What is
imported inside a function is needed only with a database or a signing key.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from rotator import system
from rotator.backends.aws import aws_driven
from rotator.backends.aws.aws_driven import AwsDrivenBackend
from rotator.backends.aws.client import Client, NotAllowed
from rotator.backends.aws.options import AwsOptions
from rotator.core.contracts.rotation import StepContext
from rotator.core.errors import Denied, Transient, UsageError
from rotator.core.model import Kind, Step
from rotator.engine import Engine, ManagedSecret
from rotator.faces.aws_lambda import json_log
from rotator.faces.aws_lambda import settings as environment
from rotator.faces.aws_lambda.credentials import Master, Own, tags_of
from rotator.faces.aws_lambda.events import request_of
from rotator.faces.aws_lambda.journals import BACKEND, DatabaseJournals, TagJournals
from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
from rotator.faces.aws_lambda.read_replica import on_reader
from rotator.faces.aws_lambda.secret_json import Operators, described

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from rotator.core.contracts.plugin import Target
    from rotator.core.model import Credential, Event, Version
    from rotator.core.ports import Log
    from rotator.core.secret import Secret
    from rotator.faces.aws_lambda.journals import Journals
    from rotator.faces.aws_lambda.settings import Settings
    from rotator.journal.event_key import EventKey
    from rotator.journal.key_ring import KeyRing
    from rotator.journal.sql import SqlJournal

# Kept back of the function's own time limit, in seconds, to write down how it ended.
MARGIN: Final = 1.5
# How long a step may take where the function's own time is not shorter. The next invocation after one
# that was cut off while it closed a login waits for as long.
_STEP: Final = 15.0
_LOCAL: Final = 60.0
# How long a process uses the key of the journal before it reads it anew, in seconds.
_KEY_KEPT: Final = 300.0
# How long AWS may take for one answer.
_PATIENCE: Final = timedelta(seconds=3)


class Wiring:
    """The parts of one process. Nothing is connected before its first use."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        line: Callable[[str], None] | None = None,
        log: Log | None = None,
    ) -> None:
        """`line` writes a line of the journal where that is the log."""
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
        self._client: Client = Client(options)
        self._actor: str = f"lambda:{settings.function}"
        self._event_key: EventKey | None = None
        self._key_until: float = 0.0
        self._controlled: set[str] = set()
        self.clock: system.SystemClock = system.SystemClock()
        self.backend: AwsDrivenBackend = AwsDrivenBackend(BACKEND, options, self._client)
        self.log: Log = log or json_log.JsonLog(environ.get("ROTATOR_LOG_LEVEL") or "info")
        self.journals: Journals = (
            TagJournals(
                backend=self.backend,
                log=self.log,
                actor=self._actor,
                line=line or json_log.write,
                key=self._key,
                function=environ.get("ROTATOR_FUNCTION_ARN"),
            )
            if settings.journal == environment.LOG
            else DatabaseJournals(self._connect)
        )
        for warning in settings.warnings:
            self.log.warning("settings", what=warning)

    def close(self) -> None:
        """Give back the connections; Lambda just stops a process."""
        self._client.close()
        self.journals.close()

    def invocation(self, context: Any) -> Invocation:
        """Return an invocation that begins now."""
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _LOCAL if left is None else float(left()) / 1000
        ends = self.clock.monotonic() + seconds - MARGIN
        return Invocation(ends=ends, request=request_of(context), clock=self.clock)

    # -- secrets -------------------------------------------------------------------------------

    def secret(self, arn: str, about: Mapping[str, Any]) -> AwsSecret:
        """Return a secret as AWS describes it. Raises `UsageError` where it has no current value."""
        current = self.backend.current(arn)
        if current is None:
            raise UsageError(
                "the secret has no current value.",
                safety="Nothing was changed.",
                hint="Write the current login into the secret first.",
            )
        tags, settings = tags_of(about), self._settings
        memory = self.journals.memory(arn, tags)
        operators = Operators(strategy=settings.strategy, options=settings.options, tags=tags)
        return AwsSecret(
            arn=arn,
            name=str(about["Name"]),
            stages=cast("Mapping[str, list[str]]", about.get("VersionIdsToStages", {})),
            current=current,
            memory=memory,
            about=described(current, operators, settings.sslrootcert),
        )

    def open_rotation(self, arn: str, about: Mapping[str, Any]) -> str | None:
        """Return the rotation of a secret, as AWS describes it, that has not ended."""
        state = self.journals.memory(arn, tags_of(about)).state
        return self.journals.open_rotation(str(about["Name"]), state)

    def others(self, known: AwsSecret) -> tuple[Version, ...]:
        """Return the version with the other login of a pair that AWS's template has made."""
        if known.about.strategy != "alternating-users":
            return ()
        versions = (name for name, labels in known.stages.items() if aws_driven.PREVIOUS in labels)
        version = next(versions, None)
        try:
            previous = self.backend.read(known.arn, version) if version else None
        except NotAllowed:
            raise
        except Denied as error:
            # A foreign value of another shape: it holds no login.
            self.log.warning("previous", secret=known.arn, what=error.what)
            return ()
        if previous is None:
            return ()
        name = previous.credential.username
        is_other = name in known.about.pair and name != known.current.credential.username
        return (previous,) if is_other else ()

    # -- the engine ----------------------------------------------------------------------------

    @contextmanager
    def engine(
        self,
        known: AwsSecret,
        invocation: Invocation,
        *,
        token: str | None = None,
        pending: Credential | None = None,
    ) -> Generator[tuple[Engine, ManagedSecret]]:
        """Yield the engine and the secret, with a target that lasts as long as the step.

        `token`: the rotation at which AWS is, if any; `pending`: its credential.
        """
        left = invocation.left
        if left < MARGIN:
            raise Transient(
                "there is no time left for this step.",
                safety="Nothing was changed by it.",
                hint="Raise the function's timeout: a minute is enough.",
            )
        about, admin = known.about, self._admin(known, token, pending)
        writer = None if isinstance(admin, Own) else admin.writer
        places = [about] if writer is None else [about.at(writer.host, writer.port), about]
        targets = [place.plugin.target(place.host, place.target_options, admin) for place in places]
        try:
            secret = self._managed(known, targets, left)
            if isinstance(admin, Own):
                ctx = self._context(known, invocation)
                admin.accepts = lambda login: secret.rotation.probe(login, ctx)
            with self.journals.opened(known, secret, invocation, token) as journal:
                engine = Engine(
                    journal=journal,
                    clock=self.clock,
                    entropy=system.SystemEntropy(),
                    log=self.log,
                    holder=system.holder,
                    observer=self._observe,
                    controlled=self._controlled,
                )
                yield engine, secret
        finally:
            for target in targets:
                target.close()

    def _observe(self, event: Event) -> None:
        """Before a step that changes the target, let AWS be asked again what is current."""
        if event.kind is Kind.STARTED and event.step not in (Step.STAGE, Step.VERIFY):
            self.backend.forget_labels()

    def _managed(self, known: AwsSecret, targets: Sequence[Target], left: float) -> ManagedSecret:
        """`targets`: where it is changed, and, if that is elsewhere, where it is used."""
        about = known.about
        rotation, *reader = [
            target.rotation(about.strategy, about.secret_options) for target in targets
        ]
        if reader:
            rotation = on_reader(rotation, reader[0], about.host)
        timeout = timedelta(seconds=min(_STEP, left * 0.6))
        return ManagedSecret(
            name=known.name,
            path=known.arn,
            backend_name=BACKEND,
            backend=self.backend,
            target_name=f"{about.host}",
            rotation=rotation,
            plugin=about.plugin.info.name,
            strategy=about.strategy,
            policy=replace(self._settings.policy, step_timeout=timeout),
        )

    def _admin(
        self, known: AwsSecret, token: str | None, pending: Credential | None
    ) -> Own | Master:
        if known.about.master is not None:
            admin = Master(self.backend, self._client, known.about)
            admin.read()
            return admin
        opened = self.journals.open_rotation(known.name, known.state)
        left = None
        if opened not in (None, token, known.current.id):
            left = self.backend.staged(known.arn, opened or "")
        candidates = [known.current.credential, pending, left]
        return Own([login for login in candidates if login is not None])

    def _context(self, known: AwsSecret, invocation: Invocation) -> StepContext:
        """Return the context in which a login is tried, in no step."""
        policy, entropy = self._settings.policy, system.SystemEntropy()
        return StepContext(
            secret=known.name,
            rotation_id="",
            current=known.current.credential,
            deadline=invocation.ends,
            clock=self.clock,
            entropy=entropy,
            log=self.log,
            new_password=lambda: policy.password.generate(entropy),
        )

    # -- the journal ---------------------------------------------------------------------------

    def _connect(self) -> SqlJournal:
        from rotator.journal.sql import SqlJournal  # noqa: PLC0415 # only where it is wanted

        password = self._settings.journal_password
        return SqlJournal(
            self._settings.journal,
            clock=self.clock,
            actor=self._actor,
            password=self._resolved(password) if password else None,
            is_dead=system.is_dead,
            alone=True,
            key=self._introduced if self._settings.signing_key else None,
        )

    def _introduced(self, journal: SqlJournal) -> EventKey:
        """Return the key of the writers, which the journal must know already; read anew."""
        journal.require_introduced()
        if not self._settings.signing_key:
            raise UsageError("ROTATOR_JOURNAL_SIGNING_KEY is empty.")
        ring = self._ring(self._settings.signing_key)
        return ring.key(journal.key_id() if len(ring.private) > 1 else None)

    def _key(self) -> EventKey | None:
        """Return the key that authenticates events, where a signing key is named; kept for a while."""
        now = self.clock.monotonic()
        if self._settings.signing_key and (self._event_key is None or now > self._key_until):
            self._event_key = self._ring(self._settings.signing_key).key(None)
            self._key_until = now + _KEY_KEPT
        return self._event_key

    def _ring(self, reference: str) -> KeyRing:
        from rotator.journal.key_ring import KeyRing  # noqa: PLC0415 # as above

        return KeyRing.parse(self._resolved(reference))

    def _resolved(self, reference: str) -> Secret:
        from pathlib import Path  # noqa: PLC0415 # as above

        from rotator.references import Resolver  # noqa: PLC0415 # as above

        return Resolver(lambda _name: self.backend, Path(), self._environ).secret(reference)
