"""What real engines answered, by kind: OpenBao 2.7 over PostgreSQL 18, MariaDB 10.11 and Valkey 9."""

from __future__ import annotations

import pytest

from rotations.vault_database.errors import Failure, kind
from rotator.api import ServerResponse

_RETRIES = "unable to finish rotating credentials; retries will continue in the background but it is also safe to retry manually: "


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("unknown role: none", Failure.NO_ROLE),
        ("no static role found for role name", Failure.NO_ROLE),
        ('failed to find entry for connection with name: "none"', Failure.NO_CONNECTION),
        (
            f'{_RETRIES}error setting credentials: failed to execute query: ERROR: role "app" does not exist (SQLSTATE 42704)',
            Failure.NO_LOGIN,
        ),
        (
            f"{_RETRIES}failed to change password: Error 1396 (HY000): Operation ALTER USER failed for 'app'@'%'",
            Failure.NO_LOGIN,
        ),
        (
            f'{_RETRIES}error setting credentials: reset of passwords for user app failed in changeUserPassword: response returned from Conn: expected prefix "array", got "blob-string"',
            Failure.NO_LOGIN,
        ),
        (
            f'{_RETRIES}error verifying connection: failed to connect to `user=engine database=postgres`: 127.0.0.1:51563: failed SASL auth: FATAL: password authentication failed for user "engine" (SQLSTATE 28P01)',
            Failure.LOCKED_OUT,
        ),
        (
            "error verifying - ping: Error 1045 (28000): Access denied for user 'engine'@'127.0.0.1' (using password: YES)",
            Failure.LOCKED_OUT,
        ),
        (
            "response returned from Conn: WRONGPASS invalid username-password pair or user is disabled.",
            Failure.LOCKED_OUT,
        ),
        (
            f"{_RETRIES}user does not appear to exist: failed to connect to `user=engine database=postgres`: 127.0.0.1:5 (127.0.0.1): dial error: dial tcp 127.0.0.1:5: connect: connection refused",
            Failure.UNREACHABLE,
        ),
        ("error verifying connection: dial tcp 127.0.0.1:16379: i/o timeout", Failure.UNREACHABLE),
        ("something that nobody has seen yet", Failure.ELSE),
    ],
)
def test_what_an_engine_says_is_told_by_kind(said: str, failure: Failure):
    """The first kind that fits, as one saying may be wrapped in another."""
    assert kind(ServerResponse(status=500, said=said)) is failure


def test_an_answer_shows_nothing_of_what_was_said():
    """It may hold a password."""
    answer = ServerResponse(status=200, said="hunter2", data={"password": "hunter2"})
    assert "hunter2" not in repr(answer)
