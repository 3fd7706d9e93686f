"""References of a process that has no access to a backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rotator.core.errors import UsageError
from rotator.references import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.secret import Secret


def plain_resolver(base: Path) -> Callable[[str], Secret]:
    """Return what resolves `file:` and `env:`. Files are relative to `base`."""
    return Resolver(_no_backend, base, os.environ).secret


def _no_backend(name: str) -> SecretBackend:
    raise UsageError(
        f"the console has no access to backend {name!r}.",
        hint="Give its references as `file:PATH` or `env:NAME` in the section `web`.",
    )
