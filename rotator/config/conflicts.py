"""Secrets that would get in each other's way: one place for two values, one login for two."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Final

from rotator.config.types import PLAIN_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.config.parsing import Data, Keys
    from rotator.config.positions import Positions

    _Server = tuple[str, ...]

_FIXED: Final = tuple(f"{scheme}:" for scheme in PLAIN_SCHEMES)
# What an option names on the target, where the plugin's metadata does not say so by `claims`.
_CLAIMS: Final = {"username": "login", "users": "login"}


class Collisions:
    """What the secrets seen so far have taken."""

    def __init__(self, source: Positions, targets: dict[str, Data]) -> None:
        """Problems go to `source`. `targets`: that section, as it is written."""
        self._source: Positions = source
        self._places: dict[tuple[str, ...], tuple[str, Keys]] = {}
        self._claims: dict[tuple[_Server, str, str], tuple[str, str]] = {}
        self._servers: dict[str, _Server] = {
            name: _server(name, one) for name, one in targets.items()
        }
        # The targets whose admin is a login that no rotation may change, by server and login.
        self._fixed: dict[tuple[_Server, str], str] = {
            (self._servers[name], login): name
            for name, one in targets.items()
            if isinstance(one, dict) and (login := _fixed_login(one.get("admin"))) is not None
        }

    def place(self, name: str, entry: dict[str, Data], keeper: str | None = None) -> None:
        """Note when a secret, or a copy of one, is already kept at the same path of a backend.

        `keeper`: the target that keeps it, where that is its own backend.
        """
        if keeper is not None:
            self._take_within(name, entry, keeper)
        else:
            self._take(name, entry, ("secrets", name))
        copies = entry.get("copies")
        for number, copy in enumerate(copies if isinstance(copies, list) else ()):
            if isinstance(copy, dict):
                self._take(name, copy, ("secrets", name, "copies", number))

    def _take_within(self, name: str, entry: dict[str, Data], keeper: str) -> None:
        """Note when another secret is the same one of this target: by strategy and path."""
        place = ("target", keeper, str(entry.get("strategy")), str(entry.get("path", name)))
        keys = ("secrets", name)
        first = self._places.setdefault(place, (name, keys))
        if first[1] != keys:
            self._source.problem(
                (*keys, "path") if "path" in entry else keys,
                f"secret `{first[0]}` already manages this login on target `{keeper}`.",
                "Manage it in one secret only: two secrets would rotate the same login.",
                at_key=True,
            )

    def _take(self, name: str, entry: dict[str, Data], keys: Keys) -> None:
        backend, path = entry.get("backend"), entry.get("path", name)
        if not isinstance(backend, str) or not isinstance(path, str):
            return
        first = self._places.setdefault((backend, path.strip("/")), (name, keys))
        if first[1] != keys:
            at = (*keys, "path")
            self._source.problem(
                at if self._source.has(at) else keys,
                f"secret `{first[0]}` uses the same path of the same backend.",
                "Give each secret, and each of its copies, its own `path`.",
                at_key=True,
            )

    def claim(self, name: str, target: str, options: object) -> None:
        """Note when another secret, or the `admin` of a target, has a login of this secret.

        Targets with one host and port are one server.
        """
        server = self._servers.get(target, (target,))
        for option, kind, value in _claimed(options):
            keys = ("secrets", name, "options", option)
            first, there = self._claims.setdefault((server, kind, value), (name, target))
            if first != name:
                self._source.problem(
                    keys,
                    f"secret `{first}` has the same {kind} on target `{there}`"
                    f"{'' if there == target else ', which is the same server'}: rotating one"
                    " would break the other.",
                    f"Give each secret its own {kind}.",
                    at_key=True,
                )
            fixed = self._fixed.get((server, value)) if kind == "login" else None
            if fixed is not None:
                self._source.problem(
                    keys,
                    f"this login is the admin of target `{fixed}`, and its password would"
                    " still be read from its present source: rotator would lock itself out.",
                    f"Write `admin: secret:{name}` at that target, so that it reads the password from"
                    " this secret, or rotate another login.",
                )


def _server(target: str, entry: Data) -> _Server:
    """Return what two targets on one server have in common; of a target without a host its name."""
    host = entry.get("host") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(host, str):
        return (target,)
    return (str(entry.get("plugin")), host.lower(), str(entry.get("port")))


def _fixed_login(admin: Data) -> str | None:
    """Return the admin's login if its password comes from where no rotation can change it.

    An admin whose password is taken from a backend may be rotated: the next look finds the new one.
    """
    if not isinstance(admin, dict):
        return None
    login, password = admin.get("username"), admin.get("password")
    fixed = isinstance(password, str) and password.startswith(_FIXED)
    return login if fixed and isinstance(login, str) else None


def _claimed(options: object) -> Iterator[tuple[str, str, str]]:
    for name, kind in _claims(type(options)):
        value: Any = getattr(options, name)
        for text in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(text, str) and text:
                yield name, kind, text


@functools.cache
def _claims(options: type) -> tuple[tuple[str, str], ...]:
    """Return the options that name something on the target, and what it is."""
    fields = dataclasses.fields(options) if dataclasses.is_dataclass(options) else ()
    kinds = ((one.name, one.metadata.get("claims", _CLAIMS.get(one.name))) for one in fields)
    return tuple((name, str(kind)) for name, kind in kinds if kind)
