"""Signing in and out."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from rotator.core.access import Actor
from rotator.core.secret import Secret
from rotator.faces.web.guard import address_of
from rotator.faces.web.pages import console_of
from rotator.faces.web.rendering import page
from rotator.faces.wording import span

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from rotator.faces.web.guard import Origin

_NONCE = "sign-in"
_NONCE_LASTS = 3600


def sign_in_page(request: Request) -> Response:
    """Show the form."""
    if request.scope["principal"] is not None:
        return RedirectResponse("/", status_code=303)
    return sign_in_form(request)


async def sign_in(request: Request) -> Response:
    """Check a name and a password, and begin a session."""
    console, form = console_of(request), request.scope.get("form", {})
    name, address = str(form.get("name", ""))[:64], address_of(request.scope)
    wait = console.throttle.wait(address, name)
    if wait is not None:
        headers = {"retry-after": str(int(wait.total_seconds()) + 1)}
        what = f"Too many failed attempts. Try again in {span(wait)}."
        return sign_in_form(request, what, status=429, headers=headers)
    password = Secret(str(form.get("password", "")))
    # Counted before it is checked, so that tries at the same time are counted too.
    console.throttle.failed(address, name)
    user = await run_in_threadpool(console.users.signed_in, name, password)
    if user is None:
        console.log.warning("sign-in failed", address=address)
        return sign_in_form(request, "The user name or the password is wrong.", status=401)
    console.throttle.succeeded(address, name)
    actor = Actor(
        subject=user.name, method="password", face="web", host=address, groups=user.groups
    )
    return begin_session(request, actor)


def begin_session(request: Request, actor: Actor) -> Response:
    """Begin a session and lead to the first page."""
    console, origin = console_of(request), origin_of(request)
    console.log.info("signed in", user=actor.subject, method=actor.method, address=actor.host)
    old = request.scope["cookies"].get(origin.cookie)
    if old:
        console.sessions.end(old)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        origin.cookie,
        console.sessions.begin(actor),
        max_age=int(console.web.session.total_seconds()),
        secure=origin.is_secure,
        httponly=True,
        samesite="strict",
    )
    response.delete_cookie(
        _NONCE, path="/sign-in", secure=origin.is_secure, httponly=True, samesite="strict"
    )
    return response


def sign_out(request: Request) -> Response:
    """End the session, or with `everywhere` every session of this user."""
    console, origin = console_of(request), origin_of(request)
    id_ = request.scope["cookies"].get(origin.cookie)
    if "everywhere" in request.scope.get("form", {}) and request.scope["principal"] is not None:
        console.sessions.end_all(request.scope["principal"].actor)
    elif id_:
        console.sessions.end(id_)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(origin.cookie, secure=origin.is_secure, httponly=True, samesite="strict")
    return response


def origin_of(request: Request) -> Origin:
    """Return by which URL browsers reach the console."""
    return request.app.state.origin


def sign_in_form(
    request: Request, problem: str = "", *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return the form, with what went wrong."""
    console = console_of(request)
    nonce = request.scope["cookies"].get(_NONCE) or secrets.token_urlsafe(24)
    response = page(
        request,
        "sign_in",
        status=status,
        headers=headers,
        problem=problem,
        token=console.sessions.token_of(f"sign-in {nonce}"),
        oidc=console.web.oidc is not None,
        local=console.has_local_users(),
    )
    response.set_cookie(
        _NONCE,
        nonce,
        max_age=_NONCE_LASTS,
        path="/sign-in",
        secure=origin_of(request).is_secure,
        httponly=True,
        samesite="strict",
    )
    return response
