"""Which hosts a secret is for that RDS manages: such a secret holds a login and a password only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions

from rotator.api import Denied, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.backends.aws.client import Client

# AWS puts one of them on every such secret (Amazon RDS User Guide, "Password management").
_INSTANCE: Final = "aws:rds:primaryDBInstanceArn"
_CLUSTER: Final = "aws:rds:primaryDBClusterArn"


def is_managed(tags: Mapping[str, str]) -> bool:
    """Return whether RDS manages the secret with these tags."""
    return _INSTANCE in tags or _CLUSTER in tags


def hosts(client: Client, tags: Mapping[str, str]) -> set[str]:
    """Return the names of the hosts on which RDS accepts the credential. Raises ours."""
    rds: Any = client.service("rds")
    try:
        if _INSTANCE in tags:
            answer = rds.describe_db_instances(DBInstanceIdentifier=tags[_INSTANCE])
            return {
                one["Endpoint"]["Address"] for one in answer["DBInstances"] if "Endpoint" in one
            }
        answer = rds.describe_db_clusters(DBClusterIdentifier=tags[_CLUSTER])
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        raise Denied(
            f"RDS does not say for which host its secret is ({code}).",
            hint="Allow rds:DescribeDBInstances and rds:DescribeDBClusters to the function's role.",
        ) from None
    except exceptions.BotoCoreError as error:
        raise Transient(
            f"RDS did not answer at {rds.meta.endpoint_url} ({type(error).__name__}).",
            hint="Is there a route to it, or a VPC endpoint for RDS whose security group lets us in?",
        ) from error
    found = set[str]()
    for cluster in answer["DBClusters"]:
        found |= {cluster.get("Endpoint"), cluster.get("ReaderEndpoint")} - {None}
        found |= set(cluster.get("CustomEndpoints", ()))
    return found
