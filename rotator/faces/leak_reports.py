"""The daemon's interface for scanners: they report leaked passwords, and rotator records an incident.

    POST /v1/leaks/github    webhook `secret_scanning_alert`, signed (X-Hub-Signature-256)
    POST /v1/leaks/gitlab    token revocation or a report, with X-Gitlab-Token
    POST /v1/leaks/scanner   a report of gitleaks or trufflehog, with `Authorization: Bearer TOKEN`

Values are compared in memory with the versions that the backends hold, and are not stored or logged. The
policy's `on_leak` decides whether more happens than a record and a notice.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rotator.core.contracts.rotation import Contains
from rotator.core.daemon_settings import Topic
from rotator.core.errors import RotatorError, UsageError
from rotator.core.identifiers import new_id
from rotator.core.incident_timeline import chain, leaked_versions
from rotator.core.printable import printable
from rotator.engine import LeakReport, Mode
from rotator.faces.http_server import HttpResponse
from rotator.find.foreign import parse_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.bootstrap import App
    from rotator.core.model import Json
    from rotator.core.ports import Log
    from rotator.core.secret import Secret
    from rotator.engine import ManagedSecret
    from rotator.faces.http_server import HttpRequest
    from rotator.find.model import Candidate

PREFIX: Final = "/v1/leaks/"
GITHUB: Final = "github"
GITLAB: Final = "gitlab"
SCANNER: Final = "scanner"
# A report with more values is not compared: each value costs a comparison with every kept version.
_MOST_VALUES: Final = 1_000
# Reports that are compared at the same time; a further one is to come again.
_MOST_AT_ONCE: Final = 2
# Webhooks that were received, so that none is accepted twice.
_MOST_SEEN: Final = 10_000
_NEW_ALERTS: Final = ("created", "reopened", "publicly_leaked")
_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    """What a report says. `id`: that of the scanner's own alert, where it has one."""

    source: str
    id: str | None
    candidates: tuple[Candidate, ...]

    @property
    def values(self) -> tuple[Secret, ...]:
        """The values that it holds; a redacted one is none."""
        found = (one.match.value for one in self.candidates)
        return tuple(one for one in found if one.reveal())

    @property
    def place(self) -> str:
        """Where the first value was found, without the value."""
        first = self.candidates[0]
        return printable(first.without_value(first.place))[:_LONGEST_NAME]


class LeakReports:
    """Answers scanners. Used by many threads at once."""

    def __init__(
        self,
        *,
        app: Callable[[], App],
        tell: Callable[[Topic, str, Mapping[str, Json]], None],
        log: Log,
    ) -> None:
        """`app` is that of the configuration in force; `tell` sends a notice."""
        self._app: Callable[[], App] = app
        self._tell: Callable[[Topic, str, Mapping[str, Json]], None] = tell
        self._log: Log = log
        self._places: threading.Semaphore = threading.Semaphore(_MOST_AT_ONCE)
        self._guard: threading.Lock = threading.Lock()
        # Keyed anew in each process, so that it reveals nothing of a body.
        self._key: bytes = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to a request."""
        source = request.path.removeprefix(PREFIX)
        settings = self._app().settings.daemon.reports
        reference = settings.leaks.get(source) if settings is not None else None
        if reference is None or request.method != "POST":
            return _json(404, error="not found")
        try:
            key = self._app().resolve(reference)
        except RotatorError as error:
            self._log.error(
                "leak reports", source=source, what=error.what, hint=error.hint
            )  # its text is made for people
            return _json(503, error="the key of this source cannot be read")
        if not _is_authentic(source, request, key):
            self._log.warning("leak report rejected", source=source, why="not authenticated")
            return _json(401, error="the signature or token is missing or invalid")
        if not self._places.acquire(blocking=False):
            return _json(429, error="too many reports at once", headers={"Retry-After": "30"})
        try:
            return self._taken(source, request)
        finally:
            self._places.release()

    def _taken(self, source: str, request: HttpRequest) -> HttpResponse:
        """Take in an authentic report."""
        mark = hmac.digest(self._key, request.body, "sha256")
        if source == GITHUB and not self._is_new(mark):
            return _json(409, error="this delivery was received before")
        try:
            received = _parsed(source, request)
            opened = self._opened(received) if received is not None else []
        except UsageError as error:
            return _json(400, error=error.what)
        except RotatorError as error:
            # The sender comes again.
            with self._guard:
                _ = self._seen.pop(mark, None)
            self._log.error(
                "leak report", source=source, what=error.what, hint=error.hint
            )  # as above
            return _json(503, error="not recorded", headers={"Retry-After": "30"})
        except Exception as bug:  # noqa: BLE001 # its text may hold anything; the daemon answers the others
            self._log.error("bug", source=source, error=type(bug).__name__)  # as above
            return _json(500, error="not recorded")
        return _json(200, incidents=len(opened))

    def _is_new(self, mark: bytes) -> bool:
        with self._guard:
            if mark in self._seen:
                return False
            self._seen[mark] = None
            while len(self._seen) > _MOST_SEEN:
                _ = self._seen.popitem(last=False)
            return True

    def _opened(self, received: _Received) -> list[str]:
        """Open an incident for each secret with one of the values; return them."""
        app, values = self._app(), received.values
        if not values:
            self._tell_without_value(received)
            return []
        if len(values) > _MOST_VALUES:
            raise UsageError(f"at most {_MOST_VALUES} values are accepted in a report.")
        id_ = received.id or f"inc-{app.clock.now():%Y%m%d}-{new_id(app.entropy)[-6:]}"
        opened: list[str] = []
        unread: RotatorError | None = None
        for name in app.settings.secrets:
            try:
                secret = app.secret(name)
                version = app.engine.find_version(secret, *values)
                if version is not None and self._open(secret, version, id_, received):
                    opened.append(name)
            except RotatorError as error:
                # The others are compared all the same; then the sender is to come again.
                unread = error
        if unread is not None:
            raise unread
        return opened

    def _open(self, secret: ManagedSecret, version: str, id_: str, received: _Received) -> bool:
        """Record the leak of a version; False where it is known."""
        app = self._app()
        events = chain(app.journal.events, secret.name)
        if version in leaked_versions(events) or any(
            one.data.get("incident") == id_ for one in events
        ):
            return False
        mode = secret.policy.on_leak
        if mode is Mode.KILL and not isinstance(secret.rotation, Contains):
            mode = Mode.MOVE
        reason = f"reported by {received.source}: {received.place}"
        report = LeakReport(id=id_, reason=reason, mode=mode, version=version)
        try:
            app.engine.open_incident(secret, report)
        except UsageError as error:
            # As where another version is served that leaked too: an operator has that incident.
            self._log.warning("leak report", secret=secret.name, what=error.what)
            self._tell(Topic.LEAK_REPORTED, secret.name, {"what": error.what, "hint": error.hint})
            return False
        return True

    def _tell_without_value(self, received: _Received) -> None:
        """Send a notice of an alert whose value only its own interface shows."""
        what = f"{received.place} ({received.source}); the report holds no value to compare."
        hint = (
            "Read the value there, then: rotator incident open --value-from prompt --reason 'WHY'"
        )
        self._tell(Topic.LEAK_REPORTED, "", {"what": what, "hint": hint})


def _is_authentic(source: str, request: HttpRequest, key: Secret) -> bool:
    """Return whether a request bears the key of its source; compared in constant time."""
    plain = key.reveal().encode()
    if not plain:
        return False
    if source == GITHUB:
        expected = f"sha256={hmac.new(plain, request.body, hashlib.sha256).hexdigest()}"
        return _same(expected, request.headers.get("x-hub-signature-256", ""))
    if source == GITLAB:
        return _same(key.reveal(), request.headers.get("x-gitlab-token", ""))
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return _same(key.reveal(), token.strip()) and scheme.lower() == "bearer"


def _same(expected: str, given: str) -> bool:
    """Return whether two texts are the same; the time shows nothing of the first, nor of its length."""
    pair = (hashlib.sha256(one.encode()).digest() for one in (expected, given))
    return hmac.compare_digest(*pair)


def _parsed(source: str, request: HttpRequest) -> _Received | None:
    """Return what a report says; None for what reports no leak. Raises `UsageError`."""
    text = request.body.decode(errors="replace")
    if not text.strip():
        raise UsageError("the body is empty.")
    id_: str | None = None
    if source == GITHUB:
        if request.headers.get("x-github-event") != "secret_scanning_alert":
            return None
        try:
            data: Any = json.loads(text)
            if data["action"] not in _NEW_ALERTS:
                return None
            repository = str(data["repository"]["full_name"])
            id_ = printable(f"github {repository} {data['alert']['number']}")[:_LONGEST_NAME]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError("this is no alert of GitHub's secret scanning.") from error
    candidates = parse_report(text, "the body")
    return _Received(source=source, id=id_, candidates=tuple(candidates)) if candidates else None


def _json(status: int, headers: Mapping[str, str] | None = None, **data: object) -> HttpResponse:
    return HttpResponse.json(status, data, headers)
