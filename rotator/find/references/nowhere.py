"""Forms that cannot refer to a value: what to do instead, with the sink that writes such a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from rotator.find.readers.markup import parse_json
from rotator.find.references.place import ESCAPED, Impossible
from rotator.find.tree import scalar_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.find.references.place import Place

# The agent writes these whole.
_FORMATS: Final[Mapping[str, str]] = {
    "pgpass": "pgpass",
    "userlist": "userlist",
    "cnf": "my.cnf",
}
# JSON's strings are valid in TOML too.
_QUOTED: Final = frozenset({"json", "toml"})
_MARKS: Final = ("'", '"')
_AND_MARKS: Final = " and of its quotation marks"
_SQL: Final = (
    "SQL has no variables: remove the password from the script. rotator sets it on the target, and a script that runs"
    " again would set the old one"
)
_IMAGE: Final = (
    "an image keeps its variables: remove the instruction, and start the container with {template}"
)
_BUILD: Final = (
    "an image keeps what its build was given: remove it, and pass the password to the one command that needs it by"
    " RUN --mount=type=secret,id={secret}"
)
_DOTNET: Final = "JSON has no variables: remove the value, .NET then reads it from the environment variable {name}"
_PRISMA: Final = 'Prisma reads whole URLs from the environment: write env("DATABASE_URL") instead, and set that variable'
_ECS: Final = "JSON has no variables: move it from `environment` to `secrets`, with `valueFrom` as its place in the backend"
_INSTRUCTION: Final = re.compile(r"^[ \t]*(?P<name>[A-Za-z]+)[ \t]", re.MULTILINE)
_SENTENCES: Final[Mapping[str, str]] = {
    "sql": _SQL,
    "text": "a text has no variables: remove the line. A rotation makes the password in it worthless",
    "prose": "documentation has no variables: write an example such as PASSWORD instead",
}


def refused(place: Place) -> NoReturn:
    """Raise `Impossible` with what to do instead."""
    if place.form == "dockerfile":
        _of_image(place)
    if place.suffix == "prisma":
        raise Impossible(_PRISMA)
    if place.form in _SENTENCES:
        raise Impossible(_SENTENCES[place.form])
    if place.form == "json" and place.file.lower().startswith("appsettings"):
        _, keys = scalar_at([parse_json(place.text)[0]], *place.span)
        raise Impossible(_DOTNET.format(name="__".join(keys[1:])))
    if place.form == "json" and '"containerDefinitions"' in place.text:
        raise Impossible(_ECS)
    if place.file == ".pg_service.conf":
        to = "a service has no variables: remove the line, libpq then reads the password from ~/.pgpass. "
        raise Impossible(to + _written(place, "pgpass", file=".pgpass"))
    if place.form == "ini" and place.suffix == "ini" and "[databases]" in place.text:
        to = "pgbouncer.ini has no variables: remove the password, PgBouncer then takes it from auth_file. "
        raise Impossible(to + _written(place, "userlist", file="userlist.txt"))
    raise Impossible("this form has no variables. " + _written_as(place))


def _written_as(place: Place) -> str:
    """Return the sink that writes the file of this place."""
    format_ = _FORMATS.get(place.form) or _FORMATS.get(place.suffix)
    if format_ is not None:
        return _written(place, format_)
    (start, end), more = place.span, ""
    around = place.text[start - 1 : start], place.text[end : end + 1]
    is_whole = place.text[start] in _MARKS or all(mark in _MARKS for mark in around)
    if place.in_url:
        field = "{password:url}"
    elif place.form in _QUOTED and is_whole:
        field, more = "{password:json}", _AND_MARKS
    elif place.form in _QUOTED and place.match.dialect:
        return ESCAPED.format(name=f"{place.base}_PASSWORD")
    else:
        field = f"{{password{place.conversion}{':xml' if place.form == 'xml' else ''}}}"
        more = _AND_MARKS if place.span_in_marks != place.span else ""
    text = _written(place, "template", options="template: '...'")
    return (
        f"{text}. Its template is the text of the file, with {field} in place of the password{more}"
    )


def _written(place: Place, format_: str, *, file: str | None = None, options: str = "") -> str:
    """Return a sentence that names a sink of `agent.yaml`."""
    return f"Let the agent write the file: {sink(place, format_, file=file, options=options)}"


def sink(place: Place, format_: str, *, file: str | None = None, options: str = "") -> str:
    """Return a sink of `agent.yaml`, in YAML."""
    more = f", options: {{{options}}}" if options else ""
    return f"{{file: {run_file(place, file or place.file)}, format: {format_}{more}}}"


def run_file(place: Place, name: str) -> str:
    """Return where the agent writes a file, in memory."""
    return f"/run/{re.sub(r'[^A-Za-z0-9_.-]', '-', place.secret)}/{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}"


def _of_image(place: Place) -> NoReturn:
    instructions = _INSTRUCTION.findall(place.text, 0, place.span[0])
    if instructions and instructions[-1].upper() in ("ENV", "LABEL", "CMD", "ENTRYPOINT"):
        raise Impossible(_IMAGE.format(template=f"--env {place.variable}"))
    raise Impossible(_BUILD.format(secret=place.secret))
