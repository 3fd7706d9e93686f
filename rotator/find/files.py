"""The files of a working tree: which are read, and which are not and why."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.find.model import Cause, Unread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Larger files are data. They are named in the report.
LARGEST: Final = 5_000_000
# Folders of installed packages and of tools. Ignored files are read: `.env` usually is one.
SKIPPED: Final = frozenset(
    {".git", ".hg", ".svn", "node_modules", "site-packages", "__pycache__", ".tox", ".nox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".terraform", "bower_components"}
)
_VENV: Final = "pyvenv.cfg"
_BOMS: Final = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_SAMPLE: Final = 8192


@dataclass(slots=True, kw_only=True)
class Tree:
    """A walk over files. `unread` and `skipped` grow while it is walked."""

    everything: bool = False
    largest: int = LARGEST
    unread: list[Unread] = field(default_factory=list[Unread])
    skipped: list[str] = field(default_factory=list[str])

    def files(self, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each regular file, in a stable order, each once."""
        seen: set[str] = set()
        for path in paths:
            root = Path(os.path.realpath(path))
            for file, name in self._walk(path, root):
                real = os.path.realpath(file)
                if real in seen:
                    continue
                seen.add(real)
                content = self._content(file, name)
                if content is not None:
                    yield name, content

    def _walk(self, path: Path, root: Path) -> Iterator[tuple[Path, str]]:
        if not path.is_dir():
            yield path, shown(path)
            return
        stack = [path]
        while stack:
            folder = stack.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda one: one.name)
            except OSError as error:
                self._leave(folder, Cause.UNREADABLE, error.strerror or "")
                continue
            below: list[Path] = []
            for entry in entries:
                file = folder / entry.name
                if entry.is_symlink():
                    self._link(file, root)
                elif entry.is_dir(follow_symlinks=False):
                    if self._is_skipped(file):
                        self.skipped.append(shown(file))
                    elif (file / ".git").is_file():
                        self._leave(file, Cause.SUBMODULE)
                    elif entry.name not in (".git", ".hg", ".svn"):
                        below.append(file)
                elif entry.name != ".git":
                    yield file, shown(file)
            stack += reversed(below)

    def _is_skipped(self, folder: Path) -> bool:
        if self.everything or folder.name in (".git", ".hg", ".svn"):
            return False
        return folder.name in SKIPPED or (folder / _VENV).is_file()

    def _link(self, file: Path, root: Path) -> None:
        """A link within the tree leads to what is read anyway; one that leads out is not followed."""
        target = Path(os.path.realpath(file))
        if target != root and root not in target.parents:
            self._leave(file, Cause.OUTSIDE)

    def _content(self, file: Path, name: str) -> bytes | None:
        try:
            # A pipe must not block, and a device must not act.
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            self.unread.append(
                Unread(file=name, cause=Cause.UNREADABLE, detail=error.strerror or "")
            )
            return None
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                self.unread.append(Unread(file=name, cause=Cause.SPECIAL))
                return None
            if status.st_size > self.largest:
                self.unread.append(
                    Unread(file=name, cause=Cause.TOO_LARGE, detail=f"{status.st_size} bytes")
                )
                return None
            try:
                # A file that grows while it is read does not grow beyond the limit.
                return opened.read(self.largest)
            except OSError as error:
                self.unread.append(
                    Unread(file=name, cause=Cause.UNREADABLE, detail=error.strerror or "")
                )
                return None

    def _leave(self, file: Path, cause: Cause, detail: str = "") -> None:
        self.unread.append(Unread(file=shown(file), cause=cause, detail=detail))


def decoded(content: bytes) -> str | None:
    """Return the text of a file; None for a binary one."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if b"\0" in content[:_SAMPLE]:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def shown(path: Path) -> str:
    """Return the path from the working folder where it is below it, as it was given elsewhere."""
    absolute = os.path.abspath(path)  # noqa: PTH100 # links stay
    here = str(Path.cwd())
    return os.path.relpath(absolute, here) if absolute.startswith(here + os.sep) else str(path)
