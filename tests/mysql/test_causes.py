"""Why a login is rejected, and why a server cannot be used: by number and catalog, on servers that speak German."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.failure_causes import is_for
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import (
    Credential,
    Denied,
    Secret,
    StepError,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.testing.certificates import make_certificates
from rotator.testing.fakes import step_context
from tests.harness import FIRST, parts
from tests.mysql.dialects import DIALECTS
from tests.mysql.profiles import LoginFixture
from tests.mysql.test_rotating import Harness

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.mysql.dialects import Dialect

_numbers = itertools.count(1)
BOTH = ("MariaDB", "MySQL")
UNBLOCKED = ("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda one: one.product)
def german(request: pytest.FixtureRequest, certificates: Path) -> Iterator[Any]:
    """Start a server with TLS whose messages are German."""
    dialect: Dialect = request.param
    if dialect.missing:
        pytest.skip(dialect.missing)
    options = (
        "--lc-messages=de_DE",
        f"--ssl-ca={certificates}/ca.crt",
        f"--ssl-cert={certificates}/server.crt",
        f"--ssl-key={certificates}/server.key",
    )
    with dialect.start(*options) as server:
        yield dialect, server


@pytest.fixture
def fixture(german: Any) -> Iterator[LoginFixture]:
    dialect, server = german
    made = LoginFixture(server=server, dialect=dialect, name=f"cause{next(_numbers)}")
    yield made
    made.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One account that rejects us. `{0}`: its name; `account`: whom it is for."""

    cause: str
    made: tuple[str, ...]
    says: str
    remedy: str
    on: tuple[str, ...] = BOTH
    account: str = "{0}@'%'"
    target: dict[str, Any] = field(default_factory=dict)
    given: str = FIRST


MADE = f"CREATE USER {{0}} IDENTIFIED BY '{FIRST}'"
ROWS = (
    Row(cause="login", made=(), says="the server has no account", remedy="create the account"),
    Row(
        cause="password",
        made=(MADE,),
        says="the password is wrong",
        remedy="ALTER USER `cause",
        given="another-password-1",
    ),
    Row(
        cause="host",
        made=(MADE,),
        account="{0}@'10.20.%'",
        says="for '10.20.%', but rotator connects from '127.0.0.1'",
        remedy="@`127.0.0.1` IDENTIFIED BY",
    ),
    Row(
        cause="anonymous",
        made=(MADE, "CREATE USER ''@'127.0.0.1' IDENTIFIED BY 'somebody-1'"),
        says="the anonymous account ''@'127.0.0.1' takes precedence over",
        remedy="DROP USER ``@`127.0.0.1`;",
    ),
    Row(
        cause="locked",
        made=(f"{MADE} ACCOUNT LOCK",),
        says="is locked",
        remedy="ACCOUNT UNLOCK;",
    ),
    Row(
        cause="expired",
        made=(f"{MADE} PASSWORD EXPIRE",),
        says="has expired",
        remedy="IDENTIFIED BY '...';",
    ),
    Row(
        cause="tls",
        made=(f"{MADE} REQUIRE SSL",),
        says="requires SSL, but rotator connects without TLS",
        remedy="sslmode: require",
    ),
    Row(
        cause="tls",
        made=(f"{MADE} REQUIRE X509",),
        says="requires X509, but rotator connects without TLS",
        remedy="sslcert",
    ),
    Row(
        cause="certificate",
        made=(f"{MADE} REQUIRE X509",),
        says="requires X509, but rotator sends no certificate",
        remedy="Set `sslcert` and `sslkey`",
        target={"sslmode": "require"},
    ),
    Row(
        cause="certificate",
        made=(f"{MADE} REQUIRE SUBJECT '/CN=somebody'",),
        says="which the certificate in `sslcert` does not satisfy",
        remedy="the certificate that the account requires",
        target={"sslmode": "require", "sslcert": "server.crt", "sslkey": "server.key"},
    ),
    Row(
        cause="plugin",
        made=("CREATE USER {0} IDENTIFIED VIA unix_socket",),
        says="authenticates by unix_socket",
        remedy="mysql_native_password",
        on=("MariaDB",),
    ),
)


def _target(row: Row, certificates: Path) -> dict[str, Any]:
    return {
        key: certificates / value if key in ("sslcert", "sslkey") else value
        for key, value in row.target.items()
    }


def _make(fixture: LoginFixture, row: Row) -> Credential:
    account = row.account.format(f"`{fixture.name}`")
    fixture.server.run("DO 1", *(one.replace("{0}", account) for one in row.made))
    return Credential(username=fixture.name, password=Secret(row.given))


@pytest.mark.parametrize("row", ROWS, ids=lambda one: f"{one.cause} {one.says[:12]}")
def test_a_rejected_login_is_told_with_its_cause_and_remedy(
    fixture: LoginFixture, certificates: Path, row: Row
):
    """Servers answer most of these alike; the catalog tells them apart."""
    if fixture.dialect.product not in row.on:
        pytest.skip(f"{fixture.dialect.product} has no such thing")
    credential = _make(fixture, row)
    rotation = fixture.rotation("dual-password", **_target(row, certificates))
    ctx = fixture.context(credential)
    assert rotation.probe(credential, ctx) is False
    found = rotation.rejection(credential, ctx)
    assert found is not None
    assert found.cause == row.cause
    assert row.says in found.text
    assert row.remedy in found.hint
    fixture.server.run("DROP USER IF EXISTS ''@'127.0.0.1'")
    fixture.server.run(f"DROP USER IF EXISTS `{fixture.name}`@'10.20.%'")


@pytest.mark.parametrize("cause", ["host", "tls", "expired", "locked"])
def test_adopt_tells_the_cause_and_not_a_wrong_password(
    fixture: LoginFixture, certificates: Path, tmp_path: Path, cause: str
):
    """It changes nothing, and its hint is the remedy."""
    row = next(one for one in ROWS if one.cause == cause)
    credential = _make(fixture, row)
    harness = Harness(
        server=fixture.server,
        dialect=fixture.dialect,
        name=fixture.name,
        **parts(tmp_path / "h"),
    )
    with pytest.raises(UsageError) as told:
        harness.engine.adopt(harness.secret("dual-password"), first=credential)
    assert row.says in told.value.what
    assert row.remedy in told.value.hint
    assert "wrong" not in told.value.what
    harness.end()
    fixture.server.run(f"DROP USER IF EXISTS `{fixture.name}`@'10.20.%'")


def test_what_is_served_and_rejected_is_told_with_its_cause(fixture: LoginFixture, tmp_path: Path):
    """By `verify`, in its record too."""
    fixture.run(MADE)
    harness = Harness(
        server=fixture.server,
        dialect=fixture.dialect,
        name=fixture.name,
        **parts(tmp_path / "h"),
    )
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    fixture.run("ALTER USER {0} ACCOUNT LOCK")
    health = harness.engine.check(secret)
    assert (health.accepted, health.rejection.cause) == (False, "locked")
    assert harness.journal.events(secret.name)[-1].data["cause"] == "locked"
    harness.end()


def test_a_blocked_application_is_not_called_safe(fixture: LoginFixture, tmp_path: Path):
    """Somebody's wrong passwords have blocked it: whatever rotator did not touch, it does not log in."""
    fixture.run(MADE)
    harness = Harness(
        server=fixture.server,
        dialect=fixture.dialect,
        name=fixture.name,
        **parts(tmp_path / "h"),
    )
    secret = harness.secret("dual-password")
    harness.adopt(secret)
    limit = (
        "ALTER USER {0} FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1"
        if fixture.dialect.product == "MySQL"
        else "SET GLOBAL max_password_errors = 3"
    )
    fixture.run(limit)
    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017, PT011 # whichever the driver's is
            fixture.server.connect(fixture.name, "wrong")
    rotation, ctx = (
        fixture.rotation("dual-password"),
        fixture.context(fixture.current),
    )
    with pytest.raises(Denied, match="has blocked login") as told:
        rotation.probe(harness.serves(secret), ctx)
    assert "NOT safe" in told.value.safety
    assert ("ACCOUNT UNLOCK" if fixture.dialect.product == "MySQL" else "FLUSH") in told.value.hint
    if fixture.dialect.product == "MySQL":
        error = harness.engine.rotate(secret).error
        assert error is not None
        assert "has blocked login" in error.what
        assert "is safe" not in error.safety
    fixture.run(*(() if fixture.dialect.product == "MySQL" else UNBLOCKED))
    harness.end()


def test_an_account_that_counts_wrong_passwords_is_not_tried_with_one(fixture: LoginFixture):
    """The engine's negative control asks before."""
    fixture.run(MADE)
    rotation, ctx = (
        fixture.rotation("dual-password"),
        fixture.context(fixture.current),
    )
    assert not rotation.may_lock(fixture.name, ctx)
    if fixture.dialect.product == "MySQL":
        fixture.run("ALTER USER {0} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")
    else:
        fixture.run("SET GLOBAL max_password_errors = 9")
    assert rotation.may_lock(fixture.name, ctx)
    if fixture.dialect.product == "MariaDB":
        fixture.run("SET GLOBAL max_password_errors = DEFAULT")


# -- certificates ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["dual-password", "new-user"])
def test_a_login_that_requires_a_certificate_is_rotated_with_one(
    fixture: LoginFixture, certificates: Path, strategy: str
):
    """The admin shows it too; what replaces the login requires the same."""
    fixture.run(
        f"{MADE} REQUIRE SUBJECT '/CN=localhost' AND ISSUER '/CN=rotator scratch CA'",
    )
    before = fixture.profile(fixture.name)
    new = fixture.rotate(
        strategy,
        Credential(username=fixture.name, password=Secret(FIRST)),
        sslrootcert=certificates / "ca.crt",
        sslcert=certificates / "server.crt",
        sslkey=certificates / "server.key",
    )
    assert fixture.profile(new.username) == before


def test_a_key_that_others_can_read_is_refused(
    fixture: LoginFixture, certificates: Path, tmp_path: Path
):
    """As SSH refuses it."""
    key = tmp_path / "open.key"
    key.write_bytes((certificates / "server.key").read_bytes())
    key.chmod(0o644)
    rotation = fixture.rotation(
        "dual-password", sslmode="require", sslcert=certificates / "server.crt", sslkey=key
    )
    with pytest.raises(Denied, match="is readable by other users") as told:
        rotation.probe(fixture.current, fixture.context(fixture.current))
    assert told.value.hint == f"chmod 600 {key}"


def test_certificate_and_key_belong_together():
    """One of them is no use."""
    from pathlib import Path

    with pytest.raises(UsageError, match="or neither"):
        TargetOptions(sslcert=Path("a.crt"))
    with pytest.raises(UsageError, match="requires TLS"):
        TargetOptions(sslcert=Path("a.crt"), sslkey=Path("a.key"), sslmode="disable")
    assert TargetOptions(sslcert=Path("a.crt"), sslkey=Path("a.key")).tls == "verify-full"


def test_a_wrong_authority_and_a_wrong_name_are_told_apart(
    fixture: LoginFixture, certificates: Path, tmp_path: Path
):
    """They have different remedies."""
    (tmp_path / "other").mkdir()
    make_certificates(tmp_path / "other")
    with _named(fixture.server.port) as (host, port):
        cases: list[tuple[dict[str, Any], str]] = [
            ({"sslrootcert": tmp_path / "other" / "ca.crt"}, "certificate authority"),
            (
                {"sslrootcert": certificates / "ca.crt", "host": host, "port": port},
                "a name in the certificate",
            ),
        ]
        for options, remedy in cases:
            rotation = fixture.rotation("dual-password", sslmode="verify-full", **options)
            with pytest.raises(Unavailable) as told:
                rotation.probe(fixture.current, fixture.context(fixture.current))
            assert remedy in told.value.hint


@contextmanager
def _named(port: int) -> Generator[tuple[str, int]]:
    """Offer a server at an address that is not in its certificate."""
    with socket.create_server(("127.0.0.2", 0)) as listening:

        def serve() -> None:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pump, args=(near, far), daemon=True).start()
            _pump(far, near)

        threading.Thread(target=serve, daemon=True).start()
        yield "127.0.0.2", listening.getsockname()[1]


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        sink.close()


# -- the server as a whole ---------------------------------------------------------------------


def test_a_server_that_wants_tls_is_told_with_the_option_that_gives_it(fixture: LoginFixture):
    """All secrets of the target wait; none is parked."""
    fixture.run("CREATE USER {0} IDENTIFIED BY '{first}'")
    rotation, ctx = (
        fixture.rotation("dual-password"),
        fixture.context(fixture.current),
    )
    _ = rotation.may_lock(fixture.name, ctx)
    with fixture.server.connect() as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL require_secure_transport = ON")
        try:
            if fixture.dialect.product == "MySQL":
                with pytest.raises(Unavailable, match="TLS only") as told:
                    rotation.probe(fixture.current, ctx)
                assert "sslmode: require" in told.value.hint
                return
            # MariaDB answers 1045: whoever is connected already can look why, who is not cannot.
            assert not rotation.may_lock(fixture.name, ctx)
            assert not rotation.probe(fixture.current, ctx)
            found = rotation.rejection(fixture.current, ctx)
            assert (found.cause, "sslmode: require" in found.hint) == ("tls", True)
            with pytest.raises(Unavailable) as refused:
                fixture.rotation("dual-password").may_lock(fixture.name, ctx)
            assert "sslmode: require" in refused.value.hint
        finally:
            cursor.execute("SET GLOBAL require_secure_transport = OFF")


def test_a_limit_of_the_account_proves_the_password(fixture: LoginFixture):
    """It is looked at after the password."""
    fixture.run(f"{MADE} WITH MAX_USER_CONNECTIONS 1")
    rotation, ctx = (
        fixture.rotation("dual-password"),
        fixture.context(fixture.current),
    )
    credential = Credential(username=fixture.name, password=Secret(FIRST))
    with fixture.server.connect(fixture.name, FIRST):
        assert rotation.probe(credential, ctx)
        assert not rotation.probe(replace(credential, password=Secret("wrong")), ctx)


def test_an_admin_that_is_rejected_makes_all_secrets_of_the_target_wait(fixture: LoginFixture):
    """With where to look; nothing is parked."""
    fixture.run(MADE)
    fixture.admin = Credential(username="root", password=Secret("not-roots-password"))
    rotation, ctx = (
        fixture.rotation("dual-password"),
        fixture.context(fixture.current),
    )
    with pytest.raises(Unavailable, match="rejects the admin login 'root'") as told:
        rotation.create(fixture.current, ctx)
    assert "`admin` of target 't'" in told.value.hint


def test_an_admin_without_create_user_is_told_with_the_grant(fixture: LoginFixture):
    """What every rotation needs; on MySQL by its name there."""
    fixture.run("CREATE USER {0} IDENTIFIED BY '{first}'", "GRANT SELECT ON mysql.* TO {0}")
    fixture.run(MADE, login=fixture.other)
    fixture.admin = fixture.current
    victim = Credential(username=fixture.other, password=Secret(FIRST))
    rotation, ctx = fixture.rotation("dual-password"), fixture.context(victim)
    new = rotation.propose(victim, ctx)
    with pytest.raises(Unavailable) as told:
        rotation.create(new, ctx)
    ends = "CONNECTION_ADMIN" if fixture.dialect.product == "MySQL" else "CONNECTION ADMIN"
    assert (
        told.value.hint
        == f"As root: GRANT CREATE USER, PROCESS, {ends} ON *.* TO `{fixture.name}`@`%`;"
    )


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [("read_only", "Set `host` to the primary"), ("transaction_read_only", "")],
)
def test_a_server_that_may_not_be_written_is_told_by_its_variables(
    fixture: LoginFixture, variable: str, remedy: str
):
    """A default of read-only transactions is no obstacle: rotator's own are not."""
    if fixture.dialect.product == "MariaDB":
        variable = variable.replace("transaction", "tx")
    fixture.run(MADE)
    fixture.run("CREATE USER {0} IDENTIFIED BY '{first}'", login=f"{fixture.name}_admin")
    fixture.run("GRANT CREATE USER, PROCESS, SELECT ON *.* TO {0}", login=f"{fixture.name}_admin")
    fixture.admin = Credential(
        username=f"{fixture.name}_admin", password=Secret("There-before-us-1")
    )
    current = Credential(username=fixture.name, password=Secret(FIRST))
    fixture.run(f"SET GLOBAL {variable} = ON")
    try:
        if not remedy:
            fixture.rotate("dual-password", current)
            return
        rotation, ctx = fixture.rotation("dual-password"), fixture.context(current)
        with pytest.raises(Unavailable) as told:
            rotation.create(rotation.propose(current, ctx), ctx)
        assert remedy in told.value.hint
    finally:
        with fixture.server.connect() as root:
            root.cursor().execute("SET SESSION TRANSACTION READ WRITE")
            root.cursor().execute(f"SET GLOBAL {variable} = OFF")


@pytest.mark.parametrize(
    ("number", "kind", "says", "remedy"),
    [
        (1040, Unavailable, "max_connections", "max_connections"),
        (1053, Transient, "is shutting down", ""),
        (1129, Unavailable, "max_connect_errors", "FLUSH HOSTS"),
        (
            1130,
            Unavailable,
            "no account for rotator's client address",
            "Create the admin's account",
        ),
        (1184, Unavailable, "init_connect fails", "init_connect"),
        (1203, Transient, "accepts the password", "SHOW PROCESSLIST"),
        (1251, Denied, "old protocol", "ALTER USER"),
        (1524, Denied, "has not loaded the authentication plugin", "caching_sha2_password"),
        (3032, Unavailable, "offline mode", "SET GLOBAL offline_mode = OFF;"),
        (3159, Unavailable, "TLS only", "sslmode: require"),
        (3955, Denied, "has blocked login 'app'", "ACCOUNT UNLOCK"),
        (4150, Denied, "has blocked login 'app'", "FLUSH PRIVILEGES;"),
    ],
)
def test_a_server_that_turns_everybody_away_is_told_by_its_number(
    number: int, kind: type[StepError], says: str, remedy: str
):
    """Whatever its text says, in whatever language."""
    text = b"ganz etwas anderes: SSL certificate denied"
    body = b"\xff" + struct.pack("<H", number) + text
    with _answering(struct.pack("<I", len(body))[:3] + b"\0" + body) as port:
        error = _probed(port)
    assert type(error) is kind
    assert says in error.what
    assert remedy in error.hint
    assert "certificate authority" not in error.hint


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command\r\n",
        b"\x00" * 40,
        b"\x05\x00\x00\x00\x0aabcd",
        b"E\x00\x00\x00\x8dSFATAL\x00",
        b"",
    ],
)
def test_what_is_no_such_server_is_told_so(greeting: bytes):
    """Another port, another program; never a traceback."""
    with _answering(greeting) as port:
        error = _probed(port)
    assert isinstance(error, Transient)
    assert "does not speak the protocol" in error.what or "is unreachable" in error.what


def _probed(port: int) -> StepError:
    options = TargetOptions(port=port, connect_timeout=1)
    who = Credential(username="app", password=Secret("x"))
    rotation = PLUGIN.target("t", options, lambda: who).rotation(
        "dual-password", SecretOptions(username="app")
    )
    with pytest.raises(StepError) as told:
        rotation.probe(who, step_context())
    return told.value


@contextmanager
def _answering(greeting: bytes) -> Generator[int]:
    """Listen, greet whoever connects, and hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as link:
                link.sendall(greeting)
                link.shutdown(socket.SHUT_WR)
                link.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(2)


@pytest.mark.parametrize(
    ("host", "address", "taken"),
    [
        ("%", "10.1.2.3", True),
        ("10.20.%", "10.20.1.1", True),
        ("10.20.%", "10.21.1.1", False),
        ("10.0.0.0/255.0.0.0", "10.200.1.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("fe80::/16", "fe80::1", True),
        ("db_.example.org", "DB1.example.org", True),
        ("localhost", "127.0.0.1", False),
        ("10.0.0.0/nothing", "10.0.0.1", False),
    ],
)
def test_host_parts_are_compared_as_the_server_compares_them(
    host: str,
    address: str,
    taken: bool,  # noqa: FBT001 # a column of the table
):
    """Names, patterns, masks, CIDR."""
    assert is_for(host, address) is taken
