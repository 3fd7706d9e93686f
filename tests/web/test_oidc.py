"""Signing in by OpenID Connect, against a provider on loopback that can also cheat."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.web.conftest import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.web.conftest import Browser, Site

CLIENT_PHRASE = "oidc-cl1ent-7d41"
GROUPS = '\n  - {role: operator, groups: ["oidc:dba"]}\n'


@dataclass
class Provider:
    """A provider: signs what its `claims` say, whatever was asked for."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    signer: RSAKey | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    challenge: str = ""
    # Sent instead of one that is signed.
    token: str = ""

    def answer(self, path: str, body: str) -> dict[str, Any]:
        """Answer a request."""
        if path.endswith("openid-configuration"):
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        if path == "/keys":
            return {"keys": [self.key.as_dict(private=False)]}
        form = {key: value[0] for key, value in parse_qs(body).items()}
        self.asked.append(form)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.challenge
        signed = self.token or jwt.encode(
            {"alg": "RS256", "kid": "one"}, self.claims, self.signer or self.key
        )
        return {"access_token": "unused", "token_type": "Bearer", "id_token": signed}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A provider on loopback."""
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("content-length", 0))
            answer = made.answer(self.path, self.rfile.read(length).decode())
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do  # noqa: N815 # the names of the base class

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site(open_site: Callable[..., Site], provider: Provider, cli: Any) -> Site:
    """A console that signs in by the provider."""
    file = cli.folder / "oidc-client"
    file.touch(mode=0o600)
    file.write_text(CLIENT_PHRASE)
    provider.signer, provider.asked, provider.token = None, [], ""
    oidc = f'web: {{oidc: {{issuer: "{provider.url}", client_id: console, client_secret: "file:oidc-client"}}}}\n'
    return open_site(ROLES.rstrip() + GROUPS + oidc)


def begin(site: Site, provider: Provider) -> tuple[Browser, str, dict[str, Any]]:
    """Begin a sign-in; return the browser, the state, and the claims of an honest answer."""
    browser = site.browser()
    led = browser.get("/sign-in/oidc")
    assert led.status_code == 302, led.text
    query = {
        key: value[0] for key, value in parse_qs(urlsplit(led.headers["location"]).query).items()
    }
    assert query["redirect_uri"] == "http://127.0.0.1:9466/sign-in/oidc/callback"
    provider.challenge = query["code_challenge"]
    provider.claims = claims = honest_claims(provider, query["nonce"])
    return browser, query["state"], claims


def honest_claims(provider: Provider, nonce: str) -> dict[str, Any]:
    """Return what an honest provider states of somebody."""
    now = int(time.time())
    return {
        "iss": provider.url,
        "aud": "console",
        "sub": "17",
        "nonce": nonce,
        "iat": now,
        "exp": now + 60,
        "email": "dana@example.org",
        "email_verified": True,
        "groups": ["dba"],
    }


def finish(browser: Browser, state: str) -> Any:
    """Come back from the provider."""
    return browser.get(f"/sign-in/oidc/callback?code=abc&state={state}")


def test_groups_of_the_provider_give_roles(site: Site, provider: Provider):
    """A member of `dba` signs in and may request; the actor is `oidc`, the client's secret was sent once."""
    site.rotate("app")
    browser, state, _ = begin(site, provider)
    answer = finish(browser, state)
    assert answer.status_code == 200
    cookies = answer.headers.get_list("set-cookie")
    assert any("rotator=" in one and "samesite=strict" in one.lower() for one in cookies)
    assert "dana@example.org" in browser.get("/").text
    session = browser.get("/api/v1/session").json()
    assert (session["actor"]["method"], session["roles"]) == ("oidc", ["operator"])
    assert len(provider.asked) == 1


def test_an_answer_counts_once(site: Site, provider: Provider):
    """The same address a second time signs nobody in."""
    browser, state, _ = begin(site, provider)
    kept = dict(browser.cookies)
    assert finish(browser, state).status_code == 200
    browser.cookies = kept
    assert finish(browser, state).status_code == 400


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"nonce": "another"}, 401),
        ({"aud": "another"}, 401),
        ({"iss": "https://elsewhere.example.org"}, 401),
        ({"exp": 1}, 401),
        ({"email_verified": False}, 403),
        ({"email": None}, 403),
    ],
    ids=lambda one: json.dumps(one) if isinstance(one, dict) else str(one),
)
def test_a_wrong_token_signs_nobody_in(
    site: Site, provider: Provider, change: dict[str, Any], status: int
):
    """Another nonce, audience or issuer, an expired token, an address that nobody verified."""
    browser, state, claims = begin(site, provider)
    provider.claims = claims | change
    assert finish(browser, state).status_code == status
    assert "rotator" not in browser.cookies


def test_a_token_of_another_key_signs_nobody_in(site: Site, provider: Provider):
    """The signature must be by a key that the provider publishes."""
    browser, state, _ = begin(site, provider)
    provider.signer = RSAKey.generate_key(2048, {"kid": "one"})
    assert finish(browser, state).status_code == 401


def test_a_token_without_a_signature_signs_nobody_in(site: Site, provider: Provider):
    """`alg: none`: anyone who can answer in the provider's place could sign in as any user."""
    browser, state, claims = begin(site, provider)
    parts = [json.dumps(one).encode() for one in ({"alg": "none"}, claims)]
    coded = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts]
    provider.token = ".".join([*coded, ""])
    answer = finish(browser, state)
    assert answer.status_code == 401
    assert "The sign-in at the provider did not succeed." in answer.text
    assert "rotator" not in browser.cookies


def test_another_state_signs_nobody_in(site: Site, provider: Provider):
    """An answer to a sign-in that this browser did not begin is refused."""
    browser, _, _ = begin(site, provider)
    assert finish(browser, "another").status_code == 401
    stranger = site.browser()
    assert finish(stranger, "another").status_code == 400
