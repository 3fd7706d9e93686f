"""One line of an audit log: which reads it shows. All else in it is forgotten, values first of all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

from rotator.access import places
from rotator.core.reads import LogKind, Read, text
from rotator.core.rights import login_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rotator.config import Settings

_Object: TypeAlias = "Mapping[str, Any]"
_NOTHING: Final[_Object] = {}
_UNKNOWN: Final = "unknown"


class NotALine(ValueError):
    """A line is not what this kind of log holds. Its text is never repeated."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a line shows. `leaks`: it holds a value or a token in plain text."""

    reads: tuple[Read, ...] = ()
    leaks: bool = False


NOTHING: Final = Shown()
_LEAKS: Final = Shown(leaks=True)


class Parser(Protocol):
    """Reads the lines of one kind of log."""

    def parse(self, line: bytes) -> Shown:
        """Return what a line shows. Raises `NotALine`."""
        ...


def parser(kind: LogKind, settings: Settings, backend: str | None) -> Parser:
    """Return the parser of a kind of log. Raises `UsageError` where no backend can have written it."""
    match kind:
        case LogKind.CLOUDTRAIL:
            return _CloudTrail(places.aws_names(settings, kind, backend))
        case LogKind.AGENT:
            return _Agent(places.agent_paths(settings, backend))
        case _:
            return _Vault(places.vault_paths(settings, kind, backend))


def is_complete(line: bytes) -> bool:
    """Return whether a line without an end is whole all the same: no part of an object is an object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


# -- Vault and OpenBao -------------------------------------------------------------------------

_PATH: Final = re.compile(rb'"path"\s*:\s*"((?:[^"\\]|\\.)*)"')
_HASHED: Final = "hmac-sha256:"
# A token that the device did not hash (`log_raw`).
_RAW_TOKEN: Final = re.compile(rb'"client_token"\s*:\s*"(?!hmac-sha256:|")')
_DEEPEST: Final = 20


class _Vault:
    """https://openbao.org/docs/audit/: a line for each request, and one for each response."""

    def __init__(self, paths: Mapping[tuple[str, str], str]) -> None:
        self._paths: Mapping[tuple[str, str], str] = paths
        self._known: frozenset[bytes] = frozenset(
            json.dumps(path, ensure_ascii=False)[1:-1].encode() for _, path in paths
        )

    def parse(self, line: bytes) -> Shown:
        if not line.startswith(b"{"):
            raise NotALine
        leaks = _RAW_TOKEN.search(line) is not None
        # Most lines are of other paths, or of requests, which show no version.
        if b'"response"' not in line or self._known.isdisjoint(_PATH.findall(line)):
            return _LEAKS if leaks else NOTHING
        record = _object(line)
        if record.get("type") != "response":
            return _LEAKS if leaks else NOTHING
        request, response = _at(record, "request"), _at(record, "response")
        namespace = str(_at(request, "namespace").get("path") or "").strip("/")
        path = str(request.get("path") or "").strip("/")
        secret = self._paths.get((namespace, path))
        if secret is None:
            return _LEAKS if leaks else NOTHING
        data = _at(response, "data")
        leaks = leaks or _is_raw(data.get("data")) or _is_raw(_at(request, "data").get("data"))
        is_read = request.get("operation") == "read" and not record.get("error")
        # A response without data is of a version that is missing, or deleted.
        if not is_read or not (data.get("data") or response.get("wrap_info")):
            return _LEAKS if leaks else NOTHING
        version = _at(data, "metadata").get("version")
        read = Read(
            secret=secret,
            identity=_vault_identity(_at(record, "auth")),
            address=text(request.get("remote_address")),
            at=_time(record.get("time")),
            version=str(version) if isinstance(version, int) else None,
        )
        return Shown((read,), leaks)


def _vault_identity(auth: _Object) -> str:
    """Return the name that its auth method gave a token, with the role that it logged in by."""
    name = text(auth.get("display_name")) or _UNKNOWN
    metadata = _at(auth, "metadata")
    role = text(metadata.get("role_name")) or text(metadata.get("role"))
    return text(login_name(name, role))


def _is_raw(value: object, depth: int = 0) -> bool:
    """Return whether a text in it is not hashed."""
    if isinstance(value, str):
        return bool(value) and not value.startswith(_HASHED)
    if depth >= _DEEPEST:
        return True
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
    else:
        inner = cast("list[object]", value) if isinstance(value, list) else ()
    return any(_is_raw(one, depth + 1) for one in inner)


# -- CloudTrail --------------------------------------------------------------------------------

_SOURCE: Final = "secretsmanager.amazonaws.com"
_RAW_VALUE: Final = re.compile(rb'secret(?:String|Binary)\\*"\s*:\s*\\*"(?!HIDDEN_DUE|\*\*\*|\\*")')


class _CloudTrail:
    """A file of CloudTrail in S3 (`Records`), or one event a line, as CloudTrail Lake exports them."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names: Mapping[str, str] = names

    def parse(self, line: bytes) -> Shown:
        leaks = _RAW_VALUE.search(line) is not None
        if line.lstrip()[:1] not in (b"{", b"["):
            raise NotALine
        if b"GetSecretValue" not in line:
            return _LEAKS if leaks else NOTHING
        reads = tuple(read for event in _events(line) if (read := self._read(event)) is not None)
        return Shown(reads, leaks)

    def _read(self, event: _Object) -> Read | None:
        # BatchGetSecretValue has an event GetSecretValue for each of its secrets:
        # https://docs.aws.amazon.com/secretsmanager/latest/userguide/cloudtrail_log_entries.html
        if event.get("eventName") != "GetSecretValue" or event.get("eventSource") != _SOURCE:
            return None
        given = _at(event, "requestParameters")
        secret = places.secret_of(self._names, str(given.get("secretId") or ""))
        if secret is None or event.get("errorCode"):
            return None
        version = text(given.get("versionId"))
        return Read(
            secret=secret,
            identity=_aws_identity(_at(event, "userIdentity")),
            address=text(event.get("sourceIPAddress")),
            at=_time(event.get("eventTime")),
            version=version or None,
            back=1 if given.get("versionStage") == "AWSPREVIOUS" else 0,
        )


def _aws_identity(who: _Object) -> str:
    """Return the ARN: that of the role where one was assumed, since each session has another."""
    issuer = _at(_at(who, "sessionContext"), "sessionIssuer")
    return (
        text(issuer.get("arn"))
        or text(who.get("arn"))
        or text(who.get("invokedBy"))
        or text(who.get("principalId"))
        or _UNKNOWN
    )


def _events(line: bytes) -> Iterator[_Object]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise NotALine from None
    if isinstance(found, dict):
        outer = cast("dict[str, Any]", found)
        inner = outer.get("Records")
        # An export of CloudTrail Lake may hold the event as text, or below a name of its own.
        event = outer.get("eventJson") or outer.get("eventData") or outer.get("CloudTrailEvent")
        if isinstance(event, str):
            event = _object(event.encode())
        found = inner if isinstance(inner, list) else [event or outer]
    for one in cast("list[object]", found) if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield cast("_Object", one)


# -- the agent ---------------------------------------------------------------------------------


class _Agent:
    """The log of `rotator agent run`, one JSON object a line."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths: Mapping[str, str] = paths

    def parse(self, line: bytes) -> Shown:
        if not line.startswith(b"{"):
            raise NotALine
        if b'"read"' not in line:
            return NOTHING
        record = _object(line)
        secret = self._paths.get(str(record.get("path")))
        if record.get("event") != "read" or secret is None:
            return NOTHING
        read = Read(
            secret=secret,
            identity=text(record.get("reader")) or _UNKNOWN,
            address=text(record.get("host")),
            at=_time(record.get("timestamp")),
            version=text(record.get("version")) or None,
        )
        return Shown((read,))


# -- all ---------------------------------------------------------------------------------------


def _object(line: bytes) -> _Object:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise NotALine from None
    if not isinstance(found, dict):
        raise NotALine
    return cast("_Object", found)


def _at(within: _Object, key: str) -> _Object:
    found = within.get(key)
    return cast("_Object", found) if isinstance(found, dict) else _NOTHING


def _time(value: object) -> datetime:
    try:
        at = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise NotALine from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
