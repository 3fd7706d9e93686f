"""Reads `rotator.yaml` into `Settings`, or says everything that is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

from pydantic import ValidationError

from rotator.config import collisions, journal_url, options, source, wording
from rotator.config.document import (
    DEFAULT_POLICY,
    VERSION,
    AdminDocument,
    Document,
    JournalDocument,
    SecretDocument,
    TargetDocument,
)
from rotator.config.fields import BACKEND_NAME, NAME, Names
from rotator.config.model import (
    AdminSettings,
    BackendSettings,
    ConfigError,
    JournalSettings,
    SecretSettings,
    Settings,
    TargetSettings,
)
from rotator.config.policies import Policies
from rotator.core.errors import UsageError
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from rotator.config.source import Data, Keys, Source
    from rotator.core.model import Policy
    from rotator.core.ports import BackendPlugin, PluginInfo, RotationPlugin

    Entries: TypeAlias = dict[str, dict[str, Data]]
    Rotations: TypeAlias = Callable[[str], RotationPlugin]
    Backends: TypeAlias = Callable[[str], BackendPlugin]

# What stands beside a plugin's own options.
_OWN_KEYS: Final = {"backends": ("type",), "targets": ("plugin", "admin")}


def load_file(path: Path, rotations: Rotations, backends: Backends) -> Settings:
    """Return what the file says. Raises `ConfigError` with every problem that it has."""
    file = path.expanduser().absolute()
    read = source.read(file, str(path))
    data = _mapping(read)
    document = _document(read, data)
    _check_journal(read, data)
    parts = _Parts(read, data, file.parent, rotations, backends)
    if read.problems or document is None:
        raise _error(read)
    return parts.settings(file, document)


class _Parts:
    """What takes plugins, or more than one entry, to read.

    It is read even where other things are wrong, so that all problems are told at once.
    """

    def __init__(
        self,
        read: Source,
        data: dict[str, Data],
        base: Path,
        rotations: Rotations,
        backends: Backends,
    ) -> None:
        self._read: Source = read
        self._base: Path = base
        self._names: Names = _names(data)
        self._rotations: Callable[[str, Keys], PluginInfo | None] = self._asked(rotations)
        self._backends: Callable[[str, Keys], PluginInfo | None] = self._asked(backends)
        targets, secrets = _entries(data, "targets"), _entries(data, "secrets")
        self.backends: dict[str, object] = {}
        self.targets: dict[str, object] = {}
        self.secrets: dict[str, object] = {}
        self.policies: dict[str, Policy] = {}
        self._infos: dict[str, PluginInfo] = {}
        for name, entry in _entries(data, "backends").items():
            self._backend(name, entry)
        for name, entry in targets.items():
            self._target(name, entry)
        policies = Policies(read, _section(data, "policies"), self._names)
        for name, entry in secrets.items():
            self._secret(name, entry)
            keys = ("secrets", name, "policy")
            chosen = policies.chosen(entry.get("policy", DEFAULT_POLICY), keys)
            if chosen is not None:
                self.policies[name] = chosen
        collisions.places(read, secrets)
        chosen_logins = {
            name: (str(secrets[name]["target"]), one) for name, one in self.secrets.items()
        }
        collisions.claims(read, chosen_logins)
        collisions.admins(read, chosen_logins, targets)

    def settings(self, file: Path, document: Document) -> Settings:
        """Return the whole, once no problem was found."""
        journal = document.journal or JournalDocument()
        return Settings(
            file=file,
            base=self._base,
            journal=JournalSettings(
                url=journal_url.absolute(journal.url, self._base),
                password=journal.password,
                signing_key=journal.signing_key,
            ),
            backends={
                name: BackendSettings(name=name, type=one.type, options=self.backends[name])
                for name, one in (document.backends or {}).items()
            },
            targets={
                name: TargetSettings(
                    name=name, plugin=one.plugin, admin=_admin(one), options=self.targets[name]
                )
                for name, one in (document.targets or {}).items()
            },
            secrets={
                name: self._settings_of(name, one) for name, one in (document.secrets or {}).items()
            },
        )

    def _settings_of(self, name: str, one: SecretDocument) -> SecretSettings:
        return SecretSettings(
            name=name,
            target=one.target,
            backend=one.backend,
            path=one.path or name,
            strategy=one.strategy,
            options=self.secrets[name],
            policy=self.policies[name],
            tags=tuple(one.tags),
        )

    def _backend(self, name: str, entry: dict[str, Data]) -> None:
        keys = ("backends", name)
        kind = entry.get("type")
        info = self._backends(kind, (*keys, "type")) if _is_name(kind) else None
        if info is None:
            return
        # A backend is opened before any backend is: its own secrets come from elsewhere.
        found = self._options(keys, _without(entry, "backends"), info.target_options, Names())
        if found is not None:
            self.backends[name] = found

    def _target(self, name: str, entry: dict[str, Data]) -> None:
        keys = ("targets", name)
        kind = entry.get("plugin")
        info = self._rotations(kind, (*keys, "plugin")) if _is_name(kind) else None
        if info is None:
            return
        self._infos[name] = info
        found = self._options(keys, _without(entry, "targets"), info.target_options, self._names)
        if found is not None:
            self.targets[name] = found

    def _secret(self, name: str, entry: dict[str, Data]) -> None:
        keys = ("secrets", name)
        info = self._infos.get(str(entry.get("target")))
        if info is None:
            return
        strategy, known = entry.get("strategy"), [one.name for one in info.strategies]
        if _is_name(strategy) and strategy not in known:
            self._read.problem(
                (*keys, "strategy"),
                f"the plugin `{info.name}` has no such strategy.",
                f"{near(strategy, known)} It has {', '.join(known) or 'none'}.".strip(),
            )
        below = entry.get("options", {})
        if isinstance(below, dict):
            found = self._options((*keys, "options"), below, info.secret_options, self._names)
            if found is not None:
                self.secrets[name] = found

    def _options(
        self, keys: Keys, data: dict[str, Data], declared: type, names: Names
    ) -> object | None:
        return options.read(self._read, keys, data, declared, names=names, base=self._base)

    def _asked(
        self, find: Callable[[str], RotationPlugin] | Callable[[str], BackendPlugin]
    ) -> Callable[[str, Keys], PluginInfo | None]:
        """Return a way to ask for a plugin's declaration, which notes that it is not there."""

        def ask(name: str, keys: Keys) -> PluginInfo | None:
            try:
                return find(name).info
            except UsageError as error:
                self._read.problem(keys, error.what, error.hint)
                return None

        return ask


def _mapping(read: Source) -> dict[str, Data]:
    """Return the file's data. Raises `ConfigError` when there is nothing to go on with."""
    if isinstance(read.data, dict) and (read.data.get("version", VERSION) == VERSION):
        return read.data
    if isinstance(read.data, dict):
        read.problem(
            ("version",),
            f"this is not a version of the format that this rotator reads, which is {VERSION}.",
            "Write `version: 1`, or install the newer rotator that this file was written for.",
        )
    elif not read.problems:
        said = "the file is empty." if read.data is None else "a mapping belongs here."
        read.problem((), said, "Begin with `version: 1`; `rotator init` writes an example.")
    raise _error(read)


def _document(read: Source, data: dict[str, Data]) -> Document | None:
    try:
        return Document.model_validate_json(json.dumps(data), context=_names(data))
    except ValidationError as error:
        wording.report(read, error, Document)
    return None


def _check_journal(read: Source, data: dict[str, Data]) -> None:
    journal = _section(data, "journal")
    url = journal.get("url", "sqlite:")
    if "password" in journal and isinstance(url, str) and url.startswith("sqlite:"):
        said = "an SQLite journal has no password."
        remedy = "Remove it, or write `url: postgresql://...`."
        read.problem(("journal", "password"), said, remedy, at_key=True)


def _names(data: dict[str, Data]) -> Names:
    return Names(
        backends=tuple(name for name in _section(data, "backends") if re.match(BACKEND_NAME, name)),
        targets=tuple(_section(data, "targets")),
        policies=tuple({DEFAULT_POLICY: None, **_section(data, "policies")}),
    )


def _is_name(value: Data) -> TypeGuard[str]:
    """Return whether this can be a name; what cannot has been reported, without repeating it."""
    return isinstance(value, str) and re.match(NAME, value) is not None


def _section(data: dict[str, Data], name: str) -> dict[str, Data]:
    below = data.get(name)
    return below if isinstance(below, dict) else {}


def _entries(data: dict[str, Data], name: str) -> Entries:
    """Return the entries of a section that can be read at all; the others have been reported."""
    return {key: one for key, one in _section(data, name).items() if isinstance(one, dict)}


def _without(entry: dict[str, Data], section: str) -> dict[str, Data]:
    return {key: one for key, one in entry.items() if key not in _OWN_KEYS[section]}


def _admin(target: TargetDocument) -> AdminSettings:
    if isinstance(target.admin, AdminDocument):
        return AdminSettings(username=target.admin.username, password=target.admin.password)
    return AdminSettings(reference=target.admin)


def _error(read: Source) -> ConfigError:
    return ConfigError(sorted(read.problems, key=lambda one: (one.line, one.column, one.key)))
