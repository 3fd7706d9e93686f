"""AWS Secrets Manager's documented rules, kept strictly, on loopback: where emulators are lax.

Only the calls that rotator makes, over the JSON protocol that botocore speaks. Signatures are not
checked. Rules are those of the API reference: a token is 32 to 64 characters and, reused with
another value, refused; the first version gets AWSCURRENT whatever is asked for; a label sits on one
version; moving one needs the version that it is taken from; AWSCURRENT leaves AWSPREVIOUS behind.
"""

from __future__ import annotations

import json
import re
import secrets
import string
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests.servers.iam import allows
from tests.servers.loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
PENDING: Final = "AWSPENDING"
STEPS: Final = ("createSecret", "setSecret", "testSecret", "finishSecret")
_ACCOUNT: Final = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
FUNCTION: Final = "arn:aws:lambda:eu-central-1:123456789012:function:rotation"
_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
_SHORTEST_TOKEN: Final = 32
_LONGEST_TOKEN: Final = 64
_MOST_BYTES: Final = 65_536
_MOST_LABELS: Final = 20


@dataclass(slots=True)
class _Stored:
    """One version."""

    value: str | None
    created: float
    stages: set[str] = field(default_factory=set[str])
    # Since when it can be read: a version may be visible late.
    seen: float = 0.0


@dataclass(slots=True)
class _Kept:
    """One secret."""

    name: str
    arn: str
    versions: dict[str, _Stored] = field(default_factory=dict[str, _Stored])
    rotation_enabled: bool = False
    # The rotation function: called with the event of each step, in a thread of the service's own.
    function: Callable[[dict[str, Any]], object] | None = None
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict[str, str])
    rotated: float | None = None
    # Where set, every event carries it and PutSecretValue wants it back.
    rotation_token: str | None = None


class _Refusal(Exception):  # an answer of the service
    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.code: str = code
        self.message: str = message


class SecretsManager(LoopbackServer):
    """The service, as long as the `with` block lasts.

    `late`: how long a new version cannot be read yet, in seconds. `denied`: operations that no
    policy allows. `policy`: IAM's text, which must allow what comes over the network; None allows
    everything. `throttled`: how many requests are refused from now on, as too many.
    """

    def __init__(self) -> None:
        """Nothing listens yet."""
        super().__init__(_handler(self))
        self._secrets: dict[str, _Kept] = {}
        self._guard: threading.RLock = threading.RLock()
        self.late: float = 0.0
        self.denied: dict[str, str] = {}
        self.policy: str | None = None
        self.throttled: int = 0
        self.requests: list[str] = []
        # What functions raised; AWS keeps that in the function's own log.
        self.failures: list[BaseException] = []
        # How often a rotation that failed is tried again from its first step.
        self.retries: int = 0
        # What is done with each step's event: a test may repeat or reorder them.
        self.steps: Callable[[], list[str]] = lambda: list(STEPS)
        self._functions: list[threading.Thread] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait()
        super().__exit__(kind, error, trace)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def secret(self, name: str) -> _Kept:
        """Return a secret as it is kept, to be looked at and changed by a test."""
        return self._secrets[name]

    def by_hand(self, name: str, value: str) -> str:
        """Put a value as `aws secretsmanager put-secret-value` does; return its version."""
        with self._guard:
            if name not in self._secrets:
                _ = self._create({"Name": name})
            done = self._put({"SecretId": name, "SecretString": value})
            return str(done["VersionId"])

    def wait(self) -> None:
        """Wait until every function that was called has ended."""
        while self._functions:
            self._functions.pop().join()

    def answer(
        self, operation: str, given: dict[str, Any], *, policy: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Do what one request asks for, if `policy` allows it; return the status and the body."""
        calls: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CancelRotateSecret": self._cancel,
            "CreateSecret": self._create,
            "DescribeSecret": self._describe,
            "GetSecretValue": self._get,
            "ListSecrets": self._list,
            "PutSecretValue": self._put,
            "RotateSecret": self._rotate,
            "TagResource": self._tag,
            "UpdateSecretVersionStage": self._move,
        }
        with self._guard:
            self.requests.append(operation)
            try:
                self._admit(operation)
                if policy is not None:
                    self._authorize(policy, operation, given)
                return 200, calls[operation](given)
            except KeyError:
                return 400, {"__type": "UnknownOperationException"}
            except _Refusal as refusal:
                return 400, {"__type": refusal.code, "message": refusal.message}

    def _admit(self, operation: str) -> None:
        if self.throttled > 0:
            self.throttled -= 1
            raise _Refusal("ThrottlingException", "Rate exceeded")
        if operation in self.denied:
            raise _Refusal("AccessDeniedException", self.denied[operation])

    def _authorize(self, policy: str, operation: str, given: dict[str, Any]) -> None:
        wanted = given.get("SecretId")
        known = (one.arn for one in self._secrets.values() if wanted in (one.name, one.arn))
        arn = "*" if wanted is None else next(known, wanted)
        tags = {"aws:TagKeys": [one["Key"] for one in given.get("Tags", ())]}
        if not allows(policy, f"secretsmanager:{operation}", arn, tags):
            raise _Refusal("AccessDeniedException", f"no policy allows it on {arn}")

    # -- operations ----------------------------------------------------------------------------

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["Name"]
        if not _NAME.fullmatch(name):
            raise _Refusal("ValidationException", "Invalid name.")
        if name in self._secrets:
            raise _Refusal("ResourceExistsException", f"{name} already exists.")
        ending = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))
        kept = self._secrets[name] = _Kept(name=name, arn=f"{_ACCOUNT}{name}-{ending}")
        done = {"ARN": kept.arn, "Name": name}
        if "SecretString" in given:
            token = given.get("ClientRequestToken") or str(uuid.uuid4())
            self._add(kept, _checked(token), given["SecretString"], {CURRENT})
            done["VersionId"] = token
        return done

    def _describe(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._find(given)
        return {
            "ARN": kept.arn,
            "Name": kept.name,
            "RotationEnabled": kept.rotation_enabled,
            **({"RotationLambdaARN": FUNCTION} if kept.function else {}),
            **({"LastRotatedDate": kept.rotated} if kept.rotated else {}),
            "Tags": [{"Key": key, "Value": value} for key, value in kept.tags.items()],
            "VersionIdsToStages": {
                name: sorted(one.stages) for name, one in kept.versions.items() if one.stages
            },
        }

    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._usable(given)
        name, stage = given.get("VersionId"), given.get("VersionStage")
        if name is None:
            wanted = stage or CURRENT
            name = next((n for n, one in kept.versions.items() if wanted in one.stages), None)
        elif not _SHORTEST_TOKEN <= len(name) <= _LONGEST_TOKEN:
            raise _Refusal("ValidationException", "VersionId is 32 to 64 characters.")
        found = kept.versions.get(name or "")
        if found is None or (stage is not None and stage not in found.stages):
            raise _Refusal("ResourceNotFoundException", "Secrets Manager can't find it.")
        if found.value is None or found.seen > time.monotonic():
            raise _Refusal("ResourceNotFoundException", "Secrets Manager can't find it.")
        return {
            "ARN": kept.arn,
            "Name": kept.name,
            "VersionId": name,
            "SecretString": found.value,
            "VersionStages": sorted(found.stages),
            "CreatedDate": found.created,
        }

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        """A page at a time, of two, so that whoever asks must go on asking."""
        names = sorted(one.name for one in self._secrets.values() if not one.deleted)
        start = int(given.get("NextToken", 0))
        page = [self._describe({"SecretId": name}) for name in names[start : start + 2]]
        more = {"NextToken": str(start + 2)} if start + 2 < len(names) else {}
        return {"SecretList": page, **more}

    def _tag(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._usable(given)
        kept.tags |= {one["Key"]: one["Value"] for one in given["Tags"]}
        return {}

    def _cancel(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._usable(given)
        kept.rotation_enabled = False
        holder = next((n for n, one in kept.versions.items() if PENDING in one.stages), None)
        return {"ARN": kept.arn, "Name": kept.name, **({"VersionId": holder} if holder else {})}

    def _put(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._usable(given)
        if kept.rotation_token and given.get("RotationToken") != kept.rotation_token:
            raise _Refusal("AccessDeniedException", "The rotation token is missing or wrong.")
        token = _checked(given.get("ClientRequestToken") or str(uuid.uuid4()))
        stages = set(given.get("VersionStages") or [CURRENT])
        value = given["SecretString"]
        known = kept.versions.get(token)
        if known is not None and known.value is not None:
            if known.value != value:
                raise _Refusal("ResourceExistsException", "A version with this token exists.")
        else:
            if not any(one.value is not None for one in kept.versions.values()):
                stages.add(CURRENT)
            self._add(kept, token, value, stages)
        return {"ARN": kept.arn, "VersionId": token, "VersionStages": sorted(stages)}

    def _rotate(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._usable(given)
        if kept.function is None:
            raise _Refusal("InvalidRequestException", "No Lambda rotation function ARN is set.")
        kept.rotation_enabled = True
        if given.get("RotateImmediately") is False:
            self._try_out(kept)
            return {"ARN": kept.arn, "Name": kept.name}
        token = _checked(given.get("ClientRequestToken") or str(uuid.uuid4()))
        holder = next((n for n, one in kept.versions.items() if PENDING in one.stages), None)
        done = {"ARN": kept.arn, "Name": kept.name, "VersionId": token}
        if holder is not None and CURRENT not in kept.versions[holder].stages:
            self._call(kept, holder)
            if holder != token:
                raise _Refusal("InvalidRequestException", "A previous rotation isn't complete.")
            return done
        if token not in kept.versions:
            kept.versions[token] = _Stored(value=None, created=time.time())
            self._label(kept, token, PENDING)
            self._call(kept, token)
        return done

    def _try_out(self, kept: _Kept) -> None:
        """Only testSecret, against a version that has no value and is gone afterwards."""
        token = str(uuid.uuid4())
        kept.versions[token] = _Stored(value=None, created=time.time(), stages={PENDING})

        def test(function: Callable[[dict[str, Any]], object]) -> None:
            try:
                _ = function(self._event(kept, "testSecret", token))
            except Exception as error:  # noqa: BLE001 # AWS writes it into the function's log
                self.failures.append(error)
            finally:
                del kept.versions[token]

        self._run(test, kept)

    def _call(self, kept: _Kept, token: str) -> None:
        """Call the function step by step, as AWS does after it has answered."""

        def steps(function: Callable[[dict[str, Any]], object]) -> None:
            for _ in range(1 + self.retries):
                try:
                    for step in self.steps():
                        _ = function(self._event(kept, step, token))
                except Exception as error:  # noqa: BLE001 # AWS writes it into the function's log
                    self.failures.append(error)
                else:
                    kept.rotated = time.time()
                    return

        self._run(steps, kept)

    def _event(self, kept: _Kept, step: str, token: str) -> dict[str, Any]:
        event = {"Step": step, "SecretId": kept.arn, "ClientRequestToken": token}
        return event | ({"RotationToken": kept.rotation_token} if kept.rotation_token else {})

    def _run(self, work: Callable[[Callable[[dict[str, Any]], object]], None], kept: _Kept) -> None:
        thread = threading.Thread(target=work, args=(kept.function,))
        self._functions.append(thread)
        thread.start()

    def _move(self, given: dict[str, Any]) -> dict[str, Any]:
        kept, stage = self._usable(given), given["VersionStage"]
        to, away = given.get("MoveToVersionId"), given.get("RemoveFromVersionId")
        holder = next((n for n, one in kept.versions.items() if stage in one.stages), None)
        if holder is not None and holder not in (to, away):
            raise _Refusal("InvalidParameterException", "RemoveFromVersionId must match.")
        if away is not None and holder not in (to, away):
            raise _Refusal("InvalidParameterException", "The label is not on that version.")
        if to is None:
            if stage == CURRENT:
                raise _Refusal("InvalidParameterException", "AWSCURRENT can only be moved.")
            if holder is not None:
                kept.versions[holder].stages.discard(stage)
        else:
            if to not in kept.versions:
                raise _Refusal("ResourceNotFoundException", "There is no such version.")
            self._label(kept, to, stage)
        return {"ARN": kept.arn, "Name": kept.name}

    # -- below the operations ------------------------------------------------------------------

    def _find(self, given: dict[str, Any]) -> _Kept:
        wanted = given["SecretId"]
        for kept in self._secrets.values():
            # A partial ARN leaves out the hyphen and the six characters at the end.
            if wanted in (kept.name, kept.arn, kept.arn[:-7]):
                return kept
        raise _Refusal("ResourceNotFoundException", "Secrets Manager can't find the secret.")

    def _usable(self, given: dict[str, Any]) -> _Kept:
        kept = self._find(given)
        if kept.deleted:
            raise _Refusal("InvalidRequestException", "The secret is marked for deletion.")
        return kept

    def _add(self, kept: _Kept, token: str, value: str, stages: set[str]) -> None:
        if len(value.encode()) > _MOST_BYTES:
            raise _Refusal("ValidationException", "SecretString is too long.")
        held = {label for one in kept.versions.values() for label in one.stages}
        if len(held | stages) > _MOST_LABELS:
            raise _Refusal("LimitExceededException", "A secret has 20 labels at most.")
        now = time.monotonic()
        first = not kept.versions
        seen = now if first else now + self.late
        kept.versions[token] = _Stored(value=value, created=time.time(), seen=seen)
        for stage in stages:
            self._label(kept, token, stage)

    def _label(self, kept: _Kept, to: str, stage: str) -> None:
        for name, one in kept.versions.items():
            if stage in one.stages and name != to:
                one.stages.discard(stage)
                if stage == CURRENT:
                    for other in kept.versions.values():
                        other.stages.discard(PREVIOUS)
                    one.stages.add(PREVIOUS)
        kept.versions[to].stages.add(stage)
        if stage == CURRENT:
            kept.versions[to].stages.discard(PREVIOUS)


def _checked(token: str) -> str:
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN:
        raise _Refusal("ValidationException", "ClientRequestToken is 32 to 64 characters.")
    return token


def _handler(service: SecretsManager) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version: str = "HTTP/1.1"
        disable_nagle_algorithm: ClassVar[bool] = True

        def handle_one_request(self) -> None:
            # Those who are killed in the middle of a request hang up.
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection: bool = True

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            said = self.rfile.read(length)
            if len(said) < length:
                raise ConnectionResetError
            given = json.loads(said)
            operation = str(self.headers["X-Amz-Target"]).partition(".")[2]
            status, body = service.answer(operation, given, policy=service.policy)
            content = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            _ = self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's
            """Say nothing."""

    return Handler
