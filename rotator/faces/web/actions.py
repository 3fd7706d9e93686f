"""What a person can request in the console. A daemon acts on requests: the console itself does nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from rotator.core.access import Permission
from rotator.core.errors import JournalError, NoKey, UsageError
from rotator.core.requests import GLASS, OPEN_STATES
from rotator.faces import histories
from rotator.faces.web import presenting
from rotator.faces.web.pages import actor_of, console_of, require_visible
from rotator.faces.web.rendering import page
from rotator.faces.wording import at, plural
from rotator.secret_state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from rotator.core.model import Event, Json
    from rotator.core.requests import Request
    from rotator.faces.histories import History
    from rotator.faces.web.console import Console
    from rotator.secret_state import SecretState

_RECENT: Final = 30
_MOST_SESSIONS: Final = 20
_UNCHANGED: Final = "Nothing was requested."


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that can be requested. A dangerous one wants the secret's name typed."""

    permission: Permission
    label: str
    title: str
    command: str
    is_dangerous: bool = False
    options: Mapping[str, Json] = field(default_factory=dict[str, "Json"])

    @property
    def value(self) -> str:
        """Its name in a URL."""
        return self.permission.value


ACTIONS: Final = {
    one.value: one
    for one in (
        Action(
            permission=Permission.ROTATE,
            label="Rotate",
            title="Rotate",
            command="rotator rotate NAME --reason WHY",
        ),
        Action(
            permission=Permission.ROLLBACK,
            label="Roll back",
            title="Roll back",
            command="rotator rollback NAME --reason WHY",
        ),
        Action(
            permission=Permission.REVOKE,
            label="Revoke the old login now",
            title="Revoke the old login of",
            command="rotator revoke NAME --reason WHY",
            is_dangerous=True,
        ),
        Action(
            permission=Permission.PARK,
            label="Park",
            title="Park",
            command="rotator park NAME --reason WHY",
        ),
        Action(
            permission=Permission.UNPARK,
            label="Unpark",
            title="Unpark",
            command="rotator unpark NAME --reason WHY",
        ),
        Action(
            permission=Permission.INCIDENT,
            label="Report a leak",
            title="Report a leaked password of",
            command="rotator incident open NAME --mode move --reason WHY",
            options={"mode": "move"},
        ),
        Action(
            permission=Permission.KILL,
            label="Kill the leaked password",
            title="Make the password invalid at once:",
            command="rotator incident open NAME --mode kill --reason WHY",
            is_dangerous=True,
            options={"mode": "kill"},
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request as a page shows it."""

    id: str
    secret: str
    verb: str
    by: str
    reason: str
    at: datetime
    state: str
    is_open: bool
    missing: int
    breaks_glass: bool
    expires: datetime
    approvals: Sequence[tuple[str, str]]
    can_approve: bool
    can_refuse: bool
    end: str


# -- what is possible ------------------------------------------------------------------------------


def possible(console: Console, state: SecretState, history: History) -> list[Action]:
    """Return what makes sense for a secret as it is now."""
    _ = console
    manageable = state.state not in (State.RETIRED, State.FORGOTTEN)
    fits = {
        Permission.ROTATE: manageable and state.open_rotation is None and state.parked is None,
        Permission.ROLLBACK: presenting.can_roll_back(state, history),
        Permission.REVOKE: state.open_rotation is not None
        and state.state in (State.GRACE, State.DRAINING),
        Permission.PARK: manageable and state.parked is None,
        Permission.UNPARK: state.parked is not None,
        Permission.INCIDENT: manageable and state.version is not None,
        Permission.KILL: manageable and state.version is not None,
    }
    return [one for one in ACTIONS.values() if fits[one.permission]]


def on_secret(request: HttpRequest, state: SecretState, history: History) -> dict[str, Any]:
    """Return what the page of a secret shows of actions: those that the actor may request."""
    console, actor = console_of(request), actor_of(request)
    actions = [
        one
        for one in possible(console, state, history)
        if console.may(actor, one.permission, state.name)
    ]
    can_request = console.can_request()
    return {
        "actions": actions if can_request else [],
        "only_reads": bool(actions) and not can_request,
        "open_requests": [
            _view(request, one) for one in console.requests.open() if one.secret == state.name
        ],
    }


# -- requesting ------------------------------------------------------------------------------------


def form_page(request: HttpRequest) -> Response:
    """Show what an action costs, and ask for a reason."""
    name, action = _named(request)
    _require_key(console_of(request))
    return _form(request, name, action)


def submit(request: HttpRequest) -> Response:
    """Append a request, if nothing has changed since the form was shown."""
    name, action = _named(request)
    _require_key(console_of(request))
    given: Mapping[str, str] = request.scope.get("form", {})
    problem = _why_not(request, name, action, given)
    if problem is not None:
        return problem
    try:
        _ = _ask(request, name, action, given.get("reason", ""), break_glass=GLASS in given)
    except UsageError as error:
        return _form(request, name, action, problem=error.what, reason=given.get("reason", ""))
    return RedirectResponse("/requests", status_code=303)


def _why_not(
    request: HttpRequest, name: str, action: Action, given: Mapping[str, str]
) -> Response | None:
    """Return the page that says why nothing is requested; None where it can be."""
    changes = _changes(console_of(request), name, given.get("seq", ""))
    if changes is not None:
        return _form(request, name, action, status=409, changes=changes)
    reason = given.get("reason", "")
    if not reason.strip():
        return _form(request, name, action, status=400, problem="A reason is required.")
    if (action.is_dangerous or GLASS in given) and given.get("name", "") != name:
        problem = "Type the name of the secret exactly as it is shown."
        return _form(request, name, action, status=400, problem=problem, reason=reason)
    return None


def _ask(
    request: HttpRequest, name: str, action: Action, reason: str, *, break_glass: bool
) -> Request:
    return console_of(request).requests.ask(
        action.permission,
        name,
        actor=actor_of(request),
        reason=reason.strip(),
        options=action.options,
        break_glass=break_glass,
    )


def _named(request: HttpRequest) -> tuple[str, Action]:
    name, action = request.path_params["name"], ACTIONS.get(request.path_params["action"])
    require_visible(request, name)
    if action is None:
        raise HTTPException(404)
    _require(request, action, name)
    return name, action


def _require(request: HttpRequest, action: Action, name: str) -> None:
    """Refuse who may not; the attempt is recorded, where the console has a key for that."""
    console, actor = console_of(request), actor_of(request)
    if console.may(actor, action.permission, name):
        return
    try:
        console.requests.require(actor, action.permission, name)
    except JournalError as error:
        what = f"not recorded: {error.what}"
        console.log.warning("denied", secret=name, by=str(actor), what=what)
        raise HTTPException(403) from error


def _require_key(console: Console) -> None:
    """Raise `NoKey` where no engine would accept a request of this console."""
    if not console.can_request():
        raise NoKey(
            "this console only reads: it has no key of its own, so no engine would accept its requests.",
            safety=_UNCHANGED,
            hint="On the console's machine: rotator keygen FILE\n"
            "Name that file in `requests.key`, add its public half to `requests.writers` of the console and of all"
            " engines, then restart the console. Until then, use the command line. See: rotator docs web-console",
        )


def _changes(console: Console, name: str, seq: str) -> Sequence[Event] | None:
    """Return the events since a form was shown, newest first; None where there are none."""
    found = console.browser.records([name]).get(name)
    newest = found.seq if found is not None else 0
    if seq == str(newest):
        return None
    since = int(seq) if seq.isdecimal() and len(seq) < 10 else 0  # noqa: PLR2004 # no chain is longer
    return [one for one in console.browser.of_secret(name, _RECENT).events if one.seq > since]


def _form(
    request: HttpRequest,
    name: str,
    action: Action,
    *,
    status: int = 200,
    problem: str = "",
    reason: str = "",
    changes: Sequence[Event] | None = None,
) -> Response:
    console = console_of(request)
    history = histories.read(console.journal, name, limit=5, since=None)
    state = console.overview.secret(name)
    record = console.browser.records([name]).get(name)
    rules = console.access.rules_for(action.permission, console.subject(name))
    return page(
        request,
        "action",
        status=400 if problem and status == 200 else status,  # noqa: PLR2004 # a page that is shown again
        now=console.clock.now(),
        row=presenting.row(state, console.clock.now()),
        action=action,
        command=action.command.replace("NAME", name),
        is_possible=action in possible(console, state, history),
        prices=list(_prices(console, action, state)),
        sessions=[one.line() for one in state.sessions[:_MOST_SESSIONS]],
        behind=[one.line() for one in state.consumers_behind[:_MOST_SESSIONS]],
        approvals=max((rule.by for rule in rules), default=0),
        may_break_glass=bool(rules)
        and console.may(actor_of(request), Permission.BREAK_GLASS, name),
        seq=record.seq if record is not None else 0,
        problem=problem,
        reason=reason,
        changes=changes,
    )


def _prices(console: Console, action: Action, state: SecretState) -> Iterator[str]:
    """Return what an action costs whom, as far as the journal knows."""
    entry = console.settings.secrets.get(state.name)
    consumers = ", ".join(one.name for one in entry.consumers) if entry is not None else ""
    sessions = plural(len(state.sessions), "session")
    match action.permission:
        case Permission.ROTATE:
            yield "A new credential is published. The old one stays valid for the grace period."
        case Permission.ROLLBACK:
            until = f" It is possible until {at(state.until)}." if state.until else ""
            yield f"Applications get the former credential back; the newer one is revoked.{until}"
        case Permission.REVOKE:
            yield f"{sessions} still used the old login at the last count. They may be cut off."
            yield "Applications that still log in with the old credential fail."
            yield "After it, a rollback is not possible."
            if state.until is not None:
                yield f"Without it, the old credential stays valid until {at(state.until)}."
        case Permission.PARK:
            yield "Nothing is rotated on schedule until somebody unparks it."
        case Permission.UNPARK:
            yield "It is rotated on schedule again."
        case Permission.INCIDENT:
            yield "The current version is replaced without a grace period and outside of windows."
            yield "Sessions that began before are ended when consumers have moved, after 10 minutes at the latest."
        case _:
            yield "The current password becomes invalid at once, and every session is ended."
            yield f"Applications fail until they have read the new one{f': {consumers}' if consumers else ''}."


# -- requests --------------------------------------------------------------------------------------


def requests_page(request: HttpRequest) -> Response:
    """Show open requests, and the newest others."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    opened = [one for one in console.requests.open() if visible is None or one.secret in visible]
    ids = {one.id for one in opened}
    recent = [
        one
        for one in console.requests.recent(_RECENT)
        if one.id not in ids and (visible is None or one.secret in visible)
    ]
    return page(
        request,
        "requests",
        now=console.clock.now(),
        opened=[_view(request, one) for one in opened],
        recent=[_view(request, one) for one in recent],
        has_daemon=console.view.fleet.has_daemon,
        only_reads=not console.can_request(),
    )


def decide(request: HttpRequest) -> Response:
    """Approve or refuse a request."""
    given: Mapping[str, str] = request.scope.get("form", {})
    _ = _decide(request, given.get("reason", ""))
    return RedirectResponse("/requests", status_code=303)


def _decide(request: HttpRequest, reason: str) -> Request:
    console, id_ = console_of(request), request.path_params["id"]
    try:
        found = console.requests.get(id_)
    except UsageError:
        raise HTTPException(404) from None
    require_visible(request, found.secret)
    verb = request.path_params["decision"]
    if verb not in ("approve", "refuse"):
        raise HTTPException(404)
    _require_key(console)
    act = console.requests.approve if verb == "approve" else console.requests.refuse
    return act(id_, actor=actor_of(request), reason=reason.strip())


def _view(request: HttpRequest, one: Request) -> RequestView:
    console, actor = console_of(request), actor_of(request)
    state = console.requests.state(one)
    is_open = state in OPEN_STATES
    is_own = one.actor.subject == actor.subject
    approves = is_open and console.may(actor, Permission.APPROVE, one.secret)
    missing = console.requests.missing(one)
    approved = {entry.actor.subject for entry in one.approvals}
    end = one.ended
    facts: Mapping[str, Any] = end.data if end is not None else {}
    return RequestView(
        id=one.id,
        secret=one.secret,
        verb=ACTIONS[one.action.value].label if one.action.value in ACTIONS else one.action.value,
        by=str(one.actor),
        reason=one.reason,
        at=one.at,
        state=state.value,
        is_open=is_open,
        missing=missing,
        breaks_glass=one.breaks_glass,
        expires=console.requests.expires(one),
        approvals=[(str(entry.actor), entry.reason) for entry in one.approvals],
        can_approve=approves and missing > 0 and not is_own and actor.subject not in approved,
        can_refuse=is_open and (approves or is_own),
        end=str(facts.get("what") or (end.reason if end is not None else "")),
    )


# -- the API ---------------------------------------------------------------------------------------


def api_request(request: HttpRequest) -> dict[str, Any]:
    """Append a request by the API; return it as data."""
    given = _json(request)
    name = request.path_params["name"]
    require_visible(request, name)
    action = ACTIONS.get(str(given.get("action")))
    if action is None:
        raise UsageError("unknown action.", hint=f"One of: {', '.join(ACTIONS)}", safety=_UNCHANGED)
    console = console_of(request)
    _require(request, action, name)
    _require_key(console)
    if _changes(console, name, str(given.get("seq", ""))) is not None:
        raise HTTPException(409)
    glass = given.get(GLASS) is True
    if (action.is_dangerous or glass) and given.get("confirm") != name:
        raise UsageError("`confirm` must be the name of the secret.", safety=_UNCHANGED)
    asked = _ask(request, name, action, str(given.get("reason", "")), break_glass=glass)
    return data(request, asked)


def api_decide(request: HttpRequest) -> dict[str, Any]:
    """Approve or refuse a request by the API."""
    return data(request, _decide(request, str(_json(request).get("reason", ""))))


def api_requests(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the open requests and the newest others as data."""
    console = console_of(request)
    visible = console.visible(actor_of(request))
    found = {one.id: one for one in (*console.requests.open(), *console.requests.recent(_RECENT))}
    return [
        data(request, one) for one in found.values() if visible is None or one.secret in visible
    ]


def data(request: HttpRequest, one: Request) -> dict[str, Any]:
    """Return a request as data."""
    requests = console_of(request).requests
    return {
        "id": one.id,
        "action": one.action,
        "secret": one.secret,
        "by": one.actor.as_data(),
        "reason": one.reason,
        "at": one.at,
        "state": requests.state(one),
        "missing_approvals": requests.missing(one),
        GLASS: one.breaks_glass,
        "expires": requests.expires(one),
    }


def _json(request: HttpRequest) -> Mapping[str, Any]:
    try:
        found = json.loads(request.scope.get("body", b""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError("expected a JSON object.", safety=_UNCHANGED)
    return cast("Mapping[str, Any]", found)
