"""A plugin made of its parts: what it declares is what its classes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rotator.api import (
    CountsSessions,
    Credential,
    Examines,
    Explains,
    Plugin,
    Secret,
    SetsPasswords,
    StepContext,
    StrategyInfo,
    TriesLogins,
    UsageError,
)
from rotator.testing import Sandbox
from rotator.testing.fakes import step_context
from rotator.testing.rotation_suite import RotationHarness, RotationSuite


@dataclass(frozen=True, kw_only=True)
class _Options:
    host: str = "here"


class _Plain:
    """One login.

    At length.
    """

    overlaps = False

    def __init__(self, shared: Any, options: object) -> None:
        self.shared, self.options = shared, options


class _Able(_Plain):
    """Two logins."""

    overlaps = True

    def sessions(self, login: str, ctx: object) -> list[object]:
        return []

    def explain(self, current: object, ctx: object) -> list[object]:
        return []


class _Pool:
    def __init__(self, *given: Any) -> None:
        self.given, self.closed = given, 0

    def close(self) -> None:
        self.closed += 1


def _plugin(**given: Any) -> Plugin:
    strategies = {"one": _Plain, "two": _Able}
    parts = {"name": "mine", "summary": "Mine.", "strategies": strategies, **given}
    return Plugin(target_options=_Options, **parts)


def test_strategies_are_declared_as_their_classes_are():
    """The first line of documentation, whether they overlap, what else they can do."""
    assert _plugin().info.strategies == (
        StrategyInfo(name="one", summary="One login", overlaps=False),
        StrategyInfo(
            name="two", summary="Two logins", overlaps=True, abilities=(CountsSessions, Explains)
        ),
    )


def test_rotations_get_the_options_of_target_and_secret():
    """Where nothing is to be shared between them."""
    target = _plugin().target("t", _Options(host="there"), lambda: pytest.fail("asked too early"))
    rotation: Any = target.rotation("one", "options")
    assert (rotation.shared, rotation.options) == (_Options(host="there"), "options")
    target.close()


def test_rotations_on_one_target_share_what_it_was_connected_by():
    """And it is closed with the target."""
    admin = Credential(username="root", password=Secret("of-the-tests"))
    target = _plugin(connect=_Pool).target("t", _Options(), lambda: admin)
    first: Any = target.rotation("one", None)
    second: Any = target.rotation("two", None)
    assert first.shared is second.shared
    assert first.shared.given[:2] == ("t", _Options())
    assert first.shared.given[2]() is admin
    target.close()
    assert first.shared.closed == 1


def test_an_admin_is_needed_where_there_is_something_to_connect():
    """What is given none cannot ask for one."""
    assert _plugin(connect=_Pool).info.needs_admin
    assert not _plugin().info.needs_admin


def test_an_unknown_strategy_is_refused_with_those_there_are():
    """As `rotator check` shows it."""
    with pytest.raises(UsageError, match="no strategy 'three'") as refused:
        _plugin().target("t", _Options(), pytest.fail).rotation("three", None)
    assert refused.value.hint == "It has: one, two."


def test_a_class_that_does_not_say_whether_it_overlaps_is_no_strategy():
    """When the plugin is imported, not in the middle of a rotation."""
    with pytest.raises(TypeError, match=r"object\.overlaps must be True or False"):
        _plugin(strategies={"none": object})


@dataclass(frozen=True, kw_only=True)
class _Named:
    username: str | None = None


class _InPlace(_Plain):
    """One login, by name."""

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        return (self.options.username, ctx.secret) == (credential.username, "s")

    def create(self, new: Credential, ctx: StepContext) -> None:
        self.shared.given += ((self.options, new, ctx.current, ctx.adopted),)


def test_a_strategy_in_place_serves_for_any_login_of_the_target():
    """It is tried, and its password set, as if it were a secret of its own that we may touch."""
    plugin = _plugin(
        strategies={"one": _InPlace}, secret_options=_Named, connect=_Pool, in_place="one"
    )
    target: Any = plugin.target("t", _Options(), lambda: pytest.fail("asked too early"))
    assert isinstance(target, TriesLogins)
    assert isinstance(target, SetsPasswords)
    login = Credential(username="theirs", password=Secret("of-the-tests"))
    ctx = step_context(secret="s", adopted=frozenset({"other"}))
    assert target.probe(login, ctx)
    target.set_password(login, ctx)
    pool = target.rotation("one", _Named()).shared
    assert pool.given[3:] == (
        (_Named(username="theirs"), login, login, frozenset({"other", "theirs"})),
    )


def test_a_target_without_one_does_not_say_that_it_could():
    """Who names it in `logs_in_on` hears of it when the configuration is checked."""
    target = _plugin().target("t", _Options(), pytest.fail)
    assert not isinstance(target, TriesLogins | SetsPasswords)


@pytest.mark.parametrize(
    "declared",
    [
        StrategyInfo(name="two", summary="Two", overlaps=True),
        StrategyInfo(name="two", summary="Two", overlaps=True, abilities=(CountsSessions,)),
        StrategyInfo(
            name="two",
            summary="Two",
            overlaps=True,
            abilities=(CountsSessions, Explains, Examines),
        ),
        StrategyInfo(
            name="two", summary="Two", overlaps=False, abilities=(CountsSessions, Explains)
        ),
    ],
)
def test_a_declaration_that_is_not_true_fails_the_suite(declared: StrategyInfo):
    """Too little, too much, or the other way round."""
    sandbox = Sandbox.of(_plugin(), "two")
    RotationSuite().test_it_is_what_its_plugin_declares(RotationHarness(sandbox))
    sandbox.declared = declared
    with pytest.raises(AssertionError):
        RotationSuite().test_it_is_what_its_plugin_declares(RotationHarness(sandbox))
