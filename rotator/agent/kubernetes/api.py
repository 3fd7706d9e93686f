"""The calls of the Kubernetes API that the sink needs. Each has time limits and a bounded answer.

An error names the object and what the server refused, by the fields of its answer that cannot hold a
value of a Secret: its text may.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

from rotator.agent.errors import SinkError, SinkWaits

if TYPE_CHECKING:
    from rotator.agent.kubernetes.access import Access

MANAGER: Final = "rotator"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
# Of objects in a list only this is received: pods may have secrets in their environment.
_ONLY_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PIECE: Final = 1 << 16
_LARGEST: Final = 8 << 20
_PER_PAGE: Final = 100
_MOST_PAGES: Final = 1000
# Seconds for a whole answer, and the longest Retry-After that is followed.
_LONGEST_ANSWER: Final = 60.0
_LONGEST_PAUSE: Final = 300.0
_DEFAULT_PAUSE: Final = 5.0
_OK: Final = frozenset({200, 201})
_CONFLICT_WITH: Final = re.compile(r'conflict with "([\w.:@/ -]{1,128})"')
_WEBHOOK: Final = re.compile(r'admission webhook "([\w.-]{1,253})" denied')
_FIELD: Final = re.compile(r"[\w./\[\]\"'-]{1,200}")


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """An object's address. `plural` is such as `secrets` or `deployments`."""

    plural: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.plural.removesuffix('s')} {self.namespace}/{self.name}"

    @property
    def group(self) -> str:
        """The path of its API group."""
        return "/api/v1" if self.plural in ("secrets", "pods") else "/apis/apps/v1"

    @property
    def path(self) -> str:
        """Its path below the server's."""
        return f"{self.group}/namespaces/{self.namespace}/{self.plural}/{quote(self.name, safe='')}"


class NotFound(SinkError):
    """The object does not exist."""


class Outdated(SinkError):
    """Another client changed the object after it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An object or list, and the server's time."""

    data: Mapping[str, Any]
    now: datetime


class Api:
    """A client of one API server. Safe between threads: each request has its own connection."""

    def __init__(
        self,
        access: Access,
        *,
        timeout: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `timeout` is in seconds, of each network operation."""
        self._access: Access = access
        self._timeout: float = timeout
        self._clock: Callable[[], float] = clock
        self._busy_until: float = 0.0

    @property
    def namespace(self) -> str:
        """The namespace of objects that name none."""
        return self._access.namespace

    def get(self, resource: Resource) -> Answer:
        """Return an object. Raises `NotFound`, `SinkError` and `SinkWaits`."""
        return self._request("GET", resource, resource.path)

    def apply(self, resource: Resource, body: Mapping[str, Any], *, force: bool) -> Answer:
        """Apply an object on the server as the field manager `rotator`.

        Raises `Outdated` where the object has no longer the body's resourceVersion, else `SinkError`;
        a conflict names the other managers.
        """
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        return self._request("PATCH", resource, resource.path, query, body, _APPLY)

    def merge(self, resource: Resource, body: Mapping[str, Any]) -> Answer:
        """Change an object that has the body's resourceVersion. Raises `Outdated`, else as `get`."""
        return self._request(
            "PATCH", resource, resource.path, {"fieldManager": MANAGER}, body, _MERGE
        )

    def list(
        self, plural: str, namespace: str, *, labels: str, fields: str = ""
    ) -> Iterable[Mapping[str, Any]]:
        """Yield the metadata of the objects of a kind. Raises as `get`."""
        resource = Resource(plural, namespace, "")
        path = f"{resource.group}/namespaces/{namespace}/{plural}"
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(_PER_PAGE)}
        for _ in range(_MOST_PAGES):
            page = self._request("GET", resource, path, query, accept=_ONLY_METADATA).data
            for item in _list(page.get("items")):
                yield mapping(mapping(item).get("metadata"))
            following = mapping(page.get("metadata")).get("continue")
            if not isinstance(following, str) or not following:
                return
            query["continue"] = following
        raise SinkError(f"the list of {plural} in namespace {namespace} has no end.")

    # -- HTTP ----------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str | None = None,
        accept: str = "application/json",
    ) -> Answer:
        if (left := self._busy_until - self._clock()) > 0:
            raise SinkWaits("the cluster is overloaded.", pause=left)
        headers = {"Accept": accept, "Connection": "close", "User-Agent": "rotator"}
        token = self._access.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        if kind is not None:
            headers["Content-Type"] = kind
        chosen = urlencode({key: value for key, value in (query or {}).items() if value})
        url = f"{self._access.path}{path}{'?' if chosen else ''}{chosen}"
        content = None if body is None else json.dumps(body).encode()
        connection = _Connection(self._access, self._timeout)
        try:
            connection.request(method, url, content, headers)
            with connection.getresponse() as response:
                status, sent = response.status, response.headers
                answer = self._read(response)
        # The texts of these errors may repeat what was sent, or what came.
        except TimeoutError:
            raise SinkError(
                f"the cluster did not answer in time for {resource}.", hint=_REACH
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SinkError(
                f"the cluster is unreachable: {type(error).__name__}.", hint=_REACH
            ) from None
        finally:
            connection.close()
        data = _json(answer)
        if status not in _OK:
            raise self._error(method, resource, status, sent.get("Retry-After"), data)
        if data is None:
            raise SinkError(f"the cluster answered for {resource} with no valid object.")
        return Answer(data=data, now=_date(sent.get("Date")))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        deadline = self._clock() + _LONGEST_ANSWER
        pieces: list[bytes] = []
        size = 0
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                raise ValueError("too long")
            if self._clock() > deadline:
                raise TimeoutError
        return b"".join(pieces)

    def _error(
        self,
        method: str,
        resource: Resource,
        status: int,
        retry_after: str | None,
        data: Mapping[str, Any] | None,
    ) -> SinkError:
        what = f"{method.lower()} {resource.plural}" if method != "GET" else f"read {resource}"
        answer = data or {}
        causes = [mapping(cause) for cause in _list(mapping(answer.get("details")).get("causes"))]
        match status:
            case 401:
                return SinkError(
                    "the cluster rejected the agent's credential.",
                    hint="Check the service account of the pod, or the token or certificate of the kubeconfig.",
                )
            case 403:
                return _forbidden(method, resource, str(answer.get("message", "")))
            case 404:
                place = f"{resource} does not exist" if resource.name else f"{what} failed"
                return NotFound(
                    f"{place}.",
                    hint=f"Check: kubectl -n {resource.namespace} get {resource.plural}",
                )
            case 409:
                return _conflict(resource, causes)
            case 413 | 422:
                fields = ", ".join(sorted({_shown(cause.get("field")) for cause in causes})) or "it"
                return SinkError(
                    f"the cluster rejected {resource} as invalid: {fields}.",
                    hint="A Secret with `immutable: true`, another `type` or more than 1 MiB cannot be changed: delete it, or choose another name.",
                )
            case 429 | 503 if status == 429 or retry_after:  # noqa: PLR2004 # as above
                pause = _pause(retry_after)
                self._busy_until = self._clock() + pause
                return SinkWaits(f"the cluster is overloaded (HTTP status {status}).", pause=pause)
            case _:
                return SinkError(f"the cluster failed for {resource} with HTTP status {status}.")


_REACH: Final = "Check: kubectl get --raw /readyz"


def mapping(value: object) -> Mapping[str, Any]:
    """Return a part of an object, empty where it is missing."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


class _Connection(http.client.HTTPConnection):
    """A connection with TLS where the server has it. No proxy of the environment is used."""

    def __init__(self, access: Access, timeout: float) -> None:
        super().__init__(access.host, access.port, timeout=timeout)
        self._to: Access = access

    def connect(self) -> None:
        super().connect()
        if self._to.is_tls:
            name = self._to.server_name or self._to.host
            plain = cast("socket.socket", self.sock)
            self.sock = self._to.context().wrap_socket(plain, server_hostname=name)


def _forbidden(method: str, resource: Resource, text: str) -> SinkError:
    if (webhook := _WEBHOOK.search(text)) is not None:
        return SinkError(f"the admission webhook {webhook[1]} denied {resource}.")
    verb = {"GET": "get" if resource.name else "list", "PATCH": "patch"}[method]
    # Applying an object that does not exist creates it.
    or_create = " (or create)" if resource.plural == "secrets" and verb == "patch" else ""
    of = f" {resource.name}" if resource.name else ""
    return SinkError(
        f"the cluster forbids the agent to {verb}{or_create} {resource.plural}{of} in namespace {resource.namespace}.",
        hint="The Role that it needs is in agent.yaml of: rotator deploy kubernetes --out manifests",
    )


def _conflict(resource: Resource, causes: list[Mapping[str, Any]]) -> SinkError:
    owned = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if not owned:
        return Outdated(f"{resource} changed at the same time.")
    managers = sorted(
        {
            found[1]
            for cause in owned
            if (found := _CONFLICT_WITH.search(str(cause.get("message", "")))) is not None
        }
    )
    fields = ", ".join(sorted({_shown(cause.get("field")) for cause in owned}))
    return SinkError(
        f"{resource} has fields of another manager, {', '.join(managers) or 'unknown'}: {fields}.",
        hint="Let that program leave these keys alone; then set `force: true`, which takes them over.",
        safety="Nothing was written.",
    )


def _pause(retry_after: str | None) -> float:
    text = retry_after or ""
    seconds = float(text) if text.isascii() and text.isdecimal() else 0.0
    return min(max(seconds, 1.0), _LONGEST_PAUSE) if seconds else _DEFAULT_PAUSE


def _shown(field: object) -> str:
    text = str(field)
    return text if _FIELD.fullmatch(text) else "?"


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _json(content: bytes) -> Mapping[str, Any] | None:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, Any]", data) if isinstance(data, dict) else None


def _date(text: str | None) -> datetime:
    """Return the server's time: the clock of this host may be wrong."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except (ValueError, TypeError):
        return datetime.now(UTC)
