"""Real servers, once for each module that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import Real
from tests.servers.openbao import ScratchOpenBao
from tests.vault_database.sandboxes import ADMIN_PASSWORD, MOUNT, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
  vault: {{type: vault, address: "{bao.address}", timeout: 5s, auth: {{token: "env:BAO_TOKEN"}}}}
policies:
  default: {{every: 30d, retry: {{attempts: 2, cycles: 2, backoff: 10ms, backoff_cap: 20ms}}}}
targets:
  main:
    plugin: postgresql
    host: {server.host}
    port: {server.port}
    admin: {{username: rotator_admin, password: "env:ROTATOR_ADMIN_PASSWORD"}}
  engine: {{plugin: vault-database, through: vault}}
secrets:
  app: {{target: engine, strategy: static-role, path: {shop.role}, options: {{logs_in_on: main}}}}
  root:
    target: engine
    strategy: root
    path: {shop.connection}
    options: {{logs_in_on: main, initial: "env:FIRST_ROOT_PASSWORD"}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        with started.connect() as admin:
            made = f"CREATE ROLE rotator_admin LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}'"
            admin.execute(made.encode())
        yield started


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        _ = started.call("POST", f"sys/mounts/{MOUNT}", type="database")
        yield started


@pytest.fixture
def shop(bao: ScratchOpenBao, server: ScratchPostgres) -> Shop:
    """A connection and a role that no other test has."""
    return Shop(bao=bao, server=server).set_up()


@pytest.fixture
def rotator(tmp_path: Path, shop: Shop) -> Real:
    """A folder whose configuration drives that role and that connection."""
    from rotator.bootstrap import initialise
    from tests.vault_database.sandboxes import ROOT_PASSWORD

    real = Real(folder=tmp_path, server=shop.server)
    real.environ |= {
        "BAO_TOKEN": shop.bao.root_token,
        "ROTATOR_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "FIRST_ROOT_PASSWORD": ROOT_PASSWORD,
    }
    text = _CONFIG.format(bao=shop.bao, server=shop.server, shop=shop)
    initialise(tmp_path / "rotator.yaml", text)
    return real
