"""`audit export`: the journal as files that an outsider can verify without our database."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from rotator.core.errors import UsageError
from rotator.journal import chain, rows, tables
from rotator.journal.handovers import Signers, first_of, may_hand_over
from rotator.journal.report import AuditReport
from rotator.journal.signed_heads import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path
    from typing import TextIO

    from rotator.core.secret import Secret
    from rotator.journal.sql import SqlJournal

Form = Literal["jsonl", "csv"]

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
_FORMAT: Final = "rotator journal export 1"
_CHECKPOINT_COLUMNS: Final = tuple(column.name for column in tables.checkpoints.columns)
# Spreadsheets compute what begins so, in full width too.
_GUARDED: Final = tuple("\\=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# In characters: a manifest names each secret, an event holds what one step found.
_LONGEST_MANIFEST: Final = 64 * 2**20
_LONGEST_LINE: Final = 4 * 2**20
_NUMBERS: Final = frozenset({"seq", "fence", "number"})
_BATCH: Final = 10_000
_NOT_SIGNED: Final = "its signature is invalid under the public key"
# A database takes so many names in one statement; of more, the others' events are read and left out.
_MOST_NAMED: Final = 1_000


def export(
    journal: SqlJournal,
    folder: Path,
    form: Form,
    *,
    now: datetime,
    signing_key: Secret | None = None,
    only: Collection[str] | None = None,
    reports: Mapping[str, str | Iterable[str]] | None = None,
) -> list[Path]:
    """Write events, checkpoints and a manifest into a new or empty folder; return the files.

    The manifest holds the SHA-256 of each file, the counts and the head of every chain; with a
    signing key it is signed. `only`: the events of these secrets. `reports`: further files, by name,
    with their text, whole or in parts. Raises `UsageError` when the folder holds something already.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", hint="Export into a new folder.")
    only = None if only is None else frozenset(only)
    heads: dict[str, list[Any]] = {}

    def noting(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in found:
            if only is not None and row["secret"] not in only:
                continue
            heads[row["secret"]] = [row["seq"], row["hash"]]
            yield row

    files = [folder / f"events.{form}", folder / f"checkpoints.{form}"]
    with journal.snapshot() as db:
        events = sa.select(tables.events).order_by(tables.events.c.secret, tables.events.c.seq)
        if only is not None and len(only) <= _MOST_NAMED:
            events = events.where(tables.events.c.secret.in_(only))
        checkpoints = sa.select(tables.checkpoints).order_by(tables.checkpoints.c.number)
        counts = [
            _write(files[0], form, rows.EVENT_COLUMNS, noting(_stream(db, events))),
            _write(files[1], form, _CHECKPOINT_COLUMNS, _stream(db, checkpoints)),
        ]
    for name, text in (reports or {}).items():
        files.append(folder / name)
        counts.append(1)
        with private_file(folder / name) as file:
            file.writelines([text] if isinstance(text, str) else text)
    manifest = {
        "format": _FORMAT,
        "made": rows.stamp(now),
        "files": {
            file.name: {"sha256": _sha256(file), "rows": n}
            for file, n in zip(files, counts, strict=True)
        },
        "heads": heads,
        "public_key": chain.public_key(signing_key) if signing_key else None,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with private_file(folder / MANIFEST) as file:
        _ = file.write(text)
    files.append(folder / MANIFEST)
    if signing_key is not None:
        with private_file(folder / SIGNATURE) as file:
            _ = file.write(chain.sign(signing_key, text) + "\n")
        files.append(folder / SIGNATURE)
    return files


def verify_export(folder: Path, public_key: str | None = None) -> AuditReport:
    """Check an exported folder by itself.

    `public_key` (PEM) is the one you got from its owner by another way; without it the key in the
    manifest is used, which shows that the files belong together but not whose they are.
    """
    report = AuditReport(signatures=public_key is not None)
    try:
        with (folder / MANIFEST).open(encoding="utf-8") as file:
            text = file.read(_LONGEST_MANIFEST + 1)
        manifest = json.loads(text if len(text) <= _LONGEST_MANIFEST else "")
        said, named = manifest["format"], manifest["public_key"]
    except (OSError, *UNREADABLE) as error:
        raise UsageError(f"{folder} has no readable {MANIFEST}.") from error
    if said != _FORMAT:
        raise UsageError(f"{folder}: this rotator does not support the format of its {MANIFEST}.")
    named = named if isinstance(named, str) else None
    key = public_key or named
    successor = None if key is None else _check_signature(folder, text, key, named, report)
    try:
        files = {str(name): str(said["sha256"]) for name, said in manifest["files"].items()}
        heads = dict(manifest["heads"])
        form = next(iter(files)).rpartition(".")[2]
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration):
        report.add(MANIFEST, "its list of files and heads is invalid")
        return report
    for name, digest in files.items():
        # Only a bare name: a manifest must not make us read elsewhere.
        if "/" in name or not (folder / name).is_file():
            report.add(name, "is missing")
        elif _sha256(folder / name) != digest:
            report.add(name, "differs from the manifest's description")
    for name in (f"events.{form}", f"checkpoints.{form}"):
        if name not in files:
            report.add(name, "is not in the manifest")
    if report.damage:
        return report
    name = f"events.{form}"
    try:
        _check_chains(folder / name, form, heads, report)
        name = f"checkpoints.{form}"
        signer = _check_checkpoints(folder / name, form, key, report)
        if successor is not None and signer != successor:
            report.add(MANIFEST, _NOT_SIGNED)
    except (OSError, csv.Error, *UNREADABLE):
        report.add(name, f"is unreadable after {report.events} events")
    return report


def _check_signature(
    folder: Path, text: str, key: str, named: str | None, report: AuditReport
) -> str | None:
    """Check the manifest's signature; return the key that made it if that is another one.

    The checkpoints must then hand over to that key: it is the newest, `key` may be an older one.
    """
    try:
        signature = (folder / SIGNATURE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        report.add(SIGNATURE, "is missing")
        return None
    if chain.signed(key, text, signature):
        return None
    with suppress(UsageError):
        if named is not None and chain.signed(named, text, signature):
            return chain.public_pem(chain.public_bytes(named))
    report.add(MANIFEST, _NOT_SIGNED)
    return None


def _check_chains(file: Path, form: str, heads: dict[str, Any], report: AuditReport) -> None:
    found: set[str] = set()
    for secret, events in groupby(_read(file, form), key=itemgetter("secret")):
        prev, expected, head = chain.START, 1, chain.START
        for row in events:
            where = f"secret {secret}, event {row['seq']}"
            values = [row[name] for name in rows.HASHED_COLUMNS]
            if row["seq"] != expected or row["prev_hash"] != prev:
                report.add(where, "does not follow the event before it")
            if chain.event_hash(*values) != row["hash"]:
                report.add(where, "was changed: its hash does not match")
            prev = head = row["hash"]
            expected = row["seq"] + 1
            report.events += 1
        if heads.get(secret) != [expected - 1, head]:
            report.add(f"secret {secret}", "does not end where the manifest states")
        found.add(secret)
    report.secrets = len(found)
    for secret in set(heads) - found:
        report.add(f"secret {secret}", "is missing")


def _check_checkpoints(file: Path, form: str, key: str | None, report: AuditReport) -> str | None:
    """Check the checkpoints; return the public key that signed the last one, if signatures are checked."""
    signers = None
    if key is not None:
        texts = (str(row["heads"]) for row in _read(file, form))
        signers = Signers(key, first_of(filter(may_hand_over, texts)))
    prev = chain.START
    for number, row in enumerate(_read(file, form), start=1):
        where = f"checkpoint {number}"
        hashed = chain.checkpoint_hash(row["number"], row["at"], row["heads"], row["prev_hash"])
        if row["number"] != number or row["prev_hash"] != prev or hashed != row["hash"]:
            report.add(where, "was changed, or does not follow the one before it")
        if signers is not None:
            signers.check(report, row)
        prev = row["hash"]
        report.checkpoints += 1
    if signers is None:
        return None
    signers.end(report)
    report.handovers = signers.handovers
    return signers.public


def _write(
    path: Path, form: Form, columns: tuple[str, ...], found: Iterable[dict[str, Any]]
) -> int:
    count = 0
    with private_file(path) as file:
        put = _writer(file, form, columns)
        for row in found:
            put(row)
            count += 1
    return count


def _writer(
    file: TextIO, form: Form, columns: tuple[str, ...]
) -> Callable[[dict[str, Any]], object]:
    if form == "jsonl":
        return lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")
    writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    _ = writer.writerow(columns)
    return lambda row: writer.writerow([cell(row[name]) for name in columns])


def cell(value: object) -> object:
    """Return a value as a cell of a CSV file, in which a spreadsheet finds no formula."""
    # CSV has no null: a backslash and N, as PostgreSQL's COPY writes it. A text that begins with a
    # backslash gets another one, and so does what a spreadsheet would take for a formula.
    if value is None:
        return "\\N"
    return "\\" + value if isinstance(value, str) and value.startswith(_GUARDED) else value


def _read(path: Path, form: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        if form == "jsonl":
            for line in _lines(file):
                yield json.loads(line)
            return
        for row in csv.DictReader(_lines(file)):
            yield {name: _value(name, cell) for name, cell in row.items()}


def _lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file. Raises `ValueError` for one that has no end."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError("a line is too long")
        yield line


def _value(name: str, cell: str) -> object:
    if name in _NUMBERS:
        return int(cell)
    if cell == "\\N":
        return None
    return cell.removeprefix("\\")


def _stream(db: sa.Connection, query: Any) -> Iterator[dict[str, Any]]:
    found = db.execution_options(stream_results=True, yield_per=_BATCH).execute(query)
    for row in found.mappings():
        yield dict(row)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def private_file(path: Path) -> TextIO:
    """Create a file for its owner's eyes only. Raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")
