"""Which secrets are the admins of targets, and what such an admin may log in with."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from rotator.references import OF_SECRET, parse, secret_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.config import Settings
    from rotator.config.model import AdminSettings


class Admins:
    """The secrets of a configuration by which targets have their admin."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is looked up yet."""
        self._settings: Settings = settings

    @cached_property
    def secrets(self) -> Mapping[str, str]:
        """The name of the secret by target, for each target whose admin is a managed secret.

        It does not matter whether the target names the secret or its place in the backend.
        """
        places = {
            target.name: place
            for target in self._settings.targets.values()
            if target.admin is not None and (place := _place(target.admin)) is not None
        }
        if not places:
            return {}
        wanted = set(places.values())
        names = {(OF_SECRET, name): name for scheme, name in wanted if scheme == OF_SECRET}
        for secret in self._settings.secrets.values():
            place = (secret.backend, secret.path.strip("/"))
            if place in wanted and not secret.kept_by_target:
                names[place] = secret.name
        return {
            target: names[place]
            for target, place in places.items()
            if names.get(place) in self._settings.secrets
        }

    def targets(self, secret: str) -> tuple[str, ...]:
        """Return the targets whose admin a secret is."""
        return tuple(target for target, name in self.secrets.items() if name == secret)


def _place(admin: AdminSettings) -> tuple[str, str] | None:
    named = admin.reference or admin.password
    if named is None:
        return None
    name = secret_name(named)
    if name is not None:
        return OF_SECRET, name
    reference = parse(named)
    if admin.reference is None and reference.field != "password":
        return None  # something else that is kept there
    return reference.scheme, reference.path.strip("/")
