"""A version whose number is the journal's and whose content is not: nobody's rights are copied from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import requests

from rotator.api import Conflict
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.core.model import Outcome
from rotator.core.secret import Secret
from rotator.engine import ManagedSecret
from tests.postgresql.conftest import Harness
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

# Writes what is current anew, under its own number, with some of its keys changed.
Forge: TypeAlias = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture(params=["openbao", "aws"])
def forge(
    request: pytest.FixtureRequest, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> Forge:
    """Keep the harness's secrets in a backend whose versions can be written anew."""
    if request.param == "openbao":
        return _on_openbao(harness, request.getfixturevalue("bao"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    return _on_aws(harness)


def _on_openbao(harness: Harness, bao: ScratchOpenBao) -> Forge:
    token = {"env:VAULT_TOKEN": Secret(bao.root_token)}
    options = VaultOptions(address=bao.address)
    backend = VaultBackend("vault", options, VaultClient(options, token.__getitem__))
    harness.backend = backend  # type: ignore[assignment] # another one than the harness's own
    harness.close.append(backend.close)

    def call(method: str, kind: str, path: str, body: object = None) -> Any:
        answer = requests.request(
            method,
            f"{bao.address}/v1/secret/{kind}/{path}",
            headers={"X-Vault-Token": bao.root_token},
            json=body,
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def forged(path: str, changed: dict[str, Any]) -> None:
        found = call("GET", "data", path)["data"]
        call("DELETE", "metadata", path)
        for _ in range(found["metadata"]["version"]):
            call("POST", "data", path, {"data": found["data"] | changed})

    return forged


def _on_aws(harness: Harness) -> Forge:
    service = SecretsManager()
    service.__enter__()
    harness.close.append(lambda: service.__exit__(None, None, None))
    options = AwsOptions(region="eu-central-1", endpoint=service.endpoint)
    backend = AwsBackend("aws", options, Client(options))
    harness.backend = backend  # type: ignore[assignment] # another one than the harness's own

    def forged(path: str, changed: dict[str, Any]) -> None:
        # As after DeleteSecret and CreateSecret with the version's id as ClientRequestToken.
        current = backend.current(path)
        assert current is not None
        version = service.secret(path).versions[current.id]
        version.value = json.dumps(json.loads(version.value) | changed)

    return forged


def options_of(harness: Harness, strategy: str) -> dict[str, Any]:
    pair = (f"{harness.group}_a", f"{harness.group}_b")
    return {"group": harness.group} | ({"users": pair} if strategy == "alternating-users" else {})


@pytest.fixture
def victim(harness: Harness) -> str:
    """Make a login of somebody else's, with rights that nobody else has."""
    name = f"payroll_{harness.group}"
    harness.sql(f"CREATE ROLE dba_{harness.group} NOLOGIN")
    harness.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'nobody-knows-it' IN ROLE dba_{harness.group}")
    return name


def members(harness: Harness) -> list[tuple]:
    found = (
        "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = %s::regrole ORDER BY 1"
    )
    return harness.sql(found, f"dba_{harness.group}")


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
def test_rights_are_not_copied_from_the_login_that_is_named_there(
    harness: Harness, forge: Forge, victim: str, strategy: str
):
    """A writer that may remove the secret writes the same number again with another login's name."""
    secret = harness.secret(strategy, name=harness.group, **options_of(harness, strategy))
    for _ in range(2):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
    before, roles = members(harness), harness.roles()
    forge(secret.path, {"username": victim, "password": "not-its-password"})
    with pytest.raises(Conflict, match="again") as raised:
        harness.engine.rotate(secret)
    assert "adopt" in raised.value.hint
    assert members(harness) == before
    assert harness.roles() == roles


def test_a_version_without_the_mark_of_its_rotation_is_not_followed(harness: Harness, forge: Forge):
    """Until somebody takes it over."""
    secret = harness.secret("new-user", name=harness.group, group=harness.group)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    forge(secret.path, {"rotator_rotation_id": "00000000-0000-4000-8000-000000000000"})
    with pytest.raises(Conflict, match="mark"):
        harness.engine.rotate(secret)
    harness.engine.adopt(secret)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE


# AWS's versions are read once by each process: there it cannot be seen.
@pytest.mark.parametrize("forge", ["openbao"], indirect=True)
@pytest.mark.parametrize("step", ["stage", "create", "publish", "revoke"])
def test_what_is_written_anew_in_the_middle_is_not_followed(
    harness: Harness, forge: Forge, victim: str, step: str, monkeypatch: pytest.MonkeyPatch
):
    """At whichever step, nobody gets a right of the one that is named."""
    options = options_of(harness, "alternating-users")
    secret = harness.secret("alternating-users", name=harness.group, **options)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    before = members(harness)
    _at(step, secret, harness, lambda: forge(secret.path, {"username": victim, "password": "x" * 20}), monkeypatch)  # fmt: skip
    result = harness.engine.rotate(secret)
    assert members(harness) == before
    assert result.outcome is not Outcome.DONE or harness.serves(secret).username != victim
    (noted,) = harness.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", victim)
    assert noted == (True,)


def _at(
    step: str,
    secret: ManagedSecret,
    harness: Harness,
    then: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have something happen just before a step's work."""
    on, name = {
        "stage": (secret.rotation, "propose"),
        "create": (secret.rotation, "create"),
        "publish": (harness.backend, "publish"),
        "revoke": (secret.rotation, "sessions"),
    }[step]
    real: Any = getattr(on, name)
    done: list[bool] = []

    def first(*given: Any, **named: Any) -> Any:
        if not done:
            done.append(True)
            then()
        return real(*given, **named)

    monkeypatch.setattr(on, name, first)
