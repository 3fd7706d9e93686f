"""Reads the options of plugins and backends by the dataclasses that they declare.

A field's metadata may hold `help` (a sentence for the schema and the documentation), `reference`
(true: its texts are references to secrets), `names` (`backends` or `targets`: it is the name of one
of them) and `claims` (see `collisions`). Fields that are named
like secrets hold references unless `reference` is false. Fields of type `Path` start at the folder
of the configuration, those of type `timedelta` are durations.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from datetime import timedelta
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import Field, create_model

from rotator.config.document import Strict
from rotator.config.errors import validated
from rotator.config.types import Duration, Names, Reference, known
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from rotator.config.parsing import Data, Keys
    from rotator.config.positions import Positions

_LIKE_A_SECRET: Final = re.compile(
    r"(^|_)(password|passwd|passphrase|token|secret|secret_id|private_key|key|keys)$"
)
# Options have names such as `schema` or `copy`, which a model has for itself.
_PREFIX: Final = "option_"


class OptionsModel(Strict):
    """What is made of a plugin's dataclass to check its options by."""

    made_of: ClassVar[type] = object


def read(
    source: Positions, keys: Keys, data: dict[str, Data], options: type, *, names: Names, base: Path
) -> object | None:
    """Return the options that stand at `keys` as the plugin's own dataclass.

    None when they are wrong: what, is then among the source's problems.
    """
    checked = validated(source, keys, data, model_of(options), names)
    if checked is None:
        return None
    try:
        return _built(checked, base)
    except UsageError as error:
        source.problem(keys, error.what, error.hint, at_key=True)
    except (ValueError, TypeError) as error:
        said = f"invalid combination of options ({type(error).__name__} from the plugin)."
        source.problem(keys, said, "See the plugin's documentation.", at_key=True)
    return None


@functools.cache
def model_of(options: type) -> type[OptionsModel]:
    """Return the model that checks options of this dataclass; `object` stands for no options."""
    made: dict[str, Any] = {}
    if dataclasses.is_dataclass(options):
        hints = get_type_hints(options, include_extras=True)
        for one in dataclasses.fields(options):
            if one.init:
                made[f"{_PREFIX}{one.name}"] = (_adapted(hints[one.name], one), _described(one))
    doc = (options.__doc__ or "").strip() if made else "No options."
    model = create_model(options.__name__, __base__=OptionsModel, __doc__=doc, **made)
    model.made_of = options
    return model


def holds_references(one: dataclasses.Field[Any]) -> bool:
    """Return whether the texts of this option are references to secrets."""
    return bool(one.metadata.get("reference", _LIKE_A_SECRET.search(one.name)))


def _described(one: dataclasses.Field[Any]) -> Any:
    about: dict[str, Any] = {"alias": one.name, "description": one.metadata.get("help")}
    if one.default is not dataclasses.MISSING:
        return Field(one.default, **about)
    if one.default_factory is not dataclasses.MISSING:
        return Field(default_factory=one.default_factory, **about)
    return Field(**about)


def _adapted(hint: Any, one: dataclasses.Field[Any]) -> Any:
    """Return the type to check by: ours for durations, references and nested dataclasses."""
    if hint is str and (section := one.metadata.get("names")):
        return Annotated[str, known(section)]
    if hint in (timedelta, str):
        return Duration if hint is timedelta else Reference if holds_references(one) else str
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return model_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if not arguments or origin is None:
        return hint
    if origin is Annotated:
        return Annotated[(_adapted(arguments[0], one), *arguments[1:])]  # pyright: ignore[reportInvalidTypeForm]
    adapted = tuple(_adapted(argument, one) for argument in arguments)
    if origin in (Union, types.UnionType):
        return Union[adapted]  # noqa: UP007 # built at run time
    return hint if adapted == arguments else origin[adapted]


def _built(value: Any, base: Path) -> Any:
    """Return what was checked as the plugin wants it; what the file leaves out has its default."""
    if isinstance(value, OptionsModel):
        given = {name: _built(getattr(value, name), base) for name in value.model_fields_set}
        return value.made_of(**{name.removeprefix(_PREFIX): one for name, one in given.items()})
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, (list, tuple)):
        return type(value)(_built(one, base) for one in cast("list[Any]", value))
    if isinstance(value, dict):
        return {key: _built(one, base) for key, one in cast("dict[str, Any]", value).items()}
    return value
