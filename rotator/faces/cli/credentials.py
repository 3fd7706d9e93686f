"""Credentials as commands print them: field by field, or as a text in a format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotator.agent.connection import known_fields, scheme_of
from rotator.agent.formats import FORMATS, FormatOptions, render
from rotator.client import Login
from rotator.core.errors import UsageError
from rotator.core.secret import MASK, Secret
from rotator.plugins import near

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.config import Settings
    from rotator.core.model import Credential

UNSHOWN: Final = "(known only to the system that rotates it)"


def values_of(credential: Credential) -> dict[str, object]:
    """Return every field of a credential. All but the login name are secret."""
    return {**credential.fields, "username": credential.username, "password": credential.password}


def shown_value(value: object, key: str, *, reveal: bool) -> str:
    """Return a field as it is shown: masked, unless it is revealed."""
    if isinstance(value, Secret):
        if not value.reveal():
            return UNSHOWN
        return value.reveal() if reveal else MASK
    if key != "username" and not reveal:
        return MASK
    return value if isinstance(value, str) else json.dumps(value)


def lines_of(shown: Mapping[str, str]) -> str:
    """Return fields as lines of text."""
    width = max(len(key) for key in shown)
    return "".join(f"  {key:<{width}}  {value}\n" for key, value in shown.items())


def check_format(format_: str | None, template: str) -> None:
    """Raise `UsageError` for a format that there is not, and for a template that it would ignore."""
    if template and format_ != "template":
        raise UsageError("--template needs --format template.", safety="Nothing was changed.")
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(
            f"there is no format {format_!r}.",
            hint=near(format_, FORMATS) or f"One of: {', '.join(FORMATS)}.",
        )


def formatted(
    settings: Settings,
    name: str,
    credential: Credential,
    version: str,
    format_: str,
    template: str,
) -> str:
    """Return a credential as text in a format. Raises `UsageError` where the format cannot hold it.

    What it lacks of `host`, `port` and `dbname` is that of its target.
    """
    if not credential.password.reveal():
        raise UsageError(
            f"the password of {name} cannot be shown.",
            hint="Only the system that rotates it knows its value. Test it: rotator verify",
        )
    login = Login(
        username=credential.username,
        password=credential.password,
        version=version,
        fields=known_fields(settings, name, credential),
    )
    options = FormatOptions(template=template)
    if scheme := scheme_of(settings, name):
        options = replace(options, scheme=scheme)
    return render(login, format_, options).reveal()
