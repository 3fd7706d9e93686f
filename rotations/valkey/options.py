"""What a configuration says about a Valkey or Redis target and the users on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from rotator.api import UsageError, is_local

SslMode = Literal["disable", "require", "verify-ca", "verify-full"]
Persist = Literal["auto", "rewrite", "none"]
# Before the digest in the name of a user that says whose another one is.
MARK: Final = "rotator:"
DEFAULT: Final = "default"
# What C's isspace() takes for blanks, and NUL: the servers refuse them in names (acl.c, ACLStringHasSpaces).
_BLANKS: Final = frozenset(" \t\n\v\f\r\0")
_LAST_PORT: Final = 65_535


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """Where one node listens. `port` says nothing where `host` is a socket's path."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if host.startswith("/") else f"{host}:{self.port}"

    @staticmethod
    def parse(text: str, port: int) -> Endpoint:
        """Read `host`, `host:port` or `[address]:port`. Raises `UsageError`."""
        host, given = text, str(port)
        if text.startswith("["):
            host, _, behind = text[1:].partition("]")
            given = behind.removeprefix(":") or given
        elif text.count(":") == 1:
            host, _, given = text.partition(":")
        if not host or not (given.isdecimal() and 1 <= int(given) <= _LAST_PORT):
            raise UsageError(
                f"{text!r} is not a host and port.", hint="Example: valkey-1.example.org:6379."
            )
        return Endpoint(host=host, port=int(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How the nodes are found and reached."""

    host: str = field(
        default="127.0.0.1", metadata=_help("Host name or address, or the path of a socket.")
    )
    port: int = field(default=6379, metadata=_help("TCP port."))
    nodes: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Further nodes, as host:port; rotator changes every one of them. List replicas"
            " that no Sentinel or cluster knows."
        ),
    )
    discover: bool = field(
        default=True,
        metadata=_help("Discover replicas and cluster nodes, and change those too."),
    )
    addresses: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Further addresses through which applications log in, such as proxies, each as host"
            " or host:port. In an incident rotator checks that each one rejects the leaked password."
        ),
    )
    sentinels: tuple[str, ...] = field(
        default=(),
        metadata=_help("Sentinels, as host:port, which locate the nodes; `host` is then ignored."),
    )
    service: str | None = field(
        default=None, metadata=_help("Name of the primary in the Sentinels' configuration.")
    )
    persist: Persist = field(
        default="auto",
        metadata=_help(
            "How changes survive a restart. auto: ACL SAVE, if there is an ACL file; rewrite:"
            " CONFIG REWRITE if there is none; none: another tool saves users."
        ),
    )
    sslmode: SslMode | None = field(
        default=None,
        metadata=_help("TLS mode. Default: verify-full, or disable for nodes on this machine."),
    )
    sslrootcert: Path | None = field(
        default=None,
        metadata=_help(
            "Certificate authority file, relative to the configuration. Default: the system's."
        ),
    )
    sslcert: Path | None = field(
        default=None,
        metadata=_help("Client certificate file, if nodes require one."),
    )
    sslkey: Path | None = field(default=None, metadata=_help("Private key file of `sslcert`."))
    connect_timeout: int = field(default=5, metadata=_help("Connection timeout in seconds."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 1 <= self.port <= _LAST_PORT:
            raise UsageError(f"{self.port} is not a valid TCP port.")
        if self.connect_timeout < 1:
            raise UsageError("connect_timeout must be 1 second or more.")
        if bool(self.sentinels) != (self.service is not None):
            raise UsageError(
                "set both `sentinels` and `service`, or neither.",
                hint="`service` is the name in `sentinel monitor NAME ...`.",
            )
        if (self.sslcert is None) != (self.sslkey is None):
            raise UsageError("set both `sslcert` and `sslkey`, or neither.")
        _ = self.named(), self.sentinel_places(), self.further_places()

    def named(self) -> list[Endpoint]:
        """Return the nodes that the options name, each once."""
        places = [Endpoint.parse(one, self.port) for one in self.nodes]
        first = [] if self.sentinels else [Endpoint(host=self.host, port=self.port)]
        return list(dict.fromkeys([*first, *places]))

    def further_places(self) -> list[Endpoint]:
        """Return the addresses through which applications log in, beside those of the nodes."""
        return [Endpoint.parse(address, self.port) for address in self.addresses]

    def sentinel_places(self) -> list[Endpoint]:
        """Return where the Sentinels listen."""
        return [Endpoint.parse(one, 26379) for one in self.sentinels]

    def tls(self, host: str) -> SslMode:
        """Return the mode in force for one node."""
        return self.sslmode or ("disable" if is_local(host) else "verify-full")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One login that is rotated. Which options matter depends on the strategy."""

    username: str | None = field(
        default=None,
        metadata=_help(
            "dual-password, single-user: the user; required until the first credential is"
            " published."
        ),
    )
    users: tuple[str, ...] = field(
        default=(), metadata=_help("alternating-users: the two users that alternate.")
    )
    prefix: str | None = field(default=None, metadata=_help("new-user: prefix of the user names."))
    like: str | None = field(
        default=None,
        metadata=_help("User whose rules a new user receives if there is no current one."),
    )
    database: int | None = field(
        default=None, metadata=_help("Number of the database that a login must be able to use.")
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_help(
            "Read-only commands that a new login must be able to run, such as GET health."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse names that the servers would not take."""
        for name in (self.username, self.prefix, self.like, *self.users):
            if name is not None:
                check_name(name)
        if self.database is not None and self.database < 0:
            raise UsageError("a database number must be 0 or more.")


def check_name(name: str) -> None:
    """Raise `UsageError` for the name of a user that the servers would not take as it stands."""
    if not name:
        raise UsageError(
            "a user name must not be empty: the server cannot read back an ACL file with an"
            " empty name."
        )
    if found := sorted(_BLANKS & set(name)):
        raise UsageError(f"user name {name!r}: the server accepts no {found[0]!r} in a name.")
    if any("\ud800" <= one <= "\udfff" for one in name):
        raise UsageError(f"user name {name!r} contains an invalid character.")
    if name.startswith(MARK):
        raise UsageError(
            f"user name {name!r}: rotator reserves names that start with {MARK!r} for its marks."
        )
