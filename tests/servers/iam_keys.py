"""AWS IAM's and STS's documented rules about access keys, kept strictly, on loopback: where moto is lax.

Only the calls that rotator makes, over AWS's query protocol. Signatures are checked with the value of the
key. A user has two keys at most, active or not; an inactive key is rejected; a change is applied after
`late` seconds of the clock. `throttle`: so many calls are throttled. `lose`: the answer to the next call
of this action is lost, after its effect.
"""

from __future__ import annotations

import re
import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.servers.loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_KEYS: Final = 2
_MOST_TAG: Final = 256
_TAG: Final = re.compile(r"[\w\s.:/=+\-@]*")
_AUTH: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/\d+/([\w-]+)/(\w+)/aws4_request, SignedHeaders=([\w;-]+), Signature=(\w+)"
)
_ID: Final = string.ascii_uppercase + string.digits
_ADMIN_ID: Final = "AKIAROTATORADMIN0000"


@dataclass(slots=True)
class _Key:
    id: str
    value: str
    user: str
    created: datetime
    # Since when it is in this state, and what it was before.
    active: bool = True
    was_active: bool = False
    since: datetime | None = None
    used: datetime | None = None


@dataclass(slots=True)
class _User:
    tags: dict[str, str] = field(default_factory=dict[str, str])


class _Refusal(Exception):  # an answer of the service
    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code: str = code
        self.status: int = status


class _Lost(Exception):  # the answer is lost
    pass


class IamKeys(LoopbackServer):
    """A region's IAM and STS. `now`: its clock."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(_handler(self))
        self.now: Callable[[], datetime] = now
        self.late: timedelta = timedelta(0)
        self.throttle: int = 0
        self.lose: str = ""
        self.denied: set[str] = set()
        self.calls: list[str] = []
        self.admin_value: str = secrets.token_urlsafe(30)
        self._users: dict[str, _User] = {}
        self._keys: dict[str, _Key] = {}
        self._lock: threading.RLock = threading.RLock()

    @property
    def admin_id(self) -> str:
        """The access key id with which rotator calls."""
        return _ADMIN_ID

    # -- what a test does and looks at -----------------------------------------------------------

    def add_user(self, name: str, **tags: str) -> None:
        """Create a user without keys."""
        self._users[name] = _User(tags=dict(tags))

    def add_key(self, user: str, *, created: datetime | None = None) -> tuple[str, str]:
        """Create a key by hand, which works at once."""
        with self._lock:
            self._require_room(user)
            made = created or self.now() - timedelta(days=30)
            key = _Key(id=_new_id(), value=secrets.token_urlsafe(30), user=user, created=made)
            self._keys[key.id] = key
            return key.id, key.value

    def use(self, key: str) -> None:
        """Let an application use a key now."""
        self._keys[key].used = self.now()

    def forget_uses(self, user: str) -> None:
        """Let the last uses of a user's keys be long ago."""
        for key in self._keys.values():
            if key.user == user:
                key.used = None

    def keys(self, user: str, *, active: bool = False) -> list[str]:
        """Return the ids of a user's keys, or of the active ones."""
        with self._lock:
            found = [one for one in self._keys.values() if one.user == user]
            return [one.id for one in found if one.active or not active]

    def tags(self, user: str) -> dict[str, str]:
        """Return the tags of a user."""
        return dict(self._users[user].tags)

    def accepts(self, key: str, value: str) -> bool:
        """Return whether a key is valid: also where that is not applied everywhere yet."""
        found = self._keys.get(key)
        return found is not None and found.active and found.value == value

    def state(self, user: str) -> object:
        """Return everything about a user."""
        with self._lock:
            keys = [(one.id, one.active) for one in self._keys.values() if one.user == user]
            return sorted(keys), sorted(self._users[user].tags.items())

    # -- the protocol ----------------------------------------------------------------------------

    def answer(self, headers: Any, body: bytes) -> str:
        """Return the body of the answer to a request. Raises `_Refusal` and `_Lost`."""
        given = {key: value[0] for key, value in parse_qs(body.decode()).items()}
        action = given["Action"]
        with self._lock:
            self.calls.append(action)
            caller = self._authenticated(headers, body)
            if self.throttle:
                self.throttle -= 1
                raise _Refusal("Throttling")
            if action in self.denied or (caller.user != "admin" and action != "GetCallerIdentity"):
                raise _Refusal("AccessDenied", 403)
            result = getattr(self, f"_{action}")(given, caller)
            if self.lose == action:
                self.lose = ""
                raise _Lost
        return (
            f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<{action}Result>{result}</{action}Result>"
            f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
        )

    def _authenticated(self, headers: Any, body: bytes) -> _Key:
        found = _AUTH.fullmatch(headers.get("Authorization", ""))
        if found is None:
            raise _Refusal("MissingAuthenticationToken", 403)
        key_id, region, service, signed, signature = found.groups()
        key = (
            _Key(id=key_id, value=self.admin_value, user="admin", created=self.now())
            if key_id == _ADMIN_ID
            else self._keys.get(key_id)
        )
        if key is None or not self._seen_active(key):
            raise _Refusal("InvalidClientTokenId", 403)
        names = {one: headers[one] for one in signed.split(";") if one != "host"}
        request = AWSRequest(method="POST", url=f"{self.url}/", data=body, headers=names)
        request.context["timestamp"] = headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials(key.id, key.value), service, region)
        text = auth.string_to_sign(request, auth.canonical_request(request))
        if auth.signature(text, request) != signature:
            raise _Refusal("SignatureDoesNotMatch", 403)
        return key

    def _seen_active(self, key: _Key) -> bool:
        applied = key.since is None or self.now() >= key.since + self.late
        return key.active if applied else key.was_active

    def _require_room(self, user: str) -> None:
        if user not in self._users:
            raise _Refusal("NoSuchEntity", 404)
        if len(self.keys(user)) >= _MOST_KEYS:
            raise _Refusal("LimitExceeded", 409)

    def _key(self, given: dict[str, str]) -> _Key:
        key = self._keys.get(given["AccessKeyId"])
        if key is None or key.user != given["UserName"]:
            raise _Refusal("NoSuchEntity", 404)
        return key

    def _GetCallerIdentity(self, _given: dict[str, str], caller: _Key) -> str:  # noqa: N802 # AWS's name
        return (
            f"<Arn>arn:aws:iam::123456789012:user/apps/{escape(caller.user)}</Arn>"
            "<UserId>AIDA</UserId><Account>123456789012</Account>"
        )

    def _ListAccessKeys(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        if given["UserName"] not in self._users:
            raise _Refusal("NoSuchEntity", 404)
        found = [one for one in self._keys.values() if one.user == given["UserName"]]
        members = "".join(
            f"<member><UserName>{escape(one.user)}</UserName><AccessKeyId>{one.id}</AccessKeyId>"
            f"<Status>{'Active' if one.active else 'Inactive'}</Status>"
            f"<CreateDate>{_time(one.created)}</CreateDate></member>"
            for one in found
        )
        return f"<AccessKeyMetadata>{members}</AccessKeyMetadata><IsTruncated>false</IsTruncated>"

    def _ListUserTags(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        members = "".join(
            f"<member><Key>{escape(key)}</Key><Value>{escape(value)}</Value></member>"
            for key, value in self._users[given["UserName"]].tags.items()
        )
        return f"<Tags>{members}</Tags><IsTruncated>false</IsTruncated>"

    def _TagUser(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        number = 1
        while (key := given.get(f"Tags.member.{number}.Key")) is not None:
            value = given.get(f"Tags.member.{number}.Value", "")
            if len(value) > _MOST_TAG or not _TAG.fullmatch(value):
                raise _Refusal("ValidationError")
            self._users[given["UserName"]].tags[key] = value
            number += 1
        return ""

    def _CreateAccessKey(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        user = given["UserName"]
        self._require_room(user)
        key = _Key(
            id=_new_id(),
            value=secrets.token_urlsafe(30),
            user=user,
            created=self.now(),
            since=self.now(),
        )
        self._keys[key.id] = key
        return (
            f"<AccessKey><UserName>{escape(user)}</UserName><AccessKeyId>{key.id}</AccessKeyId>"
            f"<Status>Active</Status><SecretAccessKey>{key.value}</SecretAccessKey>"
            f"<CreateDate>{_time(key.created)}</CreateDate></AccessKey>"
        )

    def _UpdateAccessKey(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        key = self._key(given)
        active = given["Status"] == "Active"
        if key.active is not active:
            key.was_active, key.active, key.since = self._seen_active(key), active, self.now()
        return ""

    def _DeleteAccessKey(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        del self._keys[self._key(given).id]
        return ""

    def _GetAccessKeyLastUsed(self, given: dict[str, str], _caller: _Key) -> str:  # noqa: N802
        key = self._keys.get(given["AccessKeyId"])
        if key is None:
            raise _Refusal("AccessDenied", 403)
        at = f"<LastUsedDate>{_time(key.used)}</LastUsedDate>" if key.used else ""
        where = ("s3", "us-east-1") if key.used else ("N/A", "N/A")
        return (
            f"<UserName>{escape(key.user)}</UserName><AccessKeyLastUsed>{at}"
            f"<ServiceName>{where[0]}</ServiceName><Region>{where[1]}</Region></AccessKeyLastUsed>"
        )


def _new_id() -> str:
    return "AKIA" + "".join(secrets.choice(_ID) for _ in range(16))


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _handler(service: IamKeys) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version: str = "HTTP/1.1"
        # Headers and body in one packet: else a delayed acknowledgement adds 40 ms.
        wbufsize: int = -1
        disable_nagle_algorithm: bool = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = 200
            try:
                text = service.answer(self.headers, body)
            except _Lost:
                self.close_connection = True
                return
            except _Refusal as refusal:
                status = refusal.status
                text = (
                    '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error>'
                    f"<Type>Sender</Type><Code>{refusal.code}</Code><Message>no</Message></Error>"
                    "<RequestId>r</RequestId></ErrorResponse>"
                )
            answer = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            _ = self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
            """Say nothing."""

    return Handler
