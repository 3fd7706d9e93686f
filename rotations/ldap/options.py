"""What a configuration contains about a directory and the entries that log in to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from rotations.ldap.driver import LDAPException, escape_rdn, parse_dn
from rotator.api import LoginNames, UsageError, is_local

Hash = Literal["SSHA", "SSHA256", "SSHA384", "SSHA512"]
LOGIN: Final = "{login}"


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How a directory is reached, and which entry belongs to a login."""

    url: str = field(
        metadata=_help(
            "`ldaps://HOST[:PORT]`, or `ldap://HOST[:PORT]` with `starttls`. Without TLS only on"
            " this machine."
        )
    )
    starttls: bool = field(
        default=False, metadata=_help("Start TLS on a connection to `ldap://` before the login.")
    )
    sslrootcert: Path | None = field(
        default=None,
        metadata=_help(
            "Certificate authority file, relative to the configuration. Default: the system's."
        ),
    )
    sslcert: Path | None = field(
        default=None, metadata=_help("Client certificate file, if the server requires one.")
    )
    sslkey: Path | None = field(default=None, metadata=_help("Private key file of `sslcert`."))
    dn: str = field(
        default=LOGIN,
        metadata=_help(
            "DN of a login, such as `uid={login},ou=services,dc=example,dc=org`. Default: the login"
            " is a DN."
        ),
    )
    mark: str = field(
        default="description",
        metadata=_help("Attribute in which an entry has the value `rotator:SECRET`."),
    )
    groups: str | None = field(
        default=None,
        metadata=_help(
            "alternating-users: DN below which both logins must be members of the same groups."
        ),
    )
    hash: Hash = field(
        default="SSHA",
        metadata=_help(
            "dual-password: how the second password is hashed. OpenLDAP needs its module pw-sha2 for"
            " all but SSHA."
        ),
    )
    connect_timeout: int = field(default=5, metadata=_help("Connection timeout in seconds."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or parts.path.strip("/"):
            raise UsageError("`url` must be ldaps://HOST[:PORT] or ldap://HOST[:PORT].")
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                "`url` contains a login (redacted).", hint="Set it as `admin` of the target."
            )
        if self.starttls and parts.scheme == "ldaps":
            raise UsageError("`starttls` is for ldap://: with ldaps:// TLS starts at once.")
        if parts.scheme == "ldap" and not self.starttls and not is_local(parts.hostname):
            raise UsageError(
                "without TLS passwords would be sent in plain text.",
                hint="Write ldaps://, or set `starttls: true`.",
            )
        if (self.sslcert is None) != (self.sslkey is None):
            raise UsageError("set both `sslcert` and `sslkey`, or neither.")
        if LOGIN not in self.dn:
            raise UsageError("`dn` must contain {login}.")
        if self.connect_timeout < 1:
            raise UsageError("connect_timeout must be 1 second or more.")
        if self.dn != LOGIN:
            _ = self.dn_of("login")

    def dn_of(self, login: str) -> str:
        """Return the DN of a login, in which its name adds no part. Raises `UsageError`."""
        dn = login if self.dn == LOGIN else self.dn.replace(LOGIN, escape_rdn(login))
        _ = entry_key(dn)
        return dn


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions(LoginNames):
    """One login that is rotated. Which options matter depends on the strategy."""

    username: str | None = field(
        default=None,
        metadata=_help(
            "dual-password, single-user: the login; required until the first credential is"
            " published."
        ),
    )
    probes: tuple[str, ...] = field(
        default=(), metadata=_help("DNs of entries that a new login must be able to read.")
    )


def entry_key(dn: str) -> tuple[tuple[str, str, str], ...]:
    """Return what is the same for two spellings of a DN. Raises `UsageError` where it is none."""
    try:
        parts = parse_dn(dn, strip=True)
    except LDAPException as error:
        raise UsageError(f"{dn!r} is not a valid DN.") from error
    return tuple((name.lower(), value.lower(), also) for name, value, also in parts)
