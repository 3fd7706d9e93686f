"""What goes wrong on the wire, and what it means. The one place where a node's errors become ours."""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotations.valkey.wire import ErrorReply, NoTlsError, NotRespError
from rotator.api import Denied, StepError, Transient, Unavailable, Unknown, scrub

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_REFUSED: Final = "WRONGPASS"
_HASH: Final = re.compile(r"[#!]?\b[0-9a-f]{64}\b")
# Commands whose rights are given one by one. Redis 6 names only the first word in its refusal.
_CONTAINERS: Final = frozenset({"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG"})
# Without these no rotation of any secret on the target can begin.
NEEDED: Final = frozenset(
    {
        "+acl|list",
        "+acl|save",
        "+acl|setuser",
        "+cluster|nodes",
        "+config|get",
        "+config|rewrite",
        "+info",
    }
)
TOO_OLD: Final = (
    "Redis before 6.0 has one password and no users, so dual-password, new-user,"
    " alternating-users and single-user are not possible. Upgrade to Valkey, or to Redis 6.0 or"
    " newer."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """What one code of an error means: for a person, and whether all secrets wait for it."""

    text: str
    hint: str
    kind: type[StepError] = Transient


# First words of error replies (valkey.io/topics/protocol, and server.c).
_CAUSES: Final[Mapping[str, _Cause]] = {
    "BUSY": _Cause(
        text="a script or function blocks the node",
        hint="End it: SCRIPT KILL, or FUNCTION KILL. If it has already written data, wait for its"
        " end.",
    ),
    "UNKILLABLE": _Cause(
        text="a script that has written blocks the node",
        hint="Wait for the script to end.",
    ),
    "LOADING": _Cause(
        text="the node is loading its data",
        hint="Wait until it has loaded. To check the progress: INFO persistence",
    ),
    "MASTERDOWN": _Cause(
        text="the replica has lost its primary and rejects requests until it is back",
        hint="Check the primary: INFO replication. Or allow the replica to answer: CONFIG SET"
        " replica-serve-stale-data yes",
    ),
    "CLUSTERDOWN": _Cause(
        text="the cluster is down: not all slots are served",
        hint="Check the failed nodes: CLUSTER NODES",
    ),
    "TRYAGAIN": _Cause(
        text="slots of the cluster are migrating",
        hint="Wait until the migration ends. To see the slots: CLUSTER NODES",
    ),
    "MISCONF": _Cause(
        text="the node rejects writes because it cannot save its data",
        hint="Free disk space or repair its folder, then: BGSAVE",
    ),
    "OOM": _Cause(
        text="the node's memory is full",
        hint="Free memory, or raise the limit: CONFIG SET maxmemory",
    ),
    "NOREPLICAS": _Cause(
        text="the node rejects writes because too few replicas are connected",
        hint="Restore the replicas. To list them: INFO replication",
    ),
    "READONLY": _Cause(
        text="the node is a read-only replica",
        hint="Set `host` to the primary and list replicas in `nodes`; or set the `sentinels`.",
        kind=Unavailable,
    ),
    "NOAUTH": _Cause(
        text="the node requires a login",
        hint="Check the target's `admin`.",
        kind=Unavailable,
    ),
    "DENIED": _Cause(
        text="the node is in protected mode: it has no password and accepts connections only from"
        " its own machine",
        hint="On that machine: ACL SETUSER default resetpass >PASSWORD, then ACL SAVE or CONFIG"
        " REWRITE, and bind the node to an address in its configuration.",
        kind=Unavailable,
    ),
}
_FULL: Final = _Cause(
    text="the node has no free connection (max number of clients reached)",
    hint="End idle connections, or raise the limit: CONFIG SET maxclients 20000. To list them:"
    " CLIENT LIST",
    kind=Unavailable,
)
_UNKNOWN_COMMAND: Final = _Cause(
    text="the command is renamed or disabled there",
    hint="Managed services do that: manage their users through the service's API.",
    kind=Unavailable,
)
# What is said without a code of its own.
_SAYINGS: Final[Mapping[str, _Cause]] = {
    "max number of clients": _FULL,
    "unknown command": _UNKNOWN_COMMAND,
    "unknown subcommand": _UNKNOWN_COMMAND,
    "wrong number of arguments for 'auth'": _Cause(
        text="it is Redis before 6.0", hint=TOO_OLD, kind=Unavailable
    ),
    "without any password configured": _Cause(
        text="it is Redis before 6.0", hint=TOO_OLD, kind=Unavailable
    ),
}
_NO_TLS: Final = (
    "Set `port` to the node's `tls-port`; or, if the network path is safe otherwise, set"
    " sslmode: disable."
)
_CLIENT_CERTIFICATE: Final = (
    "Set `sslcert` and `sslkey` to a client certificate that the node's `tls-ca-cert-file` has"
    " signed; or disable client certificates there: CONFIG SET tls-auth-clients no"
)
# By the names of OpenSSL's errors (SSL_R_..., without the prefix).
_TLS: Final[Mapping[str, tuple[str, str]]] = {
    "WRONG_VERSION_NUMBER": ("the node does not speak TLS on this port", _NO_TLS),
    "RECORD_LAYER_FAILURE": ("the node does not speak TLS on this port", _NO_TLS),
    "HTTP_REQUEST": ("the node does not speak TLS on this port", _NO_TLS),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the node requires a client certificate",
        _CLIENT_CERTIFICATE,
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the node does not trust rotator's client certificate",
        _CLIENT_CERTIFICATE,
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": (
        "the node rejects rotator's client certificate",
        _CLIENT_CERTIFICATE,
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "rotator's client certificate has expired",
        "Set `sslcert` and `sslkey` to a new certificate.",
    ),
}
# X509_V_ERR_..., from OpenSSL's x509_vfy.h.
_VERIFY: Final[Mapping[int, tuple[str, str]]] = {
    10: ("its certificate has expired", "Renew the node's certificate."),
    62: (
        "its certificate is not valid for this name",
        "Set the node's host to the name in its certificate, or set sslmode: verify-ca.",
    ),
    64: (
        "its certificate is not valid for this address",
        "Set the node's host to the name in its certificate, or set sslmode: verify-ca.",
    ),
}
_FOREIGN_CA: Final = (
    "its certificate is signed by an authority that rotator does not trust",
    "Set `sslrootcert` to the file of the node's certificate authority.",
)


def is_refusal(error: ErrorReply) -> bool:
    """Return whether a failed AUTH means that these credentials are not accepted."""
    return error.code == _REFUSED


def unreachable(where: str, error: Exception) -> StepError:
    """Return what a failed connection means when it was not about the credentials."""
    if isinstance(error, ssl.SSLError):
        return _tls(where, error)
    if isinstance(error, ErrorReply):
        return _said(where, "logging in", error)
    if isinstance(error, NotRespError):
        return _foreign(where, error)
    if isinstance(error, NoTlsError):
        return Unavailable(f"{where} does not speak TLS on this port.", hint=_NO_TLS)
    if isinstance(error, TimeoutError):
        return _silent(where, "")
    return Transient(f"{where} is unreachable: {brief(error)}")


@contextmanager
def translated(
    where: str, doing: str, user: str = "", *command: str, effect: bool = False
) -> Generator[None]:
    """Turn errors inside into ours.

    `doing` says in a few words what was being done, `user` as whom, `command` by which command;
    `effect`: where no answer comes, it is not known whether it was done.
    """
    try:
        yield
    except ErrorReply as error:
        raise _said(where, doing, error, user, *command) from error
    except ssl.SSLError as error:
        raise _tls(where, error) from error
    except NotRespError as error:
        raise _foreign(where, error) from error
    except OSError as error:
        if effect:
            raise Unknown(f"{where}: {doing}: {brief(error)}") from error
        if isinstance(error, TimeoutError):
            raise _silent(where, doing) from error
        raise Transient(f"{where}: {doing}: {brief(error)}") from error


def grant(*command: str) -> str:
    """Return the rule of an ACL that allows a command."""
    words = command[: 2 if command[0] in _CONTAINERS else 1]
    return f"+{'|'.join(words).lower()}"


def brief(error: Exception) -> str:
    """Return the error's own words: one line, no hash, nothing secret."""
    text = str(error).strip() or type(error).__name__
    shown = text.splitlines()[0].encode(errors="replace").decode()
    return scrub(_HASH.sub("#***", shown))[:300]


def _said(where: str, doing: str, error: ErrorReply, user: str = "", *command: str) -> StepError:
    if error.code == "NOPERM":
        right = grant(*command) if command else ""
        given = right or "the rights that `rotator docs valkey` lists"
        kind = Unavailable if right in NEEDED else Denied
        return kind(
            f"{where}: {doing}: {brief(error)}",
            hint=f"Grant the admin that right, on each node: ACL SETUSER {user or 'ADMIN'} {given}",
        )
    text = error.text.lower()
    cause = _CAUSES.get(error.code) or next(
        (one for words, one in _SAYINGS.items() if words in text), None
    )
    if cause is None:
        return Denied(f"{where}: {doing}: {brief(error)}")
    return cause.kind(f"{where}: {doing}: {cause.text}.", hint=cause.hint)


def _silent(where: str, doing: str) -> Transient:
    return Transient(
        f"{where} {f'({doing}) ' if doing else ''}did not answer in time.",
        hint="Check whether its clients are paused (CLIENT PAUSE, which ends after its timeout),"
        " whether it runs a slow script (end it: SCRIPT KILL), and whether its machine is"
        " frozen or disconnected.",
    )


def _foreign(where: str, error: NotRespError) -> StepError:
    if error.speaks_tls:
        return Unavailable(
            f"{where} speaks TLS on this port, and `sslmode` is disable.",
            hint="Set sslmode: verify-full. For your own certificate authority, also set"
            " `sslrootcert`.",
        )
    return Unavailable(
        f"{where}: the service there is neither Valkey nor Redis: it speaks another protocol.",
        hint="Check the target's `host` and `port`.",
    )


def _tls(where: str, error: ssl.SSLError) -> StepError:
    if isinstance(error, ssl.SSLCertVerificationError):
        cause, hint = _VERIFY.get(error.verify_code, _FOREIGN_CA)
    else:
        cause, hint = _TLS.get(str(error.reason), (brief(error), _CLIENT_CERTIFICATE))
    return Unavailable(f"the TLS connection to {where} failed: {cause}.", hint=hint)
