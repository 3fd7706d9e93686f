"""Signing in by a provider that is a process of its own, with a real client, at the console's own process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from rotator.testing.scratch import free_port
from tests.web.openid_provider import CLIENT, CLIENT_PHRASE, WRONG_CLAIMS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

_CALLBACK = "/sign-in/oidc/callback"


@contextmanager
def running(*command: str) -> Generator[subprocess.Popen[str]]:
    """Run a program of Python; kill it at the end."""
    process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        _ = process.communicate()


@dataclass
class Place:
    """The URLs of both processes."""

    console: str
    provider: str

    def client(self) -> httpx.Client:
        """Return a browser without cookies, which follows no redirect by itself."""
        return httpx.Client(trust_env=False, timeout=30)

    def misbehave(self, how: str) -> None:
        """Make the next answer of the provider wrong."""
        assert httpx.get(f"{self.provider}/misbehave?how={how}", trust_env=False).text == "ok"

    def begin(self, client: httpx.Client) -> str:
        """Begin a sign-in; return the address to which the provider leads back."""
        led = client.get(f"{self.console}/sign-in/oidc")
        assert led.status_code == 302, led.text
        asked = parse_qs(urlsplit(led.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        back = client.get(led.headers["location"])
        assert back.status_code == 302, back.text
        assert back.headers["location"].startswith(f"{self.console}{_CALLBACK}")
        return back.headers["location"]

    def actor(self, client: httpx.Client) -> str | None:
        """Return who is signed in."""
        answer = client.get(f"{self.console}/api/v1/session")
        return answer.json()["actor"]["subject"] if answer.status_code == 200 else None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The provider and the console, both on loopback."""
    folder: Path = tmp_path_factory.mktemp("console")
    at, provider_at = free_port(), free_port()
    found = Place(f"http://127.0.0.1:{at}", f"http://127.0.0.1:{provider_at}")
    (folder / "oidc-client").touch(mode=0o600)
    (folder / "oidc-client").write_text(CLIENT_PHRASE)
    oidc = {
        "issuer": found.provider,
        "client_id": CLIENT,
        "client_secret": "file:oidc-client",
    }
    config = folder / "rotator.yaml"
    config.write_text(
        json.dumps(
            {
                "version": 1,
                "journal": {"url": "sqlite:///rotator.db"},
                "roles": [{"role": "viewer", "groups": ["oidc:dba"]}],
                "web": {"listen": f"127.0.0.1:{at}", "oidc": oidc},
            }
        )
    )
    config.chmod(0o600)
    created = [sys.executable, "-m", "rotator", "db", "upgrade", "-c", str(config)]
    subprocess.run(created, check=True, capture_output=True)
    provider = ("tests.web.openid_provider", str(provider_at), f"{found.console}{_CALLBACK}")
    with running(*provider), running("rotator", "web", "run", "-c", str(config)) as console:
        assert console.stderr is not None
        line = console.stderr.readline()
        assert line.startswith("{"), line + console.stderr.read()
        _wait(lambda: httpx.get(f"{found.provider}/keys", trust_env=False).status_code == 200)
        yield found


def _wait(answers: Callable[[], bool]) -> None:
    """Wait until a process listens."""
    until = time.monotonic() + 30
    while True:
        try:
            if answers():
                return
        except httpx.TransportError:
            assert time.monotonic() < until


def test_a_user_of_the_provider_signs_in(place: Place):
    """By the code flow with PKCE; groups of the ID token give the role."""
    with place.client() as client:
        assert place.actor(client) is None
        answer = client.get(place.begin(client))
        assert answer.status_code == 200
        session = client.get(f"{place.console}/api/v1/session").json()
    assert session["actor"]["subject"] == "dana@example.org"
    assert (session["actor"]["method"], session["roles"]) == ("oidc", ["viewer"])


_WHY = {
    "nonce": "belongs to another sign-in",
    "issuer": "was issued by another provider",
    "audience": "was issued for another client",
    "expired": "has expired",
    "no-expiry": "lacks a claim or has a wrong one",
    "other-key": "is not signed by a key of the provider",
    "alg-none": "is not signed by a key of the provider",
    "refused": "refused the sign-in",
    "unverified": "has not verified this email address",
}


@pytest.mark.parametrize("how", [*WRONG_CLAIMS, "other-key", "alg-none", "refused"])
def test_a_wrong_answer_signs_nobody_in_and_the_page_says_why(place: Place, how: str):
    """In our own words, whatever the provider sent; and the next sign-in works."""
    with place.client() as client:
        place.misbehave(how)
        answer = client.get(place.begin(client))
        assert answer.status_code == (403 if how == "unverified" else 401)
        assert _WHY[how] in answer.text
        assert "Sign in" in answer.text
        assert place.actor(client) is None
        assert client.get(place.begin(client)).status_code == 200
        assert place.actor(client) == "dana@example.org"


def test_a_code_counts_once(place: Place):
    """Neither the same address again, nor its code in another sign-in, signs somebody in."""
    with place.client() as client, place.client() as other:
        back = place.begin(client)
        kept = dict(client.cookies)
        assert client.get(back).status_code == 200
        with place.client() as again:
            again.cookies.update(kept)
            repeated = again.get(back)
            assert repeated.status_code == 400
            assert "has expired" in repeated.text
            assert place.actor(again) is None
        code = parse_qs(urlsplit(back).query)["code"][0]
        state = parse_qs(urlsplit(place.begin(other)).query)["state"][0]
        answer = other.get(f"{place.console}{_CALLBACK}?code={code}&state={state}")
        assert answer.status_code == 401
        assert "refused the sign-in" in answer.text
        assert place.actor(other) is None


def test_the_code_of_somebody_else_is_useless(place: Place):
    """PKCE: a code that was caught on its way signs nobody in at another browser."""
    with place.client() as victim, place.client() as thief:
        code = parse_qs(urlsplit(place.begin(victim)).query)["code"][0]
        state = parse_qs(urlsplit(place.begin(thief)).query)["state"][0]
        answer = thief.get(f"{place.console}{_CALLBACK}?code={code}&state={state}")
        assert answer.status_code == 401
        assert place.actor(thief) is None


def test_another_state_is_refused(place: Place):
    """The address of somebody else's sign-in, opened in a browser that began its own."""
    with place.client() as client, place.client() as other:
        back = place.begin(other)
        _ = place.begin(client)
        answer = client.get(back)
        assert answer.status_code == 401
        assert "belongs to another sign-in" in answer.text
        assert place.actor(client) is None
