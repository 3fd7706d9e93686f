"""How the next login comes to equal the current one: one table of kinds, each carried or refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, LiteralString, cast

from psycopg import sql

from rotations.postgresql import hba
from rotations.postgresql.preconditions import Obstacle
from rotations.postgresql.privileges import PUBLIC, Grant, Holdings, OwnedObject, RowPolicy
from rotations.postgresql.profile import (
    DEFAULT_ATTRIBUTES,
    OPTIONS_OF_MEMBERSHIPS,
    PARAMETER_GRANTS,
    Profile,
)
from rotations.postgresql.roles import (
    Setting,
    join_names,
    reset_setting,
    set_setting,
    split_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotations.postgresql.profile import Membership

_Options = tuple[bool, bool, bool]
_PLAIN: Final[_Options] = (False, True, True)
_USER: Final = "$user"
# Hidden from pg_settings, and everybody may set them.
UNLISTED: Final = frozenset({"role", "seed", "session_authorization", "is_superuser"})
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference of the next login, and the statement that removes it.

    `database`: where it is sent, None for the cluster as a whole. `roles`: whose rights it needs.
    """

    what: str
    statement: sql.Composed
    database: str | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPair:
    """Two logins, and all that was read of them. Pure data.

    `name` is the next login's, `new` its profile where it exists already. `stays`: the role of the
    old login is not dropped. `new_expiry`: the options give each password an expiry of its own.
    `unsettable`: parameters of the old login that the admin may not set.
    """

    name: str
    new: Profile | None
    old: Profile | None
    admin: Profile
    version: int
    group_name: str | None = None
    group: Profile | None = None
    stays: bool = False
    overlaps: bool = True
    new_expiry: bool = False
    unsettable: frozenset[str] = frozenset()
    holdings: Holdings = field(default_factory=Holdings)
    access: hba.Access = field(default_factory=hba.Access)

    @property
    def superuser(self) -> bool:
        """Whether the admin is one."""
        return "SUPERUSER" in self.admin.attributes

    @property
    def source(self) -> Profile | None:
        """Return the login that the next one is to equal; None for the first one or the same one."""
        return self.old if self.old is not None and self.old.name != self.name else None

    @property
    def old_is_group(self) -> bool:
        """Whether the next login acts as the old one itself."""
        return self.source is not None and self.source.name == self.group_name

    @property
    def has_old(self) -> bool:
        """Whether the next login has every right of the old one, as a member of it."""
        return self.old_is_group or (
            self.source is not None
            and self.new is not None
            and self.source.name in self.new.inherits
        )

    @property
    def old_has_new(self) -> bool:
        """Whether the old login has every right of the next one, as a member of it."""
        return self.source is not None and self.name in self.source.inherits

    @property
    def acts_as_group(self) -> bool:
        """Whether the next login is to act as the group.

        Not where the group lacks what the old login has and uses as itself.
        """
        if self.group_name is None or self.name == self.group_name:
            return False
        old = self.source
        if old is None or self.old_is_group or self.group is None:
            return self.old is None or self.old_is_group
        role = old.setting("role")
        return role == self.group_name if role is not None else _covers(self.group, old)

    def wanted_settings(self) -> tuple[Setting, ...]:
        """Return what the next login is to have."""
        old = self.source
        found = {(one.name, one.database): one.value for one in (old.settings if old else ())}
        if old is not None and not self.old_is_group:
            for key, value in found.items():
                if key[0] == "role" and value == old.name:
                    found[key] = self.name
        if self.acts_as_group:
            for key, value in found.items():
                # The old login acts as itself there; the next one does as the group that it has become.
                if key[0] == "role" and self.old_is_group and value in {"none", *self._idle_roles}:
                    found[key] = self.group_name or ""
            _ = found.setdefault(("role", None), self.group_name or "")
        for (name, database), value in list(found.items()):
            if name == "role" and database is None and value == self.name:
                del found[name, database]
        if old is not None:
            self._keep_schemas(old, found)
        return tuple(
            Setting(name=name, database=database, value=value)
            for (name, database), value in found.items()
        )

    def acts_as(self, database: str) -> str:
        """Return the role that sessions of the next login will act as in a database."""
        settings = {(one.name, one.database): one.value for one in self.wanted_settings()}
        return self._acting(settings, database)

    def _acting(self, settings: dict[tuple[str, str | None], str], database: str) -> str:
        for place in (database, None):
            role = settings.get(("role", place))
            if role is not None and role not in self._idle_roles:
                return self.name if role == "none" else role
        return self.name

    @property
    def _idle_roles(self) -> set[str]:
        """The roles that the old login is to act as by a setting, and may not."""
        old = self.source
        if old is None:
            return set()
        return {one.value for one in old.settings if one.name == "role"} - {*old.may_act_as}

    def _keep_schemas(self, old: Profile, found: dict[tuple[str, str | None], str]) -> None:
        """Let `"$user"` mean the schema that it means for the old login."""
        for database, fallback in self.holdings.search_paths:
            before = old.acts_as(database)
            after = self._acting(found, database)
            schemas = [one for one in (before, after) if (database, one) in self.holdings.schemas]
            path = split_names(
                found.get(("search_path", database), found.get(("search_path", None), fallback))
            )
            if before == after or not schemas or _USER not in path:
                continue
            kept = [before] if before in schemas else []
            names = [name for one in path for name in (kept if one == _USER else [one])]
            found["search_path", database] = join_names(names) or '""'

    def wanted_memberships(self) -> dict[str, _Options]:
        """Return the roles that the next login is to be a member of, with ADMIN, INHERIT and SET."""
        old = self.source
        wanted: dict[str, _Options] = {}
        if old is not None and not self.old_is_group:
            wanted = _options(old.memberships, lambda one: one.role)
            mine = _options(self.new.memberships, lambda one: one.role) if self.new else {}
            if old.name in mine:
                # Of a pair one may be a member of the other, and that stays so.
                wanted[old.name] = mine[old.name]
        _ = wanted.pop(self.name, None)
        if self.group_name is not None and self.group_name != self.name:
            _ = wanted.setdefault(self.group_name, _PLAIN)
        return wanted

    def roles_of_new(self) -> frozenset[str]:
        """Return the next login and every role that it will be a member of."""
        old = self.source
        above = self.access.roles_of(old.name if old else None)
        if old is not None and not self.has_old:
            above -= {old.name}
        mine = self.access.roles_of(self.name) | self.access.roles_of(self.group_name)
        return above | mine | {self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileItem:
    """One kind of thing that makes a login what it is.

    `changes`: what the next login lacks and what it has too much, with the statements that carry it
    over; after them there is none left, which is the comparison. `obstacles`: what cannot be
    carried, known before the first statement.
    """

    name: str
    changes: Callable[[LoginPair], list[Change]] = lambda _: []
    obstacles: Callable[[LoginPair], list[tuple[str, str]]] = lambda _: []


def changes(case: LoginPair) -> list[Change]:
    """Return all that the next login differs in."""
    return [change for kind in KINDS for change in kind.changes(case)]


def closed(case: LoginPair) -> list[Obstacle]:
    """Return whether somebody has closed the current login: its successor would be open."""
    old = case.old
    if old is None or old.can_login:
        return []
    cause = f"login {old.name!r} is NOLOGIN, and the next one would let its application in again"
    remedy = f"If that is intended: ALTER ROLE {_name(old.name)} LOGIN;"
    return [Obstacle(kind="closed", cause=cause, remedy=remedy)]


def obstacles(case: LoginPair) -> list[Obstacle]:
    """Return all that keeps the next login from equalling the current one."""
    return [
        Obstacle(kind=kind.name, cause=cause, remedy=remedy)
        for kind in KINDS
        for cause, remedy in dict.fromkeys(kind.obstacles(case))
    ]


def to_others(case: LoginPair) -> list[Change]:
    """Return what keeps what others have through the old login, before that is dropped.

    Nothing is taken from the new login: what the old one lacks may have been taken from it by an
    earlier try of this step, which was interrupted.
    """
    old = case.source
    if old is None:
        return []
    kept = [
        Change(
            what=f"{one.grantee} keeps {one.privilege} on {one.object}",
            statement=_grant(one, one.grantee),
            database=one.database,
            roles=(one.owner,),
        )
        for one in case.holdings.grants
        if one.grantor == old.name and one.grantee not in (old.name, case.name)
    ]
    kept += [
        Change(
            what=f"{one.member} stays a member of {one.role}",
            statement=_membership(case, one.role, one.member, one.options),
        )
        for one in old.granted
        if one.member != case.name
    ]
    lacks, _ = _unlike_grants(case)
    given = [_given(case, one) for one in lacks]
    joins, _ = _unlike_policies(case)
    return [*_members(case), *joins, *given, *kept]


# -- attributes, limits, settings ------------------------------------------------------------------


def _attributes(case: LoginPair) -> list[Change]:
    unlike = _unlike_attributes(case)
    if not unlike:
        return []
    has = case.new.attributes if case.new else DEFAULT_ATTRIBUTES
    words = [f"NO{one}" if one in has else one for one in unlike]
    return [
        _alter(case, ", ".join(words), sql.SQL(cast("LiteralString", " ".join(words))))
    ]  # of CREATE ROLE's own words


def _unlike_attributes(case: LoginPair) -> list[str]:
    old = case.source
    if old is None:
        return []
    has = case.new.attributes if case.new else DEFAULT_ATTRIBUTES
    # It has the rights of the group only where it inherits them.
    wanted = old.attributes | ({"INHERIT"} if case.old_is_group else set())
    return sorted(wanted ^ has)


def _attributes_refused(case: LoginPair) -> list[tuple[str, str]]:
    if case.superuser:
        return []
    found: list[tuple[str, str]] = []
    for one in _unlike_attributes(case):
        asks_own = case.version >= OPTIONS_OF_MEMBERSHIPS and one != "SUPERUSER"
        if one in ("INHERIT", "CREATEROLE") or (not asks_own and one == "CREATEDB"):
            continue
        if asks_own and one in case.admin.attributes:
            continue
        found.append(
            (
                f"the admin {case.admin.name!r} lacks the right to set {one}",
                f"Run as a superuser: ALTER ROLE {_name(case.admin.name)} {one if asks_own else 'SUPERUSER'};",
            )
        )
    return found


def _limit(case: LoginPair) -> list[Change]:
    old, has = case.source, case.new.connection_limit if case.new else -1
    if old is None or old.connection_limit == has:
        return []
    # psycopg writes a space before a negative number.
    unlimited, limited = sql.SQL("CONNECTION LIMIT -1"), sql.SQL("CONNECTION LIMIT {}")
    limit = (
        limited.format(sql.Literal(old.connection_limit))
        if old.connection_limit >= 0
        else unlimited
    )
    return [_alter(case, f"{has}, expected {old.connection_limit}", limit)]


def _expiry(case: LoginPair) -> list[Change]:
    old, has = case.source, case.new.valid_until if case.new else None
    if old is None or case.new_expiry or old.valid_until == has:
        return []
    until = sql.SQL("VALID UNTIL {}").format(sql.Literal(old.valid_until or "infinity"))
    return [_alter(case, f"{has or 'none'}, expected {old.valid_until or 'none'}", until)]


def _expired(case: LoginPair) -> list[tuple[str, str]]:
    old = case.old
    if old is None or not old.expired or case.new_expiry:
        return []
    return [
        (
            (
                f"login {old.name!r} expired at {old.valid_until}, and the server would reject the"
                " next one too"
            ),
            f"ALTER ROLE {_name(old.name)} VALID UNTIL 'infinity'; or set the option `valid_days`.",
        )
    ]


def _settings(case: LoginPair) -> list[Change]:
    lacks, excess = _unlike_settings(case)
    return [
        *(
            Change(what=f"has {one.name}{_in(one)}", statement=reset_setting(case.name, one))
            for one in excess
        ),
        *(
            Change(what=f"lacks {one.name}{_in(one)}", statement=set_setting(case.name, one))
            for one in lacks
        ),
    ]


def _unlike_settings(case: LoginPair) -> tuple[list[Setting], list[Setting]]:
    """Return the settings that the next login lacks, and those that it has too much."""
    has = case.new.settings if case.new else ()
    wanted = case.wanted_settings()
    known = {one.key for one in has}
    places = {(one.name, one.database) for one in wanted}
    return (
        [one for one in wanted if one.key not in known],
        # The first login of a secret is compared with nothing.
        [one for one in has if case.source is not None and (one.name, one.database) not in places],
    )


def _settings_refused(case: LoginPair) -> list[tuple[str, str]]:
    lacks, excess = _unlike_settings(case)
    names = sorted({one.name for one in (*lacks, *excess)} & case.unsettable)
    admin = _name(case.admin.name)
    return [
        (
            f"only a superuser may set {name}",
            f"Run as a superuser: GRANT SET ON PARAMETER {_parameter(name)} TO {admin};"
            if case.version >= PARAMETER_GRANTS
            else f"Run as a superuser: ALTER ROLE {_name(case.old.name if case.old else '')} RESET {_parameter(name)};",
        )
        for name in names
    ]


# -- memberships -----------------------------------------------------------------------------------


def _memberships(case: LoginPair) -> list[Change]:
    has = _options(case.new.memberships, lambda one: one.role) if case.new else {}
    wanted = case.wanted_memberships()
    found: list[Change] = []
    for role in sorted(_unlike_memberships(case)):
        options = wanted.get(role)
        if options is None:
            found += _revoked(case, role)
            continue
        if role in has:
            found += _revoked(case, role)
        found.append(
            Change(
                what=f"{'differs in the options of' if role in has else 'lacks'} {role}",
                statement=_membership(case, role, case.name, options),
            )
        )
    return found


def _unlike_memberships(case: LoginPair) -> set[str]:
    has = _options(case.new.memberships, lambda one: one.role) if case.new else {}
    wanted = case.wanted_memberships()
    old = case.source
    theirs = {one.role for one in old.memberships} if old is not None else set[str]()
    lacks = {
        role
        for role, options in wanted.items()
        if (role not in has and (role == case.group_name or not case.has_old or case.old_is_group))
        or (role in has and old is not None and not _same(case, has[role], options))
    }
    # The first login of a secret is compared with nothing.
    keeps = old is None or case.old_has_new
    excess = set[str]() if keeps else set(has) - set(wanted) - (theirs if case.has_old else set())
    return lacks | excess


def _revoked(case: LoginPair, role: str) -> list[Change]:
    rows = [one for one in (case.new.memberships if case.new else ()) if one.role == role]
    by = sql.SQL(" GRANTED BY {}")
    # One row for each grantor since PostgreSQL 16.
    return [
        Change(
            what=f"is a member of {role}",
            statement=sql.SQL("REVOKE {} FROM {}{}").format(
                sql.Identifier(role),
                sql.Identifier(case.name),
                by.format(sql.Identifier(one.grantor))
                if case.version >= OPTIONS_OF_MEMBERSHIPS
                else sql.SQL(""),
            ),
        )
        for one in rows
    ]


def _memberships_refused(case: LoginPair) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if case.group_name is not None and case.group is None and case.group_name != case.name:
        found.append(
            (
                f"the group role {case.group_name!r} does not exist",
                (
                    "Create the role that owns the application's objects: CREATE ROLE"
                    f" {_name(case.group_name)} NOLOGIN;"
                ),
            )
        )
    known = {
        one.role: one.grantable
        for profile in (case.old, case.new)
        if profile is not None
        for one in profile.memberships
    }
    if case.group is not None:
        known[case.group.name] = case.group.grantable
    has = _options(case.new.memberships, lambda one: one.role) if case.new else {}
    unlike = _unlike_memberships(case)
    found += [
        (
            f"the admin {case.admin.name!r} lacks the right to grant {role!r}",
            _with_admin(case, role),
        )
        for role in sorted(unlike)
        if not known.get(role, True)
    ]
    passed_on = {one.role for one in (case.new.granted if case.new else ())} & (unlike & set(has))
    found += [
        (
            (
                f"login {case.name!r} itself granted {role!r} to others, so it cannot be revoked"
                " from it"
            ),
            (
                f"REVOKE {_name(role)} FROM {_name(case.name)} CASCADE; and grant it again to the"
                " roles that need it."
            ),
        )
        for role in sorted(passed_on)
    ]
    # What cannot be altered could not be revoked later.
    found += [
        _unalterable(case, one)
        for one in (case.old, case.new)
        if one is not None and not one.is_admin and not _may_alter(case, one)
    ]
    return found


def _may_alter(case: LoginPair, one: Profile) -> bool:
    return case.superuser or (one.grantable and "SUPERUSER" not in one.attributes)


def _unalterable(case: LoginPair, one: Profile) -> tuple[str, str]:
    admin = case.admin.name
    if "SUPERUSER" in one.attributes:
        return (
            f"login {one.name!r} is a superuser, which the admin {admin!r} may not alter",
            f"Make the `admin` a superuser, or run as one: ALTER ROLE {_name(one.name)} NOSUPERUSER;",
        )
    return f"the admin {admin!r} lacks the right to alter {one.name!r}", _with_admin(case, one.name)


def _members(case: LoginPair) -> list[Change]:
    old = case.source
    if old is None or case.old_is_group:
        return []
    wanted = _options(old.members, lambda one: one.member)
    has = _options(case.new.members, lambda one: one.member) if case.new else {}
    above = {one.role for one in case.new.memberships} if case.new else set[str]()
    leave_out = {case.name, case.admin.name} | above | set(case.wanted_memberships())
    return [
        Change(
            what=f"{member} is not a member of it",
            statement=_membership(case, case.name, member, options),
        )
        for member, options in wanted.items()
        if member not in leave_out and not (member in has and _same(case, has[member], options))
    ]


def _members_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None or case.old_is_group:
        return []
    found = [
        (
            (
                f"{one.member!r} is a member of {old.name!r}, and the next login should be a"
                " member of it"
            ),
            f"Set the option `group: {old.name}`.",
        )
        for one in old.members
        if one.member in case.wanted_memberships() and not case.stays
    ]
    if not case.stays:
        found += [
            (
                f"role {other!r} has the setting role = {old.name}, which rotator will drop",
                f"Set the option `group: {old.name}`, or ALTER ROLE {_name(other)} SET role TO {_name(case.group_name or '')};",
            )
            for other in old.acted_as_by
            if other != case.name
        ]
    return found


# -- inside databases --------------------------------------------------------------------------------


def _grants(case: LoginPair) -> list[Change]:
    old = case.source
    if old is None:
        return []
    lacks, excess = _unlike_grants(case)
    theirs = [one for one in case.holdings.grants if one.grantee == old.name]
    wanted = {_what(one) for one in theirs}
    # What is revoked on a table is revoked on its columns too: first that, then what is given.
    lost = {_what(one) for one in excess if one.column is None}
    again = [
        one
        for one in theirs
        if one not in lacks
        and one.column is not None
        and _what(replace(one, column=None)) in lost
        and not case.has_old
    ]
    found = [
        Change(
            what=f"has {one.privilege} on {one.kind.lower()} {one.object} in {one.database}",
            statement=_grant(one, case.name, revoke=True, option_only=_what(one) in wanted),
            database=one.database,
            roles=(one.owner,),
        )
        for one in excess
    ]
    return found + [_given(case, one) for one in (*lacks, *again)]


def _given(case: LoginPair, one: Grant) -> Change:
    return Change(
        what=f"lacks {one.privilege} on {one.kind.lower()} {one.object} in {one.database}",
        statement=_grant(one, case.name),
        database=one.database,
        roles=(one.owner,),
    )


def _what(one: Grant) -> tuple[str, str, str, str | None, str]:
    return one.database, one.kind, one.object, one.column, one.privilege


def _unlike_grants(case: LoginPair) -> tuple[list[Grant], list[Grant]]:
    """Return the grants that the next login lacks, and those that it has too much."""
    old = case.source
    if old is None:
        return [], []
    mine = [one for one in case.holdings.grants if one.grantee == case.name]
    theirs = [one for one in case.holdings.grants if one.grantee == old.name]
    has = {(_what(one), one.grantable) for one in mine}
    wanted = {(_what(one), one.grantable) for one in theirs}
    lacks = [
        one
        for one in theirs
        if not case.has_old
        and one.owner != case.name
        and (_what(one), True) not in has
        and (_what(one), one.grantable) not in has
    ]
    excess = [
        one
        for one in mine
        if not case.old_has_new
        and one.owner != old.name
        and (_what(one), True) not in wanted
        and (_what(one), one.grantable) not in wanted
    ]
    return lacks, excess


def _grants_refused(case: LoginPair) -> list[tuple[str, str]]:
    lacks, excess = _unlike_grants(case)
    found = [
        _may_not_act(case, one.owner, f"{one.kind.lower()} {one.object}")
        for one in (*lacks, *excess)
        if not one.may
    ]
    found += [
        (
            (
                f"{one.grantor!r}, which does not own {one.object}, granted {one.privilege} on it"
                f" to {case.name!r} only"
            ),
            f"SET ROLE {_name(one.grantor)}; {_grant(one, case.name, revoke=True).as_string(None)}; RESET ROLE;",
        )
        for one in excess
        if one.grantor != one.owner
    ]
    return found + [
        (
            "cannot read access in this database: " + why,
            f"GRANT CONNECT ON DATABASE {_name(database)} TO {_name(case.admin.name)};",
        )
        for database, why in case.holdings.unreadable
    ]


def _defaults(case: LoginPair) -> list[Change]:
    old = case.source
    if old is None or case.old_is_group:
        return []
    own: dict[str, set[tuple[str | None, ...]]] = {old.name: set(), case.name: set()}
    to: dict[str, set[tuple[str | None, ...]]] = {old.name: set(), case.name: set()}
    for one in case.holdings.defaults:
        how = ("REVOKE" if one.revoked else "GRANT", "option" if one.grantable else None)
        what = (one.database, one.schema, one.objects, one.privilege, *how)
        if one.owner in own:
            grantee = "" if one.grantee == one.owner else one.grantee
            if grantee not in own:
                own[one.owner].add((case.name, grantee, *what))
        elif one.grantee in to:
            to[one.grantee].add((one.owner, case.name, *what))
    lacks = own[old.name] - own[case.name]
    excess = own[case.name] - own[old.name]
    if not case.has_old:
        lacks |= to[old.name] - to[case.name]
    if not case.old_has_new:
        excess |= to[case.name] - to[old.name]
    return [
        *(_default(case, one, undo=True) for one in sorted(excess, key=str)),
        *(_default(case, one, undo=False) for one in sorted(lacks, key=str)),
    ]


def _default(case: LoginPair, one: tuple[str | None, ...], *, undo: bool) -> Change:
    owner, grantee, database, schema, objects, privilege, verb, option = one
    grants = (verb == "GRANT") is not undo
    role = sql.Identifier(grantee or case.name) if grantee != PUBLIC else sql.SQL(PUBLIC)
    statement = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} {} {} ON {} {} {}{}").format(
        sql.Identifier(owner or case.name),
        sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema)) if schema else sql.SQL(""),
        sql.SQL("GRANT" if grants else "REVOKE"),
        _words(privilege or ""),
        _words(objects or ""),
        sql.SQL("TO" if grants else "FROM"),
        role,
        sql.SQL(" WITH GRANT OPTION" if grants and option else ""),
    )
    return Change(
        what=f"{'has' if undo else 'lacks'} default privilege {privilege} on {(objects or '').lower()} in {database}",
        statement=statement,
        database=database,
        roles=(owner or case.name,),
    )


def _defaults_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None or case.old_is_group:
        return []
    return [
        _may_not_act(case, one.owner, "default privileges")
        for one in case.holdings.defaults
        if one.owner not in (old.name, case.name)
        and not one.may
        and (one.grantee == old.name) is not case.has_old
    ]


def _policies(case: LoginPair) -> list[Change]:
    joins, leaves = _unlike_policies(case)
    return [*joins, *leaves]


def _unlike_policies(case: LoginPair) -> tuple[list[Change], list[Change]]:
    """Return how the next login joins the policies that it lacks, and leaves those that it has too much."""
    joins: list[Change] = []
    leaves: list[Change] = []
    old = case.source
    if old is None:
        return joins, leaves
    for one in case.holdings.policies:
        theirs, mine = old.name in one.roles, case.name in one.roles
        if theirs and not mine and not case.has_old:
            what = f"is not in policy {one.name} on {one.table}"
            joins.append(_policy(one, [*one.roles, case.name], what))
        elif mine and not theirs and not case.old_has_new and len(one.roles) > 1:
            rest = [role for role in one.roles if role != case.name]
            leaves.append(_policy(one, rest, f"is in policy {one.name} on {one.table}"))
    return joins, leaves


def _policies_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None:
        return []
    found: list[tuple[str, str]] = []
    for one in case.holdings.policies:
        theirs, mine = old.name in one.roles, case.name in one.roles
        if theirs == mine or (theirs and case.has_old) or (mine and case.old_has_new):
            continue
        if not one.may:
            found.append(_may_not_act(case, one.owner, f"policy {one.name} on {one.table}"))
        elif mine and len(one.roles) == 1:
            both = f"{_name(case.name)}, {_name(old.name)}"
            found.append(
                (
                    (
                        f"policy {one.name} on {one.table} in {one.database} applies only to"
                        f" {case.name!r}"
                    ),
                    f"ALTER POLICY {_name(one.name)} ON {one.table} TO {both};",
                )
            )
    return found


def _owned(case: LoginPair) -> list[Change]:
    """Hand what a login of ours made while it acted as itself to the group, which both inherit."""
    old = case.source
    if old is None or not _hands_over(case) or case.acts_as_group:
        return []
    places = dict.fromkeys(one.database for one in _things(case, old.name))
    group = case.group_name or ""
    return [
        Change(
            what=f"objects in {database} belong to {old.name}",
            statement=sql.SQL("REASSIGN OWNED BY {} TO {}").format(
                sql.Identifier(old.name), sql.Identifier(group)
            ),
            database=database,
            roles=(old.name, group),
        )
        for database in places
    ]


def _owned_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None:
        return []
    found: list[tuple[str, str]] = []
    owners = (
        [] if case.has_old or _hands_over(case) or "SUPERUSER" in old.attributes else [old.name]
    )
    owners += [] if case.old_has_new else [case.name]
    for owner in owners:
        things = _things(case, owner)
        if not things:
            continue
        places = sorted({one.database for one in things})
        shown = ", ".join(one.text for one in things[:_SHOWN])
        more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
        heir = case.group_name or (f"{owner}_owner" if case.stays else None)
        make = f"CREATE ROLE {_name(heir or '')}; " if case.group_name is None else ""
        logins = f"{_name(old.name)}, {_name(case.name)}" if case.stays else _name(old.name)
        move = (
            f"{make}GRANT {_name(heir or '')} TO {logins};"
            f" in {', '.join(places)}: REASSIGN OWNED BY {_name(owner)} TO {_name(heir or '')};"
        )
        found.append(
            (
                (
                    f"{owner!r} owns {shown}{more} (in {', '.join(places)}), and no other role has"
                    " owner rights on them"
                ),
                f"Set {owner!r} as the group (`group: {owner}`), or move the objects: {move}",
            )
        )
    return found


def _mappings_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None or case.old_is_group:
        return []
    mappings = [one for one in case.holdings.things if one.catalog == "pg_user_mapping"]
    servers = {
        name: {
            (one.database, one.text.rpartition(" on server ")[2])
            for one in mappings
            if one.login == name
        }
        for name in (old.name, case.name)
    }
    return [
        (
            (
                f"{login!r} has a user mapping on server {server} in {database}, which contains a"
                " password"
            ),
            f"CREATE USER MAPPING FOR {_name(other) if case.stays else 'PUBLIC'} SERVER {server} OPTIONS (…the same…);"
            f" DROP USER MAPPING FOR {_name(login)} SERVER {server};"
            if not case.stays
            else f"CREATE USER MAPPING FOR {_name(other)} SERVER {server} OPTIONS (…the same…);",
        )
        for login, other in ((old.name, case.name), (case.name, old.name))
        for database, server in sorted(servers[login] - servers[other])
    ]


# -- the rest ----------------------------------------------------------------------------------------


def _labels_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    has = case.new.labels if case.new else ()
    if old is None or old.labels == has:
        return []
    return [
        (
            f"the security labels of {provider!r} differ",
            f"SECURITY LABEL FOR {_name(provider)} ON ROLE {_name(case.name)} IS {sql.Literal(label).as_string(None)};"
            if (provider, label) in old.labels and case.new is not None
            else f"SECURITY LABEL FOR {_name(provider)} ON ROLE {_name(case.name if case.new else old.name)} IS NULL;",
        )
        for provider, label in dict.fromkeys((*old.labels, *has))
        if ((provider, label) in old.labels) is not ((provider, label) in has)
    ]


def _comment(case: LoginPair) -> list[Change]:
    old, new = case.source, case.new
    if old is None or new is None or new.note == old.note:
        return []
    mark = new.mark
    if mark is None and new.note is not None:
        return []  # an operator's own words about the waiting login
    text = replace(mark, note=old.note).text() if mark is not None else old.note
    return [
        Change(
            what="its comment differs",
            statement=sql.SQL("COMMENT ON ROLE {} IS {}").format(
                sql.Identifier(case.name), sql.Literal(text)
            ),
        )
    ]


def _files_refused(case: LoginPair) -> list[tuple[str, str]]:
    old = case.source
    if old is None:
        return []
    found: list[tuple[str, str]] = []
    for file in ("pg_hba.conf", "pg_ident.conf"):
        rules = [one for one in case.access.rules if one.file == file]
        rule = hba.unlike(
            rules, old.name, case.access.roles_of(old.name), case.name, case.roles_of_new()
        )
        if rule is not None:
            names = (
                f"{old.name},{case.name}"
                if case.stays and not case.old_is_group
                else f"+{case.group_name}"
            )
            found.append(
                (
                    (
                        f"line {rule.line} of {file} applies to {', '.join(rule.names)}: it treats"
                        " the two logins differently"
                    ),
                    f"List {names} there, then run: SELECT pg_reload_conf();",
                )
            )
    return found


KINDS: Final = (
    ProfileItem(name="attributes", changes=_attributes, obstacles=_attributes_refused),
    ProfileItem(name="connection limit", changes=_limit),
    ProfileItem(name="expiry", changes=_expiry, obstacles=_expired),
    ProfileItem(name="settings", changes=_settings, obstacles=_settings_refused),
    ProfileItem(name="memberships", changes=_memberships, obstacles=_memberships_refused),
    ProfileItem(name="members", changes=_members, obstacles=_members_refused),
    ProfileItem(name="ownership", changes=_owned, obstacles=_owned_refused),
    ProfileItem(name="grants", changes=_grants, obstacles=_grants_refused),
    ProfileItem(name="default privileges", changes=_defaults, obstacles=_defaults_refused),
    ProfileItem(name="row policies", changes=_policies, obstacles=_policies_refused),
    ProfileItem(name="user mappings", obstacles=_mappings_refused),
    ProfileItem(name="security labels", obstacles=_labels_refused),
    ProfileItem(name="comment", changes=_comment),
    ProfileItem(name="pg_hba and pg_ident", obstacles=_files_refused),
)


# -- helpers -----------------------------------------------------------------------------------------


def _covers(group: Profile, old: Profile) -> bool:
    """Return whether a session that acts as the group can do all that one of `old` can as itself."""
    member = _options(old.memberships, lambda one: one.role).get(group.name)
    return (
        # REPLICATION counts at the login, before the session acts as the group.
        not (old.attributes ^ group.attributes) - {"INHERIT", "REPLICATION"}
        and (member is None or (group.name in old.inherits and member == _PLAIN))
        and all(
            one.through_group and not one.admin
            for one in old.memberships
            if (one.inherit or one.admin) and one.role != group.name
        )
        and all(
            one.kind in ("o", "i") and one.catalog not in ("pg_default_acl", "pg_user_mapping")
            for one in old.dependences
            if one.catalog != "pg_auth_members"
        )
    )


def _hands_over(case: LoginPair) -> bool:
    """Whether what the old login owns goes to the group: it is ours, and has the group's rights."""
    old = case.source
    return old is not None and old.mark is not None and case.group_name is not None


def _things(case: LoginPair, owner: str) -> list[OwnedObject]:
    return [
        one
        for one in case.holdings.things
        if one.login == owner and one.catalog != "pg_user_mapping"
    ]


def _options(
    memberships: Iterable[Membership], by: Callable[[Membership], str]
) -> dict[str, _Options]:
    """Return ADMIN, INHERIT and SET together, as several grantors may have given them."""
    found: dict[str, _Options] = {}
    for one in memberships:
        before = found.get(by(one), (False, False, False))
        found[by(one)] = cast(
            "_Options", tuple(a or b for a, b in zip(before, one.options, strict=True))
        )
    return found


def _same(case: LoginPair, one: _Options, other: _Options) -> bool:
    return one == other if case.version >= OPTIONS_OF_MEMBERSHIPS else one[0] == other[0]


def _membership(case: LoginPair, role: str, member: str, options: _Options) -> sql.Composed:
    if case.version >= OPTIONS_OF_MEMBERSHIPS:
        words = zip(("ADMIN", "INHERIT", "SET"), options, strict=True)
        given = " WITH " + ", ".join(f"{word} {str(on).upper()}" for word, on in words)
    else:
        given = " WITH ADMIN OPTION" if options[0] else ""
    return sql.SQL("GRANT {} TO {}{}").format(
        sql.Identifier(role), sql.Identifier(member), _words(given)
    )


def _grant(one: Grant, to: str, *, revoke: bool = False, option_only: bool = False) -> sql.Composed:
    grantee = sql.SQL(PUBLIC) if to == PUBLIC else sql.Identifier(to)
    return sql.SQL("{}{}{} ON {} {} {} {}{}").format(
        sql.SQL("REVOKE GRANT OPTION FOR " if option_only else "REVOKE " if revoke else "GRANT "),
        _words(one.privilege),
        _words(f" ({one.column})" if one.column else ""),
        _words(one.kind),
        _words(one.object),
        sql.SQL("FROM" if revoke else "TO"),
        grantee,
        sql.SQL(" WITH GRANT OPTION" if one.grantable and not revoke else ""),
    )


def _policy(one: RowPolicy, roles: list[str], what: str) -> Change:
    return Change(
        what=what,
        statement=sql.SQL("ALTER POLICY {} ON {} TO {}").format(
            sql.Identifier(one.name),
            _words(one.table),
            sql.SQL(", ").join(map(sql.Identifier, roles)),
        ),
        database=one.database,
        roles=(one.owner,),
    )


def _alter(case: LoginPair, what: str, words: sql.Composable) -> Change:
    return Change(
        what=what, statement=sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(case.name), words)
    )


def _words(text: str) -> sql.SQL:
    """Return the server's own words: a keyword, or a name that it has quoted itself."""
    return sql.SQL(cast("LiteralString", text))


def _may_not_act(case: LoginPair, owner: str, what: str) -> tuple[str, str]:
    return (
        f"the admin {case.admin.name!r} lacks the right to change the {what} of {owner!r}",
        f"Run as a superuser: GRANT {_name(owner)} TO {_name(case.admin.name)};",
    )


def _with_admin(case: LoginPair, role: str) -> str:
    return f"Run as a superuser: GRANT {_name(role)} TO {_name(case.admin.name)} WITH ADMIN OPTION;"


def _name(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _parameter(name: str) -> str:
    return ".".join(_name(part) for part in name.split("."))


def _in(one: Setting) -> str:
    return f" in database {one.database}" if one.database is not None else ""
