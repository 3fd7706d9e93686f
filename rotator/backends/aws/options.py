"""What a configuration says about AWS Secrets Manager."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from rotator.api import UsageError
from rotator.backends import templates


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsOptions:
    """Options of an AWS Secrets Manager backend."""

    region: str | None = field(
        default=None, metadata=_help("AWS region. Default: from the environment or the profile.")
    )
    endpoint: str | None = field(
        default=None, metadata=_help("Custom endpoint, such as a VPC endpoint: https://HOST.")
    )
    account: str | None = field(
        default=None,
        metadata=_help(
            "Account number (12 digits). Limits the policy that `rotator policy BACKEND`"
            " prints to this account."
        ),
    )
    function: str = field(
        default="rotator-rotate",
        metadata=_help(
            "Name or ARN of the rotation function on AWS Lambda, for `rotator policy BACKEND`."
        ),
    )
    masters: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Admin secrets that the rotated secrets reference (`masterarn`), for `rotator"
            " policy BACKEND`.",
            reference=False,
        ),
    )
    profile: str | None = field(
        default=None, metadata=_help("Profile of the shared AWS configuration, on a workstation.")
    )
    role: str | None = field(default=None, metadata=_help("ARN of the role to assume."))
    external_id: str | None = field(
        default=None, metadata=_help("External id that the role requires.")
    )
    kms_key: str | None = field(
        default=None,
        metadata=_help("KMS key for the secrets that rotator creates.", reference=False),
    )
    username_field: str = field(default="username", metadata=_help("JSON key of the login name."))
    password_field: str = field(
        default="password", metadata=_help("JSON key of the password.", reference=False)
    )
    templates: dict[str, str] = field(
        default_factory=dict[str, str], metadata=_help(templates.HELP, reference=False)
    )
    timeout: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_help("Maximum duration of one call, including retries."),
    )
    attempts: int = field(
        default=5, metadata=_help("Maximum attempts per request while AWS does not answer.")
    )
    writes_a_second: int = field(
        default=25, metadata=_help("Maximum writes per second; AWS allows 50 per account.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UsageError("`endpoint` is not a server URL.")
            if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
                raise UsageError(
                    "`endpoint` is not encrypted: every secret would cross the network in the clear.",
                    hint="Use https://.",
                )
        if self.external_id is not None and self.role is None:
            raise UsageError("`external_id` requires `role`.")
        if self.attempts < 1:
            raise UsageError("`attempts` must be 1 or more.")
        if self.writes_a_second < 1:
            raise UsageError("`writes_a_second` must be 1 or more.")
        if self.username_field == self.password_field:
            raise UsageError("`username_field` and `password_field` must differ.")
        templates.check(self.templates, (self.username_field, self.password_field))
        if self.account is not None and not re.fullmatch("[0-9]{12}", self.account):
            raise UsageError(
                "`account` must be the 12 digits of an AWS account.",
                hint="Write it in quotes: '123456789012'.",
            )
