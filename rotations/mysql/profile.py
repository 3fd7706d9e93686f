"""A login's profile: everything that makes an account what it is, but its name, passwords and lock.

Pure data. `KINDS` has a row for each kind of fact: what carries it to another account, and what the two
accounts are compared by. `takings` and `givings` are the statements that turn one set of rights into another.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rotator.api import StepError

_ALL: Final = "*.*"
_NAME: Final = r"`(?:[^`]|``)*`"
_HEAD: Final = re.compile(rf"((?:{_NAME}|[^`])*?) ON (.*)", re.DOTALL)
_PRIVILEGE: Final = re.compile(rf"([^,(`]+?)(?: ?\(((?:{_NAME}|[^`)])*)\))?(?:, ?|$)")
_COLUMN: Final = re.compile(rf"{_NAME}|[^`,\s]+")
_ROUTINES: Final = ("FUNCTION ", "PROCEDURE ", "LIBRARY ", "PACKAGE ")
# Reference manual, "Static Privilege Descriptions". Every other name on *.* is a dynamic privilege of MySQL.
# ALL PRIVILEGES on a database or table is more; who has these has been given all of it.
_ALL_OF_A_TABLE: Final = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "TRIGGER"}
)
# Those of two words need not be listed: no dynamic one has a blank.
_STATIC: Final = frozenset(
    {
        "ALTER",
        "CREATE",
        "DELETE",
        "DROP",
        "EVENT",
        "EXECUTE",
        "FILE",
        "INDEX",
        "INSERT",
        "PROCESS",
        "REFERENCES",
        "RELOAD",
        "SELECT",
        "SHUTDOWN",
        "SUPER",
        "TRIGGER",
        "UPDATE",
        "USAGE",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileItem:
    """One kind of fact. `group`: the check of `verify` that compares it."""

    name: str
    carried: str
    group: str


KINDS: Final[Sequence[ProfileItem]] = (
    ProfileItem(name="global privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="dynamic privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="database privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="table privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="column privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="routine privileges", carried="GRANT, REVOKE", group="grants"),
    ProfileItem(name="grant options", carried="GRANT ... WITH GRANT OPTION", group="grants"),
    ProfileItem(name="partial revokes", carried="REVOKE, GRANT", group="grants"),
    ProfileItem(name="proxies", carried="GRANT PROXY", group="grants"),
    ProfileItem(name="roles", carried="GRANT role [WITH ADMIN OPTION]", group="grants"),
    ProfileItem(name="default roles", carried="SET DEFAULT ROLE", group="grants"),
    ProfileItem(name="TLS requirement", carried="ALTER USER ... REQUIRE", group="limits"),
    ProfileItem(name="resource limits", carried="ALTER USER ... WITH MAX_...", group="limits"),
    ProfileItem(name="password expiry", carried="ALTER USER ... PASSWORD EXPIRE", group="limits"),
    ProfileItem(name="password history", carried="ALTER USER ... PASSWORD HISTORY", group="limits"),
    ProfileItem(
        name="password reuse", carried="ALTER USER ... PASSWORD REUSE INTERVAL", group="limits"
    ),
    ProfileItem(name="current password", carried="ALTER USER ... REQUIRE CURRENT", group="limits"),
    ProfileItem(name="lock after failures", carried="FAILED_LOGIN_ATTEMPTS", group="limits"),
    ProfileItem(name="comment and attributes", carried="ALTER USER ... ATTRIBUTE", group="limits"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a rotation would fail, or would change what the login is. Known before anything is sent."""

    kind: str
    cause: str
    remedy: str
    error: type[StepError] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What an account was granted. Objects, roles and accounts are as statements name them.

    `privileges`: by object, each with its column where it has one. `options`: the objects that the
    account may grant on. `dynamic`, `proxies`, `roles`: each with its own option.
    """

    privileges: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    options: frozenset[str] = frozenset()
    dynamic: Mapping[str, bool] = field(default_factory=dict[str, bool])
    denied: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    proxies: Mapping[str, bool] = field(default_factory=dict[str, bool])
    roles: Mapping[str, bool] = field(default_factory=dict[str, bool])
    default_roles: frozenset[str] = frozenset()

    def facts(self) -> Mapping[str, frozenset[str]]:
        """Return them by kind, as words that can be compared."""
        found: dict[str, set[str]] = {}
        for on, privileges in self.privileges.items():
            for one in privileges:
                found.setdefault(_kind_of(one, on), set()).add(f"{one} ON {on}")
        found["grant options"] = {f"GRANT OPTION ON {on}" for on in self.options}
        found["dynamic privileges"] = _with_option(self.dynamic, "GRANT OPTION")
        found["partial revokes"] = {
            f"no {one} ON {on}" for on, privileges in self.denied.items() for one in privileges
        }
        found["proxies"] = {f"PROXY ON {one}" for one in _with_option(self.proxies, "GRANT OPTION")}
        found["roles"] = _with_option(self.roles, "ADMIN OPTION")
        found["default roles"] = set(self.default_roles)
        return {kind: frozenset(facts) for kind, facts in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One account's facts, by kind."""

    facts: Mapping[str, frozenset[str]]

    def differences(self, other: Profile, group: str) -> list[str]:
        """Return how this one differs from what it ought to be: what is missing and what is too much."""
        found: list[str] = []
        for kind in KINDS:
            if kind.group != group:
                continue
            has = self.facts.get(kind.name, frozenset[str]())
            wanted = other.facts.get(kind.name, frozenset[str]())
            found += [f"missing ({kind.name}): {one}" for one in sorted(wanted - has)]
            found += [f"too much ({kind.name}): {one}" for one in sorted(has - wanted)]
        return found


def parsed(
    statements: Iterable[str],
    roles: Mapping[str, bool],
    default_roles: Iterable[str],
    columns: Mapping[str, frozenset[str]] | None = None,
) -> Rights:
    """Return the rights that statements grant: those of SHOW GRANTS, with `{}` for the account.

    The others come from the catalog; `columns`, by table, since ALL PRIVILEGES on a table hides them.
    """
    privileges: dict[str, frozenset[str]] = dict(columns or {})
    denied: dict[str, frozenset[str]] = {}
    dynamic: dict[str, bool] = {}
    proxies: dict[str, bool] = {}
    options: set[str] = set()
    for statement in statements:
        head, _, option = statement.rpartition(" TO {}")
        has_option = option == " WITH GRANT OPTION"
        if statement.startswith("REVOKE "):
            head = statement.removesuffix(" FROM {}")
        found = _HEAD.fullmatch(head.partition(" ")[2])
        if found is None:
            continue
        names, on = found[1], found[2]
        if names == "PROXY":
            proxies[on] = has_option
        elif statement.startswith("REVOKE "):
            denied[on] = denied.get(on, frozenset()) | _privileges(names)
        elif on == _ALL and not _is_static(_privileges(names)):
            dynamic |= dict.fromkeys(_privileges(names), has_option)
        else:
            privileges[on] = privileges.get(on, frozenset()) | _privileges(names)
            options |= {on} if has_option else set()
    # An account may be allowed to grant on an object, and nothing else on it.
    kept = {on: frozenset(found - {"USAGE"}) for on, found in privileges.items()}
    return Rights(
        privileges={on: found for on, found in kept.items() if found},
        options=frozenset(options),
        dynamic=dynamic,
        denied=denied,
        proxies=proxies,
        roles=dict(roles),
        default_roles=frozenset(default_roles),
    )


def takings(wanted: Rights, has: Rights, account: str) -> list[str]:
    """Return what takes back all that is too much.

    All privileges first, then the options: after REVOKE GRANT OPTION ON *.* MySQL does not revoke a
    dynamic privilege any more until FLUSH PRIVILEGES.
    """
    sent: list[str] = []
    # While the account has the privilege on *.*, this lifts a partial revoke; afterwards it would grant.
    for on, privileges in has.denied.items():
        if extra := privileges - wanted.denied.get(on, frozenset()):
            sent.append(f"GRANT {_listed(extra)} ON {on} TO {account}")
    for on, privileges in has.privileges.items():
        extra = privileges - wanted.privileges.get(on, frozenset())
        sent += [f"REVOKE {one} ON {on} FROM {account}" for one in reversed(_apart(extra))]
    for one, option in has.dynamic.items():
        # Too much, or with an option that is.
        if option > wanted.dynamic.get(one, False) or one not in wanted.dynamic:
            sent.append(f"REVOKE {one} ON {_ALL} FROM {account}")
    for one, option in has.proxies.items():
        # MariaDB's GRANT PROXY does not change the option of what is granted already.
        if wanted.proxies.get(one) is not option:
            sent.append(f"REVOKE PROXY ON {one} FROM {account}")
    for one, option in has.roles.items():
        if option > wanted.roles.get(one, False) or one not in wanted.roles:
            sent.append(f"REVOKE {one} FROM {account}")
    sent += [
        f"REVOKE GRANT OPTION ON {on} FROM {account}" for on in sorted(has.options - wanted.options)
    ]
    return sent


def givings(wanted: Rights, has: Rights, account: str, taken: Sequence[str]) -> list[str]:
    """Return what grants all that is missing, `has` being read after `taken` was sent."""
    sent: list[str] = []
    for on in dict.fromkeys((*wanted.privileges, *sorted(wanted.options))):
        privileges = wanted.privileges.get(on, frozenset())
        # DROP USER leaves those on libraries in MySQL's memory, for the next account of that name: in memory,
        # and not in the table.
        certain = frozenset[str]() if on.startswith("LIBRARY ") else has.privileges.get(on)
        missing = privileges - (certain or frozenset())
        option = on in wanted.options and on not in has.options
        if missing or option:
            behind = " WITH GRANT OPTION" if on in wanted.options else ""
            sent += [
                f"GRANT {named} ON {on} TO {account}{behind}"
                for named in _apart(missing or privileges) or ["USAGE"]
            ]
    # REVOKE GRANT OPTION ON *.* took the option of each of them: in the table, not in memory.
    forgotten = any(one.startswith(f"REVOKE GRANT OPTION ON {_ALL} ") for one in taken)
    for one, option in wanted.dynamic.items():
        if one not in has.dynamic or option > has.dynamic[one] or (option and forgotten):
            behind = " WITH GRANT OPTION" if option else ""
            sent.append(f"GRANT {one} ON {_ALL} TO {account}{behind}")
    for on, privileges in wanted.denied.items():
        if missing := privileges - has.denied.get(on, frozenset()):
            sent.append(f"REVOKE {_listed(missing)} ON {on} FROM {account}")
    for one, option in wanted.proxies.items():
        if has.proxies.get(one) is not option:
            behind = " WITH GRANT OPTION" if option else ""
            sent.append(f"GRANT PROXY ON {one} TO {account}{behind}")
    for one, option in wanted.roles.items():
        if has.roles.get(one) is not option:
            behind = " WITH ADMIN OPTION" if option else ""
            sent.append(f"GRANT {one} TO {account}{behind}")
    return sent


def not_grantable(wanted: Rights, own: Rights) -> list[str]:
    """Return what an admin with these rights of its own may not grant, as what it lacks.

    Where that depends on patterns of database names, the server's own answer is left to say it.
    """
    lacks: list[str] = []
    for on in dict.fromkeys((*wanted.privileges, *sorted(wanted.options))):
        over = _enclosing(on, own)
        has = frozenset[str]().union(*(own.privileges.get(one, frozenset()) for one in over))
        missing = {
            one
            for one in wanted.privileges.get(on, frozenset())
            if not has & {one, one.partition(" (")[0], "ALL PRIVILEGES"}
            and not (one == "ALL PRIVILEGES" and has >= _ALL_OF_A_TABLE)
        }
        if missing or not own.options & set(over):
            lacks.append(f"{_listed(missing) or 'USAGE'} ON {on} WITH GRANT OPTION")
    lacks += [
        f"{one} ON {_ALL} WITH GRANT OPTION" for one in wanted.dynamic if not own.dynamic.get(one)
    ]
    if "ROLE_ADMIN" not in own.dynamic:
        lacks += [f"{one} WITH ADMIN OPTION" for one in wanted.roles if not own.roles.get(one)]
    named = {re.sub(r"[`']", "", one): option for one, option in own.proxies.items()}
    for one in wanted.proxies:
        if not any(named.get(name) for name in ("@", "@%", re.sub(r"[`']", "", one))):
            lacks.append(f"PROXY ON {one} WITH GRANT OPTION")
    return lacks


def _enclosing(on: str, own: Rights) -> list[str]:
    """Return the objects of an admin's rights that an object is, or lies in."""
    routine = next((word for word in _ROUTINES if on.startswith(word)), "")
    database = re.match(_NAME, on.removeprefix(routine))
    found = [_ALL, on]
    for one in (*own.privileges, *own.options):
        if database is None or not one.endswith(".*") or one == _ALL:
            continue
        pattern = re.escape(one[1:-3]).replace("%", ".*").replace(r"\\_", "\0").replace("_", ".")
        if re.fullmatch(pattern.replace("\0", r"\\?_"), database[0][1:-1]):
            found.append(one)
    return found


def attribute_patch(wanted: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7396) that turns `has` into `wanted`; empty when they are the same."""
    patch: dict[str, Any] = dict.fromkeys(has.keys() - wanted.keys())
    for key, value in wanted.items():
        before = has.get(key)
        if value == before:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            patch[key] = attribute_patch(value, before)
        else:
            patch[key] = value
    return patch


def attribute_facts(attributes: Mapping[str, Any]) -> frozenset[str]:
    """Return an account's comment and attributes as facts."""
    return frozenset(
        f"{key}: {json.dumps(value, sort_keys=True, ensure_ascii=False)}"
        for key, value in attributes.items()
    )


def _privileges(text: str) -> frozenset[str]:
    found: set[str] = set()
    for name, columns in _PRIVILEGE.findall(text):
        if columns:
            found |= {f"{name.strip()} ({_quoted(one)})" for one in _COLUMN.findall(columns)}
        elif name.strip():
            found.add(name.strip())
    return frozenset(found)


def _quoted(column: str) -> str:
    return column if column.startswith("`") else f"`{column}`"


def _listed(privileges: Iterable[str]) -> str:
    return ", ".join(sorted(privileges))


def _apart(privileges: frozenset[str]) -> list[str]:
    """Return what GRANT and REVOKE name: ALL PRIVILEGES is alone in its statement."""
    rest = _listed(privileges - {"ALL PRIVILEGES"})
    alone = sorted(privileges & {"ALL PRIVILEGES"})
    return [*alone, *([rest] if rest else [])]


def _is_static(privileges: frozenset[str]) -> bool:
    """Return whether privileges on *.* have one common option. Those of MariaDB with blanks have too."""
    return all(one in _STATIC or " " in one for one in privileges)


def _kind_of(privilege: str, on: str) -> str:
    if on == _ALL:
        return "global privileges"
    if on.startswith(_ROUTINES):
        return "routine privileges"
    if on.endswith(".*"):
        return "database privileges"
    return "column privileges" if privilege.endswith(")") else "table privileges"


def _with_option(names: Mapping[str, bool], option: str) -> set[str]:
    return {f"{one} WITH {option}" if has else one for one, has in names.items()}
