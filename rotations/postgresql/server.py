"""Connections to one cluster: pooled ones of the admin, and single attempts of a login."""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from rotations.postgresql import connection
from rotations.postgresql.connection import BoundedConnection, NotConnected
from rotations.postgresql.errors import translated
from rotator.api import Transient, Unavailable, Unknown, admin_logins, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from rotations.postgresql.options import TargetOptions
    from rotator.api import Credential, MarkedLogin, StepContext

Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION: Final = "rotator"
# What an admin's session looks names up in. Nobody but superusers can create anything in pg_catalog; and
# temporary tables, which would come first where they are not listed, come last. PostgreSQL never looks
# for functions and operators among temporary objects.
PATH: Final = "pg_catalog, pg_temp"
# A database's owner may set these for all of its sessions, the admin's too; what a client asks for at its
# login goes before that.
_HERMETIC: Final = (
    f"search_path={PATH.replace(' ', '')}",
    "local_preload_libraries=",
    "standard_conforming_strings=on",
    "quote_all_identifiers=off",
    "DateStyle=ISO",
    "IntervalStyle=postgres",
)
# Only superusers may create event triggers, and only they may do without them.
_NO_TRIGGERS: Final = "event_triggers=off"
_HAS_LOGIN_TRIGGERS: Final = 170_000
# The same, where a pooler has dropped what was asked for at the login: safe under any path.
_SET_AGAIN: Final = f"""
SELECT pg_catalog.set_config('search_path', '{PATH}', false),
       pg_catalog.set_config('standard_conforming_strings', 'on', false),
       pg_catalog.set_config('quote_all_identifiers', 'off', false),
       pg_catalog.set_config('DateStyle', 'ISO', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false)
"""
# A database may also have a role for all of its sessions; one of the admin's own is the operator's wish.
_SET_ROLE: Final = """
SELECT pg_catalog.set_config('role', 'none', false)
WHERE EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c
        JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        WHERE s.setrole = 0 AND d.datname = pg_catalog.current_database() AND c LIKE 'role=%')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c
        JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
        WHERE r.rolname = session_user AND c LIKE 'role=%')
"""
_DEFAULT_PATH: Final = """
SELECT CASE WHEN source OPERATOR(pg_catalog.=) 'configuration file' THEN reset_val ELSE boot_val END
FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'search_path'
"""
# Without a step around it, such as in `doctor`: how long an admin's work may take, in seconds.
_NO_STEP: Final = 30.0
# Kept back of a step's time, for ending on the server what our time was up for.
_RESERVE: Final = 4.0
# With less time than this nothing is begun.
_TOO_LITTLE: Final = 0.1
# How long an idle connection may take to answer before a fresh one is made.
_IDLE_ANSWERS: Final = 2.0
# How long the kernel waits for a peer that has fallen silent (tcp(7), TCP_USER_TIMEOUT).
_SILENCE_MS: Final = 15_000
_TRANSACTION_TIMEOUT: Final = 170_000
_POLL_SECONDS: Final = 0.02

# The server's own limits, and the server processes that an earlier try of this step left behind.
_PREPARE: Final = """
SELECT pg_catalog.set_config('application_name', %(label)s, false),
       pg_catalog.set_config('statement_timeout', %(statement)s, false),
       pg_catalog.set_config('lock_timeout', %(lock)s, false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', %(statement)s, false),
       CASE WHEN %(has_transaction)s THEN pg_catalog.set_config('transaction_timeout', %(statement)s, false) END,
       ARRAY(SELECT pid FROM pg_catalog.pg_stat_activity
             WHERE %(label)s <> %(plain)s AND application_name = %(label)s
               AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()),
       pg_catalog.current_setting('search_path')
"""
_END: Final = """
SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE pid = ANY(%s) AND application_name = %s AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()
"""
NO_STANDBY: Final = (
    "Check that the standbys named in synchronous_standby_names are connected: SELECT"
    " application_name, state, sync_state FROM pg_stat_replication"
)
# Rejections after which another credential of the admin may be valid.
_MAYBE_ROTATED: Final = ("28P01", "28000")
_UNSUPPORTED: Final = "08P01"
_MAY_NOT_SET: Final = ("42501", "42704")


class Lost(Unknown):
    """The answer was lost, and the server can no longer act on what was sent: look what it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How a step's time is shared out, in seconds: first the server gives up, then the client, then
    there is `reserve` left to end on the server what neither gave up.
    """

    call: float
    reserve: float

    @classmethod
    def of(cls, ctx: StepContext | None) -> Limits:
        """Return the limits of what is done now. Raises `Transient` when the step's time is up."""
        left = _NO_STEP if ctx is None else ctx.seconds_left()
        if left < _TOO_LITTLE:
            raise Transient("the step's time limit was reached, so rotator sent nothing more.")
        reserve = min(_RESERVE, left / 4)
        return cls(call=left - reserve, reserve=reserve)

    @property
    def milliseconds(self) -> int:
        """The server's limit: a moment before the client's."""
        return max(1, round(self.call * 950))

    @property
    def grace(self) -> float:
        """How long a call that was cancelled may take to say how it ended."""
        return self.reserve / 6


class Server:
    """One cluster. Safe to use from threads.

    Admin connections wait on a stack of our own rather than in psycopg_pool: that pool connects in
    the background and answers a wrong password or a dead host with a bare time-out, and what went
    wrong is just what a person must be told.
    """

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.name: str = name
        self.options: TargetOptions = options
        self.where: str = f"PostgreSQL at {options.host}:{options.port}"
        self.admin_credential: Callable[[], Credential] = admin
        # The step that this thread is at work on, for connections to other databases inside it.
        self._at_work: threading.local = threading.local()
        self._idle: list[BoundedConnection] = []
        self._guard: threading.Lock = threading.Lock()
        # Whether the admin is known to be a superuser where event triggers can be turned off.
        self._without_triggers: bool = False
        places = [split_address(one, options.port) for one in options.readers]
        # The replicas that applications read from.
        self.readers: tuple[Server, ...] = tuple(
            Server(name, replace(options, host=host, port=port, readers=()), admin)
            for host, port in places
        )

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        """Return the roles whose comment is a mark of ours."""
        _ = ctx
        from rotations.postgresql.roles import marked  # noqa: PLC0415 # which needs this module's types

        with self.admin("reading marked roles") as admin:
            return marked(admin)

    @contextmanager
    def admin(self, doing: str, ctx: StepContext | None = None) -> Generator[BoundedConnection]:
        """Lend an admin connection for reading, in autocommit mode. Errors inside come out as ours."""
        link = self._take(Limits.of(ctx), APPLICATION)
        try:
            with translated(self.where, doing, reading=True), self._busy_with(ctx):
                yield link
        except BaseException:
            link.close()
            raise
        self._give(link)

    @contextmanager
    def step(
        self, doing: str, ctx: StepContext, dbname: str | None = None
    ) -> Generator[BoundedConnection]:
        """Lend an admin connection for a step's effects, once no earlier try of it can act any more.

        `Lost` leaves it when an effect may have happened, and also when it was committed here but not
        on the synchronous standby that the server waits for; `Unknown` when it may still happen.
        """
        label = _label(ctx)
        other = dbname is not None and dbname != self.options.dbname
        link = self._take(Limits.of(ctx), label, dbname if other else None, spared=self._busy())
        process = link.info.backend_pid
        try:
            with (
                translated(self.where, f"{doing} in database {dbname!r}" if other else doing),
                self._busy_with(ctx, process),
            ):
                yield link
            self._require_confirmed(link, doing)
        except BaseException as error:
            link.close()
            if isinstance(error, Unknown):
                self._end_process(process, label, ctx)
                raise Lost(error.what, hint=error.hint) from error
            raise
        if other:
            link.close()
        else:
            self._give(link)

    @contextmanager
    def admin_in(self, dbname: str, doing: str) -> Generator[BoundedConnection]:
        """Lend an admin connection to a database, for what this thread is at work on.

        Inside `step`, as part of that step; else for reading.
        """
        ctx: StepContext | None = getattr(self._at_work, "ctx", None)
        if ctx is not None and self._busy():
            with self.step(doing, ctx, dbname) as link:
                yield link
            return
        if dbname == self.options.dbname:
            with self.admin(doing, ctx) as link:
                yield link
            return
        link = self._take(Limits.of(ctx), APPLICATION, dbname)
        try:
            with translated(self.where, f"{doing} in database {dbname!r}", reading=True):
                yield link
        finally:
            link.close()

    @contextmanager
    def _busy_with(self, ctx: StepContext | None, process: int | None = None) -> Generator[None]:
        """Remember what this thread is at work on; `process`: the server's, in a step."""
        before = getattr(self._at_work, "ctx", None), self._busy()
        self._at_work.ctx = ctx
        self._at_work.processes = before[1] if process is None else (*before[1], process)
        try:
            yield
        finally:
            self._at_work.ctx, self._at_work.processes = before

    def _busy(self) -> tuple[int, ...]:
        """Return the server processes of the step that this thread is at work on."""
        return getattr(self._at_work, "processes", ())

    def attempt(
        self,
        credential: Credential,
        dbname: str | None,
        ctx: StepContext | None,
        certificate: Certificate | None = None,
        *,
        pooler: bool = False,
    ) -> BoundedConnection | NotConnected:
        """Try to log in once: the connection, or why there is none.

        `pooler`: a pooler may answer; one that rejects the session's settings is tried without them.
        """
        password = credential.password.reveal()
        # An empty password would make libpq look for one elsewhere.
        if not password or "\0" in password:
            return NotConnected("the password is empty, or contains NUL", state="28P01")
        limits = Limits.of(ctx)
        try:
            link = self._connect(credential, dbname, limits, certificate)
        except NotConnected as failed:
            if not pooler or failed.state != _UNSUPPORTED or failed.password_sent:
                return failed
            try:
                link = self._connect(credential, dbname, limits, certificate, bare=True)
            except NotConnected as again:
                return again
        link.limit(limits.call, limits.grace)
        return link

    def close(self) -> None:
        """Close the idle admin connections."""
        with self._guard:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()
        for reader in self.readers:
            reader.close()

    # -- admin connections ---------------------------------------------------------------------

    def _take(
        self, limits: Limits, label: str, dbname: str | None = None, *, spared: tuple[int, ...] = ()
    ) -> BoundedConnection:
        while dbname is None:
            with self._guard:
                link = self._idle.pop() if self._idle else None
            if link is None:
                break
            # Nothing has been sent yet: one that does not answer is left, and another one made.
            link.limit(min(_IDLE_ANSWERS, limits.call / 3), limits.grace)
            try:
                return self._prepared(link, limits, label, spared)
            except psycopg.Error:
                link.close()
            except BaseException:
                link.close()
                raise
        link = self._connect_admin(dbname, limits)
        try:
            with translated(self.where, "preparing a connection", reading=True):
                return self._prepared(link, limits, label, spared)
        except BaseException:
            link.close()
            raise

    def _prepared(
        self, link: BoundedConnection, limits: Limits, label: str, spared: tuple[int, ...]
    ) -> BoundedConnection:
        row = link.execute(
            _PREPARE,
            {
                "label": label,
                "plain": APPLICATION,
                "statement": str(limits.milliseconds),
                "lock": str(max(1, limits.milliseconds * 9 // 10)),
                "has_transaction": link.info.server_version >= _TRANSACTION_TIMEOUT,
            },
        ).fetchone()
        link.limit(limits.call, limits.grace)
        processes, path = (row[-2], row[-1]) if row is not None else ((), None)
        if path != PATH:
            raise Unavailable(
                f"{self.where}: the admin's session does not keep its search_path, so"
                " functions of other roles could run as the admin.",
                hint="Set `host` to the server itself, or to a pooler in session mode: a pooler in"
                " transaction mode shares sessions.",
            )
        left_behind = [pid for pid in processes if pid not in spared]
        if left_behind:
            self._end(link, left_behind, label, limits.call / 3)
        return link

    def _give(self, link: BoundedConnection) -> None:
        if link.info.transaction_status is TransactionStatus.IDLE:
            try:
                # While it waits here, it is not at work on anything that somebody may have to end.
                _ = link.execute(
                    "SELECT pg_catalog.set_config('application_name', %s, false)", [APPLICATION]
                )
            except psycopg.Error:
                link.close()
                return
            except BaseException:
                link.close()
                raise
            with self._guard:
                if len(self._idle) < self.options.pool_size:
                    self._idle.append(link)
                    return
        link.close()

    def _require_confirmed(self, link: BoundedConnection, doing: str) -> None:
        if link.cancelled:
            raise Unknown(
                f"{self.where}: {doing}: the change was committed there, but no standby"
                " confirmed it in time.",
                hint=NO_STANDBY,
            )

    def _end_process(self, process: int, label: str, ctx: StepContext) -> None:
        """See that what we no longer hear of can no longer act. Raises `Unknown` where that fails."""
        left = max(ctx.seconds_left(), _TOO_LITTLE)
        limits = Limits(call=left * 2 / 3, reserve=left / 3)
        try:
            link = self._connect_admin(None, limits)
        except Transient as away:
            raise Unknown(
                f"{self.where} did not answer after a change was sent, so its result is"
                f" unknown: {away.what}",
                hint="rotator checks the result before it does anything else.",
            ) from away
        try:
            link.limit(limits.call, limits.grace)
            with translated(self.where, "ending server processes of an earlier attempt"):
                self._end(link, [process], label, limits.call)
        finally:
            link.close()

    def _end(
        self, link: BoundedConnection, processes: list[int], label: str, seconds: float
    ) -> None:
        """End server processes of an earlier try, and wait until they are gone."""
        ends = time.monotonic() + seconds
        while link.execute(_END, [processes, label]).fetchall():
            if time.monotonic() >= ends:
                named = ", ".join(map(str, processes))
                raise Unknown(
                    f"{self.where}: the server process {named} of an earlier attempt does not"
                    " end, and may still act.",
                    hint=f"End it: SELECT pg_terminate_backend({processes[0]}). If that has no"
                    " effect, the process is suspended on the server's host: kill -CONT"
                    f" {processes[0]}",
                )
            _ = link.execute("SELECT pg_catalog.pg_sleep(%s)", [_POLL_SECONDS])

    def _connect_admin(self, dbname: str | None, limits: Limits) -> BoundedConnection:
        def connect(admin: Credential) -> BoundedConnection:
            return self._hermetic(self._connect_as(admin, dbname, limits), limits)

        return self._as_admin(connect, limits)

    def _as_admin(
        self, connect: Callable[[Credential], BoundedConnection], limits: Limits
    ) -> BoundedConnection:
        """Connect with the first credential of the admin that the server accepts."""
        rejected = Unavailable(f"target {self.name!r} has no admin.")
        for admin in admin_logins(self.admin_credential):
            try:
                return connect(admin)
            except NotConnected as failed:
                rejected = self._admin_rejected(admin.username, failed, limits)
                if failed.state not in _MAYBE_ROTATED:
                    break
        raise rejected from None

    def _connect_as(
        self, admin: Credential, dbname: str | None, limits: Limits
    ) -> BoundedConnection:
        """Log in as the admin, in a session that only the server's superusers have a say in."""
        triggers = (_NO_TRIGGERS,) if self._without_triggers else ()
        try:
            return self._connect(admin, dbname, limits, settings=(*_HERMETIC, *triggers))
        except NotConnected as failed:
            if failed.state == _UNSUPPORTED:  # a pooler's word
                return self._connect(admin, dbname, limits)
            if triggers and failed.state in _MAY_NOT_SET:
                self._without_triggers = False
                return self._connect(admin, dbname, limits, settings=_HERMETIC)
            raise

    def _hermetic(self, link: BoundedConnection, limits: Limits) -> BoundedConnection:
        """See that no name of others can be found, whatever became of what was asked for."""
        link.limit(limits.call, limits.grace)
        superuser = link.info.parameter_status("is_superuser") == "on"
        try:
            with translated(self.where, "preparing a connection", reading=True):
                _ = link.execute(_SET_AGAIN)
                _ = link.execute(_SET_ROLE)
                if superuser and link.info.server_version >= _HAS_LOGIN_TRIGGERS:
                    _ = link.execute("SET event_triggers TO off")
                    # From now on at the login already.
                    self._without_triggers = True
        except BaseException:
            link.close()
            raise
        return link

    def default_path(self, database: str) -> str:
        """Return the `search_path` that the server's configuration has for everybody.

        It is seen in a session that did not ask for another one. That session is asked for nothing
        else, by a statement that is safe under any path.
        """
        ctx: StepContext | None = getattr(self._at_work, "ctx", None)
        limits = Limits.of(ctx)
        link = self._as_admin(lambda admin: self._connect(admin, database, limits), limits)
        link.limit(limits.call, limits.grace)
        try:
            with translated(self.where, "reading the default search_path", reading=True):
                row = link.execute(_DEFAULT_PATH).fetchone()
                return str(row[0]) if row is not None else ""
        finally:
            link.close()

    def _admin_rejected(self, name: str, failed: NotConnected, limits: Limits) -> Transient:
        from rotations.postgresql import failure_causes  # noqa: PLC0415 # which imports this module

        cause = failure_causes.of_failure(self, failed, name, limits)
        kind = Transient if cause.cause in failure_causes.PASSING else Unavailable
        if kind is Transient:
            return Transient(f"{self.where} {cause.text}.", hint=cause.hint)
        return Unavailable(
            f"{self.where} rejects the admin login {name!r}{cause.because}.",
            hint=cause.hint or f"Check `admin` of target {self.name!r}.",
        )

    # -- one connection ------------------------------------------------------------------------

    def _connect(
        self,
        who: Credential,
        dbname: str | None,
        limits: Limits,
        certificate: Certificate | None = None,
        *,
        settings: tuple[str, ...] = (),
        bare: bool = False,
    ) -> BoundedConnection:
        """Log in once. `settings`: what the session begins with, before those of the server.

        `bare`: with no settings at all.
        """
        options = self.options
        given = (f"statement_timeout={limits.milliseconds}", *settings)
        mode, authority = options.tls()
        if certificate is None and options.sslcert is not None and options.sslkey is not None:
            certificate = Certificate(certificate=options.sslcert, key=options.sslkey)
        if certificate is not None:
            require_private(certificate)
        nothing = "/dev/null/none"  # a file that cannot be
        return connection.connect(
            {
                "host": options.host,
                "port": options.port,
                "user": who.username,
                "password": who.password.reveal(),
                "dbname": dbname or options.dbname,
                "application_name": APPLICATION,
                "client_encoding": "UTF8",
                "tcp_user_timeout": _SILENCE_MS,
                "options": None if bare else " ".join(f"-c {one}" for one in given),
                # Only what is given here counts: no password file, no client certificate by chance.
                "passfile": "/dev/null",  # the name of an empty file
                "gssencmode": "disable",
                "sslmode": mode,
                "sslrootcert": authority,
                "sslcert": str(certificate.certificate) if certificate else nothing,
                "sslkey": str(certificate.key) if certificate else nothing,
                "sslcrl": str(options.sslcrl) if options.sslcrl else None,
            },
            min(options.connect_timeout, limits.call),
        )


def require_private(certificate: Certificate) -> None:
    """Raise `Unavailable` unless both files are there and only their owner can read the key."""
    for name, path in (("sslcert", certificate.certificate), ("sslkey", certificate.key)):
        try:
            found = path.stat()
        except OSError as error:
            raise Unavailable(
                f"cannot read `{name}`: {path}: {error.strerror}.",
                hint=f"Correct the path, or the file's owner: ls -l {path}",
            ) from error
        # As libpq: a key of root's may be readable by its group.
        others = stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if found.st_uid == 0 else stat.S_IRWXG)
        if name == "sslkey" and found.st_mode & others:
            raise Unavailable(
                f"the private key {path} is readable by other users.",
                hint=f"chmod 600 {path}",
            )


def _label(ctx: StepContext) -> str:
    """Return the application name under which a secret's changes are made, so that they can be found."""
    return f"{APPLICATION} {hashlib.sha256(ctx.secret.encode()).hexdigest()[:12]}"
