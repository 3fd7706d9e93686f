"""What a configuration says about a PostgreSQL target and the logins on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from rotator.api import POSTGRESQL_NAME_BYTES, UsageError, is_local, split_address

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How a cluster is reached."""

    host: str = field(default="127.0.0.1", metadata=_help("Name or address, or a socket's folder."))
    port: int = field(default=5432, metadata=_help("TCP port."))
    dbname: str = field(default="postgres", metadata=_help("The database the admin logs in to."))
    sslmode: SslMode | None = field(
        default=None,
        metadata=_help(
            "TLS, in libpq's words. Default: verify-full, or prefer where the host is this machine."
        ),
    )
    sslrootcert: Literal["system"] | Path | None = field(
        default=None,
        metadata=_help(
            "File with the certificate authority, relative to the configuration, or `system`."
        ),
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("File with the client certificate, where the server requires one."),
    )
    sslkey: Path | None = field(
        default=None,
        metadata=_help("File with that certificate's private key, readable by its owner only."),
    )
    sslcrl: Path | None = field(
        default=None,
        metadata=_help("File with the server certificates that were revoked."),
    )
    readers: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Replicas that applications read from, each as host or host:port: a new login is"
            " published only once each of them accepts it."
        ),
    )
    connect_timeout: int = field(default=5, metadata=_help("Seconds to wait for a connection."))
    pool_size: int = field(default=8, metadata=_help("Admin connections that are kept open."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 1 <= self.port <= 65_535:  # noqa: PLR2004 # what a TCP port is
            raise UsageError(f"{self.port} is not a TCP port.")
        if self.connect_timeout < 1:
            raise UsageError("connect_timeout is 1 second or more.")
        require_pair_of_files(self.sslcert, self.sslkey)
        for reader in self.readers:
            _ = split_address(reader, self.port)

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, so that nothing crosses a network."""
        return is_local(self.host)

    def tls(self) -> tuple[SslMode, str | None]:
        """Return libpq's `sslmode` and `sslrootcert`."""
        mode = self.sslmode or ("prefer" if self.is_local else "verify-full")
        # libpq's own default is a file in the home directory that hardly anybody has.
        if self.sslrootcert is not None:
            return mode, str(self.sslrootcert)
        return mode, "system" if mode == "verify-full" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One login that is rotated. Which options matter depends on the strategy."""

    group: str | None = field(
        default=None,
        metadata=_help(
            "new-user, alternating-users: the role that owns the objects and holds the grants."
        ),
    )
    prefix: str | None = field(
        default=None, metadata=_help("new-user: what login names start with. Default: the group.")
    )
    users: tuple[str, ...] = field(
        default=(), metadata=_help("alternating-users: the two logins that take turns.")
    )
    username: str | None = field(
        default=None, metadata=_help("single-user: the login, needed while nothing is published.")
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("File with the login's own client certificate. Default: the target's."),
    )
    sslkey: Path | None = field(
        default=None,
        metadata=_help("File with that certificate's private key, readable by its owner only."),
    )
    login_dbname: str | None = field(
        default=None,
        metadata=_help("The database the login is tried in. Default: the target's dbname."),
    )
    valid_days: int | None = field(
        default=None,
        metadata=_help(
            "Days after which each new password expires (VALID UNTIL). Default: the old login's date."
        ),
    )
    password_encryption: Literal["keep", "scram-sha-256", "md5"] = field(
        default="keep",
        metadata=_help("How the server keeps each new password. Default: as it keeps the old one."),
    )
    privileges: tuple[str, ...] = field(
        default=(),
        metadata=_help("What a new login must be allowed, such as `table public.orders: SELECT`."),
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_help("Queries that a new login must be able to run, read-only and rolled back."),
    )

    def __post_init__(self) -> None:
        """Refuse names that PostgreSQL would cut or keep for itself."""
        for name in (self.group, self.prefix, self.username, *self.users):
            if name is not None:
                check_name(name)
        if self.valid_days is not None and self.valid_days < 1:
            raise UsageError("valid_days is 1 or more.")
        require_pair_of_files(self.sslcert, self.sslkey)


def require_pair_of_files(certificate: Path | None, key: Path | None) -> None:
    """Raise `UsageError` unless both are given, or none."""
    if (certificate is None) != (key is None):
        raise UsageError("`sslcert` and `sslkey` belong together: name both files, or none.")


def check_name(name: str) -> None:
    """Raise `UsageError` for a role name that PostgreSQL would not take as it stands."""
    if not name or "\0" in name:
        raise UsageError("a role's name is not empty and holds no NUL.")
    if len(name.encode()) > POSTGRESQL_NAME_BYTES:
        raise UsageError(
            f"role name {name!r} has {len(name.encode())} bytes; PostgreSQL keeps {POSTGRESQL_NAME_BYTES}."
        )
    if name.startswith("pg_"):
        raise UsageError(
            f"role name {name!r}: PostgreSQL keeps names that start with pg_ for itself."
        )


KINDS: Final = {
    "table": "has_table_privilege",
    "sequence": "has_sequence_privilege",
    "schema": "has_schema_privilege",
    "database": "has_database_privilege",
    "function": "has_function_privilege",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Privilege:
    """One right that a login must have: `kind object: RIGHT`."""

    kind: str
    name: str
    right: str

    def __str__(self) -> str:
        return f"{self.right} on {self.kind} {self.name}"


def parse_privileges(texts: tuple[str, ...]) -> list[Privilege]:
    """Read `table public.orders: SELECT, INSERT` and its like."""
    found: list[Privilege] = []
    for text in texts:
        # From the right, as a function's or a quoted name may hold a colon itself.
        subject, colon, rights = text.rpartition(":")
        kind, _, name = subject.strip().partition(" ")
        if not colon or kind not in KINDS or not name.strip() or not rights.strip():
            raise UsageError(
                f"{text!r} does not name a privilege.",
                hint=f"Such as `table public.orders: SELECT, INSERT`; kinds: {', '.join(KINDS)}.",
            )
        found += [
            Privilege(kind=kind, name=name.strip(), right=right.strip().upper())
            for right in rights.split(",")
        ]
    return found
