"""What a backend holds, read as a login."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

from rotator.client.login import Login, SourceError
from rotator.core.secret import Secret

_LARGEST: Final = 1 << 20


def login_from(
    data: object,
    version: str,
    where: str,
    username_field: str,
    password_field: str,
    *,
    rotation: str | None = None,
) -> Login:
    """Return the login in `data`. Raises `SourceError`, which names keys and never a value.

    `rotation`: of the version that comes next, the rotation that is to publish it.
    """
    if not isinstance(data, Mapping):
        raise SourceError(f"{where} holds no JSON object.")
    values = dict(cast("Mapping[str, object]", data))
    username, password = values.pop(username_field, None), values.pop(password_field, None)
    if not isinstance(username, str) or not isinstance(password, str):
        missing = username_field if not isinstance(username, str) else password_field
        raise SourceError(f"{where} has no text under the key {missing!r}.")
    return Login(
        username=username,
        password=Secret(password),
        version=version,
        fields=values,
        rotation=rotation,
    )


def parsed(text: str, where: str) -> object:
    """Return JSON as data. Raises `SourceError`."""
    if len(text) > _LARGEST:
        raise SourceError(f"{where} is larger than {_LARGEST} characters.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError(f"{where} holds no JSON.") from None
