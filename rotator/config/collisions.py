"""Secrets that would get in each other's way: one place for two values, one login for two."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from rotator.config.fields import PLAIN_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.config.source import Data, Source

    Entries: TypeAlias = dict[str, dict[str, Data]]

_FIXED: Final = tuple(f"{scheme}:" for scheme in PLAIN_SCHEMES)
# What an option names on the target, where the plugin's metadata does not say so by `claims`.
_CLAIMS: Final = {"username": "login", "users": "login"}


def places(source: Source, secrets: Entries) -> None:
    """Note secrets that one backend would keep at one path."""
    taken: dict[tuple[str, str], str] = {}
    for name, secret in secrets.items():
        backend, path = secret.get("backend"), secret.get("path", name)
        if not isinstance(backend, str) or not isinstance(path, str):
            continue
        first = taken.setdefault((backend, path.strip("/")), name)
        if first != name:
            keys = ("secrets", name, "path")
            source.problem(
                keys if source.has(keys) else keys[:2],
                f"secret `{first}` is kept at the same path of the same backend.",
                "Give each secret a `path` of its own.",
                at_key=True,
            )


def claims(source: Source, secrets: dict[str, tuple[str, object]]) -> None:
    """Note secrets that would change one login. `secrets`: each one's target and options."""
    taken: dict[tuple[str, str, str], str] = {}
    for name, (target, options) in secrets.items():
        for option, kind, value in _claimed(options):
            first = taken.setdefault((target, kind, value), name)
            if first != name:
                source.problem(
                    ("secrets", name, "options", option),
                    f"secret `{first}` has the same {kind} on target `{target}`: rotating one would"
                    " break the other.",
                    f"Give each secret a {kind} of its own.",
                    at_key=True,
                )


def admins(source: Source, secrets: dict[str, tuple[str, object]], targets: Entries) -> None:
    """Note secrets whose login is the admin of its target, with a password from a fixed place.

    An admin whose password is taken from a backend may be rotated: the next look finds the new one.
    """
    for name, (target, options) in secrets.items():
        admin = targets[target].get("admin")
        if not isinstance(admin, dict):
            continue
        password = admin.get("password")
        if not isinstance(password, str) or not password.startswith(_FIXED):
            continue
        for option, kind, value in _claimed(options):
            if kind == "login" and value == admin.get("username"):
                source.problem(
                    ("secrets", name, "options", option),
                    f"this login is the admin of target `{target}`, whose password would still be"
                    " taken from where it is now: rotator would lock itself out.",
                    "Keep the admin's credential in a backend and name that place under `admin`,"
                    " or rotate another login.",
                )


def _claimed(options: object) -> Iterator[tuple[str, str, str]]:
    if not dataclasses.is_dataclass(options):
        return
    for one in dataclasses.fields(options):
        kind = cast("str | None", one.metadata.get("claims", _CLAIMS.get(one.name)))
        value: Any = getattr(options, one.name)
        if kind:
            for text in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(text, str) and text:
                    yield one.name, kind, text
