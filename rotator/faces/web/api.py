"""The API of the console: what the pages show, as JSON, with an OpenAPI document."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse

from rotator import __version__
from rotator.core.access import Permission
from rotator.faces import answers, histories
from rotator.faces.web import actions, pages, presenting
from rotator.faces.web.pages import actor_of, console_of, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

_ROOT: Final = "/api/v1"
_MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A route of the API. `query`: its parameters with their schema; `shape`: the schema of the answer."""

    path: str
    answer: Callable[[Request], Any]
    summary: str
    needs: Permission | None = Permission.VIEW
    method: str = "GET"
    query: dict[str, dict[str, Any]] = field(default_factory=dict[str, "dict[str, Any]"])
    body: dict[str, Any] | None = None


_TEXT: Final = {"type": "string", "maxLength": 200}
_PAGE: Final = {"type": "integer", "minimum": 1, "default": 1}
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 50}


def endpoints() -> Sequence[Endpoint]:
    """Return every route of the API."""
    return (
        Endpoint(path=f"{_ROOT}/openapi.json", answer=_openapi, summary="This document."),
        Endpoint(
            path=f"{_ROOT}/fleet",
            answer=_fleet,
            summary="Counts of secrets by state, processes, hosts that are unavailable, incidents.",
        ),
        Endpoint(
            path=f"{_ROOT}/secrets",
            answer=_secrets,
            summary="The states of secrets, by name.",
            query={
                "q": _TEXT,
                "state": {"type": "array", "items": {"type": "string"}},
                "target": _TEXT,
                "tag": _TEXT,
                "due": {"type": "string", "format": "date"},
                "behind": {"type": "string", "enum": ["1"]},
                "page": _PAGE,
                "limit": _LIMIT,
            },
        ),
        Endpoint(
            path=f"{_ROOT}/secrets/{{name}}",
            answer=_secret,
            summary="One secret with its newest rotations, and the actions that the actor may request now.",
        ),
        Endpoint(path=f"{_ROOT}/calendar", answer=_calendar, summary="Due secrets by day."),
        Endpoint(
            path=f"{_ROOT}/consumers",
            answer=_consumers,
            summary="How far consumers are, by secret.",
            query={"page": _PAGE, "limit": _LIMIT},
        ),
        Endpoint(
            path=f"{_ROOT}/leases",
            answer=_leases,
            summary="Open leases: who holds which short-lived login, until when; never its value."
            " They are issued and revoked on the command line, not here.",
            query={"secret": _TEXT, "holder": _TEXT, "page": _PAGE, "limit": _LIMIT},
        ),
        Endpoint(path=f"{_ROOT}/incidents", answer=_incidents, summary="Leaked passwords."),
        Endpoint(
            path=f"{_ROOT}/journal",
            answer=_journal,
            summary="Events, newest first.",
            query={
                "secret": _TEXT,
                "kind": _TEXT,
                "q": _TEXT,
                "before": {"type": "integer", "minimum": 1},
            },
        ),
        Endpoint(
            path=f"{_ROOT}/session",
            answer=_session,
            summary="Who is signed in, and the token for changes (header X-CSRF-Token).",
        ),
        Endpoint(path=f"{_ROOT}/requests", answer=_requests, summary="Open and newest requests."),
        Endpoint(
            path=f"{_ROOT}/secrets/{{name}}/requests",
            answer=_request,
            summary="Append a request. `seq`: the number of the secret's newest event, as seen.",
            method="POST",
            body={
                "type": "object",
                "required": ["action", "reason", "seq"],
                "properties": {
                    "action": {"type": "string", "enum": list(actions.ACTIONS)},
                    "reason": {"type": "string", "minLength": 1, "maxLength": 1000},
                    "seq": {"type": "integer", "minimum": 0},
                    "confirm": {
                        "type": "string",
                        "description": "The secret's name, for `revoke-now`, `kill` and `break_glass`.",
                    },
                    "break_glass": {
                        "type": "boolean",
                        "description": "Without the approvals that rules want. Needs the role breaker.",
                    },
                },
            },
        ),
        Endpoint(
            path=f"{_ROOT}/requests/{{id}}/{{decision}}",
            answer=_decide,
            summary="Approve or refuse a request: `decision` is `approve` or `refuse`.",
            method="POST",
            body={
                "type": "object",
                "required": ["reason"],
                "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 1000}},
            },
        ),
    )


def answer(data: dict[str, Any], *, status: int = 200) -> Response:
    """Return data as JSON: times in UTC, secrets masked."""
    return JSONResponse(answers.plain(data), status_code=status)


def _fleet(request: Request) -> Response:
    console = console_of(request)
    visible = console.visible(actor_of(request))
    fleet = console.view.fleet
    found = answers.of_fleet(presenting.without_secrets(fleet, visible))
    del found["secrets"]
    found["totals"] = pages.counts_of(console.view, visible)
    return answer(found)


def _secrets(request: Request) -> Response:
    console = console_of(request)
    view, query = console.view, request.query_params
    names = presenting.chosen(view, console.visible(actor_of(request)), pages.filter_of(query))
    number, limit = number_of(query, "page", 1), number_of(query, "limit", 50, _MOST)
    now = console.clock.now()
    shown = names[(number - 1) * limit : number * limit]
    rows = [answers.of_state(presenting.row(view.states[name], now).state) for name in shown]
    return answer({"count": len(names), "page": number, "secrets": rows})


def _secret(request: Request) -> Response:
    name = request.path_params["name"]
    pages.require_visible(request, name)
    console = console_of(request)
    history = histories.read(console.journal, name, limit=5, since=None)
    state = console.overview.secret(name)
    proof = presenting.revoke_proof(history)
    return answer(
        {
            "state": answers.of_state(state),
            "actions": [one.value for one in actions.on_secret(request, state, history)["actions"]],
            "history": histories.data(history),
            "revoke_proof": None
            if proof is None
            else {
                "login": proof.login,
                "at": proof.at,
                "refused": proof.refused,
                "seq": proof.seq,
                "hash": proof.hash,
            },
        }
    )


def _calendar(request: Request) -> Response:
    rows = [
        {"date": day.date.date().isoformat(), "due": day.due, "open_hours": day.hours}
        for day in pages.calendar_of(request)
    ]
    return answer({"days": rows})


def _consumers(request: Request) -> Response:
    query, names = request.query_params, pages.consuming(request)
    number, limit = number_of(query, "page", 1), number_of(query, "limit", 50, _MOST)
    rows = [
        {
            "secret": name,
            "consumer": one.consumer,
            "expected": one.expected,
            "acknowledged": one.acknowledged,
            "behind": list(one.behind),
            "gate": one.gate,
            "complete": one.is_complete,
        }
        for name, one in pages.standings_of(request, names[(number - 1) * limit : number * limit])
    ]
    return answer({"count": len(names), "page": number, "consumers": rows})


def _leases(request: Request) -> Response:
    query = request.query_params
    secret, holder = query.get("secret"), query.get("holder")
    found = [
        one
        for one in pages.leases_of(request)
        if secret in (None, one.secret) and holder in (None, one.holder)
    ]
    number, limit = number_of(query, "page", 1), number_of(query, "limit", 50, _MOST)
    shown = found[(number - 1) * limit : number * limit]
    rows = [answers.of_lease(one) for one in shown]
    return answer({"count": len(found), "page": number, "leases": rows})


def _incidents(request: Request) -> Response:
    lines = pages.incidents_of(request)
    return answer({"incidents": [answers.of_timeline(line, events=False) for line in lines]})


def _journal(request: Request) -> Response:
    found = pages.search(request)
    rows = [{"secret": one.secret, **answers.of_event(one)} for one in found.events]
    return answer({"events": rows, "older": found.older, "damage": found.damage})


def _session(request: Request) -> Response:
    principal, console = request.scope["principal"], console_of(request)
    roles = list(console.access.roles(principal.actor))
    return answer(
        {
            "actor": principal.actor.as_data(),
            "roles": roles,
            "token": principal.token,
            "expires": principal.expires,
        }
    )


def _requests(request: Request) -> Response:
    return answer({"requests": actions.api_requests(request)})


def _request(request: Request) -> Response:
    return answer(actions.api_request(request), status=201)


def _decide(request: Request) -> Response:
    return answer(actions.api_decide(request))


def _openapi(request: Request) -> Response:
    _ = request
    return JSONResponse(document())


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints():
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Web console of rotator",
            "version": __version__,
            "description": "Sign in at /sign-in: the API uses the session's cookie. It returns no secret"
            " value.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "rotator"},
            },
            "schemas": {"Problem": _PROBLEM},
        },
        "security": [{"session": []}],
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["status", "what"],
            "properties": {
                "status": {"type": "integer"},
                "what": {"type": "string"},
                "hint": {"type": ["string", "null"]},
            },
        }
    },
}


def _operation(one: Endpoint) -> dict[str, Any]:
    problem = {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    }
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in one.query.items()
    ]
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]
    responses: dict[str, Any] = {
        ("200" if one.method == "GET" or "decision" in one.path else "201"): {
            "description": "The answer.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "401": {"description": "Nobody is signed in.", **problem},
        "403": {"description": "The roles of the actor do not allow it.", **problem},
        "503": {"description": "The journal does not answer.", **problem},
    }
    if one.method != "GET":
        responses["400"] = {"description": "Not done, and why.", **problem}
        responses["409"] = {"description": "The secret has changed since.", **problem}
    if "{" in one.path:
        responses["404"] = {"description": "Unknown, or not visible to the actor.", **problem}
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method.lower()}{one.path.replace('/', '_').replace('{', '').replace('}', '').replace('.', '_')}",
        "parameters": parameters,
        "responses": responses,
    }
    if one.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": one.body}},
        }
    return found
