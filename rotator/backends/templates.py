"""Keys that are made of others, such as a connection URL of host, login and password."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rotator.api import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rotator.api import Credential

HELP: Final = (
    "Further keys, composed from the others, such as a URL:"
    " `postgresql://{username}:{password:url}@{host}/{dbname}`."
)
# `{password}`, or `{password:url}` for a place in a URL.
_PLACE: Final = re.compile(r"\{(\w+)(:url)?\}")


def check(templates: Iterable[str], own: Iterable[str]) -> None:
    """Raise `UsageError` when a template takes the place of the login or the password."""
    if set(own) & set(templates):
        raise UsageError("a template must not replace the login or the password.")


def fill(templates: Mapping[str, str], credential: Credential) -> dict[str, str]:
    """Return what each template makes of a credential. Raises `UsageError` for a missing part."""
    values = {
        **credential.fields,
        "username": credential.username,
        "password": credential.password.reveal(),
    }
    return {key: _filled(text, key, values) for key, text in templates.items()}


def _filled(text: str, key: str, values: Mapping[str, Any]) -> str:
    def place(found: re.Match[str]) -> str:
        name, url = found.groups()
        if name not in values:
            raise UsageError(
                f"template {key!r} requires {name!r}, which the secret does not contain.",
                hint="Add it to the secret, or change the template.",
            )
        value = values[name]
        plain = value if isinstance(value, str) else json.dumps(value)
        return quote(plain, safe="") if url else plain

    return _PLACE.sub(place, text)
