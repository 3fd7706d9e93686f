"""Servers that are set up otherwise: with TLS, silent, or no MariaDB at all."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotations.mysql.server import Server
from rotator.api import Credential, Denied, Secret, Transient, Unavailable, UsageError
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from tests.servers.mariadb import PACKAGES, ScratchMariaDB, is_installed

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.api import Rotation

pytestmark = pytest.mark.skipif(
    not is_installed(), reason=f"no MariaDB server: apt-get install {PACKAGES}"
)


def _rotation(server: ScratchMariaDB, **options: Any) -> Rotation:
    admin = Credential(username="root", password=Secret(server.root_password))
    place = {"host": server.host, "port": server.port, **options}
    target = PLUGIN.target("t", TargetOptions(**place), lambda: admin)
    return target.rotation("dual-password", SecretOptions(username="app"))


def test_tls_is_verified(tmp_path: Path):
    """verify-full with the right authority works; with another it is refused, not gone without."""
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        make_certificates(tmp_path / name)
    own = tmp_path / "own"
    options = (
        f"--ssl-cert={own}/server.crt",
        f"--ssl-key={own}/server.key",
        f"--ssl-ca={own}/ca.crt",
    )
    with ScratchMariaDB(*options) as server:
        root = Credential(username="root", password=Secret(server.root_password))
        wrong = Credential(username="root", password=Secret("wrong-password"))
        good = {"sslmode": "verify-full", "sslrootcert": own / "ca.crt"}
        assert _rotation(server, **good).probe(root, step_context())
        assert not _rotation(server, **good).probe(wrong, step_context())
        assert _rotation(server, sslmode="require").probe(root, step_context())
        for bad in (
            {"sslmode": "verify-full", "sslrootcert": tmp_path / "other" / "ca.crt"},
            {"sslmode": "verify-ca", "sslrootcert": tmp_path / "other" / "ca.crt"},
            {"sslmode": "verify-full"},
        ):
            with pytest.raises(Unavailable, match="TLS"):
                _rotation(server, **bad).probe(root, step_context())


def test_a_server_without_tls_is_not_spoken_to_in_the_clear():
    """Where TLS is asked for, no password leaves without it."""
    with ScratchMariaDB() as server:
        root = Credential(username="root", password=Secret(server.root_password))
        with pytest.raises(Unavailable, match="TLS"):
            _rotation(server, sslmode="require").probe(root, step_context())


def test_a_remote_host_is_verified_unless_it_says_otherwise():
    """This machine needs no TLS."""
    assert TargetOptions(host="db.example.org").tls == "verify-full"
    assert TargetOptions(host="10.0.0.5").tls == "verify-full"
    assert TargetOptions(host="127.0.0.1").tls == "disable"
    assert TargetOptions(host="/run/mysqld/mysqld.sock").tls == "disable"
    assert TargetOptions(host="db", sslmode="require").tls == "require"


def test_a_server_that_is_too_old_is_refused_before_anything_is_sent_to_it():
    """Its statements are others; to guess would be to lock somebody out."""
    with ScratchMariaDB("--version=10.3.39-MariaDB") as server:
        server.run("CREATE USER app@'%' IDENTIFIED BY 'first'")
        rotation = _rotation(server)
        current = Credential(username="app", password=Secret("first"))
        with pytest.raises(Denied, match=r"10\.3\.39-MariaDB"):
            rotation.create(
                Credential(username="app", password=Secret("second")),
                step_context(current=current, adopted=frozenset({"app"})),
            )
        assert rotation.probe(current, step_context())


def test_a_host_that_is_silent_is_told_as_unreachable():
    """Not as a wrong password."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        admin = Credential(username="root", password=Secret("x"))
        options = TargetOptions(port=silent.getsockname()[1], connect_timeout=1)
        rotation = PLUGIN.target("t", options, lambda: admin).rotation(
            "dual-password", SecretOptions(username="app")
        )
        with pytest.raises(Transient, match="is unreachable"):
            rotation.probe(admin, step_context())


def test_a_statement_may_take_longer_than_a_connection(mariadb: ScratchMariaDB):
    """`connect_timeout` ends with the login."""
    root = Credential(username="root", password=Secret(mariadb.root_password))
    options = TargetOptions(host=mariadb.host, port=mariadb.port, connect_timeout=1)
    connection = Server("t", options, lambda: root).login(root)
    assert connection is not None
    assert connection.run("SELECT SLEEP(1.3)") == [(0,)]
    connection.close()


@pytest.mark.parametrize(
    ("strategy", "options", "said"),
    [
        ("alternating-users", {"users": ("a",)}, "two different"),
        ("new-user", {}, "prefix"),
        ("dual", {}, "no strategy"),
    ],
)
def test_options_that_make_no_sense_are_refused(strategy: str, options: Any, said: str):
    """Before anything is connected."""
    target = PLUGIN.target(
        "t", TargetOptions(), lambda: Credential(username="x", password=Secret("y"))
    )
    with pytest.raises(UsageError, match=said):
        target.rotation(strategy, SecretOptions(**options))


@pytest.mark.parametrize("name", ["", "x" * 81, "blank ", "nul\0", "\U0001f600"])
def test_names_that_the_server_would_not_keep_are_refused(name: str):
    """It would cut them, and rotate another login."""
    with pytest.raises(UsageError):
        SecretOptions(username=name)
