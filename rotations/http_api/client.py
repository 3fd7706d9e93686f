"""Sends one request of an operator's, and says what its status means."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from rotations.http_api.options import ADMIN, ADMIN_PASSWORD, Request, TargetOptions
from rotator.api import (
    Conflict,
    Denied,
    HttpAnswer,
    HttpServer,
    Refused,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    basic_auth,
    json_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.api import Credential, StepContext

_MOVED: Final = range(300, 400)
_FAILED: Final = range(500, 600)
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_BUSY: Final = frozenset({429, 503})
_INVALID: Final = frozenset({400, 422})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


class Api:
    """What all rotations on one target share."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.options: TargetOptions = options
        self._name: str = name
        self._admin: Callable[[], Credential] = admin
        self._server: HttpServer = HttpServer(url=options.url, ca=options.ca, target=name)

    def __str__(self) -> str:
        return str(self._server)

    def ask(
        self,
        request: Request,
        values: Mapping[str, str],
        ctx: StepContext,
        *,
        doing: str,
        changes: bool = False,
        login: Credential | None = None,
    ) -> HttpAnswer:
        """Send a request with the admin's values, or as `login`. Raises only where there is no answer."""
        ctx.require_time()
        admin = None if login is not None else self._admin()
        if admin is not None:
            values = {**values, ADMIN: admin.username, ADMIN_PASSWORD: admin.password.reveal()}
        headers = {"Accept": "application/json"} | request.filled_headers(values)
        who = login or admin
        if request.basic and who is not None:
            headers["Authorization"] = basic_auth(who)
        if any(_CONTROL.search(value) for value in headers.values()):
            raise Denied(f"{self}: {doing}: a value has characters that no header may contain.")
        body = None
        if request.body is not None:
            body = json.dumps(request.filled_body(values)).encode()
            headers["Content-Type"] = "application/json"
        return self._server.send(
            request.method,
            request.filled_path(values),
            headers,
            body,
            seconds=ctx.seconds_left(),
            doing=doing,
            changes=changes,
        )

    def require_ok(self, request: Request, answer: HttpAnswer, *, doing: str) -> None:
        """Raise our error for a status that is not among those of success."""
        status = answer.status
        if status in request.ok:
            return
        what = f"{self}: {doing}: the API answered with status {status}."
        if status in _MOVED:
            raise Denied(
                f"{self}: {doing}: the API answered with a redirect ({status}), which rotator does not follow.",
                hint=f"Set `url` of target {self._name!r} to the final address.",
            )
        if status == _UNAUTHORIZED:
            raise Unavailable(what, hint=f"Check `admin` of target {self._name!r}.")
        if status == _FORBIDDEN:
            raise Denied(what, hint="Give the admin the right to send this request.")
        if status == _CONFLICT:
            raise Conflict(what, hint="Another client changed this login, or it exists already.")
        if status in _BUSY:
            raise Transient(what)
        if status in _FAILED:
            raise Unknown(what)
        if status in _INVALID:
            raise Refused(what, hint="Compare the request of the target with the API's manual.")
        raise Denied(what, hint="If this status means success, add it to `ok` of the request.")


def unknown_placeholder(name: str, known: frozenset[str]) -> UsageError:
    """Return the error for a placeholder that neither rotator nor the secret has."""
    return UsageError(
        f"a request has the unknown placeholder {{{name}}}.",
        hint=f"Known: {', '.join(sorted(known))}. Add others to `values` of the secret's options.",
    )


def value_at(answer: HttpAnswer, path: str) -> object:
    """Return the value at a path such as `data.0.name`; None where there is none."""
    try:
        found: Any = json_object(answer.body)
    except ValueError:
        return None
    return value_in(found, path)


def value_in(item: object, path: str) -> object:
    """Return the value at a path of what an answer has; None where there is none."""
    found: Any = item
    for key in path.split("."):
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found
