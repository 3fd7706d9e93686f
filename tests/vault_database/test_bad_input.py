"""What a person gets wrong, or another system refuses: clear words, and nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vault_database.sandboxes import MOUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.installed_program import Real
    from tests.vault_database.sandboxes import Shop


@pytest.fixture
def edit(rotator: Real) -> Callable[[str, str], None]:
    """Return what changes the configuration."""

    def edit(old: str, new: str) -> None:
        config = rotator.folder / "rotator.yaml"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))

    return edit


# -- the configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "target: engine, strategy: s",
            "target: engine, backend: vault, strategy: s",
            "stores this",
        ),
        ("through: vault}", "through: vault, admin: 'vault:x'}", "does not use an admin"),
        ("through: vault}", "through: valut}", "Did you mean `vault`?"),
        ("{logs_in_on: main}", "{logs_in_on: mian}", "Did you mean `main`?"),
        ("{logs_in_on: main}", "{}", "missing key"),
        (
            "{logs_in_on: main}",
            "{logs_in_on: main, initial: 'env:X'}",
            "apply only to strategy `root`",
        ),
        ("strategy: static-role", "strategy: static-rolle", "Did you mean `static-role`?"),
        (
            "{logs_in_on: main}}\n",
            "{logs_in_on: main}, copies: [{backend: local}]}\n",
            "stores this secret itself",
        ),
        (
            '    admin: {username: rotator_admin, password: "env:ROTATOR_ADMIN_PASSWORD"}\n',
            "",
            "targets.main.admin: missing key",
        ),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(
    rotator: Real, edit: Callable[[str, str], None], old: str, new: str, said: str
):
    """`rotator check` says the line, and what would be right."""
    edit(old, new)
    assert said in rotator("check", code=2).err


def test_one_role_is_managed_once(rotator: Real, edit: Callable[[str, str], None], shop: Shop):
    """Two secrets over one role would rotate it in turn; a role and a connection may share a name."""
    again = f"  twice: {{target: engine, strategy: static-role, path: {shop.role}, options: {{logs_in_on: main}}}}\n"
    edit("  root:\n", f"{again}  root:\n")
    assert (
        "secret `app` already manages this login on target `engine`" in rotator("check", code=2).err
    )
    edit(again, "")
    edit(f"path: {shop.connection}", f"path: {shop.role}")
    rotator("check")


def test_a_backend_without_a_server_is_refused(rotator: Real, edit: Callable[[str, str], None]):
    """The embedded one has no database engine."""
    edit("through: vault}", "through: local}")
    assert "Name a backend of type `vault`" in rotator("rotate", "app", code=2).err


# -- the engine ------------------------------------------------------------------------------------


def _refused(rotator: Real, shop: Shop, *command: str, code: int = 3) -> str:
    """Run what must be refused; return what was said, once it is sure that nothing was changed."""
    before = shop.serves()
    outcome = rotator(*command, code=code)
    said = outcome.out + outcome.err
    assert shop.serves() == before
    assert shop.rotations() == 0
    assert shop.lets_in(before)
    return " ".join(said.split())


def test_an_absent_role_connection_or_engine_is_named(
    rotator: Real, edit: Callable[[str, str], None], shop: Shop
):
    """With the command that lists those that there are."""
    edit(f"path: {shop.role},", "path: nobodys,")
    said = _refused(rotator, shop, "rotate", "app")
    assert "has no static role 'nobodys'" in said
    assert f"bao list {MOUNT}/static-roles" in said
    edit(f"path: {shop.connection}", "path: nowhere")
    said = _refused(rotator, shop, "rotate", "root")
    assert "has no connection 'nowhere'" in said
    edit("through: vault}", "through: vault, mount: databases}")
    assert "no secrets engine at 'databases'" in _refused(rotator, shop, "rotate", "app")


def test_a_login_that_is_not_on_the_database_is_told(rotator: Real, shop: Shop):
    """The engine would go on trying by itself; rotator says what is missing."""
    rotator("adopt", "app")
    shop.sql(f"DROP ROLE {shop.role}")
    failed = rotator("rotate", "app", code=3).out
    assert "the login does not exist on the database" in failed
    assert "SQLSTATE" not in failed


def test_a_role_that_has_the_engines_own_login_is_refused(rotator: Real, shop: Shop):
    """Rotating it would lock the engine out; by either name."""
    place = f"{shop.server.host}:{shop.server.port}/postgres?sslmode=disable"
    # The connection is turned over to the login of the role.
    shop.bao.call(
        "POST",
        f"{MOUNT}/config/{shop.connection}",
        plugin_name="postgresql-database-plugin",
        allowed_roles=["*"],
        connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@{place}",
        username=shop.role,
        password=shop.serves().password.reveal(),
    )
    assert "lock the engine out" in _refused(rotator, shop, "rotate", "app")
    assert "is also a static role" in _refused(rotator, shop, "rotate", "root")
    doctor = rotator("doctor", "app", "root", code=1).out
    assert "lock the engine out" in doctor
    assert "is also a static role" in doctor


def test_a_login_by_which_rotator_works_is_refused(
    rotator: Real, edit: Callable[[str, str], None], shop: Shop
):
    """The engine would change a password that rotator takes from elsewhere."""
    edit("username: rotator_admin", f"username: {shop.role}")
    assert "is the admin that rotator itself uses" in _refused(rotator, shop, "rotate", "app")
    edit(f"username: {shop.role}", f"username: {shop.root}")
    assert "is the admin that rotator itself uses" in _refused(rotator, shop, "rotate", "root")


def test_a_sealed_and_an_absent_server_are_told(
    rotator: Real, edit: Callable[[str, str], None], shop: Shop
):
    """Nothing is written down as begun; for a sealed one somebody has to do something, and all secrets wait."""
    rotator("adopt", "app")
    shop.bao.seal()
    try:
        said = rotator("rotate", "app", "--timeout", "0s", code=3).err
    finally:
        shop.bao.unseal()
    assert "is sealed" in said
    assert "bao operator unseal" in said
    edit(f":{shop.bao.port}", ":1")
    said = rotator("rotate", "app", "--timeout", "0s", code=1).err
    assert "is unreachable" in said
    kinds = [one["kind"] for one in rotator.json("audit", "show", "app").data["events"]]
    assert kinds == ["adopted"]


def test_an_engine_that_rotates_before_we_do_is_told_with_the_remedy(rotator: Real, shop: Shop):
    """Two schedulers over one login; what is printed mends it, and rotates nothing."""
    place = f"{MOUNT}/static-roles/{shop.role}"
    mine = {"db_name": shop.connection, "username": shop.role}
    shop.bao.call("POST", place, **mine, rotation_period="24h")
    served = shop.serves()
    said = " ".join(rotator("doctor", "app").out.split())
    assert (
        "the engine rotates it automatically every 1 d, before rotator's schedule does (30 d)"
        in said
    )
    printed = said.partition("bao write ")[2].split()[:4]
    assert printed[0] == place
    shop.bao.call("POST", place, **dict(one.split("=") for one in printed[1:]))
    assert "rotates it automatically every" not in rotator("doctor", "app").out
    assert shop.serves() == served


# -- rights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["app", "root"])
def test_the_printed_policy_is_enough_and_none_of_it_is_too_much(
    rotator: Real, shop: Shop, secret: str
):
    """Everything works with it; without any one line it is refused, and that line is named."""
    lines = rotator("policy", "vault", secret).out.splitlines()
    name = f"rotator{shop.number}"

    def with_policy(kept: list[str]) -> None:
        shop.bao.policy(name, "\n".join(kept))
        rotator.environ["BAO_TOKEN"] = shop.bao.token(name)

    with_policy(lines)
    rotator("adopt", secret)
    rotator("rotate", secret)
    rotator("verify", secret)
    assert len(lines) >= 4
    for line in lines:
        # Each refusal that a rotation meets parks the secret.
        rotator("unpark", secret, "--reason", "the policy was changed")
        with_policy([one for one in lines if one != line])
        outcome = rotator("rotate", secret, code=3)
        failed = " ".join((outcome.out + outcome.err).split())
        path = line.split('"')[1].removesuffix("+")
        assert f'The policy requires: path "{path}' in failed, line


def test_an_application_needs_no_more_than_to_read(rotator: Real, shop: Shop):
    """And nobody reads the engine's own login."""
    said = rotator("policy", "vault", "app", "root", "--for", "consumer").out
    assert said.count("path") == 1
    assert f'path "{MOUNT}/static-creds/{shop.role}" {{ capabilities = ["read"] }}' in said
