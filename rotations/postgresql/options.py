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

    host: str = field(
        default="127.0.0.1", metadata=_help("Host name or address, or the folder of a socket.")
    )
    port: int = field(default=5432, metadata=_help("TCP port."))
    dbname: str = field(default="postgres", metadata=_help("Database that the admin logs in to."))
    sslmode: SslMode | None = field(
        default=None,
        metadata=_help(
            "TLS mode, as in libpq. Default: verify-full, or prefer if the host is this machine."
        ),
    )
    sslrootcert: Literal["system"] | Path | None = field(
        default=None,
        metadata=_help("Certificate authority file, or `system`."),
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("Client certificate file, if the server requires one."),
    )
    sslkey: Path | None = field(
        default=None,
        metadata=_help("Its private key file, readable only by its owner."),
    )
    sslcrl: Path | None = field(
        default=None,
        metadata=_help("File with the revoked server certificates."),
    )
    readers: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Replicas that applications read from, each as host or host:port. rotator"
            " publishes a new login only once each replica accepts it."
        ),
    )
    addresses: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Further addresses through which applications log in, such as poolers, each as host"
            " or host:port. In an incident rotator checks that each one rejects the leaked password."
        ),
    )
    connect_timeout: int = field(default=5, metadata=_help("Connection timeout in seconds."))
    pool_size: int = field(default=8, metadata=_help("Maximum open admin connections."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 1 <= self.port <= 65_535:  # noqa: PLR2004 # what a TCP port is
            raise UsageError(f"{self.port} is not a valid TCP port.")
        if self.connect_timeout < 1:
            raise UsageError("connect_timeout must be 1 second or more.")
        require_pair_of_files(self.sslcert, self.sslkey)
        for address in (*self.readers, *self.addresses):
            _ = split_address(address, self.port)

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
            "new-user, alternating-users: role that owns the objects and holds the grants."
        ),
    )
    prefix: str | None = field(
        default=None, metadata=_help("new-user: prefix of the login names. Default: the group.")
    )
    users: tuple[str, ...] = field(
        default=(), metadata=_help("alternating-users: the two logins that alternate.")
    )
    username: str | None = field(
        default=None,
        metadata=_help("single-user: the login; required until the first credential is published."),
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("Client certificate file of the login. Default: the target's."),
    )
    sslkey: Path | None = field(
        default=None,
        metadata=_help("Private key file of that certificate, readable only by its owner."),
    )
    login_dbname: str | None = field(
        default=None,
        metadata=_help("Database to verify the login in. Default: the target's dbname."),
    )
    valid_days: int | None = field(
        default=None,
        metadata=_help(
            "Days until each new password expires (VALID UNTIL). Default: the old login's date."
        ),
    )
    password_encryption: Literal["keep", "scram-sha-256", "md5"] = field(
        default="keep",
        metadata=_help(
            "Hash format of each new password. Default: the format of the old password."
        ),
    )
    privileges: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Privileges that a new login must have, such as `table public.orders: SELECT`."
        ),
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Queries that a new login must be able to run; they run read-only and are rolled back."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse names that PostgreSQL would cut or keep for itself."""
        for name in (self.group, self.prefix, self.username, *self.users):
            if name is not None:
                check_name(name)
        if self.valid_days is not None and self.valid_days < 1:
            raise UsageError("valid_days must be 1 or more.")
        require_pair_of_files(self.sslcert, self.sslkey)


def require_pair_of_files(certificate: Path | None, key: Path | None) -> None:
    """Raise `UsageError` unless both are given, or none."""
    if (certificate is None) != (key is None):
        raise UsageError("set both `sslcert` and `sslkey`, or neither.")


def check_name(name: str) -> None:
    """Raise `UsageError` for a role name that PostgreSQL would not take as it stands."""
    if not name or "\0" in name:
        raise UsageError("a role name must not be empty or contain NUL.")
    if len(name.encode()) > POSTGRESQL_NAME_BYTES:
        raise UsageError(
            f"role name {name!r} has {len(name.encode())} bytes; PostgreSQL allows at most"
            f" {POSTGRESQL_NAME_BYTES}."
        )
    if name.startswith("pg_"):
        raise UsageError(f"role name {name!r}: PostgreSQL reserves names that start with pg_.")


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
                f"{text!r} is not a valid privilege.",
                hint=f"Example: `table public.orders: SELECT, INSERT`. Kinds: {', '.join(KINDS)}.",
            )
        found += [
            Privilege(kind=kind, name=name.strip(), right=right.strip().upper())
            for right in rights.split(",")
        ]
    return found
