"""Reads the URL of a target, such as `postgresql://admin@db.example.org:5432/shop?sslmode=require`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from rotator import plugins
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.contracts.plugin import PluginInfo, RotationPlugin

_FORM: Final = (
    "Example: postgresql://ADMIN@db.example.org:5432/DATABASE, or mysql://, mariadb://,"
    " valkey://, redis://."
)
_WITH_TLS: Final[Mapping[str, str]] = {"rediss": "redis", "valkeys": "valkey"}
_UNCHANGED: Final = "Nothing was changed."
# Options that name files.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetUrl:
    """What a URL says. `options` are those of the target; `database` is left where it has none."""

    engine: str
    plugin: RotationPlugin
    username: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    database: str | None = None


def parse(text: str) -> TargetUrl:
    """Read a URL. Raises `UsageError`, which repeats nothing of it: it may hold a password."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise _refused("this is not the URL of a target.") from None
    query = parse_qsl(url.query, keep_blank_values=True)
    if url.password is not None or any("password" in key for key, _ in query):
        raise _refused(
            "the URL contains a password. Every user of this machine can read it in the"
            " process list, and your shell's history keeps it.",
            hint="If the password is in use, change it. Pass it with --password-from: prompt,"
            " env:NAME, file:PATH or -.",
        )
    if not url.scheme or "://" not in text or url.fragment:
        raise _refused("this is not the URL of a target.")
    engine = _WITH_TLS.get(url.scheme, url.scheme)
    plugin = plugins.rotation_plugin_for(engine)
    if plugin is None:
        raise _refused(f"no installed plugin supports `{url.scheme}` URLs.")
    if not url.username:
        raise _refused("the URL does not contain the name of an admin login.")
    options: dict[str, object] = {"host": unquote(url.hostname)} if url.hostname else {}
    if port is not None:
        options["port"] = port
    if url.scheme in _WITH_TLS:
        options["sslmode"] = "verify-full"
    known = _defaults(plugin.info)
    database = unquote(url.path.strip("/")) or None
    if database is not None and "dbname" in known:
        options["dbname"], database = database, None
    options |= {key: _value(key, value, known) for key, value in query}
    return TargetUrl(
        engine=engine,
        plugin=plugin,
        username=unquote(url.username),
        options=options,
        database=database,
    )


def _defaults(info: PluginInfo) -> Mapping[str, object]:
    declared = info.target_options
    if not dataclasses.is_dataclass(declared):
        return {}
    return {one.name: one.default for one in dataclasses.fields(declared)}


def _value(key: str, value: str, known: Mapping[str, object]) -> object:
    """Return a parameter as the option of that name has it."""
    if key not in known:
        raise _refused(
            f"unknown option `{key}` for this kind of target.",
            hint=plugins.near(key, known) or f"Options: {', '.join(known)}.",
        )
    default = known[key]
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(value, value)
    if isinstance(default, int):
        return int(value) if value.isdecimal() else value
    if isinstance(default, tuple):
        return value.split(",")
    if key in _FILES and value != "system":
        return str(Path(value).absolute())
    return value


def _refused(what: str, hint: str = _FORM) -> UsageError:
    return UsageError(what, hint=hint, safety=_UNCHANGED)
