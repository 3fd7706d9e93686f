"""A rejected login has a cause of its own, in any language of the server."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.errors import meaning
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import (
    Conflict,
    Credential,
    Denied,
    Refused,
    Secret,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
)
from rotator.system import SystemClock
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql.test_servers import DEBIAN, needs_debian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.api import Rotation, StepContext, Target

_PASSWORD = "the-right-password"
_ROLES = """
CREATE ROLE fine LOGIN PASSWORD 'the-right-password';
CREATE ROLE closed NOLOGIN PASSWORD 'the-right-password';
CREATE ROLE expired LOGIN PASSWORD 'the-right-password' VALID UNTIL '2026-01-01';
CREATE ROLE bare LOGIN;
CREATE ROLE crowded LOGIN PASSWORD 'the-right-password' CONNECTION LIMIT 0;
CREATE ROLE outside LOGIN PASSWORD 'the-right-password';
"""
_HBA = (
    "local all all scram-sha-256",
    "host all outside 127.0.0.1/32 reject",
    "host all all 127.0.0.1/32 scram-sha-256",
)
# Who logs in with which password, whether the target accepts it (None: it raises), and why not.
_CASES = {
    "right password": ("fine", _PASSWORD, True, "", ""),
    "wrong password": ("fine", "another-password", False, "password", "wrong"),
    "no such role": ("nobody_here", _PASSWORD, False, "missing", "does not exist"),
    "NOLOGIN": ("closed", _PASSWORD, False, "nologin", "NOLOGIN"),
    "expired": ("expired", _PASSWORD, False, "expired", "2026-01-01"),
    "no password": ("bare", _PASSWORD, False, "no password", "has no password"),
    "limit of the role": ("crowded", _PASSWORD, True, "limit", "connection limit of 0"),
    "limit, and a wrong password": ("crowded", "another-password", False, "password", "wrong"),
    "rejected by pg_hba.conf": ("outside", _PASSWORD, None, "hba", "pg_hba.conf"),
}


_opened: list[Target] = []


@pytest.fixture(autouse=True)
def targets() -> Iterator[None]:
    """Let go of the connections of a test's targets."""
    yield
    while _opened:
        _opened.pop().close()


def _ctx(seconds: float = 20.0) -> StepContext:
    return step_context(clock=SystemClock(), timeout=seconds)


def _rotation(
    server: ScratchPostgres,
    *,
    admin: Credential | None = None,
    secret: dict[str, Any] | None = None,
    **target: Any,
) -> Rotation:
    who = admin or Credential(username=server.superuser, password=Secret(server.superuser_password))
    options = TargetOptions(**({"port": server.port} | target))
    opened = PLUGIN.target("main", options, lambda: who)
    _opened.append(opened)
    return opened.rotation("single-user", SecretOptions(username="fine", **(secret or {})))


def _credential(name: str, password: str = _PASSWORD) -> Credential:
    return Credential(username=name, password=Secret(password))


@pytest.fixture(scope="module", params=["C", "de_DE"])
def speaking(request: pytest.FixtureRequest) -> Iterator[ScratchPostgres]:
    """A server that speaks English, and one that speaks German where one can be had."""
    if request.param == "C":
        with ScratchPostgres(hba=_HBA) as server, server.connect() as admin:
            admin.execute(_ROLES)
            yield server
        return
    if DEBIAN is None:
        pytest.skip("needs Debian's server with its translations: apt-get install postgresql")
    with pytest.MonkeyPatch.context() as patch:
        # The translation is found by LANGUAGE, so no locale has to be generated.
        patch.setenv("LANGUAGE", "de")
        with (
            ScratchPostgres(
                hba=_HBA, binaries=DEBIAN, settings={"lc_messages": "C.UTF-8"}
            ) as server,
            server.connect() as admin,
        ):
            admin.execute(_ROLES)
            with pytest.raises(psycopg.OperationalError) as caught:
                server.connect(user="fine", password="wrong")
            if "Passwort" not in str(caught.value):
                pytest.skip("this server has no German translation")
            yield server


@pytest.mark.parametrize("case", _CASES)
def test_each_rejection_has_its_cause(speaking: ScratchPostgres, case: str):
    """By SQLSTATE and catalog: the server's words are for people only."""
    name, password, accepted, cause, text = _CASES[case]
    rotation, login = _rotation(speaking), _credential(name, password)
    if accepted is None:
        with pytest.raises(Denied, match=text):
            rotation.probe(login, _ctx())
    else:
        assert rotation.probe(login, _ctx()) is accepted
    found = rotation.rejection(login, _ctx())
    if not cause:
        assert found is None
        return
    assert found is not None
    assert (found.cause, text in found.text) == (cause, True), found
    assert found.hint
    assert password not in f"{found}"


def test_the_remedy_of_an_expired_login_works_as_it_is_printed(speaking: ScratchPostgres):
    """Pasted, it lets the login authenticate again."""
    with speaking.connect() as admin:
        admin.execute(
            "CREATE ROLE past LOGIN PASSWORD 'the-right-password' VALID UNTIL '2026-01-01'"
        )
        found = _rotation(speaking).rejection(_credential("past"), _ctx())
        assert found is not None
        admin.execute(found.hint.encode())
        assert _rotation(speaking).probe(_credential("past"), _ctx())
        admin.execute("DROP ROLE past")


@pytest.mark.parametrize("which", ["database missing", "CONNECT denied", "database closed"])
def test_a_database_that_does_not_take_the_login_is_named(speaking: ScratchPostgres, which: str):
    """Each with its own remedy."""
    said = {
        "database missing": ("nowhere", "does not exist", "login_dbname"),
        "CONNECT denied": ("theirs", "lacks the right to connect", "GRANT CONNECT"),
        "database closed": ("shut", "accepts no connections", "ALLOW_CONNECTIONS"),
    }
    dbname, text, hint = said[which]
    with speaking.connect() as admin:
        if which == "CONNECT denied":
            admin.execute("CREATE DATABASE theirs")
            admin.execute("REVOKE CONNECT ON DATABASE theirs FROM PUBLIC")
        if which == "database closed":
            admin.execute("CREATE DATABASE shut ALLOW_CONNECTIONS false")
    rotation = _rotation(speaking, secret={"login_dbname": dbname})
    with pytest.raises(Denied, match=text) as caught:
        rotation.probe(_credential("fine"), _ctx())
    assert hint in caught.value.hint


@pytest.mark.parametrize("what", ["a missing library", "a login event trigger"])
def test_an_error_after_authentication_names_what_may_cause_it(
    speaking: ScratchPostgres, what: str
):
    """The settings of a login and event triggers are looked at after the password."""
    with speaking.connect() as admin:
        if what == "a missing library":
            admin.execute("CREATE ROLE late LOGIN PASSWORD 'the-right-password'")
            admin.execute("ALTER ROLE late SET session_preload_libraries = 'nowhere'")
        elif admin.info.server_version < 170_000:
            pytest.skip("login event triggers came with PostgreSQL 17")
        else:
            admin.execute("CREATE ROLE late LOGIN PASSWORD 'the-right-password'")
            admin.execute(
                "CREATE FUNCTION turn_away() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN"
                " IF session_user = 'late' THEN RAISE EXCEPTION 'no'; END IF; END$$"
            )
            admin.execute("CREATE EVENT TRIGGER gate ON login EXECUTE FUNCTION turn_away()")
        try:
            with pytest.raises(Denied, match="SQLSTATE") as caught:
                _rotation(speaking).probe(_credential("late"), _ctx())
            queries = caught.value.hint.partition(": ")[2].split("; ")
            assert any(admin.execute(query.encode()).fetchall() for query in queries)
        finally:
            admin.execute("DROP EVENT TRIGGER IF EXISTS gate")
            admin.execute("DROP FUNCTION IF EXISTS turn_away; DROP ROLE late")


@pytest.mark.parametrize("who", ["wrong password", "no CREATEROLE", "expired", "pg_hba.conf"])
def test_an_admin_that_is_rejected_makes_the_whole_target_wait(speaking: ScratchPostgres, who: str):
    """It is a fault of the target, not of one of its secrets."""
    admins = {
        "wrong password": _credential(speaking.superuser, "wrong"),
        "no CREATEROLE": _credential("fine"),
        "expired": _credential("expired"),
        "pg_hba.conf": _credential("outside"),
    }
    rotation = _rotation(speaking, admin=admins[who])
    new = _credential("another", "some-new-password")
    with pytest.raises(Unavailable, match="admin login") as caught:
        rotation.create(new, _ctx())
    assert caught.value.hint


@contextmanager
def _listening(answer: bytes | None) -> Iterator[int]:
    """Listen as something that is not PostgreSQL; `answer` None: accept, and stay silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_ends: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    end, _ = listener.accept()
                except OSError:
                    return
                open_ends.append(end)
                if answer is not None:
                    _ = end.recv(64)
                    end.sendall(answer)
                    end.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        for end in open_ends:
            end.close()


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
def test_a_port_that_does_not_speak_postgresql_is_named(speaking: ScratchPostgres, mode: str):
    """An HTTP server, for example: no word of a certificate authority."""
    with _listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        rotation = _rotation(speaking, port=port, sslmode=mode)
        with pytest.raises(Denied, match="does not speak PostgreSQL") as caught:
            rotation.probe(_credential("fine"), _ctx())
        assert "host" in caught.value.hint


def test_a_server_without_tls_is_named(speaking: ScratchPostgres):
    """With the two ways out."""
    rotation = _rotation(speaking, sslmode="require")
    with pytest.raises(Denied, match="has no TLS") as caught:
        rotation.probe(_credential("fine"), _ctx())
    assert "sslmode" in caught.value.hint


# -- TLS, and client certificates -------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[ScratchPostgres, Path]]:
    """A server that asks some for TLS and some for a certificate, and the folder of a client's."""
    if DEBIAN is None:
        pytest.skip("needs Debian's server, which speaks TLS: apt-get install postgresql")
    with TemporaryDirectory(prefix="rotator-client-") as name:
        folder = Path(name)
        make_certificates(folder)
        authority = folder / "authority.crt"
        _ = authority.write_bytes((folder / "ca.crt").read_bytes())
        # The server runs as a user of its own, and has to read the authority.
        for one in (folder, authority):
            one.chmod(0o755)
        with _guarded(authority) as server:
            yield server, folder


@contextmanager
def _guarded(authority: Path) -> Iterator[ScratchPostgres]:
    hba = (
        "local all all scram-sha-256",
        "hostssl all fine 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
        "hostssl all crowded 127.0.0.1/32 scram-sha-256",
        "host all postgres 127.0.0.1/32 scram-sha-256",
    )
    settings = {"ssl_ca_file": str(authority)}
    with (
        ScratchPostgres(tls=True, binaries=DEBIAN, hba=hba, settings=settings) as server,
        server.connect() as admin,
    ):
        admin.execute(_ROLES)
        yield server


@needs_debian
def test_a_login_that_needs_tls_is_told_so(guarded: tuple[ScratchPostgres, Path]):
    """By the server's own rules, which the admin may read."""
    server, _ = guarded
    with pytest.raises(Denied, match="requires TLS") as caught:
        _rotation(server, sslmode="disable").probe(_credential("crowded"), _ctx())
    assert "sslmode" in caught.value.hint


@needs_debian
def test_a_login_that_needs_a_client_certificate_uses_its_own(
    guarded: tuple[ScratchPostgres, Path],
):
    """Without one it is named what is missing; with one it authenticates."""
    server, folder = guarded
    with pytest.raises(Denied, match="requires a client certificate") as caught:
        _rotation(server, sslmode="require").probe(_credential("fine"), _ctx())
    assert "sslcert" in caught.value.hint
    files = {"sslcert": folder / "server.crt", "sslkey": folder / "server.key"}
    assert _rotation(server, sslmode="require", secret=files).probe(_credential("fine"), _ctx())
    assert _rotation(server, sslmode="require", **files).probe(_credential("fine"), _ctx())


@needs_debian
def test_a_private_key_that_others_can_read_is_refused(
    guarded: tuple[ScratchPostgres, Path], tmp_path: Path
):
    """As libpq does, but with a remedy."""
    server, folder = guarded
    key = tmp_path / "open.key"
    _ = key.write_bytes((folder / "server.key").read_bytes())
    key.chmod(0o644)
    files = {"sslcert": folder / "server.crt", "sslkey": key}
    with pytest.raises(Unavailable, match="is readable by other users") as caught:
        _rotation(server, sslmode="require", **files).probe(_credential("fine"), _ctx())
    assert caught.value.hint == f"chmod 600 {key}"
    key.chmod(0o600)
    assert _rotation(server, sslmode="require", **files).probe(_credential("fine"), _ctx())


@needs_debian
def test_an_untrusted_server_and_one_of_another_name_are_told_apart(
    guarded: tuple[ScratchPostgres, Path], monkeypatch: pytest.MonkeyPatch
):
    """Each with its own remedy."""
    server, folder = guarded
    known = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **named: known(
            "127.0.0.1" if host == "db.example.org" else host, *more, **named
        ),
    )
    own, other = server.ca_file, folder / "ca.crt"
    with pytest.raises(Denied, match="is not trusted") as caught:
        _rotation(server, sslmode="verify-full", sslrootcert=other).probe(
            _credential("crowded"), _ctx()
        )
    assert "sslrootcert" in caught.value.hint
    with pytest.raises(Denied, match="is not valid for") as caught:
        _rotation(server, sslmode="verify-full", sslrootcert=own, host="db.example.org").probe(
            _credential("crowded"), _ctx()
        )
    assert "verify-ca" in caught.value.hint


def test_a_certificate_without_its_key_is_a_mistake(tmp_path: Path):
    """Found when the configuration is read."""
    with pytest.raises(UsageError, match="or neither"):
        _ = TargetOptions(sslcert=tmp_path / "a.crt")
    with pytest.raises(UsageError, match="or neither"):
        _ = SecretOptions(sslkey=tmp_path / "a.key")


# -- what each class of errors means ----------------------------------------------------------------

_MEANS = {
    "": Unknown,
    "08006": Unknown,
    "0LP01": Denied,
    "22023": Refused,
    "23505": Transient,
    "25006": Unavailable,
    "25P02": Transient,
    "25P04": Transient,
    "28000": Denied,
    "2BP01": Conflict,
    "3D000": Denied,
    "40001": Transient,
    "40003": Unknown,
    "40P01": Transient,
    "42501": Denied,
    "42710": Conflict,
    "42P01": Denied,
    "53100": Unavailable,
    "53200": Transient,
    "53300": Transient,
    "55006": Transient,
    "55P03": Transient,
    "57014": Transient,
    "57P01": Unknown,
    "57P02": Unknown,
    "57P03": Transient,
    "57P05": Transient,
    "58030": Transient,
    "XX000": Transient,
    "XX001": Denied,
}


@pytest.mark.parametrize("state", _MEANS)
def test_each_class_of_errors_means_one_thing(state: str):
    """A statement that was answered by an error was rolled back; a broken connection tells nothing."""
    assert meaning(state) is _MEANS[state]
