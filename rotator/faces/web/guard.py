"""What every request passes: its host, who sends it, and for a change its origin and its form's token."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from rotator.core.access import Actor
from rotator.core.errors import UsageError
from rotator.faces.web.sessions import Principal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from rotator.core.web_settings import WebSettings
    from rotator.faces.web.console import Console

PROXY_HEADER: Final = "x-rotator-proxy-secret"
FORM_HEADER: Final = "x-csrf-token"
_LONGEST_BODY: Final = 64 * 1024
_MOST_FIELDS: Final = 100
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: browsers would then send no origin with a form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_FOREVER: Final = "max-age=31536000"


class Origin:
    """By which URLs browsers reach the console."""

    def __init__(self, web: WebSettings) -> None:
        """Take them from the settings."""
        host, _, port = web.listen.rpartition(":")
        scheme = "https" if web.certificate is not None else "http"
        self.main: str = web.origin or f"{scheme}://{host}:{port}"
        own = {self.main} if web.origin else {f"{scheme}://{one}:{port}" for one in _loopback(host)}
        self.all: frozenset[str] = frozenset(own)
        self.hosts: frozenset[str] = frozenset(urlsplit(one).netloc.lower() for one in own)

    @property
    def is_secure(self) -> bool:
        """Whether browsers use TLS."""
        return self.main.startswith("https:")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return "__Host-rotator" if self.is_secure else "rotator"


class Guard:
    """Refuses requests that are none of the console's, and finds out who sends the others."""

    def __init__(self, app: ASGIApp, console: Console, origin: Origin) -> None:
        """`app` answers what passes."""
        self._app: ASGIApp = app
        self._console: Console = console
        self._origin: Origin = origin
        proxy = console.web.proxy
        self._proxy_secret: Any = console.resolve(proxy.secret) if proxy is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        if headers.get("host", "").lower() not in self._origin.hosts:
            await _refuse(421, "this host name is not the console's", scope, receive, sent)
            return
        scope["cookies"] = cookies = _cookies(headers)
        scope["principal"] = self._principal(scope, headers, cookies)
        if scope["method"] not in _SAFE:
            body = await _body(receive)
            if body is None:
                await _refuse(413, "the request is too large", scope, receive, sent)
                return
            why = self._why_forged(scope, headers, cookies, body)
            if why is not None:
                await _refuse(403, why, scope, receive, sent)
                return
            receive = _replayed(body, receive)
        await self._app(scope, receive, sent)

    def _principal(
        self, scope: Scope, headers: Headers, cookies: dict[str, str]
    ) -> Principal | None:
        found = self._of_proxy(scope, headers)
        if found is not None:
            return found
        id_ = cookies.get(self._origin.cookie)
        try:
            return self._console.sessions.find(id_) if id_ else None
        except UsageError as error:
            self._console.log.error("sessions", what=error.what)  # noqa: TRY400 # no bug of ours
            return None

    def _of_proxy(self, scope: Scope, headers: Headers) -> Principal | None:
        """Return the user whom the proxy names; None where it is not the proxy that asks."""
        proxy = self._console.web.proxy
        given = headers.get(PROXY_HEADER)
        if proxy is None or given is None or address_of(scope) not in proxy.addresses:
            return None
        if not hmac.compare_digest(given.encode(), self._proxy_secret.reveal().encode()):
            return None
        subject = headers.get(proxy.user_header, "").strip()
        if not subject or len(subject) > 200 or not subject.isprintable():  # noqa: PLR2004 # as any name
            return None
        groups = headers.get(proxy.groups_header, "").split(",")
        actor = Actor(
            subject=subject,
            method="proxy",
            face="web",
            host=address_of(scope),
            groups=tuple(one.strip() for one in groups if one.strip()),
        )
        token = self._console.sessions.token_of(f"proxy {subject}")
        return Principal(actor=actor, token=token)

    def _why_forged(
        self, scope: Scope, headers: Headers, cookies: dict[str, str], body: bytes
    ) -> str | None:
        """Return why a change did not come from a page of ours; None where it did."""
        if headers.get("origin") not in self._origin.all:
            return "the request comes from another site"
        kind = headers.get("content-type", "").partition(";")[0].strip()
        form: dict[str, list[str]] = {}
        if kind == "application/x-www-form-urlencoded":
            try:
                text = body.decode("utf-8")
                form = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
            except ValueError:
                return "the form cannot be read"
        scope["body"] = body
        scope["form"] = {key: values[0] for key, values in form.items()}
        given = headers.get(FORM_HEADER) or scope["form"].get("token") or ""
        principal: Principal | None = scope["principal"]
        if scope["path"] == "/sign-in":
            expected = self._console.sessions.token_of(f"sign-in {cookies.get('sign-in', '')}")
        elif principal is None:
            # Whoever is not signed in has nothing that could be forged, and is refused below.
            return None
        else:
            expected = principal.token
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return "the form has expired: go back, load the page again and repeat"
        return None

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if path.startswith("/static/"):
            headers["cache-control"] = "max-age=3600"
        if self._origin.is_secure:
            headers["strict-transport-security"] = _FOREVER


def address_of(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _loopback(host: str) -> tuple[str, ...]:
    local = ("127.0.0.1", "localhost", "[::1]")
    return local if host in local else (host,)


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        parsed = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: one.value for name, one in parsed.items()}


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None where it is too long."""
    parts, length, more = list[bytes](), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        part = message.get("body", b"")
        length += len(part)
        if length > _LONGEST_BODY:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"Refused: {why}.\n", status_code=status)(scope, receive, send)
