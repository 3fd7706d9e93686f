"""What a configuration contains about AWS IAM and the users whose access keys are rotated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rotator.api import UsageError, require_http_url


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How AWS is reached. `admin` is optional: an access key; without one, boto3's usual sources."""

    region: str = field(
        default="us-east-1",
        metadata=_help("Region in which new keys are tried. IAM itself has no regions."),
    )
    profile: str | None = field(
        default=None, metadata=_help("Profile of the AWS configuration files, without `admin`.")
    )
    endpoint: str | None = field(
        default=None, metadata=_help("IAM endpoint. Default: AWS's for the region.")
    )
    sts_endpoint: str | None = field(
        default=None, metadata=_help("STS endpoint. Default: AWS's for the region.")
    )
    timeout: timedelta = field(
        default=timedelta(seconds=10), metadata=_help("Timeout of a connection and of an answer.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for url in (self.endpoint, self.sts_endpoint):
            if url is not None:
                require_http_url(url)
        if self.timeout < timedelta(seconds=1):
            raise UsageError("timeout must be 1 second or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One IAM user whose access key is rotated."""

    user: str = field(metadata=_help("IAM user name, without its path."))
    unused_for: timedelta = field(
        default=timedelta(minutes=15),
        metadata=_help(
            "The drain waits until the old key was not used for so long, as AWS reports it."
        ),
    )
    keep_inactive: bool = field(
        default=True,
        metadata=_help(
            "After revoke the old key stays, inactive, until the next rotation: it can be activated"
            " again. false: it is deleted at once."
        ),
    )
    patience: timedelta = field(
        default=timedelta(seconds=30),
        metadata=_help("How long a step waits until AWS applies a change everywhere."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.user or "/" in self.user:
            raise UsageError("`user` must be an IAM user name without its path.")
        if min(self.unused_for, self.patience) < timedelta(0):
            raise UsageError("`unused_for` and `patience` must not be negative.")
