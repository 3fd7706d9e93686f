"""Which lines of pg_hba.conf and pg_ident.conf apply to a login, as far as its name decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotations.postgresql.profile import PARAMETER_GRANTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.postgresql.server import Connection

_MAY_READ: Final = """
SELECT pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
   AND pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
"""
_RULES: Final = """
SELECT line_number, user_name, ARRAY[type, database::pg_catalog.text, address, netmask], ARRAY[auth_method, options::pg_catalog.text]
FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL ORDER BY line_number
"""
# A view of PostgreSQL 15 and newer.
_MAPS: Final = """
SELECT line_number, ARRAY[pg_username], ARRAY[map_name, sys_name], ARRAY[]::pg_catalog.text[]
FROM pg_catalog.pg_ident_file_mappings WHERE error IS NULL ORDER BY line_number
"""
_MEMBERS: Final = """
WITH RECURSIVE above (login, role) AS (
    SELECT oid, oid FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)
    UNION SELECT a.login, m.roleid FROM above a JOIN pg_catalog.pg_auth_members m ON m.member = a.role)
SELECT pg_catalog.pg_get_userbyid(login)::pg_catalog.text, pg_catalog.array_agg(pg_catalog.pg_get_userbyid(role)::pg_catalog.text) FROM above GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line. `names`: which logins it is for. `what`: which connections; `how`: by which method."""

    file: str
    line: int
    names: tuple[str, ...]
    what: tuple[str | None, ...]
    how: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The lines of both files, and for each login the roles that it is a member of, itself included."""

    rules: tuple[Rule, ...] = ()
    above: tuple[tuple[str, frozenset[str]], ...] = ()

    def roles_of(self, login: str | None) -> frozenset[str]:
        """Return the login and every role that it is a member of."""
        return dict(self.above).get(login or "", frozenset())


def read(connection: Connection, logins: Iterable[str]) -> Access:
    """Return what the files hold; nothing where the admin may not read them."""
    if connection.info.parameter_status("is_superuser") != "on":
        row = connection.execute(_MAY_READ).fetchone()
        if row is None or not row[0]:
            return Access()
    has_maps = connection.info.server_version >= PARAMETER_GRANTS
    superuser = connection.info.parameter_status("is_superuser") == "on"
    with connection.pipeline():
        rules = connection.execute(_RULES)
        maps = connection.execute(_MAPS) if has_maps and superuser else None
        above = connection.execute(_MEMBERS, [sorted(set(logins))])
        return Access(
            rules=(
                *_rules("pg_hba.conf", rules.fetchall()),
                *_rules("pg_ident.conf", maps.fetchall() if maps is not None else ()),
            ),
            above=tuple((login, frozenset(roles)) for login, roles in above.fetchall()),
        )


def unlike(
    rules: Iterable[Rule], old: str, old_roles: frozenset[str], new: str, new_roles: frozenset[str]
) -> Rule | None:
    """Return the first line that makes a difference between two logins; None when none does."""
    kept = tuple(rules)
    first = _applying(kept, old, old_roles)
    second = _applying(kept, new, new_roles)
    for one, other in zip(first, second, strict=False):
        if (one.file, one.what, one.how) != (other.file, other.what, other.how):
            return min(one, other, key=lambda rule: (rule.file, rule.line))
    rest = [*first[len(second) :], *second[len(first) :]]
    return rest[0] if rest else None


def _rules(file: str, rows: Iterable[tuple[object, ...]]) -> list[Rule]:
    return [
        Rule(file=file, line=line, names=tuple(names), what=tuple(what), how=tuple(how))  # pyright: ignore[reportArgumentType]
        for line, names, what, how in rows
    ]


def _applying(rules: tuple[Rule, ...], login: str, roles: frozenset[str]) -> list[Rule]:
    """Return the lines for a login, without those that an earlier one for it hides."""
    found: dict[tuple[str, tuple[str | None, ...]], Rule] = {}
    for rule in rules:
        if any(_matches(name, login, roles) for name in rule.names):
            _ = found.setdefault((rule.file, rule.what), rule)
    return list(found.values())


def _matches(name: str, login: str, roles: frozenset[str]) -> bool:
    if name == "all":
        return True
    if name.startswith("+"):
        return name[1:] in roles
    if name.startswith("/"):
        try:
            return re.search(name[1:], login) is not None
        except re.error:
            return False
    return name == login
