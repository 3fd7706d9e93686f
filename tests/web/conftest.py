"""A console over a journal with three secrets, asked in this process as a browser would ask it."""

from __future__ import annotations

import asyncio
import re
import textwrap
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx2 as httpx
import pytest

from rotator import system
from rotator.config import load
from rotator.faces.web.app import build
from rotator.faces.web.console import Console
from rotator.journal import chain
from tests.cli.conftest import Cli, bare, cli  # noqa: F401 # the fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

ORIGIN = "http://127.0.0.1:9466"
PASSPHRASE = "t3st-only correct-horse-9f2c"
ROLES = """
roles:
  - {role: viewer, subjects: ["password:viewer"]}
  - {role: operator, subjects: ["password:operator"]}
  - {role: approver, subjects: ["password:approver", "password:second"]}
  - {role: breaker, subjects: ["password:breaker"]}
  - {role: auditor, subjects: ["password:auditor"]}
  - {role: admin, subjects: ["password:admin"]}
  - {role: operator, subjects: ["password:narrow"], names: ["we*"]}
"""
# What the tests do on a command line.
ROLES += f'  - {{role: admin, subjects: ["os:{system.actor("cli").subject}"]}}\n'

USERS = (
    *("viewer", "operator", "approver", "second", "breaker"),
    *("auditor", "admin", "narrow", "nobody"),
)


@dataclass
class Browser:
    """One browser: keeps cookies, sends its origin with a form, follows nothing by itself."""

    app: ASGIApp
    cookies: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send one request."""
        headers = {**self.headers, **more.pop("headers", {})}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.app, client=(self.address, 1234), raise_app_exceptions=False
            )
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await client.request(method, path, headers=headers, **more)

        answer = asyncio.run(ask())
        for line in answer.headers.get_list("set-cookie"):
            for name, one in SimpleCookie(line).items():
                if one["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = one.value
        return answer

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Load a page."""
        return self.send("GET", path, **more)

    def post(
        self, path: str, values: dict[str, str], *, origin: str | None = ORIGIN
    ) -> httpx.Response:
        """Send a form."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if origin is not None:
            headers["origin"] = origin
        return self.send("POST", path, content=urlencode(values), headers=headers)

    def token(self, path: str) -> str:
        """Return the token of a form on a page."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def sign_in(self, name: str, password: str = PASSPHRASE) -> httpx.Response:
        """Sign in by the form."""
        values = {"name": name, "password": password, "token": self.token("/sign-in")}
        return self.post("/sign-in", values)


@dataclass
class Site:
    """A console with its users."""

    console: Console
    app: ASGIApp
    cli: Cli
    signed_in: dict[str, Browser] = field(default_factory=dict[str, Browser])

    def browser(self, user: str | None = None) -> Browser:
        """Return a browser, with a user signed in."""
        found = Browser(self.app)
        if user is not None:
            answer = found.sign_in(user)
            assert answer.status_code == 303, answer.text
            self.signed_in[user] = found
        return found

    def rotate(self, *names: str) -> None:
        """Rotate secrets, and let the console see it."""
        self.cli("rotate", *names, "--break-glass", "--reason", "tests")
        self.console.fleet.refresh()


@pytest.fixture(scope="session")
def hashes() -> dict[str, str]:
    """The hash of the passphrase, made once: argon2 is slow by intent."""
    from argon2 import PasswordHasher

    return {"hash": PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSPHRASE)}


@pytest.fixture
def open_site(
    cli: Cli,  # noqa: F811 # the fixture
    hashes: dict[str, str],
) -> Iterator[Callable[..., Site]]:
    """Return what opens a console with further lines of configuration."""
    opened: list[Console] = []

    def open_(more: str = ROLES, *, signs: bool = True, **settings: Any) -> Site:
        import json

        cli.config.write_text(cli.config.read_text() + textwrap.dedent(more))
        users = {name: {"hash": hashes["hash"], "groups": [f"{name}s"]} for name in USERS}
        if signs:
            _give_key(cli)
        file = cli.folder / "web-users.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"version": 1, "users": users}))
        console = Console(load(cli.config), **settings)
        opened.append(console)
        return Site(console, build(console), cli)

    yield open_
    for one in opened:
        one.close()


def _give_key(cli: Cli) -> None:  # noqa: F811 # the fixture's type
    """Give the console a key of its own, whose requests engines accept."""
    key = chain.new_signing_key()
    file = cli.folder / "console-key"
    file.touch(mode=0o600)
    file.write_text(key.reveal())
    public = "".join(chain.public_key(key).splitlines()[1:-1])
    lines = f'\nrequests: {{key: "file:console-key", writers: {{console: "{public}"}}}}\n'
    cli.config.write_text(cli.config.read_text() + lines)


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    """A console with a user for each role."""
    return open_site()
