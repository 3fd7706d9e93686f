"""What a value lacks of its target's place comes from the configuration, and templates may use it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from rotator.agent.connection import (
    known_fields,
    made_fields,
    require_template,
    scheme_of,
)
from rotator.agent.sources import open_settings
from rotator.agent.supervisor import ExecOptions, Supervisor
from rotator.client import Login
from rotator.config import ConfigError, load
from rotator.core.errors import UsageError
from rotator.core.model import Credential
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.config import Settings

_CONFIG = """\
version: 1
backends:
  local:
    type: local
    path: secrets.db
    key: file:rotator.key
    templates: {TEMPLATES}
targets:
  pg: {plugin: postgresql, host: "db.example.org", port: 6432, admin: {username: a, password: "env:A"}}
  my: {plugin: mysql, host: my.example.org, admin: {username: a, password: "env:A"}}
  cache: {plugin: valkey, host: cache.example.org, admin: {username: a, password: "env:A"}}
  near: {plugin: valkey, host: 127.0.0.1, admin: {username: a, password: "env:A"}}
defaults: {backend: local, strategy: single-user}
secrets:
  shop: {target: pg, options: {username: shop}}
  orders: {target: pg, options: {username: orders, login_dbname: orders}}
  pay: {target: my, options: {username: pay}}
  sessions: {target: cache, options: {username: sessions}}
  local-sessions: {target: near, options: {username: sessions2}}
"""
_URL = "{url: 'postgresql://{username}:{password:url}@{host}:{port}/{dbname}', dsn: '{cluster}/x'}"


def _settings(folder: Path, templates: str = _URL) -> Settings:
    file = folder / "rotator.yaml"
    file.write_text(textwrap.dedent(_CONFIG).replace("{TEMPLATES}", templates))
    return load(file)


def _credential(**fields: object) -> Credential:
    return Credential(username="shop", password=Secret("p@ss/w rd"), fields=fields)


@pytest.mark.parametrize(
    ("name", "scheme", "place"),
    [
        ("shop", "postgresql", {"host": "db.example.org", "port": 6432, "dbname": "postgres"}),
        ("orders", "postgresql", {"host": "db.example.org", "port": 6432, "dbname": "orders"}),
        ("pay", "mysql", {"host": "my.example.org", "port": 3306}),
        ("sessions", "rediss", {"host": "cache.example.org", "port": 6379}),
        ("local-sessions", "redis", {"host": "127.0.0.1", "port": 6379}),
    ],
)
def test_a_value_without_a_host_has_its_targets(
    tmp_path: Path, name: str, scheme: str, place: dict[str, Any]
):
    settings = _settings(tmp_path, "{}")
    assert known_fields(settings, name, _credential()) == place
    assert scheme_of(settings, name) == scheme


def test_a_value_that_names_its_host_stays_as_it_is(tmp_path: Path):
    """A port of another server would be wrong there."""
    settings = _settings(tmp_path, "{}")
    assert known_fields(settings, "shop", _credential(host="other")) == {"host": "other"}
    assert known_fields(settings, "shop", _credential(port=1, database="x")) == {
        "host": "db.example.org",
        "port": 1,
        "database": "x",
    }


def test_templates_of_the_embedded_backend_are_made_when_a_secret_is_read(tmp_path: Path):
    """Of the target's place too. One that lacks a field says so to who asks for it, and holds nothing else up."""
    settings = _settings(tmp_path)
    url = "postgresql://shop:p%40ss%2Fw%20rd@db.example.org:6432/postgres"
    assert made_fields(settings, "shop", _credential()) == {"url": url}
    assert known_fields(settings, "shop", _credential())["url"] == url
    require_template(settings, "shop", "url", _credential())
    with pytest.raises(UsageError, match="'dsn' requires 'cluster'"):
        require_template(settings, "shop", "dsn", _credential())


def test_a_template_cannot_replace_the_password(tmp_path: Path):
    with pytest.raises(ConfigError, match="must not replace the login or the password"):
        _settings(tmp_path, "{password: 'x'}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"PGHOST": "db.example.org", "PGPORT": "6432", "PGDATABASE": "orders"}),
        ({"PGHOST": "pooler"}, {"PGHOST": "pooler"}),
    ],
)
def test_exec_names_the_targets_place_unless_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: dict[str, str]
):
    for name in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    _settings(tmp_path, "{}")
    (tmp_path / "secrets.db").touch(mode=0o600)
    from rotator.backends.encryption import create_key_file

    create_key_file(tmp_path / "rotator.key")
    consumer = open_settings(tmp_path / "rotator.yaml", ["orders"])
    supervisor = Supervisor(consumer, ["true"], ExecOptions())
    login = Login(username="orders", password=Secret("x-y-z"), version="1")
    environment = supervisor._environment({"orders": login})
    assert {
        key: value for key, value in environment.items() if key in expected | {"PGPORT": ""}
    } == (expected)
