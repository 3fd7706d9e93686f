"""The daemon's interface for consumers: they report which version they use, and hear of a new one.

    POST /v1/acknowledgements
    GET /v1/versions?secret=shop&known=shop%3A7&next=shop%3A&wait=25

Each consumer has a token, which is sent as `Authorization: Bearer TOKEN`. No value of a secret is
received or sent here; leases (`rotator.faces.consumer_leases`) are. docs/reference/consumers.md describes
all of them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.consumers import MOST_REPORTS, InvalidReport, Level, Report, parse_reports
from rotator.core.errors import JournalError, RotatorError
from rotator.faces.consumer_leases import PREFIX
from rotator.faces.http_server import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rotator.config import Settings
    from rotator.core.ports import Log
    from rotator.core.secret import Secret
    from rotator.faces.consumer_leases import ConsumerLeases
    from rotator.faces.http_server import HttpRequest
    from rotator.journal.consumers import SqlConsumers

# Seconds for which reports are collected before one transaction writes them all.
_COLLECTED: Final = 0.2
# Seconds between two questions to the journal, while somebody waits for a new version.
_ASKED_EVERY: Final = 0.5
_LONGEST_WAIT: Final = 60.0
# Each waiting request has a thread; requests beyond this number are answered with 429.
_MOST_WAITING: Final = 500
_NEVER: Final = "this version was never published"
_NOT_NEXT: Final = "the journal does not know this rotation"
_COME_AGAIN: Final = {"Retry-After": "30"}
# Versions that are known to have been published; forgotten as a whole where there are too many.
_MOST_KNOWN: Final = 100_000


class _Refused(Exception):
    """A request that is not accepted."""

    def __init__(self, status: int, what: str, **facts: object) -> None:
        super().__init__(what)
        self.response: HttpResponse = HttpResponse.json(status, {"error": what, **facts})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingConsumers:
    """Who may report about which secrets. `by_token`: names by the SHA-256 of their tokens."""

    by_token: Mapping[bytes, str]
    secrets: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls, settings: Settings, resolve: Callable[[str], Secret], log: Log
    ) -> ReportingConsumers:
        """Look the tokens up. One that cannot be read is logged, and its consumer cannot report."""
        by_token: dict[bytes, str] = {}
        for name, one in settings.consumers.items():
            if one.token is None:
                continue
            try:
                digest = _digest(resolve(one.token).reveal())
            except RotatorError as error:
                log.error("token", consumer=name, what=error.what, hint=error.hint)  # noqa: TRY400
                continue
            if digest in by_token:
                what = f"consumers {by_token[digest]} and {name} have the same token."
                log.error("token", consumer=name, what=what)
            by_token.setdefault(digest, name)
        secrets: dict[str, set[str]] = {name: set() for name in settings.consumers}
        for secret in settings.secrets.values():
            for consumer in secret.consumers:
                secrets[consumer.name].add(secret.name)
        return cls(
            by_token=by_token, secrets={name: frozenset(one) for name, one in secrets.items()}
        )


class ConsumerReports:
    """Answers consumers. Used by many threads at once."""

    def __init__(
        self,
        *,
        consumers: Callable[[], ReportingConsumers],
        registry: Callable[[], SqlConsumers],
        on_news: Callable[[set[str]], None],
        leases: ConsumerLeases | None = None,
    ) -> None:
        """`consumers` and `registry` are of the configuration that is in force. `on_news` is called
        with the secrets for which a report was new. `leases`: what lends logins.
        """
        self._leases: ConsumerLeases | None = leases
        self._consumers: Callable[[], ReportingConsumers] = consumers
        self._registry: Callable[[], SqlConsumers] = registry
        self._writer: _Writer = _Writer(registry, on_news)
        self._versions: _Versions = _Versions(registry)
        self._published: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Begin to write and to ask."""
        self._writer.start()
        self._versions.start()

    def close(self) -> None:
        """Stop; those that wait are answered."""
        self._versions.close()
        self._writer.close()

    def published(self, secret: str, version: str) -> None:
        """Tell those that wait that a version is served now."""
        self._versions.put(secret, version)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to a request."""
        try:
            consumer = self._consumer(request)
            match request.method, request.path:
                case "POST", "/v1/acknowledgements":
                    return self._acknowledged(consumer, request.body)
                case "GET", "/v1/versions":
                    return self._awaited(consumer, request.query)
                case "POST", path if path.startswith(PREFIX) and self._leases is not None:
                    declared = self._consumers().secrets.get(consumer, frozenset())
                    return self._leases.answer(path, consumer, declared, request.body)
                case _:
                    listed = f"POST /v1/acknowledgements, POST {PREFIX} and GET /v1/versions"
                    return HttpResponse.json(404, {"error": f"not found; there are {listed}"})
        except _Refused as refused:
            return refused.response
        except JournalError:
            return HttpResponse.json(503, {"error": "the journal is not available"}, _COME_AGAIN)

    def _consumer(self, request: HttpRequest) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # By the digest: how long the look-up takes shows nothing of a token.
        consumer = self._consumers().by_token.get(_digest(token.strip()))
        if scheme.lower() != "bearer" or not token or consumer is None:
            raise _Refused(401, "the token is missing or unknown")
        return consumer

    def _require_declared(self, consumer: str, secrets: Iterable[str]) -> None:
        declared = self._consumers().secrets.get(consumer, frozenset())
        strange = sorted(set(secrets) - declared)
        if strange:
            what = f"consumer {consumer} is not declared for {', '.join(strange)}"
            raise _Refused(403, what, secrets=strange)

    # -- reports -------------------------------------------------------------------------------

    def _acknowledged(self, consumer: str, body: bytes) -> HttpResponse:
        try:
            reports = parse_reports(body, consumer)
        except InvalidReport as error:
            raise _Refused(400, str(error)) from None
        self._require_declared(consumer, (report.secret for report in reports))
        prepared = {(one.secret, one.version) for one in reports if one.level is Level.PREPARED}
        named = {(one.secret, one.version) for one in reports if one.level is not Level.PREPARED}
        unknown = self._registry().unpublished(named - self._published)
        strange = self._registry().unknown_rotations(prepared) if prepared else set()
        if len(self._published) > _MOST_KNOWN:
            self._published.clear()
        self._published |= named - unknown
        taken = [
            one
            for one in reports
            if (one.secret, one.version)
            not in (strange if one.level is Level.PREPARED else unknown)
        ]
        self._writer.write(taken)
        if not (unknown or strange):
            return HttpResponse(status=204)
        rejected = [
            {"secret": secret, "version": version, "what": what}
            for what, rows in ((_NEVER, unknown), (_NOT_NEXT, strange))
            for secret, version in sorted(rows)
        ]
        return HttpResponse.json(422, {"error": rejected[0]["what"], "rejected": rejected})

    # -- versions ------------------------------------------------------------------------------

    def _awaited(self, consumer: str, query: Mapping[str, list[str]]) -> HttpResponse:
        secrets = query.get("secret", [])
        if not secrets or len(secrets) > MOST_REPORTS:
            raise _Refused(400, f"name one to {MOST_REPORTS} secrets: ?secret=NAME")
        self._require_declared(consumer, secrets)
        known, following = (_by_secret(secrets, query.get(key, [])) for key in ("known", "next"))
        try:
            wait = float(query.get("wait", ["0"])[0])
        except ValueError:
            wait = -1.0
        if not 0 <= wait <= _LONGEST_WAIT:
            raise _Refused(400, f"`wait` is a number of seconds up to {_LONGEST_WAIT:.0f}")
        answer = self._versions.wait(secrets, known, following, wait)
        if answer is None:
            return HttpResponse.json(429, {"error": "too many wait for a version"}, _COME_AGAIN)
        if not following:
            del answer["next"]
        return HttpResponse.json(200, answer)


class _Writer:
    """Writes what many report at once in one transaction."""

    def __init__(
        self, registry: Callable[[], SqlConsumers], on_news: Callable[[set[str]], None]
    ) -> None:
        self._registry: Callable[[], SqlConsumers] = registry
        self._on_news: Callable[[set[str]], None] = on_news
        self._changed: threading.Condition = threading.Condition()
        self._waiting: list[Report] = []
        self._batch: int = 0
        self._failed: dict[int, JournalError] = {}
        self._written: int = 0
        self._closed: bool = False
        self._thread: threading.Thread = threading.Thread(
            target=self._run, name="reports", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def write(self, reports: list[Report]) -> None:
        """Return once the reports are written. Raises `JournalError`."""
        if not reports:
            return
        with self._changed:
            self._waiting += reports
            batch = self._batch
            self._changed.notify_all()
            _ = self._changed.wait_for(lambda: self._written > batch or self._closed)
            error = self._failed.get(batch)
            if error is not None or self._written <= batch:
                raise JournalError("the reports were not written.") from error

    def _run(self) -> None:
        while True:
            with self._changed:
                _ = self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
            time.sleep(_COLLECTED)
            with self._changed:
                reports, self._waiting = self._waiting, []
                batch, self._batch = self._batch, self._batch + 1
            news, failed = set[str](), None
            try:
                news = self._registry().report(reports)
            except JournalError as error:
                failed = error
            with self._changed:
                # Those that wait for this batch look at once; older failures nobody asks for.
                self._failed = {batch: failed} if failed is not None else {}
                self._written = self._batch
                self._changed.notify_all()
            if news:
                self._on_news(news)


class _Versions:
    """Which version each secret serves, for those that wait for another one."""

    def __init__(self, registry: Callable[[], SqlConsumers]) -> None:
        self._registry: Callable[[], SqlConsumers] = registry
        self._changed: threading.Condition = threading.Condition()
        self._served: dict[str, str] = {}
        # The rotation whose next version consumers can read, of secrets for which there is one.
        self._following: dict[str, str] = {}
        self._waiting: list[tuple[str, ...]] = []
        self._closed: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(
            target=self._run, name="versions", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def put(self, secret: str, version: str) -> None:
        """Take note that a version is served now."""
        with self._changed:
            self._served[secret] = version
            self._changed.notify_all()

    def wait(
        self,
        secrets: list[str],
        known: Mapping[str, str],
        following: Mapping[str, str],
        seconds: float,
    ) -> dict[str, dict[str, str]] | None:
        """Return what is served, and what comes next, once it differs from `known` or `following`.

        Or after `seconds`. None where too many wait. Raises `JournalError` where the journal cannot be
        asked.
        """
        registry = self._registry()
        # In this order: what is published between the two is served, never neither served nor next.
        upcoming, fresh = registry.following(secrets), registry.served(secrets)

        def differs() -> bool:
            return (
                self._closed.is_set()
                or any(self._served.get(one) not in (None, known.get(one)) for one in secrets)
                or any(self._following.get(one, "") != at for one, at in following.items())
            )

        with self._changed:
            news = any(self._served.get(one) != at for one, at in fresh.items())
            self._served.update(fresh)
            if self._follow(secrets, upcoming) or news:
                # Others that wait have not seen it: the next look finds nothing new.
                self._changed.notify_all()
            if not differs() and seconds:
                if len(self._waiting) >= _MOST_WAITING:
                    return None
                asked = tuple(secrets)
                self._waiting.append(asked)
                try:
                    _ = self._changed.wait_for(differs, seconds)
                finally:
                    self._waiting.remove(asked)
            return {
                "versions": {one: self._served[one] for one in secrets if one in self._served},
                "next": {one: self._following[one] for one in secrets if one in self._following},
            }

    def _follow(self, secrets: Iterable[str], upcoming: Mapping[str, str]) -> bool:
        """Take note of what comes next for these secrets; return whether that is news."""
        before = {one: at for one in secrets if (at := self._following.get(one)) is not None}
        for one in secrets:
            _ = self._following.pop(one, None)
        self._following.update(upcoming)
        return before != upcoming

    def _run(self) -> None:
        while not self._closed.wait(_ASKED_EVERY):
            with self._changed:
                wanted = {one for secrets in self._waiting for one in secrets}
            if not wanted:
                continue
            try:
                upcoming = self._registry().following(wanted)
                served = self._registry().served(wanted)
            except JournalError:
                continue  # asked again in a moment
            with self._changed:
                news = self._follow(wanted, upcoming)
                if news or any(self._served.get(one) != at for one, at in served.items()):
                    self._served.update(served)
                    self._changed.notify_all()


def _by_secret(secrets: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Return what stands behind the name of each secret: in both there may be a colon."""
    return {
        name: one.removeprefix(f"{name}:")
        for name in secrets
        for one in given
        if one.startswith(f"{name}:")
    }


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
