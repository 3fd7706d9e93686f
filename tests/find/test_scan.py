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
    for name in ("core.fsmonitor", "diff.external", "core.pager", "core.sshCommand"):
        _git(tmp_path, "config", name, str(trap))
    repository = Repository(tmp_path)
    commits = repository.commits()
    scan = Scan()
    scan.history(repository.blobs(commits, largest=1000))
    assert [(one.file, one.commit) for one in scan.report.candidates] == [(".env", commits[0])]
    assert not (tmp_path / "sprung").exists()
    assert len(repository.commits(since=commits[0])) == 1


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FORMS), st.integers(0, 400), st.text(max_size=12), st.integers(0, 30))
def test_no_reader_raises_on_a_spoilt_file(form, at: int, insertion: str, removed: int):
    """Text is put in and taken out anywhere."""
    text = form.render("hunter2x")
    at = min(at, len(text))
    _ = registry.read(form.path, text[:at] + insertion + text[at + removed :])


@pytest.mark.parametrize("form", sorted(registry.READERS))
@pytest.mark.parametrize(
    "piece", ['"\\"', "'", "password=", "postgres://a:", "{[(", "a: ", "<a ", "$(`", "=,;"]
)
def test_one_long_line_ends_in_seconds(form: str, piece: str):
    """Time grows with the length, not with its square."""
    text = "password " + piece * (20_000 // len(piece))
    start = time.monotonic()
    with suppress(RecursionError):
        _ = registry.READERS[form](text, lambda name, inner: [])
    assert time.monotonic() - start < 15
