"""The statements that give an admin of PostgreSQL the least rights that rotations need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotations.postgresql.options import TargetOptions

_LOGIN: Final = "the_login"


def statements(
    _options: TargetOptions, *, engine: str, admin: str, login: str | None
) -> tuple[str, ...]:
    """Return them, to be run by a superuser. `login`: the role to rotate, where it is known."""
    _ = engine
    name, role = _quoted(admin), _quoted(login or _LOGIN)
    return (
        f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '…';",
        f"GRANT {role} TO {name} WITH ADMIN OPTION;  -- for each login; PostgreSQL 16 and newer",
        f"GRANT pg_read_all_stats, pg_signal_backend TO {name};  -- for incidents",
    )


def _quoted(name: str) -> str:
    plain = name.isascii() and name.islower() and name.replace("_", "a").isalnum()
    return name if plain and not name[0].isdigit() else '"' + name.replace('"', '""') + '"'
