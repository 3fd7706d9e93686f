"""Says in plain words what the models found wrong. No value from the file is ever repeated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from rotator.plugins import near

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from rotator.config.source import Keys, Source

_OURS: Final = "rotator"
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MAPPING: Final = "a mapping belongs here.", "Write `key: value` lines below it, indented."
_PLAIN: Final = {
    "missing": ("this key is missing.", ""),
    "string_type": ("a text belongs here.", "Put it in quotes if it looks like something else."),
    "int_type": ("a whole number belongs here.", ""),
    "int_from_float": ("a whole number belongs here.", ""),
    "float_type": ("a number belongs here.", ""),
    "bool_type": ("`true` or `false` belongs here.", ""),
    "list_type": ("a list belongs here.", "Write `[one, two]`."),
    "tuple_type": ("a list belongs here.", "Write `[one, two]`."),
    "string_pattern_mismatch": ("a character stands here that does not belong here.", ""),
    "string_too_short": ("this is empty.", ""),
    "string_too_long": ("this is too long.", ""),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "path_type": ("the path of a file belongs here.", ""),
}
_BOUNDS: Final = {
    "greater_than_equal": ("this must be {} or more.", "ge"),
    "less_than_equal": ("this must be {} or less.", "le"),
    "literal_error": ("{} belongs here.", "expected"),
    "enum": ("{} belongs here.", "expected"),
}
_NAME_REMEDY: Final = "Use letters, digits and `_ . - / @ + :`, beginning with a letter or digit."
_BACKEND_REMEDY: Final = "Use lower-case letters, digits, `-` and `_`, beginning with a letter."


def wrong(message: str, remedy: str = "") -> PydanticCustomError:
    """Return an error for a validator to raise, whose text and remedy are ours."""
    return PydanticCustomError(_OURS, "{message}", {"message": message, "remedy": remedy})  # pyright: ignore[reportArgumentType] # a literal template


def report(source: Source, error: ValidationError, model: type[BaseModel], at: Keys = ()) -> None:
    """Note everything that `model` found wrong with what stands at `at`."""
    for one in error.errors(include_url=False):
        keys = one["loc"]
        if keys and keys[-1] == "[key]":
            remedy = _BACKEND_REMEDY if keys[0] == "backends" else _NAME_REMEDY
            source.problem((*at, *keys[:-1]), "this cannot be a name.", remedy, at_key=True)
            continue
        message, remedy = _say(one, model)
        unknown = one["type"] == "extra_forbidden"
        # `{password:hunter2}`, without a space, is a key without a value.
        hide = unknown and (one["input"] is None or not _KEY.fullmatch(str(keys[-1])))
        source.problem((*at, *keys), message, remedy, at_key=unknown, hide_key=hide)


def _say(one: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    kind, context = one["type"], one.get("ctx", {})
    described = _description(model, one["loc"])
    if kind == _OURS:
        return str(context["message"]), str(context["remedy"])
    if kind == "extra_forbidden":
        known = _known(model, one["loc"])
        listed = f"Known here: {', '.join(known)}." if known else "No key is known here."
        return "this key is not known.", f"{near(str(one['loc'][-1]), known)} {listed}".strip()
    if kind in _BOUNDS:
        template, bound = _BOUNDS[kind]
        return template.format(context[bound]), described
    message, remedy = _PLAIN.get(kind, ("this does not fit here.", ""))
    return message, remedy or described


def _known(model: type[BaseModel], keys: Keys) -> list[str]:
    owner = _owner(model, keys)
    return [field.alias or name for name, field in owner.model_fields.items()]


def _description(model: type[BaseModel], keys: Keys) -> str:
    steps = [key for key in keys if not str(key).startswith("<")]
    if not steps:
        return ""
    field = _field(_owner(model, tuple(steps)), steps[-1])
    return (field.description or "") if field else ""


def _owner(model: type[BaseModel], keys: Keys) -> type[BaseModel]:
    """Return the model that the last of `keys` belongs to, below `model`.

    A key that no field has is an entry of a mapping, or the mark of one form of several.
    """
    inner: list[type[BaseModel]] = [model]
    for key in keys[:-1]:
        field = _field(inner[0], key)
        if field is not None:
            inner = _models(field.annotation) or inner
    return inner[0]


def _field(model: type[BaseModel], key: str | int) -> FieldInfo | None:
    for name, field in model.model_fields.items():
        if (field.alias or name) == key:
            return field
    return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
