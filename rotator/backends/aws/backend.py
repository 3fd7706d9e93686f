"""Secrets in AWS Secrets Manager: staging labels move, values never change.

Consumers read the version with the label AWSCURRENT. A staged value is a version with a label of
our own, one for each rotation, rather than AWSPENDING, which is AWS's own rotation's. Publishing
moves AWSCURRENT from the version that is expected: AWS refuses when it is elsewhere, and that is
the compare-and-set.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from rotator.api import (
    Conflict,
    Credential,
    Denied,
    Finding,
    NextVersion,
    PluginInfo,
    Secret,
    Severity,
    StepError,
    Unknown,
    UsageError,
    Version,
    abilities_of_backend,
    json_object,
    seconds_left,
)
from rotator.backends import templates
from rotator.backends.aws import policy
from rotator.backends.aws.client import AwsError, Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.responses import Malformed, part, table, texts
from rotator.backends.timeouts import within_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path

    from rotator.api import Access, Rights

CURRENT: Final = "AWSCURRENT"
PENDING: Final = "AWSPENDING"
# Our own label for what a rotation has staged.
_PREVIOUS: Final = "AWSPREVIOUS"
_LABEL: Final = "ROTATOR_PENDING_"
MARK: Final = "rotator_rotation_id"
# What a secret of ours holds before its first credential: the first version of a secret gets the
# label AWSCURRENT whatever is asked for (API reference, PutSecretValue).
_NOTHING_YET: Final = "rotator_nothing_yet"
_SHORTEST_TOKEN: Final = 32
_MOST_BYTES: Final = 65_536
_MOST_TOKENS: Final = 9
# Writes a second, by all in an account and region (AWS, "Secrets Manager quotas").
_QUOTA: Final = 50
# For how many seconds what is known of a secret need not be asked again.
_LATELY: Final = 10.0
# A version can be visible late (aws-sdk-js-v3 issue 7701).
_LATE: Final = (0.1, 0.3, 0.6)
_Found = TypeVar("_Found")


class NoObject(Denied):
    """A version holds something else than a JSON object."""


class AwsBackend:
    """Secrets in one account and region. Safe between threads, processes and machines."""

    def __init__(self, name: str, options: AwsOptions, client: Client) -> None:
        """Nothing is connected yet."""
        self._name: str = name
        self._options: AwsOptions = options
        self._client: Client = client
        self._guard: threading.Lock = threading.Lock()
        self._described: dict[str, tuple[float, dict[str, Any] | None]] = {}

    def limit(self) -> AbstractContextManager[None]:
        """Let what is called inside take no longer than the backend's timeout."""
        return self._client.limit()

    # -- the contract --------------------------------------------------------------------------

    @within_timeout
    def current(self, path: str) -> Version | None:
        """Return the version that is labelled AWSCURRENT."""
        found = self._read(path, VersionStage=CURRENT)
        if found is None or _NOTHING_YET in found["data"]:
            return None
        return self._version(path, found)

    @within_timeout
    def read(self, path: str, version: str) -> Version | None:
        """Return that very version."""
        found = self._read(path, VersionId=version)
        if found is None or _NOTHING_YET in found["data"]:
            return None
        return self._version(path, found)

    @within_timeout
    def previous(self, path: str) -> Version | None:
        """Return what has the label AWSPREVIOUS."""
        found = self._read(path, VersionStage=_PREVIOUS)
        if found is None or _NOTHING_YET in found["data"]:
            return None
        return self._version(path, found)

    @within_timeout
    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged."""
        found = self._read(path, VersionStage=_LABEL + rotation_id)
        return None if found is None else self._credential(path, found["data"])

    @within_timeout
    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` under a label of its own; the first write wins."""
        about = self._described_lately(path)
        if about is None:
            self._create(path)
        elif about.get("RotationEnabled"):
            raise self._owned_by_aws(path)
        data = self._data(path, new, rotation_id)
        for number in range(1, _MOST_TOKENS + 1):
            token = _token(rotation_id, number)
            found = self._read(path, VersionId=token)
            if found is not None:
                # Ours already: staged, or published since. One without a label was discarded.
                if found["stages"]:
                    return self._credential(path, found["data"])
                continue
            try:
                _ = self._client.write(
                    "put_secret_value",
                    path,
                    SecretId=path,
                    ClientRequestToken=token,
                    SecretString=data,
                    VersionStages=[_LABEL + rotation_id],
                )
            except AwsError as answer:
                if answer.code == "ResourceExistsException":
                    first = self._read(path, VersionId=token)
                    if first is not None and first["stages"]:
                        return self._credential(path, first["data"])
                    continue
                raise self._refused(path, answer) from None
            return new
        raise Conflict(
            f"this rotation was staged and discarded too often at {path!r}.",
            hint="Start a new rotation.",
        )

    @within_timeout
    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Move AWSCURRENT to the staged version, if `expect` still has it."""
        current = self._read(path, VersionStage=CURRENT)
        now = _id(current)
        if current is None or current["data"].get(MARK) != rotation_id:
            if now != expect:
                raise self._conflict(path, now, expect)
            staged = self._staged_in_time(path, rotation_id)
            if staged is None:
                raise Conflict(
                    f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
                )
            held = current["id"] if current is not None else None
            self._move(path, to=staged["id"], away_from=held, expect=expect)
            now = staged["id"]
        try:
            self.discard(path, rotation_id)
        except StepError as error:
            raise Unknown(
                f"version {now} is published, but its staging label could not be removed:"
                f" {error.what}"
            ) from error
        return cast("str", now)

    @within_timeout
    def discard(self, path: str, rotation_id: str) -> None:
        """Take the label away; AWS removes a version without labels by itself."""
        label = _LABEL + rotation_id
        found = self._read(path, VersionStage=label)
        if found is None:
            return
        try:
            self._label(path, label, away_from=found["id"])
        except AwsError as answer:
            if self._read(path, VersionStage=label) is not None:
                raise self._refused(path, answer) from None

    @within_timeout
    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Move AWSCURRENT back to version `to`, if `expect` still has it."""
        current = self._read(path, VersionStage=CURRENT)
        now = _id(current)
        if now == to:
            return to
        if now != expect:
            raise self._conflict(path, now, expect)
        wanted = self._read(path, VersionId=to)
        if wanted is None or _NOTHING_YET in wanted["data"]:
            raise Conflict(f"backend {self._name!r} no longer holds version {to} of {path!r}.")
        self._move(path, to=to, away_from=expect, expect=expect)
        return to

    # -- for consumers that prepare ------------------------------------------------------------

    @within_timeout
    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Label what is staged AWSPENDING, as AWS's own rotation does."""
        _ = expect
        staged = self._staged_in_time(path, rotation_id)
        if staged is None:
            raise Conflict(
                f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
            )
        if PENDING in staged["stages"]:
            return
        other = self._read(path, VersionStage=PENDING)
        try:
            self._label(path, PENDING, to=staged["id"], away_from=_id(other))
        except AwsError as answer:
            raise self._refused(path, answer) from None

    @within_timeout
    def retract(self, path: str, rotation_id: str) -> None:
        """Take the label AWSPENDING away, if it is at this rotation's version."""
        found = self._read(path, VersionStage=PENDING)
        if found is None or found["data"].get(MARK) != rotation_id:
            return
        try:
            self._label(path, PENDING, away_from=found["id"])
        except AwsError as answer:
            again = self._read(path, VersionStage=PENDING)
            if again is not None and again["id"] == found["id"]:
                raise self._refused(path, answer) from None

    @within_timeout
    def next(self, path: str) -> NextVersion | None:
        """Return the version that is labelled AWSPENDING."""
        found = self._read(path, VersionStage=PENDING)
        if found is None or CURRENT in found["stages"] or _NOTHING_YET in found["data"]:
            return None
        version = self._version(path, found)
        return NextVersion(
            rotation_id=version.rotation_id or "", version=version.id, credential=version.credential
        )

    # -- where AWS rotates by itself -----------------------------------------------------------

    def rotates_itself(self, path: str) -> bool:
        """Return whether rotation is turned on for this secret."""
        about = self._describe(path)
        with self._guard:
            self._described[path] = (time.monotonic(), about)
        return bool(about and about.get("RotationEnabled"))

    @within_timeout
    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Have AWS call the secret's rotation function; it does so on its own time."""
        _ = expect  # the version's id is made from the request's
        token = _token(rotation_id, 1)
        if CURRENT in (self._describe(path) or {}).get("VersionIdsToStages", {}).get(token, ()):
            return token
        try:
            answer = self._client.write(
                "rotate_secret", path, SecretId=path, ClientRequestToken=token
            )
        except AwsError as answered:
            stages = (self._describe(path) or {}).get("VersionIdsToStages", {})
            for version, labels in stages.items():
                if PENDING in labels and CURRENT not in labels:
                    # "A previous rotation isn't complete. That rotation will be reattempted."
                    return str(version)
            if token in stages:
                return token
            raise Denied(
                f"AWS rejected the request to rotate {path!r} ({answered.code}).",
                hint="Check that the secret has a rotation function: aws secretsmanager"
                " describe-secret shows RotationLambdaARN. Without one, run aws secretsmanager"
                " cancel-rotate-secret, so that rotator rotates it.",
            ) from None
        try:
            return part(answer, "VersionId", kind=str)
        except Malformed as error:
            raise self._client.malformed(error, writing=True) from error

    # -- values beside credentials -------------------------------------------------------------

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one key of the current version, where it is a text."""
        found = self._read(path, VersionStage=CURRENT)
        value = None if found is None else found["data"].get(field)
        return Secret(value) if isinstance(value, str) else None

    @within_timeout
    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Write one key, keeping the others."""
        if self._describe(path) is None:
            self._create(path)
        found = self._read(path, VersionStage=CURRENT)
        data = {} if found is None else {**found["data"]}
        _ = data.pop(_NOTHING_YET, None)
        try:
            _ = self._client.write(
                "put_secret_value",
                path,
                SecretId=path,
                SecretString=self._fits(path, {**data, field: value.reveal()}),
                VersionStages=[CURRENT],
            )
        except AwsError as answer:
            raise self._refused(path, answer) from None

    # -- care ----------------------------------------------------------------------------------

    @within_timeout
    def rotation_ids(self, path: str) -> set[str]:
        """Return the rotations whose versions still have a label."""
        about = self._describe(path)
        ids: set[str] = set()
        for version in (about or {}).get("VersionIdsToStages", {}):
            try:
                found = self._read(path, VersionId=version)
            except NoObject:
                # No value of ours, whatever it is.
                continue
            if found is not None and isinstance(one := found["data"].get(MARK), str):
                ids.add(one)
        return ids

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Look at each secret: may we see it, who rotates it, what was left behind."""
        found: list[Finding] = []
        if self._options.writes_a_second > _QUOTA and self._options.endpoint is None:
            message = (
                f"writes_a_second is {self._options.writes_a_second}; AWS allows {_QUOTA} per"
                " account"
            )
            remedy = "Leave capacity for other clients: the default is 25."
            subject = f"backend {self._name}"
            found.append(
                Finding(severity=Severity.WARNING, subject=subject, message=message, remedy=remedy)
            )
        for path in paths:
            subject = f"backend {self._name}, {path}"
            about = self._describe(path)
            if about is None:
                message = "does not exist yet: the first rotation creates it"
                found.append(Finding(severity=Severity.OK, subject=subject, message=message))
                continue
            found += self._examine_one(subject, path, about)
        if not any(one.severity is not Severity.OK for one in found):
            message = f"{self._client.where} is readable"
            found.append(
                Finding(severity=Severity.OK, subject=f"backend {self._name}", message=message)
            )
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _examine_one(self, subject: str, path: str, about: dict[str, Any]) -> list[Finding]:
        found: list[Finding] = []
        if about.get("RotationEnabled"):
            by = "" if about.get("RotationLambdaARN") else ", but it has no rotation function"
            found.append(
                Finding(
                    severity=Severity.ERROR if by else Severity.OK,
                    subject=subject,
                    message=f"AWS rotates it automatically{by}",
                    remedy="To let rotator rotate it: aws secretsmanager cancel-rotate-secret"
                    f" --secret-id {path}",
                )
            )
        stages = [one for labels in about.get("VersionIdsToStages", {}).values() for one in labels]
        if PENDING in stages:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    subject=subject,
                    message="AWSPENDING remains from an AWS rotation that did not complete",
                    remedy=f"aws secretsmanager update-secret-version-stage --secret-id {path} --version-stage AWSPENDING --remove-from-version-id ...",
                )
            )
        ours = [one for one in stages if one.startswith(_LABEL)]
        if ours:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    subject=subject,
                    message=f"{len(ours)} pending value(s) from an open rotation",
                    remedy="rotator resume --all",
                )
            )
        if self.current(path) is not None:
            found.append(Finding(severity=Severity.OK, subject=subject, message="is readable"))
        return found

    # -- below the contract --------------------------------------------------------------------

    def _read(self, path: str, **which: str) -> dict[str, Any] | None:
        """Return `id`, `data`, `stages` and `created` of a version; None when there is none."""
        try:
            answer = self._client.ask("get_secret_value", path, SecretId=path, **which)
        except AwsError as answered:
            # AWS answers a version id that could not be one as invalid.
            if answered.code == "ResourceNotFoundException" or "VersionId" in which:
                return None
            raise self._refused(path, answered) from None
        try:
            # A version that has lost its last label comes without any.
            stages = texts(answer, "VersionStages") if "VersionStages" in answer else []
            number = part(answer, "VersionId", kind=str)
            created = part(answer, "CreatedDate", kind=datetime)
            value = answer.get("SecretString")
            text = None if value is None else part(answer, "SecretString", kind=str)
        except Malformed as error:
            raise self._client.malformed(error) from error
        if "VersionStage" in which and which["VersionStage"] not in stages:
            return None
        data = self._parsed(path, text)
        return {"id": number, "data": data, "stages": stages, "created": created}

    def _staged_in_time(self, path: str, rotation_id: str) -> dict[str, Any] | None:
        return in_time(lambda: self._read(path, VersionStage=_LABEL + rotation_id), _LATE)

    def _describe(self, path: str) -> dict[str, Any] | None:
        try:
            found = self._client.ask("describe_secret", path, SecretId=path)
        except AwsError as answer:
            if answer.code == "ResourceNotFoundException":
                return None
            raise self._refused(path, answer) from None
        try:
            for version in table(found.get("VersionIdsToStages", {})):
                _ = texts(found, "VersionIdsToStages", version)
        except Malformed as error:
            raise self._client.malformed(error) from error
        return found

    def rights(self, paths: Sequence[str]) -> Rights:
        """Return who may do what, by the resource policies of these secrets."""
        from rotator.backends.aws import rights  # noqa: PLC0415 # only here

        return rights.read(self._client, paths)

    def _described_lately(self, path: str) -> dict[str, Any] | None:
        """Return what was found a moment ago, before the rotation began: one call less for each."""
        with self._guard:
            at, about = self._described.pop(path, (0.0, None))
        return (
            about if about is not None and time.monotonic() - at < _LATELY else self._describe(path)
        )

    def _create(self, path: str) -> None:
        if path.startswith("arn:"):
            raise Denied(
                f"secret {path!r} does not exist.",
                hint="To have rotator create it, give its name, not its ARN.",
            )
        more = {"KmsKeyId": self._options.kms_key} if self._options.kms_key else {}
        try:
            _ = self._client.write(
                "create_secret",
                path,
                Name=path,
                SecretString=json.dumps({_NOTHING_YET: True}),
                Tags=[{"Key": "managed-by", "Value": "rotator"}],
                **more,
            )
        except AwsError as answer:
            # Somebody was faster.
            if answer.code != "ResourceExistsException":
                raise self._refused(path, answer) from None

    def _move(self, path: str, *, to: str, away_from: str | None, expect: str | None) -> None:
        try:
            self._label(path, CURRENT, to=to, away_from=away_from)
        except (AwsError, Unknown) as error:
            # Moved already, by a try whose answer was lost? The label tells.
            try:
                now = _id(self._read(path, VersionStage=CURRENT))
            except StepError as again:
                raise Unknown(f"unknown whether {path!r} was changed: {again.what}") from error
            if now == to:
                return
            if isinstance(error, Unknown):
                raise
            raise self._conflict(path, now, expect) from None

    def _label(
        self, path: str, label: str, *, to: str | None = None, away_from: str | None = None
    ) -> None:
        """Put a label on a version, take it from one, or move it between two. Raises `AwsError`."""
        given = {"MoveToVersionId": to, "RemoveFromVersionId": away_from}
        _ = self._client.write(
            "update_secret_version_stage",
            path,
            SecretId=path,
            VersionStage=label,
            **{key: version for key, version in given.items() if version is not None},
        )

    def _version(self, path: str, found: dict[str, Any]) -> Version:
        mark = found["data"].get(MARK)
        return Version(
            id=found["id"],
            credential=self._credential(path, found["data"]),
            rotation_id=mark if isinstance(mark, str) else None,
            created=found["created"],
        )

    def _credential(self, path: str, data: Mapping[str, Any]) -> Credential:
        options = self._options
        username, password = data.get(options.username_field), data.get(options.password_field)
        if not isinstance(username, str) or not isinstance(password, str):
            raise Denied(
                f"{path!r} in backend {self._name!r} has no {options.username_field!r} and"
                f" {options.password_field!r}.",
                hint="Set `username_field` and `password_field` to the secret's keys.",
            )
        own = {options.username_field, options.password_field, MARK, *options.templates}
        fields = {key: one for key, one in data.items() if key not in own}
        return Credential(username=username, password=Secret(password), fields=fields)

    def _data(self, path: str, new: Credential, rotation_id: str) -> str:
        return self._fits(path, {**self._keys(new), MARK: rotation_id})

    def _keys(self, new: Credential) -> dict[str, Any]:
        return {
            **new.fields,
            **templates.fill(self._options.templates, new),
            self._options.username_field: new.username,
            self._options.password_field: new.password.reveal(),
        }

    def _fits(self, path: str, data: Mapping[str, Any]) -> str:
        text = json.dumps(data, ensure_ascii=False)
        if len(text.encode()) > _MOST_BYTES:
            raise Denied(
                f"the value for {path!r} has {len(text.encode())} bytes; AWS allows at most"
                f" {_MOST_BYTES}.",
                hint="Remove keys other than login and password from the secret.",
            )
        return text

    def _parsed(self, path: str, text: str | None) -> dict[str, Any]:
        try:
            return json_object(text or "")
        except ValueError as error:
            why = str(error)
        raise NoObject(
            f"{path!r} in backend {self._name!r} is not a JSON object with login and password:"
            f" {why}.",
            hint="Store the credential as a JSON object, as AWS's console does.",
        )

    def _conflict(self, path: str, now: str | None, expect: str | None) -> Conflict:
        return Conflict(
            f"backend {self._name!r} has version {now or 'none'} of {path!r}, expected"
            f" {expect or 'none'}: another writer changed it.",
            hint="rotator did not overwrite that value.",
        )

    def _owned_by_aws(self, path: str) -> Denied:
        return Denied(
            f"AWS rotates {path!r} automatically (RotationEnabled), so rotator does not stage"
            " a value beside it.",
            hint="If `path` names it directly, `rotator rotate` asks AWS to rotate it. Otherwise"
            " let only one of the two rotate it: run aws secretsmanager cancel-rotate-secret,"
            " or remove it from rotator's configuration.",
        )

    def _refused(self, path: str, answer: AwsError) -> StepError:
        return Denied(f"{self._client.where} rejected the request on {path!r} ({answer.code}).")


class _AwsPlugin:
    """Opens AWS Secrets Manager backends."""

    info: PluginInfo = PluginInfo(
        name="aws",
        summary="AWS Secrets Manager.",
        target_options=AwsOptions,
        abilities=abilities_of_backend(AwsBackend),
    )

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> AwsBackend:
        """Open it; nothing is connected yet."""
        _ = resolve, base
        chosen = cast("AwsOptions", options)
        return AwsBackend(name, chosen, Client(chosen))

    policies: tuple[str, ...] = tuple(policy.MAKERS)

    def policy(self, options: object, access: Access, *, of: str) -> str:
        """Return the policy as IAM, or Lambda, has it."""
        return policy.MAKERS[of](cast("AwsOptions", options), access)


PLUGIN: Final = _AwsPlugin()


def in_time(look: Callable[[], _Found | None], pauses: tuple[float, ...]) -> _Found | None:
    """Return what `look` finds, looking again after each of these seconds while it finds nothing."""
    for pause in pauses:
        found = look()
        if found is not None:
            return found
        time.sleep(seconds_left(pause))
    return look()


def _token(rotation_id: str, number: int) -> str:
    """Return the version id of a rotation's n-th staged value: 32 to 64 characters, AWS says."""
    if len(rotation_id) > 60:  # noqa: PLR2004 # room for the number
        raise UsageError("a rotation id must have at most 60 characters.")
    text = rotation_id if number == 1 else f"{rotation_id}-{number}"
    return text.ljust(_SHORTEST_TOKEN, "-")


def _id(found: dict[str, Any] | None) -> str | None:
    """Return the version's id; None also for a secret that holds no credential yet."""
    return None if found is None or _NOTHING_YET in found["data"] else str(found["id"])
