"""The guide to rotating the admin, command by command, and what doctor reports of an admin."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import yaml

from rotator.backends.local import LocalBackend
from rotator.core.model import Severity
from tests.cli.installed_program import Real
from tests.docs.consoles import DOCS, rotator_commands

if TYPE_CHECKING:
    from rotator.api import Version
    from rotator.testing.postgres import ScratchPostgres
    from tests.own_admin.conftest import OwnAdmin

_GUIDE = DOCS / "how-to" / "rotate-the-admin.md"


def _write(own: OwnAdmin, server: ScratchPostgres) -> None:
    """Write the first configuration of the guide, for a server that exists."""
    [given, *_] = [
        part.removeprefix("yaml\n")
        for part in _GUIDE.read_text().split("```")
        if part.startswith("yaml")
    ]
    found = yaml.safe_load(given)
    found["targets"]["main"] |= {"host": server.host, "port": server.port}
    found["secrets"]["main-admin"]["options"]["username"] = own.first.username
    targets, secrets = (
        textwrap.indent(yaml.safe_dump(found[key]), "  ") for key in ("targets", "secrets")
    )
    own.write(targets, secrets)


def test_the_guide_takes_the_admin_over_and_rotates_it(own: OwnAdmin, postgres: ScratchPostgres):
    """Its password comes from where it is kept today; nobody puts it into the backend by hand."""
    _write(own, postgres)
    real = Real(folder=own.folder, server=postgres)
    real.environ["ADMIN_TODAY"] = own.first.password.reveal()
    missing = real("plan", "main-admin", code=3)
    assert "rotator adopt main-admin" in missing.err
    said = {"rotator_admin": own.first.username, "prompt": "env:ADMIN_TODAY"}
    for words in rotator_commands(_GUIDE):
        _ = real(*(said.get(word, word) for word in words))
    assert not own.logs_in(own.first)
    findings = real.json("doctor").data["findings"]
    assert "its admin is the secret main-admin, which rotator rotates" in [
        one["message"] for one in findings
    ]
    assert real("plan", "main-admin").out.count("scratch login") == 2


@pytest.mark.parametrize(("days", "expected"), [(400, [Severity.WARNING]), (300, [])])
def test_doctor_warns_of_a_password_that_is_known_to_be_old(
    own: OwnAdmin,
    postgres: ScratchPostgres,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    expected: list[Severity],
):
    """The backend knows since when it has it; of a variable or a file nobody knows."""
    target = f"plugin: postgresql, host: 127.0.0.1, port: {postgres.port}"
    own.write(
        f'  main: {{{target}, admin: {{username: postgres, password: "local:admin#password"}}}}\n',
        "  shop: {target: main, backend: local, strategy: single-user, options: {username: shop}}\n",
    )
    with own.app() as app:
        backend = app.backend("local")
        _ = backend.stage("admin", "r-1", own.first)
        _ = backend.publish("admin", "r-1", expect=None)
        real, now = LocalBackend.current, app.clock.now()

        def aged(backend: LocalBackend, path: str) -> Version | None:
            found = real(backend, path)
            return replace(found, created=now - timedelta(days=days)) if found else None

        monkeypatch.setattr(LocalBackend, "current", aged)
        found = [one for one in app.doctor(["shop"]) if "unchanged since" in one.message]
    assert [one.severity for one in found] == expected
