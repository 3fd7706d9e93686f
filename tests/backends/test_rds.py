"""For which hosts a secret is that RDS manages: asked of moto's RDS."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from botocore import exceptions

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
    # Its memory is the process's, not the server's.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
    # The first request imports moto's RDS, for longer than our client waits where others are at work.
    asked = {"Action": "DescribeDBInstances", "Version": "2014-10-31"}
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/rds/aws4_request"
    }
    requests.post(
        f"http://{host}:{port}/", data=asked, headers=signed, timeout=60
    ).raise_for_status()
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
    assert rds.managed(client, tags) == rds.Hosts(writer=about["Endpoint"]["Address"])


def _cluster(service: Any) -> dict[str, Any]:
    return service.create_db_cluster(
        DBClusterIdentifier="books",
        Engine="aurora-postgresql",
        MasterUsername="master",
        MasterUserPassword="made-up-123",
    )["DBCluster"]


def test_a_cluster_has_a_host_for_writing_and_one_for_reading(client: Client):
    """Both take the same credential."""
    about = _cluster(client.service("rds"))
    tags = {"aws:rds:primaryDBClusterArn": about["DBClusterArn"]}
    readers = frozenset({about["ReaderEndpoint"]})
    assert rds.managed(client, tags) == rds.Hosts(writer=about["Endpoint"], readers=readers)
    assert rds.writer_of(client, about["ReaderEndpoint"]) == about["Endpoint"]


def test_a_read_replicas_writes_go_to_its_source(client: Client):
    """By RDS's word, for the very endpoint."""
    service = client.service("rds")
    source = _instance(service)
    replica = service.create_db_instance_read_replica(
        DBInstanceIdentifier="reports", SourceDBInstanceIdentifier="shop"
    )["DBInstance"]
    assert rds.writer_of(client, replica["Endpoint"]["Address"]) == source["Endpoint"]["Address"]
    # Somebody else's host that only begins like it.
    assert rds.writer_of(client, "reports.example.org") is None


def test_an_instance_of_a_cluster_follows_its_writer(client: Client):
    """An application may be bound to one of them."""
    service = client.service("rds")
    about = _cluster(service)
    member = service.create_db_instance(
        DBInstanceIdentifier="books-2",
        DBInstanceClass="db.r6g.large",
        Engine="aurora-postgresql",
        DBClusterIdentifier="books",
    )["DBInstance"]
    assert rds.writer_of(client, member["Endpoint"]["Address"]) == about["Endpoint"]


def test_a_source_in_another_region_is_not_guessed(client: Client, monkeypatch: pytest.MonkeyPatch):
    """Its RDS is not asked: another service of that name may be somebody's."""
    service = client.service("rds")
    _instance(service)
    source = "arn:aws:rds:us-east-1:123456789012:db:shop"
    answer = {"DBInstances": [{"Endpoint": {"Address": "far"}}]}
    answer["DBInstances"][0]["ReadReplicaSourceDBInstanceIdentifier"] = source

    class Said:
        def describe_db_instances(self, **_given: str) -> dict[str, Any]:
            return answer

    monkeypatch.setattr(client, "service", lambda _name: Said())
    assert rds.writer_of(client, "far") is None


@pytest.mark.parametrize("host", ["shop", "shop.example.org", "127.0.0.1", "db_1.internal"])
def test_a_host_that_is_not_rds_has_no_writer(client: Client, host: str):
    """A name of somebody's own; RDS finds some of them not even possible."""
    assert rds.writer_of(client, host) is None


def test_what_is_not_there_is_denied(client: Client):
    """Not a traceback, and no guess."""
    arn = "arn:aws:rds:eu-central-1:123456789012:db:gone"
    assert not rds.is_managed({"owner": "me"})
    with pytest.raises(Denied, match=f"RDS does not know {arn}"):
        rds.managed(client, {"aws:rds:primaryDBInstanceArn": arn})


def test_a_right_that_is_missing_is_named(client: Client, monkeypatch: pytest.MonkeyPatch):
    """Both are asked for at once."""

    class Refusing:
        def describe_db_instances(self, **_given: str) -> dict[str, Any]:
            raise exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeDBInstances")

    monkeypatch.setattr(client, "service", lambda _name: Refusing())
    with pytest.raises(Denied, match=r"AccessDenied") as refused:
        rds.writer_of(client, "shop")
    assert "rds:DescribeDBInstances and rds:DescribeDBClusters" in refused.value.hint


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
            rds.managed(Client(options), {"aws:rds:primaryDBInstanceArn": "arn"})
        assert time.monotonic() - begun < 10
    assert "VPC endpoint for RDS" in caught.value.hint
