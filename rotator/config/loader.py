"""Reads `rotator.yaml` into `Settings`, or says everything that is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.config import assembling
from rotator.config.document import DEFAULT_POLICY, VERSION, Document, JournalDocument
from rotator.config.entries import Reader
from rotator.config.fields import BACKEND_NAME, Names
from rotator.config.model import ConfigError, JournalSettings, Settings
from rotator.config.policies import Policies
from rotator.config.source import read
from rotator.config.wording import validated
from rotator.core.model import Policy
from rotator.journal import address

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.config.parsing import Data
    from rotator.config.source import Source
    from rotator.core.ports import BackendPlugin, RotationPlugin

# Sections whose entries are read one at a time.
_SECTIONS: Final = ("backends", "targets", "policies", "secrets")


def load_file(
    path: Path,
    rotations: Callable[[str], RotationPlugin],
    backends: Callable[[str], BackendPlugin],
) -> Settings:
    """Return what the file says. Raises `ConfigError` with every problem that it has."""
    file = path.expanduser().absolute()
    source = read(file, str(path))
    data = _mapping(source)
    names = _names(data)
    document = validated(source, (), _without_entries(data), Document, names)
    _check_journal(source, data)
    reader = Reader(source, names, file.parent)
    found_backends = reader.backends(_section(data, "backends"), backends)
    found_targets, kinds = reader.targets(_section(data, "targets"), rotations)
    policies = Policies(source, _section(data, "policies"), names)
    secrets, targets = _section(data, "secrets"), _section(data, "targets")
    names_of_secrets = tuple(secrets)
    found_secrets = reader.secrets(secrets, targets, kinds, policies)
    if document is None:
        raise _error(source)
    journal = document.journal or JournalDocument()
    serving = (
        assembling.daemon(source, document, journal.url),
        # A secret that is wrong itself is not missing.
        assembling.partners(source, document, names_of_secrets),
        assembling.notifications(source, document),
    )
    if source.problems:
        raise _error(source)
    return Settings(
        file=file,
        base=file.parent,
        journal=JournalSettings(
            url=address.absolute(journal.url, file.parent),
            password=journal.password,
            signing_key=journal.signing_key,
        ),
        backends=found_backends,
        targets=found_targets,
        secrets=found_secrets,
        default_policy=policies.chosen(DEFAULT_POLICY, ("policies",)) or Policy(),
        daemon=serving[0],
        partners=serving[1],
        notifications=serving[2],
    )


def _mapping(source: Source) -> dict[str, Data]:
    """Return the file's data. Raises `ConfigError` when there is nothing to go on with."""
    data, source.data = source.data, None
    if isinstance(data, dict) and data.get("version", VERSION) == VERSION:
        return data
    if isinstance(data, dict):
        source.problem(
            ("version",),
            f"this is not a version of the format that this rotator reads, which is {VERSION}.",
            "Write `version: 1`, or install the newer rotator that this file was written for.",
        )
    elif not source.problems:
        said = "the file is empty." if data is None else "a mapping belongs here."
        source.problem((), said, "Begin with `version: 1`; `rotator init` writes an example.")
    raise _error(source)


def _without_entries(data: dict[str, Data]) -> dict[str, Data]:
    """Return the file with its sections empty; what is no section stays, to be refused."""
    emptied = {name: None for name in _SECTIONS if isinstance(data.get(name), dict)}
    return {**data, **emptied}


def _check_journal(source: Source, data: dict[str, Data]) -> None:
    journal = _section(data, "journal")
    url = journal.get("url", "sqlite:")
    if "password" in journal and isinstance(url, str) and url.startswith("sqlite:"):
        said = "an SQLite journal has no password."
        remedy = "Remove it, or write `url: postgresql://...`."
        source.problem(("journal", "password"), said, remedy, at_key=True)


def _names(data: dict[str, Data]) -> Names:
    return Names(
        backends=tuple(
            name for name in _section(data, "backends") if re.fullmatch(BACKEND_NAME, name)
        ),
        targets=tuple(_section(data, "targets")),
        policies=tuple({DEFAULT_POLICY: None, **_section(data, "policies")}),
    )


def _section(data: dict[str, Data], name: str) -> dict[str, Data]:
    below = data.get(name)
    return below if isinstance(below, dict) else {}


def _error(source: Source) -> ConfigError:
    return ConfigError(sorted(source.problems, key=lambda one: (one.line, one.column, one.key)))
