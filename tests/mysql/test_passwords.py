"""What a real MySQL keeps of a password: its two formats, its rounds, the plugins that it has not."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from rotations.mysql.passwords import (
    PBKDF2,
    SHA256_CRYPT,
    caching_hash,
    is_hash_of,
    is_known,
    rounds_of,
)
from rotator.api import Credential, Secret, StepError
from rotator.core.model import Outcome
from rotator.testing.fakes import SeededEntropy, step_context
from tests.harness import FIRST
from tests.mysql.dialects import MYSQL, Dialect, is_let_in
from tests.mysql.sandboxes import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.mysql.harness import Harness
    from tests.servers.mysql_like import MySqlLikeServer

_FORMAT: Final = "caching_sha2_password_storage_format"
_ENFORCE: Final = "caching_sha2_password_enforce_storage_format"


@pytest.fixture
def dialect() -> Dialect:
    """Return MySQL's."""
    return MYSQL


@contextmanager
def _stores(server: MySqlLikeServer, form: str, enforce: str = "OFF") -> Generator[None]:
    """Let the server store passwords so; its root too, whom it would refuse else."""
    before = server.run(f"SELECT @@global.{_FORMAT}, @@global.{_ENFORCE}")[0]
    own = f"ALTER USER CURRENT_USER() IDENTIFIED BY '{server.root_password}'"
    server.run(f"SET GLOBAL {_FORMAT} = {form}", own, f"SET GLOBAL {_ENFORCE} = {enforce}")
    try:
        yield
    finally:
        server.run(
            f"SET GLOBAL {_ENFORCE} = {before[1]}", f"SET GLOBAL {_FORMAT} = {before[0]}", own
        )


def _kept(harness: Harness, login: str) -> str:
    return str(
        harness.server.run(f"SELECT authentication_string FROM mysql.user WHERE User = '{login}'")[
            0
        ][0]
    )


@pytest.mark.parametrize("form", [SHA256_CRYPT, PBKDF2])
@pytest.mark.parametrize("password", ["plain", "naïve ☃ \U0001d4b3", "x" * 70])
def test_our_hash_logs_in_and_the_servers_hash_is_known(harness: Harness, form: str, password: str):
    """Whoever made it."""
    login, secret = f"{harness.name}_h", Secret(password)
    made = caching_hash(secret, SeededEntropy(), form=form, rounds=10_000)
    kept = made.replace("\\", "\\\\").replace("'", "\\'")
    harness.server.run(f"CREATE USER {login}@'%' IDENTIFIED WITH caching_sha2_password AS '{kept}'")
    assert is_let_in(harness.server, login, password)
    name = {SHA256_CRYPT: "CRYPT5", PBKDF2: "PBKDF2_SHA512"}[form]
    with _stores(harness.server, name):
        harness.server.run(f"ALTER USER {login}@'%' IDENTIFIED BY '{password}'")
    assert _kept(harness, login).startswith(f"${form}$")
    assert is_hash_of(_kept(harness, login), secret)
    assert not is_hash_of(_kept(harness, login), Secret("another"))


@pytest.mark.parametrize("enforce", ["OFF", "ON"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rotation_keeps_the_servers_format_and_rounds(
    harness: Harness, strategy: str, enforce: str
):
    """An admin raised the rounds; the CIS benchmark asks for PBKDF2_SHA512 and its enforcement."""
    made = caching_hash(Secret(FIRST), SeededEntropy(), form=PBKDF2, rounds=30_000)
    harness.server.run(
        f"ALTER USER {harness.name}@'%' IDENTIFIED WITH caching_sha2_password AS '{made}'"
    )
    secret = harness.secret(strategy)
    harness.adopt(secret)
    with _stores(harness.server, "PBKDF2_SHA512", enforce):
        for _ in range(2):
            result = harness.engine.rotate(secret)
            assert result.outcome is Outcome.DONE, result.error
            served = harness.serves(secret)
            assert is_let_in(harness.server, served.username, served.password.reveal())
            assert _kept(harness, served.username).startswith(f"${PBKDF2}$")
            assert rounds_of(_kept(harness, served.username)) >= 30_000


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_hash_of_an_unknown_format_is_refused_and_left_alone(harness: Harness, strategy: str):
    """It is not known whether it lets a password in: that is not 'wrong'."""
    kept = f"$C$00A${'s' * 20}{'d' * 43}"
    harness.server.run(
        f"UPDATE mysql.user SET authentication_string = '{kept}' WHERE User = '{harness.name}'"
        # Without FLUSH PRIVILEGES: a server drops at once what it does not know itself.
    )
    assert not is_known(kept)
    rotation = harness.secret(strategy).rotation
    current = Credential(username=harness.name, password=Secret(FIRST))
    ctx = step_context(current=current, secret=harness.name, adopted=frozenset({harness.name}))
    new = rotation.propose(current, ctx)
    with pytest.raises(StepError, match="format"):
        rotation.create(new, ctx)
    rotation.withdraw(new, ctx)
    assert _kept(harness, harness.name) == kept
    assert list(harness.dialect.accounts(harness.server, harness.name)) == [harness.name]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("plugin", ["sha256_password", "mysql_native_password", "auth_socket"])
def test_a_login_by_another_plugin_is_refused_before_anything_is_sent(
    harness: Harness, strategy: str, plugin: str
):
    """By a plugin that we cannot hash for, or that this server has not. Nothing is published, nothing parks late."""
    kept = "*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29" if "native" in plugin else ""
    harness.server.run(
        f"ALTER USER {harness.name}@'%' IDENTIFIED WITH sha256_password BY '{FIRST}'",
        f"UPDATE mysql.user SET plugin = '{plugin}', authentication_string ="
        f" IF('{plugin}' = 'sha256_password', authentication_string, '{kept}')"
        f" WHERE User = '{harness.name}'",
        "FLUSH PRIVILEGES",
    )
    before = harness.dialect.rows(harness.server, harness.name)
    rotation = harness.secret(strategy).rotation
    current = Credential(username=harness.name, password=Secret(FIRST))
    ctx = step_context(current=current, secret=harness.name, adopted=frozenset({harness.name}))
    new = rotation.propose(current, ctx)
    with pytest.raises(StepError, match=plugin) as refused:
        rotation.create(new, ctx)
    assert "caching_sha2_password" in refused.value.hint
    assert "NOT safe" not in str(refused.value.safety)
    rotation.withdraw(new, ctx)
    assert harness.dialect.rows(harness.server, harness.name) == before
