"""What RDS says of hosts: for which a secret is that it manages, and which one takes a reader's writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions

from rotator.api import Denied, Transient
from rotator.backends.aws.client import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.backends.aws.client import Client

# AWS puts one of them on every such secret (Amazon RDS User Guide, "Password management").
_INSTANCE: Final = "aws:rds:primaryDBInstanceArn"
_CLUSTER: Final = "aws:rds:primaryDBClusterArn"
# There is none of that name, or there could be none.
_UNKNOWN: Final = (
    "DBInstanceNotFound",
    "DBInstanceNotFoundFault",
    "DBClusterNotFoundFault",
    "InvalidParameterValue",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Those on which one credential is accepted: `writer` takes changes, `readers` follow it."""

    writer: str | None = None
    readers: frozenset[str] = frozenset()


def is_managed(tags: Mapping[str, str]) -> bool:
    """Return whether RDS manages the secret with these tags."""
    return _INSTANCE in tags or _CLUSTER in tags


def managed(client: Client, tags: Mapping[str, str]) -> Hosts:
    """Return the hosts of a secret that RDS manages. Raises ours."""
    rds, arn = _Rds(client), tags.get(_INSTANCE) or tags[_CLUSTER]
    if _INSTANCE in tags:
        found = Hosts(writer=_address(rds.instance(arn)))
    else:
        found = _of_cluster(rds.cluster(arn))
    if found.writer is None:
        raise Denied(
            f"RDS does not know {arn}, the database that the admin secret's tags name.",
            hint="Check whether the database was deleted or is still being created.",
        )
    return found


def writer_of(client: Client, host: str) -> str | None:
    """Return the host that takes the writes of what `host` only reads; None where RDS knows of none.

    `host` is the endpoint of a read replica, of an instance in a cluster, or the reader endpoint of a
    cluster. Raises ours.
    """
    rds, name = _Rds(client), host.partition(".")[0]
    instance = rds.instance(name)
    if instance is None or not _same(_address(instance), host):
        found = _of_cluster(rds.cluster(name))
        return found.writer if any(_same(one, host) for one in found.readers) else None
    source = instance.get("ReadReplicaSourceDBInstanceIdentifier")
    if source is not None:
        # An ARN is in another region, whose RDS is not ours to ask.
        return None if source.startswith("arn:") else _address(rds.instance(source))
    cluster = instance.get("DBClusterIdentifier")
    return _of_cluster(rds.cluster(cluster)).writer if cluster else None


class _Rds:
    """RDS, asked for one thing at a time."""

    def __init__(self, client: Client) -> None:
        self._client: Client = client
        self._rds: Any = client.service("rds")

    def instance(self, name: str) -> dict[str, Any] | None:
        """Return an instance by its name or ARN; None when there is none."""
        found = self._ask("describe_db_instances", DBInstanceIdentifier=name)
        return next(iter(found.get("DBInstances", ())), None)

    def cluster(self, name: str) -> dict[str, Any] | None:
        """Return a cluster by its name or ARN; None when there is none."""
        found = self._ask("describe_db_clusters", DBClusterIdentifier=name)
        return next(iter(found.get("DBClusters", ())), None)

    def _ask(self, action: str, **given: str) -> dict[str, Any]:
        try:
            with self._client.limit():
                return getattr(self._rds, action)(**given)
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in _UNKNOWN:
                return {}
            raise Denied(
                f"RDS did not return which hosts belong together ({code}).",
                hint="Allow rds:DescribeDBInstances and rds:DescribeDBClusters for the function's"
                " role.",
            ) from None
        except UNREADABLE as error:
            raise self._client.malformed(error) from error
        except exceptions.BotoCoreError as error:
            raise Transient(
                f"RDS did not answer at {self._rds.meta.endpoint_url} ({type(error).__name__}).",
                hint="Check for a route to it, or for a VPC endpoint for RDS whose security group"
                " allows this client.",
            ) from error


def _address(instance: Mapping[str, Any] | None) -> str | None:
    return None if instance is None else instance.get("Endpoint", {}).get("Address")


def _of_cluster(cluster: Mapping[str, Any] | None) -> Hosts:
    if cluster is None:
        return Hosts()
    readers = {cluster.get("ReaderEndpoint"), *cluster.get("CustomEndpoints", ())} - {None}
    return Hosts(writer=cluster.get("Endpoint"), readers=frozenset(map(str, readers)))


def _same(one: str | None, other: str) -> bool:
    return one is not None and one.lower() == other.lower()
