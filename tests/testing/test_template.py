"""The path of a plugin's author: the page, the template, a package outside the tree, a rotation with it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rotator.api import Credential, Secret
from rotator.testing import RotationSuite, Sandbox
from rotator.testing.templates import FILES, text_of, write_template
from tests.docs.consoles import commands

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_ROOT = Path(__file__).parents[2]
_TABLE = "CREATE TABLE logins (name PRIMARY KEY, hash, owner)"
_CONFIG = """
targets:
  shop: {plugin: sqlite, path: shop.db}
secrets:
  shop-app: {target: shop, backend: local, strategy: new-user, policy: {grace: 1h}}
"""


def _run(*command: object, folder: Path, code: int = 0, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", **environ},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


# -- the page, the template ------------------------------------------------------------------------


def test_the_documentation_shows_the_files_of_the_template():
    """Each file, whole: there is no second version of the example."""
    page = (_ROOT / "docs" / "tutorials" / "first-plugin.md").read_text()
    blocks = re.findall(r"(?ms)^```(?:python|toml)\n(.*?)^```$", page)
    assert sorted(blocks) == sorted(text_of(one) for one in FILES)


def test_the_template_is_short():
    """It fits on a screen."""
    lines = [line for line in text_of("rotator_sqlite.py").splitlines() if line.strip()]
    assert len(lines) <= 60


def test_the_templates_own_tests_pass_and_checkers_find_nothing(tmp_path: Path):
    """As it is written, before its author has changed a line: the contract, crashes, the style."""
    write_template(tmp_path)
    output = _run("pytest", "-q", "-W", "error", "--strict-markers", folder=tmp_path)
    assert "passed" in output
    assert "failed" not in output
    ruff = ("--isolated", "--line-length", "100", ".")
    _run("ruff", "check", "--select", "E,F,W,I,UP,B,SIM", *ruff, folder=tmp_path)
    _run("ruff", "format", "--check", *ruff, folder=tmp_path)


# -- with all that a sandbox takes -------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the example as a module."""
    source = text_of("rotator_sqlite.py")
    (tmp_path / "rotator_sqlite.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rotator_sqlite", raising=False)
    return importlib.import_module("rotator_sqlite")


def _ask(file: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as db, db:
        return db.execute(query, values).fetchall()


class TestExample(RotationSuite):
    """What the page shows for copying keeps the contract, also on a closer look."""

    sample = 40

    @pytest.fixture
    def make_sandbox(self, tmp_path: Path, example: Any) -> Callable[[], Sandbox]:
        """Return what makes a file of its own."""
        names = iter(range(10_000))

        def make() -> Sandbox:
            file = tmp_path / f"{next(names)}.db"
            _ask(file, _TABLE)

            def foreign() -> Credential:
                theirs = Credential(username="legacy", password=Secret("set-by-hand-long-ago"))
                row = (theirs.username, example.hashed(theirs), "somebody")
                _ask(file, "INSERT INTO logins VALUES (?, ?, ?)", *row)
                return theirs

            def accepts(one: Credential) -> bool:
                query = "SELECT 1 FROM logins WHERE name = ? AND hash = ?"
                return bool(_ask(file, query, one.username, example.hashed(one)))

            return Sandbox.of(
                example.PLUGIN,
                "new-user",
                target_options=example.Options(path=file),
                usable=lambda: {name for (name,) in _ask(file, "SELECT name FROM logins")},
                state=lambda: _ask(file, "SELECT * FROM logins ORDER BY name"),
                accepts=accepts,
                foreign=foreign,
            )

        return make


# -- a package outside the tree --------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, built as a wheel and installed into a folder of its own, without any index."""
    folder = tmp_path_factory.mktemp("package")
    write_template(folder / "source")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    wheels, site = folder / "wheels", folder / "site"
    _run("pip", "wheel", *quiet, "--no-build-isolation", "-w", wheels, "./source", folder=folder)
    [wheel] = wheels.iterdir()
    assert wheel.name == "rotator_sqlite-0.1.0-py3-none-any.whl"
    _run("pip", "install", *quiet, "--target", site, wheel, folder=folder)
    return site


@pytest.fixture
def rotator(installed: Path, tmp_path: Path) -> Callable[..., Any]:
    """`rotator ARGUMENTS --json` as a process that finds the package, in a folder after `init`."""

    def run(*arguments: str, code: int = 0) -> Any:
        output = _run(
            "rotator", *arguments, "--json", folder=tmp_path, code=code, PYTHONPATH=str(installed)
        )
        return json.loads(output)["data"]

    run("init")
    config = tmp_path / "rotator.yaml"
    kept = re.sub(r"(?m)^(targets|secrets):\n(?:[ #].*\n|\n)*", "", config.read_text())
    config.write_text(kept + _CONFIG)
    return run


def test_a_package_outside_the_tree_is_found_with_all_that_it_declares(
    rotator: Callable[..., Any], tmp_path: Path
):
    """By its entry point only; where it is not installed, nothing of it is there."""
    [found] = rotator("plugins", "sqlite")["rotations"]
    assert (found["name"], found["distribution"], found["version"]) == (
        "sqlite",
        "rotator-sqlite",
        "0.1.0",
    )
    assert found["error"] is None
    assert [(one["name"], one["overlaps"]) for one in found["strategies"]] == [("new-user", True)]
    [option] = found["target_options"]
    assert (option["name"], option["type"], option["required"]) == ("path", "path", True)
    assert "logins" in option["help"]
    _run("rotator", "plugins", "sqlite", folder=tmp_path, code=2)


@pytest.mark.slow
def test_the_tutorial_rotates_with_the_plugin(installed: Path, tmp_path: Path):
    """Its last commands, in order, with the configuration that it shows."""
    page = _ROOT / "docs" / "tutorials" / "first-plugin.md"
    [entries] = re.findall(r"(?ms)^```yaml\n(.*?)^```$", page.read_text())
    shown = commands(page)
    folder, outputs = tmp_path, list[str]()
    for words in shown[shown.index(["mkdir", "rotator-trial"]) :]:
        match words:
            case ["mkdir", name]:
                (folder / name).mkdir()
            case ["cd", name]:
                folder /= name
            case ["python3", "-c", program]:
                subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
                config = folder / "rotator.yaml"
                kept = re.sub(r"(?m)^(targets|secrets):\n(?:[ #].*\n|\n)*", "", config.read_text())
                config.write_text(kept + entries)
            case _:
                outputs.append(_run(*words, folder=folder, PYTHONPATH=str(installed)))
    assert "login attempt with it was rejected" in outputs[-1]
    assert len(_ask(folder / "shop.db", "SELECT name FROM logins")) == 1


def test_the_plugin_rotates_from_the_first_login_to_the_proof_of_the_revoke(
    rotator: Callable[..., Any], tmp_path: Path
):
    """With the embedded backend, as a newcomer would; the password is in the backend and nowhere else."""
    database = tmp_path / "shop.db"
    _ask(database, _TABLE)
    assert rotator("check")["targets"] == 1
    assert rotator("doctor")["errors"] == 0
    rotator("rotate", "shop-app")
    first = rotator("get", "shop-app", "--field", "username")
    rotator("rotate", "shop-app")
    both = _ask(database, "SELECT name FROM logins WHERE owner = 'shop-app'")
    assert len(both) == 2
    [revoked] = rotator("revoke", "shop-app")["results"]
    assert revoked["old_refused"] is True
    assert revoked["old_login"] == first["value"]
    [(left, kept)] = _ask(database, "SELECT name, hash FROM logins")
    assert left == revoked["login"]
    password = rotator("get", "shop-app", "--field", "password", "--reveal")["value"]
    assert password not in kept
    assert password.encode() not in database.read_bytes()
    assert rotator("verify", "shop-app")["secrets"][0]["accepted"] is True
    assert rotator("audit", "verify")["ok"] is True


def test_a_wrong_option_of_the_plugin_is_reported_with_its_place(
    rotator: Callable[..., Any], installed: Path, tmp_path: Path
):
    """Its dataclass is the schema, as for any plugin of ours."""
    config = tmp_path / "rotator.yaml"
    config.write_text(config.read_text().replace("path: shop.db", "paht: shop.db"))
    output = _run("rotator", "check", "--json", folder=tmp_path, code=2, PYTHONPATH=str(installed))
    keys = {one["key"]: one["what"] for one in json.loads(output)["errors"]}
    assert set(keys) == {"targets.shop.path", "targets.shop.paht"}
