"""References in connection strings of `key=value`: any password reaches the driver as it is."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import psycopg.conninfo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.agent.formats import fill
from rotator.client import Login
from rotator.core.secret import Secret
from rotator.find.replacement import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

_FOUND: Final = "Kanarie7-vogel"
_LIBPQ: Final = "host=db user=shop password={} dbname=shop"
_ADO: Final = "Server=db;User Id=shop;Password={};Database=shop"
_ODBC: Final = "Driver={{PostgreSQL}};Server=db;Uid=shop;Pwd={};Database=shop"


def _of_libpq(text: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(text)["password"])


def _of_ado(text: str) -> str:
    """As DbConnectionStringBuilder reads it."""
    (value,) = re.findall(r'(?:^|;)Password="((?:[^"]|"")*)"(?:;|$)', text)
    return str(value).replace('""', '"')


def _of_odbc(text: str) -> str:
    """As the driver manager reads it."""
    (value,) = re.findall(r"(?:^|;)Pwd=\{((?:[^}]|\}\})*)\}(?:;|$)", text)
    return str(value).replace("}}", "}")


def _python(text: str, variables: dict[str, str]) -> str:
    place: dict[str, object] = {}
    exec(text.replace("import os\n", ""), {"os": type("os", (), {"environ": variables})}, place)  # noqa: S102 # our own text
    return str(place["dsn"])


def _shell(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+):\?\}", lambda one: variables[one[1]], text)[len('dsn="') : -2]


def _joined(text: str, variables: dict[str, str]) -> str:
    """Of a language that joins strings by a plus sign."""
    lookups = re.sub(r"\b[\w.]+\(\"(\w+)\"\)", lambda one: repr(variables[one[1]]), text)
    return str(eval(lookups.partition("=")[2].strip(" ;\n")))  # noqa: S307 # our own text


_WRITTEN: Final[dict[str, tuple[str, str, Callable[[str, dict[str, str]], str]]]] = {
    "python": ("db.py", 'dsn = "{}"\n', _python),
    "f-string": ("db.py", 'dsn = f"{}"\n', _python),
    "shell": ("run.sh", 'dsn="{}"\n', _shell),
    "go": ("db.go", 'dsn := "{}"\n', _joined),
    "c#": ("Db.cs", 'dsn = "{}";\n', _joined),
}
_READ: Final = {
    _LIBPQ: ("libpq", _of_libpq),
    _ADO: ("ado", _of_ado),
    _ODBC: ("odbc", _of_odbc),
}


@pytest.mark.parametrize("form", _WRITTEN)
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("string", _READ, ids=lambda one: _READ[one][0])
@given(password=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1))
def test_a_variable_holds_the_password_as_the_connection_string_escapes_it(
    string: str, form: str, password: str, *, marked: bool
):
    """With blanks, quotation marks, semicolons and braces, in quotation marks or not."""
    path, text, value_of = _WRITTEN[form]
    conversion, read = _READ[string]
    value = f"'{_FOUND}'" if marked else _FOUND
    before = text.format(string.format(value)).replace("{PostgreSQL}", "PostgreSQL")
    result = rewrite(path, before, {_FOUND: "shop-db"})
    assert _FOUND in before
    if marked and form == "shell":
        assert result.text == before
        assert f"{{password:{conversion}}}" in result.left[0][1]
        return
    (change,) = result.changes
    name, _, template = change.template.partition("=")
    assert template == f"{{password:{conversion}}}"
    login = Login(username="shop", password=Secret(password), version="7", fields={})
    provided = fill(template, login).reveal()
    assert read(value_of(result.text, {name: provided})) == password, result.text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("db.php", "<?php $dsn = 'pgsql:host=db;dbname=shop;user=shop;password=@@';\n"),
        ("app.rb", 'x = "host=db,user=shop,password=@@"\n'),
    ],
)
def test_a_string_that_is_escaped_in_an_unknown_way_is_left(path: str, text: str):
    """The reason names what to do instead."""
    before = text.replace("@@", _FOUND)
    result = rewrite(path, before, {_FOUND: "shop-db"})
    assert result.text == before
    assert "as an argument, from the variable SHOP_DB_PASSWORD" in result.left[0][1]


def test_a_variable_in_a_file_of_systemd_is_escaped_too():
    unit = f'[Service]\nEnvironment="DSN={_LIBPQ.format(_FOUND)}"\n'
    result = rewrite("shop.service", unit, {_FOUND: "shop-db"})
    assert "password={password:libpq} dbname" in result.changes[0].sink
    assert shlex.split(result.changes[0].sink)
