"""Wires the parts of the application: journal, backends, targets, engine, dispatcher."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self, cast

from rotator import plugins, system
from rotator.bootstrap.admins import Admins
from rotator.bootstrap.requests import requests_of
from rotator.bootstrap.signing_key import SigningKey
from rotator.config import snapshot
from rotator.core.access import ACTIONS, LOOKS, Permission
from rotator.core.admin import Admin
from rotator.core.contracts.plugin import KeepsSecrets, ListsMarked, UsesLinkedResources
from rotator.core.contracts.rotation import StepContext
from rotator.core.daemon_settings import Dispatch, Topic
from rotator.core.errors import (
    RETRIED,
    JournalBroken,
    StepError,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.core.model import LONGEST_LOCK, NO_ROTATION, Credential, Event, Step
from rotator.core.schedule import is_due
from rotator.core.secret import Secret
from rotator.core.traceback_frames import forget_variables
from rotator.dispatch.dispatcher import Dispatcher
from rotator.dispatch.executor import ThreadExecutor
from rotator.dispatch.outages import Outages
from rotator.dispatch.worker import Worker
from rotator.engine import Copy, Engine, ManagedSecret
from rotator.journal.consumers import SqlConsumers
from rotator.journal.observations import SqlObservations
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.linked_resources import TargetLinks
from rotator.logs import get_log
from rotator.references import Resolver
from rotator.secret_state import Overview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from rotator.config import Settings
    from rotator.config.model import SecretSettings
    from rotator.core.access import Actor
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.plugin import MarkedLogin, Target
    from rotator.core.leases import LeaseRecord
    from rotator.core.model import Json
    from rotator.dispatch.executor import Executor, Pool
    from rotator.dispatch.job_queue import Queue
    from rotator.engine.admin_proof import AdminProof
    from rotator.requests import Requests

# The lock of a call that only writes to the journal.
WRITING: Final = timedelta(seconds=60)


class Wiring:
    """The parts of the application, each made when it is first used."""

    def __init__(
        self,
        settings: Settings,
        *,
        face: str = "cli",
        observer: Callable[[Event], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        upgrade: bool = False,
        check: bool = True,
        admins: Mapping[str, Credential] | None = None,
    ) -> None:
        """Open the journal; backends and targets wait. Raises `JournalError` or `UsageError`.

        `observer` and `should_stop` are the engine's. `admins`: of targets whose own reference names
        nothing yet.
        """
        self.settings: Settings = settings
        self._admins: dict[str, Credential] = dict(admins or {})
        self.admins_of: Admins = Admins(settings)
        self.clock: system.SystemClock = system.SystemClock()
        self.entropy: system.SystemEntropy = system.SystemEntropy()
        self._guard: threading.RLock = threading.RLock()
        self._backends: dict[str, SecretBackend] = {}
        self._targets: dict[str, Target] = {}
        self._closing: ExitStack = ExitStack()
        self._queue: Queue | None = None
        self.actor: Actor = system.actor(face)
        self._permission: Permission | None = None
        self._approved: bool = False
        self.breaks_glass: bool = False
        self._overview: Overview | None = None
        self._resolver: Resolver = Resolver(self.backend, settings.base, os.environ)
        self.signing_key: SigningKey | None = None
        if settings.journal.signing_key is not None:
            self.signing_key = SigningKey(
                settings.journal.signing_key,
                resolve=self.resolve,
                backend=self.backend,
                clock=self.clock,
            )
        self.journal: SqlJournal = SqlJournal(
            settings.journal.url,
            clock=self.clock,
            actor=str(self.actor),
            password=self.resolve(settings.journal.password) if settings.journal.password else None,
            is_dead=system.is_dead,
            base=settings.base,
            upgrade=upgrade,
            check=check,
            longest_lock=_longest_lock(settings),
            key=self.signing_key.introduce if self.signing_key is not None else None,
        )
        _ = self._closing.callback(self.journal.close)
        if upgrade and self.queue is not None:
            self.queue.prepare()
        self.agenda: SqlWorklist = SqlWorklist(self.journal)
        self.observations: SqlObservations = SqlObservations(self.journal)
        self.consumers: SqlConsumers = SqlConsumers(self.journal, self.clock)
        self.requests: Requests = requests_of(
            settings,
            self.journal,
            resolve=self.resolve,
            event_key=self.journal.authenticate,
            engine=face != "cli",
        )
        self.engine: Engine = Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=self.entropy,
            log=get_log(),
            holder=system.holder,
            observer=observer,
            should_stop=should_stop,
            registry=self.consumers,
            by=self.actor.as_data(),
            leases=self.journal.leases,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            forget_variables(error)
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self._closing.close()

    # -- who may what --------------------------------------------------------------------------

    def guard(self, permission: Permission, *, approved: bool) -> None:
        """From now on require a permission for each secret that is opened or named.

        `approved`: also that no rule wants an approval first. Raises `NotPermitted` where the actor has the
        permission over no secret at all.
        """
        self._permission, self._approved = permission, approved
        if not self.breaks_glass:
            self.requests.require(self.actor, permission)

    @property
    def sees_all(self) -> bool:
        """Whether the permission of this call covers every secret."""
        permission = self._effective
        return permission is None or self.requests.access.covers_all(self.actor, permission)

    def sees(self, name: str) -> bool:
        """Return whether the permission of this call covers a secret, which nobody has named."""
        permission = self._effective
        return (
            self.sees_all or permission is None or self.requests.may(self.actor, permission, name)
        )

    @property
    def _effective(self) -> Permission | None:
        """The permission that a role must have for this call."""
        if self.breaks_glass and self._permission in ACTIONS:
            return Permission.BREAK_GLASS
        return self._permission

    def require_all(self) -> None:
        """Raise `NotPermitted` unless the permission of this call covers every secret."""
        if not self.sees_all and self._permission is not None:
            self.requests.deny(self.actor, self._permission, "every secret")

    def break_glass(self) -> None:
        """Act without the approvals that rules want. Each decision records it."""
        self.breaks_glass = True
        self.engine = self.engine.on_behalf({"break_glass": True})

    def require(self, permission: Permission, name: str, *, approved: bool = True) -> None:
        """Raise `NotPermitted` or `NeedsApproval` unless the actor may do this to a secret now."""
        if self.breaks_glass and permission in ACTIONS:
            self.requests.require(self.actor, Permission.BREAK_GLASS, name)
            return
        self.requests.require(self.actor, permission, name)
        if approved and permission in ACTIONS:
            self.requests.require_no_approval(permission, name)

    # -- secrets -------------------------------------------------------------------------------

    @property
    def overview(self) -> Overview:
        """The states of secrets, targets and the fleet."""
        with self._guard:
            if self._overview is None:
                self._overview = Overview(
                    journal=self.journal,
                    observations=self.observations,
                    secrets=self.settings.secrets,
                    now=self.clock.now,
                    default_policy=self.settings.default_policy,
                    is_dead=system.is_dead,
                    registry=self.consumers,
                )
            return self._overview

    def names(
        self,
        *,
        only: Sequence[str] = (),
        tags: Sequence[str] = (),
        everything: bool = False,
        due: bool = False,
        forgotten: bool = False,
    ) -> list[str]:
        """Return the names of the secrets meant, each once. Raises `UsageError` for unknown ones.

        A secret that is not named counts only if the permission of this call covers it. Raises `NotPermitted`
        where a name is not covered, or no secret with the tags is. `forgotten`: a name may also be one that
        only the journal knows.
        """
        chosen = [
            name
            if forgotten and self.journal.secret(name) is not None
            else self.settings.secret(name).name
            for name in only
        ]
        if self._permission is not None:
            for name in chosen:
                self.require(self._permission, name, approved=False)
        tagged = [secret.name for secret in self.settings.tagged(tags)] if tags else []
        # What a selection leaves out is no denied attempt.
        selected = [name for name in tagged if self.sees(name)]
        if everything or (due and not tags):
            selected += [name for name in self.settings.secrets if self.sees(name)]
        elif tagged and not selected and self._permission not in (None, *LOOKS):
            self.require(self._permission, tagged[0], approved=False)
        chosen += selected
        if due:
            # A forged date must not keep a secret from being rotated.
            _ = self.journal.authenticate()
            chosen = [name for name in chosen if self._may_be_due(name)]
        return list(dict.fromkeys(chosen))

    def _may_be_due(self, name: str) -> bool:
        """Return whether a secret is due. One whose record is forged counts: its rotation reports that."""
        try:
            return is_due(self.journal.secret(name), self.clock.now())
        except JournalBroken:
            return True

    def secret(self, name: str) -> ManagedSecret:
        """Return one secret, ready to be rotated."""
        if self._permission is not None:
            self.require(self._permission, name, approved=self._approved)
        return self._managed(self._as_begun(self.entry(name)))

    def _as_begun(self, chosen: SecretSettings) -> SecretSettings:
        """Return an entry with the strategy that its open rotation was begun with, to complete that.

        Another strategy would not know what is left to revoke, or to undo.
        """
        opened = self.journal.open_rotation(chosen.name)
        if opened is None or opened.strategy in ("", chosen.strategy):
            return chosen
        requested = self.journal.history(opened.id)[0].data
        begun = snapshot.remembered(chosen.name, requested, self.settings)
        return replace(chosen, target=begun.target, strategy=begun.strategy, options=begun.options)

    def lender(self, lease: LeaseRecord) -> ManagedSecret:
        """Return the secret of a lease as it was when its login was made, if it has changed since.

        Its entry may be gone, or name another target. Raises `UsageError` when the target is gone.
        """
        if self._permission is not None:
            self.require(self._permission, lease.secret)
        chosen = self.settings.secrets.get(lease.secret)
        if chosen is None or chosen.target != lease.target:
            requested = self.journal.history(lease.id)[0].data
            chosen = snapshot.remembered(lease.secret, requested, self.settings)
        return self._managed(chosen)

    def _managed(self, chosen: SecretSettings) -> ManagedSecret:
        target = self.settings.targets[chosen.target]
        return ManagedSecret(
            name=chosen.name,
            path=chosen.path,
            backend_name=chosen.backend,
            backend=self.keeper(chosen),
            target_name=chosen.target,
            rotation=self.target(chosen.target).rotation(chosen.strategy, chosen.options),
            plugin=target.plugin,
            strategy=chosen.strategy,
            policy=chosen.policy,
            tags=chosen.tags,
            consumers=chosen.consumers,
            admin_proof=self._admin_proof(chosen.name),
            copies=tuple(
                Copy(backend_name=copy.backend, backend=self.backend(copy.backend), path=copy.path)
                for copy in chosen.copies
            ),
            leases=chosen.leases,
            entry=snapshot.entry(chosen),
        )

    def _admin_proof(self, name: str) -> AdminProof | None:
        targets = self.admins_of.targets(name)
        if not targets:
            return None
        from rotator.bootstrap.admin_proof import ScratchRound  # noqa: PLC0415 # few need it

        return ScratchRound(parts=self, secret=name, targets=targets)

    def entry(self, name: str) -> SecretSettings:
        """Return the entry of a secret.

        One that the configuration no longer names comes from the journal while it is not retired.
        """
        known = self.settings.secrets.get(name) or self.forgotten(name)
        return known if known is not None else self.settings.secret(name)

    def forgotten(self, name: str) -> SecretSettings | None:
        """Return the entry that the newest rotation of a forgotten secret was begun with.

        None when the secret is not forgotten. Raises `UsageError` when too little is known of it.
        """
        record = self.journal.secret(name)
        if record is None or not self.overview.is_forgotten(record):
            return None
        opened = self.journal.open_rotation(name)
        newest = [opened] if opened is not None else self.journal.rotations(name, 1)
        if not newest:
            raise UsageError(
                f"the configuration does not name {name}, and the journal does not know its strategy.",
                hint=f"Put its entry back, or end its management: rotator retire {name}",
                safety="Nothing was changed.",
            )
        return snapshot.remembered(name, self.journal.history(newest[0].id)[0].data, self.settings)

    def backend(self, name: str) -> SecretBackend:
        """Return a backend by its name in the configuration; opened once."""
        with self._guard:
            if name not in self._backends:
                chosen = self.settings.backends.get(name)
                if chosen is None:
                    raise UsageError(
                        f"no backend is called {name!r} in {self.settings.file}.",
                        hint=plugins.near(name, self.settings.backends),
                    )
                opened = plugins.backend_plugin(chosen.type).open(
                    name, chosen.options, self.resolve, self.settings.base
                )
                self._backends[name] = opened
                if callable(close := getattr(opened, "close", None)):
                    _ = self._closing.callback(cast("Callable[[], None]", close))
            return self._backends[name]

    def keeper(self, secret: SecretSettings) -> SecretBackend:
        """Return the backend of a secret; where its target keeps it, the target's own."""
        if not secret.kept_by_target:
            return self.backend(secret.backend)
        target = self.target(secret.target)
        if not isinstance(target, KeepsSecrets):
            plugin = self.settings.targets[secret.target].plugin
            raise UsageError(
                f"the plugin `{plugin}` declares that it keeps secrets, and does not.",
                hint="This is a fault in it: its target has no `backend()`.",
            )
        return target.backend(secret.strategy, secret.options)

    def target(self, name: str) -> Target:
        """Return a target by its name in the configuration; made once."""
        with self._guard:
            if name not in self._targets:
                chosen = self.settings.targets[name]
                plugin = plugins.rotation_plugin(chosen.plugin)
                # A missing admin fails here, before any rotation begins; one that is managed may not be
                # adopted yet.
                if chosen.admin is not None and name not in self.admins_of.secrets:
                    _ = self._admin_of(name)
                target = plugin.target(name, chosen.options, self.admin_of(name))
                if isinstance(target, UsesLinkedResources):
                    target.use(TargetLinks(self, name))
                self._targets[name] = target
                _ = self._closing.callback(target.close)
            return self._targets[name]

    def admin_of(self, target: str) -> Callable[[], Credential]:
        """Return what resolves the admin of a target, afresh at each call."""
        return Admin(lambda: self._admin_of(target), lambda: self._staged_admin(target))

    def begin_with(self, secret: str, first: Credential) -> None:
        """Log in with a credential that is to be adopted, where it is the admin's of a target."""
        self._admins |= dict.fromkeys(self.admins_of.targets(secret), first)

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Call this when the application is closed."""
        _ = self._closing.callback(call)

    def close_at_end(self, target: Target) -> None:
        """Close a target that is none of the configuration's when the application is closed."""
        _ = self._closing.callback(target.close)

    def context_without_secret(self, seconds: float | None = None) -> StepContext:
        """Return the context in which a target is asked, for no secret; None: a step's time by default."""
        policy, entropy = self.settings.default_policy, self.entropy
        limit = policy.step_timeout.total_seconds() if seconds is None else seconds
        return StepContext(
            secret="",
            path="",
            rotation_id=NO_ROTATION,
            current=None,
            deadline=self.clock.monotonic() + limit,
            clock=self.clock,
            entropy=entropy,
            log=get_log(),
            new_password=lambda: policy.password.generate(entropy),
        )

    def resolve(self, reference: str) -> Secret:
        """Return the value that a reference names, looked up anew."""
        return self._resolver.secret(reference)

    def admins(self, target: str) -> frozenset[str]:
        """Return the admin logins of a target, and of others at the same host and port."""
        found: set[str] = set()
        for name in self.same_server(target):
            admin = self.settings.targets[name].admin
            if admin is not None:
                fixed = None if name in self.admins_of.secrets else admin.username
                found.add(fixed or self._admin(name).username)
        return frozenset(found)

    def same_server(self, target: str) -> frozenset[str]:
        """Return this target and the others at the same host and port."""
        server = self._server(target)
        return frozenset(
            name
            for name in self.settings.targets
            if name == target or (server is not None and self._server(name) == server)
        )

    def _server(self, target: str) -> tuple[object, object] | None:
        """Return a target's host and port, where its plugin has such options."""
        options = self.settings.targets[target].options
        host = getattr(options, "host", None)
        return None if host is None else (host, getattr(options, "port", None))

    def _admin_of(self, target: str) -> Credential:
        """Return the admin of a target. While it cannot be read, all secrets of the target wait."""
        if target in self._admins:
            return self._admins[target]
        chosen = self.settings.targets[target]
        if chosen.admin is None and plugins.rotation_plugin(chosen.plugin).info.may_have_admin:
            return Credential(username="", password=Secret(""))
        try:
            return self._admin(target)
        except (UsageError, StepError) as error:
            kind = Transient if error.kind in RETRIED else Unavailable
            away = kind(
                f"the admin of target {target!r} cannot be read: {error.what}", hint=error.hint
            )
            away.origin = f"target {target}"
            raise away from error

    def _staged_admin(self, target: str) -> Credential | None:
        """Return what an open rotation of the admin itself has staged, in the backend's own words."""
        name = self.admins_of.secrets.get(target)
        opened = self.journal.open_rotation(name) if name is not None else None
        if name is None or opened is None:
            return None
        secret = self.settings.secrets[name]
        return self.keeper(secret).staged(secret.path, opened.id)

    def _served(self, name: str) -> Credential:
        """Return the credential of a secret."""
        secret = self.settings.secret(name)
        current = self.keeper(secret).current(secret.path)
        if current is None:
            raise UsageError(
                f"secret {name} has no credential yet.",
                hint=f"Take over the login: rotator adopt {name} --username LOGIN --password-from prompt",
            )
        return current.credential

    def _admin(self, target: str) -> Credential:
        """Return what a target logs in with. Of a managed secret, the login is read too: it may change."""
        managed = self.admins_of.secrets.get(target)
        if managed is not None:
            return self._served(managed)
        admin = self.settings.targets[target].admin
        if admin is None:
            raise UsageError("this target has no admin.", hint="Its plugin needs none.")
        if admin.reference is not None:
            return self._resolver.credential(admin.reference)
        if admin.username is None or admin.password is None:
            raise UsageError(
                "the plugin asks for an admin, and its target names none.",
                hint="Name one under the target's `admin`.",
            )
        return Credential(username=admin.username, password=self.resolve(admin.password))

    # -- the daemon and its workers ------------------------------------------------------------

    @property
    def queue(self) -> Queue | None:
        """The queue that hands jobs to workers; None where the daemon's own threads do them."""
        with self._guard:
            connecting = self.journal.connecting()
            if self.settings.daemon.dispatch is Dispatch.THREADS or connecting is None:
                return None
            if self._queue is None:
                try:
                    from rotator.dispatch.job_queue import Queue  # noqa: PLC0415 # needs an extra
                except ImportError as error:
                    raise UsageError(
                        f"daemon.dispatch: procrastinate needs a package that is not there: {error.name}.",
                        hint="pip install 'credential-rotator[queue]'",
                    ) from error
                self._queue = Queue(connecting, self.journal.place)
                _ = self._closing.callback(self._queue.close)
            return self._queue

    def check_queue(self) -> None:
        """Refuse a queue that is missing or of another version. Raises `JournalError`."""
        if self.queue is not None:
            self.queue.check()

    def worker(self, *, tell: Callable[[Topic, str, Mapping[str, Json]], None]) -> Worker:
        """Return the runner of single jobs; `tell` sends notifications."""
        return Worker(
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            log=get_log(),
            holder=system.holder,
            secret=self.secret,
            partners=self.settings.partners,
            tell=tell,
            requests=self.requests,
            actor=self.actor,
            leases=self.journal.leases,
            lender=self.lender,
            marked=self.marked,
        )

    def marked(
        self, secret: ManagedSecret
    ) -> Callable[[StepContext], Sequence[MarkedLogin]] | None:
        """Return what lists the marked logins of a secret's target; None where it lists none."""
        target = self.target(secret.target_name)
        return target.marked if isinstance(target, ListsMarked) else None

    def dispatcher(
        self, *, pool: Pool, tell: Callable[[Topic, str, Mapping[str, Json]], None]
    ) -> Dispatcher:
        """Return the dispatcher of due work: to `pool`, or to the queue's workers."""
        settings, log, queue = self.settings, get_log(), self.queue
        self.check_queue()
        if queue is None:
            executor: Executor = ThreadExecutor(pool, self.worker(tell=tell))
        else:
            from rotator.dispatch.job_queue import QueueExecutor  # noqa: PLC0415 # as above

            executor = QueueExecutor(queue, self.clock)
        return Dispatcher(
            secrets=settings.secrets,
            secret=self.secret,
            hands=executor,
            engine=self.engine,
            journal=self.journal,
            agenda=self.agenda,
            duty=settings.daemon,
            clock=self.clock,
            leases=self.journal.leases,
            log=log,
            tell=tell,
            faults=Outages(observations=self.observations, log=log, tell=tell),
            forgotten=self.forgotten,
            requests=self.requests.ready,
        )


def _longest_lock(settings: Settings) -> timedelta:
    """Return how long a lock may last by these policies: a worker's lasts for all the steps."""
    rotations = [secret.policy.step_timeout * len(Step) for secret in settings.secrets.values()]
    return max([LONGEST_LOCK, *(rotation + WRITING for rotation in rotations)])
