"""The console over TLS, as a process of its own: three ways to sign in, and what a wrong file says."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from rotator.testing.certificates import make_certificates
from rotator.testing.scratch import free_port
from tests.web.conftest import PASSPHRASE
from tests.web.test_oidc import CLIENT_PHRASE, honest_claims, provider  # noqa: F401 # the fixture

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.web.conftest import Site
    from tests.web.test_oidc import Provider

PROXY_PHRASE = "pr0xy-only-4c1e"


def configure(site: Site, *, oidc: str = "http://127.0.0.1:1", **files: str) -> tuple[Path, str]:
    """Write a configuration with every way to sign in; return it and the console's URL."""
    folder, port = site.cli.folder, free_port()
    make_certificates(folder)
    for name, text in (("proxy-secret", PROXY_PHRASE), ("oidc-client", CLIENT_PHRASE)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    web = {
        "listen": f"127.0.0.1:{port}",
        "certificate": files.get("certificate", "server.crt"),
        "key": files.get("key", "server.key"),
        "proxy": {"secret": "file:proxy-secret"},
        "oidc": {"issuer": oidc, "client_id": "console", "client_secret": "file:oidc-client"},
    }
    config = folder / "console.yaml"
    config.write_text(
        json.dumps({"version": 1, "journal": {"url": "sqlite:///rotator.db"}, "web": web})
    )
    config.chmod(0o600)
    return config, f"https://127.0.0.1:{port}"


def start(config: Path) -> subprocess.Popen[str]:
    """Start the console."""
    command = [sys.executable, "-m", "rotator", "web", "run", "-c", str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@contextmanager
def served(site: Site, **given: str) -> Generator[httpx.Client]:
    """Run it; yield a client that trusts its certificate."""
    config, url = configure(site, **given)
    process = start(config)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("{"), line + process.stderr.read()
        trusted = ssl.create_default_context(cafile=str(site.cli.folder / "ca.crt"))
        with httpx.Client(
            base_url=url, verify=trusted, trust_env=False, headers={"origin": url}
        ) as client:
            yield client
    finally:
        process.kill()
        _ = process.communicate()


def actor(client: httpx.Client, **headers: str) -> dict[str, Any]:
    """Return who the console says is signed in."""
    return client.get("/api/v1/session", headers=headers).json()["actor"]


def test_each_way_to_sign_in_works_over_tls(site: Site, provider: Provider):  # noqa: F811 # the fixture
    """A local user, a proxy and a provider; cookies are secure and bound to the host."""
    site.rotate("app")
    with served(site, oidc=provider.url) as client:
        token = re.search(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
        assert token is not None
        values = {"name": "viewer", "password": PASSPHRASE, "token": token[1]}
        answer = client.post("/sign-in", data=values)
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        cookie = next(
            one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-")
        )
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert (actor(client)["method"], actor(client)["subject"]) == ("password", "viewer")
        client.cookies.clear()

        named = {"x-forwarded-user": "erin", "x-rotator-proxy-secret": PROXY_PHRASE}
        assert (actor(client, **named)["method"], actor(client, **named)["subject"]) == (
            "proxy",
            "erin",
        )
        wrong = named | {"x-rotator-proxy-secret": "guessed"}
        assert client.get("/api/v1/session", headers=wrong).status_code == 401

        led = client.get("/sign-in/oidc")
        query = {
            key: one[0] for key, one in parse_qs(urlsplit(led.headers["location"]).query).items()
        }
        provider.challenge, provider.signer, provider.token = query["code_challenge"], None, ""
        provider.claims = honest_claims(provider, query["nonce"])
        back = client.get(f"/sign-in/oidc/callback?code=abc&state={query['state']}")
        assert back.status_code == 200
        assert actor(client)["subject"] == "dana@example.org"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"certificate": "absent.crt"}, "No such file"),
        ({"key": "other.key"}, "certificate"),
        ({"key": "open.key"}, "open.key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(site: Site, files: dict[str, str], said: str):
    """A missing file, the key of another certificate, a key that others can read."""
    config, _ = configure(site, **files)
    folder = site.cli.folder
    other = folder / "other"
    other.mkdir()
    make_certificates(other)
    (folder / "other.key").touch(mode=0o600)
    (folder / "other.key").write_text((other / "server.key").read_text())
    (folder / "open.key").write_text((folder / "server.key").read_text())
    (folder / "open.key").chmod(0o644)
    process = start(config)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert said in err
    assert "Traceback" not in err
    assert "web.certificate" in err or "chmod" in err
