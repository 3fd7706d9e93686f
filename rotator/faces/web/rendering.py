"""Renders templates: everything is escaped, made printable, and free of secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from rotator import __version__
from rotator.core.printable import printable
from rotator.core.secret import scrub
from rotator.faces import wording
from rotator.faces.histories import remark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from rotator.faces.web.sessions import Principal

_PAGES: Final = (
    ("Now", "/", "now"),
    ("Secrets", "/secrets", "secrets"),
    ("Calendar", "/calendar", "calendar"),
    ("Consumers", "/consumers", "consumers"),
    ("Leases", "/leases", "leases"),
    ("Incidents", "/incidents", "incidents"),
    ("Requests", "/requests", "requests"),
    ("Journal", "/journal", "journal"),
    ("Report", "/report", "report"),
)


def _harmless(value: object) -> object:
    """Return a value as a template writes it: text of others has no control characters."""
    if isinstance(value, Markup):
        return value
    return printable(value, lines=True) if isinstance(value, str) else value


def _in_path(text: object) -> str:
    return quote(str(text), safe="")


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("rotator.faces.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
        auto_reload=False,
    )
    cast("dict[str, Any]", made.filters).update(
        {
            "at": wording.at,
            "hint_parts": wording.hint_parts,
            "span": wording.span,
            "path": _in_path,
            "query": urlencode,
        }
    )
    cast("dict[str, Any]", made.globals).update(
        {
            "relative": wording.relative,
            "plural": wording.plural,
            "remark": remark,
            "pages": _PAGES,
            "version": __version__,
        }
    )
    return made


_ENVIRONMENT: Final = _environment()


def page(
    request: Request,
    name: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """Return a page. `values`: what its template uses."""
    principal: Principal | None = request.scope.get("principal")
    given = {
        "principal": principal,
        "url": _here(request),
        "silent_since": request.app.state.console.fleet.silent_since,
        **values,
    }
    html = _ENVIRONMENT.get_template(f"{name}.html").render(page=name, **given)
    return HTMLResponse(scrub(html), status_code=status, headers=dict(headers or {}))


def _here(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path
