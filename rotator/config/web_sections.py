"""The section `web`: its shape, and what it is as settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from rotator.config import journal_url
from rotator.config.daemon_sections import Strict
from rotator.config.errors import wrong
from rotator.config.types import REFERENCE, Positive
from rotator.core.net import is_local
from rotator.core.web_settings import OidcSettings, ProxySettings, WebSettings
from rotator.journal import address

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.config.document import Document
    from rotator.config.positions import Positions

_WEB: Final = WebSettings()
_LISTEN: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}")
_LONGEST_SESSION: Final = timedelta(days=1)


def _check_listen(text: str) -> str:
    if not _LISTEN.fullmatch(text):
        raise wrong("invalid address.", "Write `127.0.0.1:9466`.")
    return text


def _check_reference(text: str) -> str:
    if not text.startswith(("env:", "file:")):
        raise wrong(
            "the console has no access to a backend.", "Write `file:PATH` or `env:NAME` instead."
        )
    return text


def _check_origin(text: str) -> str:
    parts = urlsplit(text)
    plain = parts.scheme == "http" and is_local(parts.hostname or "")
    if not (parts.scheme == "https" or plain) or not parts.netloc or parts.path.strip("/"):
        raise wrong("expected an https URL without a path.", "Write `https://rotator.example.org`.")
    return f"{parts.scheme}://{parts.netloc}"


def _check_issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local(parts.hostname or "")):
        raise wrong("expected an https URL.", "Write `https://login.example.org/realm`.")
    return text.rstrip("/")


def _check_session(value: timedelta) -> timedelta:
    if value > _LONGEST_SESSION:
        raise wrong("a session cannot last for longer than a day.", "Lower it.")
    return value


_PlainReference = Annotated[str, AfterValidator(_check_reference), Field(pattern=REFERENCE)]
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Header = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class WebJournalDocument(Strict):
    """With which login the console reads the journal."""

    url: Annotated[str, AfterValidator(journal_url.check)] | None = Field(
        default=None,
        description="Address of the journal with the console's own login. Default: `journal.url`.",
    )
    password: _PlainReference | None = Field(
        default=None,
        description="Reference (`file:PATH` or `env:NAME`) to the password of that login.",
    )


class WebProxyDocument(Strict):
    """A proxy that signs people in and names them in headers."""

    secret: _PlainReference = Field(
        description="Reference to the secret that the proxy sends in the header `X-Rotator-Proxy-Secret`."
    )
    addresses: list[_Text] = Field(
        default=["127.0.0.1", "::1"], description="Addresses from which the proxy connects."
    )
    user_header: _Header = Field(
        default="X-Forwarded-User", description="Header with the name of the user."
    )
    groups_header: _Header = Field(
        default="X-Forwarded-Groups", description="Header with the user's groups, with commas."
    )


class WebOidcDocument(Strict):
    """An OpenID Connect provider that signs users in."""

    issuer: Annotated[str, AfterValidator(_check_issuer)] = Field(
        description="URL of the provider; it serves `/.well-known/openid-configuration` below it."
    )
    client_id: _Text = Field(description="The console's id at the provider.")
    client_secret: _PlainReference = Field(
        description="Reference to the console's secret at the provider."
    )
    user_claim: _Text = Field(
        default="email", description="Claim with the name of the user. An email must be verified."
    )
    groups_claim: _Text = Field(default="groups", description="Claim with the user's groups.")


class WebDocument(Strict):
    """The web console, `rotator web`."""

    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        default=_WEB.listen, description="Address on which the console listens."
    )
    origin: Annotated[str, AfterValidator(_check_origin)] | None = Field(
        default=None,
        description="URL by which browsers reach it, such as `https://rotator.example.org`. Required,"
        " except on loopback.",
    )
    certificate: str | None = Field(
        default=None,
        min_length=1,
        description="File with the server's TLS certificate (PEM). Not needed behind a proxy with TLS.",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description="File with the private key of the certificate (PEM).",
    )
    users: str = Field(
        default="web-users.json",
        min_length=1,
        description="File of local users; `rotator web add-user NAME` writes it.",
    )
    sessions: str = Field(
        default="web-sessions.db",
        min_length=1,
        description="File of the sessions and failed sign-ins; the console makes it. No cookie can be made"
        " from it.",
    )
    session: Annotated[Positive, AfterValidator(_check_session)] = Field(
        default=_WEB.session, description="How long a sign-in lasts."
    )
    journal: WebJournalDocument = Field(
        default=WebJournalDocument(), description="The console's own login to the journal."
    )
    proxy: WebProxyDocument | None = Field(default=None, description="Sign-in by a trusted proxy.")
    oidc: WebOidcDocument | None = Field(default=None, description="Sign-in by OpenID Connect.")


def web(source: Positions, document: Document, base: Path) -> WebSettings:
    """Return how the console works. Files are relative to `base`."""
    given = document.web or WebDocument()
    if (given.certificate is None) is not (given.key is None):
        said = "`certificate` and `key` belong together."
        source.problem(("web",), said, "Set both, or neither.", at_key=True)
    host = given.listen.rpartition(":")[0].strip("[]")
    if given.origin is None and not is_local(host):
        said = "browsers must reach the console by a known URL."
        source.problem(("web", "listen"), said, "Set `origin`, or listen on 127.0.0.1.")
    if given.origin is not None and given.origin.startswith("http:") and not is_local(host):
        said = "sessions would cross the network unencrypted."
        source.problem(("web", "origin"), said, "Write an https URL.")
    proxy, oidc = given.proxy, given.oidc
    url = given.journal.url
    return WebSettings(
        listen=given.listen,
        origin=given.origin,
        certificate=base / given.certificate if given.certificate else None,
        key=base / given.key if given.key else None,
        users=base / given.users,
        sessions=base / given.sessions,
        session=given.session,
        journal_url=address.absolute(url, base) if url else None,
        journal_password=given.journal.password,
        proxy=None
        if proxy is None
        else ProxySettings(
            secret=proxy.secret,
            addresses=tuple(proxy.addresses),
            user_header=proxy.user_header,
            groups_header=proxy.groups_header,
        ),
        oidc=None if oidc is None else OidcSettings(**oidc.model_dump()),
    )
