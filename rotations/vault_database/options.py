"""What a configuration says about a database secrets engine and about what is rotated in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rotator.api import UsageError


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Options of a database secrets engine."""

    through: str = field(
        metadata=_help(
            "Which of `backends`, of type `vault`: its server, namespace and login are used.",
            names="backends",
        )
    )
    mount: str = field(
        default="database", metadata=_help("Where the database secrets engine is mounted.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.mount.strip("/"):
            raise UsageError("`mount` is not empty.", hint="`bao secrets list` shows the mounts.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """Options of a secret that the engine keeps; its `path` is the role's or connection's name."""

    logs_in_on: str = field(
        metadata=_help(
            "Which of `targets` is the database of this role or connection: there it is tried"
            " what the engine serves.",
            names="targets",
        )
    )
    initial: str | None = field(
        default=None,
        metadata=_help(
            "root: reference to the password from before the first rotation, which must be"
            " refused after it.",
            reference=True,
        ),
    )
    recover: bool = field(
        default=False,
        metadata=_help(
            "root: where the engine is locked out of the database, give its login another password"
            " by the admin of `logs_in_on`, tell it to the engine, and have it rotated."
        ),
    )
