"""The whole way, from the command line: rotator, a real OpenBao with its database engine, PostgreSQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rotator.api import Credential, Secret
from tests.vault_database.sandboxes import ADMIN_PASSWORD, FIRST, MOUNT, ROOT_PASSWORD

if TYPE_CHECKING:
    from tests.cli.installed_program import Real
    from tests.vault_database.sandboxes import Shop


def _events(rotator: Real, name: str) -> list[dict[str, Any]]:
    return rotator.json("audit", "show", name).data["events"]


def _data(rotator: Real, name: str, kind: str) -> list[dict[str, Any]]:
    return [one["data"] for one in _events(rotator, name) if one["kind"] == kind]


# -- static roles ----------------------------------------------------------------------------------


def test_a_static_role_is_rotated_by_the_engine_and_proven_by_us(rotator: Real, shop: Shop):
    """Taken over as it stands; then one request, the new one logs in, the old one is refused."""
    first = shop.serves()
    assert rotator.json("doctor", "app").data["errors"] == 0
    assert f"login {shop.role} is adopted" in rotator("adopt", "app").out
    assert shop.serves() == first

    assert "was rejected" in rotator("rotate", "app", "--reason", "the quarter is over").out
    served = shop.serves()
    assert shop.lets_in(served)
    assert not shop.lets_in(first)
    assert shop.rotations() == 1
    (asked,) = _data(rotator, "app", "requested")
    assert asked["reason"] == "the quarter is over"
    checked, requested, _, proven, revoked = _data(rotator, "app", "finished")
    assert proven["checks"] == [{"name": "logs in on main", "ok": True, "detail": ""}]
    assert (checked["accepted"], requested["asked"], revoked["refused"]) == (True, 1, True)
    assert "a login attempt was rejected" in rotator("history", "app").out
    (rotation,) = rotator.json("history", "app").data["rotations"]
    assert (rotation["outcome"], rotation["old_refused"]) == ("done", True)
    assert rotator.json("verify", "app").data["secrets"][0]["known"] is True
    assert rotator.json("status", "app").data["secrets"][0]["state"] == "ok"
    assert rotator.json("audit", "verify").data["ok"] is True
    assert served.password.reveal() == rotator("get", "app", "--field", "password", "--reveal").out


def test_a_plan_says_what_the_engine_is_asked(rotator: Real, shop: Shop):
    """In order, and nothing is changed by it."""
    first = shop.serves()
    said = rotator("plan", "app").out
    assert said.index(f"POST {MOUNT}/rotate-role/{shop.role}") < said.index("log in on main")
    assert f"POST {MOUNT}/rotate-root/{shop.connection}" in rotator("plan", "root").out
    assert shop.serves() == first


def test_a_rotation_by_the_engines_own_schedule_is_noticed(rotator: Real, shop: Shop):
    """It is no error: it is tried, written down, and the next due date counts from it."""
    rotator("adopt", "app")
    due = rotator.json("status", "app").data["secrets"][0]["next_due"]
    shop.rotate_by_itself()
    assert "it rotated automatically" in rotator("doctor", "app").out
    assert rotator.json("verify", "app").data["secrets"][0]["known"] is True
    (asked,) = _data(rotator, "app", "requested")
    (noticed,) = _data(rotator, "app", "finished")
    assert asked["noticed"] == noticed["version"]
    assert noticed["next_due"] > due
    assert "it rotated automatically" in rotator("history", "app").out
    rotator("rotate", "app")
    assert [one["outcome"] for one in _data(rotator, "app", "ended")] == ["done", "done"]
    assert shop.rotations() == 2


def test_a_password_that_the_engine_lost_is_replaced(rotator: Real, shop: Shop):
    """An engine that died between database and storage serves what nobody is let in with."""
    rotator("adopt", "app")
    shop.lose_the_password()
    failed = rotator("verify", "app", code=1)
    assert "NOT safe" in failed.err
    assert "rotator rotate app" in failed.err
    rotator("rotate", "app")
    assert shop.lets_in(shop.serves())
    assert _data(rotator, "app", "finished")[0]["accepted"] is False


def test_what_the_database_goes_on_refusing_is_asked_for_no_longer(rotator: Real, shop: Shop):
    """Three times, each in the journal; then a person hears that the application is not safe."""
    shop.sql(f"CREATE ROLE elsewhere{shop.number} LOGIN PASSWORD 'of-another-database'")
    role = f"other{shop.number}"
    shop.make_role(role, f"elsewhere{shop.number}")
    shop.bao.call(
        "POST",
        f"{MOUNT}/static-roles/{role}",
        db_name=shop.connection,
        username=f"elsewhere{shop.number}",
        rotation_period="8760h",
        rotation_statements=["SELECT 1"],
    )
    config = rotator.folder / "rotator.yaml"
    config.write_text(config.read_text().replace(f"path: {shop.role},", f"path: {role},"))
    rotator("adopt", "app")
    failed = rotator("rotate", "app", code=3)
    assert "asked for 3 times" in failed.out
    assert "NOT safe" in failed.out
    finished = _data(rotator, "app", "finished")
    assert [one["asked"] for one in finished if "asked" in one] == [1, 2, 3]
    kinds = [one["kind"] for one in _data(rotator, "app", "failed")]
    assert kinds == ["refused"] * 3
    assert rotator.json("status", "app", code=3).data["secrets"][0]["state"] == "parked"


def test_nothing_is_asked_while_nothing_could_be_proven(rotator: Real, shop: Shop):
    """The database is away for us: the engine might reach it, and still nothing is changed."""
    rotator("adopt", "app")
    config = rotator.folder / "rotator.yaml"
    text = config.read_text()
    config.write_text(text.replace(f"port: {shop.server.port}", "port: 1"))
    failed = rotator("rotate", "app", "--timeout", "0s", code=3)
    assert "is unreachable" in failed.out
    assert "Nothing was changed" in failed.out
    assert shop.rotations() == 0
    assert [one["step"] for one in _events(rotator, "app") if one["step"]] == ["check", "check"]


def test_what_failed_on_the_way_is_seen_through_later(rotator: Real, shop: Shop):
    """The engine cannot reach the database; when it can, the same request goes on, and once only."""
    rotator("adopt", "app")
    first = shop.serves()
    url = "postgresql://{{username}}:{{password}}@127.0.0.1:1/postgres?sslmode=disable"
    given = {"plugin_name": "postgresql-database-plugin", "allowed_roles": ["*"]}
    login = {"username": shop.root, "password": ROOT_PASSWORD}
    place = f"{MOUNT}/config/{shop.connection}"
    shop.bao.call("POST", place, connection_url=url, verify_connection=False, **given, **login)
    failed = rotator("rotate", "app", "--timeout", "0s", code=3)
    assert "could not reach the database" in failed.out
    assert "The application is safe" in failed.out
    assert not re.search(r"127\.0\.0\.1:1\b", failed.out)
    # It waits for its next try, which may be due by now.
    assert rotator.json("status", "app").data["secrets"][0]["state"] in ("retrying", "rotating")
    assert shop.lets_in(first)

    shop.connect(ROOT_PASSWORD)
    said = rotator("resume").out
    assert "rotated" in said
    assert shop.lets_in(shop.serves())
    assert not shop.lets_in(first)
    assert len(_data(rotator, "app", "requested")) == 1
    assert rotator("resume").out.strip() == "Nothing to do."


def test_what_fails_again_and_again_is_left_to_a_person(rotator: Real, shop: Shop):
    """After as many tries as the policy allows it is no longer tried by itself."""
    rotator("adopt", "app")
    url = "postgresql://{{username}}:{{password}}@127.0.0.1:1/postgres?sslmode=disable"
    shop.bao.call(
        "POST",
        f"{MOUNT}/config/{shop.connection}",
        plugin_name="postgresql-database-plugin",
        allowed_roles=["*"],
        connection_url=url,
        verify_connection=False,
        username=shop.root,
        password=ROOT_PASSWORD,
    )
    failed = rotator("rotate", "app", "--timeout", "10s", code=3)
    assert "stuck, and parked until an operator acts" in failed.out
    assert [one["kind"] for one in _data(rotator, "app", "failed")] == ["transient"] * 4


# -- the engine's own login ------------------------------------------------------------------------


def test_the_engines_own_login_is_rotated_and_proven(rotator: Real, shop: Shop):
    """Its first password is refused then, the engine gets in, and its roles rotate as before."""
    assert rotator.json("doctor", "root").data["errors"] == 0
    rotator("adopt", "root")
    root = Credential(username=shop.root, password=Secret(ROOT_PASSWORD))
    assert shop.lets_in(root)
    rotator("rotate", "root")
    assert not shop.lets_in(root)
    (proven,) = (one for one in _data(rotator, "root", "finished") if "checks" in one)
    assert [one["name"] for one in proven["checks"]] == [
        f"the engine connects as {shop.root}",
        "its first password is refused on main",
    ]
    rotator("rotate", "app")
    assert shop.lets_in(shop.serves())
    rotator("rotate", "root")
    assert rotator.json("verify", "root").data["secrets"][0]["known"] is True
    assert (
        "cannot be shown" in rotator("get", "root", "--field", "password", "--reveal", code=2).err
    )


def test_an_engine_that_is_locked_out_is_told_with_the_way_back(rotator: Real, shop: Shop):
    """It died between database and storage: applications are safe, and a person gets in again."""
    rotator("adopt", "root")
    served = shop.serves()
    shop.sql(f"ALTER ROLE {shop.root} PASSWORD 'what-the-engine-never-kept'")
    assert "rejects login" in rotator("verify", "root", code=1).err
    failed = rotator("rotate", "root", code=3)
    assert "its password differs from the one that the engine stores" in failed.out
    assert "Applications are safe" in failed.out
    assert "what-the-engine-never-kept" not in failed.out + failed.err
    assert shop.lets_in(served)
    failed = rotator("rotate", "app", code=3)
    assert (
        "The application is safe: the credential that is served authenticated just now."
        in failed.out
    )

    shop.sql(f"ALTER ROLE {shop.root} PASSWORD 'set-by-a-person'")
    shop.connect("set-by-a-person")
    for name in ("root", "app"):
        rotator("unpark", name, "--reason", "its password was set")
        rotator("rotate", name)
    assert not shop.lets_in(Credential(username=shop.root, password=Secret("set-by-a-person")))


def test_an_engine_that_is_locked_out_is_let_in_again_where_that_is_allowed(
    rotator: Real, shop: Shop
):
    """By the admin of its database: the engine keeps a password, the login gets it, and it is rotated."""
    config = rotator.folder / "rotator.yaml"
    initial = 'initial: "env:FIRST_ROOT_PASSWORD"'
    config.write_text(config.read_text().replace(initial, "recover: true"))
    shop.sql(f"GRANT {shop.root} TO rotator_admin WITH ADMIN OPTION")
    shop.sql(f"ALTER ROLE {shop.root} NOSUPERUSER CREATEROLE")
    shop.sql(f"GRANT {shop.role} TO {shop.root} WITH ADMIN OPTION")
    line = f'path "{MOUNT}/config/{shop.connection}" {{ capabilities = ["read", "update"] }}'
    assert line in rotator("policy", "vault", "root").out
    rotator("adopt", "root")
    before = shop.bao.call("GET", f"{MOUNT}/config/{shop.connection}")["data"]
    shop.sql(f"ALTER ROLE {shop.root} PASSWORD 'what-the-engine-never-kept'")
    rotator("rotate", "root")
    assert shop.bao.call("GET", f"{MOUNT}/config/{shop.connection}")["data"] == before
    rotator("rotate", "app")
    assert shop.lets_in(shop.serves())
    # A login that is not there any more is not made.
    shop.sql(f"DROP OWNED BY {shop.root}")
    shop.sql(f"DROP ROLE {shop.root}")
    assert f"has no login '{shop.root}'" in rotator("rotate", "root", code=3).out


# -- nothing secret --------------------------------------------------------------------------------


def test_no_password_is_found_where_none_belongs(rotator: Real, shop: Shop):
    """Not in the journal, not in what is printed, not in the log: for good and for bad ends."""
    passwords = [FIRST, ROOT_PASSWORD, ADMIN_PASSWORD, shop.serves().password.reveal()]
    said = [rotator("adopt", "app"), rotator("adopt", "root"), rotator("doctor", "app", "root")]
    for name in ("app", "root", "app"):
        said.append(rotator("rotate", name))
        passwords.append(shop.serves().password.reveal())
    shop.sql(f"ALTER ROLE {shop.root} PASSWORD 'lost'")
    said += [rotator("rotate", name, code=3) for name in ("root", "app")]
    said += [rotator("audit", "show", "--json"), rotator("history", "app"), rotator("get", "app")]
    told = "".join(one.out + one.err for one in said)
    kept = (rotator.folder / "journal.db").read_bytes().decode(errors="replace")
    for password in passwords:
        assert password not in told
        assert password not in kept
    # It would have been found.
    assert shop.role in told
    assert shop.role in kept
