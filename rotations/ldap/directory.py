"""One directory: reads and changes as its admin, and logins. Where ldap3's errors become ours.

No text of the server or of ldap3 leaves it.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from rotations.ldap import driver as ldap3
from rotations.ldap.driver import results
from rotations.ldap.options import entry_key
from rotator.api import (
    Conflict,
    Denied,
    Refused,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    admin_logins,
    call_within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotations.ldap.options import TargetOptions
    from rotator.api import Credential, Secret, StepContext

T = TypeVar("T")

PASSWORD: Final = "userPassword"  # noqa: S105 # an attribute's name
PASSWORD_MODIFY: Final = "1.3.6.1.4.1.4203.1.11.1"  # noqa: S105 # RFC 3062's name
PPOLICY_CONTROL: Final = "1.3.6.1.4.1.42.2.27.8.5.1"
# A group may have many members; a page of a search never has so many.
_MOST_BYTES: Final = 2**22
_ANY: Final = "(objectClass=*)"
# How a server words "no": some say that there is no password, others that it is wrong.
_REJECTED: Final = frozenset(
    {
        results.RESULT_INVALID_CREDENTIALS,
        results.RESULT_INAPPROPRIATE_AUTHENTICATION,
        results.RESULT_NO_SUCH_OBJECT,
        results.RESULT_INVALID_DN_SYNTAX,
    }
)
_BUSY: Final = frozenset(
    {
        results.RESULT_BUSY,
        results.RESULT_UNAVAILABLE,
        results.RESULT_TIME_LIMIT_EXCEEDED,
        results.RESULT_ADMIN_LIMIT_EXCEEDED,
    }
)
_NEEDS_TLS: Final = frozenset(
    {results.RESULT_CONFIDENTIALITY_REQUIRED, results.RESULT_STRONGER_AUTH_REQUIRED}
)


class Directory:
    """What all rotations on one target share. Safe to use from threads: each call connects anew."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.options: TargetOptions = options
        self._name: str = name
        self._admin: Callable[[], Credential] = admin

    def __str__(self) -> str:
        return self.options.url.rstrip("/")

    def dn_of(self, login: str) -> str:
        """Return the DN of a login."""
        try:
            return self.options.dn_of(login)
        except UsageError as error:
            raise Denied(
                f"login {login!r} has no DN: {error.what}",
                hint=f"Correct the login in the backend, or `dn` of target {self._name!r}.",
            ) from error

    def act(self, act: Callable[[Session], T], ctx: StepContext, *, doing: str) -> T:
        """Call `act` with a session of the admin. Raises our errors only."""
        ctx.require_time()
        session = Session(self, ctx, doing)

        def run() -> T:
            try:
                session.open()
                self._log_in_admin(session)
                return act(session)
            finally:
                session.close()

        return self._within(run, session, ctx)

    def log_in(
        self, login: str, password: Secret, ctx: StepContext, work: Callable[[Session], T]
    ) -> T | None:
        """Log in once and call `work` with the login's session; None where the server rejects it."""
        ctx.require_time()
        dn = self.dn_of(login)
        session = Session(self, ctx, f"trying login {login!r}")

        def run() -> T | None:
            try:
                session.open()
                # An empty password would be an anonymous login, which succeeds.
                code = session.bind(dn, password) if password.reveal() else min(_REJECTED)
                if code in _REJECTED:
                    return None
                session.require(code)
                return work(session)
            finally:
                session.close()

        return self._within(run, session, ctx)

    def connection(self, ctx: StepContext) -> tuple[ldap3.Connection, _VerifiedTls | None]:
        """Return a connection that is not open yet."""
        parts = urlsplit(self.options.url)
        seconds = max(0.001, ctx.seconds_left())
        tls = None
        if parts.scheme == "ldaps" or self.options.starttls:
            tls = _VerifiedTls(self._context())
        server = ldap3.Server(
            str(parts.hostname),
            port=parts.port,
            use_ssl=parts.scheme == "ldaps",
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=min(seconds, self.options.connect_timeout),
        )
        connection = ldap3.Connection(
            server, auto_referrals=False, check_names=False, receive_timeout=ceil(seconds)
        )
        return connection, tls

    def _log_in_admin(self, session: Session) -> None:
        for admin in admin_logins(self._admin):
            code = session.bind(admin.username, admin.password)
            if code not in _REJECTED:
                session.require(code)
                return
        raise Unavailable(
            f"{self}: the admin is rejected.",
            hint=f"Correct `admin` of target {self._name!r}: its username is a DN.",
        )

    def _context(self) -> ssl.SSLContext:
        options = self.options
        try:
            context = ssl.create_default_context(cafile=options.sslrootcert)
            if options.sslcert is not None:
                context.load_cert_chain(options.sslcert, options.sslkey)
        except OSError as error:
            raise Unavailable(
                "a certificate file cannot be read.",
                hint=f"Correct `sslrootcert`, `sslcert` and `sslkey` of target {self._name!r}.",
            ) from error
        return context

    def _within(self, run: Callable[[], T], session: Session, ctx: StepContext) -> T:
        try:
            return call_within(ctx.seconds_left(), run)
        except StepError:
            raise
        except Exception as error:  # noqa: BLE001 # ldap3's own, sockets', pyasn1's: none may leave
            session.stop()
            failed = self._translated(error, session)
        raise failed

    def _translated(self, error: Exception, session: Session) -> StepError:
        kind = Unknown if session.changing else Transient
        what, hint = f"{self}: {session.doing}", ""
        if session.tls_error is not None:
            what = f"{what}: its certificate is invalid ({session.tls_error})."
            hint = f"Set `sslrootcert` of target {self._name!r} to the authority that signed it."
        elif isinstance(error, TimeoutError):
            what = f"{what}: no answer within the step's time."
        elif not session.is_open:
            what = f"{what}: no connection ({type(error).__name__})."
        else:
            what = f"{what}: no valid answer ({type(error).__name__})."
        return kind(what, hint=hint)


class Session:
    """One connection. `changing`: a change was sent and not answered. `tls_error`: why TLS failed."""

    def __init__(self, directory: Directory, ctx: StepContext, doing: str) -> None:
        self.doing: str = doing
        self.changing: bool = False
        self.is_open: bool = False
        self._directory: Directory = directory
        self._ctx: StepContext = ctx
        self._link: Any = None
        self._tls: _VerifiedTls | None = None

    @property
    def tls_error(self) -> str | None:
        """Why the server's certificate was rejected."""
        return self._tls.rejected if self._tls is not None else None

    def open(self) -> None:
        """Connect, and start TLS where that is configured: nothing was sent before."""
        self._link, self._tls = self._directory.connection(self._ctx)
        self._link.open(read_server_info=False)
        self._link.socket = _Limited(_real(self._link.socket))
        if self._directory.options.starttls:
            self._link.start_tls(read_server_info=False)
        self.is_open = True

    def close(self) -> None:
        """Close the connection without waiting for an answer."""
        if self._link is not None and self._link.socket is not None:
            self._link.socket.close()

    def stop(self) -> None:
        """Wake the thread that still waits for an answer."""
        link = self._link
        if link is not None and link.socket is not None:
            with suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)

    def bind(self, dn: str, password: Secret) -> int:
        """Log in; return the result's code."""
        self._ctx.require_time()
        self._link.authentication, self._link.user = ldap3.SIMPLE, dn
        # Bytes: a text would be changed by SASLprep.
        self._link.password = password.reveal().encode()
        try:
            _ = self._link.bind(read_server_info=False)
        except ldap3.LDAPInvalidDnError:
            return results.RESULT_INVALID_DN_SYNTAX
        return int(self._link.result["result"])

    def entry(self, dn: str, *attributes: str) -> dict[str, list[bytes]] | None:
        """Return attributes of an entry, by lower-case names; None where there is no such entry."""
        found = self._search(dn, ldap3.BASE, _ANY, attributes)
        return found[0][1] if found else None

    def groups(self, base: str, member: str) -> set[str]:
        """Return the DNs of the groups below `base` that name an entry as a member."""
        dn = ldap3.escape_filter_chars(member)
        query = f"(|(member={dn})(uniqueMember={dn}))"
        return {group for group, _ in self._search(base, ldap3.SUBTREE, query, ("1.1",))}

    def set_password(self, dn: str, password: Secret) -> None:
        """Replace all passwords of an entry; the server hashes it and applies its policy (RFC 3062)."""
        self._change(
            lambda: self._link.extend.standard.modify_password(
                dn, new_password=password.reveal().encode()
            )
        )
        self.require(self._code(), is_password=True)

    def add_password(self, dn: str, value: bytes) -> None:
        """Add a hashed password to those of an entry."""
        self._change(lambda: self._link.modify(dn, {PASSWORD: [(ldap3.MODIFY_ADD, [value])]}))
        if self._code() == results.RESULT_CONSTRAINT_VIOLATION:
            raise Denied(
                f"{self._directory}: {self.doing}: the server allows no second password.",
                hint="Its password policy (ppolicy) allows one value of userPassword only, or no hashed"
                " ones: use strategy alternating-users.",
            )
        self.require(self._code(), also=results.RESULT_ATTRIBUTE_OR_VALUE_EXISTS)

    def keep_passwords(self, dn: str, values: Sequence[bytes]) -> None:
        """Replace the passwords of an entry by hashed ones; by none, to end all logins."""
        self._change(lambda: self._link.modify(dn, {PASSWORD: [(ldap3.MODIFY_REPLACE, [*values])]}))
        self.require(self._code())

    def remove_password(self, dn: str, value: bytes) -> None:
        """Remove one value."""
        self._change(lambda: self._link.modify(dn, {PASSWORD: [(ldap3.MODIFY_DELETE, [value])]}))
        self.require(self._code(), also=results.RESULT_NO_SUCH_ATTRIBUTE)

    def who_am_i(self) -> bool:
        """Return whether the server lets this login do anything at all (RFC 4532)."""
        _ = self._link.extend.standard.who_am_i()
        return self._code() == results.RESULT_SUCCESS

    def require(self, code: int, *, also: int | None = None, is_password: bool = False) -> None:
        """Raise our error for a code that means no success."""
        if code in (results.RESULT_SUCCESS, also):
            return
        where = f"{self._directory}: {self.doing}"
        what = f"{where}: the server answered with code {code}."
        if code in _BUSY:
            raise Transient(what)
        if code in _NEEDS_TLS:
            raise Denied(what, hint="It requires TLS: write ldaps://, or set `starttls: true`.")
        if code == results.RESULT_REFERRAL:
            raise Denied(
                f"{where}: the server refers to another one, which rotator does not follow.",
                hint="It is probably a read-only copy: set `url` to the provider.",
            )
        if code == results.RESULT_INSUFFICIENT_ACCESS_RIGHTS:
            raise Denied(
                f"{where}: the admin lacks the right (code {code}).",
                hint=f"Give it the right to write {PASSWORD} of this entry.",
            )
        if code == results.RESULT_NO_SUCH_OBJECT:
            raise Conflict(f"{where}: there is no such entry.")
        if code == results.RESULT_CONSTRAINT_VIOLATION and is_password:
            raise Refused(
                f"{where}: the server's password policy rejects the new password.",
                hint="Compare the secret's password policy with that of the server.",
            )
        raise Denied(what, hint="RFC 4511, section 4.1.9, names the codes.")

    def _search(
        self, base: str, scope: Any, query: str, attributes: Sequence[str]
    ) -> list[tuple[str, dict[str, list[bytes]]]]:
        self._ctx.require_time()
        _ = self._link.search(base, query, scope, attributes=list(attributes))
        if self._code() == results.RESULT_NO_SUCH_OBJECT:
            return []
        self.require(self._code())
        return [
            (one["dn"], {key.lower(): [*values] for key, values in one["raw_attributes"].items()})
            for one in self._link.response
            if one["type"] == "searchResEntry"
        ]

    def _change(self, send: Callable[[], object]) -> None:
        self._ctx.require_time()
        self.changing = True
        _ = send()
        self.changing = False

    def _code(self) -> int:
        return int(self._link.result["result"])


class _VerifiedTls(ldap3.Tls):
    """TLS by Python's own context, which checks the server's name inside the handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context: ssl.SSLContext = context
        self.rejected: str | None = None

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: FBT001, FBT002 # ldap3's signature
        """Shake hands."""
        _ = do_handshake
        try:
            wrapped = self._context.wrap_socket(
                _real(connection.socket), server_hostname=connection.server.host
            )
        except ssl.SSLCertVerificationError as error:
            self.rejected = error.verify_message
            raise
        connection.socket = _Limited(wrapped)


class _Limited:
    """A socket for ldap3 that receives so many bytes at most: ldap3 itself has no limit."""

    def __init__(self, real: socket.socket) -> None:
        self.real: socket.socket = real
        self._left: int = _MOST_BYTES

    def recv(self, size: int) -> bytes:
        """Receive as a socket does."""
        received = self.real.recv(size)
        self._left -= len(received)
        if self._left < 0:
            raise OSError
        return received

    def sendall(self, data: bytes) -> None:
        """Send."""
        self.real.sendall(data)

    def shutdown(self, how: int) -> None:
        """End both ways: a thread that reads wakes up."""
        self.real.shutdown(how)

    def close(self) -> None:
        """Close."""
        self.real.close()


def _real(one: socket.socket | _Limited) -> socket.socket:
    return one.real if isinstance(one, _Limited) else one


def is_same_entry(one: str, other: str) -> bool:
    """Return whether two DNs are spellings of one."""
    return entry_key(one) == entry_key(other)
