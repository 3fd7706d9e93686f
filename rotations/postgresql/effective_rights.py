"""What a login can do, as far as its roles and grants decide: the proof that the next one can do no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.postgresql.profile import OPTIONS_OF_MEMBERSHIPS
from rotator.api import Check, counted_rights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.postgresql.profile import Profile
    from rotations.postgresql.profile_transfer import LoginPair
    from rotations.postgresql.server import Connection

# A right: of which kind, and to what.
Right = tuple[str, ...]
Reach = dict[str, frozenset[Right]]

_SHOWN: Final = 3


def read(connection: Connection, names: Iterable[str]) -> Reach:
    """Return for each login all roles that it reaches, at any depth: whose rights it has, as whom it may
    act, and whom it may grant to others.
    """
    options = (
        "m.inherit_option, m.set_option"
        if connection.info.server_version >= OPTIONS_OF_MEMBERSHIPS
        else "u.rolinherit, true"
    )
    rows = connection.execute(_query(options).encode(), [sorted(set(names))]).fetchall()
    found: dict[str, set[Right]] = {}
    for login, role, has, acts, grants in rows:
        mine = found.setdefault(login, set())
        kinds = {"rights of": has, "may act as": acts, "may grant": grants}
        mine |= {(kind, role) for kind, given in kinds.items() if given}
    return {login: frozenset(rights) for login, rights in found.items()}


def _query(options: str) -> str:
    return f"""
WITH RECURSIVE reach (login, role, has, acts, grants) AS (
    SELECT oid, oid, true, true, false FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)
    UNION
    SELECT r.login, m.roleid, r.has AND o.inherits, r.acts AND o.sets, m.admin_option
    FROM reach r JOIN pg_catalog.pg_auth_members m ON m.member = r.role
    JOIN pg_catalog.pg_roles u ON u.oid = m.member
    CROSS JOIN LATERAL (SELECT {options}) o (inherits, sets))
SELECT pg_catalog.pg_get_userbyid(login)::pg_catalog.text, pg_catalog.pg_get_userbyid(role)::pg_catalog.text,
       pg_catalog.bool_or(has), pg_catalog.bool_or(acts), pg_catalog.bool_or(grants)
FROM reach WHERE role <> login GROUP BY 1, 2
"""  # noqa: S608 # of two texts of ours


def proof(case: LoginPair, reach: Reach, *, handed_over: bool) -> Check:
    """Return the check that the next login has no right beyond the old one's and the group's.

    Where it follows no other login: beyond the group's, and those that it was handed over with. The
    detail keeps how many there are, and a digest of them, as evidence.
    """
    mine = _rights(case, reach, case.new)
    if case.source is None and (handed_over or case.old is not None):
        return Check(
            name="rights", ok=True, detail=f"{counted_rights(mine)}; those of the same login"
        )
    more = sorted(mine - _allowed(case, reach))
    if not more:
        bounds = [repr(one.name) for one in (case.source, case.group) if one is not None]
        within = " and ".join(bounds) or "every login"
        return Check(
            name="rights", ok=True, detail=f"{counted_rights(mine)}; within those of {within}"
        )
    shown = "; ".join(" ".join(one) for one in more[:_SHOWN])
    rest = f"; and {len(more) - _SHOWN} more" if len(more) > _SHOWN else ""
    return Check(name="rights", ok=False, detail=f"more than before: {shown}{rest}")


def _allowed(case: LoginPair, reach: Reach) -> frozenset[Right]:
    """Return all that the old login and the group can do, and to be a member of either."""
    mine = _rights(case, reach, case.new)
    allowed: set[Right] = set()
    for one in (case.source, case.group):
        if one is None:
            continue
        if "SUPERUSER" in one.attributes and one is case.source:
            return mine
        rights = _rights(case, reach, one)
        allowed |= {*rights, ("rights of", one.name), ("may act as", one.name)}
        # What can act as the next login, or has its rights, has had them before.
        if ("may act as", case.name) in rights:
            allowed |= mine
        elif ("rights of", case.name) in rights:
            allowed |= {right for right in mine if right[0] in ("grant", "rights of")}
    if case.source is not None and case.stays:
        # Of a pair one may have been granted the other with ADMIN, by an operator: that stays so.
        allowed.add(("may grant", case.source.name))
    return frozenset(allowed)


def _rights(case: LoginPair, reach: Reach, profile: Profile | None) -> frozenset[Right]:
    if profile is None:
        return frozenset()
    name = profile.name
    direct: set[Right] = {("attribute", one) for one in profile.attributes - {"INHERIT"}}
    for one in case.holdings.grants:
        if one.grantee == name and one.owner != name:
            what = (one.database, one.kind, one.object, one.column or "", one.privilege)
            direct.add(("grant", *what))
            if one.grantable:
                direct.add(("grant option", *what))
    return frozenset(direct) | reach.get(name, frozenset())
