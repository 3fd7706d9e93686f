"""Calls to IAM and STS, their errors by kind, and what the tags of a user say about its keys."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import botocore.session
from botocore import exceptions
from botocore.config import Config
from botocore.loaders import create_loader

from rotator.api import (
    Conflict,
    Denied,
    Secret,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rotations.aws_iam.options import TargetOptions
    from rotator.api import Credential, StepContext

# AWS's limit of access keys per user; it cannot be raised.
MOST_KEYS: Final = 2
# The tags of a user: its secret; its keys that rotator drew; those of others; those that a revoke
# deactivated; and when rotator last asked for a key.
OWNER: Final = "rotator:secret"
DRAWN: Final = "rotator:keys"
OTHERS: Final = "rotator:others"
ENDED: Final = "rotator:ended"
ASKED: Final = "rotator:asked"
# Clocks differ by 5 minutes at most, else AWS rejects the signature; a step takes a few minutes.
_EARLIER: Final = timedelta(minutes=5)
_LATER: Final = timedelta(minutes=15)
_REJECTED: Final = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch"})
_BAD_LOGIN: Final = _REJECTED | {"ExpiredToken", "UnrecognizedClientException"}
_BUSY: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "ConcurrentModification",
        "EntityTemporarilyUnmodifiable",
    }
)
_NO_RIGHT: Final = frozenset({"AccessDenied", "AccessDeniedException"})
_SERVER_FAULT: Final = 500
_MOST_CLIENTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """One access key of a user; nothing of its value."""

    id: str
    active: bool
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKeys:
    """The access keys of a user, and its tags."""

    keys: tuple[AccessKey, ...]
    tags: Mapping[str, str]

    def tagged(self, tag: str) -> frozenset[str]:
        """Return the key ids in a tag."""
        return frozenset(self.tags.get(tag, "").split())

    def owner(self, ctx: StepContext) -> str | None:
        """Return the other secret that the user belongs to; None where it is this one's, or nobody's."""
        owner = self.tags.get(OWNER)
        return None if owner is None or owner in ctx.names else owner

    def is_ours(self, key: AccessKey, ctx: StepContext) -> bool:
        """Return whether rotator drew a key for this secret, or an operator handed it over.

        AWS keeps no tags of keys. A key that nobody wrote down is ours where it was created when rotator
        asked for one, and was not there before.
        """
        if key.id in ctx.adopted or (ctx.current is not None and key.id == ctx.current.username):
            return True
        if OWNER not in self.tags or self.owner(ctx) is not None or key.id in self.tagged(OTHERS):
            return False
        if key.id in self.tagged(DRAWN):
            return True
        asked = _moment(self.tags.get(ASKED))
        return asked is not None and asked - _EARLIER <= key.created <= asked + _LATER


class Gone(Exception):  # an answer, not an error: what was to be ended is gone
    """There is no such key."""


class Iam:
    """What all rotations on one target share."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self._name: str = name
        self._options: TargetOptions = options
        self._admin: Callable[[], Credential] = admin
        self._guard: threading.Lock = threading.Lock()
        self._session: Any = None
        # The newest clients: making one takes longer than a call.
        self._clients: deque[tuple[str, Credential, Any]] = deque(maxlen=_MOST_CLIENTS)
        seconds = max(1, round(options.timeout.total_seconds()))
        self._config: Config = Config(
            connect_timeout=seconds,
            read_timeout=seconds,
            # A second CreateAccessKey would create a second key: the caller decides whether to retry.
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        # At its debug level botocore writes whole requests and answers, secrets among them.
        logging.getLogger("botocore").setLevel(logging.WARNING)

    def __str__(self) -> str:
        return f"AWS IAM (target {self._name})"

    def own_arn(self, ctx: StepContext) -> str:
        """Return as whom rotator is authenticated."""
        return str(self._ask(self._client("sts"), "get_caller_identity", {}, ctx).get("Arn"))

    def caller(self, credential: Credential, ctx: StepContext) -> str | None:
        """Return as whom an access key is authenticated; None where AWS rejects it."""
        client = self._client("sts", credential)
        try:
            return str(self._ask(client, "get_caller_identity", {}, ctx, own=False).get("Arn"))
        except _Rejected:
            return None

    def keys(self, user: str, ctx: StepContext) -> UserKeys:
        """Return the access keys and the tags of a user."""
        iam, of = self._client("iam"), {"UserName": user}
        listed = self._ask(iam, "list_access_keys", of, ctx)
        tags = self._ask(iam, "list_user_tags", of, ctx)
        keys = tuple(
            AccessKey(
                id=str(one["AccessKeyId"]),
                active=one["Status"] == "Active",
                created=cast("datetime", one["CreateDate"]),
            )
            for one in listed["AccessKeyMetadata"]
        )
        return UserKeys(keys=keys, tags={one["Key"]: one["Value"] for one in tags["Tags"]})

    def last_used(self, key: str, ctx: StepContext) -> tuple[datetime, str] | None:
        """Return when a key was last used, and for what; None for never."""
        answer = self._ask(
            self._client("iam"), "get_access_key_last_used", {"AccessKeyId": key}, ctx
        )
        used = answer.get("AccessKeyLastUsed", {})
        at = used.get("LastUsedDate")
        return None if at is None else (at, f"{used.get('ServiceName')} in {used.get('Region')}")

    def tag(self, user: str, tags: Mapping[str, str | Iterable[str]], ctx: StepContext) -> None:
        """Set tags of a user."""
        listed = [
            {"Key": key, "Value": value if isinstance(value, str) else " ".join(sorted(value))}
            for key, value in tags.items()
        ]
        self._change("tag_user", {"UserName": user, "Tags": listed}, ctx)

    def create(self, user: str, ctx: StepContext) -> tuple[str, Secret]:
        """Create an access key; return its id and its value, which AWS shows only here."""
        key = self._change("create_access_key", {"UserName": user}, ctx)["AccessKey"]
        return str(key["AccessKeyId"]), Secret(str(key["SecretAccessKey"]))

    def deactivate(self, user: str, key: str, ctx: StepContext) -> None:
        """Make a key inactive. Raises `Gone`."""
        given = {"UserName": user, "AccessKeyId": key, "Status": "Inactive"}
        self._change("update_access_key", given, ctx)

    def delete(self, user: str, key: str, ctx: StepContext) -> None:
        """Delete a key. Raises `Gone`."""
        self._change("delete_access_key", {"UserName": user, "AccessKeyId": key}, ctx)

    # -- below the operations ------------------------------------------------------------------

    def _client(self, service: str, credential: Credential | None = None) -> Any:
        """Return a client with rotator's own rights, or with those of an access key."""
        chosen = credential or self._admin()
        with self._guard:
            for known, whose, client in self._clients:
                same = (whose.username, whose.password) == (chosen.username, chosen.password)
                if known == service and same:
                    return client
            client = self._new_client(service, chosen)
            self._clients.append((service, chosen, client))
            return client

    def _new_client(self, service: str, chosen: Credential) -> Any:
        given: dict[str, str] = {}
        if chosen.username:
            given["aws_access_key_id"] = chosen.username
            given["aws_secret_access_key"] = chosen.password.reveal()
        url = self._options.sts_endpoint if service == "sts" else self._options.endpoint
        try:
            if self._session is None:
                session = botocore.session.Session(profile=self._options.profile)
                models = _api_models(session.get_config_variable("data_path"))
                session.register_component("data_loader", models)
                self._session = session
            return self._session.create_client(
                service,
                region_name=self._options.region,
                endpoint_url=url,
                config=self._config,
                **given,
            )
        except exceptions.ProfileNotFound as error:
            raise UsageError(f"AWS profile {self._options.profile!r} does not exist.") from error

    def _change(self, action: str, given: dict[str, Any], ctx: StepContext) -> dict[str, Any]:
        return self._ask(self._client("iam"), action, given, ctx, changes=True)

    def _ask(
        self,
        client: Any,
        action: str,
        given: dict[str, Any],
        ctx: StepContext,
        *,
        changes: bool = False,
        own: bool = True,
    ) -> dict[str, Any]:
        ctx.require_time()
        operation = "".join(part.capitalize() for part in action.split("_"))
        call: Callable[..., dict[str, Any]] = getattr(client, action)
        try:
            return call(**given)
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if not own and code in _REJECTED:
                raise _Rejected from None
            answer = cast("dict[str, Any]", error.response)
            failed = int(answer["ResponseMetadata"]["HTTPStatusCode"]) >= _SERVER_FAULT
            user = str(given.get("UserName", ""))
            if failed and code not in _BUSY:
                kind = Unknown if changes else Transient
                raise kind(f"{self} failed at {operation} ({code}).") from None
            raise self._answered(code, operation, user) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise Unavailable(
                f"{self}: no AWS credentials were found.",
                hint=f"Set `admin` or `profile` of target {self._name!r}, or give this process a role.",
            ) from error
        except (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError) as error:
            raise Transient(f"{self} is unreachable for {operation}.") from error
        except exceptions.ParamValidationError as error:
            raise Denied(f"{self}: a value is invalid for {operation}.") from error
        except exceptions.BotoCoreError as error:
            kind = Unknown if changes else Transient
            raise kind(f"{self} did not answer {operation} ({type(error).__name__}).") from error

    def _answered(self, code: str, operation: str, user: str) -> Exception:
        """Return what an answer means, by its code. AWS's text is not kept: it may repeat the request."""
        if code in _BUSY:
            return Transient(f"{self} limits the rate of {operation} ({code}).")
        if code in _BAD_LOGIN:
            return Unavailable(
                f"{self} rejected rotator's own AWS credentials ({code}).",
                hint="Check the identity: aws sts get-caller-identity. Check the time: date -u",
            )
        if code in _NO_RIGHT:
            return Denied(
                f"{self} does not allow {operation}{f' for user {user!r}' if user else ''}.",
                hint=f"Allow the action iam:{operation} on that user.",
            )
        if code == "NoSuchEntity" and operation in ("UpdateAccessKey", "DeleteAccessKey"):
            return Gone()
        if code == "NoSuchEntity":
            return Denied(
                f"{self} has no user {user!r}.", hint="Correct `user` in the secret's options."
            )
        if code == "LimitExceeded":
            return Transient(
                f"{self} accepts no further access key for user {user!r}, although it lists fewer than {MOST_KEYS}.",
                hint="A key that was created a moment ago may not be listed yet.",
            )
        return Denied(f"{self} rejected {operation} ({code}).")


class _Rejected(Exception):  # an answer, not an error
    """AWS rejects the access key that was tried."""


def require_free(user: str, iam: Iam, found: UserKeys, ctx: StepContext) -> None:
    """Raise where no further key can be created for the user: before anything is sent."""
    if (owner := found.owner(ctx)) is not None:
        raise Conflict(
            f"IAM user {user!r} belongs to secret {owner!r}, so it was left alone.",
            hint="Give each secret a user of its own.",
        )
    ended = found.tagged(ENDED)
    kept = [one for one in found.keys if one.active or one.id not in ended]
    if len(kept) < MOST_KEYS:
        return
    served = ctx.current.username if ctx.current is not None else None
    others = [_shown(one, iam, ctx) for one in kept if one.id != served]
    raise Denied(
        f"IAM user {user!r} has {MOST_KEYS} access keys already, the most that AWS accepts: {'; '.join(others)}"
        f"{' is not the one that is served' if len(others) == 1 else ''}.",
        hint="If nobody uses it, delete it: aws iam delete-access-key --user-name"
        f" {user} --access-key-id ID",
        safety="Nothing was changed.",
    )


@cache
def _api_models(data_path: str | None) -> Any:
    """Return botocore's descriptions of AWS's services: it parses each once for all targets."""
    return create_loader(data_path)


def _shown(key: AccessKey, iam: Iam, ctx: StepContext) -> str:
    try:
        used = iam.last_used(key.id, ctx)
    except StepError:
        return key.id
    return (
        f"{key.id}, last used {f'{used[0]:%Y-%m-%d %H:%M} UTC for {used[1]}' if used else 'never'}"
    )


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
