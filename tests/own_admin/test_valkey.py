"""The admin of a Valkey or Redis target is itself a managed secret."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING

import pytest

from rotations.valkey.wire import WireConnection
from rotator.api import Credential, Secret
from tests.own_admin.conftest import OwnAdmin
from tests.servers.valkey import PACKAGES, ScratchValkey, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count(1)
_OPTIONS = {
    "single-user": "options: {{username: {0}}}",
    "dual-password": "options: {{username: {0}}}",
    "alternating-users": "options: {{users: [{0}, {0}_b]}}",
}


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[ScratchValkey]:
    if not is_installed(request.param):
        pytest.skip(f"no Redis server: apt-get install {PACKAGES}")
    with ScratchValkey(request.param) as started:
        started.run("ACL SETUSER", "reader", "reset", "on", "+get", "~*", ">nobody-uses-it-1")
        yield started


@pytest.fixture
def own(server: ScratchValkey, tmp_path: Path) -> Iterator[OwnAdmin]:
    number = next(_numbers)
    first = Credential(username=f"admin_{number}", password=Secret(secrets.token_urlsafe(18)))
    server.run("ACL SETUSER", first.username, "reset", "on", "+@all", f">{first.password.reveal()}")

    def named(*prefixes: str) -> list[str]:
        return [name for name in server.run("ACL USERS") if name.startswith(prefixes)]

    yield OwnAdmin(
        folder=tmp_path,
        first=first,
        statements=(WireConnection, "call"),
        logs_in=lambda one: server.lets_in(one.username, one.password.reveal()),
        scratch_logins=lambda: named("rotator_proof"),
    )
    server.run("ACL DELUSER", *named("admin_", "app_", "rotator"))


def _configure(own: OwnAdmin, server: ScratchValkey, strategy: str) -> None:
    name = own.first.username
    own.configure(
        f"  main: {{plugin: valkey, host: 127.0.0.1, port: {server.port}, admin: secret:main-admin}}\n",
        f"  main-admin: {{target: main, backend: local, strategy: {strategy},"
        f" {_OPTIONS[strategy].format(name)}}}\n"
        "  shop: {target: main, backend: local, strategy: new-user,"
        f" options: {{prefix: {name.replace('admin', 'app')}, like: reader}}}}\n",
    )


@pytest.mark.parametrize("strategy", _OPTIONS)
def test_the_admin_rotates_itself_and_other_secrets_follow(
    own: OwnAdmin, server: ScratchValkey, strategy: str
):
    """Also in a process whose idle sessions are those of the former admin."""
    _configure(own, server, strategy)
    own.expect_others_to_follow()


@pytest.mark.parametrize("strategy", ["single-user", "alternating-users"])
def test_a_killed_rotation_of_the_admin_goes_on_by_itself(
    own: OwnAdmin, server: ScratchValkey, strategy: str
):
    """At every instant the backend holds a password that the admin logs in with."""
    _configure(own, server, strategy)
    points = own.count()
    own.expect_survival(range(points // 4, points, points // 4))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("strategy", _OPTIONS)
def test_a_rotation_of_the_admin_may_be_killed_at_any_point(
    own: OwnAdmin, server: ScratchValkey, strategy: str
):
    """The same at each of them."""
    _configure(own, server, strategy)
    own.expect_survival(range(1, own.count() + 1))
