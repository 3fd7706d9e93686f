"""The function as a process of its own, under Lambda's real runtime client; also from its zip."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.journal.log import verify_log
from tests.aws_lambda.runtime import InvocationError, Killed, Runtime
from tests.aws_lambda.worlds import APP_PASSWORD, World

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
    assert "refuses login 'app'" in error.payload["errorMessage"]
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


def test_it_loads_nothing_of_the_other_faces():
    """A cold start pays for what the function needs, and for nothing else."""
    code = (
        "import sys, rotator.faces.aws_lambda as one; import rotations.postgresql;"
        "print('\\n'.join(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT
    )
    loaded = set(done.stdout.split())
    assert "botocore.session" in loaded
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


def test_it_rotates_from_its_zip_with_nothing_else_installed(world: World, tmp_path: Path):
    """Built as `make lambda` does, twice the same, for the Python of this machine."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    built = list[Path]()
    for folder in ("one", "two"):
        command = [sys.executable, str(_ROOT / "deploy" / "lambda" / "build.py")]
        options = ["--python", version, "--arch", "x86_64", "--out", str(tmp_path / folder)]
        subprocess.run([*command, *options], check=True, capture_output=True)
        built += (tmp_path / folder).glob("*.zip")
    assert built[0].read_bytes() == built[1].read_bytes()
    assert built[0].stat().st_size < 25e6
    root = tmp_path / "task"
    with zipfile.ZipFile(built[0]) as zipped:
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
