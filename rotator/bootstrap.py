"""Builds the application from its settings: the only place that names concrete classes."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from rotator import plugins, system, trusted_files
from rotator.backends.encryption import create_key_file
from rotator.config import load, snapshot
from rotator.core import durations
from rotator.core.daemon_settings import Dispatch, Topic
from rotator.core.errors import (
    RETRIED,
    Denied,
    JournalBroken,
    JournalError,
    RotatorError,
    StepError,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.core.frames import forget_variables
from rotator.core.history import text, texts
from rotator.core.model import (
    LONGEST_LEASE,
    NO_ROTATION,
    Credential,
    Event,
    Finding,
    Kind,
    NewEvent,
    Severity,
    Step,
)
from rotator.core.observations import Observation, ObservationKind
from rotator.core.ports import (
    Access,
    DetectsRestores,
    Examines,
    ExaminesBackend,
    ExaminesTarget,
    KeepsSecrets,
    KeepsValues,
    ListsMarked,
    StepContext,
    TellsRotations,
    TriesLogins,
    UsesLinkedResources,
    WorksThrough,
    WritesPolicy,
)
from rotator.core.schedule import ROTATION_TAKES, is_due, room, timing
from rotator.core.secret import Secret
from rotator.dispatch.dispatcher import Dispatcher
from rotator.dispatch.executor import ThreadExecutor
from rotator.dispatch.outages import Outages
from rotator.dispatch.worker import Worker
from rotator.engine import Copy, Engine, ManagedSecret
from rotator.engine.delegated import is_delegated
from rotator.engine.steps import require_wrong_password_rejected
from rotator.journal import audit, chain, definitions, migrate
from rotator.journal.checkpoints import Anchor, checkpoint, introduce, require
from rotator.journal.event_key import EventKey
from rotator.journal.export import export
from rotator.journal.observations import SqlObservations
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.linked_resources import TargetLinks
from rotator.notify import Notifier
from rotator.observe import get_log
from rotator.references import Resolver, parse
from rotator.secret_state import Overview, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from rotator.config import Settings
    from rotator.config.model import AdminSettings, SecretSettings
    from rotator.core.model import Json
    from rotator.core.ports import Right, SecretBackend, Target
    from rotator.dispatch.executor import Executor, Pool
    from rotator.dispatch.job_queue import Queue
    from rotator.engine.steps import Steps
    from rotator.journal.report import AuditReport

_ANCHOR_FIELD: Final = "anchor"
# The lease of what only writes to the journal.
_WRITING: Final = timedelta(seconds=60)
# A part of hints that is true of a rotation and of nothing that only looks.
_RETRIED: Final = "tried again"
# So much of one secret is looked at where all of it is meant.
_MANY: Final = 10_000
# After so many paths at which a backend did not answer it is not asked for any more.
_SILENT: Final = 3
# Of names in one line.
_SHOWN: Final = 5


@dataclass(slots=True, kw_only=True)
class _Held:
    """What backends hold, to be compared with the journal; by secret why one cannot be read."""

    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    put_back: list[audit.PutBack] = field(default_factory=list[audit.PutBack])
    damaged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    unread: dict[str, str] = field(default_factory=dict[str, str])


class App:
    """Everything that a face needs, put together. Parts are made when they are first asked for."""

    def __init__(
        self,
        settings: Settings,
        *,
        face: str = "cli",
        observer: Callable[[Event], None] | None = None,
        upgrade: bool = False,
        check: bool = True,
        admins: Mapping[str, Credential] | None = None,
    ) -> None:
        """Open the journal; backends and targets wait. Raises `JournalError` or `UsageError`.

        `admins`: of targets whose own reference names nothing yet.
        """
        self.settings: Settings = settings
        self._admins: Mapping[str, Credential] = admins or {}
        self.clock: system.SystemClock = system.SystemClock()
        self.entropy: system.SystemEntropy = system.SystemEntropy()
        self._guard: threading.RLock = threading.RLock()
        self._backends: dict[str, SecretBackend] = {}
        self._targets: dict[str, Target] = {}
        self._closing: ExitStack = ExitStack()
        self._queue: Queue | None = None
        self._overview: Overview | None = None
        self._restoring: bool = False
        self._resolver: Resolver = Resolver(self.backend, settings.base, os.environ)
        self.journal: SqlJournal = SqlJournal(
            settings.journal.url,
            clock=self.clock,
            actor=system.actor(face),
            password=self.resolve(settings.journal.password) if settings.journal.password else None,
            is_dead=system.is_dead,
            base=settings.base,
            upgrade=upgrade,
            check=check,
            longest_lease=_longest_lease(settings),
            key=self._event_key if settings.journal.signing_key is not None else None,
        )
        _ = self._closing.callback(self.journal.close)
        if upgrade and self.queue is not None:
            self.queue.prepare()
        self.agenda: SqlWorklist = SqlWorklist(self.journal)
        self.observations: SqlObservations = SqlObservations(self.journal)
        self.engine: Engine = Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=self.entropy,
            log=get_log(),
            holder=system.holder,
            observer=observer,
        )

    def __enter__(self) -> App:
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

    # -- secrets -------------------------------------------------------------------------------

    @property
    def overview(self) -> Overview:
        """What answers how secrets, targets and the fleet are."""
        with self._guard:
            if self._overview is None:
                self._overview = Overview(
                    journal=self.journal,
                    observations=self.observations,
                    secrets=self.settings.secrets,
                    now=self.clock.now,
                    default_policy=self.settings.default_policy,
                    is_dead=system.is_dead,
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

        `forgotten`: a name may also be one that only the journal knows.
        """
        chosen = [
            name
            if forgotten and self.journal.secret(name) is not None
            else self.settings.secret(name).name
            for name in only
        ]
        if tags:
            chosen += [one.name for one in self.settings.tagged(tags)]
        if everything or due:
            chosen += list(self.settings.secrets)
        if due:
            # A date that no rotator wrote must not keep a secret from being rotated.
            _ = self.journal.authenticate()
            chosen = [name for name in chosen if self._may_be_due(name)]
        return list(dict.fromkeys(chosen))

    def _may_be_due(self, name: str) -> bool:
        """Return whether a secret is due; one whose record is forged fails in its own turn."""
        try:
            return is_due(self.journal.secret(name), self.clock.now())
        except JournalBroken:
            return True

    def secret(self, name: str) -> ManagedSecret:
        """Return one secret, ready to be rotated."""
        chosen = self.entry(name)
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
            copies=tuple(
                Copy(backend_name=one.backend, backend=self.backend(one.backend), path=one.path)
                for one in chosen.copies
            ),
            entry=snapshot.entry(chosen),
        )

    def entry(self, name: str) -> SecretSettings:
        """Return the entry of a secret.

        One that the configuration no longer names comes from the journal while it is not retired.
        """
        found = self.settings.secrets.get(name) or self.forgotten(name)
        return found if found is not None else self.settings.secret(name)

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
        """Return what keeps a secret: a backend, or its target itself."""
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
                # Looked up once before anything begins, so that no rotation is begun without it.
                if chosen.admin is not None:
                    _ = self._admin_of(name)
                made = plugin.target(name, chosen.options, lambda: self._admin_of(name))
                if isinstance(made, UsesLinkedResources):
                    made.use(TargetLinks(self, name))
                self._targets[name] = made
                _ = self._closing.callback(made.close)
            return self._targets[name]

    def resolve(self, reference: str) -> Secret:
        """Return the value that a reference names, looked up anew."""
        return self._resolver.secret(reference)

    def admins(self, target: str) -> frozenset[str]:
        """Return the admin logins of a target, and of others at the same host and port."""
        place = self._place(target)
        found: set[str] = set()
        for name, one in self.settings.targets.items():
            same = name == target or (place is not None and self._place(name) == place)
            if one.admin is not None and same:
                found.add(one.admin.username or self._admin(one.admin).username)
        return frozenset(found)

    def _place(self, target: str) -> tuple[object, object] | None:
        """Return a target's host and port, where its plugin has such options."""
        options = self.settings.targets[target].options
        host = getattr(options, "host", None)
        return None if host is None else (host, getattr(options, "port", None))

    def _admin_of(self, target: str) -> Credential:
        """Return the admin of a target. Where it cannot be read, all secrets of the target wait."""
        if target in self._admins:
            return self._admins[target]
        try:
            return self._admin(self.settings.targets[target].admin)
        except (UsageError, StepError) as error:
            kind = Transient if error.kind in RETRIED else Unavailable
            away = kind(
                f"the admin of target {target!r} cannot be read: {error.what}", hint=error.hint
            )
            away.origin = f"target {target}"
            raise away from error

    def _admin(self, admin: AdminSettings | None) -> Credential:
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
        """The queue by which daemons hand out work, None where their own threads do it."""
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
        """Refuse a queue that is not there or of another version. Raises `JournalError`."""
        if self.queue is not None:
            self.queue.check()

    def worker(self, *, tell: Callable[[Topic, str, Mapping[str, Json]], None]) -> Worker:
        """Return what does one job; `tell` is told what others want to know."""
        return Worker(
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            log=get_log(),
            holder=system.holder,
            secret=self.secret,
            partners=self.settings.partners,
            tell=tell,
        )

    def dispatcher(
        self, *, pool: Pool, tell: Callable[[Topic, str, Mapping[str, Json]], None]
    ) -> Dispatcher:
        """Return what finds due work and has it done: in `pool`, or by the queue's workers."""
        settings, log, queue = self.settings, get_log(), self.queue
        self.check_queue()
        if queue is None:
            hands: Executor = ThreadExecutor(pool, self.worker(tell=tell))
        else:
            from rotator.dispatch.job_queue import QueueExecutor  # noqa: PLC0415 # as above

            hands = QueueExecutor(queue, self.clock)
        return Dispatcher(
            secrets=settings.secrets,
            secret=self.secret,
            hands=hands,
            engine=self.engine,
            journal=self.journal,
            agenda=self.agenda,
            duty=settings.daemon,
            clock=self.clock,
            log=log,
            tell=tell,
            faults=Outages(observations=self.observations, log=log, tell=tell),
            forgotten=self.forgotten,
        )

    # -- the journal ---------------------------------------------------------------------------

    def checkpoint(self) -> Anchor | None:
        """Sign what has been written, where a signing key is configured; None when nothing was new.

        The checkpoint's number and hash are also kept beside the key, out of the database's reach.
        """
        place = self.settings.journal.signing_key
        if place is None:
            return None
        kept = self._anchor(place)
        anchor = checkpoint(self.journal, self.resolve(place), self.clock.now(), anchor=kept)
        if anchor is not None:
            get_log().info("checkpoint", number=anchor.number, hash=anchor.hash)
            # Another process may have signed a newer one meanwhile; the anchor never goes back, and is
            # never replaced by a checkpoint that does not follow it.
            kept = self._anchor(place)
            if kept is None or kept.number < anchor.number:
                if kept is not None:
                    with self.journal.reading() as db:
                        require(db, kept)
                self._keep_anchor(place, anchor)
        return anchor

    def watch_journal(self) -> AuditReport:
        """Check the journal's definitions and records; see `checkpoint` for its events."""
        return audit.verify_records(self.journal, self.journal.authenticate())

    def verify_journal(
        self,
        public_key: str | None = None,
        *,
        without: Collection[str] = (),
        seen_by_witness: Sequence[Anchor] = (),
    ) -> AuditReport:
        """Check the whole journal, with everything that is known of it from outside.

        `without`: backends that are away, and are not asked what they have seen. `seen_by_witness`:
        the checkpoints that a witness has seen.
        """
        place = self.settings.journal.signing_key
        anchor, spoilt, key = None, None, None
        if place is not None:
            key = self.event_key()
            public_key = public_key or key.public
            try:
                anchor = self._anchor(place)
            except JournalBroken as error:
                spoilt = error.what
        held = self._held_by_backends(without)
        report = audit.verify(
            self.journal,
            public_key=public_key,
            anchor=anchor,
            seen=held.seen,
            key=key,
            witnessed=seen_by_witness,
            put_back=held.put_back,
        )
        if spoilt is not None:
            report.add("anchor", spoilt)
        for where, what in held.damaged:
            report.add(where, what)
        for name, why in held.unread.items():
            report.skip(f"secret {name}", why)
        return report

    def _held_by_backends(self, without: Collection[str]) -> _Held:
        """Ask the backends of all secrets what they hold.

        What somebody has written at one path keeps nobody from comparing the others. A backend that is
        away is not asked for each of its secrets.
        """
        held, away = _Held(), dict[str, str]()
        silent: Counter[str] = Counter()
        for chosen in self.settings.secrets.values():
            if chosen.backend in without:
                continue
            if chosen.backend in away:
                held.unread[chosen.name] = away[chosen.backend]
                continue
            backend = self.keeper(chosen)
            try:
                if isinstance(backend, TellsRotations):
                    held.seen[chosen.name] = backend.rotation_ids(chosen.path)
                found = self._put_back(chosen, backend)
            except StepError as error:
                if isinstance(error, Denied) and isinstance(backend, DetectsRestores):
                    # It authenticates what it holds.
                    held.damaged.append((f"backend {chosen.backend}, {chosen.path}", error.what))
                    continue
                held.unread[chosen.name] = error.what
                silent[chosen.backend] += isinstance(error, Transient)
                if isinstance(error, Unavailable) or silent[chosen.backend] == _SILENT:
                    away[chosen.backend] = error.what
            else:
                held.put_back += [found] if found is not None else []
        return held

    def _put_back(self, secret: SecretSettings, backend: SecretBackend) -> audit.PutBack | None:
        """Return what shows that a backend was put back to an older copy of itself."""
        if not isinstance(backend, DetectsRestores):
            return None
        served = backend.served(secret.path)
        try:
            record, events = self.journal.secret(secret.name), list[Event]()
            if record is not None and record.version not in (None, served):
                events = self.journal.events(secret.name, _MANY)
        except JournalBroken:
            return None
        if record is None or record.version is None or not events:
            return None
        place = (secret.backend, secret.path)
        made = [text(one.data, "version") for one in events if _makes_current(one)]
        # Asked again: meanwhile another process may have made another version current.
        if (
            made[-1:] != [record.version]
            or (served is not None and served not in made)
            or _place_of(events, record.version) != place
            or (events[-1].step is Step.RESTORE and events[-1].kind is not Kind.FINISHED)
            or backend.served(secret.path) != served
        ):
            return None
        return audit.PutBack(
            backend=secret.backend, path=secret.path, served=served, recorded=record.version
        )

    def acknowledge(self, reason: str) -> AuditReport:
        """Write down, signed where there is a key, that the journal was put back to an older state.

        Returns what was found; raises `UsageError` when a restore does not explain all of it.
        """
        report = self.verify_journal()
        other = [one for one in report.damage if one.restore is None]
        if other or not report.damage:
            raise UsageError(
                f"{other[0].where}: {other[0].what}; no restore explains that."
                if other
                else "there is nothing to acknowledge: the journal is sound.",
                hint="rotator audit verify" if other else "",
                safety="Nothing was changed.",
            )
        event = NewEvent(
            kind=Kind.ACKNOWLEDGED,
            data={
                "reason": reason,
                "restores": [one.restore for one in report.damage],
                "damage": [{"where": one.where, "what": one.what} for one in report.damage],
            },
        )
        self._restoring = True
        lease = self.journal.acquire(audit.JOURNAL, system.holder(), _WRITING)
        try:
            _ = self.journal.append(lease, [event], _WRITING)
        finally:
            self.journal.release(lease)
        place = self.settings.journal.signing_key
        if place is not None:
            anchor = checkpoint(self.journal, self.resolve(place), self.clock.now())
            if anchor is not None:
                # The one that was kept is of the time before the restore.
                self._keep_anchor(place, anchor)
        return report

    def public_key(self) -> str | None:
        """Return the public half of the signing key (PEM), None when there is no such key."""
        place = self.settings.journal.signing_key
        return None if place is None else chain.public_key(self.resolve(place))

    def export_journal(self, folder: Path, form: Literal["jsonl", "csv"]) -> list[Path]:
        """Write the journal into files that an outsider can verify; signed where there is a key."""
        place = self.settings.journal.signing_key
        key = self.resolve(place) if place is not None else None
        return export(self.journal, folder, form, now=self.clock.now(), signing_key=key)

    def event_key(self) -> EventKey:
        """Return the key that authenticates events. Raises `UsageError` where none is configured."""
        place = self.settings.journal.signing_key
        if place is None:
            raise UsageError(
                "the configuration names no signing key.",
                hint="Set journal.signing_key; `rotator init` shows how.",
            )
        return EventKey.derive(self.resolve(place))

    def _event_key(self, journal: SqlJournal) -> EventKey:
        """Return the key that authenticates events; the journal learns of it when it is used first."""
        place = self.settings.journal.signing_key or ""
        try:
            signing_key, anchor = self.resolve(place), self._anchor(place)
            key = EventKey.derive(signing_key)
        except JournalError:
            raise
        except RotatorError as error:
            raise JournalError(
                f"the journal's signing key cannot be read: {error.what}",
                safety="Without it nothing is written into the journal, so there is no effect.",
                hint=error.hint,
            ) from error
        # A journal that was put back may be of the time before the key; that is acknowledged then.
        known = None if self._restoring else anchor
        made = introduce(journal, signing_key, self.clock.now(), anchor=known)
        if made is not None:
            get_log().info("events are authenticated", key=key.id, checkpoint=made.number)
            if not self._restoring:
                self._keep_anchor(place, made)
        return key

    def _anchor(self, place: str) -> Anchor | None:
        """Return the checkpoint that is kept beside the signing key."""
        keeper, path = self._beside_key(place)
        kept = keeper.get_value(path, _ANCHOR_FIELD) if keeper is not None else None
        return None if kept is None else Anchor.parse(kept.reveal())

    def _keep_anchor(self, place: str, anchor: Anchor) -> None:
        keeper, path = self._beside_key(place)
        if keeper is not None:
            keeper.put_value(path, _ANCHOR_FIELD, Secret(anchor.text()))

    def _beside_key(self, place: str) -> tuple[KeepsValues | None, str]:
        reference = parse(place)
        if reference.scheme in ("env", "file"):
            return None, ""
        backend = self.backend(reference.scheme)
        return (backend if isinstance(backend, KeepsValues) else None), reference.path

    def crowded(self) -> list[Finding]:
        """Return the policies whose windows are too short for the secrets that have them."""
        by_policy: dict[str, list[str]] = {}
        for one in self.settings.secrets.values():
            by_policy.setdefault(timing(one.policy), []).append(one.name)
        found: list[Finding] = []
        limits, now = self.settings.daemon.limits, self.clock.now()
        for names in by_policy.values():
            first = self.settings.secrets[names[0]]
            targets = len({self.settings.secrets[name].target for name in names})
            backends = len({self.settings.secrets[name].backend for name in names})
            parallel = min(limits.total, limits.per_target * targets, limits.per_backend * backends)
            fits = room(first.policy, now, parallel)
            if fits is not None and len(names) > fits:
                message = (
                    f"{len(names)} secrets have the policy of {first.name}, and its windows have room for"
                    f" {fits} in one period, {parallel} at once and"
                    f" {durations.write(ROTATION_TAKES)} each: some will be overdue"
                )
                remedy = "Open the windows for longer, raise `every`, or raise daemon.limits."
                found.append(_finding(Severity.WARNING, "schedule", message, remedy))
        return found

    # -- doctor --------------------------------------------------------------------------------

    def doctor(self, names: Sequence[str]) -> list[Finding]:
        """Look at everything that a rotation of these secrets needs; nothing is changed by it."""
        found: list[Finding] = []
        chosen = [self.settings.secrets[name] for name in names]
        places = [one.backend for one in chosen if not one.kept_by_target]
        places += [copy.backend for one in chosen for copy in one.copies]
        away: set[str] = set()
        for name in dict.fromkeys(places):
            try:
                found += self._examine_backend(name, names)
            except RotatorError as error:
                away.add(name)
                found.append(_of_error(f"backend {name}", error))
        for one in chosen:
            if one.kept_by_target:
                found += _guarded(f"target {one.target}", lambda one=one: self._examine_keeper(one))
        if set(names) >= set(self.settings.secrets):
            used = {one.target for one in chosen}
            for name in self.settings.targets:
                if name not in used:
                    found += self.examine_target(name)
        for name in names:
            look = self._examine_secret
            if self.settings.secrets[name].backend in away:
                # The backend's findings are reported once; its target can be looked at all the same.
                look = self._examine_target
            found += _guarded(f"secret {name}", lambda name=name, look=look: look(name))
        for name in dict.fromkeys(one.target for one in chosen):
            found += _guarded(f"target {name}", lambda name=name: self._examine_orphans(name))
        found += _guarded("journal", lambda: self._examine_states(names, found))
        found += _guarded("journal", lambda: self._examine_journal(away))
        found += self.crowded()
        found += self._examine_notifications()
        return _once(found)

    def examine_new(self, target: str, secret: str | None) -> list[Finding]:
        """Look at a target that nothing is rotated on yet, and at the first secret there."""
        found = self.examine_target(target)
        if secret is not None and not any(one.severity is Severity.ERROR for one in found):
            found += _guarded(f"secret {secret}", lambda: self._examine_secret(secret))
        return _once(found)

    def examine_target(self, name: str) -> list[Finding]:
        """Look at a target whatever its secrets are: can its admin log in and rotate there?"""
        return _guarded(f"target {name}", lambda: self._examine_idle(name))

    def _examine_idle(self, name: str) -> list[Finding]:
        target = self.target(name)
        found = target.examine(self._look()) if isinstance(target, ExaminesTarget) else []
        if isinstance(target, TriesLogins) and all(
            one.severity is not Severity.ERROR for one in found
        ):
            require_wrong_password_rejected(name, target, self._look(), entropy=self.entropy)
            found.append(_finding(Severity.OK, f"target {name}", "refuses a wrong password"))
        return found

    def _look(self) -> StepContext:
        """Return the context of a look at a target, for no secret."""
        policy = self.settings.default_policy
        return StepContext(
            secret="",
            path="",
            rotation_id=NO_ROTATION,
            current=None,
            deadline=self.clock.monotonic() + policy.step_timeout.total_seconds(),
            clock=self.clock,
            entropy=self.entropy,
            log=get_log(),
            new_password=lambda: policy.password.generate(self.entropy),
        )

    def _examine_backend(self, name: str, names: Sequence[str]) -> list[Finding]:
        backend = self.backend(name)
        chosen = [self.settings.secrets[one] for one in names]
        paths = {path: one.policy.every for one in chosen for path in one.paths(name)}
        if not isinstance(backend, ExaminesBackend):
            _ = [backend.current(path) for path in paths]
            return [_finding(Severity.OK, f"backend {name}", "can be read")]
        try:
            return backend.examine(paths)
        except Unavailable:
            raise
        except StepError:
            # What is wrong at one path says nothing of the others.
            looks = {path: partial(backend.examine, {path: every}) for path, every in paths.items()}
        subject = f"backend {name}"
        return [one for path, look in looks.items() for one in _guarded(f"{subject}, {path}", look)]

    def _examine_keeper(self, kept: SecretSettings) -> list[Finding]:
        """Let a target that keeps this secret itself look at it."""
        backend = self.keeper(kept)
        if isinstance(backend, ExaminesBackend):
            return backend.examine({kept.path: kept.policy.every})
        _ = backend.current(kept.path)
        return [_finding(Severity.OK, f"target {kept.target}", f"{kept.path} can be read")]

    def _examine_target(self, name: str) -> list[Finding]:
        """Look at the target of a secret whose backend is away: whether rotations would work there."""
        secret = self.secret(name)
        if not isinstance(secret.rotation, Examines):
            return []
        steps = self.engine.steps(secret)
        found = secret.rotation.examine(None, steps.context(None))
        return [one for one in found if one.subject.startswith("target ")]

    def _examine_plan(self, secret: ManagedSecret) -> list[Finding]:
        """Return nothing where a rotation can be planned; what keeps it from that is raised."""
        _ = self.engine.plan(secret)
        return []

    def _examine_states(self, names: Sequence[str], found: Sequence[Finding]) -> list[Finding]:
        """Return what `rotator status` shows of these secrets, and what they have been mended of."""
        everything = set(names) >= set(self.settings.secrets)
        fleet = self.overview.fleet(None if everything else names)
        rejected = {one.subject for one in found if one.severity is Severity.ERROR}
        shown: list[Finding] = []
        for one in fleet.secrets:
            subject = f"secret {one.name}"
            if one.state is State.REFUSED and one.name in names:
                # This look is the newer one.
                if subject not in rejected:
                    message = "the last check was rejected; its login works now"
                    remedy = f"Record that: rotator verify {one.name}"
                    shown.append(_finding(Severity.WARNING, subject, message, remedy))
            elif one.state is not State.DRIFT and one.severity is not Severity.OK:
                message = f"{one.state}: {one.cause.removesuffix('.')}"
                shown.append(_finding(one.severity, subject, message, one.hint))
        return shown

    def _examine_orphans(self, name: str) -> list[Finding]:
        """Look for logins that bear the mark of one of our secrets and that the journal does not know."""
        target = self.target(name)
        if not isinstance(target, ListsMarked):
            return []
        secrets = [one for one in self.settings.secrets.values() if one.target == name]
        ctx = self.engine.steps(self.secret(secrets[0].name)).context(None)
        records = {one.name: one for one in self.journal.secrets()}
        served = {one.login for one in records.values()}
        names = list(dict.fromkeys([*(one.name for one in secrets), *records]))
        # None where the backend cannot be read: it may serve any login.
        known: dict[str, set[str] | None] = {}
        orphans: list[Observation] = []
        for one in target.marked(ctx):
            if not one.can_login or one.login in served:
                continue
            owner = next((secret for secret in names if one.is_of(secret)), None)
            if owner is None:
                continue
            if owner not in known:
                known[owner] = self._answered_for(owner)
            answered_for = known[owner]
            if answered_for is not None and one.login not in answered_for:
                what = f"login {one.login!r} bears the mark of secret {owner}, and the journal does not know it."
                hint = f"If nothing uses it, on {name}: {one.remove}"
                subject = f"{name}/{one.login}"
                data: dict[str, Json] = {"what": what, "hint": hint}
                now = self.clock.now()
                orphans.append(
                    Observation(kind=ObservationKind.ORPHAN, subject=subject, at=now, data=data)
                )
        self.observations.replace(ObservationKind.ORPHAN, f"{name}/", orphans)
        return [
            _finding(
                Severity.ERROR,
                f"target {name}",
                f"orphan: {one.data['what']}",
                f"{one.data['hint']}",
            )
            for one in orphans
        ]

    def _answered_for(self, name: str) -> set[str] | None:
        """Return the logins that are no orphans; None where the backend cannot say what it serves."""
        try:
            return self._known_logins(name) | self._served(name)
        except StepError:
            # The look at that secret reports it.
            return None

    def _served(self, name: str) -> set[str]:
        """Return the login that the backend serves, made by us or not: an application may use it."""
        secret = self.secret(name)
        current = secret.backend.current(secret.path)
        return {current.credential.username} if current is not None else set()

    def _known_logins(self, name: str) -> set[str]:
        """Return the logins of a secret that the journal can answer for: in use, left, or proven dead."""
        record = self.journal.secret(name)
        if record is None:
            return set()
        found = {*record.adopted, *((record.login,) if record.login else ())}
        for one in self.journal.rotations(name, _MANY):
            if one.ended_at is None:
                found |= {login for login in (one.old_login, one.new_login) if login}
            elif one.old_refused and one.old_login:
                found.add(one.old_login)
        for event in self.journal.events(name, _MANY):
            if event.kind is Kind.RETIRED:
                found |= {text(event.data, "login") or "", *texts(event.data, "logins_left")}
        if record.renamed_to is not None:
            found |= self._known_logins(record.renamed_to)
        return found

    def _examine_secret(self, name: str) -> list[Finding]:
        secret, subject = self.secret(name), f"secret {name}"
        found: list[Finding] = []
        current = secret.backend.current(secret.path)
        credential = current.credential if current else None
        steps = self.engine.steps(secret)
        if isinstance(secret.rotation, Examines):
            found += secret.rotation.examine(credential, steps.context(credential))
        if any(one.severity is Severity.ERROR for one in found):
            planned = _guarded(subject, lambda: self._examine_plan(secret))
            told = {one.remedy for one in found}
            return [*found, *(one for one in planned if one.remedy not in told)]
        steps.control(credential.username if credential else None)
        found.append(
            _finding(Severity.OK, f"target {secret.target_name}", "refuses a wrong password")
        )
        record = self.journal.secret(name)
        found += _guarded(subject, lambda: self._examine_copies(secret, credential, steps))
        if credential is None:
            message = "nothing is published yet: the first rotation creates its login"
            found.append(_finding(Severity.OK, subject, message))
        elif not secret.rotation.probe(credential, steps.context(credential)):
            why = steps.rejection(credential)
            message = f"the target rejects login {credential.username!r} with what the backend serves{why.because}"
            remedy = (
                why.hint or f"Put the right password into the backend, or: rotator rotate {name}"
            )
            if is_delegated(secret):
                remedy = f"Have another one made: rotator rotate {name}"
            found.append(_finding(Severity.ERROR, subject, message, remedy))
        else:
            found.append(_finding(Severity.OK, subject, f"login {credential.username!r} works"))
        found += _guarded(subject, lambda: self._examine_second(secret, credential))
        chosen = self.entry(name)
        restored = self._put_back(chosen, secret.backend)
        if restored is not None:
            message = f"{restored.where}: {restored}"
            remedy = f"Put its newest copy back. If that is lost and the login works: rotator adopt {name}"
            found.append(_finding(Severity.ERROR, subject, message, remedy))
        elif current is not None and (record is None or record.version != current.id):
            message = f"the journal does not know version {current.id}, which the backend serves"
            remedy = f"Take it over: rotator adopt {name}"
            if record is not None and is_delegated(secret):
                message += ": it was rotated by itself"
                remedy = f"Have that written down: rotator verify {name}"
            found.append(_finding(Severity.WARNING, subject, message, remedy))
        found += _guarded(subject, lambda: self._examine_plan(secret))
        if secret.rotation.overlaps and secret.policy.grace.total_seconds() < 3600:  # noqa: PLR2004 # an hour
            message = f"its grace period is {durations.write(secret.policy.grace)}: consumers that cache a credential longer are refused"
            found.append(
                _finding(Severity.WARNING, subject, message, "Set `grace` to an hour or more.")
            )
        return found

    def _examine_second(
        self, secret: ManagedSecret, credential: Credential | None
    ) -> list[Finding]:
        """Tell of a second login that exists and that the next rotation could not take."""
        self.engine.require_no_second(secret, credential)
        return []

    def _examine_copies(
        self, secret: ManagedSecret, credential: Credential | None, steps: Steps
    ) -> list[Finding]:
        """Tell of copies that could not be written, or do not hold what the backend serves."""
        steps.copies.check(credential)
        found: list[Finding] = []
        for stale in steps.copies.stale(credential) if credential is not None else ():
            message = f"the copy {stale} does not hold what the backend serves"
            remedy = "The next rotation writes it."
            found.append(_finding(Severity.WARNING, f"secret {secret.name}", message, remedy))
        return found

    def _examine_notifications(self) -> list[Finding]:
        """Look whether notices could be delivered, without sending one."""
        found: list[Finding] = []
        notifier = Notifier(self.settings.notifications, self.resolve, get_log())
        for number, to in enumerate(self.settings.notifications, 1):
            subject, why = f"notification {number} ({to.type})", notifier.unreachable(to)
            if why is None:
                found.append(_finding(Severity.OK, subject, "can be reached; no notice was sent"))
            else:
                remedy = "Correct `notifications`, then: rotator notify test"
                found.append(_finding(Severity.ERROR, subject, f"cannot be used: {why}", remedy))
        return found

    def _examine_witness(self) -> list[Finding]:
        """Return a warning where one copy of one folder puts everything back that proves something."""
        place, journal = self.settings.journal.signing_key, self.journal.url
        told = any(Topic.CHECKPOINT in one.topics for one in self.settings.notifications)
        if place is None or told or journal.get_backend_name() != "sqlite":
            return []
        backend = self.settings.backends[parse(place).scheme]
        file = getattr(backend.options, "path", None)
        here = _folder_of(journal.database, self.settings.base)
        if backend.type != "local" or file is None or _folder_of(file, self.settings.base) != here:
            return []
        message = (
            "journal, backend and signing key are in one folder: an older copy of it is not found"
        )
        remedy = "Send checkpoints to a witness: docs/journal.md, Witnesses."
        return [_finding(Severity.WARNING, "witness", message, remedy)]

    def _examine_journal(self, away: Collection[str]) -> list[Finding]:
        report = self.verify_journal(without=away)
        if report.ok:
            message = f"{report.events} events, sound"
            missed = [*sorted(away), *(one.where for one in report.unread)]
            if missed:
                message += f"; not compared with {', '.join(missed[:_SHOWN])}"
                message += f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
            if report.acknowledged:
                reasons = ", ".join(sorted({why for _, why in report.acknowledged}))
                message += f"; restores acknowledged: {reasons}"
            found = [_finding(Severity.OK, "journal", message)]
        else:
            first = report.damage[0]
            message = f"{len(report.damage)} place(s) are not as they were written, first {first.where}: {first.what}"
            remedy = "See: rotator audit verify"
            if all(one.restore is not None for one in report.damage):
                remedy += ". After a restore: rotator audit acknowledge --reason WHY"
            found = [_finding(Severity.ERROR, "journal", message, remedy)]
        with self.journal.reading() as db:
            if db.dialect.name != "sqlite" and definitions.owns(db):
                message = "its login owns the tables, so it can drop the triggers that keep events as they are"
                remedy = "Give it a login with fewer rights: docs/journal.md, On PostgreSQL."
                found.append(_finding(Severity.WARNING, "journal", message, remedy))
        found += self._examine_witness()
        if self.settings.journal.signing_key is None:
            message = "no signing key: a tail that is cut off cannot be told from one never written"
            remedy = "Set journal.signing_key; `rotator init` shows how."
            found.append(_finding(Severity.WARNING, "journal", message, remedy))
        return found


def _makes_current(event: Event) -> bool:
    """Return whether an event records that a version became current."""
    if event.kind is Kind.ADOPTED:
        return event.data.get("served") is not False
    is_step = event.kind is Kind.FINISHED and event.step in (Step.PUBLISH, Step.RESTORE)
    return is_step or event.kind is Kind.FOLLOWED


def _place_of(events: Sequence[Event], version: str) -> tuple[str | None, str | None]:
    """Return the backend and path where a version became current: the entry may have been changed."""
    last = next(
        one for one in events[::-1] if _makes_current(one) and text(one.data, "version") == version
    )
    # An adoption names the place, and so does a rotation's first event.
    named = [last, *(one for one in events if one.rotation_id == last.rotation_id)]
    data = next((one.data for one in named if "path" in one.data), {})
    return text(data, "backend"), text(data, "path")


def _folder_of(file: object, base: Path) -> Path:
    return (base / str(file)).expanduser().resolve().parent


def _longest_lease(settings: Settings) -> timedelta:
    """Return how long a lease may last by these policies: a worker's lasts for all the steps."""
    steps = [one.policy.step_timeout * len(Step) for one in settings.secrets.values()]
    return max([LONGEST_LEASE, *(one + _WRITING for one in steps)])


def open_app(
    config: Path,
    *,
    face: str = "cli",
    observer: Callable[[Event], None] | None = None,
    upgrade: bool = False,
) -> App:
    """Read the configuration and open the application."""
    return App(load(config), face=face, observer=observer, upgrade=upgrade)


def load_settings(config: Path) -> Settings:
    """Read the configuration. Raises `ConfigError`."""
    return load(config)


def policy(
    config: Path, backend: str, names: Sequence[str], *, of: str, also: Sequence[str] = ()
) -> str:
    """Return the least policy for a backend, in its own language. Nothing is connected to.

    It covers the secrets in `names`, or all of them, and for rotator also what it reads and keeps
    there itself. `also`: further paths, of secrets that are not configured yet. Raises `UsageError`
    where the backend has no such policy.
    """
    settings = load(config)
    chosen = settings.backends.get(backend)
    if chosen is None:
        raise UsageError(
            f"no backend is called {backend!r} in {settings.file}.",
            hint=plugins.near(backend, settings.backends),
        )
    plugin = plugins.backend_plugin(chosen.type)
    if not isinstance(plugin, WritesPolicy):
        raise UsageError(
            f"backend {backend!r} has no policies: whoever can read its file and key can read all of it.",
            hint="Look at the owner and mode of its files.",
        )
    wanted = [settings.secret(name) for name in names] or settings.secrets.values()
    rotated = [path for one in wanted for path in one.paths(backend)]
    rotated += [path for path in also if path not in rotated]
    if of not in plugin.policies:
        raise UsageError(
            f"backend {backend!r} has no policy for {of!r}.",
            hint=f"One of: {', '.join(plugin.policies)}.",
        )
    called = _rights(settings, backend, wanted, of)
    if of == "consumer":
        access = Access(rotated=tuple(rotated), called=called)
        return plugin.policy(chosen.options, access, of=of)
    named = [one.admin for one in settings.targets.values() if one.admin is not None]
    admins = [one.reference for one in named]
    read = [settings.journal.password, *admins, *(one.password for one in named)]
    access = Access(
        rotated=tuple(rotated),
        kept=tuple(_paths_in(backend, [settings.journal.signing_key])),
        # What is rotated may be read anyway.
        read=tuple(one for one in _paths_in(backend, read) if one not in rotated),
        called=called,
        admins=tuple(one for one in _paths_in(backend, admins) if one not in rotated),
    )
    return plugin.policy(chosen.options, access, of=of)


def _rights(
    settings: Settings, backend: str, secrets: Iterable[SecretSettings], of: str
) -> tuple[Right, ...]:
    """Return what targets need that work by the login of this backend."""
    found: list[Right] = []
    made: dict[str, Target] = {}
    for one in secrets:
        target = settings.targets[one.target]
        if not one.kept_by_target:
            continue
        if one.target not in made:
            plugin = plugins.rotation_plugin(target.plugin)
            made[one.target] = plugin.target(one.target, target.options, _nobody)
        through = made[one.target]
        if isinstance(through, WorksThrough) and through.through == backend:
            found += through.rights(one.strategy, one.path, one.options, of=of)
    return tuple(found)


def _nobody() -> Credential:
    raise UsageError("a policy is only written: nothing is connected to.")


def _paths_in(backend: str, texts: Iterable[str | None]) -> list[str]:
    """Return the paths in this backend that references name, each once."""
    found = [parse(text) for text in texts if text]
    return list(dict.fromkeys(one.path for one in found if one.scheme == backend))


def upgrade_journal(config: Path) -> tuple[str | None, str]:
    """Bring the journal's schema up to this program's; return the revisions before and after."""
    with App(load(config), upgrade=True) as app:
        _ = app.journal.authenticate()
        return app.journal.upgraded_from, migrate.HEAD


def journal_revision(config: Path) -> tuple[str, str | None, str]:
    """Return where the journal is, the revision it has and the one this program needs."""
    settings = load(config)
    with App(settings, check=False) as app:
        return app.journal.place, app.journal.revision(), migrate.HEAD


def initialise(config: Path, text: str) -> None:
    """Write a first configuration with a key for the embedded backend and one for signatures.

    `text` is the configuration; nothing that is already there is overwritten. Raises `UsageError`.
    """
    if config.exists():
        raise UsageError(
            f"{config} is there already.", hint="Choose another folder, or edit that file."
        )
    config.parent.mkdir(parents=True, exist_ok=True)
    trusted_files.require_folder(config.parent, "the configuration")
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        _ = file.write(text)
    settings = load(config)
    for chosen in settings.backends.values():
        key = str(getattr(cast("Any", chosen.options), "key", ""))
        if key.startswith("file:") and not (path := settings.base / parse(key).path).exists():
            create_key_file(path)
    with App(settings, upgrade=True) as app:
        place = settings.journal.signing_key
        if place is None:
            return
        reference = parse(place)
        backend = app.backend(reference.scheme)
        if isinstance(backend, KeepsValues) and not backend.get_value(
            reference.path, reference.field
        ):
            backend.put_value(reference.path, reference.field, chain.new_signing_key())


def _guarded(subject: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a look found, or what kept it from looking."""
    try:
        return look()
    except RotatorError as error:
        return [_of_error(subject, error)]


def _of_error(subject: str, error: RotatorError) -> Finding:
    remedy = error.hint if _RETRIED not in error.hint else "Mend that, then: rotator doctor"
    return _finding(Severity.ERROR, subject, error.what, remedy)


def _once(found: Sequence[Finding]) -> list[Finding]:
    """Return each finding once; an error that several secrets share is reported for the first of them."""
    told: set[tuple[str, str]] = set()
    kept: list[Finding] = []
    for one in dict.fromkeys(found):
        error = (one.message, one.remedy)
        if one.severity is Severity.ERROR and error in told:
            continue
        told.add(error)
        kept.append(one)
    return kept


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
