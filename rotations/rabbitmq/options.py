"""What a configuration contains about a RabbitMQ cluster and the users on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rotator.api import LoginOptions, UsageError, is_local, require_http_url


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """How a cluster is reached: its management API, and where applications log in."""

    url: str = field(
        metadata=_help(
            "Management API, such as `https://rabbit.example.org:15671`. HTTPS, except on this machine."
        )
    )
    amqp: str | None = field(
        default=None,
        metadata=_help(
            "Where logins are tried: `amqps://HOST[:PORT]`. Default: the host of `url`, with TLS if"
            " `url` has it."
        ),
    )
    ca: Path | None = field(
        default=None, metadata=_help("Certificate authority file. Default: the system's.")
    )
    connect_timeout: int = field(default=5, metadata=_help("Connection timeout in seconds."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        require_http_url(self.url)
        parts = urlsplit(self.amqp_url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname or parts.path.strip("/"):
            raise UsageError("`amqp` must be amqps://HOST[:PORT] or amqp://HOST[:PORT].")
        if parts.username is not None or parts.password is not None:
            raise UsageError("`amqp` contains a login (redacted).", hint="Remove it.")
        if parts.scheme == "amqp" and not is_local(parts.hostname):
            raise UsageError("`amqp` must be amqps: passwords would be sent in plain text.")
        if self.connect_timeout < 1:
            raise UsageError("connect_timeout must be 1 second or more.")

    @property
    def amqp_url(self) -> str:
        """Where logins are tried."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return self.amqp or f"{'amqps' if parts.scheme == 'https' else 'amqp'}://{host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions(LoginOptions):
    """One login that is rotated. Which options matter depends on the strategy."""

    longest_name: int = field(
        default=255,
        metadata=_help("new-user: the most bytes of a user name; RabbitMQ accepts 255."),
    )
    like: str | None = field(
        default=None,
        metadata=_help(
            "User whose tags, permissions and limits a new one receives if there is no current one."
        ),
    )
    vhost: str = field(
        default="/", metadata=_help("Virtual host that a new login must be able to open.")
    )
