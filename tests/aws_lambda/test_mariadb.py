"""The same function over a real MariaDB and a real MySQL: its own password, two at a time, pairs, new logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.journal.log import verify_log
from tests.aws_lambda.sandboxes import APP_PASSWORD, Client, MariaWorld
from tests.mysql.dialects import DIALECTS
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.mysql_like import MySqlLikeServer


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda one: one.product)
def server(request: pytest.FixtureRequest) -> Iterator[MySqlLikeServer]:
    if request.param.missing:
        pytest.skip(request.param.missing)
    with request.param.start() as started:
        yield started


@pytest.fixture
def maria(server: MySqlLikeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MariaWorld]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with SecretsManager() as aws:
        yield MariaWorld.on(server, aws)


@pytest.mark.parametrize("rotations", [2, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", MariaWorld.KINDS)
def test_each_strategy_rotates_many_times(maria: MariaWorld, strategy: str, rotations: int):
    """Each rotation ends, nobody is locked out where it overlaps, nothing is left, no password is logged."""
    maria.put(strategy)
    passwords = [APP_PASSWORD]
    with Client(maria) as client:
        for _ in range(rotations):
            old = maria.served()
            assert maria.rotate() == []
            new = maria.served()
            maria.sweep()
            assert maria.accepts(new)
            assert not maria.accepts(old)
            assert maria.logins() == {new["username"]}
            passwords.append(new["password"])
    assert client.logins > rotations
    if strategy != "single-user":
        assert client.refused == 0
    assert verify_log(maria.lines)[0].damage == []
    said = maria.said() + maria.server.log_text()
    assert not [one for one in passwords[1:] if one in said]


@pytest.mark.parametrize("engine", ["mysql", "aurora-mysql"])
@pytest.mark.parametrize("strategy", MariaWorld.KINDS)
def test_the_server_itself_says_which_of_the_two_it_is(
    maria: MariaWorld, strategy: str, engine: str
):
    """A secret may call it MySQL: AWS's template for that served both."""
    maria.put(strategy, engine)
    before = maria.served()
    assert maria.rotate() == []
    after = maria.served()
    assert after["engine"] == engine
    maria.sweep()
    assert maria.accepts(after)
    assert not maria.accepts(before)
