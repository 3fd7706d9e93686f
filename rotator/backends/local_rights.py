"""Who may read and write the embedded backend: users who can open its file and one of its keys."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rotator.api import HeldRight, Rights, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ROOT: Final = "os:root"
_NOTE: Final = "root, and everybody who can become root or rotator's user, reads and writes all."


def read(file: Path, key_files: Mapping[str, Path | None], paths: Sequence[str]) -> Rights:
    """Return who may do what. One file and one set of keys hold all paths alike."""
    own = f"os:{_user(os.geteuid())}"
    notes = [_NOTE]
    held: dict[tuple[str, Verb], Path] = {}
    for reference, key in key_files.items():
        if key is None:
            notes.append(f"Who can resolve {reference} holds a key; that is not checked.")
            continue
        for who in _allowed(key, stat.S_IRGRP, stat.S_IROTH):
            held[who, Verb.READ] = key
    for verb in (Verb.WRITE, Verb.DELETE):
        for who in _allowed(file, stat.S_IWGRP, stat.S_IWOTH):
            held[who, verb] = file
    return Rights(
        held=tuple(
            HeldRight(
                identity=who,
                place="",
                path=path,
                verb=verb,
                policy=str(where),
                rule=f"{where.stat().st_mode & 0o7777:04o}",
            )
            for path in paths
            for (who, verb), where in held.items()
        ),
        own=(own, _ROOT),
        notes=tuple(notes),
        cited=("{}", "mode {}"),
    )


def _allowed(file: Path, group: int, others: int) -> Iterator[str]:
    """Yield who may open a file: its owner, its group and everybody, by its mode."""
    status = file.stat()
    yield f"os:{_user(status.st_uid)}"
    if status.st_mode & group:
        with suppress(KeyError):
            yield from (f"os:{one}" for one in grp.getgrgid(status.st_gid).gr_mem)
        yield from (f"os:{one.pw_name}" for one in pwd.getpwall() if one.pw_gid == status.st_gid)
    if status.st_mode & others:
        yield "os:*"


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
