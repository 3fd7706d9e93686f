"""Each source reads what its backend serves, and names what it cannot read without repeating it."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest

from rotator.agent.sources import BackendSource
from rotator.api import Access
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client as AwsClient
from rotator.backends.aws.options import AwsOptions
from rotator.backends.encryption import Keys, create_key_file
from rotator.backends.local import LocalBackend
from rotator.backends.vault.backend import PLUGIN as VAULT
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.client import Credential, SourceError
from rotator.client.login import ServesNext
from rotator.client.sources import AwsSource, FileSource, LocalSource, VaultSource
from rotator.core.secret import Secret
from rotator.testing.backend_suite import credential, publish
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


def _aws(service: SecretsManager, path: str = "apps/app") -> AwsSource:
    client = boto3.client(
        "secretsmanager",
        region_name="eu-central-1",
        endpoint_url=service.endpoint,
        aws_access_key_id="AKIATESTING",
        aws_secret_access_key="made-up-for-the-tests",
    )
    return AwsSource(path, client=client)


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


class _Followed(NamedTuple):
    """A source, and the backend that it reads, as rotator writes it."""

    source: Any
    backend: Any


@pytest.fixture(params=["vault", "aws", "local", "agent"])
def followed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Followed]:
    with ExitStack() as stack:
        match request.param:
            case "vault":
                bao: ScratchOpenBao = request.getfixturevalue("bao")
                options = VaultOptions(address=bao.address)
                client = VaultClient(options, lambda _reference: Secret(bao.root_token))
                backend = stack.enter_context(closing(VaultBackend("vault", options, client)))
                source = VaultSource("next", address=bao.address, token=Secret(bao.root_token))
            case "aws":
                service: SecretsManager = request.getfixturevalue("aws")
                request.getfixturevalue("monkeypatch").setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
                request.getfixturevalue("monkeypatch").setenv("AWS_SECRET_ACCESS_KEY", "made-up")
                chosen = AwsOptions(region="eu-central-1", endpoint=service.endpoint)
                backend = stack.enter_context(closing(AwsBackend("aws", chosen, AwsClient(chosen))))
                source = _aws(service, "next")
            case _:
                create_key_file(tmp_path / "key")
                key = Secret((tmp_path / "key").read_text().strip())
                backend = LocalBackend("local", tmp_path / "secrets.db", Keys([key]))
                source = LocalSource(
                    "next", file=tmp_path / "secrets.db", key_file=tmp_path / "key"
                )
                if request.param == "agent":
                    source = BackendSource(backend, "next", refresh=1.0)
        yield _Followed(source, backend)


def test_each_source_serves_the_next_version_while_it_is_offered(followed: _Followed):
    """Under the version that it is published as; nothing once it is published or withdrawn."""
    source, backend = followed
    assert isinstance(source, ServesNext)
    expect = publish(backend, "next", "r1", "a")
    assert source.next() is None
    backend.stage("next", "r2", credential("b"))
    backend.offer("next", "r2", expect=expect)
    following = source.next()
    assert following is not None
    assert (following.rotation, following.username) == ("r2", "b")
    assert following.password.reveal() == "password-of-b"
    assert source.read().version == expect
    assert Credential(source).pair() == (source.read(), following)
    published = backend.publish("next", "r2", expect=expect)
    backend.retract("next", "r2")
    served = source.read()
    assert (served.version, served.rotation) == (published, None) == (following.version, None)
    assert (served.password, source.next()) == (following.password, None)
    backend.stage("next", "r3", credential("c"))
    backend.offer("next", "r3", expect=published)
    backend.retract("next", "r3")
    backend.discard("next", "r3")
    assert source.next() is None


def test_a_policy_includes_the_next_version_only_where_it_is_asked_for(bao: ScratchOpenBao):
    """Without it the application has the current version, and no error."""
    options = VaultOptions(address=bao.address)
    client = VaultClient(options, lambda _reference: Secret(bao.root_token))
    with closing(VaultBackend("vault", options, client)) as backend:
        expect = publish(backend, "asked", "r1", "a")
        backend.stage("asked", "r2", credential("b"))
        backend.offer("asked", "r2", expect=expect)
        for name, following, expected in (("without", (), None), ("with", ("asked",), "b")):
            access = Access(rotated=("asked",), next=following)
            bao.policy(name, VAULT.policy(options, access, of="consumer"))
            source = VaultSource("asked", address=bao.address, token=Secret(bao.token(name)))
            found = source.next()
            assert source.read().username == "a"
            assert (found and found.username) == expected
            staged = VaultSource(
                "rotator-pending/asked/r2",
                address=bao.address,
                token=Secret(bao.token(name)),
            )
            with pytest.raises(SourceError, match="Forbidden"):
                staged.read()
