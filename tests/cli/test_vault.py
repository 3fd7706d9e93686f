"""All commands with OpenBao as the backend and PostgreSQL as the target."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rotator.journal import chain
from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import APP_PASSWORD, Real, prepare
from tests.servers.openbao import ScratchOpenBao, find_bao

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres, bao: ScratchOpenBao) -> Real:
    """A folder whose configuration keeps secrets, and its signing key, in OpenBao."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure(grace="1h")
    config = tmp_path / "rotator.yaml"
    text = config.read_text()
    text = text.replace("local:rotator/audit#private_key", "vault:rotator/audit#private_key")
    text = text.replace("backend: local", "backend: vault").replace(
        'password: "env:ROTATOR_ADMIN_PASSWORD"', 'password: "vault:admin/main#password"'
    )
    backend = f'backends:\n  vault: {{type: vault, address: "{bao.address}"}}\n'
    config.write_text(text.replace("backends:\n", backend, 1))
    key = chain.new_signing_key().reveal()
    bao.call("POST", "secret/data/rotator/audit", data={"private_key": key})
    password = real.environ.pop("ROTATOR_ADMIN_PASSWORD")
    bao.call("POST", "secret/data/admin/main", data={"password": password})
    for path in ("app", "taken"):
        bao.call("DELETE", f"secret/metadata/{path}")
    return real


def _kv_get(bao: ScratchOpenBao, field: str) -> str:
    """Read as a consumer does, with its own command and its own token."""
    done = subprocess.run(
        [find_bao(), "kv", "get", "-mount=secret", f"-field={field}", "app"],
        env={
            "BAO_ADDR": bao.address,
            "BAO_TOKEN": bao.token("consumer"),
            "HOME": str(bao.folder),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_login_in_openbao_is_rotated_with_minimum_rights(rotator: Real, bao: ScratchOpenBao):
    """Adopted, rotated, rolled back, revoked and verified; an application reads it."""
    bao.policy("rotator", rotator("policy", "vault").out)
    bao.policy("consumer", rotator("policy", "vault", "app", "--for", "consumer").out)
    rotator.environ["VAULT_TOKEN"] = bao.token("rotator")
    theirs = {"username": "app", "password": APP_PASSWORD, "team": "checkout"}
    bao.call("POST", "secret/data/app", data=theirs)

    assert "login app is adopted as version 1" in rotator("adopt", "app").out
    assert bao.call("GET", "secret/data/app")["data"]["metadata"]["version"] == 1
    doctor = rotator.json("doctor", "app")
    assert doctor.data["errors"] == 0

    rotator("rotate", "app", "--reason", "the first one")
    login = rotator("get", "app", "--field", "username").out
    assert (_kv_get(bao, "username"), _kv_get(bao, "team")) == (login, "checkout")
    rotator.server.connect(user=login, password=_kv_get(bao, "password")).close()
    rotator("rollback", "app")
    assert _kv_get(bao, "username") == "app"
    assert "was rejected" in rotator("revoke", "app").out
    rotator("rotate", "app")
    assert "was rejected" in rotator("revoke", "app").out
    verified = rotator.json("audit", "verify").data
    assert (verified["ok"], verified["signatures_checked"]) == (True, True)
    with pytest.raises(RuntimeError, match="404"):
        bao.call("LIST", "secret/metadata/rotator-pending/app")
    for password in (_kv_get(bao, "password"), APP_PASSWORD):
        assert password not in bao.audit_text

    # A mount that keeps one version only: the older password is gone, although its login is valid.
    bao.call("POST", "secret/metadata/app", max_versions=1)
    rotator("rotate", "app")
    lost = rotator("rollback", "app", code=2).err
    assert "no longer holds version" in lost
    assert "does not log in" not in lost
    rotator("revoke", "app")


def test_a_missing_right_stops_the_rotation_before_any_effect(rotator: Real, bao: ScratchOpenBao):
    """The message is the line that the policy needs."""
    bao.policy(
        "reader",
        'path "secret/data/*" { capabilities = ["read"] }'
        ' path "secret/data/rotator/audit" { capabilities = ["create", "read", "update"] }',
    )
    rotator.environ["VAULT_TOKEN"] = bao.token("reader")
    before = rotator.roles()
    failed = rotator("rotate", "app", code=3)
    assert 'path "secret/metadata/rotator-pending/app/+" { capabilities' in failed.out
    assert rotator.roles() == before


def test_policy_rejects_a_backend_without_policies(rotator: Real):
    """The embedded backend has only files."""
    assert "has no policies" in rotator("policy", "local", code=2).err
    assert "no backend is called 'elsewhere'" in rotator("policy", "elsewhere", code=2).err


def test_the_audit_log_of_openbao_shows_who_read_which_version(rotator: Real, bao: ScratchOpenBao):
    """By the lines that the real server writes; the same file twice is nothing."""
    bao.policy("consumer", rotator("policy", "vault", "app", "--for", "consumer").out)
    for password in ("first-4711", "second-4712"):
        bao.call("POST", "secret/data/app", data={"username": "app", "password": password})
        _ = _kv_get(bao, "username")
    _ = bao.call("GET", "secret/data/app?version=1")
    log = str(bao.folder / "audit.log")
    taken = rotator("access", "ingest", log, "--from", "openbao", "--json").data["logs"][0]
    assert (taken["not_understood"], taken["leaks"]) == (0, 0)
    found = rotator("access", "show", "app", "--json").data["readers"]
    versions = {(one["identity"], one["version"]) for one in found}
    assert {("token", "2"), ("root", "1")} <= versions
    again = rotator("access", "ingest", log, "--from", "openbao", "--json").data["logs"][0]
    assert again["lines"] == 0
