"""Every request of every call, spoilt in every way: afterwards it is done once, and found out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from rotator.api import Secret, StepError
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.testing.backend_suite import credential, publish
from tests.sampling import sampled_pairs
from tests.servers.faulty_proxy import FAULTS, LATE, Fault, FaultyProxy
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator

# For an answer that comes too late; all others come at once, however busy the machine is.
_SHORT = timedelta(seconds=1)
_PATIENT = timedelta(seconds=30)


class Store(Protocol):
    """A server, and backends that talk to it directly or through the proxy."""

    address: str

    def opened(self, address: str, timeout: timedelta = ...) -> Any: ...
    def versions(self, path: str) -> int: ...


class _Bao:
    def __init__(self, bao: ScratchOpenBao) -> None:
        self.address = bao.address
        self._bao = bao

    def opened(self, address: str, timeout: timedelta = _PATIENT) -> VaultBackend:
        options = VaultOptions(address=address, timeout=timeout)
        secrets = {"env:VAULT_TOKEN": Secret(self._bao.root_token)}
        return VaultBackend("vault", options, VaultClient(options, secrets.__getitem__))

    def versions(self, path: str) -> int:
        return len(self._bao.call("GET", f"secret/metadata/{path}")["data"]["versions"])


class _Aws:
    def __init__(self, service: SecretsManager) -> None:
        self.address = service.endpoint
        self._service = service

    def opened(self, address: str, timeout: timedelta = _PATIENT) -> AwsBackend:
        options = AwsOptions(
            region="eu-central-1", endpoint=address, timeout=timeout, writes_a_second=10_000
        )
        return AwsBackend("aws", options, Client(options))

    def versions(self, path: str) -> int:
        return len(self._service.secret(path).versions)


@dataclass(frozen=True)
class Call:
    """One call of the contract over a path with two versions (a, b) and a staged value (c).

    `versions`: how many it writes, in a store that copies and in one that moves labels.
    """

    do: Callable[[Any, str, list[str]], Any]
    login: str = "b"
    staged: bool = True
    versions: tuple[int, int] = (0, 0)


CALLS = {
    "current": Call(lambda b, p, _: b.current(p).credential.username == "b"),
    "read": Call(lambda b, p, v: b.read(p, v[0]).credential.username == "a"),
    "staged": Call(lambda b, p, _: b.staged(p, "r3").username == "c"),
    "stage": Call(
        lambda b, p, _: b.stage(p, "r4", credential("d")).username == "d", versions=(0, 1)
    ),
    "stage again": Call(lambda b, p, _: b.stage(p, "r3", credential("x")).username == "c"),
    "publish": Call(lambda b, p, v: b.publish(p, "r3", expect=v[1]), "c", False, (1, 0)),
    "discard": Call(lambda b, p, _: b.discard(p, "r3") is None, "b", False),
    "restore": Call(lambda b, p, v: b.restore(p, expect=v[1], to=v[0]), "a", True, (1, 0)),
}


@pytest.fixture(scope="module", params=["openbao", "aws"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    request.getfixturevalue("credentials")
    if request.param == "openbao":
        with ScratchOpenBao() as bao:
            yield _Bao(bao)
    else:
        with SecretsManager() as service:
            yield _Aws(service)


@pytest.fixture(scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        yield


@pytest.fixture(scope="module")
def proxy(store: Store) -> Iterator[FaultyProxy]:
    place = urlsplit(store.address)
    with FaultyProxy(str(place.hostname), int(place.port or 0)) as started:
        yield started


def _prepared(direct: Any) -> tuple[str, list[str]]:
    path = f"apps/{uuid4()}"
    versions = [publish(direct, path, "r1", "a"), publish(direct, path, "r2", "b")]
    direct.stage(path, "r3", credential("c"))
    return path, versions


@pytest.mark.parametrize(("name", "fault"), sampled_pairs(CALLS, [*FAULTS, LATE], of=4), ids=str)
def test_a_call_that_was_spoilt_at_any_request_is_done_once(
    store: Store, proxy: FaultyProxy, name: str, fault: Fault
):
    """It says so by one of our errors, or succeeds; run again, it leaves what running once leaves."""
    call = CALLS[name]
    direct, patient = store.opened(store.address), store.opened(proxy.url)
    patient.current("warm/up")
    faulty = store.opened(proxy.url, _SHORT) if fault is LATE else patient
    with suppress(StepError):
        faulty.current("warm/up")
    path, versions = _prepared(direct)
    proxy.watch()
    assert call.do(patient, path, versions)
    count = len(proxy.requests)
    for at in range(1, count + 1):
        path, versions = _prepared(direct)
        before = store.versions(path)
        proxy.spoil(fault, at)
        with suppress(StepError):
            assert call.do(faulty, path, versions)
        proxy.watch()
        assert call.do(patient, path, versions)
        served = direct.current(path)
        assert served is not None
        assert served.credential.username == call.login
        assert (direct.staged(path, "r3") is not None) is call.staged
        written = call.versions[isinstance(direct, AwsBackend)]
        assert store.versions(path) - before == written
    for one in {direct, patient, faulty}:
        one.close()
