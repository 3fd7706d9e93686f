"""Commands in the documentation: the program takes each, and the tutorials' run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.faces.cli import program
from tests.cli.installed_program import Real
from tests.docs.consoles import DOCS, commands, rotator_commands

if TYPE_CHECKING:
    from rotator.testing.postgres import ScratchPostgres

_ROOT = DOCS.parent
_PAGES = sorted([_ROOT / "README.md", *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_the_program_takes_every_command_of_a_page(page: Path):
    """With each argument and option, as it is printed."""
    wrong = [
        f"{' '.join(words)}: {why}"
        for words in rotator_commands(page)
        if (why := _rejection(words))
    ]
    assert wrong == []


def _rejection(words: list[str]) -> str:
    """Return why the program does not take these words; empty when it does."""
    group, context = program.build(), None
    name, rest = "rotator", list(words)
    try:
        while hasattr(group, "list_commands"):
            if not rest:
                return ""
            context = group.make_context(name, [], parent=context, resilient_parsing=True)
            name = rest.pop(0)
            found = group.get_command(context, name)
            if found is None:
                return f"no command {name}"
            group = found
        group.make_context(name, rest, parent=context)
    except Exception as error:  # noqa: BLE001 # whatever click raises is the reason
        return str(error) or type(error).__name__
    return ""


def test_the_first_rotation_runs_as_the_tutorial_shows(postgres: ScratchPostgres, tmp_path: Path):
    """Each command of the page, in order, on a real server."""
    page = DOCS / "tutorials" / "first-rotation.md"
    [statements] = re.findall(r"(?ms)^```sql\n(.*?)^```$", page.read_text())
    with postgres.connect() as admin:
        admin.autocommit = True
        for statement in statements.strip().splitlines():
            admin.execute(statement.encode())
    real = Real(folder=tmp_path, server=postgres)
    outputs: dict[str, str] = {}
    for words in commands(page):
        match words:
            case ["mkdir", name]:
                (real.folder / name).mkdir()
            case ["cd", name]:
                real.folder = real.folder / name
            case ["export", *assignments]:
                real.environ |= dict(one.split("=", 1) for one in assignments)
            case ["rotator", *arguments]:
                place = f"{postgres.host}:{postgres.port}"
                given = [one.replace("127.0.0.1:5432", place) for one in arguments]
                outputs[" ".join(arguments)] = real(*given).out
            case _:
                # Setting up Python, which the tests have done.
                assert words[0] in {"python3", ".", "pip"}
    assert "grace" in outputs["status"]
    assert outputs["get shop --field username"] == "shop"
    assert "login attempt with it was rejected" in outputs["revoke shop"]
    assert real.json("audit", "verify").data["ok"] is True
    with postgres.connect() as admin:
        admin.autocommit = True
        admin.execute("DROP DATABASE shop")
