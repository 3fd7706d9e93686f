"""Secrets in a KV version 2 mount: each write by check-and-set, each read-back by its version.

Consumers read the newest version of a path. What is staged lies on a path of its own beside it,
`<pending>/<path>/<rotation id>`, and becomes a version of the main path by `publish`. While consumers
prepare, they read a copy of it at `<pending>/<path>/next`. The rotation id rides in the data, which is versioned, rather than in the metadata, which is not.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from hvac import exceptions

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
    Version,
    abilities_of_backend,
    version_mark,
)
from rotator.backends import templates
from rotator.backends.responses import Malformed, part, table, texts
from rotator.backends.timeouts import within_timeout
from rotator.backends.vault import policy
from rotator.backends.vault.errors import (
    CasMismatch,
    MountAbsent,
    NotAllowed,
    NotVersioned,
    VersionGone,
    is_mount_absent,
    metadata,
)
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rotator.api import Access, Rights, ServerResponse

# Beside the login and the password, for whoever looks: which rotation wrote this version.
_MARK: Final = "rotator_rotation_id"
# Beside what consumers read as the next version: the version that it becomes.
_NEXT_VERSION: Final = "rotator_next_version"
# Where that is, in the place of a rotation's id.
_NEXT: Final = "next"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_TRIES: Final = 8
_MOST_SKEW: Final = timedelta(seconds=30)
# The year 9999, in seconds since 1970.
_LATEST: Final = 253_000_000_000
_LONGEST_LIFE: Final = 315_360_000
_FEWEST_VERSIONS: Final = 3


class VaultBackend:
    """Secrets in one KV version 2 mount. Safe between threads, processes and machines."""

    def __init__(self, name: str, options: VaultOptions, session: VaultClient) -> None:
        """Nothing is connected yet."""
        self._name: str = name
        self._options: VaultOptions = options
        self._session: VaultClient = session
        self._mount: str = options.mount.strip("/")
        self._checked: bool = False

    def limit(self) -> AbstractContextManager[None]:
        """Let what is called inside take no longer than the backend's timeout."""
        return self._session.limit()

    # -- the contract --------------------------------------------------------------------------

    def current(self, path: str) -> Version | None:
        """Return the newest version. Raises `VersionGone` when somebody deleted it."""
        found = self._read(path)
        return None if found is None else self._version(path, found)

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version."""
        if not _VERSION.fullmatch(version):
            return None
        try:
            found = self._read(path, int(version))
        except VersionGone:
            return None
        return None if found is None else self._version(path, found)

    def previous(self, path: str) -> Version | None:
        """Return the version before the newest, unless it was deleted."""
        current = self.current(path)
        # To the API, version 0 is the newest.
        number = 0 if current is None else int(current.id) - 1
        return self.read(path, str(number)) if number else None

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged."""
        found = self._pending(path, rotation_id)
        return None if found is None else self._credential(path, found)

    @within_timeout
    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` on a path beside; the first write wins."""
        current = self._read(path)
        if current is not None and current["data"].get(_MARK) == rotation_id:
            return self._credential(path, current["data"])
        beside = self._beside(path, rotation_id)
        self._describe(beside, {"rotation-id": rotation_id})
        data = self._data(new, rotation_id)
        try:
            _ = self._write(beside, data, cas=0)
        except CasMismatch:
            first = self.staged(path, rotation_id)
            if first is None:
                raise Unknown(
                    f"the staged value of this rotation at {beside!r} disappeared during the call."
                ) from None
            return first
        return self._credential(path, data)

    @within_timeout
    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Write the staged value as the next version, if `expect` still is the newest."""
        current = self._read(path)
        now = _number(current)
        if current is None or current["data"].get(_MARK) != rotation_id:
            if now != expect:
                raise self._conflict(path, now, expect)
            data = self._pending(path, rotation_id)
            if data is None:
                raise Conflict(
                    f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
                )
            now = self._publish(path, rotation_id, data, expect)
        try:
            self.discard(path, rotation_id)
        except StepError as error:
            raise Unknown(
                f"version {now} is published, but the staged value could not be removed:"
                f" {error.what}"
            ) from error
        return cast("str", now)

    @within_timeout
    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged, with all that is known of it."""
        self._remove(self._beside(path, rotation_id))

    @within_timeout
    def remove(self, path: str, *, expect: str | None) -> None:
        """Remove every version at `path` with its metadata, if `expect` still is the newest."""
        current = self._read(path)
        if current is None:
            return
        now = _number(current)
        if now != expect:
            raise Conflict(f"{path!r} is at version {now}, expected {expect}: nothing was removed.")
        self._remove(path)

    @within_timeout
    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Write the value of version `to` anew, if `expect` still is the newest."""
        current, wanted = self._read(path), None
        now = _number(current)
        if now == to:
            return to
        if _VERSION.fullmatch(to):
            try:
                wanted = self._read(path, int(to))
            except VersionGone:
                wanted = None
        if current is not None and wanted is not None and now != expect:
            # Written already, by a try whose answer was lost: the copy holds the same.
            if current["data"] == wanted["data"]:
                return cast("str", now)
            raise self._conflict(path, now, expect)
        if now != expect:
            raise self._conflict(path, now, expect)
        if wanted is None:
            raise Conflict(f"backend {self._name!r} no longer holds version {to} of {path!r}.")
        try:
            return self._write(path, wanted["data"], cas=int(expect))
        except CasMismatch:
            raise self._conflict(path, _number(self._read(path)), expect) from None

    # -- for consumers that prepare ------------------------------------------------------------

    @within_timeout
    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Write what is staged to the path of the next version, by check-and-set."""
        staged = self._pending(path, rotation_id)
        if staged is None:
            raise Conflict(
                f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
            )
        # `publish` writes by check-and-set on `expect`, so the version after it is known.
        version = str(int(expect) + 1)
        wanted = {**staged, _NEXT_VERSION: version}
        beside = self._beside(path, _NEXT)
        found = self._pending(path, _NEXT)
        if found == wanted:
            return
        # Left by another rotation, or deleted since: begin anew, at version 0.
        self._remove(beside)
        marks = {"rotation-id": rotation_id, "version-mark": version_mark(version)}
        self._describe(beside, marks)
        try:
            _ = self._write(beside, wanted, cas=0)
        except CasMismatch:
            if self._pending(path, _NEXT) != wanted:
                raise self._conflict(beside, "another", None) from None

    @within_timeout
    def retract(self, path: str, rotation_id: str) -> None:
        """Remove the next version with all that is known of it, if it is this rotation's."""
        found = self._pending(path, _NEXT)
        if found is not None and found.get(_MARK) == rotation_id:
            self._remove(self._beside(path, _NEXT))

    def next(self, path: str) -> NextVersion | None:
        """Return the version that comes next."""
        found = self._pending(path, _NEXT)
        if found is None:
            return None
        return NextVersion(
            rotation_id=str(found.get(_MARK) or ""),
            version=str(found.get(_NEXT_VERSION) or ""),
            credential=self._credential(path, found),
        )

    # -- values beside credentials -------------------------------------------------------------

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one key of what is kept at `path`, where it is a text."""
        found = self._read(path)
        value = None if found is None else found["data"].get(field)
        return Secret(value) if isinstance(value, str) else None

    @within_timeout
    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Write one key, keeping the others."""
        for _ in range(_TRIES):
            found = self._read(path)
            data = {} if found is None else dict(found["data"])
            try:
                _ = self._write(path, data | {field: value.reveal()}, cas=int(_number(found) or 0))
            except CasMismatch:
                continue
            return
        raise Conflict(f"another writer keeps changing {path!r} in backend {self._name!r}.")

    # -- care ----------------------------------------------------------------------------------

    @within_timeout
    def rotation_ids(self, path: str) -> set[str]:
        """Return the rotations whose values are held at `path`, pending ones too."""
        found = self._metadata(path)
        ids = set(self._list_pending(path))
        for number in (found or {}).get("versions", {}):
            try:
                version = self._read(path, int(number))
            except VersionGone:
                continue
            if version is not None and isinstance(one := version["data"].get(_MARK), str):
                ids.add(one)
        return ids

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Look at the token, the mount, the clock and each path. Nothing is written."""
        subject = f"backend {self._name}"
        self._check_mount()
        found = [*self._examine_token(subject), *self._examine_clock(subject)]
        mount = self._ask(
            lambda client: _about(client.secrets.kv.v2.read_configuration(mount_point=self._mount)),
            "config",
            "read",
        )
        for path, period in paths.items():
            found += self._examine_path(path, period, mount)
            found += self._examine_rights(path)
        if all(one.severity is Severity.OK for one in found):
            message = f"KV version 2 at {self._mount}/ is usable"
            found.append(Finding(severity=Severity.OK, subject=subject, message=message))
        return found

    def rights(self, paths: Sequence[str]) -> Rights:
        """Return who may do what, by the policies of everybody who can log in."""
        from rotator.backends.vault.rights import RightsReading  # noqa: PLC0415 # only here

        options = self._options
        pending, namespace = options.pending.strip("/"), options.namespace or ""
        return RightsReading(self._session, self._mount, pending, namespace.strip("/")).read(paths)

    # -- for targets that work through this login ----------------------------------------------

    @property
    def where(self) -> str:
        """The server's name in a message."""
        return self._session.where

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, capability: str
    ) -> ServerResponse:
        """Send one request to another engine of the same server, by the same login."""
        return self._session.call(method, path, body, capability=capability)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _examine_token(self, subject: str) -> list[Finding]:
        try:
            token = self._session.lookup()
        except NotAllowed:
            return []
        found: list[Finding] = []
        policies = token.get("policies")
        if isinstance(policies, list) and "root" in policies:
            found.append(
                _warning(
                    subject,
                    "the token is a root token",
                    "Create one with the policy that `rotator policy BACKEND` prints.",
                )
            )
        # Other methods log in again.
        ttl = token.get("ttl")
        if isinstance(ttl, int) and ttl and self._options.auth.method == "token":
            left = timedelta(seconds=min(abs(ttl), _LONGEST_LIFE))
            if not token.get("renewable"):
                message = f"the token expires in {left} and cannot be renewed"
                remedy = "Use an auth method that can log in again, or a periodic token."
                found.append(_warning(subject, message, remedy))
            elif not token.get("period"):
                message = (
                    f"the token expires in {left}, and can be renewed only up to its maximum TTL"
                )
                remedy = "Use an auth method that can log in again, or a token with a period."
                found.append(_warning(subject, message, remedy))
        return found

    def _examine_clock(self, subject: str) -> list[Finding]:
        told = self._session.ask(
            # A standby may answer too: its clock counts as well.
            lambda client: _clock(
                client.adapter.get("/v1/sys/health", params={"standbyok": "true"})
            ),
            path="sys/health",
            capability="read",
        )
        skew = abs(datetime.now(UTC) - told)
        if skew <= _MOST_SKEW:
            return []
        message = f"the server's clock differs from rotator's by {skew}"
        return [_warning(subject, message, "Set both by NTP: expiry and schedules depend on them.")]

    def _examine_path(
        self, path: str, period: timedelta | None, mount: dict[str, Any]
    ) -> list[Finding]:
        subject = f"backend {self._name}, {path}"
        key = self._metadata(path) or {}
        found: list[Finding] = []
        lives = [
            span for span in (_span(key), _span(mount)) if span is not None and span > timedelta(0)
        ]
        if lives and (period is None or min(lives) <= period):
            found.append(
                Finding(
                    severity=Severity.ERROR,
                    subject=subject,
                    message=f"each version is deleted after {min(lives)}, before the next rotation:"
                    " the current secret would disappear",
                    remedy=f"bao kv metadata put -mount={self._mount} -delete-version-after=0s {path}",
                )
            )
        # 0 stands for 10, and the greater of the two counts (kv/path_data.go).
        kept = max(int(key.get("max_versions") or 0), int(mount.get("max_versions") or 0)) or 10
        if kept < _FEWEST_VERSIONS:
            found.append(
                _warning(
                    subject,
                    f"only {kept} version(s) are kept: a rollback requires the previous one",
                    f"bao kv metadata put -mount={self._mount} -max-versions=10 {path}",
                )
            )
        pending = self._list_pending(path)
        if pending:
            message = f"{len(pending)} pending value(s) from an open rotation"
            found.append(_warning(subject, message, "rotator resume --all"))
        return found

    def _examine_rights(self, path: str) -> list[Finding]:
        """Compare what the token may do with what a rotation needs."""
        wanted = policy.needed(self._mount, self._options.pending.strip("/"), path)
        where = "sys/capabilities-self"
        try:
            answer = self._session.ask(
                lambda client: table(
                    client.adapter.post(f"/v1/{where}", json={"paths": list(wanted)}), "data"
                ),
                path=where,
                capability="update",
            )
        except NotAllowed:
            # A token without the policy `default`; the rotation itself will tell.
            return []
        found: list[Finding] = []
        for place, needed in wanted.items():
            may = answer.get(place)
            may = may if isinstance(may, list) else []
            missing = [one for one in needed if one not in may and "root" not in may]
            if missing:
                message = f"the token lacks {' and '.join(missing)} on {place}"
                found.append(
                    Finding(
                        severity=Severity.ERROR,
                        subject=f"backend {self._name}, {path}",
                        message=message,
                        remedy="Grant it the policy that this command prints: rotator policy"
                        f" {self._name}",
                    )
                )
        return found

    # -- below the contract --------------------------------------------------------------------

    def _publish(
        self, path: str, rotation_id: str, data: dict[str, Any], expect: str | None
    ) -> str:
        try:
            return self._write(path, data, cas=int(expect or 0))
        except (CasMismatch, Unknown) as error:
            # Ours after all, by a write whose answer was lost? The next version tells.
            try:
                current = self._read(path)
            except VersionGone:
                raise
            except StepError as again:
                raise Unknown(f"unknown whether {path!r} was published: {again.what}") from error
            if current is not None and current["data"].get(_MARK) == rotation_id:
                return cast("str", _number(current))
            if isinstance(error, Unknown):
                raise
            raise self._conflict(path, _number(current), expect) from None

    def _write(self, path: str, data: Mapping[str, Any], *, cas: int) -> str:
        number = self._ask(
            lambda client: part(
                client.secrets.kv.v2.create_or_update_secret(
                    path, dict(data), cas=cas, mount_point=self._mount
                ),
                "data",
                "version",
                kind=int,
            ),
            f"data/{path}",
            "create and update",
            writing=True,
        )
        return str(number)

    def _describe(self, beside: str, marks: Mapping[str, str]) -> None:
        """Make a path for one version that expires, with its owner in its metadata."""
        expiry = f"{int(self._options.pending_expiry.total_seconds())}s"
        self._ask(
            lambda client: client.secrets.kv.v2.update_metadata(
                beside,
                max_versions=1,
                delete_version_after=expiry,
                custom_metadata={"managed-by": "rotator", **marks},
                mount_point=self._mount,
            ),
            f"metadata/{beside}",
            "create and update",
            writing=True,
        )

    def _remove(self, path: str) -> None:
        """Remove a path with its metadata; gone is success."""
        try:
            self._ask(
                lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
                    path, mount_point=self._mount
                ),
                f"metadata/{path}",
                "delete",
                writing=True,
                optional=True,
            )
        except exceptions.InvalidPath as error:
            self._require_mount(error)

    def _read(self, path: str, version: int | None = None) -> dict[str, Any] | None:
        """Return `data` and `metadata`; None when there is nothing, and never was."""
        try:
            return self._ask(
                lambda client: _held(
                    client.secrets.kv.v2.read_secret_version(
                        path,
                        version=version,
                        mount_point=self._mount,
                        raise_on_deleted_version=True,
                    )
                ),
                f"data/{path}",
                "read",
                optional=True,
            )
        except exceptions.InvalidPath as error:
            gone = metadata(error)
            if gone is None:
                self._require_mount(error)
                return None
            how = "destroyed" if gone.get("destroyed") else f"deleted at {gone['deletion_time']}"
            number = gone.get("version")
            raise VersionGone(
                f"version {number} of {path!r} in backend {self._name!r} was {how}.",
                hint=f"Restore it: bao kv undelete -mount={self._mount} -versions={number} {path}",
            ) from None

    def _pending(self, path: str, rotation_id: str) -> dict[str, Any] | None:
        try:
            found = self._read(self._beside(path, rotation_id))
        except VersionGone:
            return None
        return None if found is None else found["data"]

    def _metadata(self, path: str) -> dict[str, Any] | None:
        try:
            return self._ask(
                lambda client: _about(
                    client.secrets.kv.v2.read_secret_metadata(path, mount_point=self._mount)
                ),
                f"metadata/{path}",
                "read",
                optional=True,
            )
        except exceptions.InvalidPath as error:
            self._require_mount(error)
            return None

    def _list_pending(self, path: str) -> list[str]:
        folder = f"{self._options.pending.strip('/')}/{path}"
        try:
            names = self._ask(
                lambda client: texts(
                    client.secrets.kv.v2.list_secrets(folder, mount_point=self._mount),
                    "data",
                    "keys",
                ),
                f"metadata/{folder}/",
                "list",
                optional=True,
            )
        except exceptions.InvalidPath as error:
            self._require_mount(error)
            return []
        # A name with a slash is a folder: another secret, whose path begins with this one's.
        # What consumers read as the next version is a copy of what is staged.
        return [one for one in names if not one.endswith("/") and one != _NEXT]

    def _ask(
        self,
        do: Callable[[Any], Any],
        below: str,
        capability: str,
        *,
        writing: bool = False,
        optional: bool = False,
    ) -> Any:
        """Call the API below the mount; see `VaultClient.ask`."""
        if not self._checked:
            self._check_mount()
        # As a policy would say it: rotations come and go.
        staged = below.partition("/")[2].startswith(f"{self._options.pending.strip('/')}/")
        if staged and not below.endswith("/"):
            below = f"{below.rpartition('/')[0]}/+"
        path = f"{self._mount}/{below}"
        return self._session.ask(
            do, path=path, capability=capability, writing=writing, optional=optional
        )

    def _check_mount(self) -> None:
        """Refuse a mount that is not versioned, before anything is written into it."""
        path = f"sys/internal/ui/mounts/{self._mount}"
        try:
            found = self._session.ask(
                lambda client: table(client.adapter.get(f"/v1/{path}"), "data"),
                path=path,
                capability="read",
                optional=True,
            )
        except NotAllowed:
            # What it says of a mount that is not there, too; the requests themselves will tell.
            found = None
        except exceptions.InvalidPath as error:
            self._require_mount(error)
            found = None
        if found is not None:
            options = found.get("options")
            version = options.get("version") if isinstance(options, dict) else None
            if found.get("type") != "kv" or version != "2":
                raise NotVersioned(
                    f"mount {self._mount!r} is not a KV version 2 store.",
                    hint="Check-and-set requires versions: run bao kv enable-versioning, or set"
                    " `mount` to another mount.",
                )
        self._checked = True

    def _require_mount(self, error: exceptions.InvalidPath) -> None:
        if is_mount_absent(error):
            raise MountAbsent(
                f"{self._session.where} has no mount {self._mount!r}.",
                hint=f"Create it: bao secrets enable -path={self._mount} -version=2 kv. Or set"
                " `mount`.",
            ) from None

    def _beside(self, path: str, rotation_id: str) -> str:
        return f"{self._options.pending.strip('/')}/{path}/{rotation_id}"

    def _version(self, path: str, found: dict[str, Any]) -> Version:
        about, data = found["metadata"], found["data"]
        mark = data.get(_MARK)
        return Version(
            id=str(about["version"]),
            credential=self._credential(path, data),
            rotation_id=mark if isinstance(mark, str) else None,
            created=about["created"],
        )

    def _credential(self, path: str, data: Mapping[str, Any]) -> Credential:
        options = self._options
        username, password = (
            data.get(options.username_field),
            data.get(options.password_field),
        )
        if not isinstance(username, str) or not isinstance(password, str):
            raise Denied(
                f"{path!r} in backend {self._name!r} has no {options.username_field!r} and"
                f" {options.password_field!r}.",
                hint="Set `username_field` and `password_field` to the secret's keys.",
            )
        own = {
            options.username_field,
            options.password_field,
            _MARK,
            _NEXT_VERSION,
            *options.templates,
        }
        fields = {key: one for key, one in data.items() if key not in own}
        return Credential(username=username, password=Secret(password), fields=fields)

    def _data(self, credential: Credential, rotation_id: str) -> dict[str, Any]:
        options = self._options
        made = templates.fill(options.templates, credential)
        return {
            **credential.fields,
            **made,
            options.username_field: credential.username,
            options.password_field: credential.password.reveal(),
            _MARK: rotation_id,
        }

    def _conflict(self, path: str, now: str | None, expect: str | None) -> Conflict:
        return Conflict(
            f"backend {self._name!r} has version {now or 'none'} of {path!r}, expected"
            f" {expect or 'none'}: another writer changed it.",
            hint="rotator did not overwrite that value.",
        )


class _VaultPlugin:
    """Opens Vault and OpenBao backends."""

    info: PluginInfo = PluginInfo(
        name="vault",
        summary="HashiCorp Vault and OpenBao, KV version 2.",
        target_options=VaultOptions,
        abilities=abilities_of_backend(VaultBackend),
    )

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> VaultBackend:
        """Open it; nothing is connected yet."""
        _ = base
        chosen = cast("VaultOptions", options)
        return VaultBackend(name, chosen, VaultClient(chosen, resolve))

    policies: tuple[str, ...] = tuple(policy.MAKERS)

    def policy(self, options: object, access: Access, *, of: str) -> str:
        """Return the policy in HCL."""
        chosen = cast("VaultOptions", options)
        return policy.MAKERS[of](chosen.mount.strip("/"), chosen.pending.strip("/"), access)


PLUGIN: Final = _VaultPlugin()


def _number(found: dict[str, Any] | None) -> str | None:
    return None if found is None else str(found["metadata"]["version"])


def _held(answer: object) -> dict[str, Any]:
    """Return `data` of a version, and of its `metadata` its `version` and when it was `created`."""
    number = part(answer, "data", "metadata", "version", kind=int)
    stamp = part(answer, "data", "metadata", "created_time", kind=str)
    try:
        created = datetime.fromisoformat(_micro(stamp))
    except ValueError:
        created = None
    if created is None or created.tzinfo is None:
        raise Malformed("created_time is invalid")
    data = table(answer, "data", "data")
    return {"data": data, "metadata": {"version": number, "created": created}}


def _about(answer: object) -> dict[str, Any]:
    """Return the metadata of a key, or the configuration of a mount."""
    found = table(answer, "data")
    if found.get("max_versions") is not None:
        _ = part(found, "max_versions", kind=int)
    if found.get("versions") is not None and not all(
        _VERSION.fullmatch(one) for one in table(found, "versions")
    ):
        raise Malformed("versions have no numbers")
    return {key: one for key, one in found.items() if one is not None}


def _clock(answer: object) -> datetime:
    seconds = part(answer, "server_time_utc", kind=(int, float))
    if not 0 <= seconds < _LATEST:
        raise Malformed("server_time_utc is invalid")
    return datetime.fromtimestamp(seconds, UTC)


def _span(about: Mapping[str, Any]) -> timedelta | None:
    """Return `delete_version_after` of a key or mount: Go's way of writing a duration."""
    units = {"h": "hours", "m": "minutes", "s": "seconds"}
    text = str(about.get("delete_version_after") or "")
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)([hms])", text, re.ASCII)
    return timedelta(**{units[unit]: float(number) for number, unit in parts}) if parts else None


def _micro(stamp: str) -> str:
    """Return a time of Go's with microseconds: it writes up to nine digits."""
    return re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", stamp)


def _warning(subject: str, message: str, remedy: str) -> Finding:
    return Finding(severity=Severity.WARNING, subject=subject, message=message, remedy=remedy)
