"""The package that `rotator plugins --template` writes: a small complete plugin with its tests."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

FILES: Final = ("pyproject.toml", "rotator_sqlite.py", "tests/test_contract.py")


def text_of(name: str) -> str:
    """Return the text of one of `FILES`."""
    return files("rotator.testing").joinpath("template", *name.split("/")).read_text("utf-8")


def write_template(folder: Path) -> list[Path]:
    """Write the package into `folder`; return its files.

    Raises `UsageError` when one of them is there already: then nothing is written.
    """
    wanted = [folder / name for name in FILES]
    for file in wanted:
        if file.exists():
            raise UsageError(f"{file} is there already.", hint="Choose another folder.")
    for name, file in zip(FILES, wanted, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        _ = file.write_text(text_of(name), "utf-8")
    return wanted
