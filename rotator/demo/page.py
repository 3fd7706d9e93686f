"""The demo's last page, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rotator.demo.leak import LeakReport
    from rotator.demo.report import ClientReport, DemoReport, Scene


def scene_line(scene: Scene) -> Text:
    """Return one scene as a line."""
    mark = Text("✓ ", style="green") if scene.ok else Text("✗ ", style="bold red")
    return Text.assemble(
        mark, (scene.title, "bold"), f"  {scene.seconds:.1f} s\n  ", (scene.said, "dim")
    )


def page(report: DemoReport) -> RenderableType:
    """Return what happened, in numbers."""
    clients = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("strategy", "logins", "refused", "longest gap"):
        clients.add_column(heading, justify="left" if heading == "strategy" else "right")
    for one in report.clients:
        clients.add_row(one.strategy, str(one.logins), _failures(one), _gap(one))
    facts = Table.grid(padding=(0, 2))
    facts.add_row(str(report.rotations), "rotations published")
    facts.add_row(
        f"{report.old_refused}/{report.old_revoked}",
        "old credentials tried after revoke, and refused",
    )
    facts.add_row(str(report.resumed), "rotation killed by SIGKILL and finished by `resume`")
    facts.add_row(str(report.rolled_back), "rolled back during its grace period")
    facts.add_row(str(report.undone), "candidate refused before publish, and undone")
    facts.add_row(str(len(report.orphans)), "logins left behind")
    facts.add_row(
        "yes" if report.password_in_server_log else "no", "password in the server's own log"
    )
    verdict = "verified" if report.audit_ok else "NOT AS IT WAS WRITTEN"
    facts.add_row(
        str(report.audit_events), f"events in the journal, hash-chained and signed: {verdict}"
    )
    closing = (
        Text("Nobody was locked out. ", style="bold green")
        if report.ok
        else Text("Something did not go as it must. ", style="bold red")
    )
    return Group(
        Text(),
        Text("The application, which never stopped logging in", style="bold"),
        clients,
        Text("single-user has no overlap: its gap is what the strategy costs.", style="dim"),
        Text(),
        Text("The rotations", style="bold"),
        facts,
        Text(),
        Text.assemble(closing, f"{report.server}, {report.seconds:.0f} s. Next: rotator init"),
    )


def leak_page(report: LeakReport) -> RenderableType:
    """Return how the chapter on a leaked password ended."""
    closing = (
        Text("The leaked password is worth nothing. ", style="bold green")
        if report.ok
        else Text("Something did not go as it must. ", style="bold red")
    )
    following = "Next: rotator docs leaked-password"
    return Group(
        Text(), Text.assemble(closing, f"{report.server}, {report.seconds:.0f} s. {following}")
    )


def _failures(one: ClientReport) -> Text:
    if one.failures == 0:
        return Text("0", style="green")
    return Text(str(one.failures), style="yellow" if one.strategy == "single-user" else "bold red")


def _gap(one: ClientReport) -> str:
    return f"{one.longest_gap * 1000:.0f} ms" if one.longest_gap else "none"
