"""The Secret object: what the agent applies, and whether the cluster has it already."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.agent.formats import fill, render
from rotator.agent.kubernetes.api import MANAGER, Resource, mapping

if TYPE_CHECKING:
    from rotator.agent.settings import KubernetesOptions
    from rotator.client import Login

# The version of the secret that an object, or each pod of a workload, has.
VERSION: Final = "credential-rotator/version"


def manifest(resource: Resource, options: KubernetesOptions, login: Login) -> dict[str, Any]:
    """Return the object with all its keys: one write replaces them together. Raises `UsageError`."""
    contents = {key: fill(template, login) for key, template in options.keys.items()}
    contents |= {
        key: render(login, file.format, file.options) for key, file in options.files.items()
    }
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": resource.name,
            "namespace": resource.namespace,
            "annotations": {VERSION: login.version},
        },
        "data": {
            key: base64.b64encode(content.reveal().encode()).decode()
            for key, content in contents.items()
        },
    }
    return made if options.type is None else {**made, "type": options.type}


def has_all(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether an object has what is wanted, and no key that the agent applied before."""
    data = mapping(present.get("data"))
    is_same = all(data.get(key) == value for key, value in wanted["data"].items())
    is_marked = version_of(present) == version_of(wanted)
    return is_same and is_marked and _owned_keys(present) == set(wanted["data"])


def version_of(present: Mapping[str, Any]) -> str | None:
    """Return the version of the secret that an object has; None where the agent did not write it."""
    version = mapping(mapping(present.get("metadata")).get("annotations")).get(VERSION)
    return version if isinstance(version, str) else None


def _owned_keys(present: Mapping[str, Any]) -> set[str]:
    """Return the keys that the agent applied, by the managed fields of an object."""
    entries = mapping(present.get("metadata")).get("managedFields")
    keys: set[str] = set()
    for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
        managed = mapping(entry)
        if (managed.get("manager"), managed.get("operation")) == (MANAGER, "Apply"):
            fields = mapping(mapping(managed.get("fieldsV1")).get("f:data"))
            keys |= {key.removeprefix("f:") for key in fields if key.startswith("f:")}
    return keys
