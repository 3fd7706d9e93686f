"""What a configuration contains about a database that SQLAlchemy knows, and about one login."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from rotations.sql.statements import LOGIN, MARK, PASSWORD, Statement, parse
from rotator.api import LoginOptions, UsageError

# Statements that set a password know it; nobody else does.
_SETS: Final = frozenset({"create", "update"})
# What a driver's error contains when the server rejects a login, by the dialect.
REJECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "clickhouse": ("Authentication failed",),
    "cockroachdb": ("password authentication failed",),
    "firebird": ("Your user name and password are not defined",),
    "mariadb": ("(1045,", "(1698,", "(4151,"),
    "mssql": ("(18456)", "Login failed for user"),
    "mysql": ("(1045,", "(1698,", "(3118,", "(4151,"),
    "oracle": ("ORA-01017", "ORA-28000"),
    "postgresql": ("password authentication failed", "is not permitted to log in"),
    "redshift": ("password authentication failed",),
    "snowflake": ("Incorrect username or password",),
}


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The database, and the statements by which its logins are created and revoked."""

    url: str = field(
        metadata=_help(
            "SQLAlchemy URL without a login, such as `mssql+pyodbc://db.example.org/master`. Install"
            " the dialect and its driver yourself."
        )
    )
    login_url: str | None = field(
        default=None,
        metadata=_help("URL that rotated logins are tried at, without a login. Default: `url`."),
    )
    connect_args: dict[str, str | int | bool] = field(
        default_factory=dict[str, str | int | bool],
        metadata=_help("Arguments of the driver's connect(), such as those for TLS. No secrets."),
    )
    owner: str = field(
        metadata=_help(
            "Query that returns one row, the mark, for a login that exists, and none otherwise."
        )
    )
    create: tuple[str, ...] = field(
        default=(),
        metadata=_help("Statements that create a login that does not exist, and mark it."),
    )
    update: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "alternating-users, single-user: statements that set the password of a login that"
            " exists, enable it, and repeat what `create` grants."
        ),
    )
    revoke: tuple[str, ...] = field(
        default=(),
        metadata=_help("Statements after which a login is rejected: they drop or disable it."),
    )
    withdraw: tuple[str, ...] = field(
        default=(), metadata=_help("Statements that undo `create`. Default: `revoke`.")
    )
    sessions: str | None = field(
        default=None,
        metadata=_help(
            "Query that returns the client, and optionally the application, of each open session."
        ),
    )
    end_sessions: tuple[str, ...] = field(
        default=(), metadata=_help("Statements that end the open sessions of a login.")
    )
    rejections: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Texts in the driver's error when the server rejects a login. Known for some dialects."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        dialect = self.parsed(self.url).get_backend_name()
        if self.login_url is not None:
            _ = self.parsed(self.login_url)
        if not self.rejections and dialect not in REJECTIONS:
            raise UsageError(
                f"for dialect {dialect!r} rotator does not know how a driver reports a rejected"
                " login.",
                hint="Set `rejections` to texts of that error, such as its code.",
            )
        known = {"create", "update", "revoke", "withdraw", "end_sessions"}
        for statement in (*(one for key in sorted(known) for one in self.statements(key)),):
            key = statement.where.partition("[")[0]
            if PASSWORD in statement.names and key not in _SETS:
                raise UsageError(
                    f"`{statement.where}` contains {{password}}.",
                    hint="Only `create` and `update` know the password.",
                )
        for one in (self.query("owner"), self.query("sessions")):
            if one is not None and LOGIN not in one.names:
                raise UsageError(f"`{one.where}` must contain {{login}} or {{login:text}}.")
        for key in ("create", "update"):
            found = self.statements(key)
            if found and not any(PASSWORD in one.names for one in found):
                raise UsageError(f"no statement of `{key}` contains {{password}}.")

    @staticmethod
    def parsed(url: str) -> URL:
        """Return a URL in its parts. Raises `UsageError`, which repeats nothing of it."""
        made: URL | None = None
        with suppress(ArgumentError, ValueError):
            made = make_url(url)
        if made is None:
            raise UsageError(
                "this is not an SQLAlchemy URL.", hint="Write DIALECT+DRIVER://HOST/DB."
            )
        if made.username is not None or made.password is not None:
            raise UsageError(
                "the URL contains a login (redacted).",
                hint="Remove it: the login of the admin is the target's `admin`.",
            )
        return made

    def statements(self, key: str) -> tuple[Statement, ...]:
        """Return the statements of an option, parsed."""
        given: tuple[str, ...] = getattr(self, key)
        return tuple(parse(one, f"{key}[{number}]") for number, one in enumerate(given))

    def query(self, key: str) -> Statement | None:
        """Return the query of an option, parsed."""
        given: str | None = getattr(self, key)
        return None if given is None else parse(given, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions(LoginOptions):
    """One login that is rotated. Which options matter depends on the strategy."""

    identifiers: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help("Further placeholders of the statements, such as `group: shop_owner`."),
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Queries that a new login must be able to run, such as SELECT 1 FROM orders."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        LoginOptions.__post_init__(self)
        if taken := {LOGIN, PASSWORD, MARK} & set(self.identifiers):
            raise UsageError(f"`identifiers` must not contain `{min(taken)}`.")
