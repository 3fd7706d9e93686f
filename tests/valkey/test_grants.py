"""The rights that `rotator init --target` prints are those that an admin needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotations.valkey import PLUGIN
from rotations.valkey.options import TargetOptions
from rotator.api import Credential, Secret, Severity
from rotator.testing.fakes import step_context

if TYPE_CHECKING:
    from tests.servers.valkey import ScratchValkey


def test_an_admin_with_the_printed_rights_can_rotate(server: ScratchValkey):
    """As the default user runs it; doctor then finds nothing that is missing."""
    options = TargetOptions(host=server.host, port=server.port)
    [line] = PLUGIN.grants(options, engine="valkey", admin="least", login=None)
    server.run(*line.replace("…", "of-the-least-admin").split())
    admin = Credential(username="least", password=Secret("of-the-least-admin"))
    target = PLUGIN.target("main", options, lambda: admin)
    try:
        found = target.examine(step_context())
    finally:
        target.close()
        server.run("ACL", "DELUSER", "least")
    assert [one.message for one in found if one.severity is not Severity.OK] == []
    assert any("the admin login authenticated" in one.message for one in found)
