"""What `rotator plugins --template` writes: a small complete plugin, or a program, with its tests."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

# A package, in Python.
FILES: Final = ("pyproject.toml", "rotator_sqlite.py", "tests/test_contract.py")
# A program for the plugin `command`.
PROGRAM: Final = "sqlite_logins"
COMMAND_FILES: Final = (PROGRAM, "test_contract.py")
_FOLDER: Final[dict[tuple[str, ...], str]] = {FILES: "template", COMMAND_FILES: "template_command"}
_EXECUTABLE: Final = 0o755


def text_of(name: str, among: tuple[str, ...] = FILES) -> str:
    """Return the text of one of `FILES`, or of `COMMAND_FILES`."""
    folder = files("rotator.testing").joinpath(_FOLDER[among])
    return folder.joinpath(*name.split("/")).read_text("utf-8")


def write_template(folder: Path, names: tuple[str, ...] = FILES) -> list[Path]:
    """Write the files of a template into `folder`; return them.

    Raises `UsageError` when one of them exists: then nothing is written.
    """
    wanted = [folder / name for name in names]
    for file in wanted:
        if file.exists():
            raise UsageError(f"{file} is there already.", hint="Choose another folder.")
    for name, file in zip(names, wanted, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        _ = file.write_text(text_of(name, names), "utf-8")
        if name == PROGRAM:
            file.chmod(_EXECUTABLE)
    return wanted
