"""What a configuration says about a Vault or an OpenBao."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from rotator.api import UsageError, is_local, split_address
from rotator.backends import templates

Method = Literal["token", "approle", "kubernetes", "jwt", "aws", "userpass"]

_JWT_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "token": (),
    "approle": ("role_id", "secret_id"),
    "kubernetes": ("role",),
    "jwt": ("role",),
    "aws": ("role",),
    "userpass": ("username", "password"),
}


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """How to log in."""

    method: Method = field(default="token", metadata=_help("Auth method."))
    mount: str | None = field(
        default=None, metadata=_help("Mount path of the auth method. Default: the method's name.")
    )
    token: str | None = field(
        default=None, metadata=_help("token: reference to the token. Default: `env:VAULT_TOKEN`.")
    )
    token_file: Path | None = field(
        default=None,
        metadata=_help(
            "token: file with the token, such as an agent's sink; rotator rereads it when the"
            " server rejects the token."
        ),
    )
    role: str | None = field(default=None, metadata=_help("kubernetes, jwt, aws: role."))
    role_id: str | None = field(default=None, metadata=_help("approle: role id."))
    secret_id: str | None = field(
        default=None, metadata=_help("approle: reference to the secret id.")
    )
    wrapped: bool = field(
        default=False,
        metadata=_help("approle: `secret_id` references a wrapping token, which rotator unwraps."),
    )
    jwt_file: Path = field(
        default=_JWT_FILE,
        metadata=_help("kubernetes, jwt: file with the token; rotator rereads it at each login."),
    )
    username: str | None = field(default=None, metadata=_help("userpass: user name."))
    password: str | None = field(
        default=None, metadata=_help("userpass: reference to the password.")
    )
    server_id: str | None = field(
        default=None, metadata=_help("aws: value of the header X-Vault-AWS-IAM-Server-ID.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot log in."""
        missing = [name for name in _NEEDS[self.method] if getattr(self, name) is None]
        if missing:
            raise UsageError(f"auth method {self.method} requires `{'` and `'.join(missing)}`.")
        if self.token is not None and self.token_file is not None:
            raise UsageError(
                "`token` and `token_file` are alternatives.", hint="Set only one of them."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultOptions:
    """Options of a Vault or OpenBao backend."""

    address: str = field(
        default="https://127.0.0.1:8200", metadata=_help("URL of the API: https://HOST:PORT.")
    )
    nodes: tuple[str, ...] = field(
        default=(),
        metadata=_help("Other nodes that it may redirect to: HOST or HOST:PORT. Default: none."),
    )
    mount: str = field(
        default="secret", metadata=_help("KV version 2 mount that stores the secrets.")
    )
    namespace: str | None = field(default=None, metadata=_help("Namespace of the mount."))
    pending: str = field(
        default="rotator-pending",
        metadata=_help("Path in the mount for staged values; applications do not read it."),
    )
    pending_expiry: timedelta = field(
        default=timedelta(days=30),
        metadata=_help(
            "Lifetime of a staged value that no rotation removes; must exceed the longest rotation."
        ),
    )
    username_field: str = field(default="username", metadata=_help("Key of the login name."))
    password_field: str = field(
        default="password",
        metadata=_help("Key of the password.", reference=False),
    )
    templates: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help(templates.HELP, reference=False),
    )
    ca: Path | None = field(
        default=None, metadata=_help("Certificate authority of the server. Default: the system's.")
    )
    client_cert: Path | None = field(
        default=None, metadata=_help("Client certificate, if the server requires one.")
    )
    client_key: Path | None = field(
        default=None,
        metadata=_help("Private key file for the client certificate.", reference=False),
    )
    timeout: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_help("Maximum duration of one call, including its logins and retries."),
    )
    auth: AuthOptions = field(
        default_factory=AuthOptions, metadata=_help("Authentication to the server; see below.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("`address` is not a server URL.", hint="Example: https://vault:8200")
        if parts.username or parts.password or parts.query or parts.path.strip("/"):
            raise UsageError("`address` must contain only scheme, host and port.")
        if parts.scheme == "http" and not is_local(parts.hostname):
            raise UsageError(
                "`address` is not encrypted: every secret would cross the network in the clear.",
                hint="Use https://. For your own certificate authority, set `ca`.",
            )
        for node in self.nodes:
            _ = split_address(node, 1)
        if not self.mount.strip("/") or not self.pending.strip("/"):
            raise UsageError("`mount` and `pending` must not be empty.")
        if self.username_field == self.password_field:
            raise UsageError("`username_field` and `password_field` must differ.")
        templates.check(self.templates, (self.username_field, self.password_field))
        if (self.client_cert is None) is not (self.client_key is None):
            raise UsageError("`client_cert` and `client_key` must be set together.")
