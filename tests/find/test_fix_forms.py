"""Every form of the corpus: a reference takes the place of the password, or a sentence says what to do instead."""

from __future__ import annotations

import ast
import io
import json
import random
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import dotenv
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rotator.agent.formats import FORMATS
from rotator.find.registry import form_of, read
from rotator.find.replacement import Rewritten, rewrite
from tests.find.corpus import FORMS, Form, escaped, generated, human

if TYPE_CHECKING:
    from collections.abc import Callable

_SECRET: Final = "shop-db"
_MARK: Final = "the password"
# What an operator does instead, by the name of the form.
_LEFT: Final = {
    "kubernetes stringData": "{kubernetes: {secret: shop-db, keys: {password: '{password}'}}}",
    "kubernetes data": "{kubernetes: {secret: shop-db, keys: {password: '{password}'}}}",
    "config map file": "{kubernetes: {secret: shop-db, files: {application.properties: {format: template, options: {template: '...'}}}}}",
    "helm values": "{kubernetes: {secret: shop-db, keys: {password: '{password}'}}}",
    "helm template": "{kubernetes: {secret: shop-db, keys: {password: '{password}'}}}",
    "json": "{password:json} in place of the password and of its quotation marks",
    "json URL": "{password:url} in place of the password",
    "appsettings": "ConnectionStrings__Default",
    "ecs task": "`valueFrom`",
    "toml": "{password:json}",
    "toml literal": "{password:json}",
    "ini": "{password} in place",
    "alembic": "{password:url} in place",
    "my.cnf": "{file: /run/shop-db/.my.cnf, format: my.cnf}",
    "pg_service": "{file: /run/shop-db/.pgpass, format: pgpass}",
    "jdbc query": "{password:url}",
    "jdbc xml": "{password:xml}",
    "jdbc query xml": "{password:url}",
    "tomcat": "{password:xml}",
    "xml element": "{password:xml}",
    "web.config": "{password:ado:xml}",
    "pgpass": "{file: /run/shop-db/.pgpass, format: pgpass}",
    "userlist": "{file: /run/shop-db/userlist.txt, format: userlist}",
    "netrc": "{file: /run/shop-db/.netrc, format: template",
    "pgbouncer": "{file: /run/shop-db/userlist.txt, format: userlist}",
    "redis.conf": "{file: /run/shop-db/redis.conf, format: template",
    "valkey acl": "{file: /run/shop-db/users.acl, format: template",
    "dockerfile ENV": "start the container with --env POSTGRES_PASSWORD",
    "dockerfile ENV old": "start the container with --env MYSQL_PASSWORD",
    "dockerfile ARG": "--mount=type=secret,id=shop-db",
    "sql role": "remove the password from the script",
    "sql alter": "remove the password from the script",
    "sql identified": "remove the password from the script",
    "foreign server": "remove the password from the script",
    "sql in python": "give the password to the driver as a parameter",
    "log": "remove the line",
    "comment": "it is in a comment",
    "rails ERB": "remove the default",
    "rails ERB URL": "remove the default",
    "ansible inventory": "{password} in place",
    "kubernetes args": "Kubernetes expands $(SHOP_DB_PASSWORD) in commands",
    "kubernetes secret dotenv": "{kubernetes: {secret: shop-db, files: {app.env: {format: template, options: {template: '...'}}}}}",
    "prisma": 'env("DATABASE_URL")',
    "cloudformation default": "{password} in place",
    "logstash": "{password} in place",
    "gitea": "{password} in place",
}
_SINK: Final = re.compile(r"\{(?:file|kubernetes): .*?\}(?=\. |$)")


def _rewritten(form: Form, value: str) -> tuple[str, str, Rewritten]:
    """Return the value as the reader finds it, the text before, and the result."""
    text = form.render(value)
    (found,) = [one.value.reveal() for one in read(form.path, text).matches if not one.weak]
    return found, text, rewrite(form.path, text, {found: _SECRET})


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_reference_or_a_sentence(form: Form):
    """Never both, never neither. What is left is not changed by a byte."""
    chance = random.Random(form.name)
    for value in (
        human(chance),
        generated(chance, bare=form.bare),
        escaped(chance, bare=form.bare),
    ):
        found, text, result = _rewritten(form, value)
        if form.name in _LEFT:
            assert (result.text, result.changes) == (text, [])
            ((_, reason),) = result.left
            assert _LEFT[form.name] in reason
            for sink in _SINK.findall(reason):
                kind = yaml.safe_load(sink)
                assert "kubernetes" in kind or kind["format"] in FORMATS
            continue
        assert result.left == [], (form.name, text, result.left)
        assert len(result.changes) == 1
        for spelling in (found, quote(found, safe="")):
            assert spelling not in result.text, (form.name, text, result.text)
        assert [one for one in read(form.path, result.text).matches if not one.weak] == []
        _expect_the_rest(form.path, text, found, result)


def test_every_exception_is_a_form():
    """A form that can be replaced by now is not listed."""
    assert set(_LEFT) <= {form.name for form in FORMS}


# -- everything but the value -------------------------------------------------------------------------


def _expect_the_rest(path: str, text: str, value: str, result: Rewritten) -> None:
    """Every other line stays, and the file parses to the same but for the value."""
    line = result.changes[0].line
    others = [one for number, one in enumerate(text.splitlines(), start=1) if number != line]
    after = iter(result.text.splitlines())
    notebook = form_of(path, text) == "notebook"
    assert notebook or all(one in after for one in others), (text, result.text)
    shape = _SHAPES.get(form_of(path, text))
    if shape is not None and "{{" not in text:
        reference = result.changes[0].reference
        assert shape(text, value, reference) == shape(result.text, value, reference), result.text


def _marked(value: Any, password: str, reference: str) -> Any:
    """Return a tree in which the texts that have the password or the reference are the same."""
    if isinstance(value, dict):
        tree = cast("dict[str, Any]", value)
        if "valueFrom" in tree:
            return {**{key: one for key, one in tree.items() if key != "valueFrom"}, "value": _MARK}
        return {key: _marked(one, password, reference) for key, one in tree.items()}
    if isinstance(value, list):
        return [_marked(one, password, reference) for one in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value
    default = re.compile(r"\$\{\w+:?-?" + re.escape(password) + r"\}")
    plain = default.sub(_MARK, value).replace(reference, _MARK)
    return plain.replace(password, _MARK).replace(quote(password, safe=""), _MARK)


def _yaml(text: str, password: str, reference: str) -> Any:
    found = [_marked(one, password, reference) for one in yaml.safe_load_all(text)]
    # In a script the reference has quotation marks.
    return json.loads(json.dumps(found).replace(f'\\"{_MARK}\\"', _MARK))


def _dotenv(text: str, password: str, reference: str) -> Any:
    return _marked(
        dict(dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)), password, reference
    )


def _shell(text: str, password: str, reference: str) -> Any:
    """Return the words of each command, as a shell expands them where the variable has the password."""
    name = reference.strip("${}:?")
    value = quote(password, safe="") if name.endswith("_URL") else password
    commands = [
        re.split(r" (?:[|] gzip|> shop)", line)[0] for line in text.splitlines() if line[:1] != "#"
    ]
    script = "\n".join(f"printf '%s\\n' {one}" for one in commands if one)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={name: value}, capture_output=True, text=True, check=True
    )
    return done.stdout


def _python(text: str, password: str, reference: str) -> Any:
    """Return the texts and the names that have nothing to do with the password."""
    found = list[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword | ast.arg):
            found.append(str(node.arg))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Dict):
            found += [one.value for one in node.keys if isinstance(one, ast.Constant)]
    return sorted(one for one in found if one != "safe")


def _notebook(text: str, password: str, reference: str) -> Any:
    notebook = json.loads(text)
    return [
        {key: one for key, one in cell.items() if key != "source"} for cell in notebook["cells"]
    ]


_SHAPES: Final[dict[str, Callable[[str, str, str], Any]]] = {
    "yaml": _yaml,
    "dotenv": _dotenv,
    "shell": _shell,
    "python": _python,
    "notebook": _notebook,
}

_NAMES: Final = st.from_regex(r"[A-Z][A-Z_]{2,8}", fullmatch=True).filter(
    lambda name: "P" not in name and "S" not in name
)
_VALUES: Final = st.text(
    st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="`"), max_size=12
).map(str.strip)
_PASSWORDS: Final = st.from_regex(
    r"Kn[a-zA-Z0-9!$%&*+,./:;<=>?@^_|~'\"\\ #-]{4,14}7x", fullmatch=True
)


@given(others=st.dictionaries(_NAMES, _VALUES, max_size=5), password=_PASSWORDS)
def test_any_compose_file(others: dict[str, str], password: str):
    """Whatever the neighbours and the password are, and however they are written."""
    environment = {"DB_PASSWORD": password, **others}
    for style in (None, "'", '"', "|"):
        for flow in (False, True):
            text = yaml.dump({"services": {"db": {"environment": environment}}}, default_style=style, default_flow_style=flow, sort_keys=False)  # fmt: skip
            _expect_it_alone("compose.yaml", text, password)


@given(others=st.dictionaries(_NAMES, _VALUES, max_size=5), password=_PASSWORDS)
def test_any_python(others: dict[str, str], password: str):
    """Also with quotation marks and escapes in it."""
    environment = {**others, "DB_PASSWORD": password}
    for text in (f"x = {environment!r}\n", f"connect(**{others!r}, password={password!r})\n"):
        _expect_it_alone("app.py", text, password)


@given(others=st.dictionaries(_NAMES, _VALUES, max_size=5), password=_PASSWORDS)
def test_any_script(others: dict[str, str], password: str):
    """The words of the other commands stay."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in others.items()]
    text = "\n".join([*lines, f"export PGPASSWORD={shlex.quote(password)}", "psql", ""])
    _expect_it_alone("run.sh", text, password)


@given(others=st.dictionaries(_NAMES, _VALUES, max_size=5), password=_PASSWORDS)
def test_any_dotenv(others: dict[str, str], password: str):
    """As python-dotenv reads it."""

    def written(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    if set("\\'") & {*password, *"".join(others.values())}:
        return
    lines = [
        f"{name}={written(value)}" for name, value in {**others, "DB_PASSWORD": password}.items()
    ]
    _expect_it_alone(".env", "\n".join([*lines, ""]), password)


@given(others=st.dictionaries(_NAMES, _VALUES, max_size=5), password=_PASSWORDS)
def test_any_form_without_variables(others: dict[str, str], password: str):
    """It is not changed."""
    for path, text in (
        ("config.json", json.dumps({**others, "db_password": password})),
        ("config.toml", f"db_password = {json.dumps(password)}\n"),
        (".my.cnf", f"[client]\npassword={json.dumps(password)}\n"),
    ):
        result = rewrite(
            path, text, {one.value.reveal(): _SECRET for one in read(path, text).matches}
        )
        assert result.text == text


def _expect_it_alone(path: str, text: str, password: str) -> None:
    """A password that the reader finds is replaced alone, or it stays with everything else."""
    if password not in [one.value.reveal() for one in read(path, text).matches]:
        return
    result = rewrite(path, text, {password: _SECRET})
    if not result.changes:
        assert result.left
        assert result.text == text
        return
    shape = _SHAPES[form_of(path, text)]
    reference = result.changes[0].reference
    assert shape(text, password, reference) == shape(result.text, password, reference), result.text
    assert password not in result.text
