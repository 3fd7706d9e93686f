"""A database engine on a real OpenBao over a real PostgreSQL, with connections and roles of a test's own."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rotations.postgresql import PLUGIN as POSTGRESQL
from rotations.postgresql.options import TargetOptions as PostgresOptions
from rotations.vault_database import PLUGIN
from rotations.vault_database.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.backends.vault import PLUGIN as VAULT
from rotator.backends.vault.options import AuthOptions, VaultOptions
from tests.postgresql.sandboxes import logs_in

if TYPE_CHECKING:
    from pathlib import Path

    from rotations.vault_database import EngineTarget
    from rotator.api import CallsServer, TriesLogins
    from rotator.testing.postgres import ScratchPostgres
    from tests.servers.openbao import ScratchOpenBao

MOUNT: Final = "database"
ROOT_PASSWORD: Final = "the-root-password-before-everything"
FIRST: Final = "the-first-password-of-the-role"
ADMIN_PASSWORD: Final = "what-rotator-is-let-in-with"
_numbers = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class Shop:
    """One connection of the engine with a login of its own, and one static role on it."""

    bao: ScratchOpenBao
    server: ScratchPostgres
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def connection(self) -> str:
        return f"shop{self.number}"

    @property
    def root(self) -> str:
        return f"engine{self.number}"

    @property
    def role(self) -> str:
        return f"app{self.number}"

    def set_up(self, *, period: str = "8760h") -> Shop:
        """Make the logins on the database, the connection and the role."""
        self.sql(f"CREATE ROLE {self.root} SUPERUSER LOGIN PASSWORD '{ROOT_PASSWORD}'")
        self.sql(f"CREATE ROLE {self.role} LOGIN PASSWORD '{FIRST}'")
        self.connect(ROOT_PASSWORD)
        self.make_role(self.role, self.role, period=period)
        return self

    def connect(self, password: str, **given: Any) -> None:
        """Tell the engine by which login it works."""
        place = f"{self.server.host}:{self.server.port}/postgres?sslmode=disable"
        self.bao.call(
            "POST",
            f"{MOUNT}/config/{self.connection}",
            plugin_name="postgresql-database-plugin",
            allowed_roles=["*"],
            connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@{place}",
            username=self.root,
            password=password,
            # Thousands of sandboxes on one server: none keeps a connection open.
            max_idle_connections=-1,
            **given,
        )

    def make_role(self, role: str, login: str, *, period: str = "8760h", **given: Any) -> None:
        self.bao.call(
            "POST",
            f"{MOUNT}/static-roles/{role}",
            db_name=self.connection,
            username=login,
            rotation_period=period,
            **given,
        )

    def sql(self, statement: str) -> None:
        with self.server.connect() as admin:
            admin.execute(statement.encode())

    def make_slow_commits(self, seconds: float) -> None:
        """Let commits of `slow_change` take so long, whoever hung up meanwhile.

        An engine that is killed in that time has changed the password and kept the one before.
        """
        self.sql(f"CREATE TABLE {self.slow} (id int)")
        self.sql(
            f"CREATE FUNCTION {self.slow}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$"
        )
        self.sql(
            f"CREATE CONSTRAINT TRIGGER {self.slow} AFTER INSERT ON {self.slow}"
            f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {self.slow}()"
        )

    @property
    def slow(self) -> str:
        return f"slow{self.number}"

    def slow_change(self) -> list[str]:
        change = "ALTER ROLE \"{{username}}\" WITH PASSWORD '{{password}}'"
        return [change, f"INSERT INTO {self.slow} VALUES (1)"]

    def slow_down_role(self) -> None:
        self.make_role(self.role, self.role, rotation_statements=self.slow_change())

    def commits_slowly(self) -> bool:
        """Return whether the database is in the middle of such a commit."""
        query = "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND wait_event = 'PgSleep'"
        with self.server.connect() as admin:
            return bool(admin.execute(query, [self.root]).fetchall())

    def serves(self, role: str | None = None) -> Credential:
        """Return what a consumer reads."""
        found = self.bao.call("GET", f"{MOUNT}/static-creds/{role or self.role}")["data"]
        return Credential(username=found["username"], password=Secret(found["password"]))

    def rotate_by_itself(self) -> None:
        """Rotate as the engine's own schedule would, without rotator."""
        self.bao.call("POST", f"{MOUNT}/rotate-role/{self.role}")

    def rotations(self) -> int:
        """Count how often the engine has rotated the role, by its own audit log."""
        wanted = f"{MOUNT}/rotate-role/{self.role}"
        text = self.bao.audit_text.splitlines()
        lines = (json.loads(line) for line in text if wanted in line)
        return sum(
            one["type"] == "response" and one["request"]["path"] == wanted and not one.get("error")
            for one in lines
        )

    def verifier(self, login: str) -> str:
        """Return what the database keeps of a password: another one for each that is set."""
        with self.server.connect() as admin:
            found = admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [login])
            return str(found.fetchone())

    def lets_in(self, credential: Credential) -> bool:
        return logs_in(self.server, credential)

    def lose_the_password(self) -> None:
        """Leave things as an engine does that died between the database and its storage."""
        self.sql(f"ALTER ROLE {self.role} PASSWORD 'what-nobody-has-written-down'")


class TargetLinks:
    """The rest of a configuration, for a target that is used without one."""

    def __init__(self, shop: Shop, server: CallsServer, logins: TriesLogins) -> None:
        self._shop, self._server, self._logins = shop, server, logins
        self.admin_logins: frozenset[str] = frozenset()

    def server(self, backend: str) -> CallsServer:
        return self._server

    def logins(self, target: str) -> TriesLogins:
        return self._logins

    def passwords(self, target: str) -> Any:
        return self._logins

    def admins(self, target: str) -> frozenset[str]:
        return self.admin_logins

    def resolve(self, reference: str) -> Secret:
        return Secret(ROOT_PASSWORD)


OPTIONS: Final = SecretOptions(logs_in_on="main")


def target(shop: Shop, folder: Path, token: str | None = None) -> EngineTarget:
    """Return the plugin's target over this engine, as the program would put it together."""
    secret = Secret(token or shop.bao.root_token)
    auth = AuthOptions(token="env:BAO_TOKEN")
    options = VaultOptions(address=shop.bao.address, auth=auth)
    server = VAULT.open("vault", options, lambda _: secret, folder)
    place = PostgresOptions(host=shop.server.host, port=shop.server.port)
    admin = Credential(username="postgres", password=Secret(shop.server.superuser_password))
    made = PLUGIN.target("engine", TargetOptions(through="vault"), lambda: admin)
    logins = POSTGRESQL.target("main", place, lambda: admin)
    made.use(TargetLinks(shop, server, logins))
    return made
