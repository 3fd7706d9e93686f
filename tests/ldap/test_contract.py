"""The contract of a plugin, on a real OpenLDAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotations.ldap.directory import Session
from rotator.testing.crash import Effects
from rotator.testing.rotation_suite import RotationSuite
from tests.ldap.sandboxes import STRATEGIES, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.crash import Sandbox
    from tests.servers.openldap import ScratchOpenLdap


class TestContract(RotationSuite):
    """All three strategies pass, with crashes around each change of an entry."""

    sample = 12

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self,
        request: pytest.FixtureRequest,
        directory: ScratchOpenLdap,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[[], Sandbox]:
        """Return what makes entries of a sandbox's own."""
        changes = Effects("change")
        monkeypatch.setattr(Session, "_change", changes.through(Session._change))
        return lambda: sandbox(directory, request.param, changes)
