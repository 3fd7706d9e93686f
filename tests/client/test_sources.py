"""Each source reads what its backend serves, and names what it cannot read without repeating it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import boto3
import pytest

from rotator.client import SourceError
from rotator.client.sources import AwsSource, FileSource, LocalSource, VaultSource
from rotator.core.secret import Secret
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOGIN = {"username": "app", "password": "canary-7f3a", "host": "db"}
_UNREADABLE = {
    "no JSON": "canary-7f3a",
    "no object": '["canary-7f3a"]',
    "no login": '{"password": "canary-7f3a"}',
    "no password": '{"username": "app", "Password": "canary-7f3a"}',
    "a number as the password": '{"username": "app", "password": 7, "x": "canary-7f3a"}',
    "nested too deep": "[" * 100_000,
}


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture
def aws() -> Iterator[SecretsManager]:
    with SecretsManager() as service:
        yield service


def _aws(service: SecretsManager) -> AwsSource:
    client = boto3.client(
        "secretsmanager",
        region_name="eu-central-1",
        endpoint_url=service.endpoint,
        aws_access_key_id="AKIATESTING",
        aws_secret_access_key="made-up-for-the-tests",
    )
    return AwsSource("apps/app", client=client)


def test_vault_serves_the_newest_version(bao: ScratchOpenBao, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(bao.root_token)
    source = VaultSource("apps/app", address=bao.address, token_file=token)
    for number in ("1", "2"):
        bao.call("POST", "secret/data/apps/app", data=_LOGIN | {"password": f"password-{number}"})
        login = source.read()
        assert (login.version, login.username) == (number, "app")
        assert login.password.reveal() == f"password-{number}"
        assert login.fields == {"host": "db"}


def test_vault_names_a_secret_that_is_missing_or_forbidden(bao: ScratchOpenBao):
    missing = VaultSource("apps/none", address=bao.address, token=Secret(bao.root_token))
    with pytest.raises(SourceError, match=r"secret/apps/none in .* could not be read: InvalidPath"):
        missing.read()
    forbidden = VaultSource("apps/app", address=bao.address, token=Secret(bao.token("none")))
    with pytest.raises(SourceError, match="could not be read: Forbidden"):
        forbidden.read()


def test_an_unreachable_vault_is_an_error_of_the_source():
    source = VaultSource("apps/app", address="http://127.0.0.1:1", token=Secret("token"))
    with pytest.raises(SourceError, match="could not be read: ConnectionError"):
        source.read()


@pytest.mark.parametrize(
    "options",
    [
        {"address": "http://vault.example.org:8200", "token": Secret("token")},
        {"address": "https://vault.example.org:8200"},
        {"token": Secret("token")},
        {"address": "https://v.example", "token": Secret("token"), "token_file": "token"},
    ],
    ids=["plain http elsewhere", "no login", "no address", "two logins"],
)
def test_vault_refuses_options_that_cannot_work(options: dict[str, object]):
    with pytest.raises(ValueError, match=r"https|give `address`"):
        VaultSource("apps/app", **options)


def test_aws_serves_the_version_labelled_awscurrent(aws: SecretsManager):
    version = aws.by_hand("apps/app", json.dumps(_LOGIN))
    source = _aws(aws)
    login = source.read()
    assert (login.version, login.username, login.password.reveal()) == (
        version,
        "app",
        "canary-7f3a",
    )
    assert source.next() is None


def test_aws_names_a_secret_that_is_missing(aws: SecretsManager):
    with pytest.raises(SourceError, match="apps/app in AWS Secrets Manager does not exist"):
        _aws(aws).read()


def test_a_file_has_another_version_when_it_was_replaced(tmp_path: Path):
    file = tmp_path / "login.json"
    versions = set()
    for number in range(3):
        beside = tmp_path / "beside"
        beside.write_text(json.dumps(_LOGIN | {"password": f"password-{number}"}))
        os.replace(beside, file)  # noqa: PTH105 # as a sink does
        login = FileSource(file).read()
        assert login.password.reveal() == f"password-{number}"
        versions.add(login.version)
    assert len(versions) == 3


def test_a_file_may_name_its_version(tmp_path: Path):
    file = tmp_path / "login.json"
    file.write_text(json.dumps(_LOGIN | {"version": 7}))
    assert FileSource(file).read().version == "7"


@pytest.mark.parametrize("text", _UNREADABLE.values(), ids=_UNREADABLE)
@pytest.mark.parametrize("kind", ["aws", "file"])
def test_what_is_no_login_is_named_and_not_repeated(
    aws: SecretsManager, tmp_path: Path, kind: str, text: str
):
    if kind == "aws":
        if len(text) > 65_536:
            pytest.skip("AWS keeps no value of that size")
        aws.by_hand("apps/app", text)
        source = _aws(aws)
    else:
        (tmp_path / "login.json").write_text(text)
        source = FileSource(tmp_path / "login.json")
    with pytest.raises(SourceError) as refused:
        source.read()
    assert "canary" not in str(refused.value)


def test_a_missing_file_is_an_error_of_the_source(tmp_path: Path):
    with pytest.raises(SourceError, match=r"login\.json could not be read: FileNotFoundError"):
        FileSource(tmp_path / "login.json").read()


def test_the_embedded_backend_is_never_made_by_a_client(tmp_path: Path):
    file = tmp_path / "secrets.db"
    source = LocalSource("app", file=file, key_file=tmp_path / "rotator.key")
    with pytest.raises(SourceError, match=r"secrets\.db does not exist"):
        source.read()
    assert not file.exists()
