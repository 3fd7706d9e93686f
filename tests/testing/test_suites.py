"""What authors test with: one import, a suite that names what it lacks, and a choice of how much of the harness runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rotator.testing
from rotator.api import Credential, Plugin, Secret, UsageError
from rotator.testing import RotationSuite, Sandbox, assert_survives_crashes
from rotator.testing.crash.points import Point, When
from rotator.testing.crash.trials import deaths, drawn, failures
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_rotations import NewUser
from rotator.testing.fake_target import FakeTarget

if TYPE_CHECKING:
    from rotator.api import StepContext

_USED = """
from rotator.testing import RotationSuite

class TestMine(RotationSuite):
    {sample}
"""
_MARKER = '[tool.pytest.ini_options]\nmarkers = ["slow: takes minutes"]\n'
_HARNESS = "test_it_survives_crashes_and_failures"


def test_rotator_testing_imports_its_names_only_when_they_are_used():
    """`import rotator.testing` brings in neither pytest nor the engine."""
    code = "import sys, rotator.testing; print({'pytest', 'rotator.engine'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert all(getattr(rotator.testing, name) is not None for name in rotator.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Wrold'"):
        _ = rotator.testing.Wrold


def test_a_suite_without_a_sandbox_shows_what_to_write(tmp_path: Path):
    """The class by its name, and the lines that it lacks."""

    class TestMine(RotationSuite):
        pass

    with pytest.raises(pytest.fail.Exception, match="TestMine does not say how") as failed:
        TestMine().new_sandbox(tmp_path)
    assert "def new_sandbox(self, folder):" in str(failed.value)
    assert "fixture `make_sandbox`" in str(failed.value)


@pytest.mark.parametrize(
    ("sample", "project", "chosen", "expected"),
    [
        ("pass", "", "", ["whole"]),
        ("sample = 9", "", "", ["sample"]),
        ("sample = 9", _MARKER, "not slow", ["sample"]),
        ("sample = 9", _MARKER, "slow", ["whole"]),
    ],
)
def test_a_suite_class_sets_how_much_of_the_harness_runs(
    tmp_path: Path, sample: str, project: str, chosen: str, expected: list[str]
):
    """All of it; or a sample, and all of it as a slow test where the project knows such a marker."""
    (tmp_path / "pyproject.toml").write_text(project)
    (tmp_path / "test_mine.py").write_text(_USED.format(sample=sample))
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-W", "error", "-m", chosen]
    done = subprocess.run(
        [*command, "--strict-markers", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line for line in done.stdout.splitlines() if _HARNESS in line]
    assert [line.partition("[")[2].removesuffix("]") for line in found] == expected


def _points() -> list[Point]:
    ports = ["journal", "rotation", "backend", "target"] * 10
    return [
        Point(number=number, when=When.AFTER, port=port, name="call", nth=number)
        for number, port in enumerate(ports, 1)
        if port != "target"
    ]


def test_a_sample_is_the_same_for_the_same_seed_and_begins_at_the_plugins_own_calls():
    """So that a finding can be seen again."""
    every = [*deaths(_points()), *failures(_points())]
    chosen = drawn(every, 20, "1")
    assert chosen == drawn(every, 20, "1")
    assert chosen != drawn(every, 20, "2")
    assert {one.point.port for one in chosen} == {"rotation"}
    assert sorted(map(str, drawn(every, 1000, "1"))) == sorted(map(str, every))


class _Shared:
    """A target in memory that counts how often it was opened and closed."""

    opened = closed = 0

    def __init__(self, target: FakeTarget) -> None:
        self.target = target
        type(self).opened += 1

    def close(self) -> None:
        type(self).closed += 1


class _Fresh(NewUser):
    """A fresh login each time."""

    def __init__(self, shared: _Shared, options: object) -> None:
        super().__init__(shared.target)


class _Forgetting(_Fresh):
    """A fresh login each time, and nothing is ever undone."""

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        return


def _sandbox(kind: type) -> Sandbox:
    backend = FakeBackend()
    target = FakeTarget(stored=backend.holds)
    plugin = Plugin(
        name="mine",
        summary="Mine.",
        strategies={"new-user": kind},
        connect=lambda _name, _options, _admin: _Shared(target),
    )
    return Sandbox.of(
        plugin,
        "new-user",
        backend=backend,
        usable=target.usable,
        accepts=lambda one: target.accepts(one.username, one.password.reveal()),
    )


def test_a_sample_of_crashes_finds_what_is_wrong_at_a_plugins_own_calls():
    """With the seed's own words, so that it can be run again."""
    with pytest.raises(AssertionError, match="P3: orphan logins"):
        assert_survives_crashes(lambda: _sandbox(_Forgetting), sample=60)


def test_the_harness_closes_what_it_opens():
    """Thousands of sandboxes over a real server would leave none of its connections free."""
    _Shared.opened = _Shared.closed = 0
    assert assert_survives_crashes(lambda: _sandbox(_Fresh), sample=20) < 60
    assert _Shared.opened == _Shared.closed > 100


def test_a_sandbox_refuses_an_unknown_strategy():
    """With those that the plugin declares."""
    plugin = Plugin(name="mine", summary="Mine.", strategies={"new-user": _Fresh})
    with pytest.raises(UsageError, match="declares no strategy 'newuser'") as refused:
        Sandbox.of(plugin, "newuser")
    assert refused.value.hint == "It has: new-user."


def test_a_plugin_gets_the_admin_of_the_sandbox_or_an_error_with_the_remedy():
    """What the engine would resolve from the configuration."""
    admins: list[Credential] = []
    plugin = Plugin(
        name="mine",
        summary="Mine.",
        strategies={"new-user": _Fresh},
        connect=lambda _name, _options, admin: (
            admins.append(admin()),
            _Shared(FakeTarget(stored=lambda _password: True)),
        )[1],
    )
    admin = Credential(username="root", password=Secret("of-the-tests"))
    Sandbox.of(plugin, "new-user", admin=admin).rotation()
    assert admins == [admin]
    with pytest.raises(UsageError, match="asks for an admin") as refused:
        Sandbox.of(plugin, "new-user").rotation()
    assert "admin=Credential(" in refused.value.hint
