"""The credential of a database in Django's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from rotator.client.credential import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping


def credential_of(settings: Mapping[str, Any]) -> Credential:
    """Return `OPTIONS["credential"]`: a `Credential`, or the dotted path of one."""
    given = settings["OPTIONS"].get("credential")
    found: object = import_string(given) if isinstance(given, str) else given
    if not isinstance(found, Credential):
        raise ImproperlyConfigured(
            "this database engine needs a rotator.client.Credential, or its dotted path, as OPTIONS['credential']."
        )
    return found


def with_login(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the current login, for a command such as `dbshell`."""
    login = credential_of(settings).current()
    options = {key: value for key, value in settings["OPTIONS"].items() if key != "credential"}
    return {
        **settings,
        "USER": login.username,
        "PASSWORD": login.password.reveal(),
        "OPTIONS": options,
    }
