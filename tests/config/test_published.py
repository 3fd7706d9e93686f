"""What is published of the configuration says what the code does: schema, docs, first file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from rotator import plugins
from rotator.config import ConfigError, load, schema, tables, template
from rotator.core.errors import UsageError
from rotator.core.model import Policy

DOCS = Path(__file__).parents[2] / "docs" / "reference"
SCHEMA = DOCS / "rotator.schema.json"
PAGE = DOCS / "configuration.md"


def _load(text: str, folder: Path) -> Any:
    file = folder / "rotator.yaml"
    file.write_text(text)
    return load(file)


def _uncommented(text: str) -> str:
    head, mark, secrets = text.partition("secrets:\n")
    return head + mark + re.sub(r"^  # ", "  ", secrets, flags=re.MULTILINE)


def test_the_committed_schema_is_the_one_that_the_code_makes():
    """docs/reference/rotator.schema.json is fresh; if not: python -m rotator.config > docs/reference/rotator.schema.json."""
    assert SCHEMA.read_text(encoding="utf-8") == schema.text()


def test_the_schema_is_printed_by_the_module():
    """`python -m rotator.config` prints it."""
    command = [sys.executable, "-W", "error", "-m", "rotator.config"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(printed.stdout) == schema.build()


def test_the_schema_is_a_draft_2020_12_schema_in_which_everything_is_described():
    """Each key of the file and each option of a plugin of ours carries a description."""
    made = schema.build()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    undescribed = [
        f"{name}.{key}"
        for name, one in {"": made, **made["$defs"]}.items()
        for key, value in one.get("properties", {}).items()
        if value is not True and not value.get("description")
    ]
    assert undescribed == []


def test_every_default_can_be_written_into_the_file():
    """What an editor fills in, and what the page shows, means the same as nothing."""
    definitions, checked = schema.build()["$defs"], 0
    for model in tables.documents():
        properties = definitions.get(model.__name__, {}).get("properties", {})
        for name, field in model.model_fields.items():
            default = properties.get(field.alias or name, {}).get("default")
            meant = field.get_default(call_default_factory=True)
            if isinstance(default, dict) and isinstance(meant, BaseModel):
                for written in (default, yaml.safe_load(tables.flow(default))):
                    made = type(meant).model_validate_json(json.dumps(written), strict=True)
                    assert made == meant, f"{model.__name__}.{name}"
                checked += 1
    assert checked >= 7


def test_the_schema_knows_the_options_of_our_plugins():
    """With `plugin: postgresql` or `type: local` only that plugin's keys may stand there."""
    made = schema.build()["$defs"]
    for document, key, name in (
        ("TargetDocument", "plugin", "postgresql"),
        ("BackendDocument", "type", "local"),
    ):
        choice = next(
            one["then"]["$ref"]
            for one in made[document]["allOf"]
            if one["if"]["properties"][key]["const"] == name
        )
        options = made[choice.removeprefix("#/$defs/")]
        assert options["additionalProperties"] is False
        assert set(made[document]["properties"]) < set(options["properties"])


def test_the_schema_accepts_the_first_file_and_refuses_bad_ones():
    """A validator of JSON Schema agrees with the loader on what a schema can tell."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema.build())
    validator = jsonschema.Draft202012Validator(schema.build())
    good = yaml.safe_load(_uncommented(template.commented_example()))
    assert [error.message for error in validator.iter_errors(good)] == []
    for path, value in (
        (("version",), 2),
        (("jurnal",), {}),
        (("journal", "url"), "mysql://h/db"),
        (("journal", "signing_key"), "no reference"),
        (("backends", "Bad Name"), {"type": "local"}),
        (("backends", "local", "key"), "no reference"),
        (("backends", "local", "keey"), "env:KEY"),
        (("targets", "main", "hots"), "h"),
        (("targets", "main", "admin"), "no reference"),
        (("policies", "default", "every"), "30"),
        (("policies", "default", "drain", "then"), "kill"),
        (("secrets", "billing", "policy"), {"grade": "1h"}),
        (("secrets", "billing", "tags"), "prod"),
    ):
        bad = json.loads(json.dumps(good))
        place = bad
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert not validator.is_valid(bad), path


def test_the_first_file_is_valid_as_it_stands(tmp_path: Path):
    """What `rotator init` writes loads; only the period differs from the defaults of the code."""
    read = _load(template.commented_example(), tmp_path)
    assert read.secrets == {}
    assert read.backends["local"].options == _options(plugins.BACKENDS, "local")
    assert read.targets["main"].options == _options(plugins.ROTATIONS, "postgresql")
    assert read.journal.signing_key == "local:rotator/audit#private_key"


def test_the_first_file_is_valid_with_its_examples_taken_in(tmp_path: Path):
    """Each strategy of our PostgreSQL plugin has an example, which loads, and the plugin takes it."""
    read = _load(_uncommented(template.commented_example()), tmp_path)
    info = dict(schema.own(plugins.ROTATIONS))["postgresql"]
    secrets = read.secrets.values()
    assert {one.strategy for one in secrets} == {one.name for one in info.strategies}
    assert read.secrets["shop"].policy == Policy(every=timedelta(days=30), grace=timedelta(hours=1))
    plugin = plugins.rotation_plugin("postgresql")
    target = plugin.target("main", read.targets["main"].options, pytest.fail)
    for one in secrets:
        target.rotation(one.strategy, one.options)


def test_the_first_file_has_the_default_policy_of_the_code(tmp_path: Path):
    """Its policy spells out the code's defaults, with a period of thirty days."""
    text = template.commented_example().replace(
        "secrets:\n", "secrets:\n  x: {target: main, backend: local, strategy: single-user}\n"
    )
    assert _load(text, tmp_path).secrets["x"].policy == Policy(every=timedelta(days=30))


def test_the_first_file_shows_every_key():
    """Nothing can be configured that the file does not show, if only behind a #."""
    text = template.commented_example()
    missing = [name for name in _keys() if not re.search(rf"(?m)(^|[ {{]){name}:", text)]
    assert missing == []
    assert max(len(line) for line in text.splitlines()) <= 100
    assert len(text.splitlines()) < 170


def test_the_first_file_is_written_without_drivers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Where plugins do not load, their parts are left out and say what to install."""

    def missing(name: str) -> Any:
        raise UsageError(f"no {name}")

    monkeypatch.setattr(plugins, "rotation_plugin", missing)
    monkeypatch.setattr(plugins, "backend_plugin", missing)
    text = template.commented_example()
    assert "pip install 'credential-rotator[postgresql]'" in text
    assert _load(text, tmp_path).targets == {}


def test_the_page_has_a_table_for_every_part_and_each_is_fresh():
    """docs/reference/configuration.md; if it is not: python -m rotator.config docs/reference/configuration.md."""
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- keys of (\S+) -->", text)) == sorted(tables.names())
    assert tables.fill(text) == text


def test_the_pages_example_loads(tmp_path: Path):
    """The file at the top of docs/reference/configuration.md is a good one."""
    example = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert list(_load(example, tmp_path).secrets) == ["billing"]


def test_the_pages_errors_are_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The bad file in docs/reference/configuration.md is refused with exactly the lines below it."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"This file\n\n```yaml\n(.*?)```.*?```text\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    with pytest.raises(ConfigError) as caught:
        _load(shown[1], Path())
    assert "".join(f"{one}\n" for one in caught.value.problems) == shown[2]


def _options(group: str, name: str) -> object:
    return dict(schema.own(group))[name].target_options()


def _keys() -> set[str]:
    return {
        field.alias or name
        for one in tables.documents()
        for name, field in one.model_fields.items()
    }
