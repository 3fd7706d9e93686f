"""The result of `rotator audit verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.faces.cli import exit_codes
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.render.console import indented
from rotator.faces.wording import plural

if TYPE_CHECKING:
    from rotator.journal.report import AuditReport

# Maximum number of secrets that are listed as not compared.
_MOST_UNREAD: Final = 20


def show(call: Invocation, report: AuditReport) -> None:
    """Add a report to the answer and print it."""
    call.data |= {
        "ok": report.ok,
        "events": report.events,
        "secrets": report.secrets,
        "rotations": report.rotations,
        "checkpoints": report.checkpoints,
        "signatures_checked": report.signatures,
        "authenticated": report.authenticated,
        "events_after_last_checkpoint": report.unsigned_events,
        "damage": [{"where": one.where, "what": one.what} for one in report.damage],
        "not_compared": [{"where": one.where, "what": one.what} for one in report.unread],
        "key_rotations": [
            {
                "checkpoint": one.number,
                "at": one.at,
                "before": one.previous,
                "key": one.key,
                "leaked": one.leaked,
            }
            for one in report.handovers
        ],
        "acknowledged": [
            {"where": one.where, "what": one.what, "reason": why}
            for one, why in report.acknowledged
        ],
    }
    size = (
        f"{plural(report.events, 'event')} of {plural(report.secrets, 'secret')}, "
        f"{plural(report.checkpoints, 'checkpoint')}"
    )
    if report.ok:
        call.print(Text.assemble(call.screen.sign("good"), f" The journal is intact: {size}."))
    else:
        places = plural(len(report.damage), "place")
        head = f" The journal is DAMAGED: {places} in {size}."
        call.print(Text.assemble(call.screen.sign("bad"), head))
        call.print(
            *(
                indented(Text.assemble((one.where, "bold"), f": {one.what}"))
                for one in report.damage
            )
        )
        call.add_code(exit_codes.FAILED)
        if all(one.restore is not None for one in report.damage):
            hint = "If you restored a backup: rotator audit acknowledge --reason WHY"
            call.print(indented(Text.assemble(("Next: ", "bold"), hint)))
    if report.unread:
        head = f" {plural(len(report.unread), 'secret')} not compared with the backend:"
        call.print(Text.assemble(call.screen.sign("bad"), head))
        call.print(
            *(
                indented(Text.assemble((one.where, "bold"), f": {one.what}"))
                for one in report.unread[:_MOST_UNREAD]
            )
        )
        if len(report.unread) > _MOST_UNREAD:
            call.print(
                indented(f"and {len(report.unread) - _MOST_UNREAD} more: use --json for all.")
            )
        if report.ok:
            call.add_code(exit_codes.STUCK)
    for one, why in report.acknowledged:
        call.print(indented(Text(f"acknowledged ({why}): {one.where}: {one.what}")))
    for one in report.handovers:
        leak = f"; {one.previous} LEAKED, do not verify with it" if one.leaked else ""
        call.print(
            indented(
                f"signing key {one.previous} was replaced by {one.key} at checkpoint {one.number}{leak}"
            )
        )
    if not report.signatures:
        call.print(
            indented(
                "Signatures were not verified, because there is no public key: --public-key FILE"
            )
        )
    elif not report.authenticated:
        call.print(
            indented("The newest events were not authenticated: that needs the signing key.")
        )
    elif report.unsigned_events:
        call.print(
            indented(
                f"{plural(report.unsigned_events, 'event')} after the last checkpoint: not signed yet."
            )
        )
