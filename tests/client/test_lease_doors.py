"""Applications take leases from the daemon and from the agent's socket, on a real PostgreSQL."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator.agent.agent import Agent as HostAgent
from rotator.agent.socket_server import SocketServer
from rotator.agent.sources import open_agent
from rotator.client import Agent, Credential, DaemonError
from rotator.client import psycopg as psycopg_client
from rotator.testing.postgres import ScratchPostgres
from tests.client.shop import TOKENS, Shop, opened
from tests.load.chaos_targets import PostgresChaosTarget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.client import Daemon
    from rotator.core.leases import LeaseRecord

_AGENT = """\
version: 1
backend: {{type: local, path: secrets.db, key: 'file:rotator.key'}}
socket: {{path: a.sock}}
daemon: {{url: '{url}', token: 'env:AGENT_TOKEN'}}
"""
_WEB = {"secret": "fresh", "instance": "web-1"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with ScratchPostgres() as server:
        folder = tmp_path_factory.mktemp("shop")
        terms = "{ttl: 1h, max: 90m, limit: 20, share: consumer}"
        with opened(PostgresChaosTarget(server), folder, terms) as shop:
            yield shop


@pytest.fixture(autouse=True)
def _nothing_is_left(shop: Shop) -> Iterator[None]:
    yield
    for one in shop.app.journal.leases.open():
        shop.end_lease(one.id)


def _open(shop: Shop) -> list[LeaseRecord]:
    return shop.app.journal.leases.open(shop.lent)


def _logs_in(shop: Shop, answer: Any) -> bool:
    try:
        shop.target.server.connect("shop", answer["username"], answer["password"]).close()
    except psycopg.OperationalError:
        return False
    return True


def test_consumer_takes_renews_and_lets_go_of_a_lease(shop: Shop):
    web = shop.daemon()
    lease = web.lease("", {**_WEB, "reason": "nightly", "ttl": 1800})
    assert _logs_in(shop, lease)
    assert 1700 < lease["ends_in"] <= 1800
    assert 1100 < lease["take_next_in"] <= 1200
    (record,) = _open(shop)
    assert (record.holder, record.instances, record.purpose) == ("web", ("web-1",), "nightly")
    held = {"lease": lease["lease"], "instance": "web-1"}
    assert web.lease("/renew", {**held, "ttl": 5400})["final"] is True
    assert web.lease("/release", held)["state"] == "ended"
    assert web.lease("/release", held)["state"] == "ended"
    assert not _logs_in(shop, lease)
    with pytest.raises(DaemonError) as raised:
        web.lease("/renew", held)
    assert raised.value.status == 410
    assert isinstance(raised.value.answer, dict)
    assert raised.value.answer["kind"] == "ended"


@pytest.mark.parametrize(
    ("consumer", "path", "asked", "status"),
    [
        ("other", "", _WEB, 403),
        ("web", "", {**_WEB, "secret": "pair"}, 403),
        ("web", "", {**_WEB, "secret": "unknown"}, 403),
        ("web", "", {**_WEB, "holder": "job"}, 400),
        ("web", "", {"secret": "fresh"}, 400),
        ("web", "", {**_WEB, "instance": "a\nb"}, 400),
        ("web", "", {**_WEB, "ttl": "1h"}, 400),
        ("web", "", {**_WEB, "ttl": True}, 400),
        ("web", "", {**_WEB, "ttl": 1e400}, 400),
        ("web", "", {**_WEB, "refused": "all"}, 400),
        ("web", "", {**_WEB, "ttl": 1}, 422),
        ("web", "/renew", {"lease": "no-such", "instance": "web-1"}, 404),
        ("web", "/release", {"lease": "no-such", "instance": "web-1"}, 404),
        ("web", "/steal", {}, 404),
        ("web", "", [], 400),
    ],
)
def test_wrong_request_is_refused_and_makes_nothing(
    shop: Shop, consumer: str, path: str, asked: Any, status: int
):
    with pytest.raises(DaemonError) as raised:
        shop.daemon(consumer).lease(path, asked)
    assert raised.value.status == status
    assert _open(shop) == []


def test_lease_of_another_consumer_or_instance_is_not_found(shop: Shop):
    lease = shop.daemon().lease("", _WEB)
    held = {"lease": lease["lease"], "instance": "web-1"}
    for consumer, path, asked in (
        ("job", "/renew", held),
        ("job", "/release", held),
        ("web", "/renew", {**held, "instance": "web-2"}),
    ):
        with pytest.raises(DaemonError) as raised:
            shop.daemon(consumer).lease(path, asked)
        assert raised.value.status == 404
    assert _logs_in(shop, lease)


def test_answer_without_a_token_is_401(shop: Shop):
    address = repr(shop.daemon()).removesuffix(")").rpartition("/")[2]
    link = http.client.HTTPConnection(address, timeout=10)
    link.request("POST", "/v1/leases", json.dumps(_WEB))
    assert link.getresponse().status == 401
    link.close()


def test_hundred_replicas_share_one_login(shop: Shop):
    """All of them ask at once."""
    answers: list[Any] = []
    errors: list[DaemonError] = []

    def ask(number: int) -> None:
        try:
            answers.append(shop.daemon().lease("", {**_WEB, "instance": f"web-{number}"}))
        except DaemonError as error:
            errors.append(error)

    before = shop.target.logins()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    # Whoever was asked to come again does so, as the client library does.
    for number in range(100 - len(answers)):
        ask(number)
    (record,) = _open(shop)
    assert len(shop.target.logins() - before) == 1
    assert {one["username"] for one in answers} == {record.login}
    assert len(answers) == 100
    assert len(record.instances) >= 100 - len(errors)
    for instance in record.instances:
        shop.daemon().lease("/release", {"lease": record.id, "instance": instance})
    assert shop.target.logins() == before


def test_login_that_a_replica_was_refused_is_not_shared_with_it_again(shop: Shop):
    first = shop.daemon().lease("", _WEB)
    other = shop.daemon().lease("", {**_WEB, "instance": "web-2", "refused": [first["lease"]]})
    assert other["lease"] != first["lease"]
    assert _logs_in(shop, other)


@pytest.fixture
def agent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    # The path of a socket is limited to 107 bytes.
    folder: Path = shop.folder
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AGENT_TOKEN", TOKENS["web"])
    daemon: Daemon = shop.daemon()
    url = repr(daemon).removeprefix("Daemon(").removesuffix(")")
    (folder / "agent.yaml").write_text(_AGENT.format(url=url))
    (folder / "agent.yaml").chmod(0o600)
    running = HostAgent(open_agent(folder / "agent.yaml"))
    options = running.consumer.options.socket
    assert options is not None
    with SocketServer(running, options) as server:
        server.start()
        yield Agent(folder / "a.sock")
        server.shutdown()
    running.stop()


def test_agent_takes_leases_for_the_user_that_asks(shop: Shop, agent: Agent):
    """Which one that is, the kernel tells; what the request claims is only added."""
    credential = Credential.leased(shop.lent, agent)
    place = {"host": shop.target.server.host, "port": shop.target.server.port, "dbname": "shop"}
    with psycopg_client.connect(credential, **place) as connection:
        found = connection.execute("SELECT session_user").fetchone()
    (record,) = _open(shop)
    assert found == (record.login,)
    assert record.holder == "web"
    (instance,) = record.instances
    assert "/uid-0/" in instance or "/uid-" in instance
    credential.close()
    assert _open(shop) == []


def test_agent_passes_on_why_the_daemon_refuses(shop: Shop, agent: Agent):
    for asked, status in (({**_WEB, "secret": "pair"}, 403), ({**_WEB, "ttl": 1}, 422)):
        with pytest.raises(DaemonError) as raised:
            agent.lease("", asked)
        assert raised.value.status == status
        assert isinstance(raised.value.answer, dict)
        assert raised.value.answer["error"]
