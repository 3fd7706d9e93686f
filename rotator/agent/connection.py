"""What a secret's reader needs beside the login: where its target is, and the keys that templates make.

A value may hold its own place, as AWS's secrets do. Else it is that of the target in `rotator.yaml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rotator.backends import templates
from rotator.backends.local import LocalOptions
from rotator.core.errors import UsageError
from rotator.core.model import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.client import Login
    from rotator.config import Settings

# By plugin: how addresses of its targets begin. Those of Valkey and Redis say whether they have TLS.
_SCHEMES: Final = {"postgresql": "postgresql", "mysql": "mysql", "valkey": "redis"}
_VALKEY: Final = "valkey"


def scheme_of(settings: Settings, name: str) -> str | None:
    """Return how an address of the secret's target begins; None where it has none."""
    target = settings.targets[settings.secrets[name].target]
    if target.plugin not in _SCHEMES:
        return None
    options: Any = target.options
    is_encrypted = target.plugin == _VALKEY and options.tls(options.host) != "disable"
    return _SCHEMES[target.plugin] + ("s" if is_encrypted else "")


def known_fields(
    settings: Settings, name: str, credential: Credential | Login
) -> dict[str, object]:
    """Return the fields of the value, and `host`, `port` and `dbname` of its target if it names no host.

    With them are the keys that the embedded backend's `templates` make.
    """
    placed = _placed(settings, name, credential)
    return {**placed.fields, **_made(settings, name, placed)}


def made_fields(settings: Settings, name: str, credential: Credential) -> dict[str, str]:
    """Return the keys that the embedded backend's `templates` make. One that lacks a field is left out."""
    return _made(settings, name, _placed(settings, name, credential))


def require_template(settings: Settings, name: str, field: str, credential: Credential) -> None:
    """Raise `UsageError` where `field` is a template of the embedded backend that lacks a field."""
    template = _templates(settings, name).get(field)
    if template is not None:
        _ = templates.fill({field: template}, _placed(settings, name, credential))


def _placed(settings: Settings, name: str, credential: Credential | Login) -> Credential:
    return Credential(
        username=credential.username,
        password=credential.password,
        fields={**_place(settings, name, credential.fields), **credential.fields},
    )


def _place(settings: Settings, name: str, fields: Mapping[str, object]) -> dict[str, object]:
    secret = settings.secrets[name]
    target = settings.targets[secret.target]
    if target.plugin not in _SCHEMES or "host" in fields:
        return {}
    found: dict[str, object] = {key: getattr(target.options, key) for key in ("host", "port")}
    database = getattr(secret.options, "login_dbname", None) or getattr(
        target.options, "dbname", None
    )
    if database is not None and "database" not in fields:
        found["dbname"] = database
    return found


def _made(settings: Settings, name: str, placed: Credential) -> dict[str, str]:
    made: dict[str, str] = {}
    for key, template in _templates(settings, name).items():
        try:
            made |= templates.fill({key: template}, placed)
        except UsageError:
            # The login is needed without it too. Who asks for this very key sees why it is missing.
            continue
    return made


def _templates(settings: Settings, name: str) -> Mapping[str, str]:
    """Return the embedded backend's. Others keep what their templates make in the value."""
    secret = settings.secrets[name]
    if secret.kept_by_target:
        return {}
    options = settings.backends[secret.backend].options
    return options.templates if isinstance(options, LocalOptions) else {}
