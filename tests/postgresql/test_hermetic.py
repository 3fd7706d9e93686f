"""No code of an application's runs as the admin: planted functions, operators, views, settings, triggers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from rotations.postgresql import connection
from rotations.postgresql.connection import BoundedConnection
from rotations.postgresql.options import TargetOptions
from rotations.postgresql.server import Server
from rotator.api import Credential, Secret, Unavailable
from rotator.core.model import Outcome
from rotator.engine import ManagedSecret
from rotator.testing.fakes import step_context
from tests.postgresql import plants
from tests.postgresql.conftest import Harness
from tests.postgresql.test_rotating import STRATEGIES, options

# A name in front of a parenthesis, without a schema; key words are in capitals, but for these.
_CALL = re.compile(r"(?<![\w.\"%])([a-z_]\w*)\(")
_GRAMMAR = {"coalesce", "logins", "above", "privileges", "nullif"}
_RELATION = re.compile(r"\b(?:FROM|JOIN) (pg_\w+)\b(?!\.)")


@pytest.fixture
def admins(harness: Harness) -> dict[str, Credential]:
    """Make a superuser, and the admin that the README has: CREATEROLE, and the group by ADMIN OPTION."""
    made = {kind: Credential(username=f"{harness.group}_{kind}", password=Secret("admin-password")) for kind in ("super", "plain")}  # fmt: skip
    for kind, word in (("super", "SUPERUSER"), ("plain", "CREATEROLE")):
        harness.sql(f"CREATE ROLE {made[kind].username} LOGIN {word} PASSWORD 'admin-password'")
    harness.sql(f"GRANT {harness.group} TO {made['plain'].username} WITH ADMIN OPTION")
    return made


def rotate_all(harness: Harness, admin: Credential, strategies: Sequence[str] = STRATEGIES) -> None:
    """Rotate by every strategy, twice; look at it in every way."""
    for strategy in strategies:
        secret = harness.secret(strategy, admin=admin, **options(harness, strategy))
        for _ in range(2):
            result = harness.engine.rotate(secret)
            assert (result.outcome, result.error) == (Outcome.DONE, None)
        look(harness, secret)


def look(harness: Harness, secret: ManagedSecret) -> None:
    """Do all that changes nothing."""
    current = harness.serves(secret)
    rotation: Any = secret.rotation
    ctx = step_context(secret=secret.name, current=current)
    assert rotation.explain(current, ctx)
    assert rotation.examine(current, ctx)
    assert rotation.sessions(current.username, ctx) == []
    assert harness.engine.check(secret).accepted


@pytest.mark.parametrize(
    ("overloads_only", "kind"), [(True, "super"), (False, "super"), (False, "plain")]
)
def test_an_owner_of_the_database_runs_nothing_as_the_admin(
    harness: Harness, admins: dict[str, Credential], kind: str, *, overloads_only: bool
):
    """The admin logs in to the application's own database."""
    harness.sql(f"ALTER DATABASE {harness.dbname} OWNER TO {harness.group}")
    admin = admins[kind]
    planted = plants.plant(
        harness.server,
        harness.dbname,
        admin.username,
        owner=harness.group,
        overloads_only=overloads_only,
    )
    try:
        rotate_all(harness, admin)
    finally:
        ran = planted.ran()
        planted.remove()
        assert ran == []


def test_a_login_trigger_does_not_run_in_a_database_that_the_admin_visits(
    harness: Harness, admins: dict[str, Credential]
):
    """Its own database shows that it is a superuser: from then on it asks to do without them."""
    admin, place = admins["super"], harness.dbname
    harness.sql(f"ALTER DATABASE {place} OWNER TO {harness.group}")
    planted = plants.plant(
        harness.server, place, admin.username, owner=harness.group, login_trigger=True
    )
    try:
        server = Server("t", TargetOptions(host=harness.server.host, port=harness.server.port), lambda: admin)  # fmt: skip
        with server.admin("looking"), server.admin_in(place, "looking") as link:
            row = link.execute("SELECT current_setting('event_triggers'), current_user").fetchone()
        server.close()
        assert row == ("off", admin.username)
    finally:
        ran = planted.ran()
        planted.remove()
        assert ran == []


def test_a_pooler_that_drops_what_the_login_asks_for_changes_nothing(
    harness: Harness, admins: dict[str, Credential], monkeypatch: pytest.MonkeyPatch
):
    """The first statement asks for it again."""
    harness.sql(f"ALTER DATABASE {harness.dbname} OWNER TO {harness.group}")
    admin, real = admins["super"], connection.connect
    monkeypatch.setattr(connection, "connect", lambda given, seconds: real({k: v for k, v in given.items() if k != "options"}, seconds))  # fmt: skip
    planted = plants.plant(harness.server, harness.dbname, admin.username, owner=harness.group)
    try:
        rotate_all(harness, admin, ["new-user"])
    finally:
        ran = planted.ran()
        planted.remove()
        assert ran == []


def test_a_session_that_loses_its_path_is_not_used(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    """As behind a pooler that gives each transaction another session."""
    secret = harness.secret("new-user", group=harness.group)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    real = BoundedConnection.execute

    def shared(link: BoundedConnection, query: Any, *given: Any, **named: Any) -> Any:
        if "application_name" in str(query):
            real(link, "SET search_path TO public")
        return real(link, query, *given, **named)

    monkeypatch.setattr(BoundedConnection, "execute", shared)
    result = harness.engine.rotate(secret)
    assert isinstance(result.error, Unavailable)
    assert "search_path" in result.error.what
    assert harness.logs_in(harness.serves(secret))


def test_every_name_in_what_the_admin_sends_has_its_schema(
    harness: Harness, admins: dict[str, Credential], monkeypatch: pytest.MonkeyPatch
):
    """All statements of whole rotations, as they are sent."""
    sent: list[str] = []
    real, names = BoundedConnection.execute, {one.username for one in admins.values()}

    def noted(link: BoundedConnection, query: Any, *given: Any, **named: Any) -> Any:
        if link.info.user in names:
            text = query if isinstance(query, str | bytes) else query.as_string(link)
            sent.append(text.decode() if isinstance(text, bytes) else text)
        return real(link, query, *given, **named)

    monkeypatch.setattr(BoundedConnection, "execute", noted)
    rotate_all(harness, admins["plain"])
    look(harness, harness.secret("new-user", admin=admins["super"], group=harness.group))
    assert len(sent) > 100
    bare = {one for text in sent for one in (*_CALL.findall(text), *_RELATION.findall(text))}
    assert bare - _GRAMMAR == set()


def test_the_login_keeps_the_path_that_the_server_has_for_everybody(harness: Harness):
    """The admin's own path is another one, so it is not taken for the server's."""
    harness.sql("""ALTER SYSTEM SET search_path = "$user", app_objects""")
    harness.sql("SELECT pg_reload_conf()")
    try:
        harness.sql(
            f"CREATE ROLE {harness.group}_o LOGIN PASSWORD 'there-before-us' IN ROLE {harness.group}"
        )
        harness.sql(f"CREATE SCHEMA {harness.group}_o")
        users = (f"{harness.group}_o", f"{harness.group}_p")
        secret = harness.secret("alternating-users", group=harness.group, users=users)
        harness.adopt(secret, users[0])
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        with harness.connect(harness.serves(secret)) as link:
            (shown,) = link.execute("SHOW search_path").fetchone() or ("",)
        assert [one.strip().strip('"') for one in shown.split(",")] == [users[0], "app_objects"]
    finally:
        harness.sql("ALTER SYSTEM RESET search_path")
        harness.sql("SELECT pg_reload_conf()")
