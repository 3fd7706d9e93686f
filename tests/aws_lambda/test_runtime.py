"""The function as a process of its own, under Lambda's real runtime client; also from its zip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.journal.log import verify_log
from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.runtime import InvocationError, Killed, Runtime
from tests.aws_lambda.sandboxes import ACCESS, APP_PASSWORD, ROLES, MariaWorld, Sandbox
from tests.servers.mariadb import PACKAGES, ScratchMariaDB, is_installed
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_FACES = (
    "apscheduler",
    "typer",
    "rich",
    "click",
    "http.server",
    "prometheus_client",
    "procrastinate",
)
_OURS = ("rotator.faces.cli", "rotator.faces.daemon", "rotator.faces.http_server", "rotator.config")


@pytest.fixture
def runtime(sandbox: Sandbox, tmp_path: Path) -> Iterator[Runtime]:
    sandbox.environ |= {"SECRETS_MANAGER_ENDPOINT": sandbox.aws.endpoint, "ROTATOR_GRACE": "0s"}
    with Runtime(environ=sandbox.environ, log=tmp_path / "log") as started:
        yield started


def test_it_rotates_under_the_real_runtime_client(
    sandbox: Sandbox, runtime: Runtime, tmp_path: Path
):
    """One process for all steps, and its log is the journal."""
    sandbox.secret(masterarn=sandbox.master())
    sandbox.aws.secret(sandbox.name).function = runtime
    passwords = [APP_PASSWORD]
    for _ in range(3):
        assert sandbox.rotate() == []
        passwords.append(sandbox.served()["password"])
        assert sandbox.accepts(sandbox.served())
    assert runtime.starts == 1
    log = (tmp_path / "log").read_text()
    report, heads = verify_log(log.splitlines())
    assert report.damage == []
    assert report.rotations == 3
    assert heads[sandbox.name].text() == sandbox.aws.secret(sandbox.name).tags["rotator-journal"]
    assert not [one for one in passwords if one in log]


def test_the_sweep_runs_under_it_too(sandbox: Sandbox, runtime: Runtime, tmp_path: Path):
    """As a second function of the same zip."""
    sandbox.secret(masterarn=sandbox.master())
    sandbox.aws.secret(sandbox.name).function = runtime
    old = sandbox.served()
    assert sandbox.rotate() == []
    assert sandbox.accepts(old)
    sweep = "rotator.faces.aws_lambda.sweep"
    with Runtime(sweep, environ=sandbox.environ, log=tmp_path / "sweep") as sweeping:
        assert sweeping({"detail-type": "Scheduled Event"}) == {
            "ended": 1,
            "waiting": 0,
            "failed": [],
        }
    assert not sandbox.accepts(old)


def test_what_goes_wrong_reaches_the_log_and_the_payload_without_a_secret(
    sandbox: Sandbox, runtime: Runtime, tmp_path: Path
):
    """Lambda puts the text of an exception into both."""
    sandbox.secret()
    sandbox.aws.secret(sandbox.name).function = runtime
    with sandbox.server.connect() as admin:
        admin.execute(b"ALTER ROLE app PASSWORD 'somebody-changed-it'")
    (error,) = sandbox.rotate()
    assert isinstance(error, InvocationError)
    assert error.payload["errorType"] == "UsageError"
    assert "rejects login 'app'" in error.payload["errorMessage"]
    assert "NOT safe" in error.payload["errorMessage"]
    said = json.dumps(error.payload) + (tmp_path / "log").read_text()
    assert APP_PASSWORD not in said


def test_a_process_that_is_killed_is_followed_by_another(sandbox: Sandbox, runtime: Runtime):
    """AWS tries the rotation again from its first step."""
    sandbox.secret()
    calls = 0

    def function(event: dict[str, object]) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            runtime.kill()
            raise Killed
        return runtime(event)

    sandbox.aws.secret(sandbox.name).function = function
    sandbox.aws.retries = 1
    assert [type(one) for one in sandbox.rotate()] == [Killed]
    assert sandbox.accepts(sandbox.served())
    assert runtime.starts == 2


@pytest.fixture(params=["postgresql", "mysql"])
def served(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A secret of either kind of server, whose rotation AWS has begun."""
    with ExitStack() as stack:
        aws = stack.enter_context(SecretsManager())
        if request.param == "mysql":
            if not is_installed():
                pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
            sandbox: Sandbox = MariaWorld.on(stack.enter_context(ScratchMariaDB()), aws)
            sandbox.secret(engine="mysql", dbname="shop")
        else:
            sandbox = stack.enter_context(_postgresql(aws))
        sandbox.aws.secret(sandbox.name).function = lambda _event: None
        yield sandbox


@contextmanager
def _postgresql(aws: SecretsManager) -> Iterator[Sandbox]:
    with ScratchPostgres() as server:
        with server.connect() as admin:
            admin.execute(ROLES.encode())
        sandbox = Sandbox(server=server, aws=aws, dbname="postgres")
        sandbox.secret()
        yield sandbox


def test_it_loads_nothing_of_the_other_faces(served: Sandbox):
    """A cold start and its steps pay for what they need, and for nothing else: not the other driver."""
    assert served.rotate() == []
    (token,) = (one for one, labels in served.stages().items() if labels == ["AWSPENDING"])
    arn = served.aws.secret(served.name).arn
    steps = ("createSecret", "setSecret", "testSecret", "finishSecret")
    events = [{"Step": one, "SecretId": arn, "ClientRequestToken": token} for one in steps]
    code = (
        "import json, sys\n"
        # PyMySQL takes it where it is, and the zip has none.
        "sys.modules['cryptography'] = None\n"
        "from rotator.faces.aws_lambda import handler\n"
        "for event in json.loads(sys.argv[1]): handler(event, None)\n"
        "print('\\n'.join(name for name, one in sys.modules.items() if one), file=sys.stderr)"
    )
    environ = ACCESS | {
        "PATH": os.environ["PATH"],
        "AWS_REGION": "eu-central-1",
        "SECRETS_MANAGER_ENDPOINT": served.aws.endpoint,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(events)],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    assert served.current_id() == token
    loaded = set(done.stderr.split())
    assert "botocore.session" in loaded
    assert len(loaded & {"psycopg", "pymysql"}) == 1
    unwanted = {one for one in loaded if one.split(".")[0] in _FACES or one in _FACES}
    unwanted |= {one for one in loaded if one.startswith(_OURS)}
    unwanted |= loaded & {
        "sqlalchemy",
        "pydantic",
        "yaml",
        "alembic",
        "boto3",
        "cryptography",
        "hvac",
    }
    assert not unwanted


def _built(tmp_path: Path, folder: str) -> Path:
    authorities = tmp_path / "global-bundle.pem"
    authorities.write_text("-----BEGIN CERTIFICATE-----\n")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    command = [sys.executable, str(_ROOT / "deploy" / "lambda" / "build.py")]
    options = ["--python", version, "--arch", "x86_64", "--out", str(tmp_path / folder)]
    options += ["--ca", str(authorities)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return next((tmp_path / folder).glob("*.zip"))


@pytest.mark.slow
def test_two_builds_of_the_zip_are_the_same_bytes(tmp_path: Path):
    """So that anybody can check what runs in an account."""
    one, two = (_built(tmp_path, folder).read_bytes() for folder in ("one", "two"))
    assert one == two


def test_it_rotates_from_its_zip_with_nothing_else_installed(sandbox: Sandbox, tmp_path: Path):
    """Built as `make lambda` does, for the Python of this machine.

    Also with a journal in a database, and on a MariaDB that the secret calls MySQL.
    """
    built = _built(tmp_path, "one")
    assert built.stat().st_size < 25e6
    root = tmp_path / "task"
    with zipfile.ZipFile(built) as zipped:
        zipped.extractall(root)
    client = tmp_path / "client"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(client)),
            "awslambdaric",
        ],
        check=True,
        capture_output=True,
    )
    sandbox.environ |= {"SECRETS_MANAGER_ENDPOINT": sandbox.aws.endpoint, "ROTATOR_GRACE": "0s"}
    sandbox.secret(masterarn=sandbox.master())
    with Runtime(environ=sandbox.environ, task_root=root, log=tmp_path / "log") as runtime:
        sandbox.aws.secret(sandbox.name).function = runtime
        assert sandbox.rotate() == [], (tmp_path / "log").read_text()
        assert sandbox.served()["username"] == "app_clone"
        assert sandbox.accepts(sandbox.served())
    sandbox.environ["ROTATOR_SSLROOTCERT"] = "global-bundle.pem"
    sandbox.keep_journal_in(sandbox.server)
    with Runtime(environ=sandbox.environ, task_root=root, log=tmp_path / "log") as runtime:
        sandbox.aws.secret(sandbox.name).function = runtime
        assert sandbox.rotate() == [], (tmp_path / "log").read_text()
        assert sandbox.served()["username"] == "app"
        assert sandbox.accepts(sandbox.served())
    if not is_installed():
        pytest.skip(f"the rest needs a MariaDB server: apt-get install {PACKAGES}")
    with ScratchMariaDB() as server, SecretsManager() as aws:
        maria = MariaWorld.on(server, aws)
        maria.environ |= {"SECRETS_MANAGER_ENDPOINT": aws.endpoint, "ROTATOR_GRACE": "0s"}
        maria.put("alternating-users", "mysql")
        with Runtime(environ=maria.environ, task_root=root, log=tmp_path / "log") as runtime:
            aws.secret(maria.name).function = runtime
            assert maria.rotate() == [], (tmp_path / "log").read_text()
        assert maria.served()["username"] == "app_clone"
        assert maria.accepts(maria.served())
