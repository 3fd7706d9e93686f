"""`rotator report`: forms, exit codes, the evidence pack and the program that verifies it."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rotator.core.model import Kind, NewEvent
from rotator.report.verify_pack import Verification
from rotator.testing.fake_target import Account
from tests.journal.attacker import drop_triggers

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_PERIOD = ("--since", "1h")
_TTL = timedelta(minutes=1)


@pytest.fixture
def rotated(cli: Cli) -> Cli:
    cli("rotate", "app")
    cli("rotate", "app", code=None)
    cli("revoke", "app")
    cli("rotate", "web")
    return cli


def _until_now() -> tuple[str, ...]:
    return ("report", *_PERIOD)


def test_the_report_is_text_by_default(rotated: Cli):
    """What was operated, and what is not covered."""
    out = rotated(*_until_now(), "--framework", "pci,nist", "--sample", "1").out
    assert "Secrets: 2 (" in out
    assert "Late: 0" in out
    assert "PCI DSS 4.0.1:" in out
    assert "8.3.9: not covered" in out
    assert "Sample of 1 rotations (seed 0):" in out
    assert "compliant" not in out


def test_the_json_form_has_every_secret(rotated: Cli):
    """The answer of `--json` has all but the secrets."""
    found = json.loads(rotated(*_until_now(), "--format", "json").out)
    assert [one["secret"] for one in found["secrets"]] == ["app", "web"]
    assert found["secrets"][0]["rotations"][-1]["old_refused"] is True
    answer = rotated.json(*_until_now()).data
    assert "secrets" not in answer
    assert set(answer) == set(found) - {"secrets"}


def test_the_same_period_gives_the_same_bytes(rotated: Cli):
    """In each form."""
    now = json.loads(rotated(*_until_now(), "--format", "json").out)["period"]["until"]
    for form in ("text", "json", "csv", "html"):
        call = ("report", "--since", "2020-01-01", "--until", now, "--format", form)
        assert rotated(*call).out == rotated(*call).out


def test_the_csv_form_is_guarded_against_formulas(rotated: Cli):
    """A row for each secret."""
    with rotated.app() as app:
        lock = app.journal.acquire("=cmd()", "holder", _TTL)
        event = NewEvent(kind=Kind.ADOPTED, data={"login": "@x", "version": "1", "reason": ""})
        app.journal.append(lock, [event], _TTL)
        app.journal.release(lock)
    table = list(csv.DictReader(rotated(*_until_now(), "--format", "csv").out.splitlines()))
    assert [one["secret"] for one in table] == ["\\=cmd()", "app", "web"]
    assert table[0]["login"] == "\\@x"
    assert int(table[1]["age_max_seconds"]) >= 0


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "style")]


def test_the_page_loads_nothing_and_escapes_names(rotated: Cli):
    """Foreign names are text; the page runs nothing and has no address."""
    name = "<script>alert(1)</script>\u202e"
    with rotated.app() as app:
        lock = app.journal.acquire(name, "holder", _TTL)
        event = NewEvent(
            kind=Kind.ADOPTED, data={"login": "'\"><img src=x>", "version": "1", "reason": ""}
        )
        app.journal.append(lock, [event], _TTL)
        app.journal.release(lock)
    rotated(*_until_now(), "--format", "html", "--framework", "iso27001", "--out", "page.html")
    text = (rotated.folder / "page.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.links == []
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in text
    assert "default-src 'none'" in text


def test_an_existing_file_is_not_overwritten(rotated: Cli):
    """Nor is the wish for two places at once accepted."""
    rotated(*_until_now(), "--out", "report.txt")
    assert (rotated.folder / "report.txt").stat().st_mode & 0o777 == 0o600
    assert "report.txt" in rotated(*_until_now(), "--out", "report.txt", code=2).err
    assert "--out" in rotated(*_until_now(), "--out", "x", "--pack", "y", code=2).err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--since", "soon"), "--since 'soon'"),
        (("--until", "soon"), "--until 'soon'"),
        (("--until", "2999-01-01"), "in the future"),
        (("--since", "1h", "--until", "2h"), "is not before --until 2h"),
        (("--since", "2999-01-01"), "--since is in the future"),
        (("--framework", "pci,hipaa"), "'hipaa' is unknown"),
    ],
)
def test_a_wrong_period_or_framework_is_refused(cli: Cli, options: tuple[str, ...], what: str):
    """With what would be accepted."""
    assert what in cli("report", *options, code=2).err


def test_a_late_secret_gives_exit_code_1(rotated: Cli):
    """In each form, and with the late one in it."""
    with rotated.app() as app:
        lock = app.journal.acquire("app", "holder", _TTL)
        data = {"reason": "x", "next_due": "2020-01-01T00:00:00+00:00", "timing": "t"}
        app.journal.append(lock, [NewEvent(kind=Kind.SCHEDULED, data=data)], _TTL)
        app.journal.release(lock)
    assert "app: overdue since" in rotated(*_until_now(), code=1).out
    assert rotated.json(*_until_now(), code=1).data["totals"]["late"] == 1
    assert "Late: 1" in rotated(*_until_now(), "--format", "csv", code=1).err


def test_a_damaged_journal_is_reported_on_the_first_line(rotated: Cli):
    """The report is made, and exits with code 1."""
    with rotated.app() as app:
        drop_triggers(app.journal)
        with app.journal.writing() as db:
            db.exec_driver_sql("UPDATE events SET actor = 'x' WHERE secret = 'web' AND seq = 2")
    out = rotated(*_until_now(), code=1).out
    assert out.startswith("The journal is DAMAGED")
    assert "secret web, event 2: was changed" in out
    assert "Secrets: 2 (" in out


def test_only_tagged_secrets(rotated: Cli):
    """By all tags given."""
    call = (*_until_now(), "--format", "json", "--tag", "billing")
    found = json.loads(rotated(*call).out)
    assert [one["secret"] for one in found["secrets"]] == ["app"]


# -- the evidence pack -------------------------------------------------------------------------


@pytest.fixture
def pack(rotated: Cli) -> Path:
    rotated.server.target.accounts["legacy"] = Account(passwords=["x"])
    rotated("discover", "main")
    rotated(*_until_now(), "--sample", "2", "--framework", "soc2", "--pack", "pack")
    return rotated.folder / "pack"


def _verify(folder: Path) -> tuple[int, str]:
    call = [sys.executable, "-I", "-S", str(folder / "verify.py")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_stranger_verifies_the_pack(rotated: Cli, pack: Path):
    """With the standard library, from another folder; and with our own command."""
    code, out = _verify(pack)
    assert (code, "Nothing differs: 3 rotations" in out) == (0, True)
    assert "openssl pkeyutl -verify" in out
    names = {"events.jsonl", "checkpoints.jsonl", "report.json", "report.html", "verify.py"}
    assert {one.name for one in pack.iterdir()} == names | {"manifest.json", "manifest.sig"}
    rotated("audit", "verify", "--export", str(pack))


def test_the_printed_commands_check_the_signature(pack: Path, tmp_path: Path):
    """As openssl does it, where it is installed; else as the library does."""
    manifest = json.loads((pack / "manifest.json").read_text())
    signature = base64.b64decode((pack / "manifest.sig").read_text())
    load_pem_public_key(manifest["public_key"].encode()).verify(
        signature, (pack / "manifest.json").read_bytes()
    )
    if shutil.which("openssl") is None or shutil.which("base64") is None:
        return
    (pack / "KEY.pem").write_text(manifest["public_key"])
    _, out = _verify(pack)
    commands = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(commands)],
        cwd=pack,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Verified Successfully" in done.stdout, done.stderr


def _forge(pack: Path, name: str, text: str) -> None:
    """Change a file as an attacker does who also knows the manifest."""
    (pack / name).write_text(text)
    file = pack / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(manifest))


def _in_report(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def forge(pack: Path) -> None:
        report = json.loads((pack / "report.json").read_text())
        change(report)
        _forge(pack, "report.json", json.dumps(report))

    return forge


def _in_rotation(column: str, value: object) -> Callable[[Path], None]:
    return _in_report(lambda report: report["secrets"][0]["rotations"][-1].update({column: value}))


def _in_secret(column: str, value: object) -> Callable[[Path], None]:
    return _in_report(lambda report: report["secrets"][0].update({column: value}))


def _in_coverage(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(report: dict[str, Any]) -> None:
        change(report["coverage"][0])

    return _in_report(changed)


def _in_event(column: str, value: object, line: int = 4) -> Callable[[Path], None]:
    def forge(pack: Path) -> None:
        rows = (pack / "events.jsonl").read_text().splitlines()
        rows[line] = json.dumps(json.loads(rows[line]) | {column: value})
        _forge(pack, "events.jsonl", "\n".join(rows) + "\n")

    return forge


def _without_event(pack: Path) -> None:
    rows = (pack / "events.jsonl").read_text().splitlines()
    _forge(pack, "events.jsonl", "\n".join(rows[:-1]) + "\n")


def _with_file_changed(name: str) -> Callable[[Path], None]:
    def forge(pack: Path) -> None:
        (pack / name).write_text((pack / name).read_text() + " ")

    return forge


def _without(name: str) -> Callable[[Path], None]:
    return lambda pack: (pack / name).unlink()


_TIME = "2020-01-01T00:00:00.000000+00:00"
_FORGERIES = {
    "a time of publish": (_in_rotation("published_at", _TIME), "rotation .*, published_at"),
    "a time of start": (_in_rotation("started_at", _TIME), "rotation .*, started_at"),
    "a time of end": (_in_rotation("ended_at", _TIME), "rotation .*, ended_at"),
    "an actor": (_in_rotation("actor", "x"), "rotation .*, actor"),
    "a reason": (_in_rotation("reason", "x"), "rotation .*, reason"),
    "a proof": (_in_rotation("old_refused", None), "rotation .*, old_refused"),
    "an outcome": (_in_rotation("outcome", "undone"), "rotation .*, outcome"),
    "a new login": (_in_rotation("new_login", "x"), "rotation .*, new_login"),
    "a new version": (_in_rotation("new_version", "99"), "rotation .*, new_version"),
    "an old login": (_in_rotation("old_login", "x"), "rotation .*, old_login"),
    "a strategy": (_in_rotation("strategy", "x"), "rotation .*, strategy"),
    "an id": (_in_rotation("id", "x"), "belongs to another rotation"),
    "a hash": (_in_rotation("head", "0" * 64), "rotation .*, head"),
    "lateness": (_in_rotation("late", True), "rotation .*, late"),
    "an event's number": (_in_rotation("event_numbers", {"published": 1}), "does not show"),
    "a secret's head": (_in_secret("head", "0" * 64), "secret app, head"),
    "a number of exceptions": (_in_secret("exceptions", 5), "secret app, exceptions"),
    "a word": (_in_secret("word", "exception"), "totals, exception"),
    "a secret's name": (_in_secret("secret", "nobody"), "secret nobody: its events are missing"),
    "a secret that is left out": (
        _in_report(lambda report: report["secrets"].pop()),
        "totals, secrets",
    ),
    "a rotation that is left out": (
        _in_report(lambda report: report["secrets"][0]["rotations"].pop()),
        "totals, rotations",
    ),
    "an invented exception": (
        _in_report(
            lambda report: report["exceptions"].append(
                {
                    "secret": "app",
                    "kind": "parked",
                    "what": "",
                    "opened_at": _TIME,
                    "opened_event": 1,
                    "closed_at": None,
                    "closed_event": None,
                }
            )
        ),
        "exception parked, opened_at",
    ),
    "a figure": (
        _in_report(lambda report: report["totals"].update(late=7)),
        "totals, late: is not 0",
    ),
    "a login that nobody manages": (
        _in_coverage(lambda one: one["names"]["unmanaged"].pop()),
        "target main, names: is not that of event 1",
    ),
    "a number of logins": (
        _in_coverage(lambda one: one["counts"].update(unmanaged=0)),
        "target main, counts: is not that of event 1",
    ),
    "the word of a target": (
        _in_coverage(lambda one: one.update(word="operated")),
        "target main, word: does not follow",
    ),
    "the time of a look": (
        _in_coverage(lambda one: one.update(listed_at="2999-01-01T00:00:00.000000+00:00")),
        "target main, event 1: is not the list",
    ),
    "a look that nothing shows": (
        _in_coverage(lambda one: one.update(target="other")),
        "target other: is shown by no event",
    ),
    "the words of an exception of a target": (
        _in_report(lambda report: report["exceptions"][0].update(what="1 login")),
        "target main, exception unmanaged, what: does not follow",
    ),
    "an exception of a target that is left out": (
        _in_report(lambda report: report["exceptions"].clear()),
        "target main, exceptions: is not the number",
    ),
    "a target that is left out": (
        _in_report(lambda report: report["coverage"].clear()),
        "totals, targets",
    ),
    "an event's actor": (_in_event("actor", "x"), "secret app, event 4: was changed"),
    "an event's time": (_in_event("at", _TIME), "secret app, event 4: was changed"),
    "an event's data": (_in_event("data", '{"x":1}'), "secret app, event 4: was changed"),
    "an event's number in its chain": (_in_event("seq", 9), "does not follow"),
    "the last event is left out": (_without_event, "does not end where the manifest states"),
    "the report alone": (_with_file_changed("report.json"), "report.json: was changed"),
    "the page alone": (_with_file_changed("report.html"), "report.html: was changed"),
    "the events alone": (_with_file_changed("events.jsonl"), "events.jsonl: was changed"),
    "a missing page": (_without("report.html"), "report.html: is missing"),
    "a missing manifest": (_without("manifest.json"), "manifest.json: is missing"),
    "a manifest that names another folder": (
        lambda pack: (pack / "manifest.json").write_text(
            (pack / "manifest.json").read_text().replace('"report.html"', '"../report.html"')
        ),
        "../report.html: is missing",
    ),
}


def test_every_changed_cell_is_found_and_named(pack: Path, tmp_path: Path):
    """Also by an attacker who changes the manifest with it."""
    unnoticed: dict[str, str] = {}
    for number, (name, (forge, place)) in enumerate(_FORGERIES.items()):
        folder = tmp_path / f"forged-{number}"
        shutil.copytree(pack, folder)
        forge(folder)
        code, out = _verify(folder)
        if code != 1 or re.search(place, out) is None:
            unnoticed[name] = out
    assert unnoticed == {}


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(one, (*at, key))
    else:
        yield at, value


def _changed(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if value.endswith("+00:00"):
            return _TIME
        case str():
            return f"{value}x"
        case _:
            return "x"


def _unnoticed(pack: Path, name: str, *, forge: bool) -> set[str]:
    """Return the cells of a file that can be changed without being found; `forge`: the manifest with it."""
    file, manifest = pack / name, (pack / "manifest.json").read_text()
    whole = file.read_text()
    rows = whole.splitlines() if name.endswith("jsonl") else [whole]
    missed = set[str]()
    for number, row in enumerate(rows):
        for at, value in _leaves(json.loads(row)):
            data = json.loads(row)
            inner = data
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = _changed(value)
            text = "\n".join([*rows[:number], json.dumps(data), *rows[number + 1 :]])
            file.write_text(text)
            if forge:
                _forge(pack, name, text)
            verification = Verification(pack)
            verification.run()
            if not verification.places:
                missed.add(".".join("#" if isinstance(key, int) else key for key in at))
            (pack / "manifest.json").write_text(manifest)
    file.write_text(whole)
    return missed


# What the events of a pack do not show, or only by rotator's own computation. The digests in the manifest, and
# its signature, hold them.
_SIGNED_ONLY = {
    "events.jsonl": {"mac"},
    "checkpoints.jsonl": {"key_id", "signature"},
    "report.json": {
        *("access.#.actor", "access.#.first", "access.#.last"),
        *("access.#.requests.requested", "access.#.requests.revoke-requested"),
        *("controls.#.framework", "controls.#.not_shown", "controls.#.number"),
        *("controls.#.question", "controls.#.title", "controls.#.word"),
        *("journal.events_checked", "journal.secrets_checked", "not_covered.#"),
        *("period.known_from", "period.since"),
        *("secrets.#.age_end.exact", "secrets.#.age_end.seconds", "secrets.#.age_start"),
        *("secrets.#.backend", "secrets.#.due", "secrets.#.ended", "secrets.#.login"),
        *("secrets.#.managed_from", "secrets.#.managed_until", "secrets.#.plugin"),
        *("secrets.#.rotations.#.delegated", "secrets.#.rotations.#.due"),
        *("secrets.#.rotations.#.late_seconds", "secrets.#.strategy", "secrets.#.target"),
        *("secrets.#.version", "secrets.#.age_max.exact", "secrets.#.age_max.seconds"),
        # Of so few rotations another seed may draw the same.
        "sample.seed",
    },
}


@pytest.mark.parametrize("name", _SIGNED_ONLY)
def test_a_change_of_any_cell_is_found(pack: Path, name: str):
    """Each cell of each file by the digests; all but those that no event shows, also with a forged manifest."""
    assert _unnoticed(pack, name, forge=False) == set()
    assert _unnoticed(pack, name, forge=True) <= _SIGNED_ONLY[name]


def test_a_change_of_any_cell_of_the_manifest_breaks_the_signature(pack: Path):
    manifest = json.loads((pack / "manifest.json").read_text())
    key = load_pem_public_key(manifest["public_key"].encode())
    signature = base64.b64decode((pack / "manifest.sig").read_text())
    for at, value in _leaves(manifest):
        data = json.loads((pack / "manifest.json").read_text())
        inner = data
        for part in at[:-1]:
            inner = inner[part]
        inner[at[-1]] = _changed(value)
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        with pytest.raises(InvalidSignature):
            key.verify(signature, text.encode())  # pyright: ignore[reportCallIssue,reportAttributeAccessIssue,reportUnknownMemberType]


# -- PDF and spreadsheet ---------------------------------------------------------------------------


def _sheets(file: Path) -> dict[str, str]:
    """Return the parts of a workbook, which is a ZIP file of XML."""
    with zipfile.ZipFile(file) as book:
        return {name: book.read(name).decode() for name in book.namelist()}


@pytest.mark.parametrize("form", ["pdf", "xlsx"])
def test_the_same_report_is_the_same_file(rotated: Cli, form: str, monkeypatch: pytest.MonkeyPatch):
    """Also at another time of the day."""
    until = rotated.json("report", "--since", "1h").data["period"]["until"]
    call = ("report", "--since", "2020-01-01", "--until", until, "--framework", "pci")
    rotated(*call, "--format", form, "--out", "one")
    later = time.time() + 100_000
    monkeypatch.setattr(time, "time", lambda: later)
    rotated(*call, "--format", form, "--out", "two")
    one, two = ((rotated.folder / name).read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith({"pdf": b"%PDF-", "xlsx": b"PK"}[form])
    assert (rotated.folder / "one").stat().st_mode & 0o777 == 0o600


def test_a_workbook_holds_what_the_page_holds_and_no_formula(rotated: Cli):
    """A name that a spreadsheet would take for a formula stays a text, also in a CSV made of it."""
    with rotated.app() as app:
        lock = app.journal.acquire("=cmd()", "holder", _TTL)
        event = NewEvent(
            kind=Kind.ADOPTED, data={"login": "@\u202ex", "version": "1", "reason": ""}
        )
        app.journal.append(lock, [event], _TTL)
        app.journal.release(lock)
    rotated(*_until_now(), "--framework", "soc2", "--format", "xlsx", "--out", "report.xlsx")
    parts = _sheets(rotated.folder / "report.xlsx")
    whole = "".join(parts.values())
    assert "\\=cmd()" in whole
    assert "\\@\\u202ex" in whole
    assert "<f>" not in whole
    for title in ("Figures", "Controls", "Population", "Rotations", "Not covered"):
        assert f'name="{title}"' in parts["xl/workbook.xml"]
    # A number stays one.
    assert "<v>3</v>" in whole


def test_a_file_that_is_no_text_needs_a_name(rotated: Cli):
    assert "--out report.pdf" in rotated("report", "--format", "pdf", code=2).err


def test_a_pdf_of_a_damaged_journal_says_so(rotated: Cli):
    """And names of any language are shown, in escapes where the font has no letters for them."""
    with rotated.app() as app:
        drop_triggers(app.journal)
        with app.journal.writing() as db:
            db.exec_driver_sql("UPDATE events SET actor = '数' WHERE secret = 'web' AND seq = 2")
    rotated(*_until_now(), "--format", "pdf", "--out", "report.pdf", code=1)
    text = _text_of((rotated.folder / "report.pdf").read_bytes())
    assert "The journal is DAMAGED" in text
    assert "u6570" in text


def _text_of(pdf: bytes) -> str:
    """Return the texts of the pages, as far as our own files have them."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    found: list[str] = []
    for one in streams:
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompress(one).decode("latin-1"))
    return "\n".join(found)
