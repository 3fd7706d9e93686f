"""Signing in by an OpenID Connect provider: authorization code, PKCE, state and nonce, by authlib."""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client.errors import MismatchingStateError
from authlib.integrations.starlette_client import OAuth, OAuthError
from httpx2 import HTTPError
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from rotator.core.access import Actor
from rotator.core.errors import UsageError
from rotator.core.printable import printable
from rotator.faces.web.guard import address_of
from rotator.faces.web.sign_in import begin_session, sign_in_form

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from rotator.core.secret import Secret
    from rotator.core.web_settings import OidcSettings
    from rotator.faces.web.console import Console
    from rotator.faces.web.guard import Origin

_COOKIE: Final = "oidc"
_PATH: Final = "/sign-in/oidc"
_LASTS: Final = timedelta(minutes=10)
_MOST: Final = 1_000
_LONGEST: Final = 200
_FAILED: Final = "The sign-in at the provider did not succeed. Try again."
_OTHER_SIGN_IN: Final = "Its answer belongs to another sign-in."
_OTHER_CLIENT: Final = "Its answer was issued for another client: check `web.oidc.client_id`."
# What a claim of an ID token was that the console did not accept.
_CLAIMS: Final = {
    "nonce": _OTHER_SIGN_IN,
    "iss": "Its answer was issued by another provider: check `web.oidc.issuer`.",
    "aud": _OTHER_CLIENT,
    "azp": _OTHER_CLIENT,
}
# A redirect from another site sends no cookie that is `SameSite=Strict`: this page leads on by itself.
_ONWARD: Final = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Signed in</title>'
    '<meta http-equiv="refresh" content="0;url=/"></head><body><p>Signed in. <a href="/">Continue</a></p></body></html>'
)


async def start(request: Request) -> Response:
    """Lead to the provider of the configuration."""
    return await _of(request).start(request)


async def finish(request: Request) -> Response:
    """Take the answer of the provider of the configuration."""
    return await _of(request).finish(request)


def _of(request: Request) -> Oidc:
    return request.app.state.oidc


class Oidc:
    """The provider of the configuration. A sign-in that has begun is kept here, not in a cookie."""

    def __init__(self, console: Console, origin: Origin) -> None:
        """Nothing is asked yet. Raises `UsageError` where the client's secret cannot be read."""
        settings = console.web.oidc
        self._console: Console = console
        self._origin: Origin = origin
        self._guard: threading.Lock = threading.Lock()
        self._begun: dict[str, tuple[dict[str, Any], datetime]] = {}
        self._settings: OidcSettings | None = settings
        self._client: Any = None
        if settings is not None:
            # It must live as long as the client: logs mask the values of living secrets.
            self._secret: Secret = console.resolve(settings.client_secret)
            self._client = _client(settings, self._secret)

    async def start(self, request: Request) -> Response:
        """Lead to the provider."""
        if self._client is None:
            raise HTTPException(404)
        request.scope["session"] = session = dict[str, Any]()
        try:
            response: Response = await self._client.authorize_redirect(
                request, f"{self._origin.main}{_PATH}/callback"
            )
        except (AuthlibBaseError, HTTPError, ValueError) as error:
            return self._failed(request, error)
        id_ = secrets.token_urlsafe(32)
        self._keep(id_, session)
        response.set_cookie(
            _COOKIE,
            id_,
            max_age=int(_LASTS.total_seconds()),
            path=_PATH,
            secure=self._origin.is_secure,
            httponly=True,
            # The provider's redirect comes from another site, and must find it.
            samesite="lax",
        )
        return response

    async def finish(self, request: Request) -> Response:
        """Take the provider's answer, and begin a session."""
        if self._client is None or self._settings is None:
            raise HTTPException(404)
        session = self._taken(request.scope["cookies"].get(_COOKIE, ""))
        if session is None:
            return sign_in_form(request, "The sign-in has expired. Try again.", status=400)
        request.scope["session"] = session
        try:
            token: Mapping[str, Any] = await self._client.authorize_access_token(request)
            actor = _actor(self._settings, token.get("userinfo"), address_of(request.scope))
        except (AuthlibBaseError, JoseError, HTTPError, ValueError, KeyError) as error:
            return self._failed(request, error)
        except UsageError as error:
            return sign_in_form(request, error.what, status=403)
        begun = begin_session(request, actor)
        response = HTMLResponse(_ONWARD)
        response.raw_headers += [one for one in begun.raw_headers if one[0] == b"set-cookie"]
        response.delete_cookie(
            _COOKIE, path=_PATH, secure=self._origin.is_secure, httponly=True, samesite="lax"
        )
        return response

    def _failed(self, request: Request, error: Exception) -> Response:
        # Its text is the provider's: only the kind is logged.
        why = _why(error)
        kind = type(error).__name__
        self._console.log.warning("sign-in failed", method="oidc", kind=kind, what=why)
        return sign_in_form(request, f"{_FAILED} {why}".strip(), status=401)

    def _keep(self, id_: str, session: dict[str, Any]) -> None:
        now = self._console.clock.now()
        with self._guard:
            for key in [key for key, (_, until) in self._begun.items() if until <= now]:
                del self._begun[key]
            while len(self._begun) >= _MOST:
                del self._begun[next(iter(self._begun))]
            self._begun[_key(id_)] = session, now + _LASTS

    def _taken(self, id_: str) -> dict[str, Any] | None:
        """Return what a sign-in began with, once."""
        with self._guard:
            found = self._begun.pop(_key(id_), None)
        if found is None or found[1] <= self._console.clock.now():
            return None
        return found[0]


def _client(settings: OidcSettings, secret: Secret) -> Any:
    return cast("Any", OAuth()).register(
        "provider",
        client_id=settings.client_id,
        client_secret=secret.reveal(),
        server_metadata_url=f"{settings.issuer}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid profile email",
            "code_challenge_method": "S256",
            "timeout": 10,
        },
    )


def _actor(settings: OidcSettings, claims: object, address: str) -> Actor:
    """Return who the provider says has signed in. Raises `UsageError` where it does not say."""
    known = cast("Mapping[str, Any]", claims) if claims is not None else {}
    subject = known.get(settings.user_claim)
    if not isinstance(subject, str) or not subject or len(subject) > _LONGEST:
        raise UsageError(f"The provider sent no `{settings.user_claim}`.")
    if settings.user_claim == "email" and known.get("email_verified") is not True:
        raise UsageError("The provider has not verified this email address.")
    groups = known.get(settings.groups_claim)
    listed = groups if isinstance(groups, list | tuple) else ()
    return Actor(
        subject=printable(subject),
        method="oidc",
        face="web",
        host=address,
        groups=tuple(str(one) for one in listed),
    )


def _why(error: Exception) -> str:
    """Return why an answer of the provider was not accepted, in our own words."""
    if isinstance(error, MismatchingStateError):
        return _OTHER_SIGN_IN
    if isinstance(error, OAuthError):
        return "The provider refused the sign-in."
    if isinstance(error, HTTPError):
        return "The provider cannot be reached."
    if isinstance(error, ExpiredTokenError):
        return "Its answer has expired: compare the clocks of the provider and the console."
    if isinstance(error, ClaimError):
        return _CLAIMS.get(error.claim, "Its answer lacks a claim or has a wrong one.")
    if isinstance(error, JoseError | ValueError):
        return "Its answer is not signed by a key of the provider."
    return ""


def _key(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()
