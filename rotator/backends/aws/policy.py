"""The least rights that rotator, or an application, needs: IAM policies."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from rotator.api import UsageError

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
    "RotateSecret",
)
_KEPT: Final = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "CreateSecret", "TagResource")
_READ: Final = ("GetSecretValue",)
# A rotation function never creates: AWS calls it for what is there.
_BY_LAMBDA: Final = (
    "DescribeSecret",
    "GetSecretValue",
    "PutSecretValue",
    "UpdateSecretVersionStage",
)
# The sweep makes no value: it looks, revokes on the database, and writes down by a label that it has.
_BY_SWEEP: Final = ("DescribeSecret", "GetSecretValue", "UpdateSecretVersionStage")
# An admin's secret without a host says by a tag which of RDS's it is for.
_MASTER: Final = ("DescribeSecret", "GetSecretValue")
# What shows the policies of IAM.
SIMULATES: Final = ("iam:ListRoles", "iam:ListUsers", "iam:SimulatePrincipalPolicy")
# The tags of a journal which is a log: its end, and what the last rotation was.
JOURNAL_TAGS: Final = ("rotator-journal", "rotator-state")
# By how their names begin; elsewhere ARNs begin with `arn:aws:`.
_PARTITIONS: Final = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}
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


def for_access_check(options: AwsOptions, access: Access) -> str:
    """Return the policy that shows what the policies of these secrets, and those of IAM, allow."""
    arns = [_arn(options, path) for path in access.rotated]
    check = _statement("Check", ["secretsmanager:GetResourcePolicy"], arns)
    # It only simulates: it grants nothing.
    return _json([check, _statement("Simulate", list(SIMULATES), "*")])


def for_lambda(options: AwsOptions, access: Access) -> str:
    """Return the policy of a rotation function's role, for exactly these secrets."""
    uses = ("Decrypt", "GenerateDataKey")
    return _of_function(options, access, ("Rotate", _BY_LAMBDA, access.rotated, uses))


def for_sweep(options: AwsOptions, access: Access) -> str:
    """Return the policy of the sweep's role, which revokes what the rotation function replaced."""
    # It finds by itself which secrets the function rotates; AWS allows that on all or none.
    listing = _statement("Find", ["secretsmanager:ListSecrets"], "*")
    sweeping = ("Sweep", _BY_SWEEP, access.rotated, ("Decrypt",))
    return _of_function(options, access, sweeping, listing)


def _of_function(
    options: AwsOptions,
    access: Access,
    own: tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    *more: dict[str, Any],
) -> str:
    masters = tuple(dict.fromkeys((*options.masters, *access.admins)))
    others = [*more]
    if access.rotated:
        # Where the journal is the function's log, two tags keep the end of its chain; and no others.
        tagging = _statement(
            "Journal",
            ["secretsmanager:TagResource"],
            [_arn(options, path) for path in access.rotated],
        )
        tagging["Condition"] = {"ForAllValues:StringEquals": {"aws:TagKeys": [*JOURNAL_TAGS]}}
        others.append(tagging)
    if masters:
        hosts = ["rds:DescribeDBInstances", "rds:DescribeDBClusters"]
        others.append(_statement("Hosts", hosts, "*"))
    read = tuple(one for one in access.read if one not in masters)
    return _text(
        options,
        [own, ("Masters", _MASTER, masters, ("Decrypt",)), ("Read", _READ, read, ("Decrypt",))],
        others,
    )


def for_invoking(options: AwsOptions, access: Access) -> str:
    """Return the policy on the function itself: Secrets Manager may call it, for this account only.

    Without `aws:SourceAccount` anybody's secret could be rotated by it: the confused deputy
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html). Raises `UsageError`
    without region and account.
    """
    _ = access
    if options.account is None or options.region is None:
        raise UsageError(
            "the permission to invoke the function requires one account and one region.",
            hint="Set the backend's `account` and `region`.",
        )
    function = options.function
    if not function.startswith("arn:"):
        place = f"{options.region}:{options.account}"
        function = f"arn:{_partition(options)}:lambda:{place}:function:{function}"
    statement = {
        "Sid": "SecretsManager",
        "Effect": "Allow",
        "Principal": {"Service": "secretsmanager.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": function,
        "Condition": {"StringEquals": {"aws:SourceAccount": options.account}},
    }
    return _json([statement])


def _text(
    options: AwsOptions,
    wanted: Iterable[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]],
    more: Iterable[dict[str, Any]] = (),
) -> str:
    statements: list[dict[str, Any]] = [*more]
    for name, actions, paths, uses in wanted:
        if not paths:
            continue
        arns = [_arn(options, path) for path in paths]
        statements.append(_statement(name, [f"secretsmanager:{one}" for one in actions], arns))
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
    return _json(statements)


def _statement(name: str, actions: list[str], resources: list[str] | str) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources}


def _json(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _arn(options: AwsOptions, path: str) -> str:
    """Return the ARN of a secret, for the six characters that AWS adds: never `*`, which would
    also mean every secret whose name begins with this one's.
    """
    if path.startswith("arn:"):
        return path if _WHOLE.fullmatch(path) else f"{path}-??????"
    place = f"{options.region or '*'}:{options.account or '*'}"
    return f"arn:{_partition(options)}:secretsmanager:{place}:secret:{path}-??????"


def _partition(options: AwsOptions) -> str:
    region = options.region or ""
    found = (name for begin, name in _PARTITIONS.items() if region.startswith(begin))
    return next(found, "aws")


MAKERS: Final = {
    "rotator": for_rotator,
    "consumer": for_consumer,
    "access-check": for_access_check,
    "lambda": for_lambda,
    "lambda-sweep": for_sweep,
    "lambda-invoke": for_invoking,
}
