"""Decides about workloads, without a call: who uses a Secret, how far a rollout is, whose pod is old."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, cast

from rotator.agent.kubernetes.api import mapping

# Which version of each Secret the pods have: JSON, in the annotations of the pod template.
VERSIONS: Final = "credential-rotator/versions"
# When the agent last restarted a workload, by the server's clock: in the workload's own annotations,
# which `kubectl rollout undo` leaves alone.
RESTARTED: Final = "credential-rotator/restarted-at"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Use(Enum):
    """How a pod template uses a Secret. A value of `MOUNT` changes in running pods, one of `START` not."""

    NONE = "none"
    MOUNT = "mount"
    START = "start"


class Progress(Enum):
    """How far a rollout is."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far a workload is, and for an operator why not further."""

    progress: Progress
    text: str = ""
    hint: str = ""


def use_of(template: Mapping[str, Any], secret: str) -> Use:
    """Return how the pods use a Secret: `START` as soon as one container has it so."""
    spec = mapping(template.get("spec"))
    containers = [*_items(spec.get("initContainers")), *_items(spec.get("containers"))]
    volumes = {
        str(volume.get("name"))
        for volume in _items(spec.get("volumes"))
        if secret in _secrets_of(volume)
    }
    found = Use.NONE
    for container in containers:
        if _is_in_environment(container, secret):
            return Use.START
        for mount in _items(container.get("volumeMounts")):
            if mount.get("name") in volumes:
                if mount.get("subPath") or mount.get("subPathExpr"):
                    return Use.START
                found = Use.MOUNT
    return found


def _is_in_environment(container: Mapping[str, Any], secret: str) -> bool:
    references = [
        *(mapping(one.get("secretRef")) for one in _items(container.get("envFrom"))),
        *(
            mapping(mapping(one.get("valueFrom")).get("secretKeyRef"))
            for one in _items(container.get("env"))
        ),
    ]
    return any(reference.get("name") == secret for reference in references)


def _secrets_of(volume: Mapping[str, Any]) -> set[object]:
    projected = _items(mapping(volume.get("projected")).get("sources"))
    return {
        mapping(volume.get("secret")).get("secretName"),
        *(mapping(source.get("secret")).get("name") for source in projected),
    }


def versions_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that an annotation names: of a pod template, or of a pod."""
    text = mapping(metadata.get("annotations")).get(VERSIONS)
    try:
        data = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    named = cast("dict[object, object]", data).items()
    return {str(key): value for key, value in named if isinstance(value, str)}


def restarted_at(workload: Mapping[str, Any]) -> datetime | None:
    """Return when the agent last restarted a workload; None where it never did."""
    text = mapping(mapping(workload.get("metadata")).get("annotations")).get(RESTARTED)
    try:
        return datetime.strptime(str(text), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def restart_of(
    workload: Mapping[str, Any], versions: Mapping[str, str], now: datetime
) -> dict[str, Any]:
    """Return the change that restarts a workload, if nobody else changed it meanwhile."""
    metadata = mapping(workload.get("metadata"))
    template = mapping(mapping(workload.get("spec")).get("template"))
    marked = {**versions_of(mapping(template.get("metadata"))), **versions}
    annotation = json.dumps(marked, sort_keys=True, separators=(",", ":"))
    return {
        "metadata": {
            "resourceVersion": metadata.get("resourceVersion"),
            "annotations": {RESTARTED: now.strftime(_TIME)},
        },
        "spec": {"template": {"metadata": {"annotations": {VERSIONS: annotation}}}},
    }


def rollout_of(plural: str, workload: Mapping[str, Any]) -> Rollout:
    """Return how far the controller is with the workload's pod template."""
    metadata, spec = mapping(workload.get("metadata")), mapping(workload.get("spec"))
    status = mapping(workload.get("status"))
    if _number(status, "observedGeneration") < _number(metadata, "generation"):
        return Rollout(progress=Progress.RUNNING, text="its controller has not seen the change yet")
    if plural == "deployments" and (failure := _failure(status)) is not None:
        return failure
    wanted, updated, available, total = _counts(plural, spec, status)
    if updated < wanted:
        text = f"{updated} of {wanted} pods have the new template"
    elif total > updated:
        text = f"{total - updated} old pods are left"
    elif available < wanted or status.get("unavailableReplicas") or status.get("numberUnavailable"):
        text = f"{available} of {wanted} pods are available"
    elif plural == "statefulsets" and wanted and _differs(spec, status):
        text = "its controller has not finished the update"
    else:
        return Rollout(progress=Progress.DONE)
    return Rollout(progress=Progress.RUNNING, text=text, hint=_by_hand(plural, spec))


def blocked(plural: str, spec: Mapping[str, Any]) -> str:
    """Return why a changed template would restart nothing; empty where it restarts the pods."""
    return "it is paused" if plural == "deployments" and spec.get("paused") is True else ""


def _by_hand(plural: str, spec: Mapping[str, Any]) -> str:
    """Return what an operator must do, where the controller does not replace pods itself."""
    strategy = mapping(spec.get("updateStrategy"))
    if plural != "deployments" and strategy.get("type") == "OnDelete":
        return "Its updateStrategy is OnDelete: delete its pods one after the other."
    if _number(mapping(strategy.get("rollingUpdate")), "partition"):
        return "Its updateStrategy has a `partition`: set it to 0."
    return ""


def _failure(status: Mapping[str, Any]) -> Rollout | None:
    for condition in _items(status.get("conditions")):
        reason = str(condition.get("reason"))
        named = (condition.get("type"), condition.get("status"), reason)
        if named == ("Progressing", "False", "ProgressDeadlineExceeded"):
            return Rollout(progress=Progress.FAILED, text=f"its rollout failed: {reason}")
    return None


def _counts(
    plural: str, spec: Mapping[str, Any], status: Mapping[str, Any]
) -> tuple[int, int, int, int]:
    """Return how many pods are wanted, have the new template, are available, and exist."""
    if plural == "daemonsets":
        wanted = _number(status, "desiredNumberScheduled")
        updated = _number(status, "updatedNumberScheduled")
        # Old pods of a DaemonSet are counted by their own list.
        return wanted, updated, _number(status, "numberAvailable"), updated
    wanted = _number(spec, "replicas") if "replicas" in spec else 1
    updated = _number(status, "updatedReplicas")
    return wanted, updated, _number(status, "availableReplicas"), _number(status, "replicas")


def _differs(spec: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    # With OnDelete the controller never calls an update complete.
    if mapping(spec.get("updateStrategy")).get("type") == "OnDelete":
        return False
    return status.get("currentRevision") != status.get("updateRevision")


def selector_of(workload: Mapping[str, Any]) -> str:
    """Return the selector of a workload's pods as the API takes it in a query."""
    selector = mapping(mapping(workload.get("spec")).get("selector"))
    parts = [f"{key}={value}" for key, value in mapping(selector.get("matchLabels")).items()]
    for one in _items(selector.get("matchExpressions")):
        key, values = one.get("key"), ",".join(map(str, one.get("values") or ()))
        match one.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(f"{key}")
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


def old_pods(
    workload: Mapping[str, Any],
    pods: Iterable[Mapping[str, Any]],
    replica_sets: Iterable[Mapping[str, Any]],
    secret: str,
    version: str,
) -> list[str]:
    """Return the pods of a workload that started with another version, also those that end.

    Pods of a ReplicaSet that is gone already are counted too.
    """
    own = mapping(workload.get("metadata")).get("uid")
    others = {one.get("uid") for one in replica_sets if _controller(one)[1] != own}
    old: list[str] = []
    for pod in pods:
        kind, owner = _controller(pod)
        is_ours = owner == own or (kind == "ReplicaSet" and owner not in others)
        if is_ours and versions_of(pod).get(secret) != version:
            old.append(str(pod.get("name")))
    return sorted(old)


def _controller(metadata: Mapping[str, Any]) -> tuple[object, object]:
    for owner in _items(metadata.get("ownerReferences")):
        if owner.get("controller") is True:
            return owner.get("kind"), owner.get("uid")
    return None, None


def _items(value: object) -> Iterator[Mapping[str, Any]]:
    return map(mapping, cast("list[object]", value) if isinstance(value, list) else [])


def _number(owner: Mapping[str, Any], key: str) -> int:
    value = owner.get(key)
    return value if isinstance(value, int) else 0
