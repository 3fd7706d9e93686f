"""audit: verify, export and read the audit journal."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Since, complete_names, since_when
from rotator.faces.cli.render import audit_report, json_output
from rotator.faces.cli.render.console import at, table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.cli.render.history import remark

if TYPE_CHECKING:
    from rotator.core.model import Event
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
    Path | None,
    typer.Option(
        "--public-key",
        metavar="FILE",
        show_default=False,
        help="The public key (PEM) that signatures are checked with.",
    ),
]


@command(_audit, "verify")
def verify(
    ctx: typer.Context,
    *,
    public_key: PublicKey = None,
    exported: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            show_default=False,
            help="Verify a folder that `audit export` wrote; needs no configuration.",
        ),
    ] = None,
    logged: Annotated[
        Path | None,
        typer.Option(
            "--from-log",
            metavar="FILE",
            show_default=False,
            help="Verify the events in the log of a rotation function; needs no configuration.",
        ),
    ] = None,
    witness: Annotated[
        Path | None,
        typer.Option(
            "--witness",
            metavar="FILE",
            show_default=False,
            help="Checkpoints that were seen elsewhere: log lines or notices, one JSON object a line.",
        ),
    ] = None,
    authenticate: Annotated[
        bool,
        typer.Option(
            "--authenticate",
            help="With --from-log: check who wrote each event, by journal.signing_key.",
        ),
    ] = False,
    ends: Annotated[
        list[str] | None,
        typer.Option(
            "--end",
            metavar="'NAME=SEQ HASH'",
            show_default=False,
            help="With --from-log: where a secret's chain ends, as its tag rotator-journal says.",
        ),
    ] = None,
) -> None:
    """Say whether the journal still says what was once written into it.

    Every hash, chain, record and signature is computed again. Any change, removal, insertion,
    reordering or truncation is named with its place, and the command returns 1. That a log was cut off
    at its end only --end can tell.

    Examples:
        rotator audit verify
        rotator audit verify --public-key rotator-audit.pub
        rotator audit verify --export audit-2026-q1 --public-key rotator-audit.pub
        rotator audit verify --from-log function.log
        rotator audit verify --witness checkpoints.jsonl
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
    with call.open_app() as app:
        report = app.verify_journal(_key(public_key), seen_by_witness=_seen(witness))
    audit_report.show(call, report)


@command(_audit, "acknowledge")
def acknowledge(
    ctx: typer.Context,
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", show_default=False, help="Which restore.")
    ],
) -> None:
    """Acknowledge that the journal was restored from a backup, so that it knows less than happened.

    Rotations that only the backends know, and a newer checkpoint beside the signing key, are then
    no longer damage; `audit verify` still lists them with the reason. Signed where a signing key is
    configured. Any other damage is refused.

    Examples:
        rotator audit acknowledge --reason "restored the backup of Monday, INC-7"
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        report = app.acknowledge(reason)
    places = [{"where": one.where, "what": one.what} for one in report.damage]
    call.data |= {"reason": reason, "acknowledged": places}
    call.print(*(f"acknowledged: {one['where']}: {one['what']}" for one in places))


@command(_audit, "export")
def export(
    ctx: typer.Context,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", show_default=False, help="A new or empty folder."),
    ],
    form: Annotated[
        Form, typer.Option("--format", help="One JSON object a line, or comma-separated values.")
    ] = Form.JSONL,
) -> None:
    """Write the journal into files that an outsider can verify without our database.

    A manifest holds the SHA-256 of each file and the head of every chain; where a signing key is
    configured it is signed. Hand the public key over by another way.

    Examples:
        rotator audit export --out audit-2026-q1
        rotator audit export --out audit-2026-q1 --format csv
        rotator audit verify --export audit-2026-q1 --public-key rotator-audit.pub
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        files = [str(one) for one in app.export_journal(out, form.value)]
        public_key = app.public_key()
    call.data |= {"folder": str(out), "files": files, "public_key": public_key}
    call.print(*(f"written: {one}" for one in files))
    call.print(f"Anybody can verify it: rotator audit verify --export {out}")
    if public_key is not None:
        call.print("The public key, to be handed over by another way:", public_key.rstrip())


@command(_audit, "show")
def show(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            autocompletion=complete_names,
            help="Only this secret.",
        ),
    ] = None,
    *,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default="50; all with --since",
            help="How many events, the newest.",
        ),
    ] = None,
    since: Since = None,
) -> None:
    """Show the newest events of the journal, of one secret or of all, with reasons and causes.

    Examples:
        rotator audit show
        rotator audit show app-db --limit 100 --json
        rotator audit show --since 30d
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        after = since_when(since, app.clock.now())
        most = limit if limit is not None or after is not None else _NEWEST
        # A secret that has left the configuration still has its events.
        known = [one.name for one in app.journal.secrets()]
        if name is not None and name not in known:
            known = app.names(only=[name])
        names = known if name is None else [name]
        found = [event for one in names for event in app.journal.events(one, most)]
    found = [one for one in found if after is None or one.at >= after]
    events = sorted(found, key=_order)[-(most or len(found) or 1) :]
    call.data["events"] = [{"secret": one.secret, **json_output.of_event(one)} for one in events]
    if not events:
        call.print("The journal holds no events of it yet.")
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
            hint="Download it whole: aws logs tail /aws/lambda/NAME --since 30d --format short > FILE",
        )
    call.data["heads"] = {name: {"seq": one.seq, "hash": one.hash} for name, one in heads.items()}
    for said in ends:
        name, _, text = said.rpartition("=")
        wanted, found = Head.parse(text), heads.get(name)
        if wanted is None or not name:
            raise UsageError(
                f"--end {said!r} is not NAME=SEQ HASH.",
                hint="As the secret's tag rotator-journal has it: --end 'prod/db/app=12 0f3c…'",
            )
        if found != wanted:
            last = "has no event of it" if found is None else f"ends at event {found.seq}"
            report.add(f"secret {name}", f"the log {last}, and its tag says {wanted.seq}")
    audit_report.show(call, report)
    from rotator.backends.aws.aws_driven import HEAD_TAG  # noqa: PLC0415

    call.print(f"The end of each chain; the secret's tag {HEAD_TAG} must say the same:")
    call.print(*(f"  {name}: {one.text()}" for name, one in sorted(heads.items())))


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise UsageError(f"the public key {file} cannot be read ({reason}).") from error


def _seen(file: Path | None) -> list[Anchor]:
    """Return the checkpoints in a witness's file; none is an error, which would prove nothing."""
    from rotator.journal.checkpoints import witnessed  # noqa: PLC0415

    if file is None:
        return []
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            found = witnessed(lines)
    except OSError as error:
        raise UsageError(f"the witness {file} cannot be read ({error.strerror}).") from error
    if not found:
        raise UsageError(
            f"{file} holds no checkpoint.",
            hint="One JSON object a line, with `number` and `hash`: `rotator docs journal-security`, section Witnesses.",
        )
    return found


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
