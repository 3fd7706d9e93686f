"""The pages for reading. Each answers from the view in memory, or by a few queries of the journal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import IO, TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from rotator.core.access import Permission
from rotator.core.errors import UsageError
from rotator.core.incident_timeline import CLOSED, every_timeline
from rotator.core.model import Kind
from rotator.faces import histories
from rotator.faces.web import presenting
from rotator.faces.web.presenting import PER_PAGE, Filter
from rotator.faces.web.rendering import page
from rotator.journal.browsing import Page
from rotator.report.controls import Framework
from rotator.secret_state import ORPHAN, SEVERITY, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from rotator.core.access import Actor
    from rotator.core.consumers import Standing
    from rotator.core.incident_timeline import Timeline
    from rotator.core.leases import LeaseRecord
    from rotator.core.model import Event
    from rotator.faces.web.console import Console
    from rotator.faces.web.live_fleet import View
    from rotator.report.report import Report

_SHOWN: Final = 50
_DAYS: Final = 35
_LONGEST: Final = 200
_MOST_INCIDENTS: Final = 100
# How many events a search in the journal looks at before it answers.
_SEARCHED: Final = 2_000
_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def console_of(request: Request) -> Console:
    """Return the parts that a request is answered with."""
    return request.app.state.console


def actor_of(request: Request) -> Actor:
    """Return who sends a request that is for people who are signed in."""
    return request.scope["principal"].actor


def require_visible(request: Request, name: str) -> None:
    """Answer 404 for a secret that does not exist or that the actor may not see: alike, without an echo."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    is_known = name in console.view.states or name in console.fleet.known
    if not is_known or not (visible is None or name in visible):
        raise HTTPException(404)


# -- now -------------------------------------------------------------------------------------------


def now_page(request: Request) -> Response:
    """Show what needs a person, worst first."""
    console = console_of(request)
    view, visible = console.view, console.visible(actor_of(request))
    now, fleet = console.clock.now(), view.fleet
    attention = [one for one in view.attention if visible is None or one.name in visible]
    counts = counts_of(view, visible)
    left = attention[_SHOWN:]
    daemons = [one for one in fleet.processes if one.face == "daemon"]
    soonest = view.index.soonest
    incidents = [
        one
        for one in fleet.incidents
        if one.state != "proven" and (visible is None or not visible.isdisjoint(one.secrets))
    ]
    return page(
        request,
        "now",
        now=now,
        fleet=fleet,
        total=len(view.names if visible is None else visible),
        counts=[(state, count, _tone_of(state)) for state, count in counts.items()],
        rows=[presenting.row(one, now) for one in attention[:_SHOWN]],
        more=len(left),
        more_states=dict.fromkeys(one.state.value for one in left),
        orphans=fleet.orphans if visible is None else (),
        incidents=len(incidents),
        waiting=console.open_requests(visible),
        alive=[f"{one.face} {one.name}" for one in fleet.processes if one.alive][:3],
        last_daemon=daemons[0] if daemons else None,
        next_due=view.states[soonest] if soonest is not None and visible is None else None,
    )


def counts_of(view: View, visible: frozenset[str] | None) -> dict[str, int]:
    """Return how many of the visible secrets are in which state."""
    if visible is None:
        return {name: count for name, count in view.counts.items() if name != ORPHAN}
    found = dict.fromkeys((state.value for state in State), 0)
    for name in visible & view.states.keys():
        found[view.states[name].state.value] += 1
    return {name: count for name, count in found.items() if count}


def _tone_of(state: str) -> str:
    severity = SEVERITY.get(State(state))
    return {"error": "bad", "warning": "warn"}.get(severity.value if severity else "", "")


# -- secrets ---------------------------------------------------------------------------------------


def filter_of(query: QueryParams) -> Filter:
    """Return which secrets a URL asks for; what no secret can have is left out."""
    known = {state.value for state in State}
    due = query.get("due", "")
    return Filter(
        text=query.get("q", "").strip()[:_LONGEST],
        states=tuple(one for one in query.getlist("state") if one in known),
        target=query.get("target", "")[:_LONGEST],
        tag=query.get("tag", "")[:_LONGEST],
        due=due if _DATE.fullmatch(due) else "",
        behind=query.get("behind") == "1",
    )


def number_of(query: QueryParams, name: str, default: int, most: int = 10**15) -> int:
    """Return a positive number of a URL; the default for anything else."""
    text = query.get(name, "")
    return min(int(text), most) if re.fullmatch(r"[1-9]\d{0,14}", text) else default


def secrets_page(request: Request) -> Response:
    """Show the secrets that match, a page at a time."""
    console = console_of(request)
    view, now = console.view, console.clock.now()
    wanted = filter_of(request.query_params)
    visible = console.visible(actor_of(request))
    names = presenting.chosen(view, visible, wanted)
    last = max(1, -(-len(names) // PER_PAGE))
    number = number_of(request.query_params, "page", 1, last)
    shown = names[(number - 1) * PER_PAGE : number * PER_PAGE]
    return page(
        request,
        "secrets",
        now=now,
        wanted=wanted,
        count=len(names),
        total=len(view.names if visible is None else visible),
        rows=[presenting.row(view.states[name], now) for name in shown],
        number=number,
        last=last,
        states=[state.value for state in State],
        targets=console.settings.targets,
        tags=console.tags,
    )


def secret_page(request: Request) -> Response:
    """Show one secret with its rotations, consumers and proof."""
    name = request.path_params["name"]
    require_visible(request, name)
    console = console_of(request)
    now = console.clock.now()
    history = histories.read(console.journal, name, limit=5, since=None)
    state = console.overview.secret(name)
    entry = console.settings.secrets.get(name)
    reports = console.registry.instances(name)
    return page(
        request,
        "secret",
        now=now,
        row=presenting.row(state, now),
        entry=entry,
        rotations=presenting.rotations(history),
        beside=[*history.led, *history.beside][::-1][:_SHOWN],
        proof=presenting.revoke_proof(history),
        matrix=presenting.version_matrix(entry, state.version, reports),
        **request.app.state.on_secret(request, state, history),
    )


# -- calendar and consumers ------------------------------------------------------------------------


def calendar_page(request: Request) -> Response:
    """Show how many secrets are due on which day."""
    found = calendar_of(request)
    return page(request, "calendar", days=found, count=sum(day.due for day in found))


def calendar_of(request: Request) -> Sequence[presenting.Day]:
    """Return the days of the calendar, for the secrets that the actor may see."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    return presenting.days(console, visible, console.clock.now(), _DAYS)


def consumers_page(request: Request) -> Response:
    """Show which applications use the current version."""
    names = consuming(request)
    size = PER_PAGE // 2
    last = max(1, -(-len(names) // size))
    number = number_of(request.query_params, "page", 1, last)
    rows = list(standings_of(request, names[(number - 1) * size : number * size]))
    return page(request, "consumers", rows=rows, number=number, last=last)


def consuming(request: Request) -> Sequence[str]:
    """Return the visible secrets that declare consumers or have reports, by name."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    found = console.consuming | console.registry.reporting()
    return sorted(name for name in found if visible is None or name in visible)


def standings_of(request: Request, names: Sequence[str]) -> Iterator[tuple[str, Standing]]:
    """Yield how far each consumer of these secrets is."""
    console = console_of(request)
    served = console.registry.served(names)
    for name in names:
        if name in served:
            matrix = presenting.version_matrix(
                console.settings.secrets.get(name), served[name], console.registry.instances(name)
            )
            for standing in matrix.verdict.standings if matrix.verdict is not None else ():
                yield name, standing


# -- leases ----------------------------------------------------------------------------------------


def leases_page(request: Request) -> Response:
    """Show who holds which short-lived login, until when; never its value."""
    found = leases_of(request)
    last = max(1, -(-len(found) // PER_PAGE))
    number = number_of(request.query_params, "page", 1, last)
    rows = found[(number - 1) * PER_PAGE : number * PER_PAGE]
    now = console_of(request).clock.now()
    return page(request, "leases", rows=rows, count=len(found), number=number, last=last, now=now)


def leases_of(request: Request) -> list[LeaseRecord]:
    """Return the open leases of the secrets that the actor may see: those whose end fails first."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    found = [
        one for one in console.journal.leases.open() if visible is None or one.secret in visible
    ]
    return sorted(found, key=lambda one: not one.is_stranded)


# -- incidents -------------------------------------------------------------------------------------


def incidents_page(request: Request) -> Response:
    """Show what happened to leaked passwords."""
    lines = incidents_of(request)
    opened = sum(line.state != CLOSED for line in lines)
    now = console_of(request).clock.now()
    return page(request, "incidents", lines=lines, opened=opened, now=now)


def incidents_of(request: Request) -> list[Timeline]:
    """Return the newest incidents of the secrets that the actor may see: open ones first."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    names = console.agenda.leaked(_MOST_INCIDENTS)
    lines = [
        line
        for line in every_timeline(console.journal, names)
        if visible is None or line.secret in visible
    ]
    oldest = datetime.min.replace(tzinfo=UTC)
    lines.sort(key=lambda line: line.reported_at or oldest, reverse=True)
    lines.sort(key=lambda line: line.state == CLOSED)
    return lines


# -- the journal -----------------------------------------------------------------------------------


def journal_page(request: Request) -> Response:
    """Show the newest events, or those of a search."""
    console, query = console_of(request), request.query_params
    found = search(request)
    wanted = [(key, query.get(key, "")[:_LONGEST]) for key in ("secret", "kind", "q")]
    return page(
        request,
        "journal",
        secret=wanted[0][1],
        kind=wanted[1][1],
        text=wanted[2][1],
        kinds=[kind.value for kind in Kind],
        wanted=[(key, value) for key, value in wanted if value],
        before=number_of(query, "before", 0),
        events=found.events,
        older=found.older,
        damage=found.damage,
        searched=_SEARCHED,
        checkpoint=console.browser.checkpoint(),
    )


def search(request: Request) -> Page:
    """Return the events that a URL asks for, newest first."""
    console, query = console_of(request), request.query_params
    secret, kind = query.get("secret", "").strip(), query.get("kind", "")
    text = query.get("q", "").strip().lower()[:_LONGEST]
    visible = console.visible(actor_of(request))
    # A secret that the actor may not see has no events here, like one that does not exist.
    hidden = bool(secret) and visible is not None and secret not in visible

    def takes(event: Event) -> bool:
        return (
            (visible is None or event.secret in visible)
            and (not kind or event.kind.value == kind)
            and (not text or text in f"{event.actor} {histories.remark(event)}".lower())
        )

    def read(before: int | None) -> Page:
        if hidden:
            return Page(events=())
        if secret:
            return console.browser.of_secret(secret, 100, before)
        return console.browser.newest(100, before)

    return _searched(read, takes, number_of(query, "before", 0) or None)


def _searched(
    read: Callable[[int | None], Page], takes: Callable[[Event], bool], before: int | None
) -> Page:
    found, looked, damage = list["Event"](), 0, None
    while True:
        part = read(before)
        found += [event for event in part.events if takes(event)]
        looked += len(part.events)
        damage, before = damage or part.damage, part.older
        if before is None or len(found) >= _SHOWN or looked >= _SEARCHED:
            return Page(events=found, older=before, damage=damage)


# -- the report ------------------------------------------------------------------------------------


def report_page(request: Request) -> Response:
    """Show the form of a report."""
    return _report_form(request, "")


def _report_form(request: Request, problem: str) -> Response:
    now = console_of(request).clock.now()
    return page(
        request,
        "report",
        status=400 if problem else 200,
        allowed=may_audit(request),
        problem=problem,
        since=(now - timedelta(days=30)).date().isoformat(),
        until=now.date().isoformat(),
        frameworks=[one.value for one in Framework],
    )


def may_audit(request: Request) -> bool:
    """Return whether the actor may have a report: it is over all secrets."""
    console = console_of(request)
    everything = console.visible(actor_of(request)) is None
    return everything and console.may(actor_of(request), Permission.AUDIT)


def report_download(request: Request) -> Response:
    """Write a report of whole days. One at a time: it reads the whole journal."""
    from rotator.report import formats, html_page, pdf, spreadsheet  # noqa: PLC0415 # only here
    from rotator.report.model import Period  # noqa: PLC0415 # as above
    from rotator.report.report import build  # noqa: PLC0415 # as above

    if not may_audit(request):
        raise HTTPException(403)
    console, query = console_of(request), request.query_params
    try:
        since, end = (
            datetime.strptime(query.get(key, ""), "%Y-%m-%d").replace(tzinfo=UTC)
            for key in ("since", "until")
        )
    except ValueError:
        return _report_form(request, "Give two dates, such as 2026-01-31.")
    until = min(end + timedelta(days=1), console.clock.now())
    if since >= until:
        return _report_form(request, "The period must begin before it ends, and not in the future.")
    frameworks = [one for one in Framework if one.value == query.get("framework")]
    form = query.get("format", "html")
    writers: dict[str, tuple[str, Callable[[Report], bytes]]] = {
        "html": ("text/html; charset=utf-8", lambda made: _encoded(html_page.page(made))),
        "json": ("application/json", lambda made: _encoded(formats.json_text(made))),
        "csv": ("text/csv; charset=utf-8", lambda made: _encoded(formats.csv_text(made))),
        "pdf": ("application/pdf", lambda made: _binary(pdf.write, made)),
        "xlsx": (_XLSX, lambda made: _binary(spreadsheet.write, made)),
    }
    kind, write = writers.get(form, writers["html"])
    if not console.reporting.acquire(blocking=False):
        return _report_form(request, "Another report is being written. Try again in a minute.")
    try:
        with build(
            console.journal,
            Period(since=since, until=until),
            frameworks=frameworks,
            managed=console.settings.secrets,
            targets=console.settings.targets,
        ) as made:
            content = write(made)
    except UsageError as error:
        # A package of an extra is missing on the console's machine.
        return _report_form(request, " ".join(filter(None, (error.what, error.hint))))
    finally:
        console.reporting.release()
    name = f"rotator-{since.date()}-{end.date()}.{form if form in writers else 'html'}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)


def _encoded(parts: Iterator[str]) -> bytes:
    return "".join(parts).encode()


def _binary(write: Callable[[Report, IO[bytes]], None], made: Report) -> bytes:
    content = BytesIO()
    write(made, content)
    return content.getvalue()
