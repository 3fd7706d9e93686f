"""Sets up what the application works with: a first configuration, the journal's schema."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from rotator import trusted_files
from rotator.backends.encryption import create_key_file
from rotator.bootstrap.app import App
from rotator.config import load
from rotator.core.contracts.backend import KeepsValues
from rotator.core.errors import UsageError
from rotator.journal import chain, migrate
from rotator.references import parse

if TYPE_CHECKING:
    from pathlib import Path


def upgrade_journal(config: Path) -> tuple[str | None, str]:
    """Bring the journal's schema up to this program's; return the revisions before and after."""
    with App(load(config), upgrade=True) as app:
        _ = app.journal.authenticate()
        return app.journal.upgraded_from, migrate.HEAD


def journal_revision(config: Path) -> tuple[str, str | None, str]:
    """Return the journal's location, its revision and the revision that this program needs."""
    settings = load(config)
    with App(settings, check=False) as app:
        return app.journal.place, app.journal.revision(), migrate.HEAD


def initialise(config: Path, text: str) -> None:
    """Write a first configuration with a key for the embedded backend and one for signatures.

    `text` is the configuration; no existing file is overwritten. Raises `UsageError`.
    """
    if config.exists():
        raise UsageError(
            f"{config} exists already.", hint="Choose another folder, or edit that file."
        )
    config.parent.mkdir(parents=True, exist_ok=True)
    trusted_files.require_folder(config.parent, "the configuration")
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        _ = file.write(text)
    settings = load(config)
    for chosen in settings.backends.values():
        key = str(getattr(cast("Any", chosen.options), "key", ""))
        if key.startswith("file:") and not (path := settings.base / parse(key).path).exists():
            create_key_file(path)
    with App(settings, upgrade=True) as app:
        if settings.journal.signing_key is None:
            return
        reference = parse(settings.journal.signing_key)
        backend = app.backend(reference.scheme)
        if isinstance(backend, KeepsValues) and not backend.get_value(
            reference.path, reference.field
        ):
            backend.put_value(reference.path, reference.field, chain.new_signing_key())
