"""The routes of the console, each with the permission that it needs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rotator.core.access import Permission
from rotator.core.errors import JournalError, NoKey, NotPermitted, RotatorError
from rotator.core.secret import scrub
from rotator.core.traceback_frames import forget_variables
from rotator.faces.web import actions, api, oidc, pages, sign_in
from rotator.faces.web.guard import Guard, Origin
from rotator.faces.web.live import Streams
from rotator.faces.web.rendering import page

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from rotator.faces.web.console import Console

_STATIC: Final = Path(__file__).parent / "static"
_TITLES: Final = {
    403: ("Not permitted", "Your roles do not allow this."),
    401: ("Not signed in", "Sign in first."),
    409: ("Changed", "The secret has changed since. Nothing was requested."),
    404: ("Not found", "There is no such page or secret, or your roles do not show it."),
    405: ("Not possible", "This address does not accept that method."),
    429: ("Too many", "Close some of your open pages."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A route. `needs`: what its actor must be allowed over some secret; None where anybody may."""

    path: str
    answer: Callable[[Request], Any]
    needs: Permission | None = Permission.VIEW
    method: str = "GET"


def rules(streams: Streams) -> Sequence[Rule]:
    """Return every route."""
    return (
        Rule(path="/sign-in", answer=sign_in.sign_in_page, needs=None),
        Rule(path="/sign-in", answer=sign_in.sign_in, needs=None, method="POST"),
        Rule(path="/sign-in/oidc", answer=oidc.start, needs=None),
        Rule(path="/sign-in/oidc/callback", answer=oidc.finish, needs=None),
        Rule(path="/healthz", answer=_health, needs=None),
        Rule(path="/sign-out", answer=sign_in.sign_out, method="POST"),
        Rule(path="/", answer=pages.now_page),
        Rule(path="/secrets", answer=pages.secrets_page),
        Rule(path="/secrets/{name}", answer=pages.secret_page),
        Rule(path="/calendar", answer=pages.calendar_page),
        Rule(path="/consumers", answer=pages.consumers_page),
        Rule(path="/leases", answer=pages.leases_page),
        Rule(path="/incidents", answer=pages.incidents_page),
        Rule(path="/secrets/{name}/request/{action}", answer=actions.form_page),
        Rule(path="/secrets/{name}/request/{action}", answer=actions.submit, method="POST"),
        Rule(path="/requests", answer=actions.requests_page),
        Rule(path="/requests/{id}/{decision}", answer=actions.decide, method="POST"),
        Rule(path="/journal", answer=pages.journal_page),
        Rule(path="/report", answer=pages.report_page),
        Rule(path="/report/download", answer=pages.report_download, needs=Permission.AUDIT),
        Rule(path="/events", answer=streams.events),
        *(
            Rule(path=one.path, answer=one.answer, needs=one.needs, method=one.method)
            for one in api.endpoints()
        ),
    )


def build(console: Console) -> ASGIApp:
    """Return the console as an ASGI application."""
    origin = Origin(console.web)

    @asynccontextmanager
    async def living(_app: Starlette) -> AsyncGenerator[None]:
        console.fleet.start()
        yield

    app = Starlette(
        routes=[
            *(Route(one.path, _endpoint(one), methods=[one.method]) for one in rules(Streams())),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        exception_handlers={
            HTTPException: _http_error,
            RotatorError: _rotator_error,
            Exception: _bug,
        },
        lifespan=living,
    )
    app.state.console, app.state.origin = console, origin
    app.state.on_secret = actions.on_secret
    app.state.oidc = oidc.Oidc(console, origin)
    return Guard(app, console, origin)


def _endpoint(rule: Rule) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        if rule.needs is not None:
            principal = request.scope["principal"]
            if principal is None:
                if _is_api(request):
                    raise HTTPException(401)
                if rule.method != "GET":
                    raise HTTPException(403)
                return RedirectResponse("/sign-in", status_code=303)
            is_own = rule.path == "/sign-out"
            if not is_own and not pages.console_of(request).may(principal.actor, rule.needs):
                raise HTTPException(403)
        if iscoroutinefunction(rule.answer):
            return await rule.answer(request)
        return await run_in_threadpool(rule.answer, request)

    return answer


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _health(request: Request) -> Response:
    """Answer whether the console can read the journal."""
    silent = pages.console_of(request).fleet.silent_since is not None
    text = "the journal does not answer" if silent else "ok"
    return PlainTextResponse(f"{text}\n", status_code=503 if silent else 200)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    title, what = _TITLES.get(status, ("Error", "The request cannot be answered."))
    headers = getattr(error, "headers", None)
    return _problem(request, status, title, what, headers=headers)


async def _rotator_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RotatorError)  # noqa: S101 # it handles only these
    status, title = 400, "Not done"
    if isinstance(error, NoKey):
        status, title = 403, "This console only reads"
    elif isinstance(error, JournalError):
        status, title = 503, "The journal does not answer"
    elif isinstance(error, NotPermitted):
        status, title = 403, "Not permitted"
    what = " ".join(part for part in (error.what, error.safety) if part)
    return _problem(request, status, title, scrub(what), hint=scrub(error.hint or ""))


async def _bug(request: Request, error: Exception) -> Response:
    forget_variables(error)
    pages.console_of(request).log.error("bug", what=type(error).__name__, path=request.url.path)
    return _problem(request, 500, "rotator has a bug", "The request cannot be answered.")


def _problem(
    request: Request, status: int, title: str, what: str, *, hint: str = "", headers: Any = None
) -> Response:
    if _is_api(request):
        body = {"error": {"status": status, "what": what, "hint": hint or None}}
        return JSONResponse(body, status_code=status, headers=headers)
    given = {"title": title, "what": what, "hint": hint}
    return page(request, "problem", status=status, headers=headers, **given)
