"""An OpenID provider as a process of its own: python -m tests.web.openid_provider PORT REDIRECT_URI

Authorization code, PKCE and ID tokens by authlib's server side. It signs everybody in as one user. The next
token is wrong in the way that `/misbehave?how=…` names.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from authlib.oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, CLIENT_PHRASE = "console", "oidc-cl1ent-7d41"
USER = {
    "sub": "17",
    "email": "dana@example.org",
    "email_verified": True,
    "groups": ["dba"],
}
# What is wrong with a token, by the name of the case: claims that replace those of an honest one.
WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "nonce": {"nonce": "of another sign-in"},
    "issuer": {"iss": "https://elsewhere.example.org"},
    "audience": {"aud": ["another-client"]},
    "expired": {"iat": 1, "exp": 2},
    "no-expiry": {"exp": None},
    "unverified": {"email_verified": False},
}


@dataclass
class _Client:
    """The console, as the provider has registered it."""

    redirect_uri: str
    client_id: str = CLIENT

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_PHRASE

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code:
    """An authorization code, which counts once."""

    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class _Request(OAuth2Request):
    def __init__(self, method: str, uri: str, values: dict[str, str], headers: Any) -> None:
        super().__init__(method, uri, headers=headers)
        self.payload = _Payload(values)
        self.values = values

    @property
    def args(self) -> dict[str, str]:
        return self.values

    @property
    def form(self) -> dict[str, str]:
        return self.values


class _Payload(BasicOAuth2Payload):
    @property
    def datalist(self) -> Any:
        return defaultdict(list, self._datalist)


class Provider(AuthorizationServer):
    """The provider. `wrong`: how its next token is wrong."""

    def __init__(self, url: str, redirect_uri: str) -> None:
        super().__init__(scopes_supported=["openid", "profile", "email"])
        self.url = url
        self.client = _Client(redirect_uri)
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.other_key = RSAKey.generate_key(2048, {"kid": "one"})
        self.codes: dict[str, _Code] = {}
        self.wrong = ""
        self.register_token_generator(
            "default", BearerTokenGenerator(lambda **_: "unused-access-token")
        )
        self.register_grant(_grant(self), [CodeChallenge(required=True), _identity(self)])

    def query_client(self, client_id: str) -> _Client | None:
        return self.client if client_id == CLIENT else None

    def save_token(self, token: Any, request: Any) -> None:
        """Keep nothing: access tokens open nothing here."""

    def send_signal(self, *_: Any, **__: Any) -> None:
        """Tell nobody."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        if isinstance(body, dict):
            return JSONResponse(body, status_code=status, headers=dict(headers))
        return Response(body or "", status_code=status, headers=dict(headers))

    # -- routes ----------------------------------------------------------------------------------

    async def metadata(self, _request: Any) -> Response:
        """Return what clients discover."""
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def keys(self, _request: Any) -> Response:
        """Return the public key."""
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Any) -> Response:
        """Sign the user in, and lead back with a code."""
        if self.wrong == "refused":
            self.wrong = ""
            state = request.query_params["state"]
            uri = self.client.redirect_uri
            return RedirectResponse(f"{uri}?error=access_denied&state={state}", status_code=302)
        asked = _Request("GET", str(request.url), dict(request.query_params), request.headers)
        grant = self.get_consent_grant(asked, end_user=USER)
        return self.create_authorization_response(asked, grant_user=USER, grant=grant)

    async def token(self, request: Any) -> Response:
        """Give a token for a code."""
        form = dict(parse_qsl((await request.body()).decode()))
        asked = _Request("POST", str(request.url), form, request.headers)
        return self.create_token_response(asked)

    async def misbehave(self, request: Any) -> Response:
        """Make the next answer wrong."""
        self.wrong = request.query_params["how"]
        return Response("ok")


def _grant(provider: Provider) -> type[AuthorizationCodeGrant]:
    codes = provider.codes

    class Grant(AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code: str, request: Any) -> None:
            given = request.payload.data
            names = ("redirect_uri", "scope", "nonce")
            more = ("code_challenge", "code_challenge_method")
            codes[code] = _Code(**{name: given[name] for name in (*names, *more)})

        def query_authorization_code(self, code: str, _client: Any) -> _Code | None:
            return codes.get(code)

        def delete_authorization_code(self, authorization_code: _Code) -> None:
            for code in [one for one, kept in codes.items() if kept is authorization_code]:
                del codes[code]

        def authenticate_user(self, _authorization_code: _Code) -> dict[str, Any]:
            return USER

    return Grant


def _identity(provider: Provider) -> OpenIDCode:
    class Identity(OpenIDCode):
        def exists_nonce(self, nonce: str, _request: Any) -> bool:
            return any(one.nonce == nonce for one in provider.codes.values())

        def resolve_client_private_key(self, _client: Any) -> RSAKey:
            return provider.other_key if provider.wrong == "other-key" else provider.key

        def get_client_algorithm(self, _client: Any) -> str:
            return "RS256"

        def get_encode_header(self, _client: Any) -> dict[str, str]:
            return {"alg": "RS256", "kid": "one"}

        def get_client_claims(self, client: Any) -> dict[str, Any]:
            return {"iss": provider.url, "aud": [client.get_client_id()]}

        def generate_user_info(self, user: dict[str, Any], _scope: str) -> UserInfo:
            # Claims of the user replace those of the token.
            return UserInfo({**user, **WRONG_CLAIMS.get(provider.wrong, {})})

        def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
            made = super().encode_id_token(token, request)
            wrong, provider.wrong = provider.wrong, ""
            if wrong != "alg-none":
                return made
            header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode())
            return f"{header.rstrip(b'=').decode()}.{made.split('.')[1]}."

    return Identity(require_nonce=True)


def main() -> None:
    """Serve until SIGTERM."""
    port, redirect_uri = int(sys.argv[1]), sys.argv[2]
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback
    provider = Provider(f"http://127.0.0.1:{port}", redirect_uri)
    routes = [
        Route("/.well-known/openid-configuration", provider.metadata),
        Route("/keys", provider.keys),
        Route("/authorize", provider.authorize),
        Route("/token", provider.token, methods=["POST"]),
        Route("/misbehave", provider.misbehave),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
