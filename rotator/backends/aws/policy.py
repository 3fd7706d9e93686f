"""The least rights that rotator, or an application, needs: IAM policies."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.api import Access
    from rotator.backends.aws.options import AwsOptions

_ROTATED: Final = (
    "DescribeSecret",
    "GetSecretValue",
    "PutSecretValue",
    "UpdateSecretVersionStage",
    "CreateSecret",
    "TagResource",
)
_KEPT: Final = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "CreateSecret", "TagResource")
_READ: Final = ("GetSecretValue",)
# An ARN that is whole: it ends with a hyphen and six characters.
_WHOLE: Final = re.compile(r"arn:[^:]+:secretsmanager:[^:]*:[^:]*:secret:.+-[A-Za-z0-9]{6}")


def for_rotator(options: AwsOptions, access: Access) -> str:
    """Return the policy of rotator itself, for exactly these secrets."""
    return _text(
        options,
        [
            ("Rotate", _ROTATED, access.rotated, ("Decrypt", "GenerateDataKey")),
            ("Keep", _KEPT, access.kept, ("Decrypt", "GenerateDataKey")),
            ("Read", _READ, access.read, ("Decrypt",)),
        ],
    )


def for_consumer(options: AwsOptions, access: Access) -> str:
    """Return the policy of an application that reads these secrets."""
    return _text(options, [("Read", _READ, access.rotated, ("Decrypt",))])


def _text(
    options: AwsOptions,
    wanted: Iterable[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]],
) -> str:
    statements: list[dict[str, Any]] = []
    for name, actions, paths, uses in wanted:
        if not paths:
            continue
        arns = [_arn(options, path) for path in paths]
        statements.append(
            {
                "Sid": name,
                "Effect": "Allow",
                "Action": [f"secretsmanager:{one}" for one in actions],
                "Resource": arns,
            }
        )
        if options.kms_key is not None:
            statements.append(
                {
                    "Sid": f"{name}Key",
                    "Effect": "Allow",
                    "Action": [f"kms:{one}" for one in uses],
                    "Resource": options.kms_key,
                    # Only what Secrets Manager encrypts, and only for these secrets.
                    "Condition": {"ArnLike": {"kms:EncryptionContext:SecretARN": arns}},
                }
            )
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _arn(options: AwsOptions, path: str) -> str:
    """Return the ARN of a secret, for the six characters that AWS adds: never `*`, which would
    also mean every secret whose name begins with this one's.
    """
    if path.startswith("arn:"):
        return path if _WHOLE.fullmatch(path) else f"{path}-??????"
    region = options.region or "*"
    return f"arn:aws:secretsmanager:{region}:*:secret:{path}-??????"
