"""Keeps a Secret object up to date, and restarts the workloads that read it only at their start.

Each call goes as far as it can without waiting. What was done is read from the cluster, never
remembered for correctness, so that a crash at any call needs no repair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.agent.errors import SinkError, SinkWaits
from rotator.agent.kubernetes import secret_object, workloads
from rotator.agent.kubernetes.api import Api, NotFound, Outdated, Resource, mapping
from rotator.agent.kubernetes.workloads import Progress, Use
from rotator.core.consumers import instance_name

if TYPE_CHECKING:
    from rotator.agent.kubernetes.restarts import Restarts
    from rotator.agent.settings import KubernetesOptions
    from rotator.agent.sinks import Acknowledge
    from rotator.client import Login

# Seconds between two looks at a rollout, and at a workload that waits for its turn.
_POLL: Final = 2.0
_TURN: Final = 5.0
_LONGEST_PAUSE: Final = 60.0
_LIVE_PODS: Final = "status.phase!=Succeeded,status.phase!=Failed"


class KubernetesSink:
    """One Secret object and its workloads. Used by one thread; `restarts` is shared."""

    kind: str = "kubernetes"

    def __init__(
        self,
        options: KubernetesOptions,
        api: Api,
        restarts: Restarts,
        *,
        read: Callable[[], Login],
    ) -> None:
        """Nothing is asked yet. `read` returns the backend's current value, never a cached one."""
        namespace = options.namespace or api.namespace
        self._options: KubernetesOptions = options
        self._api: Api = api
        self._restarts: Restarts = restarts
        self._read: Callable[[], Login] = read
        self._secret: Resource = Resource("secrets", namespace, options.secret)
        self._workloads: list[Resource] = [
            Resource(plural, namespace, name)
            for plural in ("deployments", "statefulsets", "daemonsets")
            for name in getattr(options, plural)
        ]
        self._settled: dict[Resource, tuple[str, str]] = {}
        restarts.declare(self._secret, self._workloads)

    @property
    def name(self) -> str:
        """What the sink keeps up to date, for errors."""
        return str(self._secret)

    def bring(self, login: Login, acknowledge: Acknowledge) -> None:
        """Bring the object, and then each workload, to the current version, as far as possible now.

        `acknowledge` gets the instance and its level: `used` for a workload whose pods all started
        with this version, `read` where nothing is known of them. Raises `SinkWaits` where a rollout
        goes on, and `SinkError`: the next call continues.
        """
        version = self._write(login)
        if not self._workloads:
            acknowledge(version, _instance(self._secret), "read")
        for workload in self._workloads:
            settled = self._settled.get(workload)
            if settled is None or settled[0] != version:
                settled = (version, self._restart(workload, version))
                self._settled[workload] = settled
            acknowledge(version, _instance(workload), settled[1])

    # -- the object ----------------------------------------------------------------------------

    def _write(self, login: Login) -> str:
        """Write all keys in one call, unless the object has them; return its version."""
        try:
            present: Mapping[str, Any] = self._api.get(self._secret).data
        except NotFound:
            present = {}
        wanted = secret_object.manifest(self._secret, self._options, login)
        is_new = not secret_object.has_all(present, wanted)
        if is_new:
            # A replica of the agent may have written a newer version than this one has heard of: what
            # is written is read after the object was, and only over that object.
            login = self._read()
            wanted = secret_object.manifest(self._secret, self._options, login)
            is_new = not secret_object.has_all(present, wanted)
        if is_new:
            revision = mapping(present.get("metadata")).get("resourceVersion")
            if revision is not None:
                wanted["metadata"]["resourceVersion"] = revision
            try:
                _ = self._api.apply(self._secret, wanted, force=self._options.force)
            except Outdated as error:
                raise SinkWaits(error.what, pause=_POLL) from None
        self._restarts.checked(self._secret, is_written=is_new)
        return login.version

    # -- workloads -----------------------------------------------------------------------------

    def _restart(self, workload: Resource, version: str) -> str:
        """Return the level that a workload has reached. Raises `SinkWaits` and `SinkError`."""
        answer = self._api.get(workload)
        template = mapping(mapping(answer.data.get("spec")).get("template"))
        if not self._is_restart_needed(workload, template):
            return "read"
        marked = workloads.versions_of(mapping(template.get("metadata")))
        if marked.get(self._secret.name) != version:
            self._begin(workload, answer.data, version, answer.now)
        return self._finish(workload, answer.data, version, answer.now)

    def _is_restart_needed(self, workload: Resource, template: Mapping[str, Any]) -> bool:
        if self._options.restart != "auto":
            return self._options.restart == "always"
        use = workloads.use_of(template, self._secret.name)
        if use is Use.NONE:
            raise SinkError(
                f"{workload} does not use {self._secret}.",
                hint="Remove it from the sink; or set `restart: always` where it reads the Secret in another way.",
            )
        return use is Use.START

    def _begin(
        self, workload: Resource, present: Mapping[str, Any], version: str, now: datetime
    ) -> None:
        """Restart a workload, or raise `SinkWaits` until it may; afterwards too, until it is done."""
        if reason := workloads.blocked(workload.plural, mapping(present.get("spec"))):
            raise SinkError(
                f"{workload} cannot restart: {reason}.",
                hint=f"Resume it: kubectl -n {workload.namespace} rollout resume deployment {workload.name}",
            )
        self._wait_for_interval(workload, present, now)
        if (seconds := self._restarts.unsettled(workload)) > 0:
            raise SinkWaits(f"{workload} restarts soon.", pause=seconds)
        limit = self._options.wait.total_seconds()
        other = self._restarts.take_turn(workload, limit)
        if other is not None:
            raise SinkWaits(f"{workload} waits until {other} has restarted.", pause=_TURN)
        try:
            self._require_alone(workload)
            versions = self._versions(workload, version)
            change = workloads.restart_of(present, versions, now)
            _ = self._api.merge(workload, change)
        except Outdated as error:
            self._restarts.end_turn(workload)
            raise SinkWaits(error.what, pause=_POLL) from None
        except SinkError:
            # Where no answer came, the next look shows whether it restarts.
            self._restarts.end_turn(workload)
            raise
        self._restarts.restarted(workload, now)
        raise SinkWaits(f"{workload} restarts.", pause=_POLL)

    def _wait_for_interval(
        self, workload: Resource, present: Mapping[str, Any], now: datetime
    ) -> None:
        times = (workloads.restarted_at(present), self._restarts.last(workload))
        last = max((time for time in times if time is not None), default=None)
        if last is None:
            return
        # A time in the future is of a clock that was wrong.
        due = min(last, now) + self._options.every
        if now < due:
            raise SinkWaits(
                f"{workload} restarts at {due:%H:%M:%S} UTC: `every` is {_text(self._options.every)}.",
                pause=min((due - now).total_seconds(), _LONGEST_PAUSE),
            )

    def _require_alone(self, workload: Resource) -> None:
        """Raise `SinkWaits` while another workload restarts, also one that another process restarted."""
        for other in self._restarts.others(workload):
            try:
                answer = self._api.get(other)
            except NotFound:
                continue
            last = workloads.restarted_at(answer.data)
            rollout = workloads.rollout_of(other.plural, answer.data)
            is_recent = last is not None and answer.now < last + self._options.wait
            if is_recent and rollout.progress is Progress.RUNNING:
                raise SinkWaits(f"{workload} waits until {other} has restarted.", pause=_TURN)

    def _versions(self, workload: Resource, wanted: str) -> dict[str, str]:
        """Return the versions with which the pods of a workload start now, by the names of the Secrets.

        Raises `Outdated` where this sink's own has no longer the `wanted` one.
        """
        versions: dict[str, str] = {}
        for secret in self._restarts.secrets(workload):
            try:
                version = secret_object.version_of(self._api.get(secret).data)
            except NotFound:
                continue
            if version is not None:
                versions[secret.name] = version
        if versions.get(self._secret.name) != wanted:
            raise Outdated(f"{self._secret} changed at the same time.")
        return versions

    def _finish(
        self, workload: Resource, present: Mapping[str, Any], version: str, now: datetime
    ) -> str:
        """Return `used` once each pod started with this version. Raises `SinkWaits` and `SinkError`."""
        rollout = workloads.rollout_of(workload.plural, present)
        text = rollout.text
        if rollout.progress is Progress.DONE:
            old = self._old_pods(workload, present, version)
            if not old:
                self._restarts.end_turn(workload)
                return "used"
            text = f"the old pod {old[0]} is left"
            text += f", and {len(old) - 1} others" if len(old) > 1 else ""
        began = workloads.restarted_at(present) or now
        is_late = now >= began + self._options.wait
        if rollout.progress is Progress.FAILED or is_late:
            self._restarts.end_turn(workload)
            after = "" if rollout.progress is Progress.FAILED else _late(self._options.wait)
            raise SinkError(
                f"{workload} does not use the new version{after}: {text}.",
                hint=rollout.hint
                or f"Check: kubectl -n {workload.namespace} rollout status {workload.plural}/{workload.name}",
                safety="Its old pods keep the old version.",
            )
        raise SinkWaits(f"{workload} restarts: {text}.", pause=_POLL, hint=rollout.hint)

    def _old_pods(self, workload: Resource, present: Mapping[str, Any], version: str) -> list[str]:
        labels = workloads.selector_of(present)
        replica_sets: list[Mapping[str, Any]] = []
        if workload.plural == "deployments":
            replica_sets = list(self._api.list("replicasets", workload.namespace, labels=labels))
        pods = self._api.list("pods", workload.namespace, labels=labels, fields=_LIVE_PODS)
        return workloads.old_pods(present, pods, replica_sets, self._secret.name, version)


def _instance(resource: Resource) -> str:
    """Return the name of an instance: the same from each replica of the agent."""
    kind = resource.plural.removesuffix("s")
    return instance_name("kubernetes", f"{resource.namespace}/{kind}/{resource.name}")


def _late(limit: timedelta) -> str:
    return f" after {_text(limit)}"


def _text(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
