"""What a Vault answers when it does not do what it was asked, by kind."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import requests
from hvac import exceptions
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from rotator.api import Conflict, Denied, Transient, Unavailable, Unknown
from rotator.backends.bounded_http import is_too_long
from rotator.backends.responses import Excessive, Malformed, part, table
from rotator.backends.vault.adapter import RedirectRefused

if TYPE_CHECKING:
    from collections.abc import Generator


# As Go writes it; empty where there is none.
_TIME: Final = re.compile(r"[0-9TZ:.+-]{0,40}")


class Sealed(Unavailable):
    """The server is sealed: somebody has to unseal it."""


class NoActiveNode(Unavailable):
    """The server is a standby and knows no active one, or is starting."""


class RateLimited(Transient):
    """The server wants fewer requests."""


class NotAllowed(Denied):
    """A policy lacks a capability."""


class MountAbsent(Unavailable):
    """There is no such secrets engine."""


class NotVersioned(Unavailable):
    """The mount is KV version 1."""


class Foreign(Unavailable):
    """What answers is no Vault, or redirects to a place that the configuration does not name."""


class VersionGone(Conflict):
    """The newest version was deleted or destroyed."""


class CasMismatch(Exception):  # an answer, not an error: the caller finds out what it means
    """The current version was not the expected one."""


@contextmanager
def translated(where: str, path: str, capability: str, *, writing: bool = False) -> Generator[None]:
    """Turn what hvac and requests raise into our kinds. Bodies of answers are never repeated.

    `capability` is what a policy must allow on `path`. `writing`: when the answer is lost, it is
    not known whether it was done.
    """
    try:
        yield
    except exceptions.InvalidPath:
        raise
    except exceptions.VaultError as error:
        raise _answered(error, where, path, capability, writing=writing) from error
    except requests.exceptions.RequestException as error:
        raise _unanswered(error, where, writing=writing) from error
    except RedirectRefused as error:
        raise Foreign(
            f"{where} redirects to a host that is not in the configuration; rotator sent"
            " nothing there.",
            hint="If other nodes of this Vault answer there, add them to the backend's `nodes`, or"
            " set `address` to the active node. rotator never follows a redirect from https to"
            " http.",
        ) from error
    except Malformed as error:
        raise _malformed(error, where, path, writing=writing) from error


def _malformed(error: Malformed, where: str, path: str, *, writing: bool) -> Exception:
    if writing:
        return Unknown(f"{where} sent a response that is not from Vault: {error}.")
    if isinstance(error, Excessive):
        return Denied(
            f"the data of {where} at {path!r} is unreadable: {error}.",
            hint="Store login and password there, with at most a page of other data.",
        )
    return Foreign(
        f"{where} sent a response that is not from Vault: {error}.",
        hint="The address may belong to a proxy or another service. To check: curl"
        " ADDRESS/v1/sys/health",
    )


def _answered(
    error: exceptions.VaultError, where: str, path: str, capability: str, *, writing: bool
) -> Exception:
    words = " ".join(_errors(error))
    match error:
        case exceptions.Forbidden():
            line = f'path "{path}" {{ capabilities = [{_quoted(capability)}] }}'
            hint = (
                f"The policy requires: {line}. To print the whole policy: `rotator policy BACKEND`"
            )
            return NotAllowed(f"{where} does not allow {capability} on {path!r}.", hint=hint)
        case exceptions.RateLimitExceeded():
            return RateLimited(f"{where} limits the rate of requests (429).")
        case exceptions.VaultDown():
            return _down(where, is_sealed="sealed" in words)
        case exceptions.VaultNotInitialized():
            return Unavailable(f"{where} is not initialized.", hint="bao operator init")
        case exceptions.InvalidRequest() if "check-and-set parameter did not match" in words:
            return CasMismatch()
        case exceptions.InvalidRequest() if "Upgrading from non-versioned" in words:
            return Transient(f"{where}: the mount is being upgraded to version 2.")
        case exceptions.InvalidRequest() | exceptions.Unauthorized():
            return Denied(f"{where} rejected the request on {path!r} as invalid.")
        case _:
            # 500 and 502; 412 (a node that has not caught up yet) and others come as unexpected.
            return _lost(f"{where} failed ({type(error).__name__}).", writing=writing)


def _down(where: str, *, is_sealed: bool) -> Unavailable:
    if is_sealed:
        return Sealed(f"{where} is sealed.", hint="Unseal it: bao operator unseal")
    return NoActiveNode(
        f"{where} has no active node: it is a standby or is starting.",
        hint="Find the active node, and check whether the others are sealed: bao status. Set"
        " `address` to the active node, or to a load balancer in front of all nodes.",
    )


def _unanswered(
    error: requests.exceptions.RequestException, where: str, *, writing: bool
) -> Exception:
    if isinstance(error, requests.exceptions.SSLError):
        hint = (
            "Set `ca` to the server's certificate authority; if the server requires a client"
            " certificate, set `client_cert` and `client_key`."
        )
        return Unavailable(f"{where}: the TLS connection failed.", hint=hint)
    # Not even connected: nothing was sent.
    if _caused_by(error, (NewConnectionError, ConnectTimeoutError)):
        return Transient(f"{where} is unreachable.", hint="rotator retries automatically.")
    if is_too_long(error):
        return _lost(f"{where} sent a response that exceeds the size limit.", writing=writing)
    return _lost(f"{where} did not answer ({type(error).__name__}).", writing=writing)


def is_mount_absent(error: exceptions.InvalidPath) -> bool:
    """Return whether a 404 means the mount rather than the key."""
    return any("no handler for route" in one for one in _errors(error))


def said(error: exceptions.VaultError) -> str:
    """Return the server's own words. They may hold anything: never to be repeated."""
    return "\n".join(_errors(error))


def metadata(error: exceptions.InvalidPath) -> dict[str, Any] | None:
    """Return the metadata in a 404: that of a version that was deleted or destroyed."""
    try:
        found = table(error.json, "data", "metadata")
        _ = part(found, "version", kind=int), part(found, "deletion_time", kind=str)
    except Malformed:
        return None
    return found if _TIME.fullmatch(found["deletion_time"]) else None


def _lost(what: str, *, writing: bool) -> Transient | Unknown:
    return Unknown(what) if writing else Transient(what, hint="rotator retries automatically.")


def _errors(error: exceptions.VaultError) -> list[str]:
    return [str(one) for one in error.errors or ()]


def _caused_by(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    reason: Any = error.args[0] if error.args else None
    return isinstance(getattr(reason, "reason", reason), kinds)


def _quoted(capability: str) -> str:
    return ", ".join(f'"{one}"' for one in capability.replace(" and ", " ").split())
