"""Changes as a patch or as a branch, without the values that they remove."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zlib
from base64 import b85encode
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.find import history

if TYPE_CHECKING:
    from collections.abc import Sequence

# Git's own: bytes in a line of a binary patch.
_LINE: Final = 52
_LETTERS: Final = 26
_MESSAGE: Final = """Read database passwords from the environment

The values are in the secret backend. The history before this commit still
contains them; it becomes harmless when they are rotated.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """A file before and after. `path` is relative to the folder in which the patch is applied."""

    path: str
    before: bytes
    after: bytes


def patch_text(files: Sequence[ChangedFile], notes: Sequence[str]) -> str:
    """Return a patch for `git apply`. It holds whole new files: the lines that it removes would show the values."""
    parts = [f"# {note}\n" for note in notes]
    parts += [
        f"diff --git a/{file.path} b/{file.path}\nindex {_name(file.before)}..{_name(file.after)}\n"
        f"GIT binary patch\nliteral {len(file.after)}\n{_encoded(file.after)}\n"
        for file in files
    ]
    return "".join(parts)


def _name(content: bytes) -> str:
    """Return Git's name for a content."""
    header = f"blob {len(content)}\0".encode()
    return sha1(header + content, usedforsecurity=False).hexdigest()


def _encoded(content: bytes) -> str:
    packed = zlib.compress(content)
    lines: list[str] = []
    for at in range(0, len(packed), _LINE):
        part = packed[at : at + _LINE]
        size = len(part)
        mark = chr(ord("A") + size - 1) if size <= _LETTERS else chr(ord("a") + size - _LETTERS - 1)
        lines.append(mark + b85encode(part, pad=True).decode() + "\n")
    return "".join(lines)


class Head:
    """The commit that is checked out. What is written are objects and a new branch, by Git's plumbing."""

    def __init__(self, folder: Path) -> None:
        """Raises `UsageError` where the folder is in no repository."""
        self._folder: Path = folder
        self.root: Path = Path(self._git("rev-parse", "--show-toplevel").decode().strip())
        self._commit: str = self._git("rev-parse", "--verify", "HEAD^{commit}").decode().strip()

    def content(self, path: str) -> bytes | None:
        """Return a file of the commit; None where the commit has none at this path."""
        entry = self._entry(path)
        return None if entry is None else self._git("cat-file", "blob", entry[1])

    def require_new(self, name: str) -> str:
        """Return the full name of a branch. Raises `UsageError` where there is one, or it is no name for one."""
        full = f"refs/heads/{name}"
        _ = self._git("check-ref-format", full, error=f"{name!r} is no name for a branch.")
        if self._git("for-each-ref", full).strip():
            raise UsageError(f"there is a branch {name} already.", hint="Choose another name.")
        return full

    def create_branch(self, name: str, files: Sequence[ChangedFile]) -> str:
        """Create a branch with one commit on top of this one; return the commit.

        The working tree, the index and the branch that is checked out stay as they are. Raises
        `UsageError` where there is a branch of this name.
        """
        full = self.require_new(name)
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            _ = self._git("read-tree", self._commit, more=index)
            for file in files:
                entry = self._entry(file.path)
                mode = entry[0] if entry is not None else "100644"
                blob = self._git("hash-object", "-w", "--stdin", given=file.after).decode().strip()
                _ = self._git(
                    "update-index", "--cacheinfo", f"{mode},{blob},{file.path}", more=index
                )
            tree = self._git("write-tree", more=index).decode().strip()
        person = {
            one: value for one in ("HOME", "XDG_CONFIG_HOME") if (value := os.environ.get(one))
        }
        person |= {
            one: value
            for one, value in os.environ.items()
            if one.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))
        }
        commit = self._git(
            "commit-tree", tree, "-p", self._commit, given=_MESSAGE.encode(), more=person, personal=True,
            error="git knows no author for the commit.",
        ).decode().strip()  # fmt: skip
        _ = self._git("update-ref", full, commit, "0" * len(commit))
        return commit

    def _entry(self, path: str) -> tuple[str, str] | None:
        line = self._git("ls-tree", "-z", self._commit, "--", f":(literal,top){path}").decode(
            errors="surrogateescape"
        )
        fields = line.partition("\t")[0].split()
        return (fields[0], fields[2]) if len(fields) > 2 and fields[1] == "blob" else None  # noqa: PLR2004 # mode, type, name

    def _git(
        self,
        *arguments: str,
        given: bytes = b"",
        more: dict[str, str] | None = None,
        personal: bool = False,
        error: str = "",
    ) -> bytes:
        environment = history.environment() | (more or {})
        if personal:
            # Only the author is read from the operator's own configuration.
            del environment["GIT_CONFIG_GLOBAL"]
        folder = getattr(self, "root", self._folder)
        try:
            done = subprocess.run(
                history.command(folder, *arguments),
                input=given,
                capture_output=True,
                check=False,
                env=environment,
            )
        except FileNotFoundError as missing:
            raise UsageError("the program `git` is not installed.", hint="Install it.") from missing
        if done.returncode:
            raise UsageError(
                error
                or f"{self._folder} is in no Git repository with a commit, or git cannot work on it.",
                hint='Set it: git config user.email "..."'
                if "author" in error
                else "Give a patch instead: --patch FILE",
            )
        return done.stdout
