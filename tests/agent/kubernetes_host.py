"""An agent with Kubernetes sinks, in a process that a test may end at any call."""

from __future__ import annotations

import base64
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rotator.agent.errors import SinkWaits
from rotator.agent.kubernetes.access import Access
from rotator.agent.kubernetes.api import Api
from rotator.agent.kubernetes.restarts import Restarts
from rotator.agent.kubernetes.sink import KubernetesSink
from rotator.agent.settings import KubernetesOptions
from rotator.client import Login
from rotator.core.secret import Secret
from tests.servers.kubernetes.server import TOKEN, Cluster

if TYPE_CHECKING:
    from tests.servers.kubernetes.objects import Key


def login_of(version: int, **fields: object) -> Login:
    return Login(
        username=f"app_{version}",
        password=Secret(f"password-{version}"),
        version=str(version),
        fields=fields,
    )


@dataclass
class Backend:
    """What is published, by the name of the Secret object."""

    versions: dict[str, int] = field(default_factory=dict)

    def login(self, name: str = "db") -> Login:
        return login_of(self.versions.setdefault(name, 1))


@dataclass
class AgentProcess:
    """The sinks of one agent, which share what a process shares."""

    cluster: Cluster
    backend: Backend
    sinks: dict[str, KubernetesSink]
    acknowledged: list[tuple[str, str, str]] = field(default_factory=list)

    def bring(self, name: str = "db", login: Login | None = None) -> str:
        """Take one look; return what it waits for, empty where it is up to date."""
        try:
            self.sinks[name].bring(login or self.backend.login(name), self._acknowledge)
        except SinkWaits as wait:
            return str(wait)
        return ""

    def converge(self, name: str = "db", looks: int = 200) -> None:
        """Look again and again, while the cluster works and time passes."""
        for _ in range(looks):
            if not self.bring(name):
                return
            self.cluster.controllers.tick()
        raise AssertionError(self.bring(name))

    def _acknowledge(self, version: str, instance: str, level: str) -> None:
        self.acknowledged.append((version, instance.removeprefix("kubernetes:shop/"), level))


ENVIRONMENT = {
    "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/run/db"}]}
SUB_PATH = {"volumeMounts": [{"name": "v", "mountPath": "/etc/p", "subPath": "password"}]}


def pod(container: dict[str, Any] | None = None, name: str = "db") -> dict[str, Any]:
    """Return a pod's spec with one container, and a volume of the Secret where it mounts one."""
    made = copy.deepcopy(container if container is not None else ENVIRONMENT)
    for one in made.get("env", ()):
        one["valueFrom"]["secretKeyRef"]["name"] = name
    volumes = [{"name": "v", "secret": {"secretName": name}}] if "volumeMounts" in made else []
    return {"containers": [{"name": "c", "image": "i", **made}], "volumes": volumes}


def start_agent(
    cluster: Cluster,
    backend: Backend,
    *sinks: dict[str, Any],
    timeout: float = 10.0,
    **options: Any,
) -> AgentProcess:
    """Start an agent with sinks of some options."""
    clock = cluster.objects.clock
    access = Access(
        host="127.0.0.1",
        port=cluster.port,
        path="",
        namespace="shop",
        is_tls=False,
        token=lambda: Secret(TOKEN),
    )
    api = Api(access, timeout=timeout, clock=clock.monotonic)
    restarts = Restarts(clock=clock.monotonic)
    made: dict[str, KubernetesSink] = {}
    for given in sinks or (options,):
        chosen = KubernetesOptions(**{"secret": "db", **given})
        made[chosen.secret] = KubernetesSink(
            chosen, api, restarts, read=lambda name=chosen.secret: backend.login(name)
        )
    return AgentProcess(cluster, backend, made)


def started(cluster: Cluster, key: Key, name: str = "db") -> set[str]:
    """Return the versions with which the pods of a workload started."""
    found: set[str] = set()
    for one in cluster.controllers.pods(key):
        data = cluster.controllers.started[one["metadata"]["name"]][name]
        username = base64.b64decode(data["username"]).decode()
        password = base64.b64decode(data["password"]).decode()
        assert username.split("_")[1] == password.split("-")[1]
        found.add(username.split("_")[1])
    return found
