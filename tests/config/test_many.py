"""Many secrets, little text: defaults, included files, lists of names; each mistake has its place."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from rotator.config import ConfigError, Settings, load
from tests.config import plugins

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.config import Problem
    from tests.config.conftest import Load, Problems

HEAD = """\
version: 1
backends: {b: {type: drawer}, c: {type: drawer}}
targets:
  t: {plugin: paper, host: h, admin: {username: root, password: env:PW}}
  u: {plugin: paper, host: u, admin: {username: root, password: env:PW}}
policies: {slow: {every: 90d, grace: 2h}}
"""
DEFAULTS = """\
defaults:
  target: t
  backend: b
  strategy: new-user
  path: apps/{name}
  options: {group: "{name}_owner"}
  policy: slow
  tags: [prod]
"""


class Files(Protocol):
    """Write several files, the first of them `rotator.yaml`, and load them."""

    def __call__(self, main: str, **others: str) -> Settings:
        """Return the settings."""
        ...


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Load a configuration of several files; `a__b` stands for `a/b.yaml`."""

    def loaded(main: str, **others: str) -> Settings:
        (tmp_path / "rotator.yaml").write_text(HEAD + textwrap.dedent(main))
        for name, text in others.items():
            file = tmp_path / f"{name.replace('__', '/')}.yaml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return load(
            tmp_path / "rotator.yaml", rotations=plugins.rotations, backends=plugins.backends
        )

    return loaded


def refused(files: Files, main: str, **others: str) -> list[tuple[str, int, str]]:
    """Return the places of everything that is wrong: file, line below the head, key."""
    return [_place(one) for one in _problems(files, main, **others)]


def _problems(files: Files, main: str, **others: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        files(main, **others)
    assert all(one.remedy for one in caught.value.problems)
    assert "hunter2" not in str(caught.value)
    return caught.value.problems


def _place(one: Problem) -> tuple[str, int, str]:
    file = one.file.rpartition("/")[2]
    above = HEAD.count("\n") if file == "rotator.yaml" else 0
    return file, one.line - above, one.key


# -- defaults --------------------------------------------------------------------------------------


def test_a_secret_has_the_defaults_with_its_name_filled_in(settings: Load):
    """What is not said comes from the defaults; `{name}` is the secret's name."""
    app = settings(HEAD + DEFAULTS + "secrets:\n  app:\n").secrets["app"]
    assert (app.target, app.backend, app.path, app.strategy) == ("t", "b", "apps/app", "new-user")
    assert app.options == plugins.SecretOptions(group="app_owner")
    assert app.tags == ("prod",)
    assert (app.policy.every, app.policy.grace) == (timedelta(days=90), timedelta(hours=2))


def test_a_list_of_names_is_enough_where_the_defaults_say_all(settings: Load):
    """Each name is a secret."""
    read = settings(HEAD + DEFAULTS + "secrets: [app, web]\n")
    assert [one.path for one in read.secrets.values()] == ["apps/app", "apps/web"]


def test_what_a_secret_says_goes_before_the_defaults(settings: Load):
    """Values are replaced, options completed key by key, tags added."""
    text = "secrets:\n  app: {target: u, path: x, options: {users: [a]}, tags: [eu, prod]}\n"
    app = settings(HEAD + DEFAULTS + text).secrets["app"]
    assert (app.target, app.path) == ("u", "x")
    assert app.options == plugins.SecretOptions(group="app_owner", users=("a",))
    assert app.tags == ("eu", "prod")


def test_null_takes_a_default_away(settings: Load):
    """A key or option that is null is as if there were no default for it."""
    text = "secrets:\n  app: {strategy: single-user, path: null, tags: null, policy: null, options: {group: null, username: app}}\n"
    app = settings(HEAD + DEFAULTS + text).secrets["app"]
    assert (app.path, app.tags) == ("app", ())
    assert app.options == plugins.SecretOptions(username="app")
    assert app.policy.every is None


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        ("slow", "{grace: 1h}", (90, 1)),
        ("{every: 40d, grace: 3h}", "{grace: 1h}", (40, 1)),
        ("{every: 40d, grace: 3h}", "slow", (90, 2)),
        ("{every: 40d, grace: 3h}", "{base: slow, grace: 1h}", (90, 1)),
    ],
)
def test_keys_of_a_policy_are_laid_over_the_default_policy(
    default: str, own: str, expected: tuple[int, int], settings: Load
):
    """A secret's keys go over the default's; a secret's named policy takes its place."""
    text = f"defaults: {{target: t, backend: b, strategy: new-user, policy: {default}}}\n"
    app = settings(f"{HEAD}{text}secrets: {{app: {{policy: {own}}}}}\n").secrets["app"]
    assert app.policy.every is not None
    assert (app.policy.every.days, app.policy.grace.total_seconds() / 3600) == expected


def test_nested_keys_of_a_policy_are_completed(settings: Load):
    """`retry` of a secret leaves the other keys of the default's `retry`."""
    text = """\
defaults: {target: t, backend: b, strategy: new-user, policy: {retry: {attempts: 2, cycles: 9}}}
secrets: {app: {policy: {retry: {attempts: 4}}}}
"""
    policy = settings(HEAD + text).secrets["app"].policy
    assert (policy.attempts, policy.cycles) == (4, 9)


@pytest.mark.parametrize(
    ("defaults", "place", "says"),
    [
        ("{target: nope}", "defaults.target", "unknown target"),
        ("{backend: nope}", "defaults.backend", "unknown backend"),
        ("{policy: nope}", "defaults.policy", "unknown policy"),
        ("{policy: {grade: 1h}}", "defaults.policy.grade", "unknown key"),
        ("{stratgy: new-user}", "defaults.stratgy", "unknown key"),
        (
            "{strategy: none}",
            "defaults.strategy",
            "secret `app`: unknown strategy of plugin `paper`",
        ),
        ("{options: {group: 5}}", "defaults.options.group", "secret `app`: expected text"),
        ("{options: {grop: x}}", "defaults.options.grop", "secret `app`: unknown key"),
        ("{options: {group: nobody}}", "defaults.options", "secret `app`: `new-user` needs"),
        ("{path: apps}", "defaults.path", "all secrets would use this one path"),
        ("{path: 'x/{nmae}'}", "defaults.path", "unknown placeholder"),
        (
            "{options: {users: ['{user}']}}",
            "defaults.options.users.0",
            "unknown placeholder",
        ),
        ("{tags: [prod, 'b d']}", "defaults.tags.1", "invalid character"),
        ("{copies: [{backend: c, path: x}]}", "defaults.copies.0.path", "all secrets would"),
        ("{policy: {every: 1h, grace: 2h}}", "defaults.policy.every", "secret `app`: the period"),
        ("[hunter2]", "defaults", "expected a mapping"),
        ("hunter2", "defaults", "expected a mapping"),
    ],
)
def test_a_mistake_in_the_defaults_is_told_once_and_there(
    defaults: str, place: str, says: str, problems: Problems
):
    """With the line of the defaults, however many secrets have it."""
    text = f"""\
defaults: {defaults}
secrets:
  app: {{&all target: t, backend: b, strategy: new-user}}
"""
    keys = ("target", "backend", "strategy")
    given = ", ".join(
        f"{key}: {value}"
        for key, value in zip(keys, ("t", "b", "new-user"), strict=True)
        if f"{{{key}" not in defaults
    )
    text = f"defaults: {defaults}\nsecrets:\n" + "".join(
        f"  {name}: {{{given}}}\n" for name in ("app", "web", "old")
    )
    found = [one for one in problems(HEAD + text) if one.key.startswith("defaults")]
    assert [(one.line, one.key) for one in found] == [(HEAD.count("\n") + 1, place)]
    assert says in found[0].message
    assert found[0].remedy
    assert "hunter2" not in str(found[0])


def test_a_login_that_the_defaults_give_to_several_is_told_at_the_default(problems: Problems):
    """`username` without the secret's name is one login for all."""
    text = "defaults: {target: t, backend: b, strategy: single-user, options: {username: one}}\n"
    found = problems(f"{HEAD}{text}secrets: [app, web, old]\n")
    assert [(one.line, one.key) for one in found] == [
        (HEAD.count("\n") + 1, "defaults.options.username")
    ]
    assert "same login" in found[0].message


def test_what_neither_says_is_missing_at_the_secret(problems: Problems):
    """A secret without defaults has everything missing, in its own line."""
    found = problems(f"{HEAD}defaults: {{target: t}}\nsecrets:\n  app:\n  web: {{backend: b}}\n")
    below = HEAD.count("\n") + 1
    assert [(one.line - below, one.key) for one in found] == [
        (2, "secrets.app.backend"),
        (2, "secrets.app.strategy"),
        (3, "secrets.web.strategy"),
    ]


@pytest.mark.parametrize(
    ("secrets", "key"),
    [
        ("[app, app]", "secrets.1"),
        ("[app, 5]", "secrets.1"),
        ("[app, {web: {}}]", "secrets.1"),
        ("[app, 'b d']", "secrets.?"),
        ("{app: hunter2}", "secrets.app"),
        ("{app: [hunter2]}", "secrets.app"),
    ],
)
def test_a_bad_entry_of_a_short_form_is_told_in_its_place(
    secrets: str, key: str, problems: Problems
):
    """One problem, and no value in it."""
    found = problems(f"{HEAD}{DEFAULTS}secrets: {secrets}\n")
    assert [one.key for one in found] == [key]
    assert found[0].line == (HEAD + DEFAULTS).count("\n") + 1
    assert "hunter2" not in str(found[0])


# -- include ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "include",
    [
        "secrets.d/*.yaml",
        "secrets.d",
        "[secrets.d/a.yaml, secrets.d/b.yaml]",
        "secrets.?/[ab].yaml",
    ],
)
def test_included_files_are_read_as_one_configuration(include: str, files: Files):
    """By pattern, folder or name; a file may hold targets and policies too."""
    read = files(
        f"{DEFAULTS}include: {include}\nsecrets: [app]\n",
        secrets__x="",
        **{
            "secrets.d__a": "secrets: {web: {policy: fast}}\npolicies: {fast: {every: 7d, grace: 1h}}",
            "secrets.d__b": "# nothing yet\n",
        },
    )
    assert list(read.secrets) == ["app", "web"]
    assert read.secrets["web"].path == "apps/web"
    assert read.secrets["web"].policy.every == timedelta(days=7)


def test_a_file_has_defaults_of_its_own_over_those_of_the_file_above(files: Files):
    """A file per server names its target once."""
    read = files(
        DEFAULTS + "include: d\nsecrets: [app]\n",
        d__two="defaults: {target: u, tags: [two]}\nsecrets: [web]\n",
        d__three="secrets: [old]\n",
    )
    assert {one.name: (one.target, one.tags) for one in read.secrets.values()} == {
        "app": ("t", ("prod",)),
        "old": ("t", ("prod",)),
        "web": ("u", ("two", "prod")),
    }


def test_an_included_file_may_include_files_beside_it(files: Files):
    """From its own folder."""
    read = files(DEFAULTS + "include: d/a.yaml\n", d__a="include: b.yaml", d__b="secrets: [web]")
    assert list(read.secrets) == ["web"]


def test_a_file_that_two_patterns_name_is_read_once(files: Files):
    """Nothing in it is there twice."""
    assert list(files(DEFAULTS + "include: [d, d/a.yaml]\n", d__a="secrets: [web]").secrets)


@pytest.mark.parametrize(
    ("main", "others", "place", "says"),
    [
        ("include: nope.yaml\n", {}, ("rotator.yaml", 1, "include"), "no such file"),
        ("include: [d, x/*.yaml]\n", {}, ("rotator.yaml", 1, "include.1"), "folder of this"),
        ("include: 5\n", {}, ("rotator.yaml", 1, "include"), "expected a path"),
        ("include: [5]\n", {}, ("rotator.yaml", 1, "include"), "expected a path"),
        ("include: {a: b}\n", {}, ("rotator.yaml", 1, "include"), "expected a path"),
        ("include: '*.yaml'\n", {}, ("rotator.yaml", 1, "include"), "this file includes itself"),
        ("include: .\n", {}, ("rotator.yaml", 1, "include"), "this file includes itself"),
        ('include: "a\\0b"\n', {}, ("rotator.yaml", 1, "include"), "no such file"),
        (
            "include: d\n",
            {"d__a": "include: ../rotator.yaml"},
            ("a.yaml", 1, "include"),
            "includes itself",
        ),
        ("include: d\n", {"d__a": "include: a.yaml"}, ("a.yaml", 1, "include"), "includes itself"),
        ("include: d\n", {"d__a": "\n[hunter2]"}, ("a.yaml", 2, ""), "expected a mapping"),
        ("include: d\n", {"d__a": "\na: b: c"}, ("a.yaml", 2, ""), "invalid YAML"),
        ("include: d\n", {"d__a": "version: 2"}, ("a.yaml", 1, "version"), "the version differs"),
        ("include: d\n", {"d__a": "\njournal: {}"}, ("a.yaml", 2, "journal"), "unknown key"),
        ("include: d\n", {"d__a": "secrets: hunter2"}, ("a.yaml", 1, "secrets"), "a mapping"),
        ("include: d\n", {"d__a": "secrets: {a: 5}"}, ("a.yaml", 1, "secrets.a"), "a mapping"),
        (
            "include: d\n",
            {"d__a": "# x\ndefaults: {strategy: none}\nsecrets: [a, b]"},
            ("a.yaml", 2, "defaults.strategy"),
            "unknown strategy",
        ),
        (
            "include: d\n",
            {"d__a": "# x\nsecrets:\n  web: {strategy: none}"},
            ("a.yaml", 3, "secrets.web.strategy"),
            "unknown strategy",
        ),
        (
            "include: d\nsecrets: [a]\n",
            {"d__a": "secrets: [web, a]"},
            ("a.yaml", 1, "secrets.a"),
            "duplicate name; the first is in",
        ),
        (
            "include: d\n",
            {"d__a": "\ntargets: {t: {plugin: paper}}"},
            ("a.yaml", 2, "targets.t"),
            "rotator.yaml, line 4",
        ),
        (
            "include: d\n",
            {"d__a": "secrets: [a]", "d__b": "\n\nsecrets: {a: }"},
            ("b.yaml", 3, "secrets.a"),
            "d/a.yaml, line 1",
        ),
        (
            "include: d\n",
            {"d__a": "partners: {p: {apart: 6h, secrets: [nope, web]}}\nsecrets: [web]"},
            ("a.yaml", 1, "partners.p.secrets.0"),
            "unknown secret",
        ),
    ],
)
def test_a_mistake_in_several_files_is_told_with_its_file_and_line(
    main: str,
    others: dict[str, str],
    place: tuple[str, int, str],
    says: str,
    files: Files,
    tmp_path: Path,
):
    """One problem: file, line, key and remedy."""
    (tmp_path / "d").mkdir()
    found = _problems(files, DEFAULTS + main, **others)
    file, line, key = place
    if file == "rotator.yaml":
        line += DEFAULTS.count("\n")
    assert [_place(one) for one in found] == [(file, line, key)], [str(one) for one in found]
    assert says in found[0].message


def test_a_problem_names_an_included_file_as_the_main_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Beside a relative path, a relative one: it can be opened as printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotator.yaml").write_text("version: 1\ninclude: d\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.yaml").write_text("secret: {}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path.relative_to(tmp_path) / "rotator.yaml")
    assert caught.value.problems[0].file == "d/a.yaml"


def test_a_change_in_an_included_file_is_seen(files: Files, tmp_path: Path):
    """As is a further file, and the correction of a file that could not be read."""
    watched = files(DEFAULTS + "include: d\n", d__a="secrets: [web]").watched
    before = watched.mark()
    assert watched.mark() == before
    (tmp_path / "d" / "b.yaml").write_text("secrets: [old]")
    added = watched.mark()
    (tmp_path / "d" / "a.yaml").write_text("secrets: [web2]")
    assert len({before, added, watched.mark()}) == 3
    with pytest.raises(ConfigError) as caught:
        files(DEFAULTS + "include: [d, e.yaml]\n", d__a="secrets: {web: 5}")
    broken = caught.value.watched.mark()
    (tmp_path / "d" / "a.yaml").write_text("secrets: {web: }")
    mended = caught.value.watched.mark()
    (tmp_path / "e.yaml").write_text("")
    assert len({broken, mended, caught.value.watched.mark()}) == 3


def test_problems_come_by_file(files: Files):
    """First those of the main file, then those of each included one in its lines' order."""
    places = refused(
        files,
        DEFAULTS + "include: d\nsecrets: {app: {strategy: none}}\n",
        d__a="secrets:\n  b: {strategy: none}\n  c: {target: none}\n",
    )
    assert [one[0] for one in places] == ["rotator.yaml", "a.yaml", "a.yaml"]
