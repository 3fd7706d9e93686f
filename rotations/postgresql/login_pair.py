"""Reading two logins: first the shared catalogs, then each database that has a say."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from psycopg import sql

from rotations.postgresql import hba, privileges, profile
from rotations.postgresql.drop_role import acting_as
from rotations.postgresql.profile import PARAMETER_GRANTS
from rotations.postgresql.profile_transfer import UNLISTED, LoginPair
from rotations.postgresql.roles import split_names
from rotator.api import Denied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.postgresql.privileges import Holdings
    from rotations.postgresql.profile import Profile
    from rotations.postgresql.profile_transfer import Change
    from rotations.postgresql.server import Connection, Server
    from rotator.api import StepContext

# Kinds of entries of pg_shdepend that say nothing about what is inside a database.
_ELSEWHERE: Final = "pg_auth_members"
_UNSETTABLE: Final = """
SELECT n FROM pg_catalog.unnest(%s::pg_catalog.text[]) n LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(n)
WHERE coalesce(s.context, 'superuser') NOT IN ('user', 'backend') AND NOT {}
"""


def read(
    server: Server,
    admin: Connection,
    *,
    name: str,
    old: str | None,
    group: str | None,
    stays: bool,
    overlaps: bool,
    new_expiry: bool,
) -> LoginPair:
    """Read all that decides how login `name` follows login `old`."""
    names = [one for one in (name, old, group) if one]
    profiles = profile.read(admin, names, group=group)
    own = next(one for one in profiles.values() if one.is_admin)
    case = LoginPair(
        name=name,
        new=profiles.get(name),
        old=profiles.get(old or ""),
        group_name=group,
        group=profiles.get(group or ""),
        admin=own,
        version=admin.info.server_version,
        stays=stays or old == group,
        overlaps=overlaps,
        new_expiry=new_expiry,
    )
    if case.source is None:
        return case
    found = privileges.Holdings()
    for database in _databases(case, server.options.dbname):
        found = found.and_also(_in_database(server, admin, database, names))
    return replace(
        case,
        unsettable=_unsettable(admin, case),
        holdings=found,
        access=hba.read(admin, names),
    )


def carry(
    server: Server, admin: Connection, changes: Sequence[Change], ctx: StepContext, doing: str
) -> None:
    """Send statements to the databases that they belong to, one transaction each."""
    place = server.options.dbname
    placed = sorted(changes, key=lambda one: one.database or place)
    for database, group in groupby(placed, key=lambda one: one.database or place):
        ctx.require_time()
        some = list(group)
        with ExitStack() as stack:
            link = admin
            if database != place:
                link = stack.enter_context(server.admin_in(database, doing))
            if link.info.parameter_status("is_superuser") != "on":
                for role in dict.fromkeys(role for one in some for role in one.roles):
                    stack.enter_context(acting_as(server, link, role))
            _ = link.execute(sql.SQL("; ").join([one.statement for one in some]))


def _in_database(
    server: Server, admin: Connection, database: str, names: Sequence[str]
) -> Holdings:
    if database == server.options.dbname:
        found = privileges.read(admin, database, names, shared=True)
    else:
        try:
            with server.admin_in(database, "reading the rights of the logins") as link:
                found = privileges.read(link, database, names, shared=False)
        except Denied as error:
            return privileges.Holdings(unreadable=((database, error.what),))
    if found.schemas and not found.search_paths:
        return replace(found, search_paths=((database, server.default_path(database)),))
    return found


def _databases(case: LoginPair, place: str) -> list[str]:
    """Return where to look: where the logins hold something, and where `"$user"` may matter."""
    old, new = case.source, case.new
    if old is None:
        return []
    # As the group itself the next login has all that the old one holds.
    holders = [one for one in ((None if case.old_is_group else old), new) if one is not None]
    found = {
        one.database or place
        for holder in holders
        for one in holder.dependences
        if one.catalog != _ELSEWHERE and one.kind != "i"
    }
    drawn = old.mark is not None and not case.stays
    if not drawn:
        found |= {one for one in old.databases if _looks_up_user(case, old, one)}
    return sorted(found)


def _looks_up_user(case: LoginPair, old: Profile, database: str) -> bool:
    """Whether `"$user"` may be another schema for the next login than for the old one."""
    if old.acts_as(database) == case.acts_as(database):
        return False
    path = old.setting("search_path", database) or old.setting("search_path")
    return path is None or "$user" in split_names(path)


def _unsettable(admin: Connection, case: LoginPair) -> frozenset[str]:
    settings = [*(case.old.settings if case.old else ()), *(case.new.settings if case.new else ())]
    names = sorted({one.name for one in settings} - UNLISTED)
    if case.superuser or not names:
        return frozenset()
    granted = (
        "pg_catalog.has_parameter_privilege(n, 'SET')"
        if case.version >= PARAMETER_GRANTS
        else "false"
    )
    rows = admin.execute(_UNSETTABLE.format(granted).encode(), [names]).fetchall()
    return frozenset(row[0] for row in rows)
