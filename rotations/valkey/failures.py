"""What goes wrong on the wire, and what it means. The one place where a node's errors become ours."""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rotations.valkey.wire import Said
from rotator.api import Denied, StepError, Transient, Unknown, scrub

if TYPE_CHECKING:
    from collections.abc import Generator

# First words of error replies (valkey.io/topics/protocol, and server.c): it may work in a while.
_PASSING: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "OOM", "TRYAGAIN", "UNKILLABLE"}
)
_REFUSED: Final = "WRONGPASS"
_HASH: Final = re.compile(r"[#!]?\b[0-9a-f]{64}\b")
# Commands whose rights are given one by one. Redis 6 names only the first word in its refusal.
_CONTAINERS: Final = frozenset({"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG"})
NO_ACL_FILE: Final = "not configured to use an ACL file"
TOO_OLD: Final = (
    "Redis before 6.0 has one password and no users, so none of dual-password, new-user,"
    " alternating-users and single-user is possible. Upgrade to Valkey, or to Redis 6.0 or newer."
)


def is_refusal(error: Said) -> bool:
    """Return whether a failed AUTH means that these credentials are not accepted."""
    return error.code == _REFUSED


def unreachable(where: str, error: Exception) -> StepError:
    """Return what a failed connection means when it was not about the credentials."""
    if isinstance(error, ssl.SSLError):
        return Denied(
            f"the TLS connection to {where} failed: {brief(error)}",
            hint="Name the right certificate authority in `sslrootcert`; where the node wants a client's certificate, `sslcert` and `sslkey`.",
        )
    if isinstance(error, Said):
        return _said(where, "logging in", error)
    return Transient(f"{where} cannot be reached: {brief(error)}")


@contextmanager
def translated(where: str, doing: str, user: str = "", *command: str) -> Generator[None]:
    """Turn errors inside into ours.

    `doing` says in a few words what was being done, `user` as whom, `command` by which command.
    """
    try:
        yield
    except Said as error:
        raise _said(where, doing, error, user, *command) from error
    except OSError as error:
        raise Unknown(f"{where}: {doing}: {brief(error)}") from error


def grant(*command: str) -> str:
    """Return the rule of an ACL that allows a command."""
    words = command[: 2 if command[0] in _CONTAINERS else 1]
    return f"+{'|'.join(words).lower()}"


def brief(error: Exception) -> str:
    """Return the error's own words: one line, no hash, nothing secret."""
    text = str(error).strip() or type(error).__name__
    shown = text.splitlines()[0].encode(errors="replace").decode()
    return scrub(_HASH.sub("#***", shown))[:300]


def _said(where: str, doing: str, error: Said, user: str = "", *command: str) -> StepError:
    what = f"{where}: {doing}: {brief(error)}"
    if error.code == "NOPERM":
        right = grant(*command) if command else "the rights that docs/valkey.md lists"
        return Denied(
            what,
            hint=f"Give the admin that right, on each node: ACL SETUSER {user or 'ADMIN'} {right}",
        )
    if error.code in _PASSING or "max number of clients" in error.text:
        return Transient(what)
    if "wrong number of arguments for 'auth'" in error.text:
        return Denied(what, hint=TOO_OLD, safety="Nothing was changed.")
    if "trying to save the ACLs" in error.text:
        return Transient(
            what,
            hint="The change is in force and would not survive a restart. Look at the node's log: is its disk full, its ACL file's folder writable?",
        )
    if error.code == "DENIED":
        return Denied(what, hint="The node is in protected mode: give it passwords and `bind`.")
    if "unknown command" in error.text.lower():
        return Denied(
            what,
            hint="The command is renamed or switched off there, as managed services do: their users are managed by their own API.",
        )
    return Denied(what)
