"""A secret in AWS Secrets Manager."""

from __future__ import annotations

from typing import Any, Final, cast

from rotator.client.login import Login, SourceError
from rotator.client.sources.values import login_from, parsed

# What rotator writes beside a login.
_ROTATION: Final = "rotator_rotation_id"
_NONE_THERE: Final = frozenset({"ResourceNotFoundException", "InvalidRequestException"})


class AwsSource:
    """Reads the version that is labelled AWSCURRENT, by boto3's own credentials.

    The version labelled AWSPENDING is the next one, while AWS rotates the secret, or consumers prepare:
    the policy of the application decides whether it may be read.
    """

    def __init__(
        self,
        secret_id: str,
        *,
        client: Any = None,
        region: str | None = None,
        username_field: str = "username",
        password_field: str = "password",  # noqa: S107 # the name of a key
        refresh: float = 300.0,
        timeout: float = 5.0,
    ) -> None:
        """`client` is a boto3 client for `secretsmanager`; without it one is made at the first read."""
        self.refresh: float = refresh
        self._secret_id: str = secret_id
        self._client: Any = client
        self._region: str | None = region
        self._timeout: float = timeout
        self._names: tuple[str, str] = (username_field, password_field)

    def __repr__(self) -> str:
        return f"{self._secret_id} in AWS Secrets Manager"

    def read(self) -> Login:
        """Return the version that is labelled AWSCURRENT. Raises `SourceError`."""
        login = self._labelled("AWSCURRENT")
        if login is None:
            raise SourceError(f"{self!r} does not exist, or has no current version.")
        return login

    def next(self) -> Login | None:
        """Return the version that is labelled AWSPENDING. Raises `SourceError`."""
        return self._labelled("AWSPENDING")

    def _labelled(self, stage: str) -> Login | None:
        try:
            answer = self._connected().get_secret_value(
                SecretId=self._secret_id, VersionStage=stage
            )
            text, version = answer["SecretString"], answer["VersionId"]
            is_next = "AWSCURRENT" not in answer.get("VersionStages", ()) and stage != "AWSCURRENT"
        except Exception as error:  # noqa: BLE001 # botocore's errors are made at run time
            response: Any = getattr(error, "response", None)
            code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
            if code in _NONE_THERE:
                return None
            raise SourceError(
                f"{self!r} could not be read: {code or type(error).__name__}."
            ) from None
        if stage != "AWSCURRENT" and not is_next:
            return None
        data = parsed(text, repr(self))
        rotation = cast("dict[str, Any]", data).get(_ROTATION) if isinstance(data, dict) else None
        named = rotation if isinstance(rotation, str) else version
        return login_from(
            data, version, repr(self), *self._names, rotation=named if is_next else None
        )

    def _connected(self) -> Any:
        if self._client is None:
            import boto3  # noqa: PLC0415 # only where this source is used
            from botocore.config import Config  # noqa: PLC0415

            limits = Config(
                connect_timeout=self._timeout,
                read_timeout=self._timeout,
                retries={"total_max_attempts": 2, "mode": "standard"},
            )
            self._client = boto3.client("secretsmanager", region_name=self._region, config=limits)
        return self._client
