"""Says in plain words what the models found wrong. No value from the file is ever repeated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

from rotator.plugins import near

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from rotator.config.parsing import Data, Keys
    from rotator.config.positions import Positions

M = TypeVar("M", bound=BaseModel)

# Names go onto command lines, into labels of metrics and file names.
NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.@/+:-]{0,127}$"
BACKEND_NAME: Final = r"^[a-z][a-z0-9_-]{0,62}$"
_OURS: Final = "rotator"
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MAPPING: Final = "expected a mapping.", "Write `key: value` lines below it, indented."
_PLAIN: Final = {
    "missing": ("missing key.", ""),
    "string_type": ("expected text.", "If the value looks like another type, put it in quotes."),
    "int_type": ("expected a whole number.", ""),
    "int_from_float": ("expected a whole number.", ""),
    "float_type": ("expected a number.", ""),
    "bool_type": ("expected `true` or `false`.", ""),
    "list_type": ("expected a list.", "Write `[one, two]`."),
    "tuple_type": ("expected a list.", "Write `[one, two]`."),
    "string_pattern_mismatch": ("invalid character.", ""),
    "string_too_short": ("the value is empty.", ""),
    "string_too_long": ("the value is too long.", ""),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "path_type": ("expected a file path.", ""),
}
_BOUNDS: Final = {
    "greater_than_equal": ("must be {} or more.", "ge"),
    "less_than_equal": ("must be {} or less.", "le"),
    "literal_error": ("expected {}.", "expected"),
    "enum": ("expected {}.", "expected"),
}
# What a stranger's plugin declares may come without a description.
_ELSE: Final = "See `rotator docs configuration`, or the documentation of the plugin."
_NAME_REMEDY: Final = "Use letters, digits and `_ . - / @ + :`, beginning with a letter or digit."
_BACKEND_REMEDY: Final = "Use lower-case letters, digits, `-` and `_`, beginning with a letter."


def wrong(message: str, remedy: str = "") -> PydanticCustomError:
    """Return an error for a validator to raise, whose text and remedy are ours."""
    return PydanticCustomError(_OURS, "{message}", {"message": message, "remedy": remedy})  # pyright: ignore[reportArgumentType] # a literal template


def validated(
    source: Positions, keys: Keys, data: Data, model: type[M], context: object
) -> M | None:
    """Return what stands at `keys` as `model`; None when it is wrong, with what as problems.

    Strict and by way of JSON: a list becomes a tuple and a text an enum's member, but no number
    becomes a text.
    """
    try:
        return model.model_validate_json(_json(data), strict=True, context=context)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            _report(source, keys, one, model)
    return None


def _json(data: Data) -> bytes | str:
    try:
        # Three times as fast as the standard library, which counts for ten thousand secrets.
        return to_json(data, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):
        # A text that UTF-8 has no bytes for: the model reports its place.
        return json.dumps(data)


def name_fits(source: Positions, keys: Keys) -> bool:
    """Return whether the last of `keys` can be a name; note it when it cannot."""
    backend = keys[0] == "backends"
    fits = re.fullmatch(BACKEND_NAME if backend else NAME, str(keys[-1])) is not None
    if not fits:
        remedy = _BACKEND_REMEDY if backend else _NAME_REMEDY
        source.problem(keys, "invalid name.", remedy, at_key=True)
    return fits


def _report(source: Positions, at: Keys, one: ErrorDetails, model: type[BaseModel]) -> None:
    message, remedy = _say(one, model)
    unknown = one["type"] == "extra_forbidden"
    # `{password:hunter2}`, without a space, is a key without a value.
    hide = unknown and (one["input"] is None or not _KEY.fullmatch(str(one["loc"][-1])))
    place = (*at, *one["loc"])
    source.problem(place, message, remedy or _ELSE, at_key=unknown, hide_key=hide)


def _say(one: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    kind, context = one["type"], one.get("ctx", {})
    described = _description(model, one["loc"])
    if kind == _OURS:
        return str(context["message"]), str(context["remedy"])
    if kind == "extra_forbidden":
        known = _known(model, one["loc"])
        listed = f"Known keys: {', '.join(known)}." if known else "No keys are allowed here."
        return "unknown key.", f"{near(str(one['loc'][-1]), known)} {listed}".strip()
    if kind in _BOUNDS:
        template, bound = _BOUNDS[kind]
        return template.format(context[bound]), described
    message, remedy = _PLAIN.get(kind, ("invalid value.", ""))
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
