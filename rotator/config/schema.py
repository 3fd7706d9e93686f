"""The JSON Schema of `rotator.yaml`, for editors and for those who generate the file.

It is made from the same models that check the file, with the options of our own plugins.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from rotator import plugins
from rotator.config.document import Document, IncludedDocument
from rotator.config.options import model_of
from rotator.config.types import GracePeriod
from rotator.core import durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotator.core.contracts.plugin import BackendPlugin, PluginInfo, RotationPlugin

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_PACKAGE: Final = "credential-rotator"
_SUFFIX: Final = "Document"


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file would have them, and no titles that only repeat the key."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, GracePeriod):
            return str(dft)
        if isinstance(dft, BaseModel):
            return {name: self.encode_default(value) for name, value in dft}
        return durations.write(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 # pydantic's signature
        return False

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made


def build() -> dict[str, Any]:
    """Return the schema as plain data, the same each time.

    Raises `UsageError` when a plugin of ours does not load: nothing is left out silently.
    """
    schema = _of(Document, "#/$defs/{model}")
    definitions: dict[str, Any] = schema["$defs"]
    for name, info in own(plugins.BACKENDS):
        _offer(definitions, "BackendDocument", "type", name, info)
    for name, info in own(plugins.ROTATIONS):
        _offer(definitions, "TargetDocument", "plugin", name, info)
        _offer_secret(definitions, name, info)
    # What an override leaves out comes from the policy below it.
    for name, one in definitions["PolicyOverride"]["properties"].items():
        if name != "base":
            one.pop("default", None)
    _shorten_secrets(schema)
    for name, one in definitions.items():
        if name.endswith(_SUFFIX):
            one["title"] = name.removesuffix(_SUFFIX).lower()
    return {"$schema": DRAFT, **schema, "title": "rotator.yaml"}


def _shorten_secrets(schema: dict[str, Any]) -> None:
    """Let the defaults say what a secret leaves out, and describe what an included file holds.

    Editors check such a file by `rotator.schema.json#/$defs/IncludedDocument`.
    """
    definitions, properties = schema["$defs"], schema["properties"]
    _ = definitions["SecretDocument"].pop("required")
    by_name: dict[str, Any] = properties["secrets"]["anyOf"][0]["patternProperties"]
    for pattern, entry in by_name.items():
        by_name[pattern] = {"anyOf": [entry, {"type": "null"}]}
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    properties["secrets"]["anyOf"].insert(1, names)
    included = _of(IncludedDocument, "#/$defs/{model}")
    _ = included.pop("$defs", None)
    own = ("version", "include", "defaults")
    for name, one in included["properties"].items():
        if name not in own:
            included["properties"][name] = {**properties[name], "description": one["description"]}
    definitions["IncludedDocument"] = included


def text() -> str:
    """Return the schema as it is committed in docs/reference/rotator.schema.json."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


def own(group: str) -> list[tuple[str, PluginInfo]]:
    """Return what our own plugins of a group declare, by their names."""
    find: Callable[[str], BackendPlugin | RotationPlugin] = (
        plugins.backend_plugin if group == plugins.BACKENDS else plugins.rotation_plugin
    )
    found = plugins.installed(group)
    return [(one.name, find(one.name).info) for one in found if one.distribution == _PACKAGE]


def _offer(
    definitions: dict[str, Any], document: str, key: str, name: str, info: PluginInfo
) -> None:
    """Say which other keys an entry has when its `type` or `plugin` is this one."""
    entry = definitions[document]
    at = f"{document.removesuffix(_SUFFIX).lower()}.{name}"
    _define(definitions, at, info.target_options, info.summary, beside=entry["properties"])
    if document == "TargetDocument" and info.needs_admin:
        definitions[at]["required"] = [*definitions[at].get("required", []), "admin"]
    entry.setdefault("allOf", []).append(
        {
            "if": {"properties": {key: {"const": name}}, "required": [key]},
            "then": {
                "$ref": f"#/$defs/{at}",
                **({"required": ["admin"]} if key == "plugin" and info.needs_admin else {}),
            },
        }
    )
    _suggest(entry["properties"][key], name)


def _offer_secret(definitions: dict[str, Any], name: str, info: PluginInfo) -> None:
    """Offer the plugin's options and strategies; which plugin it is, the target says elsewhere."""
    secret = definitions["SecretDocument"]["properties"]
    _define(definitions, f"secret.{name}", info.secret_options, f"Options of plugin {name}.")
    # The last choice is for a stranger's plugin.
    choices = secret["options"].setdefault("anyOf", [{"type": "object"}])
    choices.insert(len(choices) - 1, {"$ref": f"#/$defs/secret.{name}"})
    for strategy in info.strategies:
        _suggest(secret["strategy"], strategy.name)


def _suggest(value: dict[str, Any], name: str) -> None:
    """Let editors complete `name` without refusing what a stranger's plugin adds."""
    value.setdefault("examples", []).append(name)


def _define(
    definitions: dict[str, Any],
    at: str,
    options: type,
    said: str,
    beside: Iterable[str] = (),
) -> None:
    """Define a plugin's options under `at`, allowing the keys that stand `beside` them."""
    made = _of(model_of(options), f"#/$defs/{at}.{{model}}")
    for name, one in made.pop("$defs", {}).items():
        definitions[f"{at}.{name}"] = one
    properties = dict.fromkeys(beside, True) | made.get("properties", {})
    definitions[at] = {**made, "title": at, "description": said, "properties": properties}


def _of(model: type[BaseModel], references: str) -> dict[str, Any]:
    return model.model_json_schema(ref_template=references, schema_generator=_Generator)
