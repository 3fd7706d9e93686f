"""For which hosts a secret is that RDS manages: asked of moto's RDS."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.api import Denied, Transient
from rotator.backends.aws import rds
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    made = Client(AwsOptions(region="eu-central-1"))
    yield made
    made.close()
    server.stop()


def _instance(service: Any) -> dict[str, Any]:
    return service.create_db_instance(
        DBInstanceIdentifier="shop",
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        MasterUsername="master",
        MasterUserPassword="made-up-123",
        AllocatedStorage=10,
    )["DBInstance"]


def test_an_instances_host_is_the_one_of_its_endpoint(client: Client):
    """Found by the tag that RDS puts on the secret."""
    about = _instance(client.service("rds"))
    tags = {"aws:rds:primaryDBInstanceArn": about["DBInstanceArn"]}
    assert rds.is_managed(tags)
    assert rds.hosts(client, tags) == {about["Endpoint"]["Address"]}


def test_a_cluster_has_a_host_for_writing_and_one_for_reading(client: Client):
    """Both take the same credential."""
    about = client.service("rds").create_db_cluster(
        DBClusterIdentifier="shop",
        Engine="aurora-postgresql",
        MasterUsername="master",
        MasterUserPassword="made-up-123",
    )["DBCluster"]
    tags = {"aws:rds:primaryDBClusterArn": about["DBClusterArn"]}
    assert rds.hosts(client, tags) == {about["Endpoint"], about["ReaderEndpoint"]}


def test_what_is_not_there_is_denied_with_the_right_that_may_be_missing(client: Client):
    """Not a traceback, and no guess."""
    arn = "arn:aws:rds:eu-central-1:123456789012:db:gone"
    assert not rds.is_managed({"owner": "me"})
    with pytest.raises(Denied, match="RDS does not say") as refused:
        rds.hosts(client, {"aws:rds:primaryDBInstanceArn": arn})
    assert "rds:DescribeDBInstances" in refused.value.hint


def test_an_rds_that_is_silent_is_told_in_time(monkeypatch: pytest.MonkeyPatch):
    """By the same limits as Secrets Manager, not by botocore's minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
        options = AwsOptions(region="eu-central-1", timeout=timedelta(seconds=1), attempts=1)
        begun = time.monotonic()
        with pytest.raises(Transient, match=url) as caught:
            rds.hosts(Client(options), {"aws:rds:primaryDBInstanceArn": "arn"})
        assert time.monotonic() - begun < 10
    assert "VPC endpoint for RDS" in caught.value.hint
