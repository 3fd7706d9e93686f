"""What a configuration says about a MariaDB or MySQL target and the logins on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from rotator.api import UsageError, is_local, split_address

SslMode = Literal["disable", "require", "verify-ca", "verify-full"]
# MariaDB's limit for the name of an account (Knowledge Base, "Identifier Names"), in characters.
NAME_CHARACTERS: Final = 80


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How a server is reached."""

    host: str = field(
        default="127.0.0.1", metadata=_help("Host name or address, or the path of a socket.")
    )
    port: int = field(default=3306, metadata=_help("TCP port."))
    sslmode: SslMode | None = field(
        default=None,
        metadata=_help("TLS mode. Default: verify-full, or disable if the host is this machine."),
    )
    sslrootcert: Path | None = field(
        default=None,
        metadata=_help(
            "Certificate authority file, relative to the configuration. Default: the system's."
        ),
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("Client certificate file, for the admin and for logins that require one."),
    )
    sslkey: Path | None = field(
        default=None,
        metadata=_help("Private key file of `sslcert`, readable only by its owner."),
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
            "Further addresses through which applications log in, such as proxies, each as host"
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
        for address in (*self.readers, *self.addresses):
            _ = split_address(address, self.port)
        if (self.sslcert is None) != (self.sslkey is None):
            raise UsageError("set both `sslcert` and `sslkey`, or neither.")
        if self.sslcert is not None and self.sslmode == "disable":
            raise UsageError(
                "`sslcert` requires TLS: set sslmode to require, verify-ca or verify-full."
            )

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, so that nothing crosses a network."""
        return is_local(self.host)

    @property
    def tls(self) -> SslMode:
        """The mode in force."""
        needless = self.is_local and self.sslcert is None
        return self.sslmode or ("disable" if needless else "verify-full")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One login that is rotated. Which options matter depends on the strategy."""

    username: str | None = field(
        default=None,
        metadata=_help(
            "dual-password, single-user: the login; required until the first credential is"
            " published."
        ),
    )
    users: tuple[str, ...] = field(
        default=(), metadata=_help("alternating-users: the two logins that alternate.")
    )
    prefix: str | None = field(default=None, metadata=_help("new-user: prefix of the login names."))
    like: str | None = field(
        default=None,
        metadata=_help(
            "Account whose grants, roles and limits a new login receives if there is no current one."
        ),
    )
    login_dbname: str | None = field(
        default=None, metadata=_help("Database that a new login must be able to use.")
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Queries that a new login must be able to run; they run read-only and are rolled back."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse names that the server would cut."""
        for name in (self.username, self.prefix, self.like, *self.users):
            if name is not None:
                check_name(name)


def check_name(name: str) -> None:
    """Raise `UsageError` for the name of a login that the server would not take as it stands."""
    if not name or "\0" in name:
        raise UsageError("a login name must not be empty or contain NUL.")
    if len(name) > NAME_CHARACTERS:
        raise UsageError(
            f"login name {name!r} has {len(name)} characters; MariaDB allows at most"
            f" {NAME_CHARACTERS}."
        )
    if any(ord(one) > 0xFFFF for one in name):  # noqa: PLR2004 # the last of Unicode's first plane
        raise UsageError(
            f"login name {name!r}: the server accepts no characters beyond U+FFFF in a name."
        )
    if name != name.rstrip():
        raise UsageError(f"login name {name!r}: the server truncates trailing blanks.")
