"""Who acts, and what they may do: actors, roles, approval rules. Pure: faces and engines ask the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from rotator.core.model import Json

# How an actor was authenticated: by the operating system, and by a process of its own.
OS: Final = "os"
# The longest that a request waits unless the configuration says otherwise.
REQUEST_LASTS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts. `method`: how they were authenticated, such as `os`, `password`, `oidc` or `proxy`.

    `face`: where they act (`cli`, `web`, `daemon`). `host`: from which machine. `groups`: those of the
    operating system or of the identity provider.
    """

    subject: str
    method: str
    face: str
    host: str
    groups: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.face}:{self.subject}@{self.host}"

    def as_data(self) -> dict[str, Json]:
        """Return the actor as events record it, without groups."""
        return {
            "subject": self.subject,
            "method": self.method,
            "face": self.face,
            "host": self.host,
        }

    @staticmethod
    def from_data(data: object) -> Actor | None:
        """Return the actor that an event records; None where it records none."""
        if not isinstance(data, Mapping):
            return None
        found: Mapping[str, object] = data
        groups = found.get("groups")
        return Actor(
            subject=str(found.get("subject", "")),
            method=str(found.get("method", "")),
            face=str(found.get("face", "")),
            host=str(found.get("host", "")),
            groups=tuple(map(str, groups)) if isinstance(groups, list | tuple) else (),
        )

    def is_called(self, name: str) -> bool:
        """Return whether a name in the configuration means this actor: `NAME` or `METHOD:NAME`."""
        return name in (self.subject, f"{self.method}:{self.subject}")

    def belongs_to(self, group: str) -> bool:
        """Return whether a group in the configuration holds this actor: `GROUP` or `METHOD:GROUP`."""
        return any(group in (one, f"{self.method}:{one}") for one in self.groups)


class Role(StrEnum):
    """What somebody is there for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    BREAKER = "breaker"
    AUDITOR = "auditor"
    LEASEHOLDER = "leaseholder"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a role allows."""

    VIEW = "view"
    ROTATE = "rotate"
    ROLLBACK = "rollback"
    REVOKE = "revoke-now"
    PARK = "park"
    UNPARK = "unpark"
    INCIDENT = "incident"
    KILL = "kill"
    APPROVE = "approve"
    BREAK_GLASS = "break-glass"
    AUDIT = "audit"
    REVEAL = "reveal"
    LEASE = "lease"
    END_LEASE = "end-lease"
    MANAGE = "manage"


# What can be requested, and can need an approval.
ACTIONS: Final = (
    Permission.ROTATE,
    Permission.ROLLBACK,
    Permission.REVOKE,
    Permission.PARK,
    Permission.UNPARK,
    Permission.INCIDENT,
    Permission.KILL,
)
# What only shows something.
LOOKS: Final = (Permission.VIEW, Permission.AUDIT)
_OPERATES: Final = frozenset(ACTIONS) - {Permission.KILL}
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: _OPERATES | {Permission.VIEW, Permission.END_LEASE},
    Role.APPROVER: frozenset({Permission.VIEW, Permission.APPROVE}),
    Role.BREAKER: frozenset(
        {
            *(Permission.VIEW, Permission.REVOKE, Permission.INCIDENT, Permission.KILL),
            Permission.BREAK_GLASS,
        }
    ),
    Role.AUDITOR: frozenset({Permission.VIEW, Permission.AUDIT}),
    Role.LEASEHOLDER: frozenset({Permission.VIEW, Permission.LEASE, Permission.END_LEASE}),
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What rules know of a secret."""

    name: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Some secrets: those with one of `tags` and a name like one of `names`. Empty means any."""

    tags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def takes(self, secret: Subject) -> bool:
        """Return whether the secret is one of them."""
        tagged = not self.tags or any(tag in secret.tags for tag in self.tags)
        named = not self.names or any(fnmatchcase(secret.name, one) for one in self.names)
        return tagged and named


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who has a role, over which secrets."""

    role: Role
    subjects: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    where: Selector = field(default_factory=Selector)

    def is_for(self, actor: Actor) -> bool:
        """Return whether the actor has this role."""
        return any(map(actor.is_called, self.subjects)) or any(map(actor.belongs_to, self.groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """Which actions need how many approvals. `expires`: until when a request must have them."""

    actions: tuple[Permission, ...]
    where: Selector = field(default_factory=Selector)
    by: int = 1
    not_self: bool = True
    expires: timedelta = REQUEST_LASTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the configuration says of roles and approvals.

    `grants` None: it has no section `roles`. Then the operating system's users may do everything, as
    far as their rights in the backend go, and everybody else may only look.
    """

    grants: tuple[Grant, ...] | None = None
    rules: tuple[ApprovalRule, ...] = ()

    def may(self, actor: Actor, permission: Permission, secret: Subject | None = None) -> bool:
        """Return whether an actor may do this to a secret; without one: to any secret at all."""
        if self.grants is None:
            return actor.method == OS or permission is Permission.VIEW
        return any(
            permission in PERMISSIONS[one.role]
            and one.is_for(actor)
            and (secret is None or one.where.takes(secret))
            for one in self.grants
        )

    def covers_all(self, actor: Actor, permission: Permission) -> bool:
        """Return whether an actor may do this to every secret, whatever its name and tags."""
        if self.grants is None:
            return self.may(actor, permission)
        return any(
            permission in PERMISSIONS[one.role] and one.is_for(actor) and one.where == Selector()
            for one in self.grants
        )

    def roles(self, actor: Actor) -> tuple[Role, ...]:
        """Return the roles that an actor has over some secret, in the order of `Role`."""
        held = {one.role for one in self.grants or () if one.is_for(actor)}
        return tuple(one for one in Role if one in held)

    def allowed_to(self, permission: Permission) -> str:
        """Return the roles that allow this, for a message."""
        return ", ".join(role for role in Role if permission in PERMISSIONS[role])

    def rules_for(self, action: Permission, secret: Subject) -> tuple[ApprovalRule, ...]:
        """Return the rules by which an action on a secret needs approvals."""
        return tuple(one for one in self.rules if action in one.actions and one.where.takes(secret))

    def known_groups(self, actor: Actor) -> Actor:
        """Return the actor with only the groups that the configuration names: what a request records."""
        named = {group for one in self.grants or () for group in one.groups}
        kept = (one for one in actor.groups if {one, f"{actor.method}:{one}"} & named)
        return replace(actor, groups=tuple(kept))


def missing_approvals(
    rules: Collection[ApprovalRule], requester: Actor, approvers: Collection[Actor]
) -> int:
    """Return how many approvals are still missing: each of another approver."""
    missing = [0]
    for rule in rules:
        counted = {
            one.subject
            for one in approvers
            if not rule.not_self or one.subject != requester.subject
        }
        missing.append(rule.by - len(counted))
    return max(missing)
