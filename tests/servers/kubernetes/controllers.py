"""The controllers of workloads, and the kubelet: each `tick` takes one step of each.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/ , its siblings for StatefulSets and
DaemonSets, and the status fields of the API reference.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.servers.kubernetes.objects import KINDS, Key, Objects, template_hash

_HASH = "pod-template-hash"


@dataclass
class Controllers:
    """Moves workloads on. Pods of `broken` workloads never become ready, those of `stuck` never end."""

    objects: Objects
    broken: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    # The value of each Secret with which a pod started, by the pod's name.
    started: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    # Each restart of a workload: when its pod template changed.
    restarts: dict[Key, list[datetime]] = field(default_factory=dict)
    _seen: dict[Key, str] = field(default_factory=dict)
    _count: int = 0

    def tick(self) -> None:
        """Let every controller take a step."""
        for key in sorted(self.objects.stored):
            if key[0] in ("deployments", "statefulsets", "daemonsets"):
                self._note(key)
                self._end_pods(key)
                self._start_pods(key)
                getattr(self, f"_step_{key[0]}")(key)
        self.objects.clock.advance(timedelta(seconds=1))

    def settle(self, ticks: int = 60) -> None:
        """Take steps until nothing changes."""
        for _ in range(ticks):
            before = self.objects.revision
            self.tick()
            if self.objects.revision == before:
                return

    def pods(self, key: Key, *, ending: bool | None = None) -> list[dict[str, Any]]:
        """Return the pods of a workload: all, those that end, or those that do not."""
        uids = {self.objects.stored[key]["metadata"]["uid"]}
        uids |= {one["metadata"]["uid"] for one in self._owned("replicasets", uids)}
        pods = self._owned("pods", uids)
        if ending is None:
            return pods
        return [one for one in pods if ("deletionTimestamp" in one["metadata"]) is ending]

    # -- pods ----------------------------------------------------------------------------------

    def _owned(self, plural: str, uids: set[str]) -> list[dict[str, Any]]:
        return [
            one
            for key, one in sorted(self.objects.stored.items())
            if key[0] == plural
            and any(o["uid"] in uids for o in one["metadata"].get("ownerReferences", ()))
        ]

    def _note(self, key: Key) -> None:
        template = template_hash(self.objects.stored[key]["spec"]["template"])
        if key in self._seen and self._seen[key] != template:
            self.restarts.setdefault(key, []).append(self.objects.clock.now())
        self._seen[key] = template

    def note(self) -> None:
        """Note restarts between two ticks."""
        for key in sorted(self.objects.stored):
            if key[0] in ("deployments", "statefulsets", "daemonsets"):
                self._note(key)

    def _create_pod(self, key: Key, owner: dict[str, Any], name: str) -> None:
        workload = self.objects.stored[key]
        template = copy.deepcopy(workload["spec"]["template"])
        metadata = template.setdefault("metadata", {})
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
        metadata.setdefault("labels", {})[_HASH] = template_hash(workload["spec"]["template"])
        pod = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.objects.update(("pods", key[1], name), pod, "kube-controller-manager")

    def _start_pods(self, key: Key) -> None:
        for pod in self.pods(key, ending=False):
            name = pod["metadata"]["name"]
            is_new = self._is_new(key, pod)
            if pod["status"]["phase"] == "Running" or (is_new and key[2] in self.broken):
                continue
            secrets = {
                one[2]: copy.deepcopy(found["data"])
                for one, found in self.objects.stored.items()
                if one[0] == "secrets" and one[1] == key[1]
            }
            self.started[name] = secrets
            self.objects.set_status(("pods", key[1], name), {"phase": "Running"})

    def _end_pods(self, key: Key) -> None:
        for pod in self.pods(key, ending=True):
            if key[2] not in self.stuck:
                self.objects.delete(("pods", key[1], pod["metadata"]["name"]))

    def _end(self, key: Key, pod: dict[str, Any]) -> None:
        place = ("pods", key[1], pod["metadata"]["name"])
        self.objects.stored[place]["metadata"]["deletionTimestamp"] = self.objects.now()
        self.objects.revision += 1

    def _is_new(self, key: Key, pod: dict[str, Any]) -> bool:
        template = template_hash(self.objects.stored[key]["spec"]["template"])
        return pod["metadata"]["labels"][_HASH] == template

    def _name(self, key: Key) -> str:
        self._count += 1
        return f"{key[2]}-{self._count:05d}"

    def _observe(self, key: Key) -> bool:
        """Return whether the controller sees a generation for the first time."""
        workload = self.objects.stored[key]
        status = copy.deepcopy(workload.get("status", {}))
        generation = workload["metadata"]["generation"]
        if status.get("observedGeneration") == generation:
            return False
        status["observedGeneration"] = generation
        self.objects.set_status(key, status | self._fresh(key, status))
        return True

    def _fresh(self, key: Key, status: dict[str, Any]) -> dict[str, Any]:
        """Return what a new generation changes in a status at once."""
        updated = sum(1 for pod in self.pods(key, ending=False) if self._is_new(key, pod))
        if key[0] == "daemonsets":
            return {"updatedNumberScheduled": updated} | {
                name: status.get(name, 0)
                for name in (
                    "currentNumberScheduled",
                    "desiredNumberScheduled",
                    "numberMisscheduled",
                    "numberReady",
                )
            }
        if key[0] == "statefulsets":
            revision = self._revision(key)
            current = status.get("currentRevision", revision)
            return {
                "replicas": status.get("replicas", 0),
                "availableReplicas": status.get("availableReplicas", 0),
                "updatedReplicas": updated,
                "updateRevision": revision,
                "currentRevision": current,
            }
        return {"updatedReplicas": updated, "conditions": self._progressing("ReplicaSetUpdated")}

    def _progressing(self, reason: str) -> list[dict[str, str]]:
        return [
            {
                "type": "Progressing",
                "status": "False" if reason == "ProgressDeadlineExceeded" else "True",
                "reason": reason,
                "lastUpdateTime": self.objects.now(),
            }
        ]

    # -- controllers ---------------------------------------------------------------------------

    def _step_deployments(self, key: Key) -> None:
        workload = self.objects.stored[key]
        if workload["spec"].get("paused") or self._observe(key):
            return
        wanted = workload["spec"]["replicas"]
        own = self._replica_set(key)
        pods = self.pods(key, ending=False)
        new = [pod for pod in pods if self._is_new(key, pod)]
        old = [pod for pod in pods if not self._is_new(key, pod)]
        ready = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        if len(new) < wanted and len(pods) <= wanted:
            self._create_pod(key, own, self._name(key))
        elif old and len(ready) > wanted - (1 if len(new) == len(pods) else 0):
            self._end(key, old[0])
        elif len(new) > wanted:
            self._end(key, new[0])
        self._deployment_status(key, wanted)

    def _replica_set(self, key: Key) -> dict[str, Any]:
        workload = self.objects.stored[key]
        name = f"{key[2]}-{template_hash(workload['spec']['template'])}"
        place = ("replicasets", key[1], name)
        if place not in self.objects.stored:
            template = copy.deepcopy(workload["spec"]["template"])
            made = {
                "metadata": {
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [
                        {
                            "apiVersion": KINDS[key[0]][0],
                            "kind": "Deployment",
                            "name": key[2],
                            "uid": workload["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": {"selector": workload["spec"]["selector"], "template": template},
            }
            self.objects.update(place, made, "kube-controller-manager")
        return self.objects.stored[place]

    def _deployment_status(self, key: Key, wanted: int) -> None:
        workload = self.objects.stored[key]
        before = workload["status"]
        pods = self.pods(key, ending=False)
        new = [pod for pod in pods if self._is_new(key, pod)]
        ready = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        counts = {
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready),
            "unavailableReplicas": max(0, len(pods) - len(ready)),
        }
        status = {name: number for name, number in counts.items() if number}
        moved = any(status.get(name) != before.get(name) for name in counts)
        conditions = before.get("conditions") or self._progressing("ReplicaSetUpdated")
        (progress,) = conditions
        since = datetime.fromisoformat(progress["lastUpdateTime"])
        limit = workload["spec"].get("progressDeadlineSeconds", 600)
        is_done = len(new) == len(pods) == len(ready) == wanted
        if is_done:
            if progress["reason"] != "NewReplicaSetAvailable":
                conditions = self._progressing("NewReplicaSetAvailable")
        elif moved:
            conditions = self._progressing("ReplicaSetUpdated")
        elif self.objects.clock.now() - since > timedelta(seconds=limit):
            conditions = self._progressing("ProgressDeadlineExceeded")
        status["observedGeneration"] = before["observedGeneration"]
        self.objects.set_status(key, status | {"conditions": conditions})

    def _revision(self, key: Key) -> str:
        return f"{key[2]}-{template_hash(self.objects.stored[key]['spec']['template'])}"

    def _step_statefulsets(self, key: Key) -> None:
        workload = self.objects.stored[key]
        if self._observe(key):
            return
        spec = workload["spec"]
        strategy = spec.get("updateStrategy", {"type": "RollingUpdate"})
        partition = strategy.get("rollingUpdate", {}).get("partition", 0)
        present = {pod["metadata"]["name"]: pod for pod in self.pods(key)}
        is_quiet = all(
            pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            for pod in present.values()
        )
        for ordinal in range(spec["replicas"]):
            name = f"{key[2]}-{ordinal}"
            if name not in present and is_quiet:
                self._create_pod(key, workload, name)
                break
        else:
            old = [
                present[name]
                for ordinal in reversed(range(partition, spec["replicas"]))
                if (name := f"{key[2]}-{ordinal}") in present
                and not self._is_new(key, present[name])
            ]
            if strategy["type"] == "RollingUpdate" and old and is_quiet:
                self._end(key, old[0])
        pods = self.pods(key, ending=False)
        updated = sum(1 for pod in pods if self._is_new(key, pod))
        ready = sum(1 for pod in pods if pod["status"]["phase"] == "Running")
        status = dict(workload["status"])
        is_done = updated == ready == len(pods) == spec["replicas"]
        if is_done and strategy["type"] == "RollingUpdate" and not partition:
            status["currentRevision"] = status["updateRevision"]
        status |= {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        self.objects.set_status(key, status | {"updatedReplicas": updated})

    def _step_daemonsets(self, key: Key) -> None:
        workload = self.objects.stored[key]
        if self._observe(key):
            return
        nodes = int(workload["metadata"]["annotations"]["nodes"])
        strategy = workload["spec"].get("updateStrategy", {"type": "RollingUpdate"})
        present = self.pods(key)
        is_quiet = all(
            pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            for pod in present
        )
        old = [pod for pod in present if not self._is_new(key, pod)]
        if len(present) < nodes:
            self._create_pod(key, workload, self._name(key))
        elif strategy["type"] == "RollingUpdate" and old and is_quiet:
            self._end(key, old[0])
        pods = self.pods(key, ending=False)
        ready = sum(1 for pod in pods if pod["status"]["phase"] == "Running")
        status = {
            "observedGeneration": workload["status"]["observedGeneration"],
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": nodes,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "updatedNumberScheduled": sum(1 for pod in pods if self._is_new(key, pod)),
        }
        status |= {"numberAvailable": ready} if ready else {}
        status |= {"numberUnavailable": nodes - ready} if nodes > ready else {}
        self.objects.set_status(key, status)
