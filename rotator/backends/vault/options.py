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

    method: Method = field(default="token", metadata=_help("How to log in."))
    mount: str | None = field(
        default=None, metadata=_help("Where the method is mounted. Default: its own name.")
    )
    token: str | None = field(
        default=None, metadata=_help("token: reference to it. Default: `env:VAULT_TOKEN`.")
    )
    token_file: Path | None = field(
        default=None,
        metadata=_help("token: a file, such as an agent's sink; read anew when it is refused."),
    )
    role: str | None = field(default=None, metadata=_help("kubernetes, jwt, aws: the role."))
    role_id: str | None = field(default=None, metadata=_help("approle: the role's id."))
    secret_id: str | None = field(
        default=None, metadata=_help("approle: reference to the secret id.")
    )
    wrapped: bool = field(
        default=False,
        metadata=_help("approle: what `secret_id` names is a wrapping token, to be unwrapped."),
    )
    jwt_file: Path = field(
        default=_JWT_FILE,
        metadata=_help("kubernetes, jwt: the file with the token, read anew at each login."),
    )
    username: str | None = field(default=None, metadata=_help("userpass: the user."))
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
            raise UsageError(f"auth method {self.method} needs `{'` and `'.join(missing)}`.")
        if self.token is not None and self.token_file is not None:
            raise UsageError("`token` and `token_file` are alternatives.", hint="Give one of them.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultOptions:
    """Options of a Vault or OpenBao backend."""

    address: str = field(
        default="https://127.0.0.1:8200", metadata=_help("Where its API is: https://HOST:PORT.")
    )
    nodes: tuple[str, ...] = field(
        default=(),
        metadata=_help("Other nodes that it may redirect to, HOST or HOST:PORT. Default: none."),
    )
    mount: str = field(
        default="secret", metadata=_help("The KV version 2 mount that holds the secrets.")
    )
    namespace: str | None = field(default=None, metadata=_help("The namespace of that mount."))
    pending: str = field(
        default="rotator-pending",
        metadata=_help("Where in the mount staged values are kept; no consumer reads there."),
    )
    pending_expiry: timedelta = field(
        default=timedelta(days=30),
        metadata=_help("When a staged value that was forgotten expires: longer than any rotation."),
    )
    username_field: str = field(
        default="username", metadata=_help("The key that holds the login name.")
    )
    password_field: str = field(
        default="password",
        metadata=_help("The key that holds the password.", reference=False),
    )
    templates: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help(templates.HELP, reference=False),
    )
    ca: Path | None = field(
        default=None, metadata=_help("Certificate authority of the server. Default: the system's.")
    )
    client_cert: Path | None = field(
        default=None, metadata=_help("Client certificate, where the server asks for one.")
    )
    client_key: Path | None = field(
        default=None, metadata=_help("File with the client certificate's key.", reference=False)
    )
    timeout: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_help("How long one call may take in all, its logins and requests together."),
    )
    auth: AuthOptions = field(
        default_factory=AuthOptions, metadata=_help("How rotator logs in, see below.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                "`address` is not the URL of a server.", hint="Such as https://vault:8200"
            )
        if parts.username or parts.password or parts.query or parts.path.strip("/"):
            raise UsageError("`address` is scheme, host and port only.")
        if parts.scheme == "http" and not is_local(parts.hostname):
            raise UsageError(
                "`address` is not encrypted: every secret would cross the network in the clear.",
                hint="Use https://, with `ca` where the authority is your own.",
            )
        for node in self.nodes:
            _ = split_address(node, 1)
        if not self.mount.strip("/") or not self.pending.strip("/"):
            raise UsageError("`mount` and `pending` are not empty.")
        if self.username_field == self.password_field:
            raise UsageError("`username_field` and `password_field` are two keys.")
        templates.check(self.templates, (self.username_field, self.password_field))
        if (self.client_cert is None) is not (self.client_key is None):
            raise UsageError("`client_cert` and `client_key` go together.")
