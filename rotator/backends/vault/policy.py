"""The least rights that a token needs, as the policy language of Vault and OpenBao."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.api import Access

_ROTATED: Final = (
    ("data/{path}", ("create", "read", "update"), "the value that applications read"),
    (
        "data/{pending}/{path}/+",
        ("read", "update"),
        "the staged value, until it is published, and the next version",
    ),
    (
        "metadata/{pending}/{path}/+",
        ("create", "update", "delete"),
        "its owner and expiry, and its removal",
    ),
    ("metadata/{path}", ("read",), "audit verify, doctor: list versions"),
    ("metadata/{pending}/{path}/", ("list",), "audit verify, doctor: list staged values"),
)
_KEPT: Final = (("data/{path}", ("create", "read", "update"), "rotator's own values"),)
_READ: Final = (("data/{path}", ("read",), "credentials that rotator logs in with"),)
_CONSUMED: Final = (("data/{path}", ("read",), "the credential"),)
_NEXT: Final = (
    ("data/{pending}/{path}/next", ("read",), "the next version, while it is prepared"),
)
_MOUNT: Final = (("config", ("read",), "doctor: version retention"),)


def for_rotator(mount: str, pending: str, access: Access) -> str:
    """Return the policy of rotator itself, for exactly these paths."""
    kept_here = access.rotated or access.kept or access.read or not access.called
    lines = [
        *_lines(mount, pending, access.rotated, _ROTATED),
        *_lines(mount, pending, access.kept, _KEPT),
        *_lines(mount, pending, access.read, _READ),
        *_lines(mount, pending, [""] if kept_here else [], _MOUNT),
        *_called(access),
    ]
    return "".join(f"{line}\n" for line in lines)


def needed(mount: str, pending: str, path: str) -> dict[str, tuple[str, ...]]:
    """Return the capabilities that the rotation of one path needs, by places of the API."""
    return {
        f"{mount}/{below.format(path=path, pending=pending)}".replace("/+", "/any"): capabilities
        for below, capabilities, _ in _ROTATED
    }


def for_consumer(mount: str, pending: str, access: Access) -> str:
    """Return the policy of an application that reads these secrets."""
    lines = [
        *_lines(mount, pending, access.rotated, _CONSUMED),
        *_lines(mount, pending, access.next, _NEXT),
        *_called(access),
    ]
    return "".join(f"{line}\n" for line in lines)


def _called(access: Access) -> list[str]:
    """Return what other engines of the server need; several secrets may need the same."""
    found = [_line(one.path, one.capabilities, one.why) for one in access.called]
    return list(dict.fromkeys(found))


def _lines(
    mount: str,
    pending: str,
    paths: Iterable[str],
    wanted: Iterable[tuple[str, tuple[str, ...], str]],
) -> list[str]:
    return [
        _line(f"{mount}/{below.format(path=path, pending=pending)}", capabilities, why)
        for path in paths
        for below, capabilities, why in wanted
    ]


def _line(path: str, capabilities: tuple[str, ...], why: str) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities)
    return f'path "{_quoted(path)}" {{ capabilities = [{listed}] }}  # {why}'


def _quoted(path: str) -> str:
    """Return a path as a text of HCL."""
    return path.replace("\\", "\\\\").replace('"', '\\"')


# What `rotator access check` reads. Auth methods below a folder need lines of their own.
_FOLDERS: Final = ("role", "users", "groups", "certs")
_CHECKED: Final = (
    ("auth/token/lookup-self", ("read",), "which login is rotator's"),
    ("sys/auth", ("read",), "auth methods"),
    ("sys/policies/acl/+", ("read",), "policies"),
    # LIST has a slash at its end, and then `+` below would match it too.
    *((f"auth/+/{one}{end}", ("list",), "who can log in") for one in _FOLDERS for end in ("", "/")),
    *((f"auth/+/{one}/+", ("read",), "their policies") for one in _FOLDERS),
    ("auth/+/role/+/role-id", ("read",), "which identity a role is"),
    *((f"identity/{one}/id", ("list",), "identities") for one in ("entity", "group")),
    *((f"identity/{one}/id/+", ("read",), "their policies") for one in ("entity", "group")),
    ("auth/token/accessors", ("list", "sudo"), "tokens"),
    ("auth/token/lookup-accessor", ("update",), "their policies"),
)


def for_access_check(_mount: str, _pending: str, _access: Access) -> str:
    """Return the policy that shows who may do what."""
    return "".join(f"{_line(*one)}\n" for one in _CHECKED)


MAKERS: Final = {
    "rotator": for_rotator,
    "consumer": for_consumer,
    "access-check": for_access_check,
}
