"""Secrets whose rotation AWS leads: it has made the version, with the label AWSPENDING and no value.

The version's id is the rotation's id (the event's ClientRequestToken). Facts: AWS, "Lambda rotation
functions" (https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda.html).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from rotator.api import StepError, Unavailable, Unknown, Version
from rotator.backends.aws.backend import CURRENT, MARK, PENDING, AwsBackend, in_time
from rotator.backends.aws.client import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.api import Credential, Secret
    from rotator.backends.aws.client import Client
    from rotator.backends.aws.options import AwsOptions

PREVIOUS: Final = "AWSPREVIOUS"
# Where the journal is a log: the end of the secret's chain of events, and what its last rotation was.
HEAD_TAG: Final = "rotator-journal"
STATE_TAG: Final = "rotator-state"
# AWS keeps 500,000 secrets in a region, and lists 100 a page.
_MOST_PAGES: Final = 5_000
# What createSecret has written may be visible late (aws-sdk-js-v3 issue 7701).
_LATE: Final = (0.1, 0.3, 0.6, 1.0)
# How long values are kept for a rotation that does not go on, in seconds.
_KEEP: Final = 900.0


@dataclass(slots=True)
class _Kept:
    """What was read for one rotation, in memory only: AWS never changes the value of a version.

    `admins`: the version that was current of each admin's secret.
    """

    token: str | None = None
    since: float = field(default_factory=time.time)
    values: dict[tuple[str, str], dict[str, Any]] = field(
        default_factory=dict[tuple[str, str], "dict[str, Any]"], repr=False
    )
    admins: dict[str, str] = field(default_factory=dict[str, str])
    described_admins: dict[str, dict[str, Any] | None] = field(
        default_factory=dict[str, "dict[str, Any] | None"]
    )


class AwsDrivenBackend(AwsBackend):
    """As `AwsBackend`, but staging and publishing by the labels that AWS's own rotation uses.

    A warm process keeps what it reads for a rotation until that ends: each version is read once.
    """

    def __init__(self, name: str, options: AwsOptions, client: Client) -> None:
        """Nothing is connected yet."""
        super().__init__(name, options, client)
        self._rotation_token: Secret | None = None
        self._kept: _Kept = _Kept()
        self._rotations: dict[str, _Kept] = {}
        # The version with the label AWSCURRENT, as this invocation has seen it.
        self._labelled: dict[str, str | None] = {}

    def begin(
        self, path: str = "", token: str | None = None, rotation_token: Secret | None = None
    ) -> None:
        """Begin an invocation: a step of the rotation of `path` to version `token`, or a sweep.

        `rotation_token`: from its event, where AWS rotates by an assumed role.
        """
        self._rotation_token = rotation_token
        self._labelled.clear()
        now = time.time()
        for name, kept in [*self._rotations.items()]:
            if not 0 <= now - kept.since < _KEEP or (name == path and kept.token != token):
                del self._rotations[name]
        self._kept = (
            _Kept(token) if token is None else self._rotations.setdefault(path, _Kept(token))
        )

    def end(self, path: str) -> None:
        """Forget what was read for the rotation of `path`: it is over, or has failed."""
        _ = self._rotations.pop(path, None)
        self._kept = _Kept()
        self._labelled.clear()

    def describe(self, path: str) -> dict[str, Any] | None:
        """Return what DescribeSecret says; None when there is no such secret.

        The label AWSCURRENT counts as seen here until `forget_labels`.
        """
        about = self._describe(path)
        versions: Mapping[str, list[str]] = (about or {}).get("VersionIdsToStages", {})
        holders = (version for version, labels in versions.items() if CURRENT in labels)
        self._labelled[path] = next(holders, None)
        return about

    def forget_labels(self) -> None:
        """Ask AWS again which version is current: something is about to be changed by it."""
        self._labelled.clear()

    def current(self, path: str) -> Version | None:
        """Return the version that is labelled AWSCURRENT, as `describe` has just seen it."""
        labelled = self._labelled.get(path)
        found = None if labelled is None else self.read(path, labelled)
        return super().current(path) if found is None else found

    def admin(self, path: str, *, again: bool = False) -> Version | None:
        """Return what is current of an admin's secret, read once for a rotation; `again`: as it is now."""
        known = None if again else self._kept.admins.get(path)
        if known is not None:
            return self.read(path, known)
        version = super().current(path)
        if version is not None:
            self._kept.admins[path] = version.id
        return version

    def describe_admin(self, path: str) -> dict[str, Any] | None:
        """Return what DescribeSecret says of an admin's secret, asked once for a rotation."""
        if path not in self._kept.described_admins:
            self._kept.described_admins[path] = self._describe(path)
        return self._kept.described_admins[path]

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return the value of AWS's version, None while it has none."""
        found = self._read(path, VersionId=rotation_id)
        return None if found is None else self._credential(path, found["data"])

    def staged_in_time(self, path: str, rotation_id: str) -> Credential | None:
        """As `staged`, for a value that must be there by now."""
        return in_time(lambda: self.staged(path, rotation_id), _LATE)

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Give AWS's version its value; the first write wins."""
        given: dict[str, Any] = {}
        if self._rotation_token is not None and self._client.takes(
            "PutSecretValue", "RotationToken"
        ):
            given["RotationToken"] = self._rotation_token.reveal()
        try:
            _ = self._client.write(
                "put_secret_value",
                path,
                SecretId=path,
                ClientRequestToken=rotation_id,
                SecretString=self._data(path, new, rotation_id),
                # Without it AWS would move AWSCURRENT.
                VersionStages=[PENDING],
                **given,
            )
        except AwsError as answer:
            if answer.code == "ResourceExistsException":
                first = self.staged_in_time(path, rotation_id)
                if first is not None:
                    return first
            raise self._refused(path, answer) from None
        return new

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Move AWSCURRENT to AWS's version, if `expect` still has it."""
        # One call, which AWS refuses where the label is elsewhere: until it is done, the single user
        # of a target without overlap cannot log in with what is current.
        self.forget_labels()
        self._move(path, to=rotation_id, away_from=expect, expect=expect)
        return rotation_id

    def discard(self, path: str, rotation_id: str) -> None:
        """Take AWSPENDING away, so that the next rotation is not blocked by this one."""
        if PENDING not in self._stages(path).get(rotation_id, ()):
            return
        self._unlabel(path, rotation_id, PENDING)

    def keep_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Put tags on the secret, all of them at once."""
        given = [{"Key": key, "Value": value} for key, value in tags.items()]
        try:
            _ = self._client.write("tag_resource", path, SecretId=path, Tags=given)
        except AwsError as answer:
            raise self._refused(path, answer) from None

    def rotated_by(self, function: str) -> list[str]:
        """Return the ARNs of the secrets that this function rotates, by whatever name of it."""
        found: list[str] = []
        given: dict[str, Any] = {}
        for _ in range(_MOST_PAGES):
            answer = self._client.ask("list_secrets", "*", MaxResults=100, **given)
            found += [
                str(one.get("ARN"))
                for one in answer.get("SecretList", ())
                if _unqualified(one.get("RotationLambdaARN")) == _unqualified(function)
            ]
            if not answer.get("NextToken"):
                return found
            given = {"NextToken": answer["NextToken"]}
        raise Unavailable(
            f"{self._client.where} returned more than {_MOST_PAGES} pages of secrets; the"
            " listing stopped there."
        )

    # -- below ---------------------------------------------------------------------------------

    def _read(self, path: str, **which: str) -> dict[str, Any] | None:
        """As any, but a version that is known by its id is asked for once: only its labels can change."""
        known = self._kept.values.get((path, which.get("VersionId", "")))
        if known is not None:
            return known
        found = super()._read(path, **which)
        if found is not None:
            self._kept.values[path, found["id"]] = found
        return found

    def _stages(self, path: str) -> Mapping[str, list[str]]:
        return (self._describe(path) or {}).get("VersionIdsToStages", {})

    def _unlabel(self, path: str, version: str, label: str) -> None:
        try:
            self._label(path, label, away_from=version)
        except (AwsError, Unknown) as error:
            try:
                left = label in self._stages(path).get(version, ())
            except StepError as again:
                raise Unknown(f"unknown whether {label} was removed: {again.what}") from error
            if not left:
                return
            if isinstance(error, Unknown):
                raise
            raise self._refused(path, error) from None

    def _version(self, path: str, found: dict[str, Any]) -> Version:
        return replace(super()._version(path, found), rotation_id=found["id"])

    def _data(self, path: str, new: Credential, rotation_id: str) -> str:
        # The version's id says whose it is; the secret's own keys stay as they were.
        _ = rotation_id
        data = {key: one for key, one in self._keys(new).items() if key != MARK}
        return self._fits(path, data)


def _unqualified(function: object) -> str:
    """Return the ARN of a function without the version or alias behind it."""
    return ":".join(str(function or "").split(":")[:7])
