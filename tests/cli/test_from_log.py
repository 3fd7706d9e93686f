"""audit verify --from-log: the journal in the log of a rotation function."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rotator.core.model import Kind, NewEvent
from rotator.journal.log import Head, LogJournal
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.journal.event_key import EventKey
    from tests.cli.conftest import Cli


def _log(file: Path, count: int = 5, key: EventKey | None = None) -> Head:
    lines, heads = list[str](), list[Head]()
    journal = LogJournal(
        clock=ManualClock(),
        actor="lambda:rotator",
        request="one",
        line=lines.append,
        keep=lambda head, _events: heads.append(head),
        key=key,
    )
    journal.recall("app", Head(), ())
    lock = journal.acquire("app", "me", timedelta(minutes=1))
    for number in range(count):
        new = NewEvent(kind=Kind.CHECKED, data={"number": number})
        journal.append(lock, [new], timedelta(minutes=1))
    journal.close()
    file.write_text("START RequestId: one\n" + "".join(f"2026-01-01 {one}\n" for one in lines))
    return heads[-1]


def test_an_intact_log_is_reported_with_the_end_of_each_chain(cli: Cli, tmp_path: Path):
    """The end is compared with the tag of the secret; no configuration is needed."""
    head = _log(tmp_path / "log")
    outcome = cli("audit", "verify", "--from-log", str(tmp_path / "log"), "--json")
    assert outcome.answer["data"]["events"] == 5
    assert outcome.answer["data"]["heads"] == {"app": {"seq": 5, "hash": head.hash}}
    told = cli("audit", "verify", "--from-log", str(tmp_path / "log"))
    assert head.text() in told.out


def test_a_changed_log_is_reported_with_the_place(cli: Cli, tmp_path: Path):
    """The exit code is 1."""
    file = tmp_path / "log"
    _log(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))
    outcome = cli("audit", "verify", "--from-log", str(file), code=1)
    assert "events are missing" in outcome.out
    file.write_text("".join(lines).replace('\\"number\\":2', '\\"number\\":7'))
    outcome = cli("audit", "verify", "--from-log", str(file), code=1)
    assert "line 4" in outcome.out


def test_a_truncated_log_is_detected_by_the_tag_of_the_secret(cli: Cli, tmp_path: Path):
    """The remaining chain is valid; only the tag records the missing event."""
    file = tmp_path / "log"
    end = f"app={_log(file).text()}"
    whole = file.read_text().splitlines(keepends=True)
    cli("audit", "verify", "--from-log", str(file), "--end", end)
    file.write_text("".join(whole[:-1]))
    cli("audit", "verify", "--from-log", str(file))
    outcome = cli("audit", "verify", "--from-log", str(file), "--end", end, code=1)
    assert "ends at event 4; its tag records event 5" in outcome.out
    outcome = cli("audit", "verify", "--from-log", str(file), "--end", f"b{end}", code=1)
    assert "has no event of this secret" in outcome.out
    for bad in ("app", "=1 x", "app=1"):
        cli("audit", "verify", "--from-log", str(file), "--end", bad, code=2)
    cli("audit", "verify", "--end", end, code=2)


def test_a_file_without_events_is_misuse(cli: Cli, tmp_path: Path):
    """Another log, or a missing file."""
    (tmp_path / "log").write_text("nothing of ours\n{not json\n")
    for name, said in (("log", "holds no event"), ("gone", "cannot be read")):
        outcome = cli("audit", "verify", "--from-log", str(tmp_path / name), code=2)
        assert said in outcome.err


def test_a_forged_line_is_found_by_the_key(cli: Cli, tmp_path: Path):
    """Its hash and place are valid, but only a holder of the signing key can compute its code."""
    file = tmp_path / "log"
    with cli.app() as app:
        key = app.event_key()
    _log(file, key=key)
    cli("audit", "verify", "--from-log", str(file), "--authenticate")
    cli("audit", "verify", "--from-log", str(file))
    cli("audit", "verify", "--authenticate", code=2)
    _log(file)
    cli("audit", "verify", "--from-log", str(file))
    outcome = cli("audit", "verify", "--from-log", str(file), "--authenticate", code=1)
    assert "line 2: was not written by rotator" in outcome.out
