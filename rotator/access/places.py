"""Which managed secret a path of an audit log is, by the configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from rotator.core.errors import UsageError
from rotator.core.reads import LogKind
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rotator.config import Settings
    from rotator.config.model import BackendSettings

# The six characters that AWS adds to a name in an ARN.
_SUFFIX: Final = re.compile(r"-[A-Za-z0-9]{6}$")
_Key = TypeVar("_Key")
_TYPES: Final = {LogKind.VAULT: "vault", LogKind.OPENBAO: "vault", LogKind.CLOUDTRAIL: "aws"}


def vault_paths(
    settings: Settings, kind: LogKind, backend: str | None
) -> dict[tuple[str, str], str]:
    """Return the secrets by the namespace and the path of a request that reads them."""
    found: dict[tuple[str, str], str] = {}
    for chosen, name, path in _kept(settings, kind, backend):
        mount = str(getattr(chosen.options, "mount", "")).strip("/")
        namespace = str(getattr(chosen.options, "namespace", None) or "").strip("/")
        _add(found, (namespace, f"{mount}/data/{path.strip('/')}"), name)
    return found


def aws_names(settings: Settings, kind: LogKind, backend: str | None) -> dict[str, str]:
    """Return the secrets by the name that AWS knows them by."""
    found: dict[str, str] = {}
    for _, name, path in _kept(settings, kind, backend):
        _add(found, aws_name(path), name)
        if path.startswith("arn:"):
            _add(found, _SUFFIX.sub("", aws_name(path)), name)
    return found


def aws_name(identifier: str) -> str:
    """Return the name in an ARN of a secret, with AWS's suffix; a name as it is."""
    _, separator, name = identifier.partition(":secret:")
    return name if separator else identifier


def secret_of(names: Mapping[str, str], identifier: str) -> str | None:
    """Return the secret that a request names by its name, by its ARN, or by an ARN without suffix."""
    name = aws_name(identifier)
    found = names.get(name)
    if found is None and identifier.startswith("arn:"):
        found = names.get(_SUFFIX.sub("", name))
    return found


def agent_paths(settings: Settings, backend: str | None) -> dict[str, str]:
    """Return the secrets by the path that an agent reads."""
    found: dict[str, str] = {}
    for _, name, path in _kept(settings, LogKind.AGENT, backend):
        _add(found, path, name)
    return found


def _kept(
    settings: Settings, kind: LogKind, backend: str | None
) -> Iterator[tuple[BackendSettings, str, str]]:
    """Return each place of the backends that a log can be of: backend, secret, path."""
    if backend is not None and backend not in settings.backends:
        raise UsageError(
            f"no backend is called {backend!r} in {settings.file}.",
            hint=near(backend, settings.backends),
        )
    wanted = _TYPES.get(kind)
    chosen = {
        name: one
        for name, one in settings.backends.items()
        if backend in (None, name) and wanted in (None, one.type)
    }
    if not chosen:
        what = (
            f"backend {backend!r} is of another type"
            if backend
            else f"no backend is of type {wanted}"
        )
        raise UsageError(
            f"{what}: a log of {kind} cannot be one of it.",
            hint="Check --from and --backend.",
            safety="Nothing was changed.",
        )
    for secret in settings.secrets.values():
        for name, one in chosen.items():
            for path in secret.paths(name):
                yield one, secret.name, path


def _add(found: dict[_Key, str], key: _Key, name: str) -> None:
    if found.setdefault(key, name) != name:
        raise UsageError(
            f"secrets {found[key]} and {name} have the same path in two backends.",
            hint="Name the backend of this log: --backend NAME",
            safety="Nothing was changed.",
        )
