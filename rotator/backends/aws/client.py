"""Calls to AWS Secrets Manager: one client, its quota, and its errors by kind."""

from __future__ import annotations

import logging
import random
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore import exceptions
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError
from urllib3.connectionpool import HTTPConnectionPool

from rotator.api import (
    Denied,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    json_object,
    seconds_left,
)
from rotator.backends.bounded_http import Limited, budget, is_too_long
from rotator.backends.responses import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rotator.backends.aws.options import AwsOptions

_THROTTLED: Final = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
    }
)
_BAD_LOGIN: Final = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "ExpiredTokenException",
        "ExpiredToken",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    }
)
_KMS: Final = frozenset({"DecryptionFailure", "EncryptionFailure", "KMSAccessDeniedException"})
# What the caller of a method understands by itself.
_ANSWERS: Final = frozenset(
    {
        "ResourceNotFoundException",
        "ResourceExistsException",
        "InvalidParameterException",
        "ValidationException",
    }
)
_NO_ANSWERS: Final = (
    exceptions.ConnectionError,
    exceptions.ConnectionClosedError,
    exceptions.HTTPClientError,
)
# HTTP's, as botocore's standard mode has them.
_PASSING: Final = frozenset({500, 502, 503, 504})
_ERROR_STATUS: Final = 300
_LONG: Final = 3600.0
_NO_WAY: Final = (
    "Check for a route to it, or for a VPC endpoint for Secrets Manager whose security group"
    " allows this client."
)


_FOREIGN: Final = (
    "Check that `endpoint` is a Secrets Manager endpoint and that no proxy answers in its"
    " place. Correct or remove it."
)
# What botocore's parsers raise of an answer that is not as AWS's model of it says.
UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    ResponseParserError,
)


class Throttled(Transient):
    """AWS wants fewer requests."""


class NotAllowed(Denied):
    """An IAM or resource policy does not allow it."""


class KeyUnusable(Denied):
    """The KMS key cannot be used."""


class Foreign(Unavailable):
    """What answers is not AWS."""


class AwsError(Exception):  # an answer, not an error: the caller finds out what it means
    """What AWS said, by its code."""

    def __init__(self, code: str) -> None:
        """`code` is AWS's; its message is not kept, since it may repeat what was sent."""
        super().__init__(code)
        self.code: str = code


class Client:
    """AWS Secrets Manager in one region. Safe to use from threads."""

    def __init__(self, options: AwsOptions) -> None:
        """Nothing is connected yet. Raises `UsageError` without a region."""
        seconds = max(1, round(options.timeout.total_seconds()))
        self._options: AwsOptions = options
        self._gap: float = 1 / options.writes_a_second
        self._next: float = 0.0
        self._guard: threading.Lock = threading.Lock()
        self._config: Config = Config(
            connect_timeout=seconds,
            read_timeout=seconds,
            max_pool_connections=32,
            # Tried again here, within the time that a call has: botocore knows no such limit.
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        # At its debug level botocore writes whole requests and answers, secrets among them.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        try:
            session = botocore.session.Session(profile=options.profile)
            models = _api_models(session.get_config_variable("data_path"))
            session.register_component("data_loader", models)
            if options.role is not None:
                _assume(session, options, self._config)
            self._client: Any = _limited(
                session.create_client(
                    "secretsmanager",
                    region_name=options.region,
                    endpoint_url=options.endpoint,
                    config=self._config,
                )
            )
            self._client.meta.events.register("before-parse.secrets-manager", _require_object)
        except exceptions.NoRegionError as error:
            raise UsageError(
                "the AWS region is unknown.", hint="Set `region`, or AWS_REGION."
            ) from error
        except exceptions.ProfileNotFound as error:
            raise UsageError(f"AWS profile {options.profile!r} does not exist.") from error
        self._session: Any = session
        self.where: str = f"Secrets Manager in {self._client.meta.region_name}"
        self.endpoint: str = self._client.meta.endpoint_url

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def service(self, name: str) -> Any:
        """Return a client of another service, in the same region and with the same rights."""
        made = self._session.create_client(
            name, region_name=self._client.meta.region_name, config=self._config
        )
        return _limited(made)

    def takes(self, operation: str, parameter: str) -> bool:
        """Return whether this botocore knows a parameter: older ones refuse it unseen."""
        shape = self._client.meta.service_model.operation_model(operation).input_shape
        return parameter in shape.members

    def ask(self, action: str, path: str, **given: Any) -> dict[str, Any]:
        """Call `action` (such as `get_secret_value`) on a secret; reading.

        Raises our errors, and `AwsError` for what the caller has to understand.
        """
        return self._call(action, path, given, writing=False)

    def write(self, action: str, path: str, **given: Any) -> dict[str, Any]:
        """As `ask`, for what writes: within the quota, and `Unknown` when the answer is lost."""
        self._wait()
        return self._call(action, path, given, writing=True)

    def _wait(self) -> None:
        """Let writes through one by one, as many a second as the quota allows."""
        with self._guard:
            now = time.monotonic()
            turn = max(now, self._next)
            if turn - now > seconds_left(_LONG):
                raise Throttled(
                    f"{self.where}: rotator's own write limit left no capacity in time."
                )
            self._next = turn + self._gap
        if turn > now:
            time.sleep(turn - now)

    def _call(
        self, action: str, path: str, given: dict[str, Any], *, writing: bool
    ) -> dict[str, Any]:
        self._require_region(path)
        call: Callable[..., dict[str, Any]] = getattr(self._client, action)
        try:
            with self.limit():
                return self._tried(call, given)
        except exceptions.ClientError as error:
            said = error.response.get("Error", {})
            raise self._answered(
                str(said.get("Code")), str(said.get("Message")), action, path, writing=writing
            ) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise Unavailable(
                f"{self.where}: no AWS credentials were found.",
                hint="Give this process a role, or set `profile`.",
            ) from error
        except (
            exceptions.EndpointConnectionError,
            exceptions.ConnectTimeoutError,
            exceptions.ProxyConnectionError,
        ) as error:
            raise Transient(
                f"{self.where} is unreachable at {self.endpoint}.", hint=_NO_WAY
            ) from error
        except exceptions.SSLError as error:
            raise Unavailable(
                f"{self.where}: the TLS certificate is not trusted.",
                hint="If a proxy with its own certificate authority is in between, set"
                " AWS_CA_BUNDLE to that authority.",
            ) from error
        except exceptions.ParamValidationError as error:
            raise AwsError("ValidationException") from error
        except (Malformed, *UNREADABLE) as error:
            raise self.malformed(error, writing=writing) from error
        except exceptions.BotoCoreError as error:
            what = f"{self.where} did not answer at {self.endpoint} ({type(error).__name__})."
            if is_too_long(error):
                what = (
                    f"{self.where} sent a response that exceeds the size limit, at {self.endpoint}."
                )
            kind = Unknown if writing else Transient
            raise kind(what, hint=_NO_WAY) from error

    def malformed(self, error: Exception, *, writing: bool = False) -> StepError:
        """Return the error for an answer that is not AWS's."""
        why = str(error) if isinstance(error, Malformed) else type(error).__name__
        kind = Unknown if writing else Foreign
        what = f"{self.where} sent a response that is not from AWS, at {self.endpoint} ({why})."
        return kind(what, hint=_FOREIGN)

    def limit(self) -> AbstractContextManager[None]:
        """Let what is called inside take no longer than the backend's timeout, tries again included."""
        return budget(self._options.timeout.total_seconds())

    def _tried(self, call: Callable[..., dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
        """Call, and again while AWS does not answer and there is time.

        A write sent twice is done once: by its token, or by the label that it expects.
        """
        for attempt in range(1, self._options.attempts):
            # As botocore's own: up to 1 s, 2 s, 4 s ...; at random, so that not all come back at once.
            pause = random.random() * 2 ** (attempt - 1)  # noqa: S311 # no secret
            try:
                return call(**given)
            except (*_NO_ANSWERS, exceptions.ClientError) as error:
                if is_too_long(error) or not _may_pass(error) or seconds_left(_LONG) <= pause:
                    raise
            time.sleep(pause)
        return call(**given)

    def _require_region(self, path: str) -> None:
        """Refuse an ARN that leads elsewhere: asked for here, it would only not be there."""
        parts = path.split(":")
        region: str = self._client.meta.region_name
        if parts[0] == "arn" and len(parts) > 3 and parts[3] != region:  # noqa: PLR2004 # arn:partition:service:region
            raise UsageError(
                f"{path!r} is in region {parts[3]!r}, but this backend uses {region!r}.",
                hint="Set the backend's `region`, or add another backend for that region.",
            )

    def _answered(
        self, code: str, message: str, action: str, path: str, *, writing: bool
    ) -> Exception:
        operation = "".join(part.capitalize() for part in action.split("_"))
        if code in _THROTTLED:
            return Throttled(f"{self.where} limits the rate of {operation}.")
        if code in _KMS or (code == "AccessDeniedException" and "kms" in message.lower()):
            return KeyUnusable(
                f"{self.where}: the KMS key of {path!r} is unusable ({code}).",
                hint="Allow kms:Decrypt and kms:GenerateDataKey on the key, and check that it is"
                " enabled.",
            )
        if code in ("AccessDeniedException", "AccessDenied"):
            return NotAllowed(
                f"{self.where} does not allow {operation} on {path!r}.",
                hint=f"Allow secretsmanager:{operation} on that secret, in IAM and in the secret's"
                " resource policy.",
            )
        if code in _BAD_LOGIN:
            return Unavailable(
                f"{self.where} rejected rotator's AWS credentials ({code}).",
                hint="They may be expired or deleted, or the clock may be wrong. Check the"
                " identity: aws sts get-caller-identity. Check the time: date -u",
            )
        # Asked to rotate, the service says by this code that it does so already, or cannot.
        if code in _ANSWERS or (code == "InvalidRequestException" and action == "rotate_secret"):
            return AwsError(code)
        if code == "InvalidRequestException":
            return Denied(
                f"{self.where} rejected {operation} on {path!r} because of the secret's state.",
                hint="If the secret is marked for deletion, restore it: aws secretsmanager"
                " restore-secret",
            )
        what = f"{self.where} failed ({code})."
        return Unknown(what) if writing else Transient(what)


class _Http(Limited, AWSHTTPConnection):
    """Over HTTP."""


class _Https(Limited, AWSHTTPSConnection):
    """Over TLS."""


class _StayingPool(HTTPConnectionPool):
    """Follows no redirect: a signed request is for the endpoint that it was signed for."""

    def urlopen(self, *args: Any, **given: Any) -> Any:
        """Send a request."""
        return super().urlopen(*args, **{**given, "redirect": False})


class _HttpPool(_StayingPool, AWSHTTPConnectionPool):
    ConnectionCls: type[Any] = _Http


class _HttpsPool(_StayingPool, AWSHTTPSConnectionPool):
    ConnectionCls: type[Any] = _Https


def _limited(client: Any) -> Any:
    """Let a client's requests end in time as a whole: botocore has no option for that."""
    http = client._endpoint.http_session  # noqa: SLF001
    pools = {"http": _HttpPool, "https": _HttpsPool}
    http._pool_classes_by_scheme = http._manager.pool_classes_by_scheme = pools  # noqa: SLF001
    return client


def _require_object(response_dict: dict[str, Any], **_: Any) -> None:
    """Let botocore parse JSON objects only. An error's status says enough without its body."""
    try:
        _found = json_object(response_dict["body"] or b"{}")
    except ValueError as error:
        failed = Malformed(str(error))
    else:
        return
    if response_dict["status_code"] < _ERROR_STATUS:
        raise failed
    response_dict["body"] = b"{}"


def _may_pass(error: Exception) -> bool:
    """Return whether a call that failed so may succeed in a moment."""
    if not isinstance(error, exceptions.ClientError):
        return not isinstance(error, exceptions.SSLError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _PASSING or error.response.get("Error", {}).get("Code") in _THROTTLED


@cache
def _api_models(data_path: str | None) -> Any:
    """Return botocore's descriptions of AWS's services: it parses each once for all clients."""
    return create_loader(data_path)


def _assume(session: Any, options: AwsOptions, config: Config) -> None:
    """Let the session act as another role, renewed as long as it is used."""
    extra = {"RoleSessionName": "rotator"}
    if options.external_id is not None:
        extra["ExternalId"] = options.external_id

    def create(*args: Any, **given: Any) -> Any:
        return _limited(session.create_client(*args, config=config, **given))

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=create,
        source_credentials=session.get_credentials(),
        role_arn=options.role,
        extra_args=extra,
    )
    session._credentials = DeferredRefreshableCredentials(  # noqa: SLF001 # as boto3's documentation does
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
