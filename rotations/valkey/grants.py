"""The command that gives an admin of Valkey or Redis the least rights that rotations need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotations.valkey.options import TargetOptions

_RIGHTS: Final = (
    "-@all +info +acl|list +acl|setuser +acl|deluser +acl|save +acl|dryrun +client|list +client|kill"
    " +config|get +command|info +cluster|nodes"
)


def statements(
    _options: TargetOptions, *, engine: str, admin: str, login: str | None
) -> tuple[str, ...]:
    """Return it, to be run on every node by a user that may do everything."""
    _ = engine, login
    return (f"ACL SETUSER {admin} on >… resetkeys resetchannels {_RIGHTS}",)
