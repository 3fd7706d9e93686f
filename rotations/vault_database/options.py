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
            "Backend of type `vault`, one of `backends`, whose server, namespace and login are"
            " used.",
            names="backends",
        )
    )
    mount: str = field(
        default="database", metadata=_help("Mount path of the database secrets engine.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.mount.strip("/"):
            raise UsageError(
                "`mount` must not be empty.", hint="List the mounts: `bao secrets list`."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """Options of a secret that the engine keeps; its `path` is the role's or connection's name."""

    logs_in_on: str = field(
        metadata=_help(
            "Target, one of `targets`, that is the database of this role or connection;"
            " rotator verifies the credential there.",
            names="targets",
        )
    )
    initial: str | None = field(
        default=None,
        metadata=_help(
            "root: reference to the password from before the first rotation, which the"
            " database must reject after it.",
            reference=True,
        ),
    )
    recover: bool = field(
        default=False,
        metadata=_help(
            "root: if the database locks the engine out, reset the password of the engine's"
            " login with the admin of `logs_in_on`, configure it in the engine, and have the"
            " engine rotate it."
        ),
    )
