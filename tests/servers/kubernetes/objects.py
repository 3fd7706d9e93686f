"""Objects with the rules of the API server: versions, generations, managed fields, conflicts.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ and
https://kubernetes.io/docs/reference/using-api/api-concepts/ . Maps are granular, lists are atomic: of
the objects that the sink writes, only maps are written.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

import kubernetes_validate

from rotator.testing.fakes import ManualClock

Key = tuple[str, str, str]
Path = tuple[str, ...]
KINDS = {
    "secrets": ("v1", "Secret"),
    "pods": ("v1", "Pod"),
    "deployments": ("apps/v1", "Deployment"),
    "replicasets": ("apps/v1", "ReplicaSet"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "daemonsets": ("apps/v1", "DaemonSet"),
}
SCHEMAS = "1.34"
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LARGEST_SECRET = 1 << 20
# What no manager owns.
_OF_THE_SERVER = frozenset(
    ("metadata", name)
    for name in (
        "name",
        "namespace",
        "resourceVersion",
        "generation",
        "uid",
        "creationTimestamp",
        "managedFields",
    )
)


class StatusError(Exception):
    """An answer that is no object."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Any] | None = None):
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": {"causes": causes or []},
        }


def invalid(field_name: str, text: str) -> StatusError:
    """The message has the value, as the real one does: no client may repeat it."""
    cause = {"reason": "FieldValueInvalid", "field": field_name, "message": text}
    return StatusError(422, "Invalid", f"{field_name}: {text}", [cause])


@dataclass
class _Managed:
    """What a manager owns by one kind of operation."""

    manager: str
    operation: str
    paths: set[Path]
    time: str

    def entry(self, api_version: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for path in sorted(self.paths):
            place = fields
            for part in path:
                if place is not fields and self.operation == "Update":
                    place.setdefault(".", {})
                place = place.setdefault(f"f:{part}", {})
        return {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }


@dataclass
class Objects:
    """What the cluster keeps. `history` has each state of each Secret, in order."""

    clock: ManualClock = field(default_factory=ManualClock)
    stored: dict[Key, dict[str, Any]] = field(default_factory=dict)
    managed: dict[Key, list[_Managed]] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=lambda: {"shop"})
    history: dict[Key, list[dict[str, str]]] = field(default_factory=dict)
    revision: int = 100

    def now(self) -> str:
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, key: Key) -> dict[str, Any]:
        """Return an object as it is sent."""
        if key not in self.stored:
            raise StatusError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        found = copy.deepcopy(self.stored[key])
        version = KINDS[key[0]][0]
        found["metadata"]["managedFields"] = [one.entry(version) for one in self.managed[key]]
        return found

    # -- server-side apply ---------------------------------------------------------------------

    def apply(self, key: Key, body: dict[str, Any], manager: str, *, force: bool) -> int:
        """Apply an object; return 201 where it was created, else 200."""
        if not manager:
            raise invalid("fieldManager", "Required value: is required for apply patch")
        _check_identity(key, body)
        self._check_version(key, body)
        entries = self.managed.get(key, [])
        own = next((e for e in entries if (e.manager, e.operation) == (manager, "Apply")), None)
        old = own.paths if own else set[Path]()
        applied = _leaves(body)
        present = self.stored.get(key)
        before = copy.deepcopy(present) if present is not None else None
        conflicts = [
            (entry, path)
            for path in applied
            for entry in entries
            if entry is not own
            and path in entry.paths
            and (before is None or _at(before, path) != applied[path])
        ]
        if conflicts and not force:
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{entry.manager}" using {KINDS[key[0]][0]}',
                    "field": "." + ".".join(path),
                }
                for entry, path in sorted(conflicts, key=lambda one: one[1])
            ]
            text = f"Apply failed with {len(causes)} conflicts"
            raise StatusError(409, "Conflict", text, causes)
        changed = copy.deepcopy(before) if before is not None else self._empty(key)
        for path in old - applied.keys():
            if not any(path in entry.paths for entry in entries if entry is not own):
                _remove(changed, path)
        for path, value in applied.items():
            _put(changed, path, value)
        self._check(key, before, changed)
        for entry, path in conflicts:
            entry.paths.discard(path)
        if own is None or own.paths != set(applied) or before != changed:
            kept = [one for one in entries if one is not own and one.paths]
            made = _Managed(manager, "Apply", set(applied), self.now())
            self._store(key, changed, before, [*kept, made])
        return 201 if before is None else 200

    def merge(self, key: Key, patch: dict[str, Any], manager: str) -> None:
        """Merge a patch into an object (RFC 7386)."""
        before = self.stored.get(key)
        if before is None:
            raise StatusError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        self._check_version(key, patch)
        patch = copy.deepcopy(patch)
        patch.get("metadata", {}).pop("resourceVersion", None)
        changed = _merged(copy.deepcopy(before), patch)
        self.update(key, changed, manager or "unknown")

    def update(self, key: Key, changed: dict[str, Any], manager: str) -> None:
        """Replace an object as a client of `manager` that sends it whole."""
        before = self.stored.get(key)
        changed = copy.deepcopy(changed)
        changed.setdefault("metadata", {}).pop("managedFields", None)
        if before is None:
            changed = _merged(self._empty(key), changed)
        self._check(key, before, changed)
        if before == changed:
            return
        leaves, old = _leaves(changed), _leaves(before or {})
        touched = {path for path, value in leaves.items() if old.get(path) != value}
        entries = self.managed.get(key, [])
        own = next((e for e in entries if (e.manager, e.operation) == (manager, "Update")), None)
        for entry in entries:
            if entry is not own:
                entry.paths = {p for p in entry.paths if p in leaves} - touched
        paths = ({p for p in own.paths if p in leaves} if own else set()) | touched
        kept = [one for one in entries if one is not own and one.paths]
        made = _Managed(manager, "Update", paths, self.now())
        self._store(key, changed, before, [*kept, made])

    def set_status(self, key: Key, status: dict[str, Any]) -> None:
        """Write a status as a controller does: no new generation."""
        if self.stored[key].get("status") != status:
            self.stored[key]["status"] = copy.deepcopy(status)
            self._bump(key)

    def delete(self, key: Key) -> None:
        self.stored.pop(key, None)
        self.managed.pop(key, None)

    # -- rules ---------------------------------------------------------------------------------

    def _empty(self, key: Key) -> dict[str, Any]:
        if key[1] not in self.namespaces:
            raise StatusError(404, "NotFound", f'namespaces "{key[1]}" not found')
        version, kind = KINDS[key[0]]
        self.revision += 1
        made: dict[str, Any] = {
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": key[2],
                "namespace": key[1],
                "uid": hashlib.sha256(f"{key}{self.revision}".encode()).hexdigest()[:32],
                "creationTimestamp": self.now(),
            },
        }
        return made | ({"type": "Opaque", "data": {}} if key[0] == "secrets" else {})

    def _store(
        self,
        key: Key,
        changed: dict[str, Any],
        before: dict[str, Any] | None,
        managed: list[_Managed],
    ) -> None:
        metadata = changed["metadata"]
        if "spec" in changed and (before is None or before["spec"] != changed["spec"]):
            metadata["generation"] = metadata.get("generation", 0) + 1
        self.stored[key] = changed
        self.managed[key] = managed
        self._bump(key)
        if key[0] == "secrets":
            data = {name: _plain(text) for name, text in changed.get("data", {}).items()}
            self.history.setdefault(key, []).append(data)

    def _bump(self, key: Key) -> None:
        self.revision += 1
        self.stored[key]["metadata"]["resourceVersion"] = str(self.revision)

    def _check_version(self, key: Key, body: dict[str, Any]) -> None:
        wanted = body.get("metadata", {}).get("resourceVersion")
        present = self.stored.get(key, {"metadata": {}})["metadata"].get("resourceVersion")
        if wanted is not None and wanted != present:
            text = "the object has been modified; please apply your changes to the latest version"
            raise StatusError(409, "Conflict", text)

    def _check(self, key: Key, before: dict[str, Any] | None, changed: dict[str, Any]) -> None:
        if key[0] == "secrets":
            _check_secret(before, changed)
        if before is not None and key[0] != "secrets":
            wanted = before["spec"].get("selector")
            if changed["spec"].get("selector") != wanted:
                raise invalid("spec.selector", "Invalid value: field is immutable")
        try:
            kubernetes_validate.validate(changed, SCHEMAS, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise invalid(".".join(map(str, error.path)), str(error)) from None


def _check_identity(key: Key, body: dict[str, Any]) -> None:
    metadata = body.get("metadata", {})
    named = (body.get("apiVersion"), body.get("kind"))
    if named != KINDS[key[0]]:
        raise StatusError(400, "BadRequest", "the kind of the object does not match the address")
    if (metadata.get("namespace", key[1]), metadata.get("name")) != key[1:]:
        raise StatusError(400, "BadRequest", "the name of the object does not match the address")
    if "managedFields" in metadata:
        raise StatusError(400, "BadRequest", "metadata.managedFields must be nil")


def _check_secret(before: dict[str, Any] | None, changed: dict[str, Any]) -> None:
    size = 0
    for name, text in changed.get("data", {}).items():
        if not _KEY.fullmatch(name):
            raise invalid(f"data[{name}]", "Invalid value: a valid config key must consist of ...")
        try:
            size += len(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, TypeError):
            raise StatusError(400, "BadRequest", f"illegal base64 data: {text}") from None
    if size > _LARGEST_SECRET:
        raise invalid("data", "Too long: must have at most 1048576 bytes")
    if before is not None:
        if before.get("type") != changed.get("type"):
            raise invalid("type", f"Invalid value: {changed.get('type')}: field is immutable")
        if before.get("immutable") and before.get("data") != changed.get("data"):
            raise invalid("data", f"Forbidden: immutable, sent {changed.get('data')}")


def _leaves(body: dict[str, Any], prefix: Path = ()) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for name, value in body.items():
        path = (*prefix, name)
        if path in (("apiVersion",), ("kind",), ("status",)) or path in _OF_THE_SERVER:
            continue
        if isinstance(value, dict) and value:
            found |= _leaves(value, path)
        else:
            found[path] = value
    return found


def _at(body: Any, path: Path) -> Any:
    for part in path:
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
    for part in path[:-1]:
        body = body.setdefault(part, {})
    body[path[-1]] = copy.deepcopy(value)


def _remove(body: dict[str, Any], path: Path) -> None:
    for part in path[:-1]:
        body = body.get(part, {})
    body.pop(path[-1], None)


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = target if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _plain(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")


def template_hash(template: dict[str, Any]) -> str:
    """Return what names the revision of a pod template."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
