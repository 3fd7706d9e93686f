"""One database: statements as its admin, and logins. The one place where drivers' errors become ours.

No text of a driver leaves it: some repeat the statement, and with it the password.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

from rotations.sql.options import REJECTIONS, TargetOptions
from rotator.api import (
    Denied,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    admin_logins,
    call_within,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import URL, Connection, Dialect, Engine

    from rotations.sql.statements import Statement
    from rotator.api import Credential, StepContext

T = TypeVar("T")

_CODE: Final = re.compile(r"[A-Z]{2,5}-?\d{4,5}|[0-9A-Z]{5}")
_MOST_ROWS: Final = 10_000
# MySQL's error numbers for a missing right, whose class is that of a broken connection.
_NO_RIGHT: Final = frozenset({"1044", "1142", "1143", "1227", "1370", "1410", "42501"})


@dataclass(slots=True)
class _Work:
    """What one call has sent so far. `is_over`: nobody waits for it, so nothing more may be sent."""

    sent: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)


class Server:
    """What all rotations on one target share. Safe to use from threads: each call connects anew."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.options: TargetOptions = options
        self.url: URL = options.parsed(options.url)
        self._login_url: URL = options.parsed(options.login_url or options.url)
        self._name: str = name
        self._admin: Callable[[], Credential] = admin
        self._guard: threading.Lock = threading.Lock()
        # The engines keep no connection.
        self._admins: tuple[Credential, Engine] | None = None
        known = REJECTIONS.get(self.url.get_backend_name(), ())
        self._rejections: tuple[str, ...] = (*options.rejections, *known)

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True).partition("?")[0]

    def act(self, act: Callable[[Session], T], ctx: StepContext, *, changes: bool, doing: str) -> T:
        """Call `act` with a session of the admin, in one transaction where the server has them.

        Ends at the step's time. Raises our errors only: for a change whose answer is lost, `Unknown`.
        """
        ctx.require_time()
        failed: StepError | None = None
        for admin in admin_logins(self._admin):
            work = _Work()

            def run(admin: Credential = admin, work: _Work = work) -> T:
                with self._admin_engine(admin).connect() as connection, connection.begin():
                    return act(Session(connection, work))

            try:
                return call_within(ctx.seconds_left(), run)
            except StepError:
                raise
            except Exception as error:  # noqa: BLE001 # drivers raise what they like; none may leave
                work.is_over.set()
                failed = self._translated(error, work, changes=changes, doing=doing)
                if not self._is_rejected(error, work):
                    break
        assert failed is not None  # noqa: S101 # an admin has one credential at least
        raise failed

    def log_in(self, credential: Credential, probes: Sequence[str], ctx: StepContext) -> str | None:
        """Log in once and run the probes. Returns None when it worked, or else why not, as a clause.

        An empty clause: the server rejects the login. Raises `Transient` when neither is known.
        """
        ctx.require_time()
        work = _Work()

        def run() -> str | None:
            engine = self._engine(self._login_url, credential)
            dialect = engine.dialect
            args, named = dialect.create_connect_args(engine.url)
            connection: Any = dialect.connect(*args, **{**named, **self.options.connect_args})
            try:
                # Some drivers log in with their first statement only.
                _ = dialect.do_ping(connection)
                work.sent = 1
                return _probed(connection, probes)
            finally:
                connection.close()

        try:
            return call_within(ctx.seconds_left(), run)
        except StepError:
            raise
        except Exception as error:  # noqa: BLE001 # as above
            if self._is_rejected(error, work):
                return ""
            failed = Transient(
                f"{self}: whether login {credential.username!r} is accepted is unknown"
                f" ({_name(error)}).",
                hint="If this is how the driver reports a rejected login, add its code to `rejections`"
                f" of target {self._name!r}.",
            )
        raise failed

    def _admin_engine(self, admin: Credential) -> Engine:
        """Return the admin's engine: it asks the server for its settings only once."""
        with self._guard:
            known = self._admins
            if known is None or known[0] != admin:
                known = self._admins = (admin, self._engine(self.url, admin))
            return known[1]

    def _engine(self, url: URL, credential: Credential) -> Engine:
        full = url.set(username=credential.username, password=credential.password.reveal())
        return sqlalchemy.create_engine(
            full,
            poolclass=NullPool,
            connect_args=dict(self.options.connect_args),
            # Without it drivers get an empty list of parameters, and read `%` as one.
            execution_options={"no_parameters": True},
            hide_parameters=True,
        )

    def _is_rejected(self, error: Exception, work: _Work) -> bool:
        """Return whether the server rejected a login."""
        return not work.sent and any(one in str(error) for one in self._rejections)

    def _translated(self, error: Exception, work: _Work, *, changes: bool, doing: str) -> StepError:
        """Return our error for a driver's. `work.sent` is 0 while nobody was logged in."""
        name, code = _name(error), _code(error)
        what = f"{self}: {doing}"
        if isinstance(error, (ImportError, exc.NoSuchModuleError)):
            return Unavailable(
                f"{what}: the driver is not installed.",
                hint="Install the dialect and the driver of the URL beside rotator.",
            )
        if isinstance(error, TimeoutError):
            if changes and work.sent:
                return Unknown(f"{what}: no answer within the step's time.")
            return Transient(f"{what}: no answer within the step's time.")
        if not work.sent:
            if self._is_rejected(error, work):
                return Unavailable(
                    f"{self}: the admin is rejected ({name}).",
                    hint=f"Correct `admin` of target {self._name!r}.",
                )
            return Transient(f"{self}: no connection ({name}).")
        where = f"{what}: statement {work.sent} failed ({name})"
        lost = getattr(error, "connection_invalidated", False)
        if lost or not isinstance(error, exc.DBAPIError):
            return Unknown(f"{where}.") if changes else Transient(f"{where}.")
        is_temporary = isinstance(error, (exc.OperationalError, exc.InterfaceError))
        if code in _NO_RIGHT or not is_temporary:
            return Denied(
                f"{where}.",
                hint="Run it by hand as the admin with another login and password: the text of the"
                " driver is not shown, because it may repeat the password.",
            )
        return Transient(f"{where}.")


class Session:
    """A session of the admin, in a transaction."""

    def __init__(self, connection: Connection, work: _Work) -> None:
        self._connection: Connection = connection
        self._work: _Work = work
        # Logged in: from here on, an error is that of a statement.
        work.sent = 1

    def run(self, statements: Sequence[Statement], values: Mapping[str, str]) -> None:
        """Run statements in order."""
        for number, one in enumerate(statements, start=1):
            self._work.sent = number
            _ = self._execute(one, values)

    def rows(self, query: Statement, values: Mapping[str, str]) -> list[tuple[object, ...]]:
        """Return the rows of a query, up to a limit."""
        result = self._execute(query, values)
        return [tuple(row) for row in result.fetchmany(_MOST_ROWS)]

    def _execute(self, one: Statement, values: Mapping[str, str]) -> Any:
        if self._work.is_over.is_set():
            raise TimeoutError
        dialect = self._connection.dialect
        sql = one.filled(
            values, lambda name: identifier(name, dialect), lambda text: literal(text, dialect)
        )
        # Not `text()`, which reads `:name` as a parameter.
        return self._connection.exec_driver_sql(sql)


def identifier(name: str, dialect: Dialect) -> str:
    """Return a name as an identifier, always quoted, by the dialect."""
    return _single_percents(dialect.identifier_preparer.quote_identifier(name), dialect)


def literal(text: str, dialect: Dialect) -> str:
    """Return a text as a literal, by the dialect."""
    return _single_percents(_rendered(text, dialect), dialect)


def _rendered(text: str, dialect: Dialect) -> str:
    value = sqlalchemy.literal(text, sqlalchemy.String())
    return str(value.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _single_percents(quoted: str, dialect: Dialect) -> str:
    """Undo the doubling of `%`, which is for statements that the driver fills itself."""
    doubled = _rendered("%", dialect).count("%") == len("%%")
    return quoted.replace("%%", "%") if doubled else quoted


def _probed(connection: Any, probes: Sequence[str]) -> str | None:
    for number, probe in enumerate(probes, start=1):
        cursor = connection.cursor()
        try:
            cursor.execute(probe)
            _ = cursor.fetchmany(1)
        except Exception as error:  # noqa: BLE001 # as above
            return f"probe {number} failed ({_name(error)})"
        finally:
            cursor.close()
    connection.rollback()
    return None


def _code(error: Exception) -> str:
    """Return the error's code: an SQLSTATE, a number, or such as ORA-01017; empty where there is none."""
    inner: Any = getattr(error, "orig", None) or error
    state = getattr(inner, "sqlstate", None)
    first = inner.args[0] if getattr(inner, "args", ()) else None
    if isinstance(state, str) and _CODE.fullmatch(state):
        return state
    if isinstance(first, int):
        return str(first)
    found = re.match(r"ORA-\d{5}", first) if isinstance(first, str) else None
    if found:
        return found[0]
    return first if isinstance(first, str) and _CODE.fullmatch(first) else ""


def _name(error: Exception) -> str:
    inner = getattr(error, "orig", None) or error
    code = _code(error)
    return f"{type(inner).__name__}{f' {code}' if code else ''}"
