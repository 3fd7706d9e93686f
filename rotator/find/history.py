"""The blobs of a Git repository, by Git's own plumbing; nothing that its configuration names is run."""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.find.model import Cause, Unread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Whatever the repository's configuration says, these hold: it may be hostile.
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.attributesFile=/dev/null",
    "core.alternateRefsCommand=",
    "core.commitGraph=true",
    "diff.external=",
    "diff.orderFile=/dev/null",
    "diff.renames=false",
    "log.showSignature=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "submodule.recurse=false",
)
_SUBMODULE: Final = b"160000"
_LINK: Final = b"120000"
_NO_BLOB: Final = b"0" * 40
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One content of a file, with the commit that it appeared in first."""

    commit: str
    path: str
    content: bytes


class Repository:
    """A repository that is only read. Raises `UsageError` where Git refuses it."""

    def __init__(self, folder: Path) -> None:
        self._folder: Path = folder
        self.git_folder: str = self._answer("rev-parse", "--git-dir").strip()

    def commits(self, since: str | None = None) -> list[str]:
        """Return the commits of all branches and tags, oldest first; those after `since`."""
        arguments = ["rev-list", "--reverse", "--topo-order", "--all"]
        if since is not None:
            start = self._answer(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}"
            )
            arguments += ["--not", start.strip()]
        return self._answer(*arguments).split()

    def blobs(self, commits: list[str], *, largest: int) -> Iterator[Blob | Unread]:
        """Yield each content that one of these commits brought, once."""
        if self._answer("rev-parse", "--is-shallow-repository").strip() == "true":
            yield Unread(file=str(self._folder), cause=Cause.SHALLOW)
        wanted: dict[bytes, tuple[str, str]] = {}
        submodules: set[str] = set()
        for commit, mode, blob, path in self._changes(commits):
            if mode == _SUBMODULE:
                if path not in submodules:
                    submodules.add(path)
                    yield Unread(
                        file=path, cause=Cause.SUBMODULE, detail=f"since commit {commit[:12]}"
                    )
            elif mode != _LINK and blob not in wanted:
                wanted[blob] = commit, path
        yield from self._contents(wanted, largest)

    def _changes(self, commits: list[str]) -> Iterator[tuple[str, bytes, bytes, str]]:
        """Yield commit, mode, blob and path of each file that a commit added or changed."""
        with self._start(
            "diff-tree", "--stdin", "-r", "-c", "--root", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff",
            "--no-textconv", "--ignore-submodules=none", "-z",
        ) as process:  # fmt: skip
            _feed(process, ("\n".join(commits) + "\n").encode())
            commit = ""
            header: list[bytes] | None = None
            for part in _parts(_output(process)):
                if header is not None:
                    parents = len(header[0]) - len(header[0].lstrip(b":"))
                    mode, blob = header[parents], header[2 * parents + 1]
                    if blob.strip(b"0"):
                        yield commit, mode, blob, part.decode(errors="surrogateescape")
                    header = None
                elif part.startswith(b":"):
                    header = part.split(b" ")
                else:
                    commit = part.strip().decode()
            self._finish(process)

    def _contents(
        self, wanted: dict[bytes, tuple[str, str]], largest: int
    ) -> Iterator[Blob | Unread]:
        names = list(wanted)
        kept: list[bytes] = []
        with self._start("cat-file", "--batch-check", "--buffer") as process:
            _feed(process, b"".join(name + b"\n" for name in names))
            for name, line in zip(names, _output(process), strict=False):
                commit, path = wanted[name]
                fields = line.split()
                if fields[-1] == b"missing":
                    yield Unread(
                        file=path, cause=Cause.MISSING_OBJECT, detail=f"commit {commit[:12]}"
                    )
                elif fields[1] == b"blob" and int(fields[2]) > largest:
                    size = fields[2].decode()
                    yield Unread(
                        file=path,
                        cause=Cause.TOO_LARGE,
                        detail=f"{size} bytes, commit {commit[:12]}",
                    )
                elif fields[1] == b"blob":
                    kept.append(name)
            self._finish(process)
        with self._start("cat-file", "--batch", "--buffer") as process:
            _feed(process, b"".join(name + b"\n" for name in kept))
            output = _output(process)
            for name in kept:
                commit, path = wanted[name]
                fields = output.readline().split()
                if len(fields) != 3:  # noqa: PLR2004 # name, type, size
                    yield Unread(
                        file=path, cause=Cause.MISSING_OBJECT, detail=f"commit {commit[:12]}"
                    )
                    continue
                content = output.read(int(fields[2]))
                _ = output.read(1)
                yield Blob(commit=commit, path=path, content=content)
            self._finish(process)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(self._folder, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )

    def _answer(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                command(self._folder, *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env=environment(),
            )
        except FileNotFoundError as error:
            raise UsageError(
                "the program `git` is not installed.", hint="Install it, or omit --git."
            ) from error
        if done.returncode:
            raise _refused(self._folder, arguments, done.stderr)
        return done.stdout.decode(errors="surrogateescape")

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise UsageError(
                f"git could not read the history of {self._folder}.", hint="Check it: git fsck"
            )


def command(folder: Path, *arguments: str) -> list[str]:
    """Return the command line of git, with settings that run nothing of the repository's."""
    settings = [part for one in _SETTINGS for part in ("-c", one)]
    return ["git", "--no-pager", "--no-replace-objects", *settings, "-C", str(folder), *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which only the repository is configured, and nothing is fetched."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ASKPASS": "/bin/false",
    }


def _refused(folder: Path, arguments: tuple[str, ...], stderr: bytes) -> UsageError:
    if b"dubious ownership" in stderr:
        return UsageError(
            f"the repository {folder} belongs to another user.",
            hint="Run rotator as its owner, or search a clone of your own.",
        )
    if "--verify" in arguments:
        return UsageError(
            "--since names no commit of this repository.", hint="Example: --since origin/main"
        )
    return UsageError(
        f"{folder} is in no Git repository, or git cannot read it.",
        hint="Omit --git, or check it: git fsck",
    )


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write from a thread: git answers while it reads."""
    stdin = process.stdin

    def write() -> None:
        if stdin is not None:
            try:
                with stdin:
                    _ = stdin.write(data)
            except BrokenPipeError:
                pass

    threading.Thread(target=write, daemon=True).start()


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise UsageError("git returned no output.")
    return process.stdout


def _parts(output: IO[bytes]) -> Iterator[bytes]:
    """Yield what NUL bytes separate; a commit's name may end with a line's end instead."""
    rest = b""
    while piece := output.read(_PIECE):
        *parts, rest = (rest + piece).split(b"\0")
        yield from parts
    if rest:
        yield rest
