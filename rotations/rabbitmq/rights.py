"""What a user of RabbitMQ may do: read, copied to another one, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotations.rabbitmq.broker import Broker
    from rotator.api import StepContext

MARK: Final = "rotator:"
_RIGHTS: Final = ("configure", "write", "read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Everything that a user has beside its password, apart from marks of ours.

    `permissions`: by virtual host. `topics`: by virtual host and exchange. `limits`: by name.
    """

    tags: frozenset[str]
    permissions: dict[str, tuple[str, ...]]
    topics: dict[tuple[str, str], tuple[str, ...]]
    limits: dict[str, int]

    def differences(self, other: Rights) -> Iterator[str]:
        """Yield the name of each kind of right that differs."""
        for kind in ("tags", "permissions", "topics", "limits"):
            if getattr(self, kind) != getattr(other, kind):
                yield kind


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user: its tags, marks included, and whether it has a password."""

    tags: list[str]
    has_password: bool


def user_of(found: Any) -> User:
    """Return a user as the API shows it."""
    return User(tags=tags_of(found), has_password=bool(found.get("password_hash")))


def tags_of(found: Any) -> list[str]:
    """Return a user's tags, marks included: before 3.9 the API shows one text."""
    tags = found.get("tags", [])
    return tags.split(",") if isinstance(tags, str) else [str(one) for one in tags]


def read(broker: Broker, name: str, tags: list[str], ctx: StepContext) -> Rights:
    """Return the rights of a user that exists."""
    limits = broker.get(ctx, "user-limits", name, take=_limits)
    permissions = broker.get(ctx, "users", name, "permissions", take=_permissions)
    topics = broker.get(ctx, "users", name, "topic-permissions", take=_topics)
    return Rights(
        tags=frozenset(one for one in tags if one and not one.startswith(MARK)),
        permissions=permissions or {},
        topics=topics or {},
        limits=limits or {},
    )


def copy(broker: Broker, name: str, has: Rights, wanted: Rights, ctx: StepContext) -> None:
    """Give a user exactly the wanted permissions and limits. Its tags are set with its password."""
    for limit in has.limits.keys() - wanted.limits.keys():
        broker.delete(ctx, "user-limits", name, limit)
    for limit, value in wanted.limits.items():
        if has.limits.get(limit) != value:
            broker.put({"value": value}, ctx, "user-limits", name, limit)
    # Topic permissions restrict, so they come before what they restrict.
    for vhost in {one for one, _ in has.topics | wanted.topics}:
        ours, theirs = (
            {k: v for k, v in one.topics.items() if k[0] == vhost} for one in (has, wanted)
        )
        if ours == theirs:
            continue
        broker.delete(ctx, "topic-permissions", vhost, name)
        for (_, exchange), (write, readable) in theirs.items():
            body: dict[str, object] = {"exchange": exchange, "write": write, "read": readable}
            broker.put(body, ctx, "topic-permissions", vhost, name)
    for vhost in has.permissions.keys() - wanted.permissions.keys():
        broker.delete(ctx, "permissions", vhost, name)
    for vhost, rights in wanted.permissions.items():
        if has.permissions.get(vhost) != rights:
            broker.put(dict(zip(_RIGHTS, rights, strict=True)), ctx, "permissions", vhost, name)


def _limits(found: Any) -> dict[str, int]:
    return {key: int(value) for one in found for key, value in one["value"].items()}


def _permissions(found: Any) -> dict[str, tuple[str, ...]]:
    return {str(one["vhost"]): tuple(str(one[key]) for key in _RIGHTS) for one in found}


def _topics(found: Any) -> dict[tuple[str, str], tuple[str, ...]]:
    return {
        (str(one["vhost"]), str(one["exchange"])): (str(one["write"]), str(one["read"]))
        for one in found
    }
