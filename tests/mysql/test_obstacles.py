"""No effect whose proof or undo is known to fail: looked at before create, and nothing is written then."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import pymysql
import pytest

from rotator.api import Conflict, Credential, Secret, StepError, Unavailable
from rotator.core.model import Outcome
from rotator.testing.fakes import step_context
from tests.harness import FIRST
from tests.mysql.dialects import MARIADB, MYSQL, Dialect, is_let_in
from tests.mysql.sandboxes import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Generator

    from rotator.api import Rotation, StepContext
    from tests.mysql.harness import Harness
    from tests.servers.mysql_like import MySqlLikeServer

IN_PLACE: Final = ("dual-password", "single-user")


def _current(harness: Harness) -> Credential:
    return Credential(username=harness.name, password=Secret(FIRST))


def _ctx(harness: Harness) -> StepContext:
    return step_context(
        current=_current(harness), secret=harness.name, adopted=frozenset({harness.name})
    )


def _refused(harness: Harness, rotation: Rotation, match: str) -> StepError:
    """Create, which is refused; withdraw. Neither writes anything."""
    before = harness.dialect.rows(harness.server, harness.name)
    new = rotation.propose(_current(harness), _ctx(harness))
    with pytest.raises(StepError, match=match) as refused:
        rotation.create(new, _ctx(harness))
    rotation.withdraw(new, _ctx(harness))
    assert harness.dialect.rows(harness.server, harness.name) == before
    return refused.value


@pytest.mark.parametrize("strategy", IN_PLACE)
def test_a_password_that_was_set_by_hand_survives_the_undo(harness: Harness, strategy: str):
    """Whoever mended an incident is not thrown out: create wrote nothing, so withdraw does not."""
    rotation = harness.secret(strategy).rotation
    new = rotation.propose(_current(harness), _ctx(harness))
    harness.server.run(f"ALTER USER {harness.name}@'%' IDENTIFIED BY 'by-hand-now'")
    if strategy == "dual-password":
        with pytest.raises(Conflict):
            rotation.create(new, _ctx(harness))
    rotation.withdraw(new, _ctx(harness))
    assert is_let_in(harness.server, harness.name, "by-hand-now")


def _second(harness: Harness) -> None:
    if harness.dialect is MYSQL:
        harness.server.run(
            f"ALTER USER {harness.name}@'%' IDENTIFIED BY 'by-hand' RETAIN CURRENT PASSWORD"
        )
        return
    harness.server.run(
        f"ALTER USER {harness.name}@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('by-hand')"
        f" OR mysql_native_password USING PASSWORD('{FIRST}')"
    )


@pytest.mark.parametrize("strategy", IN_PLACE)
def test_a_second_password_that_is_in_use_is_seen_before_create(harness: Harness, strategy: str):
    """It is not ended, and doctor and plan name it too."""
    _second(harness)
    secret = harness.secret(strategy)
    error = _refused(harness, secret.rotation, "accepts a second password")
    assert harness.name in error.hint
    assert is_let_in(harness.server, harness.name, "by-hand")
    assert is_let_in(harness.server, harness.name, FIRST)
    with pytest.raises(StepError, match="accepts a second password"):
        secret.rotation.explain(_current(harness), _ctx(harness))  # type: ignore[attr-defined]
    found = secret.rotation.examine(_current(harness), _ctx(harness))  # type: ignore[attr-defined]
    assert "accepts a second password" in str(found)


# -- limits --------------------------------------------------------------------------------------


@contextmanager
def _global(server: MySqlLikeServer, name: str, value: object) -> Generator[None]:
    (before,) = server.run(f"SELECT @@global.{name}")[0]
    server.run(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        server.run(f"SET GLOBAL {name} = {before}")


@pytest.mark.parametrize("limit", ["MAX_USER_CONNECTIONS 2", "MAX_CONNECTIONS_PER_HOUR 2"])
@pytest.mark.parametrize("strategy", IN_PLACE)
def test_a_limit_of_connections_that_is_used_up_proves_the_password(
    harness: Harness, strategy: str, limit: str
):
    """The server asks for the password first. The rotation ends; nobody waits for a pool to shrink."""
    secret = harness.secret(strategy)
    harness.adopt(secret)
    with ExitStack() as pool:
        harness.server.run("FLUSH USER_RESOURCES", f"ALTER USER {harness.name}@'%' WITH {limit}")
        for _ in range(2):
            pool.callback(harness.server.connect(harness.name, FIRST).close)
        result = harness.engine.rotate(secret)
        assert (result.outcome, result.error) == (Outcome.DONE, None)
        assert result.old_refused is True
    harness.server.run("FLUSH USER_RESOURCES")
    served = harness.serves(secret)
    harness.server.run(
        f"ALTER USER {harness.name}@'%' WITH MAX_USER_CONNECTIONS 0 MAX_CONNECTIONS_PER_HOUR 0"
    )
    assert is_let_in(harness.server, served.username, served.password.reveal())


def test_a_probe_that_fails_already_is_found_before_the_password_changes(harness: Harness):
    """single-user: what cannot be proven is not changed."""
    secret = harness.secret("single-user")
    harness.server.run(f"REVOKE reader FROM {harness.name}@'%'")
    harness.server.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {harness.name}@'%'")
    error = _refused(harness, secret.rotation, "could not be verified")
    assert "safe" in str(error.safety)
    assert is_let_in(harness.server, harness.name, FIRST)


# -- what a login may not do to itself --------------------------------------------------------------


class TestOwnPasswordOnMySQL:
    """single-user, where the admin is the login itself."""

    @pytest.fixture
    def dialect(self) -> Dialect:
        """Return MySQL's."""
        return MYSQL

    @pytest.mark.parametrize(
        ("account", "setting"),
        [
            ("PASSWORD HISTORY 5", None),
            ("PASSWORD REUSE INTERVAL 30 DAY", None),
            ("PASSWORD HISTORY DEFAULT", ("password_history", 3)),
            ("PASSWORD REUSE INTERVAL DEFAULT", ("password_reuse_interval", 9)),
        ],
    )
    def test_a_password_history_is_refused_since_there_is_no_way_back(
        self, harness: Harness, account: str, setting: Any
    ):
        """The undo sets the password of before, which the history forbids."""
        harness.server.run(f"ALTER USER {harness.name}@'%' {account}")
        secret = harness.secret("single-user", admin=_current(harness))
        with ExitStack() as stack:
            if setting:
                stack.enter_context(_global(harness.server, *setting))
            error = _refused(harness, secret.rotation, "may not reuse")
            assert "PASSWORD HISTORY 0" in error.hint
        assert is_let_in(harness.server, harness.name, FIRST)

    def test_a_change_that_was_cut_off_is_undone_by_the_new_password(self, harness: Harness):
        """Another process has no session left: the admin's password is the one that was replaced."""
        first, second = (
            harness.secret("single-user", admin=_current(harness)).rotation for _ in range(2)
        )
        new = first.propose(_current(harness), _ctx(harness))
        first.create(new, _ctx(harness))
        second.create(new, _ctx(harness))
        assert is_let_in(harness.server, harness.name, new.password.reveal())
        second.withdraw(new, _ctx(harness))
        assert is_let_in(harness.server, harness.name, FIRST)
        assert not is_let_in(harness.server, harness.name, new.password.reveal())

    def test_nothing_is_undone_where_the_change_was_refused(self, harness: Harness):
        """validate_password or a second password: the served one works all the time."""
        rotation = harness.secret("single-user", admin=_current(harness)).rotation
        new = rotation.propose(_current(harness), _ctx(harness))
        before = harness.dialect.rows(harness.server, harness.name)
        rotation.withdraw(new, _ctx(harness))
        assert harness.dialect.rows(harness.server, harness.name) == before


class TestPasswordValidationOnMariaDB:
    """A plugin that checks passwords refuses hashes."""

    @pytest.fixture
    def dialect(self) -> Dialect:
        """Return MariaDB's."""
        return MARIADB

    @pytest.mark.parametrize("plugin", ["simple_password_check", "password_reuse_check"])
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_it_is_named_with_its_cure(self, harness: Harness, strategy: str, plugin: str):
        """The whole target waits: each of its rotations would fail."""
        try:
            harness.server.run(f"INSTALL SONAME '{plugin}'")
        except pymysql.OperationalError:
            pytest.skip(f"no plugin {plugin}: it is in Debian's package mariadb-server")
        try:
            rotation = harness.secret(strategy).rotation
            error = _refused(harness, rotation, plugin)
            assert isinstance(error, Unavailable)
            assert "SET GLOBAL strict_password_validation = OFF" in error.hint
            with _global(harness.server, "strict_password_validation", 0):
                secret = harness.secret(strategy)
                harness.adopt(secret)
                assert harness.engine.rotate(secret).outcome is Outcome.DONE
        finally:
            harness.server.run(f"UNINSTALL SONAME '{plugin}'")
