"""The loader of plugins, against real distributions that the tests lay into a folder."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from rotator import plugins
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_GOOD = """
    from rotator.api import PluginInfo

    class Plugin:
        info = PluginInfo(name="{name}", summary="A plugin of the tests.")

        def target(self, name, options, admin):
            raise NotImplementedError

        def open(self, name, options, resolve):
            raise NotImplementedError

    PLUGIN = Plugin()
"""


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lay a distribution with one module and one entry point where Python finds it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._plugin.cache_clear()

    def lay_one(
        name: str,
        source: str = _GOOD,
        *,
        group: str = plugins.ROTATIONS,
        package: str = "acme-plugins",
        extras: tuple[str, ...] = (),
    ) -> None:
        module = f"{package}_{name}".replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source.replace("{name}", name)))
        info = tmp_path / f"{module}-1.2.3.dist-info"
        info.mkdir()
        provides = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}-{name}\nVersion: 1.2.3\n{provides}"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:PLUGIN\n")

    return lay_one


def test_a_plugin_is_found_by_its_entry_point(lay: Callable[..., None]):
    """A stranger's package brings a plugin by naming it in the group `rotator.rotations`."""
    lay("oracle-nine")
    assert plugins.rotation_plugin("oracle-nine").info.name == "oracle-nine"


def test_a_backend_is_found_in_its_own_group(lay: Callable[..., None]):
    """Backends and rotations do not mix: each is looked for in its own group."""
    lay("cupboard", group=plugins.BACKENDS)
    assert plugins.backend_plugin("cupboard").info.name == "cupboard"
    with pytest.raises(UsageError, match="no rotation plugin `cupboard`"):
        plugins.rotation_plugin("cupboard")


def test_only_the_named_plugin_is_imported(lay: Callable[..., None]):
    """Asking for one plugin does not import the module of another."""
    lay("wanted")
    lay("unwanted", "raise RuntimeError")
    assert plugins.rotation_plugin("wanted").info.name == "wanted"
    assert "acme_plugins_unwanted" not in sys.modules


def test_an_unknown_name_is_answered_with_near_matches_and_what_is_installed(
    lay: Callable[..., None],
):
    """A slip of the pen gets 'did you mean', and the list of what there is."""
    lay("oracle")
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin("oracel")
    assert caught.value.what == "there is no rotation plugin `oracel`."
    assert "Did you mean `oracle`?" in caught.value.hint
    assert "Installed: " in caught.value.hint


def test_a_missing_driver_names_the_extra_to_install(lay: Callable[..., None]):
    """The error names the extra that brings the missing driver."""
    lay("sybase", "import a_driver_that_is_not_there", extras=("sybase", "other"))
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin("sybase")
    assert "No module named 'a_driver_that_is_not_there'" in caught.value.what
    assert caught.value.hint == "Install what it needs: pip install 'acme-plugins-sybase[sybase]'"


@pytest.mark.parametrize(
    ("name", "meant"), [("mariadb", "mysql"), ("redis", "valkey"), ("postgres", "postgresql")]
)
def test_the_name_of_a_server_leads_to_its_plugin(lay: Callable[..., None], name: str, meant: str):
    """Also where nothing of it looks like the plugin's name."""
    lay("sybase")
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin(name)
    assert caught.value.hint.startswith(f"For {name} write `{meant}`. Installed: ")


def test_no_extra_is_named_that_the_package_does_not_have(lay: Callable[..., None]):
    """Only extras that the distribution declares are recommended."""
    lay("sybase", "import a_driver_that_is_not_there", extras=("other",))
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin("sybase")
    assert caught.value.hint == "Install what it needs: pip install 'acme-plugins-sybase'"


def test_a_module_that_breaks_is_reported_with_its_package_and_without_its_text(
    lay: Callable[..., None],
):
    """A plugin that raises at import is named with its package; its text is not passed on."""
    lay("broken", "raise RuntimeError('hunter2')")
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin("broken")
    assert "with RuntimeError" in caught.value.what
    assert "acme-plugins-broken" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_an_entry_point_that_names_something_else_is_refused(lay: Callable[..., None]):
    """An object without `info` and `target()` is not taken for a plugin."""
    lay("dud", "PLUGIN = object()")
    with pytest.raises(UsageError, match="is not a rotation plugin"):
        plugins.rotation_plugin("dud")


def test_two_packages_with_one_name_are_refused(lay: Callable[..., None]):
    """Which of two plugins of one name is meant is not guessed."""
    lay("twin", package="acme-plugins")
    lay("twin", package="evil-plugins")
    with pytest.raises(UsageError, match="more than one rotation plugin `twin`, brought by acme"):
        plugins.rotation_plugin("twin")


def test_what_is_installed_is_listed_with_its_package_and_fault(lay: Callable[..., None]):
    """The list names the package and version of each, and shows which do not load, and why."""
    lay("fine")
    lay("faulty", "import a_driver_that_is_not_there")
    listed = {one.name: one for one in plugins.installed(plugins.ROTATIONS)}
    assert listed["fine"] == plugins.Installed(
        name="fine", distribution="acme-plugins-fine", version="1.2.3"
    )
    assert "a_driver_that_is_not_there" in (listed["faulty"].error or "")


def test_an_engine_whose_plugin_does_not_load_names_the_extra(lay: Callable[..., None]):
    """By other names than its own too: MariaDB's plugin is called mysql."""
    lay("sybase", "import a_driver_that_is_not_there", extras=("sybase",))
    with pytest.raises(UsageError) as caught:
        plugins.rotation_plugin_for("adaptive-server")
    assert "'adaptive-server' among those that load" in caught.value.what
    assert "`sybase` cannot be imported" in caught.value.what
    assert caught.value.hint == "Install what it needs: pip install 'acme-plugins-sybase[sybase]'"
    assert plugins.rotation_plugin_for("mariadb") is plugins.rotation_plugin("mysql")


def test_of_several_that_do_not_load_the_likeliest_is_named(lay: Callable[..., None]):
    """By how much its name is like the engine's."""
    lay("mongodb", "import a_driver_that_is_not_there")
    lay("sybase", "import a_driver_that_is_not_there")
    with pytest.raises(UsageError, match="`sybase` cannot be imported"):
        plugins.rotation_plugin_for("sybiq")
    with pytest.raises(UsageError, match="`mongodb` cannot be imported"):
        plugins.rotation_plugin_for("documentdb")


def test_an_engine_that_nobody_knows_has_no_plugin(lay: Callable[..., None]):
    """Where all load."""
    lay("sybase")
    assert plugins.rotation_plugin_for("oracle") is None


def test_a_strategy_that_no_plugin_has_is_refused(lay: Callable[..., None]):
    """With what was meant, or with the plugin that might have it and does not load."""
    plugins.require_strategy("dual-password")
    plugins.require_strategy("new-user")
    with pytest.raises(UsageError, match="no plugin has a strategy 'new-usr'") as caught:
        plugins.require_strategy("new-usr")
    assert "Did you mean `new-user`" in caught.value.hint
    lay("sybase", "import a_driver_that_is_not_there", extras=("sybase",))
    with pytest.raises(UsageError, match="`sybase` cannot be imported"):
        plugins.require_strategy("new-usr")
