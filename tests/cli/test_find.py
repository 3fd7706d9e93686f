"""find: exit codes, baselines, comments, reports of other scanners, and no value in any output."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_CANARY = "Kanarie7-vogel"
_GIT = shutil.which("git") or "git"


@pytest.fixture
def tree(bare: Cli) -> Path:
    """A folder with one hard-coded password."""
    folder = bare.folder / "tree"
    folder.mkdir()
    (folder / ".env").write_text(f"DB_USER=shop\nDB_HOST=db\nDB_PASSWORD={_CANARY}\n")
    return folder


def _sources(folder: Path) -> dict[Path, bytes]:
    return {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}


# -- exit codes ---------------------------------------------------------------------------------------


def test_find_exits_with_0_without_candidates(bare: Cli):
    """A binary file does not change that."""
    (bare.folder / "image").write_bytes(b"\0\1")
    (bare.folder / "app.py").write_text("password = input()\n")
    data = bare.json("find", ".").data
    assert data["candidates"] == []
    assert [one["cause"] for one in data["unread"]] == ["binary"]


def test_find_exits_with_3_for_a_candidate_and_with_0_if_lenient(bare: Cli, tree: Path):
    """No login is attempted: the candidate may be valid."""
    (one,) = bare.json("find", str(tree), code=3).data["candidates"]
    assert (one["file"], one["line"], one["login"], one["hosts"]) == (
        "tree/.env",
        3,
        "shop",
        ["db"],
    )
    assert one["verdict"] == "not-tried"
    bare("find", str(tree), "--lenient")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("large.txt", b"x" * 1_100_000, "too large"),
        ("app.yaml", b"password: [x\n  y: : :\n", "invalid syntax, searched as text"),
    ],
)
def test_find_exits_with_3_for_an_unread_file(bare: Cli, name: str, content: bytes, cause: str):
    """A report with one is not clean, unless --lenient accepts it."""
    (bare.folder / name).write_bytes(content)
    outcome = bare.json("find", ".", "--max-size", "1", code=3)
    assert [(one["file"], one["cause"]) for one in outcome.data["unread"]] == [(name, cause)]
    assert cause in bare("find", ".", "--max-size", "1", code=3).out
    bare("find", ".", "--max-size", "1", "--lenient")


def test_find_names_and_counts_everything_that_it_did_not_read(bare: Cli):
    """A file of 1 GB is not opened. Each cause is printed with its places, and a binary file is no gap."""
    tree = bare.folder / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / ".git").write_text("gitdir: elsewhere")
    with (tree / "dump.sql").open("wb") as large:
        large.truncate(1_000_000_001)
    (tree / "image").write_bytes(b"\0\1\2")
    (tree / "broken.yaml").write_text("password: [x\n  y: : :\n")
    (tree / "link").symlink_to("/etc/passwd")
    expected = {
        "tree/dump.sql": "too large",
        "tree/image": "binary",
        "tree/broken.yaml": "invalid syntax, searched as text",
        "tree/link": "symbolic link out of the tree",
        "tree/sub": "submodule",
    }
    data = bare.json("find", "tree", "--max-size", "1000", code=3).data
    assert {one["file"]: one["cause"] for one in data["unread"]} == expected
    shown = bare("find", "tree", "--max-size", "1000", code=3).out
    assert "5 not read:" in shown
    for file, cause in expected.items():
        assert f"1 {cause}: {file}" in shown
    for name in ("dump.sql", "broken.yaml", "link", "sub/.git"):
        (tree / name).unlink()
    assert len(bare.json("find", "tree").data["unread"]) == 1


def test_find_names_the_gap_of_a_shallow_clone(bare: Cli):
    """Its older commits may hold a password, so the search is not complete."""

    def git(folder: Path, *arguments: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run([_GIT, "-C", str(folder), *author, *arguments], check=True)

    origin = bare.folder / "origin"
    origin.mkdir()
    git(origin, "init", "-q")
    for number in range(2):
        (origin / "file").write_text(f"{number}\n")
        git(origin, "add", ".")
        git(origin, "commit", "-qm", "x")
    git(bare.folder, "clone", "-q", "--depth=1", origin.as_uri(), "clone")
    data = bare.json("find", "clone", "--git", code=3).data
    assert [one["cause"] for one in data["unread"]] == ["shallow clone: older commits are missing"]
    assert data["commits"] == 1
    assert bare.json("find", "origin", "--git").data["commits"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("missing",),
        (".", "--since", "HEAD"),
        (".", "--git"),
        (".", "--baseline", "missing.json"),
        (".", "--from", "missing.json"),
        (".", "--max-size", "0"),
    ],
)
def test_find_exits_with_2_for_wrong_usage(bare: Cli, arguments: tuple[str, ...]):
    """An error is no result of a search, also if --lenient."""
    bare("find", *arguments, "--lenient", code=2)


def test_find_lists_well_known_examples_on_request(bare: Cli):
    """They are counted, and change the exit code only where they are listed."""
    (bare.folder / ".env").write_text("DB_PASSWORD=changeme\n")
    assert bare.json("find", ".").data["weak"] == 1
    assert len(bare.json("find", ".", "--weak", code=3).data["candidates"]) == 1


# -- what is accepted ---------------------------------------------------------------------------------


def test_find_omits_the_candidates_of_a_baseline(bare: Cli, tree: Path):
    """Fingerprints are made with a key that only its owner reads, and survive when lines move."""
    bare("find", str(tree), "--write-baseline", "base.json", code=3)
    key = bare.folder / "base.json.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (tree / ".env").write_text("# moved\n" + (tree / ".env").read_text())
    assert bare.json("find", str(tree), "--baseline", "base.json").data["in_baseline"] == 1
    (tree / "new.env").write_text("DB_PASSWORD=hunter2x\n")
    (one,) = bare.json("find", str(tree), "--baseline", "base.json", code=3).data["candidates"]
    assert one["file"] == "tree/new.env"
    key.write_text("another key of many characters")
    assert (
        len(bare.json("find", str(tree), "--baseline", "base.json", code=3).data["candidates"]) == 2
    )


def test_find_refuses_a_key_that_others_can_read(bare: Cli, tree: Path):
    """Who has the key can try values against the fingerprints."""
    bare("find", str(tree), "--write-baseline", "base.json", code=3)
    (bare.folder / "base.json.key").chmod(0o644)
    bare("find", str(tree), "--baseline", "base.json", code=2)


def test_find_requires_a_reason_to_allow_a_candidate(bare: Cli):
    """A comment without one has no effect, and is named."""
    (bare.folder / "a.env").write_text("DB_PASSWORD=hunter2x # rotator:allow a test server\n")
    (bare.folder / "b.env").write_text("DB_PASSWORD=hunter2x # rotator:allow\n")
    data = bare.json("find", ".", code=3).data
    assert [(one["place"].split(":")[0], one["reason"]) for one in data["allowed"]] == [
        ("a.env", "a test server")
    ]
    assert [one["file"] for one in data["candidates"]] == ["b.env"]
    assert [(one["file"], one["cause"]) for one in data["unread"]] == [
        ("b.env:1", "rotator:allow without a reason")
    ]


# -- reports ------------------------------------------------------------------------------------------

_REPORTS: dict[str, Any] = {
    "gitleaks": [{"RuleID": "generic", "File": "a.py", "StartLine": 3, "StartColumn": 5, "Secret": _CANARY, "Commit": ""}],
    "trufflehog": {"SourceMetadata": {"Data": {"Filesystem": {"file": "a.py", "line": 3}}}, "DetectorName": "Postgres",
                   "Raw": f"postgresql://shop:{_CANARY}@db:5432"},
    "detect-secrets": {"version": "1.5.0", "results": {"a.py": [{"type": "Secret Keyword", "line_number": 3}]}},
}  # fmt: skip


@pytest.mark.parametrize("scanner", _REPORTS)
def test_find_includes_reports_of_other_scanners(bare: Cli, scanner: str):
    """Each is recognized by its shape; its values are not repeated."""
    (bare.folder / "clean").mkdir()
    (bare.folder / "report.json").write_text(json.dumps(_REPORTS[scanner]))
    outcome = bare.json("find", "clean", "--from", "report.json", code=3)
    (one,) = outcome.data["candidates"]
    assert (one["file"], one["line"]) == ("a.py", 3)
    assert scanner in one["role"]
    assert _CANARY not in outcome.out + outcome.err
    if scanner == "trufflehog":
        assert (one["login"], one["hosts"]) == ("shop", ["db:5432"])


def test_find_refuses_a_report_of_unknown_shape(bare: Cli):
    """Nothing would be searched."""
    (bare.folder / "report.json").write_text('[{"key": 1}]')
    bare("find", ".", "--from", "report.json", code=2)


def test_find_writes_sarif(bare: Cli, tree: Path):
    """Version 2.1.0: rules, results with places and fingerprints, and what was not read."""
    (tree / "large.txt").write_bytes(b"x" * 1_100_000)
    bare(
        "find",
        str(tree),
        "--max-size",
        "1",
        "--sarif",
        "find.sarif",
        "--write-baseline",
        "base.json",
        code=3,
    )
    document = json.loads((bare.folder / "find.sarif").read_text())
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-2.1.0.json")
    (run,) = document["runs"]
    rules = [one["id"] for one in run["tool"]["driver"]["rules"]]
    (result,) = run["results"]
    assert rules == [result["ruleId"]]
    assert result["level"] == "warning"
    assert result["message"]["text"]
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "tree/.env"},
        "region": {"startLine": 3, "startColumn": 13},
    }
    assert len(result["partialFingerprints"]["rotator/v1"]) == 32
    (invocation,) = run["invocations"]
    assert "too large" in invocation["toolExecutionNotifications"][0]["message"]["text"]


# -- values -------------------------------------------------------------------------------------------


def test_find_repeats_no_value(bare: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch):
    """Not in its output, its files or its temporary files, also where a name holds the password."""
    temporary = bare.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tree / "names.env").write_text(
        f"{_CANARY.replace('-', '_')}_PASSWORD={_CANARY.replace('-', '_')}\n"
    )
    (tree / "same.py").write_text(
        f"connect(user='{_CANARY}', password='{_CANARY}', database='{_CANARY}')\n"
    )
    (tree / "broken.yaml").write_text(f"password: {_CANARY}\n  y: : :\n")
    (tree / "app.py").write_text(f"url = 'postgresql://shop:{_CANARY}@db/shop'\n")
    before = _sources(tree)
    for arguments in ((), ("--json",), ("--weak",), ("--weak", "--json"), ("--log-level", "debug")):
        outcome = bare(
            "find",
            str(tree),
            "--sarif",
            "find.sarif",
            "--write-baseline",
            "base.json",
            *arguments,
            code=None,
        )
        assert outcome.code in (2, 3)
        for spelling in (_CANARY, _CANARY.replace("-", "_")):
            assert spelling not in outcome.out + outcome.err
    assert _sources(tree) == before
    for file, content in _sources(bare.folder).items():
        assert tree in file.parents or _CANARY.encode() not in content, file


def test_find_knows_the_values_of_managed_secrets(cli: Cli):
    """A current value is valid, whatever its file; a previous one may be."""
    cli("rotate", "old")
    ((login, account),) = [
        (name, one) for name, one in cli.server.target.accounts.items() if name.startswith("old")
    ]
    first = account.passwords[-1]
    folder = cli.folder / "tree"
    folder.mkdir()
    (folder / "app.log").write_text(f"first line\nsent {first} to the server\n")
    outcome = cli.json("find", str(folder), "--known", "--lenient", code=1)
    (one,) = outcome.data["candidates"]
    assert (one["file"], one["line"], one["column"]) == ("tree/app.log", 2, 6)
    assert (one["secret"], one["verdict"], one["login"]) == ("old (current)", "valid", login)
    assert first not in outcome.out + outcome.err
    cli("rotate", "old")
    (one,) = cli.json("find", str(folder), "--known", code=3).data["candidates"]
    assert (one["secret"], one["verdict"]) == ("old (previous)", "not-tried")
    assert cli.json("find", str(folder)).data["candidates"] == []


def test_find_lists_a_known_value_in_spite_of_a_comment(cli: Cli):
    """A comment cannot allow a password that is in use."""
    cli("rotate", "old")
    password = next(
        one for name, one in cli.server.target.accounts.items() if name.startswith("old")
    ).passwords[-1]
    (cli.folder / "tree").mkdir()
    (cli.folder / "tree" / "a.env").write_text(
        f"DB_PASSWORD={password} # rotator:allow a test server\n"
    )
    cli("find", "tree", "--known", code=1)


# -- before a commit ----------------------------------------------------------------------------------


def test_the_hook_stops_a_commit_with_a_password(bare: Cli, tree: Path):
    """Its entry is a command of this program, and pre-commit appends the files."""
    root = Path(__file__).parents[2]
    (hook,) = yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text())
    program, *arguments = hook["entry"].split()
    assert (hook["id"], hook["language"], program) == ("rotator-find", "python", "rotator")
    bare(*arguments, "tree/.env", code=3)
    (tree / ".env").write_text("DB_PASSWORD=${DB_PASSWORD}\n")
    bare(*arguments, "tree/.env")
