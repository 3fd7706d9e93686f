"""The CSV file of `rotator adopt --from`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator import trusted_files
from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_COLUMNS: Final = ("name", "username", "password_from", "password", "second_password_from")
# What `rotator discover --csv` writes.
TO_FILL_IN: Final = _COLUMNS[:3]
_NEEDED: Final = "name"
_PLAIN: Final = "password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One secret of the file. Without a password the credential in the backend is adopted."""

    username: str | None = None
    password_from: str | None = None
    password: Secret | None = None
    second_password_from: str | None = None


def read_rows(file: Path) -> Mapping[str, Row]:
    """Return the rows by the name of the secret. Raises `UsageError` with the invalid line."""
    text = _text(file)
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(one.strip() for one in row)]
    except csv.Error:
        raise _wrong(file, reader.line_num, "this line is not CSV.", "Check the quotes.") from None
    if not lines:
        raise _wrong(file, 1, "the file is empty.", f"Start with: {','.join(TO_FILL_IN)}")
    head = _head(file, *lines[0])
    found: dict[str, Row] = {}
    for number, values in lines[1:]:
        if len(values) != len(head):
            what = f"this line has {len(values)} values, but the header has {len(head)}."
            raise _wrong(file, number, what, "Quote values that contain a comma.")
        name, row = _row(file, number, dict(zip(head, map(str.strip, values), strict=True)))
        if name in found:
            raise _wrong(file, number, f"{name!r} is listed twice.", "Remove one line.")
        found[name] = row
    return found


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong(file, 1, "this is not UTF-8.", "Save the file as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}).") from None


def _head(file: Path, number: int, values: Iterable[str]) -> list[str]:
    head = [one.strip().lower() for one in values]
    if _NEEDED not in head or len(set(head)) != len(head) or not set(head) <= set(_COLUMNS):
        what = "the header is invalid."
        raise _wrong(
            file, number, what, f"Columns: {', '.join(_COLUMNS)}. Only `name` is required."
        )
    if _PLAIN in head:
        _require_closed(file)
    return head


def _require_closed(file: Path) -> None:
    """Reject plain passwords in a file that others can read."""
    try:
        _ = trusted_files.read(file, "the list with passwords", secret=True)
    except UsageError as error:
        hint = f"{error.hint} Better: use a column password_from with references."
        raise UsageError(error.what, hint=hint, safety="Nothing was changed.") from None


def _row(file: Path, number: int, values: Mapping[str, str]) -> tuple[str, Row]:
    name, username = values["name"], values.get("username") or None
    source, plain = values.get("password_from") or None, values.get(_PLAIN) or None
    if not name:
        raise _wrong(
            file, number, "the name is missing.", "Use the name of the secret in rotator.yaml."
        )
    if source is not None and plain is not None:
        raise _wrong(file, number, "the password is given twice.", "Leave one of the two empty.")
    if username is None and (source or plain) is not None:
        what = "a password needs its login."
        raise _wrong(file, number, what, "Give both, or neither if the backend holds them.")
    return name, Row(
        username=username,
        password_from=source,
        password=None if plain is None else Secret(plain),
        second_password_from=values.get("second_password_from") or None,
    )


def _wrong(file: Path, line: int, what: str, hint: str) -> UsageError:
    return UsageError(f"{file}, line {line}: {what}", hint=hint, safety="Nothing was changed.")
