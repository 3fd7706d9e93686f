"""Backends, targets and secrets, one entry at a time, with the options that plugins declare.

Each is read as far as it goes even where something else is wrong, so that everything is told at
once; what is wrong becomes a problem of the source, and the entry is then missing from the result.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from rotator.config import options
from rotator.config.conflicts import Collisions
from rotator.config.document import (
    DEFAULT_POLICY,
    AdminDocument,
    BackendDocument,
    LeasesDocument,
    SecretDocument,
    TargetDocument,
)
from rotator.config.errors import name_fits, validated
from rotator.config.model import (
    AdminSettings,
    BackendSettings,
    ConsumerSettings,
    CopySettings,
    SecretSettings,
    TargetSettings,
)
from rotator.config.types import NAME, SCHEMES, Names
from rotator.core import durations
from rotator.core.consumers import Gate
from rotator.core.contracts.backend import OffersNext
from rotator.core.errors import UsageError
from rotator.core.leases import SHORTEST, STRATEGY, LeaseTerms
from rotator.plugins import near
from rotator.references import secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from rotator.config.files import Files
    from rotator.config.parsing import Data, Keys
    from rotator.config.policies import Policies
    from rotator.core.contracts.plugin import BackendPlugin, PluginInfo, RotationPlugin, Target
    from rotator.core.model import Credential

    Section: TypeAlias = dict[str, Data]
    Entry: TypeAlias = dict[str, Data]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """What a target's plugin declares, and the target itself where its options are right."""

    info: PluginInfo
    target: Target | None


class Reader:
    """Reads the entries of a configuration."""

    def __init__(
        self,
        source: Files,
        names: Names,
        base: Path,
        consumers: Mapping[str, ConsumerSettings] | None = None,
    ) -> None:
        """Problems go to `source`; relative paths in options start at `base`."""
        self._consumers: Mapping[str, ConsumerSettings] = consumers or {}
        # The backends that can show consumers the next version.
        self._offering: set[str] = set()
        self._source: Files = source
        self._names: Names = names
        self._base: Path = base

    def backends(
        self, section: Section, find: Callable[[str], BackendPlugin]
    ) -> dict[str, BackendSettings]:
        """Return the backends that are right."""
        found: dict[str, BackendSettings] = {}
        for name, entry in section.items():
            keys = ("backends", name)
            # A backend is opened before any backend is: its own secrets come from elsewhere.
            right = name_fits(self._source, keys)
            if name in SCHEMES:
                said = f"`{name}:` begins references of another kind."
                self._source.problem(keys, said, "Choose another name.", at_key=True)
            document = validated(self._source, keys, entry, BackendDocument, Names())
            kind, rest = _split(entry, "type")
            info = self._ask(find, kind, (*keys, "type"))
            chosen = info and self._options(keys, rest, info.target_options, Names())
            if info is not None and OffersNext in info.abilities:
                self._offering.add(name)
            if right and document and chosen is not None:
                found[name] = BackendSettings(name=name, type=document.type, options=chosen)
        return found

    def targets(
        self, section: Section, find: Callable[[str], RotationPlugin]
    ) -> tuple[dict[str, TargetSettings], dict[str, TargetKind]]:
        """Return the targets that are right, and the kinds of those whose plugin is there."""
        found: dict[str, TargetSettings] = {}
        kinds: dict[str, TargetKind] = {}
        for name, entry in section.items():
            keys = ("targets", name)
            right = name_fits(self._source, keys)
            document = validated(self._source, keys, entry, TargetDocument, self._names)
            kind, rest = _split(entry, "plugin", "admin")
            info = self._ask(find, kind, (*keys, "plugin"))
            if info is None:
                continue
            chosen = self._options(keys, rest, info.target_options, self._names)
            right = self._has_admin(keys, entry, info) and right
            made = None if chosen is None else find(info.name).target(name, chosen, _nobody)
            kinds[name] = TargetKind(info=info, target=made)
            if right and document and chosen is not None:
                admin = _admin(document.admin)
                found[name] = TargetSettings(
                    name=name, plugin=document.plugin, admin=admin, options=chosen
                )
        return found, kinds

    def secrets(
        self, section: Section, targets: Section, kinds: dict[str, TargetKind], policies: Policies
    ) -> dict[str, SecretSettings]:
        """Return the secrets that are right, taking each out of `section`.

        Ten thousand secrets are thus never held in two forms.
        """
        self._check_admins(section, targets)
        found: dict[str, SecretSettings] = {}
        collisions = Collisions(self._source, targets)
        for name in list(section):
            keys = ("secrets", name)
            given = section.pop(name)
            data = self._source.defaults_of(name).under(given, name)
            right = name_fits(self._source, keys)
            entry = data if isinstance(data, dict) else {}
            target = str(entry.get("target"))
            kind = kinds.get(target)
            keeps = kind is not None and kind.info.keeps_secrets
            if keeps:
                _leave_out_places(entry, given)
            document = validated(self._source, keys, data, SecretDocument, self._names)
            collisions.place(name, entry, target if keeps else None)
            right = self._has_place(keys, entry, kind) and right
            chosen = kind and self._secret_options(keys, entry, kind)
            policy = policies.chosen(entry.get("policy", DEFAULT_POLICY), (*keys, "policy"))
            if chosen is not None:
                collisions.claim(name, target, chosen)
            if policy is not None and policy.until_acknowledged and document:
                self._check_acknowledged(keys, document)
            if policy is not None and policy.prepare is not None and document:
                self._check_prepare(keys, document, entry, kind)
            if document and document.leases is not None:
                self._check_locks((*keys, "leases"), document, document.leases, kind)
            if right and document and chosen is not None and policy is not None:
                # Interned, because thousands of secrets name the same few.
                found[name] = SecretSettings(
                    name=name,
                    target=sys.intern(document.target),
                    backend=sys.intern(document.backend or document.target),
                    path=document.path or name,
                    strategy=sys.intern(document.strategy),
                    options=chosen,
                    policy=policy,
                    tags=tuple(map(sys.intern, document.tags)),
                    owner=sys.intern(_first(document.owner, policy.owner)),
                    basis=sys.intern(_first(document.basis, policy.basis)),
                    consumers=tuple(
                        self._consumers[one].consumer
                        for one in dict.fromkeys(document.consumers)
                        if one in self._consumers
                    ),
                    readers=tuple(map(sys.intern, document.readers)),
                    copies=tuple(
                        CopySettings(backend=sys.intern(one.backend), path=one.path or name)
                        for one in document.copies
                    ),
                    kept_by_target=keeps,
                    leases=_lease_terms(document.leases),
                )
        return found

    def _check_admins(self, section: Section, targets: Section) -> None:
        """Note targets whose admin is a secret that nobody defines."""
        for target, entry in targets.items():
            admin = entry.get("admin") if isinstance(entry, dict) else None
            name = secret_name(admin) if isinstance(admin, str) else None
            if name is not None and name not in section:
                said = f"unknown secret `{name}`." if _is_name(name) else "unknown secret."
                listed = near(name, section) or "Define it under `secrets`."
                self._source.problem(("targets", target, "admin"), said, listed)

    def _check_prepare(
        self, keys: Keys, document: SecretDocument, entry: Entry, kind: TargetKind | None
    ) -> None:
        """Note where nobody could read a next version, or nobody needs one."""
        policy = entry.get("policy")
        if isinstance(policy, dict) and "prepare" in policy:
            keys = (*keys, "policy", "prepare")
        declared = kind.info.strategies if kind is not None else ()
        strategy = next((one for one in declared if one.name == document.strategy), None)
        off = "Set `policy: {prepare: null}` in this secret, or remove `prepare` from its policy."
        if strategy is not None and strategy.overlaps:
            said = f"`prepare` is for strategies without overlap; `{strategy.name}` overlaps."
            self._source.problem(keys, said, off, at_key=True)
        elif kind is not None and kind.info.keeps_secrets:
            said = (
                "`prepare` requires a backend that rotator writes; the target stores this secret."
            )
            self._source.problem(keys, said, off, at_key=True)
        elif document.backend in self._names.backends and document.backend not in self._offering:
            said = f"backend `{document.backend}` cannot show consumers the next version."
            self._source.problem(keys, said, off, at_key=True)
        elif not self._counts(document):
            said = "`prepare` requires consumers, and none counts for this secret."
            remedy = "List them under `consumers`, with the gate `warn` or `hold`."
            self._source.problem(keys, said, remedy, at_key=True)

    def _check_locks(
        self, keys: Keys, document: SecretDocument, given: LeasesDocument, kind: TargetKind | None
    ) -> None:
        """Note where no login can be lent, or the times do not agree."""
        if document.strategy != STRATEGY or (kind is not None and kind.info.keeps_secrets):
            said = f"leases require the strategy `{STRATEGY}`, which makes a login for each."
            self._source.problem(
                keys, said, "Change the strategy, or remove `leases`.", at_key=True
            )
        if given.ttl < SHORTEST:
            said = f"`ttl` is shorter than {durations.write(SHORTEST)}."
            self._source.problem((*keys, "ttl"), said, "Raise it.")
        elif given.ttl > given.max:
            ttl, longest = durations.write(given.ttl), durations.write(given.max)
            said = f"`ttl` ({ttl}) is longer than `max` ({longest})."
            self._source.problem(keys, said, "Raise `max` or lower `ttl`.", at_key=True)
        if given.overlap >= given.ttl:
            said = "`overlap` is not shorter than `ttl`: a lease would be replaced at once."
            self._source.problem(keys, said, "Raise `ttl` or lower `overlap`.", at_key=True)

    def _counts(self, document: SecretDocument) -> bool:
        """Return whether a declared consumer counts for this secret."""
        known = (self._consumers[one] for one in document.consumers if one in self._consumers)
        return any(one.consumer.gate is not Gate.OFF for one in known)

    def _check_acknowledged(self, keys: Keys, document: SecretDocument) -> None:
        """Note when nothing could end the grace period early."""
        if not self._counts(document):
            self._source.problem(
                keys,
                "`grace: until-acknowledged` requires consumers, and none counts for this secret.",
                "List them under `consumers`, with the gate `warn` or `hold`, or set a duration.",
                at_key=True,
            )

    def _has_admin(self, keys: Keys, entry: Data, info: PluginInfo) -> bool:
        """Return whether there is an `admin` where one is needed, and none where none may be."""
        given = isinstance(entry, dict) and entry.get("admin") is not None
        if info.needs_admin and not given:
            said = "missing key."
            remedy = "Admin credential: a reference to a credential, or `username` and `password`."
            self._source.problem((*keys, "admin"), said, remedy)
        elif given and not info.needs_admin and not info.may_have_admin:
            said = f"the plugin `{info.name}` does not use an admin."
            remedy = "Remove the key."
            self._source.problem((*keys, "admin"), said, remedy, at_key=True)
        return info.may_have_admin or given is info.needs_admin

    def _has_place(self, keys: Keys, entry: Entry, kind: TargetKind | None) -> bool:
        """Return whether a backend is named where one is needed, and none where the target keeps it."""
        if kind is None:
            return False
        if not kind.info.keeps_secrets:
            given = entry.get("backend") is not None
            if not given:
                said, remedy = (
                    "missing key.",
                    "Backend that stores the credential: one of `backends`.",
                )
                self._source.problem((*keys, "backend"), said, remedy)
            return given
        for key in ("backend", "copies"):
            if key in entry:
                said = f"the target stores this secret itself (plugin `{kind.info.name}`)."
                remedy = f"Remove `{key}`: applications read the secret from the target."
                self._source.problem((*keys, key), said, remedy, at_key=True)
        return not {"backend", "copies"} & set(entry)

    def _secret_options(self, keys: Keys, entry: Entry, kind: TargetKind) -> object | None:
        info, strategy = kind.info, entry.get("strategy")
        known = [one.name for one in info.strategies]
        if _is_name(strategy) and strategy not in known:
            self._source.problem(
                (*keys, "strategy"),
                f"unknown strategy of plugin `{info.name}`.",
                f"{near(strategy, known)} Strategies: {', '.join(known) or 'none'}.".strip(),
            )
        keys = (*keys, "options")
        chosen = self._options(keys, entry.get("options", {}), info.secret_options, self._names)
        if chosen is not None and kind.target is not None and strategy in known:
            # Only the plugin knows which options a strategy needs; it connects to nothing for it.
            try:
                _ = kind.target.rotation(str(strategy), chosen)
            except UsageError as error:
                at = keys if "options" in entry else keys[:-1]
                self._source.problem(at, error.what, error.hint, at_key=True)
        return chosen

    def _options(self, keys: Keys, data: Data, declared: type, names: Names) -> object | None:
        """Return a plugin's options; what is no mapping has been reported with its entry."""
        if not isinstance(data, dict):
            return None
        return options.read(self._source, keys, data, declared, names=names, base=self._base)

    def _ask(
        self,
        find: Callable[[str], RotationPlugin] | Callable[[str], BackendPlugin],
        name: Data,
        keys: Keys,
    ) -> PluginInfo | None:
        """Return what a plugin declares; None, and a problem, when it is not there."""
        if not _is_name(name):
            return None
        try:
            return find(name).info
        except UsageError as error:
            self._source.problem(keys, error.what, error.hint)
            return None


def _lease_terms(given: LeasesDocument | None) -> LeaseTerms | None:
    if given is None:
        return None
    return LeaseTerms(
        ttl=given.ttl,
        longest=given.max,
        overlap=given.overlap,
        share=given.share,
        at_end=given.at_end,
        limit=given.limit,
    )


def _first(own: str | None, policys: str) -> str:
    return policys if own is None else own


def _leave_out_places(entry: Entry, given: Data) -> None:
    """Take out of a secret that its target keeps what the defaults say of backends."""
    for key in ("backend", "copies"):
        if key in entry and not (isinstance(given, dict) and key in given):
            del entry[key]


def _nobody() -> Credential:
    raise UsageError("the configuration is only read: nothing is connected to.")


def _split(entry: Data, *own: str) -> tuple[Data, Data]:
    """Return the first of an entry's own keys, and what is left for the plugin."""
    if not isinstance(entry, dict):
        return None, None
    return entry.get(own[0]), {key: one for key, one in entry.items() if key not in own}


def _is_name(value: Data) -> TypeGuard[str]:
    """Return whether this can be a name; what cannot has been reported, without repeating it."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def _admin(given: AdminDocument | str | None) -> AdminSettings | None:
    if isinstance(given, AdminDocument):
        return AdminSettings(username=given.username, password=given.password)
    return None if given is None else AdminSettings(reference=given)
