"""adopt: an existing pair, several logins, and CSV files, on real servers."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.model import Credential
from rotator.core.secret import Secret
from tests.cli.installed_program import ADMIN_PASSWORD, Real
from tests.servers import mariadb
from tests.servers.mariadb import ScratchMariaDB
from tests.servers.valkey import ScratchValkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rotator.testing.postgres import ScratchPostgres

FIRST, SECOND = "first-of-the-pair-1", "second-of-the-pair-2"
PLUGINS = ("postgresql", "mysql", "valkey")


def configured(
    real: Real, plugin: str, port: int, secrets: str, admin: str = "rotator_many"
) -> None:
    """Write a configuration with a target `main`."""
    real("init")
    kept = (real.folder / "rotator.yaml").read_text().partition("# The systems that accept")[0]
    text = f"""
    targets:
      main: {{plugin: {plugin}, host: 127.0.0.1, port: {port}, admin: {{username: {admin}, password: "env:ROTATOR_ADMIN_PASSWORD"}}}}
    policies:
      default: {{every: 30d, grace: 1ms, retry: {{attempts: 1, cycles: 1, backoff: 1ms, backoff_cap: 1ms}}}}
    """
    (real.folder / "rotator.yaml").write_text(
        kept + textwrap.dedent(text) + textwrap.dedent(secrets)
    )
    real.environ |= {"FIRST": FIRST, "SECOND": SECOND}


@contextmanager
def _postgresql(server: ScratchPostgres, first: str, second: str) -> Iterator[int]:
    with server.connect() as admin:
        admin.execute(
            f"""
            CREATE ROLE rotator_many SUPERUSER LOGIN PASSWORD '{ADMIN_PASSWORD}';
            CREATE ROLE {first} LOGIN PASSWORD '{FIRST}';
            CREATE ROLE {second} LOGIN PASSWORD '{SECOND}';
            CREATE TABLE of_the_second (id int);
            ALTER TABLE of_the_second OWNER TO {second};
            GRANT {second} TO {first};
            """.encode()
        )
    yield server.port
    with server.connect() as admin:
        admin.execute(
            f"DROP OWNED BY {second}, {first}; DROP ROLE {first}, {second}, rotator_many".encode()
        )


@contextmanager
def _mysql(first: str, second: str) -> Iterator[int]:
    if not mariadb.is_installed():
        pytest.skip(f"no MariaDB: apt-get install {mariadb.PACKAGES}")
    with ScratchMariaDB() as server:
        server.run(
            f"CREATE USER rotator_many@'%' IDENTIFIED BY '{ADMIN_PASSWORD}'",
            "GRANT ALL ON *.* TO rotator_many@'%' WITH GRANT OPTION",
            f"CREATE USER {first}@'%' IDENTIFIED BY '{FIRST}'",
            f"CREATE USER {second}@'%' IDENTIFIED BY '{SECOND}'",
        )
        yield server.port


@contextmanager
def _valkey(first: str, second: str) -> Iterator[int]:
    with ScratchValkey() as server:
        server.run(
            "ACL", "SETUSER", "rotator_many", "on", f">{ADMIN_PASSWORD}", "~*", "&*", "+@all"
        )
        for login, password in ((first, FIRST), (second, SECOND)):
            server.run("ACL", "SETUSER", login, "on", f">{password}", "~*", "+get")
        yield server.port


@pytest.fixture(params=PLUGINS)
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: ScratchPostgres
) -> Iterator[Real]:
    """Two logins that take turns by somebody else's hand: `app` and `app_clone`."""
    servers: dict[str, Callable[[], Any]] = {
        "postgresql": lambda: _postgresql(postgres, "app", "app_clone"),
        "mysql": lambda: _mysql("app", "app_clone"),
        "valkey": lambda: _valkey("app", "app_clone"),
    }
    real = Real(folder=tmp_path, server=postgres)
    with servers[request.param]() as port:
        secret = "{target: main, backend: local, strategy: alternating-users, options: {users: [app, app_clone]}}"
        configured(real, request.param, port, f"secrets:\n  app: {secret}\n")
        yield real


ADOPT = ("adopt", "app", "--username", "app", "--password-from", "env:FIRST")


def _rotated(real: Real) -> list[str]:
    """Rotate twice; return the logins that were served."""
    served = []
    for _ in range(2):
        real("rotate", "app", "--wait")
        served.append(real.json("get", "app").data["fields"]["username"])
    return served


def test_adopt_takes_over_a_pair_by_both_passwords(pair: Real):
    """`doctor` and `plan` name the command before; the next rotation uses the second login."""
    told = pair.json(*ADOPT, code=2).errors[0]
    assert "second login 'app_clone' exists" in told["what"]
    assert "rotator adopt app --pair" in told["hint"]
    assert pair.json("status", "app").data["secrets"][0]["login"] is None
    done = pair.json(*ADOPT, "--second-password-from", "env:SECOND").data
    assert (done["login"], done["second"]) == ("app", "app_clone")
    assert pair.json("doctor", "app").data["errors"] == 0
    assert _rotated(pair) == ["app_clone", "app"]
    assert pair.json("audit", "verify").data["ok"] is True


def test_take_over_adopts_a_login_without_its_password(pair: Real):
    """It needs the name of the second login and a reason, which the journal records."""
    pair(*ADOPT, "--take-over", "app_clone", code=2)
    pair(*ADOPT, "--take-over", "postgres", "--reason", "INC-7", code=2)
    pair(*ADOPT, "--take-over", "app_clone", "--reason", "INC-7: its owner has left")
    events = pair.json("audit", "show", "app").data["events"]
    second = next(one for one in events if one["data"].get("served") is False)
    assert (second["data"]["login"], second["data"]["proof"]) == ("app_clone", "word")
    assert second["data"]["reason"] == "INC-7: its owner has left"
    assert _rotated(pair) == ["app_clone", "app"]


@pytest.fixture
def many(tmp_path: Path, postgres: ScratchPostgres) -> Iterator[Real]:
    """Twenty logins of one server, and a short configuration of them."""
    names = [f"svc{number:02}" for number in range(20)]
    logins = "".join(
        f"CREATE ROLE {one} LOGIN PASSWORD 'first-of-{one}'; CREATE ROLE {one}_clone;"
        for one in names
    )
    with postgres.connect() as admin:
        admin.execute(
            f"CREATE ROLE rotator_many SUPERUSER LOGIN PASSWORD '{ADMIN_PASSWORD}'; {logins}".encode()
        )
    real = Real(folder=tmp_path, server=postgres)
    configured(
        real,
        "postgresql",
        postgres.port,
        f"""
        defaults: {{target: main, backend: local, path: "apps/{{name}}", strategy: new-user, options: {{group: "{{name}}"}}}}
        secrets: [{", ".join(names)}]
        """,
    )
    real.environ |= {f"PW_{one}": f"first-of-{one}" for one in names}
    yield real
    with postgres.connect() as admin:
        for (role,) in admin.execute(
            "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname LIKE 'svc%'"
            " OR rolname = 'rotator_many'"
        ).fetchall():
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def _listed(real: Real, *lines: str, head: str = "name,username,password_from", mode: int = 0o600):
    file = real.folder / "logins.csv"
    file.write_text("\n".join((head, *lines)) + "\n")
    file.chmod(mode)
    return file


def _all_listed(real: Real) -> None:
    names = [f"svc{number:02}" for number in range(20)]
    _listed(real, *(f"{one},{one},env:PW_{one}" for one in names))


def test_twenty_logins_are_adopted_and_rotated_by_two_commands(many: Real):
    """A second run changes nothing, also after a rotation."""
    _all_listed(many)
    told = many("adopt", "--from", "logins.csv")
    assert told.out.count(" is adopted as version 1;") == 20
    assert "20 of 20 adopted." in told.out
    again = many.json("adopt", "--from", "logins.csv").data["secrets"]
    assert [one["adopted"] for one in again] == [False] * 20
    # As a process of its own: libpq reads the environment, which a call in this one replaces.
    rotated = many(
        "rotate", "--all", "--wait", "--parallel", "4", "--json", "--debug", process=True
    )
    assert [one["outcome"] for one in rotated.data["results"]] == ["done"] * 20
    served = many.json("adopt", "--from", "logins.csv").data["secrets"]
    assert [one["adopted"] for one in served] == [False] * 20
    assert not {one["login"] for one in served} & {one["secret"] for one in served}
    assert many.json("audit", "verify").data["ok"] is True


def test_adopt_continues_after_a_login_that_fails(many: Real):
    """The error names the login, the exit code is not 0, and a later run adopts the rest."""
    many.environ["PW_svc01"] = "wrong"
    _listed(
        many,
        "svc00,svc00,env:PW_svc00",
        "svc01,svc01,env:PW_svc01",
        "nobody,svc02,env:PW_svc02",
        "svc03,svc03,env:NOT_SET",
        "svc04,svc04,env:PW_svc04",
    )
    told = many("adopt", "--from", "logins.csv", code=2)
    assert told.out.count("is adopted") == 2
    assert "2 of 5 adopted." in told.out
    assert "svc01: the target rejects login 'svc01'" in told.err
    assert "unknown secret `nobody`" in told.err
    assert "NOT_SET is not set" in told.err
    many.environ["PW_svc01"] = "first-of-svc01"
    _listed(many, "svc00,svc00,env:PW_svc00", "svc01,svc01,env:PW_svc01")
    done = many.json("adopt", "--from", "logins.csv").data["secrets"]
    assert [one["adopted"] for one in done] == [False, True]


def test_adopt_reads_passwords_only_from_a_private_file(many: Real):
    """No password is printed."""
    line, head = 'svc00,svc00,"first-of-svc00"', "name,username,password"
    _listed(many, line, head=head, mode=0o640)
    told = many("adopt", "--from", "logins.csv", code=2)
    assert "chmod 600" in told.err
    _listed(many, line, head=head)
    done = many.json("adopt", "--from", "logins.csv")
    assert done.data["login"] == "svc00"
    assert "first-of" not in told.err + done.out


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "empty"),
        ("svc00,svc00,env:X", 1, "header is invalid"),
        ("name,name", 1, "header is invalid"),
        ("name,username,password_from\nsvc00,svc00", 2, "has 2 values"),
        ("name,username,password_from\nsvc00,,env:X", 2, "a password needs its login"),
        ("name,username,password_from\n,svc00,env:X", 2, "the name is missing"),
        ("name,username,password_from\nsvc00,,\n\nsvc00,,", 4, "listed twice"),
        ("name,username,password,password_from\nsvc00,svc00,hunter2,env:X", 2, "given twice"),
    ],
)
def test_adopt_rejects_an_invalid_csv_file_with_the_line(
    text: str, line: int, says: str, many: Real
):
    """Nothing is adopted, and no value is repeated."""
    file = many.folder / "logins.csv"
    file.write_text(text)
    file.chmod(0o600)
    error = many.json("adopt", "--from", "logins.csv", code=2).errors[0]
    assert error["what"].startswith(f"logins.csv, line {line}: ")
    assert says in error["what"]
    assert "hunter2" not in str(error)


def test_adopt_rejects_options_of_one_login_for_several(many: Real):
    """A password on the command line applies to one secret."""
    one = ("--username", "x", "--password-from", "env:PW_svc00")
    for arguments in (("svc00", "svc01", *one), ("--all", *one), ("--from", "x.csv", *one)):
        assert "adopt" not in many("adopt", *arguments, code=2).out
    assert "no secrets selected" in many("adopt", code=2).err


def test_adopt_of_a_second_login_unparks_the_secret(many: Real):
    """`doctor`, `plan` and the parked rotation name the command."""
    config = many.folder / "rotator.yaml"
    pair = "{strategy: alternating-users, options: {group: null, users: [svc00, svc00_b]}}"
    config.write_text(config.read_text().partition("secrets:")[0] + f"secrets: {{svc00: {pair}}}\n")
    many("adopt", "svc00", "--username", "svc00", "--password-from", "env:PW_svc00")
    with many.server.connect() as admin:
        admin.execute(f"CREATE ROLE svc00_b LOGIN PASSWORD '{SECOND}'".encode())
    findings = many.json("doctor", "svc00", code=1).data["findings"]
    found = next(one for one in findings if "svc00_b" in one["message"])
    assert (found["severity"], found["subject"]) == ("error", "secret svc00")
    assert "rotator adopt svc00 --pair" in found["remedy"]
    assert "rotator adopt svc00 --pair" in many("plan", "svc00", code=2).err
    told = many("rotate", "svc00", code=3)
    assert "rotator adopt svc00 --pair" in " ".join(told.out.split())
    assert "drop that" not in told.out + told.err
    done = many.json("adopt", "svc00", "--second-password-from", "env:SECOND").data
    assert (done["second"], done["adopted"]) == ("svc00_b", True)
    assert many.json("status", "svc00").data["secrets"][0]["state"] != "parked"
    assert many.json("rotate", "svc00", "--wait").data["results"][0]["login"] == "svc00_b"


def test_adopt_takes_the_second_password_from_the_previous_version(many: Real):
    """AWSPREVIOUS holds it, so there is no prompt."""
    config = many.folder / "rotator.yaml"
    pair = "{strategy: alternating-users, options: {group: null, users: [svc00, svc01]}}"
    config.write_text(config.read_text().partition("secrets:")[0] + f"secrets: {{svc00: {pair}}}\n")
    with many.open() as app:
        backend, expect = app.backend("local"), None
        for login in ("svc01", "svc00"):
            given = Credential(username=login, password=Secret(f"first-of-{login}"))
            backend.stage("apps/svc00", f"by-hand-{login}", given)
            expect = backend.publish("apps/svc00", f"by-hand-{login}", expect=expect)
    done = many.json("adopt", "svc00").data
    assert (done["login"], done["second"]) == ("svc00", "svc01")
    assert many.json("rotate", "svc00", "--wait").data["results"][0]["login"] == "svc01"


def test_adopt_rejects_the_login_of_another_secret(many: Real):
    """--take-over does not override the mark of another secret."""
    config = many.folder / "rotator.yaml"
    many("adopt", "svc00", "--username", "svc00", "--password-from", "env:PW_svc00")
    many("rotate", "svc00", "--wait")
    theirs = many.json("get", "svc00").data["fields"]["username"]
    pair = f"{{strategy: alternating-users, options: {{group: null, users: [svc01, {theirs}]}}}}"
    config.write_text(config.read_text().partition("secrets:")[0] + f"secrets: {{svc01: {pair}}}\n")
    word = ("--take-over", theirs, "--reason", "mine")
    told = many(
        "adopt", "svc01", "--username", "svc01", "--password-from", "env:PW_svc01", *word, code=3
    )
    assert "belongs to secret 'svc00'" in told.err
