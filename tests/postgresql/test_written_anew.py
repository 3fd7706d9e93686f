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
from rotator.backends.vault.session import Session
from rotator.core.model import Outcome
from rotator.core.secret import Secret
from rotator.engine import ManagedSecret
from rotator.testing.openbao import ScratchOpenBao
from rotator.testing.secrets_manager import SecretsManager
from tests.postgresql.conftest import House

# Writes what is current anew, under its own number, with some of its keys changed.
Forge: TypeAlias = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture(params=["openbao", "aws"])
def forge(request: pytest.FixtureRequest, house: House, monkeypatch: pytest.MonkeyPatch) -> Forge:
    """Keep the house's secrets in a backend whose versions can be written anew."""
    if request.param == "openbao":
        return _on_openbao(house, request.getfixturevalue("bao"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    return _on_aws(house)


def _on_openbao(house: House, bao: ScratchOpenBao) -> Forge:
    token = {"env:VAULT_TOKEN": Secret(bao.root_token)}
    options = VaultOptions(address=bao.address)
    backend = VaultBackend("vault", options, Session(options, token.__getitem__))
    house.backend = backend  # type: ignore[assignment] # another one than the house's own
    house.close.append(backend.close)

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


def _on_aws(house: House) -> Forge:
    service = SecretsManager()
    service.__enter__()
    house.close.append(lambda: service.__exit__(None, None, None))
    options = AwsOptions(region="eu-central-1", endpoint=service.endpoint)
    backend = AwsBackend("aws", options, Client(options))
    house.backend = backend  # type: ignore[assignment] # another one than the house's own

    def forged(path: str, changed: dict[str, Any]) -> None:
        # As after DeleteSecret and CreateSecret with the version's id as ClientRequestToken.
        current = backend.current(path)
        assert current is not None
        version = service.secret(path).versions[current.id]
        version.value = json.dumps(json.loads(version.value) | changed)

    return forged


def options_of(house: House, strategy: str) -> dict[str, Any]:
    pair = (f"{house.group}_a", f"{house.group}_b")
    return {"group": house.group} | ({"users": pair} if strategy == "alternating-users" else {})


@pytest.fixture
def victim(house: House) -> str:
    """Make a login of somebody else's, with rights that nobody else has."""
    name = f"payroll_{house.group}"
    house.sql(f"CREATE ROLE dba_{house.group} NOLOGIN")
    house.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'nobody-knows-it' IN ROLE dba_{house.group}")
    return name


def members(house: House) -> list[tuple]:
    found = (
        "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = %s::regrole ORDER BY 1"
    )
    return house.sql(found, f"dba_{house.group}")


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
def test_rights_are_not_copied_from_the_login_that_is_named_there(
    house: House, forge: Forge, victim: str, strategy: str
):
    """A writer that may remove the secret writes the same number again with another login's name."""
    secret = house.secret(strategy, name=house.group, **options_of(house, strategy))
    for _ in range(2):
        assert house.engine.rotate(secret).outcome is Outcome.DONE
    before, roles = members(house), house.roles()
    forge(secret.path, {"username": victim, "password": "not-its-password"})
    with pytest.raises(Conflict, match="anew") as raised:
        house.engine.rotate(secret)
    assert "adopt" in raised.value.hint
    assert members(house) == before
    assert house.roles() == roles


def test_a_version_without_the_mark_of_its_rotation_is_not_followed(house: House, forge: Forge):
    """Until somebody takes it over."""
    secret = house.secret("new-user", name=house.group, group=house.group)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    forge(secret.path, {"rotator_rotation_id": "00000000-0000-4000-8000-000000000000"})
    with pytest.raises(Conflict, match="mark"):
        house.engine.rotate(secret)
    house.engine.adopt(secret)
    assert house.engine.rotate(secret).outcome is Outcome.DONE


# AWS's versions are read once by each process: there it cannot be seen.
@pytest.mark.parametrize("forge", ["openbao"], indirect=True)
@pytest.mark.parametrize("step", ["stage", "create", "publish", "revoke"])
def test_what_is_written_anew_in_the_middle_is_not_followed(
    house: House, forge: Forge, victim: str, step: str, monkeypatch: pytest.MonkeyPatch
):
    """At whichever step, nobody gets a right of the one that is named."""
    options = options_of(house, "alternating-users")
    secret = house.secret("alternating-users", name=house.group, **options)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    before = members(house)
    _at(step, secret, house, lambda: forge(secret.path, {"username": victim, "password": "x" * 20}), monkeypatch)  # fmt: skip
    result = house.engine.rotate(secret)
    assert members(house) == before
    assert result.outcome is not Outcome.DONE or house.serves(secret).username != victim
    (noted,) = house.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", victim)
    assert noted == (True,)


def _at(
    step: str,
    secret: ManagedSecret,
    house: House,
    then: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have something happen just before a step's work."""
    on, name = {
        "stage": (secret.rotation, "propose"),
        "create": (secret.rotation, "create"),
        "publish": (house.backend, "publish"),
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
