"""Who may read, write and delete secrets of a KV mount, by the policies of everybody who can log in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rotator.api import HeldRight, Rights, Unseen, Verb, WideRight
from rotator.backends.vault.acl import Acl
from rotator.backends.vault.logins import ROOT, Login, Logins, name_of
from rotator.backends.vault.policy_text import Rule, UnreadablePolicy, rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rotator.backends.vault.session import VaultClient

_WRITING: Final = ("create", "update", "patch")
# Where a right on a secret comes from, below its mount. The last part of a staged value is any rotation's id.
_PLACES: Final[tuple[tuple[Verb, str, tuple[str, ...]], ...]] = (
    (Verb.READ, "data/{path}", ("read",)),
    (Verb.READ, "data/{pending}/{path}/next", ("read",)),
    (Verb.STAGED, "data/{pending}/{path}/rotator-probe", ("read",)),
    (Verb.WRITE, "data/{path}", _WRITING),
    (Verb.WRITE, "data/{pending}/{path}/rotator-probe", _WRITING),
    (Verb.WRITE, "metadata/{path}", _WRITING),
    (Verb.WRITE, "undelete/{path}", ("update",)),
    (Verb.DELETE, "data/{path}", ("delete",)),
    (Verb.DELETE, "delete/{path}", ("update",)),
    (Verb.DELETE, "destroy/{path}", ("update",)),
    (Verb.DELETE, "metadata/{path}", ("delete",)),
)
# What gives somebody any right at all.
_ESCALATIONS: Final = (
    (
        "sys/policies/acl/rotator-probe",
        _WRITING,
        "may change policies, and so give itself any right",
    ),
    ("sys/policy/rotator-probe", _WRITING, "may change policies, and so give itself any right"),
    ("identity/entity/id/rotator-probe", _WRITING, "may give policies to any identity"),
    ("identity/group/id/rotator-probe", _WRITING, "may give policies to any group"),
    ("auth/token/create-orphan", ("sudo",), "may create tokens with any policy"),
    ("auth/token/create", ("sudo",), "may create tokens with any policy"),
)
_ADMINISTRATORS: Final = (
    "Take it out of the policy; an administrator's login can be left out with --except."
)


class RightsReading:
    """Reads the rights on one KV mount."""

    def __init__(self, session: VaultClient, mount: str, pending: str, namespace: str) -> None:
        self._session: VaultClient = session
        self._mount: str = mount
        self._pending: str = pending
        self._namespace: str = namespace
        self._logins: Logins = Logins(session)
        self._rules: dict[str, list[Rule]] = {}
        # Policies of OpenBao whose templates take values that widen a path.
        self._plain: dict[str, tuple[bool, bool]] = {}
        self._held: list[HeldRight] = []
        self._wide: list[WideRight] = []

    def read(self, paths: Sequence[str]) -> Rights:
        """Return who may do what to these paths."""
        path = "auth/token/lookup-self"
        own = self._logins.get(path, "rotator's own login, which then counts as any other")
        logins = self._logins.read()
        known = {policy for one in logins for policy in one.policies}
        for policy in sorted(known - {ROOT}):
            self._read_policy(policy)
        for one in logins:
            self._look(one, paths, str(own.get("accessor")))
        return Rights(
            held=tuple(dict.fromkeys(self._held)),
            wide=tuple(dict.fromkeys(self._wide)),
            unseen=tuple(self._logins.unseen),
            own=(name_of(own),) if own else (),
            identities=tuple(sorted({one.name for one in logins})),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        yield "Batch tokens are listed nowhere."
        yield "Conditions on parameters, response wrapping and control groups are not considered: a right counts."
        if self._namespace:
            yield f"Logins of the namespaces above {self._namespace} are not visible from it."

    def _read_policy(self, policy: str) -> None:
        path = f"sys/policies/acl/{policy}"
        found = self._logins.get(path, f"policy {policy}")
        text = found.get("policy")
        self._rules[policy] = []
        self._plain[policy] = (
            bool(found.get("allow_slashes_in_identity_templates", True)),
            bool(found.get("allow_wildcards_in_identity_templates", True)),
        )
        if not isinstance(text, str):
            return
        try:
            self._rules[policy] = rules(policy, text, datetime.now(UTC))
        except UnreadablePolicy:
            remedy = f"Look at it with: bao policy read {policy}"
            self._logins.unseen.append(Unseen(what=f"policy {policy}: invalid", remedy=remedy))

    def _look(self, login: Login, paths: Sequence[str], own: str) -> None:
        if ROOT in login.policies:
            self._root(login, is_own=login.accessor == own)
            return
        given = [rule for policy in sorted(login.policies) for rule in self._rules.get(policy, ())]
        acl = Acl(given, self._filling(login))
        before = len(self._held)
        for path in paths:
            self._look_at(login, acl, path)
        if login.has_no_end and login.accessor != own and len(self._held) > before:
            remedy = (
                f"Use an auth method instead, then: bao token revoke -accessor {login.accessor}"
            )
            why = "can be renewed without end"
            self._add(login, ", ".join(sorted(login.policies)), "", why, remedy)
        self._escalations(login, acl)

    def _look_at(self, login: Login, acl: Acl, path: str) -> None:
        for verb, below, capabilities in _PLACES:
            place = f"{self._mount}/{below.format(path=path, pending=self._pending)}"
            allowed = acl.on(place)
            for rule in allowed.by(capabilities):
                self._hold(login, path, verb, rule)
                if Acl([rule], self._filling(login)).on(self._elsewhere(place)).rules:
                    why = f"reaches every path of {self._mount}/"
                    remedy = f"Name single paths in policy {rule.policy}."
                    self._add(login, rule.policy, rule.path, why, remedy)
            for rule in allowed.by(("sudo",)):
                remedy = f"Take sudo out of policy {rule.policy}: no value needs it."
                self._add(login, rule.policy, rule.path, "has sudo on a secret", remedy)

    def _hold(self, login: Login, path: str, verb: Verb, rule: Rule) -> None:
        self._held.append(
            HeldRight(
                identity=login.name,
                place=login.place,
                path=path,
                verb=verb,
                policy=rule.policy,
                rule=rule.path,
            )
        )

    def _elsewhere(self, place: str) -> str:
        """Return a path of the same mount, kind and depth that nobody has named."""
        depth = len(self._mount.split("/")) + 1
        parts = place.split("/")
        return "/".join([*parts[:depth], *("rotator-probe" for _ in parts[depth:])])

    def _escalations(self, login: Login, acl: Acl) -> None:
        places = [
            *_ESCALATIONS,
            (f"sys/mounts/{self._mount}", ("delete",), f"may delete all of {self._mount}/"),
            *(
                (f"{folder}/rotator-probe", _WRITING, f"may give itself policies by {folder}")
                for folder in self._logins.folders
            ),
        ]
        for path, capabilities, why in places:
            for rule in acl.on(path).by(capabilities):
                self._add(login, rule.policy, rule.path, why, _ADMINISTRATORS)

    def _root(self, login: Login, *, is_own: bool) -> None:
        remedy = f"Revoke it: bao token revoke -accessor {login.accessor}"
        if is_own:
            remedy = "Create one for rotator with the policy that `rotator policy BACKEND` prints."
        elif not login.accessor:
            remedy = f"Take the policy root out of {login.place}."
        self._add(login, ROOT, "", "may do everything: it has the policy root", remedy)

    def _add(self, login: Login, policy: str, rule: str, why: str, remedy: str) -> None:
        self._wide.append(
            WideRight(
                identity=login.name,
                place=login.place,
                policy=policy,
                rule=rule,
                why=why,
                remedy=remedy,
            )
        )

    # -- templates -----------------------------------------------------------------------------

    def _filling(self, login: Login) -> Callable[[Rule, str], str | None]:
        entity = self._logins.entities.get(login.entity or "")

        def fill(rule: Rule, directive: str) -> str | None:
            value = None if entity is None else self._directive(directive, entity)
            slashes, wildcards = self._plain.get(rule.policy, (True, True))
            if value is None or ("/" in value and not slashes):
                return None
            return None if {"*", "+"} & set(value) and not wildcards else value

        return fill

    def _directive(self, directive: str, entity: Mapping[str, Any]) -> str | None:
        kind, _, rest = directive.removeprefix("identity.").partition(".")
        if kind == "entity" and rest.startswith("aliases."):
            accessor, _, rest = rest.removeprefix("aliases.").partition(".")
            aliases = entity.get("aliases") or ()
            return _value(
                next((a for a in aliases if a.get("mount_accessor") == accessor), {}), rest
            )
        if kind == "entity":
            return _value(entity, rest)
        if kind != "groups":
            return None
        by, _, rest = rest.partition(".")
        name, _, rest = rest.partition(".")
        key = {"ids": "id", "names": "name"}.get(by)
        groups = [self._logins.groups.get(str(one), {}) for one in entity.get("group_ids") or ()]
        return _value(next((g for g in groups if key and g.get(key) == name), {}), rest)


def _value(data: Mapping[str, Any], rest: str) -> str | None:
    """Return `id`, `name`, `metadata.KEY` or `custom_metadata.KEY`."""
    table, _, key = rest.partition(".")
    found = (data.get(table) or {}).get(key) if key else data.get(rest)
    return found if isinstance(found, str) and found else None
