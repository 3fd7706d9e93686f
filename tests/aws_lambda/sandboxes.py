"""A rotation function's sandbox: Secrets Manager's rules, a real PostgreSQL, and the function itself."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pymysql

from rotator.core.secret import Secret
from rotator.faces.aws_lambda.function import Function
from rotator.faces.aws_lambda.settings import settings
from rotator.journal import chain
from rotator.journal.checkpoints import introduce
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ListLog, ManualClock
from tests.mysql.dialects import REFUSALS, dialect_of
from tests.servers.secrets_manager import CURRENT, FUNCTION, PENDING, STEPS, SecretsManager

if TYPE_CHECKING:
    from rotator.testing.postgres import ScratchPostgres
    from tests.servers.mysql_like import MySqlLikeServer

APP_PASSWORD = "first-password-of-the-app"
ADMIN_PASSWORD = "password-of-the-master"
ACCESS = {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
ROLES = f"""
    CREATE ROLE master LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}';
    GRANT pg_signal_backend, pg_read_all_stats TO master;
    CREATE ROLE app LOGIN PASSWORD '{APP_PASSWORD}';
    CREATE ROLE app_owner NOLOGIN;
    GRANT app, app_owner TO master WITH ADMIN OPTION;
    GRANT app_owner TO app;
    CREATE TABLE orders (id int);
    ALTER TABLE orders OWNER TO app;
    GRANT CREATE ON SCHEMA public TO app, app_owner;
"""


class Context:
    """What Lambda gives beside the event."""

    function_name = "rotator"
    invoked_function_arn = FUNCTION

    def __init__(self, seconds: float = 60.0, request: str = "request-1") -> None:
        self.aws_request_id = request
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """One database and one secret in it."""

    server: ScratchPostgres
    aws: SecretsManager
    dbname: str
    environ: dict[str, str] = field(default_factory=dict[str, str])
    lines: list[str] = field(default_factory=list[str])
    log: ListLog = field(default_factory=ListLog)
    name: str = "prod/db/app"
    seconds: float = 60.0
    requests: int = 0
    # A function that is not replaced stays warm.
    warm: Function | None = None

    def secret(self, **more: object) -> str:
        """Put the secret as AWS's console writes it; return its ARN."""
        value = {
            "engine": "postgres",
            "host": self.server.host,
            "port": self.server.port,
            "dbname": self.dbname,
            "username": "app",
            "password": APP_PASSWORD,
            "note": "mine: keep it",
            **more,
        }
        self.aws.by_hand(self.name, json.dumps({k: v for k, v in value.items() if v is not None}))
        kept = self.aws.secret(self.name)
        kept.rotation_enabled, kept.function = True, self.call
        return kept.arn

    def master(self, **more: object) -> str:
        """Put the admin's secret; return its ARN."""
        value = {
            "engine": "postgres",
            "host": self.server.host,
            "username": "master",
            "password": ADMIN_PASSWORD,
            **more,
        }
        self.aws.by_hand("prod/db/master", json.dumps({k: v for k, v in value.items() if v}))
        return self.aws.secret("prod/db/master").arn

    def tag(self, **options: str) -> None:
        """Have an operator tag the secret with options."""
        kept = self.aws.secret(self.name)
        kept.tags |= {
            f"rotator-option-{name.replace('_', '-')}": text for name, text in options.items()
        }

    def function(self) -> Function:
        """Return one as a cold start makes it."""
        environ = {
            "AWS_REGION": "eu-central-1",
            "SECRETS_MANAGER_ENDPOINT": self.aws.endpoint,
            "AWS_LAMBDA_FUNCTION_NAME": "rotator",
            "ROTATOR_GRACE": "0s",
            **self.environ,
        }
        # The access key comes from the fixtures: to change the environment here, while other threads
        # connect, would be to pull it from under the C library.
        return Function(settings(environ), environ=environ, line=self.lines.append, log=self.log)

    def keep_journal_in(self, server: ScratchPostgres) -> str:
        """Have the function keep its journal in a database there; return its URL."""
        with server.connect() as admin:
            admin.execute(b"CREATE DATABASE journal")
        url = f"postgresql://postgres@{server.host}:{server.port}/journal"
        password = server.superuser_password
        journal = SqlJournal(
            url, clock=ManualClock(), actor="test", password=Secret(password), upgrade=True
        )
        key = chain.new_signing_key()
        introduce(journal, key, ManualClock().now())
        journal.close()
        self.environ |= {
            "ROTATOR_JOURNAL": url,
            "ROTATOR_JOURNAL_PASSWORD": "env:JOURNAL_PASSWORD",
            "JOURNAL_PASSWORD": password,
            "ROTATOR_JOURNAL_SIGNING_KEY": "env:SIGNING_KEY",
            "SIGNING_KEY": key.reveal(),
        }
        return url

    def context(self) -> Context:
        self.requests += 1
        return Context(self.seconds, f"request-{self.requests}")

    def call(self, event: dict[str, Any]) -> None:
        """Do a step, in a process that has done none before, unless there is a warm one."""
        if self.warm is not None:
            self.warm.handle(event, self.context())
            return
        with closing(self.function()) as function:
            function.handle(event, self.context())

    def rotate(self, **more: object) -> list[BaseException]:
        """Have AWS rotate; return what the function raised meanwhile."""
        before = len(self.aws.failures)
        status, answer = self.aws.answer("RotateSecret", {"SecretId": self.name, **more})
        assert status == 200, answer
        self.aws.wait()
        return self.aws.failures[before:]

    def again(self) -> None:
        """Have AWS try the rotation that it is at once more, from its first step."""
        token = next(one for one, labels in self.stages().items() if PENDING in labels)
        arn = self.aws.secret(self.name).arn
        for step in STEPS:
            self.call({"Step": step, "SecretId": arn, "ClientRequestToken": token})

    def sweep(self, **event: object) -> dict[str, Any]:
        if self.warm is not None:
            return self.warm.sweep(event, self.context())
        with closing(self.function()) as function:
            return function.sweep(event, self.context())

    def served(self) -> dict[str, Any]:
        """Return what a consumer reads."""
        status, answer = self.aws.answer("GetSecretValue", {"SecretId": self.name})
        assert status == 200, answer
        return json.loads(answer["SecretString"])

    def stages(self) -> dict[str, list[str]]:
        return self.aws.answer("DescribeSecret", {"SecretId": self.name})[1]["VersionIdsToStages"]

    def current_id(self) -> str:
        return next(one for one, labels in self.stages().items() if CURRENT in labels)

    @property
    def used(self) -> ScratchPostgres:
        """Where the application works."""
        return self.server

    def accepts(self, login: dict[str, Any]) -> bool:
        """Return whether it logs in; its session has then ended."""
        try:
            link = self.used.connect(
                user=login["username"], password=login["password"], dbname=self.dbname
            )
        except psycopg.OperationalError as error:
            said = str(error)
            assert "authentication failed" in said or "not permitted" in said or "exist" in said
            return False
        session = [link.info.backend_pid]
        link.close()
        # A server ends a session a moment after its client has.
        with self.used.connect() as admin:
            while admin.execute(b"SELECT 1 FROM pg_stat_activity WHERE pid = %s", session).rowcount:
                time.sleep(0.005)
        return True

    def logins(self) -> set[str]:
        """Return who can log in with a password, the superuser excepted."""
        with self.server.connect() as admin:
            found = admin.execute(
                "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL"
            ).fetchall()
        return {row[0] for row in found} - {"postgres", "master"}

    def said(self) -> str:
        """Return everything that goes where others read it."""
        errors = [str(one) for one in self.aws.failures]
        return "\n".join([*self.lines, *map(str, self.log.lines), *errors])


class MariaWorld(Sandbox):
    """As `Sandbox`, over a MariaDB or a MySQL."""

    KINDS: ClassVar[dict[str, dict[str, Any]]] = {
        "single-user": {},
        "dual-password": {"rotator": {"strategy": "dual-password"}},
        "alternating-users": {},
        "new-user": {"rotator": {"strategy": "new-user", "options": {"prefix": "app"}}},
    }

    @classmethod
    def on(cls, server: MySqlLikeServer, aws: SecretsManager) -> MariaWorld:
        """Return one whose accounts are as before the first rotation."""
        left = server.run("SELECT User, Host FROM mysql.user WHERE User LIKE 'app%'")
        server.run(
            *(f"DROP USER `{user}`@`{host}`" for user, host in left),
            "CREATE DATABASE IF NOT EXISTS shop",
            "CREATE TABLE IF NOT EXISTS shop.orders (id int)",
            "DROP USER IF EXISTS master@'%'",
            f"CREATE USER master@'%' IDENTIFIED BY '{ADMIN_PASSWORD}'",
            "GRANT ALL ON *.* TO master@'%' WITH GRANT OPTION",
            f"CREATE USER app@'%' IDENTIFIED BY '{APP_PASSWORD}'",
            "GRANT ALL ON shop.* TO app@'%' WITH GRANT OPTION",
        )
        return cls(server=server, aws=aws, dbname="shop")  # type: ignore[arg-type] # another server

    def put(self, strategy: str, engine: str = "mariadb") -> None:
        """Put the secret as a strategy needs it."""
        more = dict(self.KINDS[strategy])
        if strategy != "single-user":
            more["masterarn"] = self.master(engine=engine)
        self.secret(engine=engine, dbname="shop", **more)

    def accepts(self, login: dict[str, Any]) -> bool:
        try:
            link = self.server.connect(login["username"], login["password"], "shop")
        except pymysql.OperationalError as error:
            if error.args[0] not in REFUSALS:
                raise
            return False
        session = link.thread_id()
        link.close()
        while self.server.run(f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"):
            time.sleep(0.005)
        return True

    def logins(self) -> set[str]:
        accounts = dialect_of(self.server).accounts(self.server, "app")
        return {name for name, locked in accounts.items() if not locked}


class Client(threading.Thread):
    """An application: reads the secret and logs in, again and again."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self._sandbox, self._stop_it = sandbox, threading.Event()
        self.logins, self.refused = 0, 0

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_it.set()
        self.join()

    def run(self) -> None:
        while not self._stop_it.is_set():
            # What was read a moment ago may just have been revoked: then it reads again, once.
            ok = self._sandbox.accepts(self._sandbox.served()) or self._sandbox.accepts(
                self._sandbox.served()
            )
            self.logins += 1
            self.refused += not ok
