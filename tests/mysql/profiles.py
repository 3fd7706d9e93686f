"""Accounts with everything that an account can have, drawn at random, and rotations of them."""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator import system
from rotator.api import Credential, InUse, Secret, StepError
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import ListLog, step_context
from tests.mysql import oracle
from tests.mysql.dialects import DIALECTS, dialect_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rotator.api import Finding, StepContext, Target
    from tests.mysql.dialects import Dialect
    from tests.servers.mysql_like import MySqlLikeServer

FIRST: Final = "There-before-us-1"
_rotations = itertools.count(1)
# How long a busy server may list a session that has ended.
_LISTED_SECONDS: Final = 10.0
_MARKS: Final = "SELECT User FROM mysql.user WHERE User LIKE 'rotator:%'"
# Servers on which there is everything that accounts can have rights on.
_READY: set[int] = set()


@dataclass(slots=True, kw_only=True)
class LoginFixture:
    """One application's account on a server, and the plugin to rotate it with, without an engine."""

    server: MySqlLikeServer
    dialect: Dialect
    name: str
    admin: Credential | None = None
    log: ListLog = field(default_factory=ListLog)
    _targets: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make what accounts can have rights on."""
        if self.admin is None:
            self.admin = Credential(username="root", password=Secret(self.server.root_password))
        if self.server.port in _READY:
            return
        _READY.add(self.server.port)
        library = (
            "SET GLOBAL partial_revokes = ON",
            "CREATE LIBRARY IF NOT EXISTS store.lib LANGUAGE JAVASCRIPT AS 'export function f() {}'",
        )
        self.server.run(
            "CREATE DATABASE IF NOT EXISTS store",
            "CREATE TABLE IF NOT EXISTS store.orders (id int, secret int)",
            "CREATE ROLE IF NOT EXISTS reader, writer",
            "GRANT SELECT ON store.* TO reader",
            "GRANT UPDATE ON store.* TO writer",
            "CREATE USER IF NOT EXISTS carol@'%', dave@'%', bystander@'%'",
            "CREATE PROCEDURE IF NOT EXISTS store.proc() SELECT 1",
            "CREATE FUNCTION IF NOT EXISTS store.func() RETURNS int DETERMINISTIC RETURN 1",
            # As root@localhost has it from the first.
            "REPLACE INTO mysql.proxies_priv VALUES ('127.0.0.1', 'root', '', '', 1, '', now())",
            "FLUSH PRIVILEGES",
            *(library if self.server.product == "MySQL" else ()),
        )

    @property
    def other(self) -> str:
        """The name of the login that waits, of a pair."""
        return f"{self.name}_b"

    @property
    def current(self) -> Credential:
        """What is served before the first rotation."""
        return Credential(username=self.name, password=Secret(FIRST))

    def run(self, *statements: str, login: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements as root, with `{0}` for the account."""
        account = f"`{login or self.name}`@'%'"
        word = self.dialect.default_role_for
        made = (one.replace("{for}", word).replace("{first}", FIRST) for one in statements)
        return self.server.run("DO 1", *(one.replace("{0}", account) for one in made))

    def profile(self, login: str) -> dict[str, list[str]]:
        """Return all that the server keeps of an account, by the oracle."""
        return oracle.profile(self.server, login)

    def context(self, current: Credential) -> StepContext:
        """Return what a step of a rotation of its own is told."""
        return step_context(
            secret=self.name,
            rotation_id=f"{self.name} {next(_rotations)}",
            current=current,
            adopted=frozenset({self.name, self.other}),
            log=self.log,
            entropy=system.SystemEntropy(),
            clock=system.SystemClock(),
        )

    def examined(self, strategy: str) -> list[Finding]:
        """Return what `doctor` finds."""
        return self.rotation(strategy).examine(self.current, self.context(self.current))

    def rotation(self, strategy: str, *, prefix: str | None = None, **target: Any) -> Any:
        """Return the plugin's rotation of this account."""
        admin = self.admin
        assert admin is not None
        place: dict[str, Any] = {"host": self.server.host, "port": self.server.port, **target}
        opened = PLUGIN.target("t", TargetOptions(**place), lambda: admin)
        self._targets.append(opened)
        options = SecretOptions(
            username=self.name, users=(self.name, self.other), prefix=prefix or self.name
        )
        return opened.rotation(strategy, options)

    def rotate(self, strategy: str, current: Credential, **target: Any) -> Credential:
        """Replace a credential by the next; the old one is revoked."""
        rotation = self.rotation(strategy, **target)
        ctx = self.context(current)
        new = rotation.propose(current, ctx)
        rotation.create(new, ctx)
        assert rotation.verify(new, ctx).ok
        ctx = replace(ctx, current=new)
        self._revoke(rotation, current, ctx)
        assert rotation.probe(new, ctx)
        assert not rotation.probe(current, ctx)
        return new

    @staticmethod
    def _revoke(rotation: Any, old: Credential, ctx: StepContext) -> None:
        """Revoke as the engine does: again, while a busy server still lists an ended session."""
        ends = time.monotonic() + _LISTED_SECONDS
        while True:
            try:
                return rotation.revoke(old, ctx)
            except InUse:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def end(self) -> None:
        """Drop its accounts."""
        for target in self._targets:
            target.close()
        names = self.dialect.accounts(self.server, self.name)
        accounts = ", ".join(f"`{one}`@'%'" for one in names)
        marks = [row[0] for row in self.server.run(_MARKS)]
        self.server.run(
            "DO 1",
            *([f"DROP USER IF EXISTS {accounts}"] if names else []),
            *(f"DROP ROLE `{one}`" for one in marks),
        )


# -- drawn at random ---------------------------------------------------------------------------

# Every strategy, on one account after the other: a pair there and back, and two fresh logins.
_CHAIN: Final = (
    "single-user",
    "dual-password",
    "alternating-users",
    "alternating-users",
    "new-user",
    "new-user",
)
_GLOBAL: Final = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "RELOAD",
    "PROCESS",
    "FILE",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "SHOW DATABASES",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "REPLICATION SLAVE",
    "REPLICATION CLIENT",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "CREATE USER",
    "EVENT",
    "TRIGGER",
]
_DATABASE: Final = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
]
_TABLE: Final = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "TRIGGER",
]
_MARIADB: Final = ("BINLOG ADMIN", "SET USER", "FEDERATED ADMIN", "DELETE HISTORY", "SLAVE MONITOR")
_DYNAMIC: Final = (
    "BACKUP_ADMIN",
    "CONNECTION_ADMIN",
    "SYSTEM_VARIABLES_ADMIN",
    "ROLE_ADMIN",
    "SYSTEM_USER",
    "SHOW_ROUTINE",
    "XA_RECOVER_ADMIN",
    "SET_ANY_DEFINER",
)


@contextmanager
def servers() -> Generator[dict[str, MySqlLikeServer]]:
    """Start every server that is to be had here, with TLS, by its version."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_certificates(folder)
        found: dict[str, MySqlLikeServer] = {}
        for dialect in DIALECTS:
            if dialect.missing:
                continue
            server = stack.enter_context(
                dialect.server(
                    f"--ssl-ca={folder}/ca.crt",
                    f"--ssl-cert={folder}/server.crt",
                    f"--ssl-key={folder}/server.key",
                    "--skip-log-bin",
                    "--innodb-flush-log-at-trx-commit=0",
                )
            )
            _CERTIFICATES[server.port] = folder
            version = str(server.run("SELECT VERSION()")[0][0])
            found[f"{dialect.product} {version}"] = server
        yield found


_SELDOM: Final = 0.25
_CERTIFICATES: Final[dict[int, Path]] = {}


def try_one(server: MySqlLikeServer, seed: int, most: int = len(_CHAIN)) -> list[str]:
    """Rotate one account by every strategy, or some; return how it, or what it may do, has changed."""
    random, dialect = Random(seed), dialect_of(server)  # the same profile for the same seed
    certificates = _CERTIFICATES.get(server.port)
    fixture = LoginFixture(server=server, dialect=dialect, name=f"p{seed}")
    tls = random.choice(("", "", "SSL", "X509", "SUBJECT '/CN=localhost'")) if certificates else ""
    target: dict[str, Any] = {}
    if tls and certificates:
        pair = (certificates / "server.crt", certificates / "server.key")
        target = {"sslmode": "require", "sslcert": pair[0], "sslkey": pair[1]}
    current = fixture.current
    found: list[str] = []
    try:
        fixture.run("CREATE USER {0} IDENTIFIED BY '{first}'", *drawn(random, dialect))
        fixture.run(
            "CREATE USER {0} IDENTIFIED BY 'waiting'",
            *drawn(random, dialect),
            login=fixture.other,
        )
        fixture.run(f"ALTER USER {{0}} REQUIRE {tls or 'NONE'}")
        before = fixture.profile(fixture.name)
        deeds = {} if tls else oracle.deeds(server, fixture.name, FIRST)
        for strategy in _CHAIN if most == len(_CHAIN) else random.sample(_CHAIN, most):
            current = fixture.rotate(strategy, current, **target)
            differ = oracle.differences(fixture.profile(current.username), before)
            found += [f"{strategy}: {one}" for one in differ]
        # What is in memory, and what the next start reads.
        server.run("FLUSH PRIVILEGES")
        differ = oracle.differences(fixture.profile(current.username), before)
        found += [f"after FLUSH PRIVILEGES: {one}" for one in differ]
        if deeds:
            after = oracle.deeds(server, current.username, current.password.reveal())
            found += [
                f"{action}: error {after[action]}, not {number}"
                for action, number in deeds.items()
                if after[action] != number
            ]
    except (StepError, AssertionError) as error:
        found.append(f"{type(error).__name__}: {error}")
    finally:
        fixture.end()
    return found


def drawn(random: Random, dialect: Dialect) -> list[str]:
    """Return statements that give an account, as `{0}`, something of everything."""
    mysql = dialect.product == "MySQL"
    made = [*_granted(random, mysql=mysql), *_roles(random, mysql=mysql), *_limits(random)]
    if not mysql:
        return [*made, *_sometimes(random, 0.2, "ALTER USER {0} WITH MAX_STATEMENT_TIME 60.5")]
    made += _options(random)
    if any(" ON *.* TO " in one and "SELECT" in one for one in made):
        made.append("REVOKE SELECT ON mysql.* FROM {0}")
    return made


def _granted(random: Random, *, mysql: bool) -> list[str]:
    columns = [f"{one} ({random.choice(('id', 'secret', 'id, secret'))})" for one in _TABLE[:3]]
    routine = random.choice(("PROCEDURE store.proc", "FUNCTION store.func"))
    database = ("ALL",) if random.random() < _SELDOM else _DATABASE
    table = ("ALL",) if random.random() < _SELDOM else _TABLE
    on: list[tuple[str, Sequence[str]]] = [
        ("*.*", _GLOBAL if mysql else (*_GLOBAL, *_MARIADB)),
        *((one, database) for one in ("store.*", r"`sh\_p`.*", "`o%`.*", "other.*")),
        ("store.orders", table),
        ("store.orders", columns),
        (routine, ("EXECUTE", "ALTER ROUTINE")),
        *([("LIBRARY store.lib", ("EXECUTE",))] if mysql else []),
    ]
    made: list[str] = []
    for where, words in on:
        names = ", ".join(random.sample(words, random.randint(1, min(6, len(words)))))
        option = random.choice(("", "", " WITH GRANT OPTION"))
        made += _sometimes(random, 0.4, f"GRANT {names} ON {where} TO {{0}}{option}")
    gone = ("GRANT CREATE, SELECT ON store.gone TO {0}", "REVOKE CREATE ON store.gone FROM {0}")
    made += _sometimes(random, 0.2, *gone)
    for one in random.sample(_DYNAMIC, random.randint(0, 4)) if mysql else ():
        made.append(f"GRANT {one} ON *.* TO {{0}}{random.choice(('', ' WITH GRANT OPTION'))}")
    return made


def _roles(random: Random, *, mysql: bool) -> list[str]:
    option = random.choice(("", " WITH GRANT OPTION"))
    other = random.choice(("carol", "dave"))
    made = _sometimes(random, 0.2, f"GRANT PROXY ON {other}@'%' TO {{0}}{option}")
    roles = random.sample(("reader", "writer"), random.randint(0, 2))
    made += [f"GRANT {one} TO {{0}}{random.choice(('', ' WITH ADMIN OPTION'))}" for one in roles]
    if roles:
        default = ", ".join(roles) if mysql else roles[0]
        made += _sometimes(random, 0.4, f"SET DEFAULT ROLE {default} {{for}} {{0}}")
    return made


def _limits(random: Random) -> list[str]:
    limit = random.choice(("MAX_USER_CONNECTIONS", "MAX_QUERIES_PER_HOUR", "MAX_UPDATES_PER_HOUR"))
    expiry = random.choice(("NEVER", "INTERVAL 90 DAY", "DEFAULT"))
    return [
        *_sometimes(random, 0.4, f"ALTER USER {{0}} WITH {limit} {random.randint(10_000, 90_000)}"),
        *_sometimes(random, 0.4, f"ALTER USER {{0}} PASSWORD EXPIRE {expiry}"),
    ]


def _options(random: Random) -> list[str]:
    attributes = random.choice(('{"a": {"b": 1, "c": [2]}}', '{"a": {"c": "é"}, "d": true}'))
    days = random.choice(("1", "UNBOUNDED"))
    options = (
        f"PASSWORD HISTORY {random.choice(('DEFAULT', '0', '5'))}",
        f"PASSWORD REUSE INTERVAL {random.choice(('DEFAULT', '0 DAY', '365 DAY'))}",
        f"PASSWORD REQUIRE CURRENT{random.choice(('', ' DEFAULT', ' OPTIONAL'))}",
        f"FAILED_LOGIN_ATTEMPTS {random.randint(3, 9)} PASSWORD_LOCK_TIME {days}",
        f"COMMENT 'it\\'s of team {random.randint(1, 9)}, 100%'",
        f"ATTRIBUTE '{attributes}'",
    )
    return [f"ALTER USER {{0}} {one}" for one in options if random.random() < _SELDOM]


def _sometimes(random: Random, chance: float, *statements: str) -> list[str]:
    return list(statements) if random.random() < chance else []
