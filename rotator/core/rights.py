"""Who may do what to what a backend keeps: rights as the server holds them, by whom and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verb(StrEnum):
    """What a right allows to do to a secret. STAGED: to read a value before it is published."""

    READ = "read"
    STAGED = "read staged values of"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRight:
    """One right of one identity on one path. `place`: where the identity gets it, such as a role.

    `identity` is the name that the server's audit log has for it; `*` in it stands for any characters.
    `rule`: the line of `policy` that allows it.
    """

    identity: str
    place: str
    path: str
    verb: Verb
    policy: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WideRight:
    """A right that reaches beyond secrets, or has no end, and what to do about it."""

    identity: str
    place: str
    policy: str
    rule: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What could not be read, and the right that is missing for it."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """The rights of everybody who can log in. `own`: the names of rotator's own login.

    `identities`: everybody, also those without a right; empty where they are not known. `notes`: what this
    server never shows. `cited`: how a message names a policy and a rule of it.
    """

    held: tuple[HeldRight, ...] = ()
    wide: tuple[WideRight, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    own: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cited: tuple[str, str] = ("policy {}", 'path "{}"')


def login_name(display_name: str, role: str | None) -> str:
    """Return how audit logs and the configuration call a login: by its auth method and its role."""
    return f"{display_name}/{role}" if role else display_name
