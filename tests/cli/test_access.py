"""access: reads are taken up from audit logs, and shown."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.access.lines import cloudtrail, vault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

_BACKENDS = """\
  bao: {type: vault, address: "http://127.0.0.1:1"}
  aws: {type: aws, region: eu-central-1, endpoint: "http://127.0.0.1:1"}
"""


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """`app` is kept in a Vault and in AWS too; it was rotated twice in the embedded backend."""
    cli("rotate", "app")
    cli("rotate", "app")
    cli.edit("backends:\n", "backends:\n" + _BACKENDS)
    cli.edit(
        "  app: {",
        "  app: {consumers: [web], copies: [{backend: bao, path: apps/shop}, {backend: aws, path: apps/shop}], ",
    )
    cli.config.write_text(cli.config.read_text() + "consumers: {web: {}}\n")
    return cli


def write(folder: Path, *lines: bytes, name: str = "audit.log", end: bytes = b"\n") -> str:
    file = folder / name
    file.write_bytes(b"\n".join(lines) + end)
    return str(file)


def versions(cli: Cli) -> list[str]:
    """Return the versions of `app`, newest first."""
    with cli.app() as app:
        return [one.new_version or "" for one in app.journal.rotations("app")]


def readers(cli: Cli, *more: str) -> list[tuple[str, str, int]]:
    found = cli.json("access", "show", "app", "--since", "2026-01-01", *more).data["readers"]
    return [(one["identity"], one["version"], one["reads"]) for one in found]


def ago(**given: int) -> str:
    return (datetime.now(UTC) - timedelta(**given)).isoformat()


def test_reads_are_counted_by_version_and_identity(shop: Cli):
    log = write(shop.folder, vault(version=1), vault(version=1), vault(version=2, role="batch"))
    told = shop("access", "ingest", log, "--from", "vault").out
    assert "3 new lines, 3 reads of 1 secret" in told
    assert sorted(readers(shop)) == [("approle/batch", "2", 1), ("approle/web", "1", 2)]


def test_the_same_log_twice_changes_nothing(shop: Cli):
    """Whatever its name, compressed or not, from a file or from standard input."""
    lines = [vault(version=1), vault(version=2)]
    log = write(shop.folder, *lines)
    shop("access", "ingest", log, "--from", "vault")
    before = readers(shop)
    packed = shop.folder / "audit.log.1.gz"
    packed.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    for name in (log, str(packed)):
        told = shop("access", "ingest", name, "--from", "openbao").out
        assert "0 new lines" in told
        assert "2 lines counted before" in told
    assert readers(shop) == before


def test_only_what_was_appended_is_counted(shop: Cli, monkeypatch: pytest.MonkeyPatch):
    first, second = vault(version=1), vault(version=1, role="batch")
    shop("access", "ingest", write(shop.folder, first), "--from", "vault")

    class Input:
        buffer = io.BytesIO(first + b"\n" + second + b"\n")

    monkeypatch.setattr("rotator.access.log_files.sys.stdin", Input())
    assert "1 new line, 1 read" in shop("access", "ingest", "-", "--from", "vault").out
    assert readers(shop) == [("approle/batch", "1", 1), ("approle/web", "1", 1)]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_torn_last_line_is_taken_up_later(shop: Cli, *, compressed: bool):
    whole = vault(version=1) + b"\n" + vault(version=2) + b"\n"
    file = shop.folder / "audit.log"

    def ingest(data: bytes) -> str:
        file.write_bytes(data)
        return shop("access", "ingest", str(file), "--from", "vault").out

    torn = gzip.compress(whole[:-40])[:-9] if compressed else whole[:-40]
    assert "1 new line, 1 read" in ingest(torn)
    assert "1 new line, 1 read of 1 secret, 1 line counted before" in ingest(
        gzip.compress(whole) if compressed else whole
    )
    assert sum(one[2] for one in readers(shop)) == 2


def test_a_log_with_values_is_reported_and_keeps_none(shop: Cli):
    """The log itself leaks: the count goes on, the exit code is 1, and no value is anywhere."""
    canary = "Canary-of-the-audit-log-7f"
    log = write(
        shop.folder,
        vault(version=1, password=canary),
        vault(version=2, token=f"hvs.{canary}"),
        vault(version=2, error=canary, path=f"secret/data/{canary}"),
    )
    told = shop("access", "ingest", log, "--from", "vault", code=1)
    assert "the log itself leaks: 2 lines" in told.err
    assert "the first is line 1" in told.err
    assert sum(one[2] for one in readers(shop)) == 2
    shown = shop("access", "show", "app").out
    files = [one for one in shop.folder.iterdir() if one.is_file() and one.name != "audit.log"]
    texts = [told.out, told.err, shown]
    texts += [one.read_bytes().decode(errors="replace") for one in files]
    assert not [text for text in texts if canary in text]


def test_cloudtrail_reads_get_their_version_from_the_time(shop: Cli):
    """What the log does not show, the journal does."""
    new, old = versions(shop)
    events = [
        cloudtrail(at=ago(seconds=-1)),
        cloudtrail(at=ago(seconds=-1), versionStage="AWSPREVIOUS"),
        cloudtrail(at="2026-01-02T00:00:00Z"),
    ]
    line = json.dumps({"Records": events}).encode()
    log = write(shop.folder, line, name="cloudtrail.json", end=b"")
    assert "3 reads" in shop("access", "ingest", log, "--from", "cloudtrail").out
    found = shop.json("access", "login", "x").data
    assert found == {"login": "x", "holders": []}
    with shop.app() as app:
        assert {one.version for one in app.reads.of(["app"])} == {new, old, ""}


def test_a_document_of_several_lines_and_a_table_are_read(shop: Cli):
    pretty = json.dumps({"Records": [cloudtrail()]}, indent=2).encode()
    log = write(shop.folder, pretty, name="pretty.json")
    assert "1 read of" in shop("access", "ingest", log, "--from", "cloudtrail").out
    assert "0 new lines" in shop("access", "ingest", log, "--from", "cloudtrail").out
    cells = [json.dumps(cloudtrail(at=f"2026-01-0{day}T00:00:00Z")) for day in (3, 4)]
    rows = ['"{}"'.format(cell.replace('"', '""')).encode() for cell in cells]
    table = write(shop.folder, b"eventJson", *rows, name="lake.csv")
    assert "2 reads of" in shop("access", "ingest", table, "--from", "cloudtrail").out
    assert "0 new lines" in shop("access", "ingest", table, "--from", "cloudtrail").out
    other = write(shop.folder, b"eventName", b"GetSecretValue", name="other.csv")
    assert (
        "select the column eventJson"
        in shop("access", "ingest", other, "--from", "cloudtrail", code=2).err
    )


def test_who_is_behind_comes_first_with_the_reason(shop: Cli):
    """Who still reads the older version, and who has not read since the newer one was published."""
    new, old = versions(shop)
    with shop.app() as app:
        served = app.journal.rotations("app")[0].published_at
    assert served is not None
    after, before = served + timedelta(minutes=1), served - timedelta(minutes=1)

    def event(at: datetime, role: str, version: str) -> bytes:
        found = cloudtrail(at=at.isoformat(), versionId=version)
        arn = f"arn:aws:iam::123456789012:role/{role}"
        found["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = arn
        return json.dumps(found).encode()

    log = write(
        shop.folder,
        event(after, "web", new),
        event(before, "web", old),
        event(after, "batch", old),
        event(before, "cron", old),
    )
    shop("access", "ingest", log, "--from", "cloudtrail")
    found = shop.json("access", "show", "app").data
    assert found["version"] == new
    assert [(one["identity"].rpartition("/")[2], one["why"]) for one in found["readers"]] == [
        ("batch", "still reads an older version"),
        ("cron", "has not read since the current version was published"),
        ("web", None),
    ]
    assert "3 readers, 2 behind" in shop("access", "show", "app").out
    assert [one["declared"] for one in found["readers"]] == [False, False, True]
    assert "(not declared)" in shop("access", "show", "app").out
    shop.edit("consumers: [web], ", "consumers: [web], readers: ['*/batch'], ")
    again = shop.json("access", "show", "app").data["readers"]
    assert [one["declared"] for one in again] == [True, False, True]
    only = shop.json("access", "show", "app", "--by", "cron").data["readers"]
    assert len(only) == 1


def test_a_recent_read_reaches_the_registry_of_consumers(shop: Cli):
    """As the level `read`, which proves no login; an old one does not."""
    new, old = versions(shop)
    recent = json.dumps(cloudtrail(at=ago(seconds=5), versionId=new)).encode()
    past = json.dumps(cloudtrail(at=ago(hours=1), versionId=old)).encode()
    log = write(shop.folder, recent, past)
    shop("access", "ingest", log, "--from", "cloudtrail")
    (secret,) = shop.json("consumers", "app").data["secrets"]
    (one,) = secret["instances"]
    assert (one["consumer"], one["version"], one["level"]) == ("web", new, "read")
    assert secret["consumers"][0]["acknowledged"] == 0


def test_who_had_a_login_is_listed(shop: Cli):
    with shop.app() as app:
        rotation = app.journal.rotations("app")[0]
    event = cloudtrail(at=ago(seconds=5), versionId=str(rotation.new_version))
    log = write(shop.folder, json.dumps(event).encode())
    shop("access", "ingest", log, "--from", "cloudtrail")
    (one,) = shop.json("access", "login", str(rotation.new_login)).data["holders"]
    assert one["identity"] == "arn:aws:iam::123456789012:role/web"
    assert "role/web" in shop("access", "login", str(rotation.new_login)).out
    assert shop.json("access", "login", str(rotation.new_login), "--at", "1h").data["holders"] == []


def test_a_socket_device_is_counted_until_sigterm(shop: Cli):
    """Lines come as they are written, also in halves."""
    place = shop.folder / "audit.sock"

    def send() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            deadline = time.monotonic() + 20
            while client.connect_ex(str(place)) and time.monotonic() < deadline:
                time.sleep(0.01)  # the command begins to listen
            line = vault(version=1) + b"\n"
            client.sendall(line[:50])
            client.sendall(line[50:] + line)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    told = shop("access", "ingest", f"unix:{place}", "--from", "vault").out
    thread.join()
    assert "2 new lines, 2 reads" in told
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.log", "cannot be read"),
        ("tcp:0.0.0.0:9090", "not on loopback"),
        ("tcp:127.0.0.1:x", "PORT is a number"),
        ("unix:/does/not/exist/audit.sock", "cannot listen"),
    ],
)
def test_a_log_that_cannot_be_read_is_a_usage_error(shop: Cli, name: str, said: str):
    assert said in shop("access", "ingest", name, "--from", "vault", code=2).err


def test_a_secret_without_reads_names_the_command(shop: Cli):
    assert "rotator docs see-who-reads" in shop("access", "show", "web").out
