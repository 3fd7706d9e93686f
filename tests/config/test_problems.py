"""Bad files: every problem is told with its line and key, what is wrong, what would be right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from rotator.config import ConfigError, load
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from tests.config.conftest import Load, Problems

# A good file; each bad one below replaces one line of it.
GOOD = """\
version: 1
journal:
  url: sqlite:///rotator.db
  signing_key: b:rotator/audit#private_key
backends:
  b: {type: drawer}
targets:
  t: {plugin: paper, host: h, admin: {username: root, password: env:PW}}
policies:
  default: {every: 30d}
  slow: {every: 90d}
secrets:
  billing:
    target: t
    backend: b
    strategy: new-user
    path: apps/billing
    options: {group: owner}
    policy: slow
    tags: [prod]
  web: {target: t, backend: b, strategy: single-user, options: {username: web}}
daemon: {catch_up: 1h}
"""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad line in the place of a good one, and what is said of it."""

    line: int
    text: str
    key: str
    says: str
    remedy: str = ""
    column: int | None = None


BAD = {
    title: Bad(**row)
    for title, row in yaml.safe_load(
        Path(__file__).with_name("bad_lines.yaml").read_text(encoding="utf-8")
    ).items()
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_told_with_its_place_and_remedy(bad: Bad, problems: Problems):
    """The problem has the line and key of what is wrong, says so, and repeats no value."""
    lines = GOOD.splitlines()
    lines[bad.line - 1] = bad.text
    found = problems("\n".join(lines))
    matching = [one for one in found if bad.says in one.message]
    assert matching, [str(one) for one in found]
    assert bad.key in {one.key for one in matching}
    first = next(one for one in matching if one.key == bad.key)
    assert bad.remedy in first.remedy
    assert all(one.remedy for one in found)
    # What the remedy says, the message does not say as well.
    assert all(mark not in first.message for mark in re.findall("`30d`.*", first.remedy))
    if first.key not in ("secrets.web", "secrets.web.options.username") and bad.key:
        # A key that is missing is reported at the line of what it is missing from.
        assert first.line == (13 if not bad.text else bad.line)
    assert first.line > 0
    if bad.column is not None:
        assert first.column == bad.column
    assert not re.search("hunter2|ter2|73317331", "\n".join(str(one) for one in found))


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems: Problems):
    """One run tells everything, whether it is wrong by itself, by a plugin or beside another."""
    found = problems("""\
        version: 1
        journal: {url: mysql://h/db, sining_key: x}
        backends: {b: {type: drawer, key: hunter2}, c: {type: nothing}}
        targets: {t: {plugin: paper, host: 5}}
        policies: {default: {every: 1h}, p: {password: {length: 1}}}
        secrets:
          one: {target: t, backend: b, strategy: none, path: x, options: {users: [u]}}
          two: {target: u, backend: b, strategy: none, path: x, options: {users: [u]}}
          three: {target: t, backend: b, strategy: new-user, options: {users: [u]}, tags: 1}
    """)
    assert [(one.line, one.key) for one in found] == [
        (2, "journal.url"),
        (2, "journal.sining_key"),
        (3, "backends.b.key"),
        (3, "backends.c.type"),
        (4, "targets.t.admin"),
        (4, "targets.t.host"),
        (5, "policies.default.every"),
        (5, "policies.p.password"),
        (7, "secrets.one.strategy"),
        (8, "secrets.two.target"),
        (8, "secrets.two.path"),
        (9, "secrets.three.options.users"),
        (9, "secrets.three.tags"),
    ]


def test_the_error_is_a_usage_error_that_lists_every_problem(tmp_path: Path):
    """Its text holds each problem with file, line, column and key, and says nothing was changed."""
    file = tmp_path / "rotator.yaml"
    file.write_text("version: 1\npolicys: {}\nsecret: {}\n")
    with pytest.raises(UsageError) as caught:
        load(file)
    text = str(caught.value)
    assert f"{file}:2:1: policys: unknown key. Did you mean `policies`?" in text
    assert f"{file}:3:1: secret: unknown key. Did you mean `secrets`?" in text
    assert text.endswith("The configuration was not loaded, and nothing was changed.")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"[version, 1]", "expected a mapping"),
        (b"hunter2", "expected a mapping"),
        (b"version: 1\nname: \xff\n", "not valid UTF-8"),
        (b"version: 1\nname: \x00\n", "a character that YAML forbids"),
        (b"version: 1\n---\nversion: 1\n", "more than one YAML document"),
        (b"[" * 5, "invalid YAML"),
        (b"[" * 5000 + b"]" * 5000, "too many levels of nesting"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes, says: str, tmp_path: Path):
    """An empty file, another document, or no text at all ends in one clear problem."""
    file = tmp_path / "rotator.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert says in caught.value.problems[0].message
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_points_to_init(tmp_path: Path):
    """Without a file there is no line; the remedy is the command that writes one."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "rotator.yaml")
    problem = caught.value.problems[0]
    assert (problem.line, problem.remedy) == (0, "To write an example: `rotator init`.")
    assert str(problem).startswith(f"{tmp_path}/rotator.yaml: cannot read the file (No such file")


def test_a_folder_is_no_file(tmp_path: Path):
    """A path that leads to a folder is refused in the system's words."""
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


_TWO_ENTRIES = """\
version: 1
backends: {{b: {{type: drawer}}}}
targets:
  t: {{plugin: paper, host: DB.example.org, admin: {{username: root, password: "env:PW"}}}}
  u: {{plugin: paper, host: {host}, admin: {{username: other, password: "env:PW"}}}}
secrets:
  web: {{target: t, backend: b, strategy: single-user, options: {{username: web}}}}
  shop: {{target: u, backend: b, strategy: single-user, options: {{username: {login}}}}}
"""


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("web", "secret `web` has the same login on target `t`, which is the same server"),
        ("root", "this login is the admin of target `t`"),
    ],
)
def test_two_targets_on_one_server_have_one_set_of_logins(
    problems: Problems, settings: Load, login: str, says: str
):
    """A login that another entry rotates, or logs in with, is refused there; not on another host."""
    [problem] = problems(_TWO_ENTRIES.format(host="db.example.org", login=login))
    assert problem.key == "secrets.shop.options.username"
    assert says in problem.message
    assert set(settings(_TWO_ENTRIES.format(host="elsewhere", login=login)).secrets) == {
        "web",
        "shop",
    }
