"""Opens the Kubernetes sinks of an agent: they share a connection, and one workload restarts at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rotator.agent.kubernetes.access import open_access
from rotator.agent.kubernetes.api import Api
from rotator.agent.kubernetes.restarts import Restarts
from rotator.agent.kubernetes.sink import KubernetesSink

if TYPE_CHECKING:
    from rotator.agent.sources import Consumer


def open_sinks(consumer: Consumer) -> dict[str, list[KubernetesSink]]:
    """Return the sinks of each secret. Raises `UsageError` without access to a cluster."""
    options = consumer.options.kubernetes
    api = Api(open_access(options), timeout=options.timeout.total_seconds())
    restarts = Restarts()
    return {
        name: [
            KubernetesSink(sink.kubernetes, api, restarts, read=partial(consumer.read, name))
            for sink in secret.sinks
            if sink.kubernetes is not None
        ]
        for name, secret in consumer.options.secrets.items()
    }
