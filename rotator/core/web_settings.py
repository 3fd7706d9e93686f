"""How the web console works: where it listens, and who may sign in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """A proxy that signs people in. `secret` is a reference."""

    secret: str
    addresses: tuple[str, ...] = ("127.0.0.1", "::1")
    user_header: str = "X-Forwarded-User"
    groups_header: str = "X-Forwarded-Groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """An OpenID Connect provider. `client_secret` is a reference."""

    issuer: str
    client_id: str
    client_secret: str
    user_claim: str = "email"
    groups_claim: str = "groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The console. `origin`: the URL by which browsers reach it; None: by `listen`, on loopback.

    `journal_url` and `journal_password`: of a login of its own; None: those of everybody.
    """

    listen: str = "127.0.0.1:9466"
    origin: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    users: Path = Path("web-users.json")
    sessions: Path = Path("web-sessions.db")
    session: timedelta = timedelta(hours=8)
    journal_url: str | None = None
    journal_password: str | None = None
    proxy: ProxySettings | None = None
    oidc: OidcSettings | None = None
