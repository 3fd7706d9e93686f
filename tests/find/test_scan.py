"""Files, history and what could not be read."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.find import registry
from rotator.find.files import Tree
from rotator.find.history import Repository
from rotator.find.model import Cause
from rotator.find.scan import Scan
from tests.find.corpus import FORMS

if TYPE_CHECKING:
    from pathlib import Path


def _scan(folder: Path) -> Scan:
    scan = Scan()
    scan.tree([folder], Tree(largest=100_000))
    return scan


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *who, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_what_is_not_read_is_named(tmp_path: Path):
    """Binary, too large, broken, a link out of the tree, a pipe, a submodule."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / ".git").write_text("gitdir: elsewhere")
    (tree / "image").write_bytes(b"\0\1\2")
    (tree / "large.txt").write_bytes(b"x" * 200_000)
    (tree / "broken.yaml").write_text("password: [x\n  y: : :\n")
    (tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "pipe")
    causes = {one.cause for one in _scan(tree).report.unread}
    assert causes == {
        Cause.BINARY, Cause.TOO_LARGE, Cause.BROKEN, Cause.OUTSIDE, Cause.SPECIAL, Cause.SUBMODULE,
    }  # fmt: skip


def test_a_reason_allows_and_its_absence_is_named(tmp_path: Path):
    """Without a reason the candidate stays."""
    file = tmp_path / "app.py"
    file.write_text(
        "a(password='hunter2x')  # rotator:allow a test server\n# rotator:allow\nb(password='hunter3x')\n"
    )
    report = _scan(tmp_path).report
    assert [reason for _, reason in report.allowed] == ["a test server"]
    assert [one.line for one in report.candidates] == [3]
    assert [one.cause for one in report.unread] == [Cause.REASON]


def test_history_names_the_first_commit_and_runs_nothing(tmp_path: Path):
    """A removed file is found; programs of the repository's configuration are not started."""
    _git(tmp_path, "init", "-q")
    (tmp_path / ".env").write_text("DB_PASSWORD=hunter2x\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    _git(tmp_path, "rm", "-q", ".env")
    _git(tmp_path, "commit", "-qm", "second")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "diff.external", "core.pager", "core.sshCommand", "core.alternateRefsCommand",
                 "diff.env.textconv", "diff.env.command", "filter.env.smudge", "gpg.program", "core.askPass"):  # fmt: skip
        _git(tmp_path, "config", name, str(trap))
    _git(tmp_path, "config", "log.showSignature", "true")
    (tmp_path / ".git" / "info").mkdir(exist_ok=True)
    (tmp_path / ".git" / "info" / "attributes").write_text("* diff=env filter=env\n")
    repository = Repository(tmp_path)
    commits = repository.commits()
    scan = Scan()
    scan.history(repository.blobs(commits, largest=1000))
    assert [(one.file, one.commit) for one in scan.report.candidates] == [(".env", commits[0])]
    assert not (tmp_path / "sprung").exists()
    assert len(repository.commits(since=commits[0])) == 1


def test_a_shallow_clone_and_a_submodule_are_named(tmp_path: Path):
    """Their contents are missing in the repository."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    _git(origin, "init", "-q")
    for number in range(2):
        (origin / "file").write_text(f"{number}\n")
        _git(origin, "add", ".")
        _git(origin, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},library")
        _git(origin, "commit", "-qm", f"commit {number}")
    _git(tmp_path, "clone", "-q", "--depth=1", origin.as_uri(), str(clone))
    repository = Repository(clone)
    scan = Scan()
    scan.history(repository.blobs(repository.commits(), largest=1000))
    assert {one.cause for one in scan.report.unread} == {Cause.SHALLOW, Cause.SUBMODULE}
    assert len(scan.report.incomplete) == 2


def test_an_unreadable_file_is_named(tmp_path: Path):
    """A link to nothing that was given, and a file without permissions."""
    link, closed = tmp_path / "link", tmp_path / "closed.env"
    link.symlink_to(tmp_path / "missing")
    closed.write_text("DB_PASSWORD=hunter2x\n")
    closed.chmod(0)
    scan = Scan()
    scan.tree([link, closed], Tree())
    causes = [(one.file, one.cause) for one in scan.report.unread]
    assert (str(link), Cause.UNREADABLE) in causes
    assert os.geteuid() == 0 or (str(closed), Cause.UNREADABLE) in causes


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FORMS), st.integers(0, 400), st.text(max_size=12), st.integers(0, 30))
def test_no_reader_raises_on_a_spoilt_file(form, at: int, insertion: str, removed: int):
    """Text is put in and taken out anywhere."""
    text = form.render("hunter2x")
    at = min(at, len(text))
    _ = registry.read(form.path, text[:at] + insertion + text[at + removed :])


_PIECES = (
    '"\\"', "'", "password=", "postgres://a:", "postgres://a:b@", "{[(", "{", "{{", "a: ", "<a ", "$(`", "=,;", "mysql ",
    "password=x\n", "user ", "a\\\n", "postgres://h?password=a&",
)  # fmt: skip


def _seconds(form: str, piece: str, size: int) -> float:
    """Return the processor time that a reader takes for a repeated piece."""
    text = "password " + piece * (size // len(piece))
    start = time.process_time()
    with suppress(RecursionError):
        _ = registry.READERS[form](text, lambda name, inner: registry.read(name, inner).matches)
    return time.process_time() - start


@pytest.mark.parametrize("form", sorted(registry.READERS))
def test_a_long_line_is_read_in_linear_time(form: str):
    """Time grows with the length, not with its square: that would take more than 4 s."""
    slow = {piece: spent for piece in _PIECES if (spent := _seconds(form, piece, 20_000)) > 1.5}
    assert slow == {}


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(registry.READERS))
def test_a_very_long_line_is_read_in_seconds(form: str):
    """300,000 characters."""
    slow = {piece: spent for piece in _PIECES if (spent := _seconds(form, piece, 300_000)) > 5}
    assert slow == {}
