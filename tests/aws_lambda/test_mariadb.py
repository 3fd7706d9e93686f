"""The same function over a real MariaDB: its own password, two at a time, pairs, new logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.journal.log import verify_log
from rotator.testing.mariadb import PACKAGES, ScratchMariaDB, is_installed
from rotator.testing.secrets_manager import SecretsManager
from tests.aws_lambda.worlds import APP_PASSWORD, Client, MariaWorld

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchMariaDB]:
    if not is_installed():
        pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
    with ScratchMariaDB("--general-log=1", "--general-log-file=general.log") as started:
        yield started


@pytest.fixture
def maria(server: ScratchMariaDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[MariaWorld]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with SecretsManager() as aws:
        yield MariaWorld.on(server, aws)


@pytest.mark.parametrize("strategy", MariaWorld.KINDS)
def test_twenty_rotations_by_each_strategy(maria: MariaWorld, strategy: str):
    """Each ends, nobody is locked out where it overlaps, nothing is left, no password is logged."""
    maria.put(strategy)
    passwords = [APP_PASSWORD]
    with Client(maria) as client:
        for _ in range(20):
            old = maria.served()
            assert maria.rotate() == []
            new = maria.served()
            maria.sweep()
            assert maria.accepts(new)
            assert not maria.accepts(old)
            assert maria.logins() == {new["username"]}
            passwords.append(new["password"])
    assert client.logins > 20
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
