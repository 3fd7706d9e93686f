"""consumers: which applications use the current version of a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rotator.core.consumers import READ_NEXT
from rotator.core.errors import RotatorError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Names, Tags
from rotator.faces.cli.render.console import indented, table
from rotator.faces.wording import relative

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.core.consumers import ReportedInstance, Verdict

app = typer.Typer()


@command(app, "consumers", Panel.INSPECT)
def consumers(
    ctx: typer.Context,
    names: Names = None,
    *,
    tags: Tags = None,
    behind: Annotated[
        bool, typer.Option("--behind", help="Show only secrets with a consumer that is behind.")
    ] = False,
) -> None:
    """Show which applications use the current version of a secret, and which are behind.

    Without a name, of all secrets that declare consumers or have reports. An application counts by the
    reports of its instances of the last five minutes, and by the version marks in the target's sessions.

    Examples:
        rotator consumers
        rotator consumers app-db
        rotator consumers --behind
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        instances = _by_secret(opened.consumers.instances())
        chosen = opened.names(only=names or (), tags=tags or (), everything=not (names or tags))
        found: list[dict[str, Any]] = []
        for name in chosen:
            declared = opened.settings.secrets[name].consumers
            if not (names or declared or name in instances):
                continue
            verdict = _verdict(call, opened, name)
            following = opened.engine.prepared(opened.secret(name))
            is_behind = any(one is not None and _is_behind(one) for one in (verdict, following))
            if behind and not is_behind:
                continue
            listed = instances.get(name, [])
            found.append(_data(name, verdict, following, listed))
            _show(call, opened, name, verdict, following, listed)
        call.data["secrets"] = found
        if not found:
            call.print("No secret declares consumers, or all of them are on the current version.")


def _by_secret(instances: list[ReportedInstance]) -> dict[str, list[ReportedInstance]]:
    found: dict[str, list[ReportedInstance]] = {}
    for one in instances:
        found.setdefault(one.report.secret, []).append(one)
    return found


def _verdict(call: Invocation, opened: App, name: str) -> Verdict | None:
    """Return where the consumers are. A target that cannot be asked is reported, and ends nothing."""
    try:
        return opened.engine.consumers(opened.secret(name))
    except RotatorError as error:
        error.secret = error.secret or name
        call.fail(error)
        return None


def _is_behind(verdict: Verdict) -> bool:
    return any(not one.is_complete for one in verdict.standings)


def _data(
    name: str, verdict: Verdict | None, following: Verdict | None, listed: list[ReportedInstance]
) -> dict[str, Any]:
    return {
        "secret": name,
        **(verdict.facts() if verdict is not None else {"version": None, "consumers": []}),
        "next": following.facts() if following is not None else None,
        "instances": [
            {
                "consumer": one.report.consumer,
                "instance": one.report.instance,
                "kind": one.report.kind.value,
                "version": one.report.version,
                "level": one.report.level.value,
                "at": one.at.isoformat(),
            }
            for one in listed
        ],
    }


def _show(
    call: Invocation,
    opened: App,
    name: str,
    verdict: Verdict | None,
    following: Verdict | None,
    listed: list[ReportedInstance],
) -> None:
    version = f"version {verdict.version}" if verdict is not None else "not rotated or adopted yet"
    call.print(Text.assemble((name, "bold"), f"  {version}"))
    for one in verdict.standings if verdict is not None else ():
        sign = call.screen.sign("good" if one.is_complete else "warn")
        undeclared = "" if one.expected else " (not declared)"
        call.print(indented(Text.assemble(sign, f" {one.line()}{undeclared}")))
    for one in following.standings if following is not None else ():
        sign = call.screen.sign("good" if one.is_complete else "warn")
        call.print(indented(Text.assemble(sign, f" {one.line(READ_NEXT)}")))
    now = opened.clock.now()
    rows = [
        (
            one.report.consumer,
            one.report.instance,
            one.report.kind.value,
            one.report.version,
            one.report.level.value,
            relative(one.at, now),
        )
        for one in listed
    ]
    if rows:
        head = ("consumer", "instance", "kind", "version", "level", "reported")
        call.print(indented(table(call.screen, head, rows)))
    call.print("")
