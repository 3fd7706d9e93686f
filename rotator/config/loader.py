"""Reads `rotator.yaml` into `Settings`, or says everything that is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rotator.config.access_sections import access, requests
from rotator.config.defaults import KEY, Defaults
from rotator.config.document import DEFAULT_POLICY, VERSION, Document, JournalDocument
from rotator.config.errors import validated
from rotator.config.files import SECTIONS, Files
from rotator.config.model import ConfigError, JournalSettings, Settings
from rotator.config.policies import Policies
from rotator.config.positions import read
from rotator.config.reader import Reader
from rotator.config.sections import consumers, daemon, notifications, partners
from rotator.config.types import BACKEND_NAME, Names
from rotator.config.watch import Watched
from rotator.config.web_sections import web
from rotator.core.model import Policy
from rotator.journal import address

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.config.parsing import Data
    from rotator.config.positions import Positions
    from rotator.core.contracts.plugin import BackendPlugin, RotationPlugin


def load_file(
    path: Path,
    rotations: Callable[[str], RotationPlugin],
    backends: Callable[[str], BackendPlugin],
) -> Settings:
    """Return what the file says. Raises `ConfigError` with every problem that it has."""
    file = path.expanduser().absolute()
    main = read(file, str(path))
    files = Files(main=main, watched=Watched(files=(file,)))
    data = _mapping(files)
    files.take(main, data, file, Defaults())
    sections = files.sections
    names = _names(sections, data)
    document = validated(files, (), _without_entries(data, sections), Document, names)
    files.check(data, names)
    _check_journal(files, data)
    found_consumers = consumers(document) if document is not None else {}
    reader = Reader(files, names, file.parent, found_consumers)
    found_backends = reader.backends(sections["backends"], backends)
    found_targets, kinds = reader.targets(sections["targets"], rotations)
    policies = Policies(files, sections["policies"], names)
    names_of_secrets = tuple(sections["secrets"])
    found_secrets = reader.secrets(sections["secrets"], sections["targets"], kinds, policies)
    if document is None:
        raise _error(files)
    journal = document.journal or JournalDocument()
    daemon_settings = daemon(files, document, journal.url, file.parent)
    # A secret that is wrong itself is not missing.
    spacing = partners(files, document, names_of_secrets)
    subscribers = notifications(files, document)
    permitted = access(files, document)
    console = web(files, document, file.parent)
    if files.problems:
        raise _error(files)
    return Settings(
        file=file,
        base=file.parent,
        watched=files.watched,
        defaults=dict(_section(data, KEY)),
        journal=JournalSettings(
            url=address.absolute(journal.url, file.parent),
            password=journal.password,
            signing_key=journal.signing_key,
        ),
        backends=found_backends,
        targets=found_targets,
        secrets=found_secrets,
        consumers=found_consumers,
        default_policy=policies.chosen(DEFAULT_POLICY, ("policies",)) or Policy(),
        daemon=daemon_settings,
        partners=spacing,
        notifications=subscribers,
        access=permitted,
        requests=requests(document),
        web=console,
    )


def _mapping(files: Files) -> dict[str, Data]:
    """Return the file's data. Raises `ConfigError` when there is nothing to go on with."""
    source = files.main
    data, source.data = source.data, None
    if isinstance(data, dict) and data.get("version", VERSION) == VERSION:
        return data
    if isinstance(data, dict):
        source.problem(
            ("version",),
            f"unsupported version; this rotator reads version {VERSION}.",
            "Write `version: 1`, or install the newer rotator that this file was written for.",
        )
    elif not source.problems:
        said = "the file is empty." if data is None else "expected a mapping."
        source.problem((), said, "Begin with `version: 1`; `rotator init` writes an example.")
    raise _error(files)


def _without_entries(
    data: dict[str, Data], sections: dict[str, dict[str, Data]]
) -> dict[str, Data]:
    """Return the file with its sections empty; what is no section stays, to be refused.

    Partners are of all files, because a group may be of secrets in several.
    """
    emptied = {name: None for name in SECTIONS if isinstance(data.get(name), dict)}
    if isinstance(data.get("secrets"), list):
        emptied["secrets"] = None
    partners = sections["partners"] if isinstance(data.get("partners", {}), dict) else None
    whole = {**data, **emptied, **({"partners": dict(partners)} if partners else {})}
    # They are checked with their own file.
    return {key: one for key, one in whole.items() if key != KEY}


def _check_journal(source: Positions, data: dict[str, Data]) -> None:
    journal = _section(data, "journal")
    url = journal.get("url", "sqlite:")
    if "password" in journal and isinstance(url, str) and url.startswith("sqlite:"):
        said = "an SQLite journal has no password."
        remedy = "Remove it, or write `url: postgresql://...`."
        source.problem(("journal", "password"), said, remedy, at_key=True)


def _names(sections: dict[str, dict[str, Data]], data: dict[str, Data]) -> Names:
    return Names(
        backends=tuple(name for name in sections["backends"] if re.fullmatch(BACKEND_NAME, name)),
        targets=tuple(sections["targets"]),
        policies=tuple({DEFAULT_POLICY: None, **sections["policies"]}),
        consumers=tuple(_section(data, "consumers")),
    )


def _section(data: dict[str, Data], name: str) -> dict[str, Data]:
    below = data.get(name)
    return below if isinstance(below, dict) else {}


def _error(files: Files) -> ConfigError:
    return ConfigError(files.sorted_problems(), watched=files.watched)
