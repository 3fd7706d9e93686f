"""Servers that are set up otherwise: without passwords, with TLS, older."""

from __future__ import annotations

from pathlib import Path

import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Denied, Secret
from rotator.core.model import Outcome
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql.conftest import Harness

DEBIAN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
needs_debian = pytest.mark.skipif(
    DEBIAN is None, reason="needs Debian's server, which speaks TLS: apt-get install postgresql"
)


def test_a_server_that_asks_for_no_password_proves_nothing(harness: Harness):
    """`trust` in pg_hba.conf: the rotation stops before any effect and says why."""
    trusting = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 scram-sha-256",
        "host all all 127.0.0.1/32 trust",
    ]
    with ScratchPostgres(hba=trusting) as server:
        with server.connect() as admin:
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'x'")
        secret = harness.secret(
            target={"port": server.port, "dbname": "postgres"},
            admin=Credential(username="postgres", password=Secret(server.superuser_password)),
            group="app",
        )
        with pytest.raises(Denied, match="wrong password") as caught:
            harness.engine.adopt(
                secret, first=Credential(username="app", password=Secret("anything-at-all"))
            )
        assert "pg_hba.conf" in str(caught.value)
        assert harness.backend.current(secret.path) is None
        with server.connect() as admin:
            roles = admin.execute(
                "SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'"
            ).fetchone()
        assert roles == (2,)


@needs_debian
def test_tls_is_verified(tmp_path: Path):
    """verify-full with the right authority works; with another, or by a wrong name, it is refused."""
    with (
        ScratchPostgres(tls=True, binaries=DEBIAN) as server,
        ScratchPostgres(tls=True, binaries=DEBIAN) as other,
    ):
        admin = Credential(username="postgres", password=Secret(server.superuser_password))
        wrong = Credential(username="postgres", password=Secret("wrong-password"))

        def probe(credential: Credential, **options: object) -> bool:
            from rotator.testing.fakes import step_context

            target = PLUGIN.target(
                "t",
                TargetOptions(port=server.port, **options),
                lambda: admin,  # pyright: ignore[reportArgumentType]
            )
            rotation = target.rotation("single-user", SecretOptions(username="x"))
            return rotation.probe(credential, step_context())

        good = {"sslmode": "verify-full", "sslrootcert": server.ca_file}
        assert probe(admin, **good)
        assert not probe(wrong, **good)
        assert probe(admin, host="localhost", **good)
        with pytest.raises(Denied, match="TLS"):
            probe(admin, sslmode="verify-full", sslrootcert=other.ca_file)
        with pytest.raises(Denied, match="TLS"):
            probe(admin, sslmode="verify-full")


def test_a_remote_host_is_verified_unless_it_says_otherwise():
    """The default of libpq would take any server for ours."""
    assert TargetOptions(host="db.example.org").tls() == ("verify-full", "system")
    assert TargetOptions(host="10.0.0.5").tls() == ("verify-full", "system")
    assert TargetOptions(host="127.0.0.1").tls() == ("prefer", None)
    assert TargetOptions(host="/run/postgresql").tls() == ("prefer", None)
    assert TargetOptions(host="db", sslrootcert=Path("ca.pem")).tls() == ("verify-full", "ca.pem")


@needs_debian
@pytest.mark.parametrize("strategy", ["new-user", "alternating-users", "single-user"])
def test_an_older_server_rotates_as_well(harness: Harness, strategy: str):
    """PostgreSQL 15, where CREATEROLE still means more."""
    with ScratchPostgres(binaries=DEBIAN) as server:
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE app NOLOGIN")
            superuser.execute("CREATE ROLE adm LOGIN CREATEROLE PASSWORD 'admin-password'")
        secret = harness.secret(
            strategy,
            target={"port": server.port, "dbname": "postgres"},
            admin=Credential(username="adm", password=Secret("admin-password")),
            group="app",
            users=("a", "b") if strategy == "alternating-users" else (),
            username="s",
        )
        for _ in range(3):
            result = harness.engine.rotate(secret)
            assert (result.outcome, result.error) == (Outcome.DONE, None)
