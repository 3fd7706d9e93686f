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
from rotator.testing.mariadb import PACKAGES, ScratchMariaDB, is_installed
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.secrets_manager import SecretsManager
from tests.aws_lambda.runtime import InvocationError, Killed, Runtime
from tests.aws_lambda.worlds import ACCESS, APP_PASSWORD, ROLES, MariaWorld, World

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
_OURS = ("rotator.faces.cli", "rotator.faces.daemon", "rotator.faces.web", "rotator.config")


@pytest.fixture
def runtime(world: World, tmp_path: Path) -> Iterator[Runtime]:
    world.environ |= {"SECRETS_MANAGER_ENDPOINT": world.aws.endpoint, "ROTATOR_GRACE": "0s"}
    with Runtime(environ=world.environ, log=tmp_path / "log") as started:
        yield started


def test_it_rotates_under_the_real_runtime_client(world: World, runtime: Runtime, tmp_path: Path):
    """One process for all steps, and its log is the journal."""
    world.secret(masterarn=world.master())
    world.aws.secret(world.name).function = runtime
    passwords = [APP_PASSWORD]
    for _ in range(3):
        assert world.rotate() == []
        passwords.append(world.served()["password"])
        assert world.accepts(world.served())
    assert runtime.starts == 1
    log = (tmp_path / "log").read_text()
    report, heads = verify_log(log.splitlines())
    assert report.damage == []
    assert report.rotations == 3
    assert heads[world.name].text() == world.aws.secret(world.name).tags["rotator-journal"]
    assert not [one for one in passwords if one in log]


def test_the_sweep_runs_under_it_too(world: World, runtime: Runtime, tmp_path: Path):
    """As a second function of the same zip."""
    world.secret(masterarn=world.master())
    world.aws.secret(world.name).function = runtime
    old = world.served()
    assert world.rotate() == []
    assert world.accepts(old)
    sweep = "rotator.faces.aws_lambda.sweep"
    with Runtime(sweep, environ=world.environ, log=tmp_path / "sweep") as sweeping:
        assert sweeping({"detail-type": "Scheduled Event"}) == {
            "ended": 1,
            "waiting": 0,
            "failed": [],
        }
    assert not world.accepts(old)


def test_what_goes_wrong_reaches_the_log_and_the_payload_without_a_secret(
    world: World, runtime: Runtime, tmp_path: Path
):
    """Lambda puts the text of an exception into both."""
    world.secret()
    world.aws.secret(world.name).function = runtime
    with world.server.connect() as admin:
        admin.execute(b"ALTER ROLE app PASSWORD 'somebody-changed-it'")
    (error,) = world.rotate()
    assert isinstance(error, InvocationError)
    assert error.payload["errorType"] == "UsageError"
    assert "rejects login 'app'" in error.payload["errorMessage"]
    assert "NOT safe" in error.payload["errorMessage"]
    said = json.dumps(error.payload) + (tmp_path / "log").read_text()
    assert APP_PASSWORD not in said


def test_a_process_that_is_killed_is_followed_by_another(world: World, runtime: Runtime):
    """AWS tries the rotation again from its first step."""
    world.secret()
    calls = 0

    def function(event: dict[str, object]) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            runtime.kill()
            raise Killed
        return runtime(event)

    world.aws.secret(world.name).function = function
    world.aws.retries = 1
    assert [type(one) for one in world.rotate()] == [Killed]
    assert world.accepts(world.served())
    assert runtime.starts == 2


@pytest.fixture(params=["postgresql", "mysql"])
def served(request: pytest.FixtureRequest) -> Iterator[World]:
    """A secret of either kind of server, whose rotation AWS has begun."""
    with ExitStack() as stack:
        aws = stack.enter_context(SecretsManager())
        if request.param == "mysql":
            if not is_installed():
                pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
            world: World = MariaWorld.on(stack.enter_context(ScratchMariaDB()), aws)
            world.secret(engine="mysql", dbname="shop")
        else:
            world = stack.enter_context(_postgresql(aws))
        world.aws.secret(world.name).function = lambda _event: None
        yield world


@contextmanager
def _postgresql(aws: SecretsManager) -> Iterator[World]:
    with ScratchPostgres() as server:
        with server.connect() as admin:
            admin.execute(ROLES.encode())
        world = World(server=server, aws=aws, dbname="postgres")
        world.secret()
        yield world


def test_it_loads_nothing_of_the_other_faces(served: World):
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


def test_it_rotates_from_its_zip_with_nothing_else_installed(world: World, tmp_path: Path):
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
    world.environ |= {"SECRETS_MANAGER_ENDPOINT": world.aws.endpoint, "ROTATOR_GRACE": "0s"}
    world.secret(masterarn=world.master())
    with Runtime(environ=world.environ, task_root=root, log=tmp_path / "log") as runtime:
        world.aws.secret(world.name).function = runtime
        assert world.rotate() == [], (tmp_path / "log").read_text()
        assert world.served()["username"] == "app_clone"
        assert world.accepts(world.served())
    world.environ["ROTATOR_SSLROOTCERT"] = "global-bundle.pem"
    world.keep_journal_in(world.server)
    with Runtime(environ=world.environ, task_root=root, log=tmp_path / "log") as runtime:
        world.aws.secret(world.name).function = runtime
        assert world.rotate() == [], (tmp_path / "log").read_text()
        assert world.served()["username"] == "app"
        assert world.accepts(world.served())
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
