"""audit: verify, export and read the audit journal."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces import answers
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Since, Until, argument, complete_names, option, period
from rotator.faces.cli.render import audit_report
from rotator.faces.cli.render.console import table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.histories import remark
from rotator.faces.wording import at

if TYPE_CHECKING:
    from rotator.bootstrap.app import App
    from rotator.core.model import Event
    from rotator.core.secret import Secret
    from rotator.journal.checkpoints import Anchor

app = typer.Typer()
_audit = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _audit,
    name="audit",
    help="Verify, export and read the audit journal.",
    rich_help_panel=Panel.JOURNAL,
)

# So many events are shown where neither a number nor a time is given.
_NEWEST = 50


class Form(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


PublicKey = Annotated[
    Path | None, option("--public-key", "FILE", "Public key (PEM) to verify signatures with.")
]


@command(_audit, "verify")
def verify(
    ctx: typer.Context,
    *,
    public_key: PublicKey = None,
    exported: Annotated[
        Path | None,
        option(
            "--export", "DIR", "Verify a folder written by `audit export`; needs no configuration."
        ),
    ] = None,
    logged: Annotated[
        Path | None,
        option(
            "--from-log",
            "FILE",
            "Verify the events in the log of a rotation function; needs no configuration.",
        ),
    ] = None,
    witness: Annotated[
        Path | None,
        option(
            "--witness",
            "FILE",
            "Checkpoints recorded elsewhere, such as in logs or notices: one JSON object per line.",
        ),
    ] = None,
    witness_key: Annotated[
        Path | None,
        option(
            "--witness-key",
            "FILE",
            "Public key (PEM) of the witness: count only what `audit countersign` signed with it.",
        ),
    ] = None,
    authenticate: Annotated[
        bool,
        typer.Option(
            "--authenticate",
            help="With --from-log: authenticate each event with journal.signing_key.",
        ),
    ] = False,
    ends: Annotated[
        list[str] | None,
        option(
            "--end",
            "'NAME=SEQ HASH'",
            "With --from-log: the end of a secret's chain, from its tag rotator-journal.",
        ),
    ] = None,
) -> None:
    """Verify that the journal is unchanged since it was written.

    Computes every hash, chain, record and signature again. Reports each change, removal, insertion,
    reordering or truncation with its place, and then exits with code 1. Truncation at the end of a log is
    detectable only with --end.

    Examples:
        rotator audit verify
        rotator audit verify --public-key rotator-audit.pub
        rotator audit verify --export audit-2026-q1 --public-key rotator-audit.pub
        rotator audit verify --from-log function.log
        rotator audit verify --witness checkpoints.jsonl
        rotator audit verify --witness witness.jsonl --witness-key witness.pub
    """
    call: Invocation = ctx.obj
    if exported is not None:
        from rotator.journal.export import verify_export  # noqa: PLC0415

        audit_report.show(call, verify_export(exported, _key(public_key)))
        return
    if logged is not None:
        _verify_log(call, logged, ends or [], authenticate=authenticate)
        return
    if authenticate:
        raise UsageError("--authenticate belongs to --from-log.")
    if ends:
        raise UsageError("--end belongs to --from-log.")
    if witness_key is not None and witness is None:
        raise UsageError("--witness-key belongs to --witness.")
    with call.open_app() as app:
        app.require_all()
        seen, forged = _seen(witness, witness_key)
        report = app.verify_journal(_key(public_key), seen_by_witness=seen)
    for number in forged:
        report.add(f"{witness}, line {number}", "the witness did not sign it")
    audit_report.show(call, report)
    if seen:
        newest = max(one.number for one in seen)
        call.data["witnessed"] = newest
        call.print(f"  The witness saw checkpoint {newest} of {report.checkpoints}.")


@command(_audit, "acknowledge")
def acknowledge(
    ctx: typer.Context,
    *,
    reason: Annotated[str, option("--reason", "TEXT", "Which backup was restored, and why.")],
) -> None:
    """Acknowledge that the journal was restored from a backup and lacks its newest events.

    Rotations that only the backends know, and a newer checkpoint stored with the signing key, then
    no longer count as damage; `audit verify` still lists them with the reason. The acknowledgement is
    signed if a signing key is configured. Any other damage cannot be acknowledged.

    Examples:
        rotator audit acknowledge --reason "restored the backup of Monday, INC-7"
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        app.require_all()
        report = app.acknowledge(reason)
    places = [{"where": one.where, "what": one.what} for one in report.damage]
    call.data |= {"reason": reason, "acknowledged": places}
    call.print(*(f"acknowledged: {one['where']}: {one['what']}" for one in places))


@command(_audit, "countersign")
def countersign(
    ctx: typer.Context,
    *,
    key: Annotated[
        Path, option("--key", "FILE", "Private key of the witness, from `rotator keygen FILE`.")
    ],
    out: Annotated[Path, option("--out", "FILE", "File of the witness; a line is added.")],
    public_key: Annotated[
        Path, option("--public-key", "FILE", "Public key (PEM) of the journal's signing key.")
    ],
) -> None:
    """Verify the journal as a witness, and sign its newest checkpoint with a key of your own.

    Run it regularly on a machine that the journal's administrators cannot write to. It needs read access
    to the journal only. It signs nothing if the journal is damaged or no longer holds a checkpoint that
    the file names, and then exits with code 1.

    Examples:
        rotator audit countersign --key witness.key --out witness.jsonl --public-key rotator-audit.pub
    """
    from rotator.journal import chain, countersigning  # noqa: PLC0415

    call: Invocation = ctx.obj
    with call.open_app() as app:
        app.require_all()
        own = _witness_key(key)
        public = chain.public_key(own)
        before, forged = countersigning.read(_lines(out) if out.exists() else [], public)
        if forged:
            raise UsageError(
                f"{out}, line {forged[0]}: this key did not sign it.",
                hint="Find out who can write to the file, or name a new one for a new key.",
                safety="Nothing was signed.",
            )
        made = countersigning.countersign(
            app.journal, own, app.clock.now(), public_key=_key(public_key) or "", before=before
        )
    if made is None:
        raise UsageError("the journal has no checkpoint.", safety="Nothing was signed.")
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
        _ = file.write(made.line())
        file.flush()
        os.fsync(file.fileno())
    call.data |= {"number": made.number, "hash": made.hash, "at": made.at, "public_key": public}
    call.print(
        f"Checkpoint {made.number} countersigned.",
        "Public key of the witness, to be sent through another channel:",
        public.rstrip(),
    )


@command(_audit, "rotate-key")
def rotate_key(
    ctx: typer.Context,
    *,
    reason: Annotated[str, option("--reason", "TEXT", "Why the key is replaced.")],
    leaked: Annotated[
        bool,
        typer.Option("--leaked", help="The old key leaked: warn verifiers that still have it."),
    ] = False,
) -> None:
    """Replace the journal's signing key, and the key of its events and records, at once.

    The old key signs a checkpoint over everything so far, which names the new one. From then on only
    the new key is accepted. Running daemons, workers and functions load it at their next use. If it is
    interrupted, run it again. Send the new public key to auditors.

    Examples:
        rotator audit rotate-key --reason "yearly"
        rotator audit rotate-key --leaked --reason "laptop stolen, INC-12"
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        app.require_all()
        rotated = app.rotate_key(reason, leaked=leaked)
    call.data |= {
        "before": rotated.before,
        "key": rotated.key,
        "checkpoint": rotated.checkpoint.number,
        "leaked": leaked,
        "public_key": rotated.public,
    }
    call.print(
        f"Signing key {rotated.before} was replaced by {rotated.key}"
        f" at checkpoint {rotated.checkpoint.number}.",
        "Public key, to be sent through another channel:",
        rotated.public.rstrip(),
    )


@command(_audit, "export")
def export(
    ctx: typer.Context,
    *,
    out: Annotated[Path, option("--out", "DIR", "New or empty folder.")],
    form: Annotated[
        Form, typer.Option("--format", help="One JSON object per line, or comma-separated values.")
    ] = Form.JSONL,
) -> None:
    """Write the journal to files that an auditor can verify without access to the database.

    A manifest holds the SHA-256 of each file and the head of every chain. It is signed if a signing
    key is configured. Send the public key through another channel.

    Examples:
        rotator audit export --out audit-2026-q1
        rotator audit export --out audit-2026-q1 --format csv
        rotator audit verify --export audit-2026-q1 --public-key rotator-audit.pub
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        app.require_all()
        files = [str(one) for one in app.export_journal(out, form.value)]
        public_key = app.public_key()
    call.data |= {"folder": str(out), "files": files, "public_key": public_key}
    call.print(*(f"written: {one}" for one in files))
    call.print(f"Verify it: rotator audit verify --export {out}")
    if public_key is not None:
        call.print("Public key, to be sent through another channel:", public_key.rstrip())


@command(_audit, "show")
def show(
    ctx: typer.Context,
    name: Annotated[str | None, argument("NAME", "Only this secret.", complete_names)] = None,
    *,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default="50; all with --since or --until",
            help="Maximum number of events to show, newest first.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Show the newest events of one secret or of all, with reasons and causes, newest last.

    Examples:
        rotator audit show
        rotator audit show app-db --limit 100 --json
        rotator audit show --since 30d
        rotator audit show --since 2026-01-01 --until 2026-02-01
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        after, before = period(since, until, app.clock.now())
        bounded = after is not None or before is not None
        most = limit if limit is not None or bounded else _NEWEST
        # A secret that is no longer configured still has its events.
        names = _chains(app) if name is None else app.names(only=[name], forgotten=True)
        # The newest ones may all lie after the period.
        enough = most if before is None else None
        found = [
            event
            for one in names
            for event in app.journal.events(one, enough)
            if (after is None or event.at >= after) and (before is None or event.at < before)
        ]
    events = sorted(found, key=_order)[-(most or len(found) or 1) :]
    call.data["events"] = [{"secret": one.secret, **answers.of_event(one)} for one in events]
    if not events:
        nothing = "The journal holds no events of that time."
        call.print(nothing if bounded else "The journal holds no events yet.")
        return
    _show_events(call, events)


def _verify_log(call: Invocation, file: Path, ends: list[str], *, authenticate: bool) -> None:
    from rotator.journal.log import Head, verify_log  # noqa: PLC0415

    key = None
    if authenticate:
        with call.open_app() as app:
            key = app.event_key()
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            report, heads = verify_log(lines, key)
    except OSError as error:
        raise UsageError(f"the log {file} cannot be read ({error.strerror}).") from error
    if not report.events:
        raise UsageError(
            f"the log {file} holds no event of a rotation function.",
            hint="Download all of it: aws logs tail /aws/lambda/NAME --since 30d --format short > FILE",
        )
    call.data["heads"] = {name: {"seq": one.seq, "hash": one.hash} for name, one in heads.items()}
    for argument_ in ends:
        name, _, text = argument_.rpartition("=")
        wanted, found = Head.parse(text), heads.get(name)
        if wanted is None or not name:
            raise UsageError(
                f"--end {argument_!r} is not NAME=SEQ HASH.",
                hint="Copy it from the secret's tag rotator-journal: --end 'prod/db/app=12 0f3c…'",
            )
        if found != wanted:
            last = "has no event of this secret" if found is None else f"ends at event {found.seq}"
            report.add(f"secret {name}", f"the log {last}; its tag records event {wanted.seq}")
    audit_report.show(call, report)
    from rotator.backends.aws.aws_driven import HEAD_TAG  # noqa: PLC0415

    call.print(f"The end of each chain, to be compared with the secret's tag {HEAD_TAG}:")
    call.print(*(f"  {name}: {one.text()}" for name, one in sorted(heads.items())))


def _chains(app: App) -> list[str]:
    """Return whose events the caller may see: of secrets, and of the journal as a whole."""
    from rotator.journal.audit import JOURNAL  # noqa: PLC0415 # only here

    whole = [JOURNAL] if app.sees_all else []
    return [*whole, *(one.name for one in app.journal.secrets() if app.sees(one.name))]


def _witness_key(file: Path) -> Secret:
    from rotator import trusted_files  # noqa: PLC0415
    from rotator.core.secret import Secret  # noqa: PLC0415

    try:
        return Secret(trusted_files.read(file, "the witness's key", secret=True).decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"the key {file} cannot be read ({reason}).", hint="Create one: rotator keygen FILE"
        ) from error


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"the public key {file} cannot be read ({reason}).") from error


def _seen(file: Path | None, key: Path | None) -> tuple[list[Anchor], list[int]]:
    """Return the checkpoints in a witness file, and the lines with a signature of another key.

    Raises `UsageError` when it holds none.
    """
    from rotator.journal import countersigning  # noqa: PLC0415
    from rotator.journal.checkpoints import witnessed  # noqa: PLC0415

    if file is None:
        return [], []
    forged = list[int]()
    lines, public = _lines(file), _key(key)
    if public is None:
        found = witnessed(lines)
    else:
        signed, forged = countersigning.read(lines, public)
        found = [one.anchor for one in signed]
    if not found and not forged:
        raise UsageError(
            f"{file} holds no checkpoint{'' if key is None else ' with a signature'}.",
            hint="One JSON object per line, with `number` and `hash`: `rotator docs journal-security`, section Witnesses.",
        )
    return found, forged


def _lines(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return list(lines)
    except OSError as error:
        raise UsageError(f"the witness {file} cannot be read ({error.strerror}).") from error


def _order(event: Event) -> tuple[object, ...]:
    return (event.at, event.secret, event.seq)


def _show_events(call: Invocation, events: list[Event]) -> None:
    rows = [
        (
            at(one.at, seconds=True),
            one.secret,
            str(one.seq),
            one.kind.value,
            one.step.value if one.step else "",
            one.actor,
            remark(one),
        )
        for one in events
    ]
    call.print(table(call.screen, ("when", "secret", "no.", "what", "step", "who", "why"), rows))
