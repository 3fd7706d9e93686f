"""The wheel in a fresh environment: without an extra, every command names the one that is missing."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import requires
from pathlib import Path

import pytest

from rotator.plugins import missing_package

ROOT = Path(__file__).parents[2]
_EXTRAS = {
    "hvac": "vault",
    "boto3": "aws",
    "pymysql": "mysql",
    "psycopg": "postgresql",
    "psycopg.rows": "postgresql",
    "cryptography": "local",
    "apscheduler.schedulers": "daemon",
    "prometheus_client": "daemon",
    "procrastinate": "queue",
    "apprise": "notify",
}


@pytest.mark.parametrize(("module", "extra"), _EXTRAS.items())
def test_a_missing_package_is_named_with_the_extra_that_brings_it(module: str, extra: str):
    """For every package that an extra brings, also for a module inside it."""
    missing = missing_package(ModuleNotFoundError("x", name=module))
    assert missing is not None
    assert missing.hint == f"pip install 'credential-rotator[{extra}]'"


def test_an_unknown_module_is_no_missing_extra():
    """That is a fault of the program, and stays one."""
    assert missing_package(ModuleNotFoundError("x", name="rotator.nothing")) is None


def test_the_command_line_needs_no_extra():
    """Typer and rich come with the base."""
    base = {one.split(">")[0] for one in requires("credential-rotator") or [] if "extra" not in one}
    assert {"rich", "typer"} <= base


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment that holds the wheel and nothing of an extra."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=True)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    wheel = next(folder.glob("*.whl"))
    subprocess.run(
        [*pip, "-c", ROOT / "constraints.txt", wheel], check=True, capture_output=True, timeout=600
    )
    return folder / "venv/bin/rotator"


@pytest.mark.slow
def test_the_bare_wheel_runs_and_names_the_missing_extra(bare: Path, tmp_path: Path):
    """No traceback and no bug: `init` and `check` work, the rest names its extra."""

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [bare, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        assert "rotator has a bug" not in output, output
        return done.returncode, output

    for command in (["--version"], ["--help"], ["init"], ["check"], ["plugins"], ["status"]):
        assert run(*command)[0] == 0, command
    assert run("docs", "glossary")[1].startswith("# Glossary")
    assert run("deploy", "compose", "--out", "playground")[0] == 0
    assert (tmp_path / "playground" / "docker-compose.yml").exists()
    for command, extra in (("daemon", "daemon"), ("worker", "queue"), ("demo", "demo")):
        code, output = run(command)
        assert (code, f"credential-rotator[{extra}]" in output) == (2, True), output
    config = tmp_path / "rotator.yaml"
    head = "version: 1\n"
    for text, extra in (
        ("journal: {url: 'postgresql://rotator@127.0.0.1/audit'}", "postgresql"),
        ("backends: {b: {type: vault}}", "vault"),
        ("backends: {b: {type: aws}}", "aws"),
        ("backends: {b: {type: local}}", "local"),
        ("targets: {t: {plugin: postgresql}}", "postgresql"),
        ("targets: {t: {plugin: mysql}}", "mysql"),
    ):
        config.write_text(f"{head}{text}\n")
        code, output = run("status")
        assert code == 2, (text, output)
        assert f"credential-rotator[{extra}]" in output, output
