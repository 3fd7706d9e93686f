"""Who can log in at a Vault or OpenBao, and by which policies: auth methods, identities and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, TypeAlias

from rotator.api import Denied, Unseen, login_name
from rotator.backends.vault.session import VaultClient

_Data: TypeAlias = "Mapping[str, Any]"
DEFAULT: Final = "default"
ROOT: Final = "root"
# More tokens are not checked, one call for each.
_MOST_TOKENS: Final = 5_000
_POLICIES: Final = ("token_policies", "policies", "allowed_policies")


@dataclass(slots=True, kw_only=True)
class Login:
    """One way to log in. `alias`: by which an entity knows it: the accessor of its mount, and a name."""

    name: str
    place: str
    policies: set[str] = field(default_factory=set[str])
    alias: tuple[str, str] | None = None
    entity: str | None = None
    # Its holder can renew it for ever.
    has_no_end: bool = False
    accessor: str = ""


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where an auth method keeps what can log in. `names`: what audit logs call each, by mount and name."""

    path: str
    names: Callable[[str, str, _Data], list[str]]


def _of_role(mount: str, name: str, _data: _Data) -> list[str]:
    return [login_name(mount, name)]


def _of_user(mount: str, name: str, _data: _Data) -> list[str]:
    return [f"{mount}-{name}"]


def _of_anybody(mount: str, _name: str, _data: _Data) -> list[str]:
    return [f"{mount}-*"]


def _of_claim(mount: str, name: str, _data: _Data) -> list[str]:
    return [login_name(f"{mount}-*", name)]


def _of_certificate(mount: str, name: str, data: _Data) -> list[str]:
    return [f"{mount}-{data.get('display_name') or name}"]


def _of_service_account(mount: str, name: str, data: _Data) -> list[str]:
    bound = product(
        data.get("bound_service_account_namespaces") or ("*",),
        data.get("bound_service_account_names") or ("*",),
    )
    return [login_name(f"{mount}-{space}-{account}", name) for space, account in bound]


_FOLDERS: Final[Mapping[str, tuple[_Folder, ...]]] = {
    "approle": (_Folder("role", _of_role),),
    "kubernetes": (_Folder("role", _of_service_account),),
    **dict.fromkeys(("jwt", "oidc", "aws", "gcp", "azure"), (_Folder("role", _of_claim),)),
    **dict.fromkeys(("userpass", "radius"), (_Folder("users", _of_user),)),
    **dict.fromkeys(
        ("ldap", "okta", "kerberos"), (_Folder("users", _of_user), _Folder("groups", _of_anybody))
    ),
    "cert": (_Folder("certs", _of_certificate),),
}


class Logins:
    """Reads who can log in. What may not be read is in `unseen`."""

    def __init__(self, session: VaultClient) -> None:
        self._session: VaultClient = session
        self.unseen: list[Unseen] = []
        self.entities: dict[str, _Data] = {}
        self.groups: dict[str, _Data] = {}
        # The paths of auth methods with roles that somebody could change.
        self.folders: list[str] = []

    def read(self) -> list[Login]:
        """Return every way to log in."""
        self._read_identities()
        found = [*self._of_mounts(), *self._of_tokens()]
        by_alias = {one.alias: one for one in found if one.alias is not None}
        for id_, entity in self.entities.items():
            for alias in _listed(entity, "aliases"):
                known = by_alias.get((str(alias.get("mount_accessor")), str(alias.get("name"))))
                if known is not None:
                    known.entity = id_
                elif self.policies_of(id_):
                    # A role is known by another name there: only what the entity adds is known.
                    mount = _display(str(alias.get("mount_path")))
                    name = f"{mount}-{alias.get('name')}"
                    place = f"identity/entity/id/{id_}"
                    found.append(Login(name=name, place=place, policies={DEFAULT}, entity=id_))
        found += self._of_external_groups()
        for one in found:
            if one.entity is not None:
                one.policies |= self.policies_of(one.entity)
        return found

    def policies_of(self, entity: str) -> set[str]:
        """Return the policies that an entity has by itself, and by its groups."""
        data = self.entities.get(entity, {})
        found = set(map(str, data.get("policies") or ()))
        for group in data.get("group_ids") or ():
            found |= set(map(str, self.groups.get(str(group), {}).get("policies") or ()))
        return found

    def get(self, path: str, what: str) -> _Data:
        """Return what is at a path; nothing where there is nothing, or where we may not look."""
        return self._ask("GET", path, "read", what)

    def listed(self, path: str, what: str, capability: str = "list") -> list[str]:
        """Return the names in a folder."""
        return [str(one) for one in self._ask("LIST", path, capability, what).get("keys") or ()]

    def _ask(self, method: str, path: str, capability: str, what: str, **body: object) -> _Data:
        asked = capability.partition(",")[0]
        try:
            return self._session.call(method, path, body, capability=asked).data
        except Denied:
            listed = ", ".join(f'"{one}"' for one in capability.split(","))
            remedy = f'path "{path}" {{ capabilities = [{listed}] }}'
            unseen = Unseen(what=what, remedy=remedy)
            if unseen not in self.unseen:
                self.unseen.append(unseen)
            return {}

    def _read_identities(self) -> None:
        for kind, into in (("entity", self.entities), ("group", self.groups)):
            for id_ in self.listed(f"identity/{kind}/id", f"identities of kind {kind}"):
                data = self.get(f"identity/{kind}/id/{id_}", f"{kind} {id_}")
                if data and not data.get("disabled"):
                    into[id_] = data

    def _of_mounts(self) -> list[Login]:
        found: list[Login] = []
        for mount, about in self.get("sys/auth", "auth methods").items():
            kind = str(about.get("type")) if isinstance(about, Mapping) else ""
            path, accessor = f"auth/{mount.strip('/')}", str(about.get("accessor"))
            if kind == "token":
                self.folders.append(f"{path}/roles")
            elif kind not in _FOLDERS:
                remedy = f"Look at it with: bao list {path}"
                self.unseen.append(Unseen(what=f"{path}, of type {kind}", remedy=remedy))
            for folder in _FOLDERS.get(kind, ()):
                self.folders.append(f"{path}/{folder.path}")
                found += self._of_folder(f"{path}/{folder.path}", mount, accessor, folder)
        return found

    def _of_folder(self, path: str, mount: str, accessor: str, folder: _Folder) -> list[Login]:
        found: list[Login] = []
        has_entities = any(
            alias.get("mount_accessor") == accessor
            for entity in self.entities.values()
            for alias in _listed(entity, "aliases")
        )
        for name in self.listed(path, path):
            place = f"{path}/{name}"
            data = self.get(place, place)
            known_as = name
            if has_entities and folder.names is _of_role:
                role_id = self.get(f"{place}/role-id", f"the id of {place}")
                known_as = str(role_id.get("role_id") or name)
            policies = {str(one) for key in _POLICIES for one in data.get(key) or ()}
            if not data.get("token_no_default_policy"):
                policies.add(DEFAULT)
            found += [
                Login(name=one, place=place, policies={*policies}, alias=(accessor, known_as))
                for one in folder.names(_display(mount), name, data)
            ]
        return found

    def _of_tokens(self) -> list[Login]:
        found: dict[tuple[object, ...], Login] = {}
        accessors = self.listed("auth/token/accessors", "tokens", "list,sudo")
        if len(accessors) > _MOST_TOKENS:
            what = f"{len(accessors) - _MOST_TOKENS} of {len(accessors)} tokens"
            remedy = "Let tokens expire earlier: there are too many to check each."
            self.unseen.append(Unseen(what=what, remedy=remedy))
        for accessor in accessors[:_MOST_TOKENS]:
            path = "auth/token/lookup-accessor"
            data = self._ask("POST", path, "update", "tokens", accessor=accessor)
            if not data:
                continue
            policies = frozenset(map(str, data.get("policies") or ()))
            endless = bool(data.get("period")) or not data.get("expire_time")
            one = Login(
                name=name_of(data),
                place=f"token with accessor {accessor}",
                policies={*policies},
                entity=data.get("entity_id") or None,
                has_no_end=endless,
                accessor=accessor,
            )
            # A login has many tokens alike; each root token counts.
            its_own = accessor if ROOT in policies else ""
            _ = found.setdefault((one.name, policies, one.entity, endless, its_own), one)
        return list(found.values())

    def _of_external_groups(self) -> list[Login]:
        """Return the groups whose members are only known when they log in."""
        found: list[Login] = []
        for id_, group in self.groups.items():
            alias = group.get("alias") or {}
            policies = {str(one) for key in self._above(id_) for one in key.get("policies") or ()}
            if group.get("type") == "external" and alias and policies:
                mount = _display(str(alias.get("mount_path")))
                found.append(
                    Login(
                        name=f"{mount}-*",
                        place=f"identity/group/id/{id_} ({group.get('name')})",
                        policies=policies | {DEFAULT},
                    )
                )
        return found

    def _above(self, id_: str) -> list[_Data]:
        """Return a group and those that it is a member of, at any depth."""
        known: dict[str, _Data] = {}
        left = [id_]
        while left:
            one = left.pop()
            if one not in known and one in self.groups:
                known[one] = self.groups[one]
                left += map(str, self.groups[one].get("parent_group_ids") or ())
        return list(known.values())


def name_of(token: _Data) -> str:
    """Return what audit logs call the login of a token."""
    meta = token.get("meta") or {}
    name = str(token.get("display_name") or "unknown")
    return login_name(name, meta.get("role_name") or meta.get("role"))


def _display(mount: str) -> str:
    """Return how the names of a mount's tokens begin."""
    return mount.removeprefix("auth/").strip("/").replace("/", "-")


def _listed(data: _Data, key: str) -> Sequence[_Data]:
    found = data.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
