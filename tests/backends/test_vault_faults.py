"""Every request of every call, spoilt in every way: afterwards it is done once, and found out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from rotator.api import Secret, StepError
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import Session
from rotator.testing.backend_suite import credential, publish
from rotator.testing.faults import FAULTS, LATE, Fault, FaultyProxy
from rotator.testing.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Call:
    """One call of the contract over a path with versions 1 (a), 2 (b), and a staged value (c)."""

    do: Callable[[VaultBackend, str], Any]
    # What the call leaves: the newest version, its login, and whether r3 is still staged.
    version: int = 2
    login: str = "b"
    staged: bool = True


CALLS = {
    "current": Call(lambda b, p: b.current(p).credential.username == "b"),
    "read": Call(lambda b, p: b.read(p, "1").credential.username == "a"),
    "staged": Call(lambda b, p: b.staged(p, "r3").username == "c"),
    "stage": Call(lambda b, p: b.stage(p, "r4", credential("d")).username == "d"),
    "stage again": Call(lambda b, p: b.stage(p, "r3", credential("x")).username == "c"),
    "publish": Call(lambda b, p: b.publish(p, "r3", expect="2") == "3", 3, "c", staged=False),
    "discard": Call(lambda b, p: b.discard(p, "r3") is None, staged=False),
    "restore": Call(lambda b, p: b.restore(p, expect="2", to="1") == "3", 3, "a"),
}


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture(scope="module")
def proxy(bao: ScratchOpenBao) -> Iterator[FaultyProxy]:
    place = urlsplit(bao.address)
    with FaultyProxy(str(place.hostname), int(place.port or 0)) as started:
        yield started


def _opened(bao: ScratchOpenBao, address: str) -> VaultBackend:
    options = VaultOptions(address=address, timeout=timedelta(seconds=1))
    secrets = {"env:VAULT_TOKEN": Secret(bao.root_token)}
    return VaultBackend("vault", options, Session(options, secrets.__getitem__))


def _prepared(direct: VaultBackend) -> str:
    path = f"apps/{uuid4()}"
    publish(direct, path, "r1", "a")
    publish(direct, path, "r2", "b")
    direct.stage(path, "r3", credential("c"))
    return path


@pytest.mark.parametrize("fault", [*FAULTS, LATE], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_was_spoilt_at_any_request_is_done_once(
    bao: ScratchOpenBao, proxy: FaultyProxy, name: str, fault: Fault
):
    """It says so by one of our errors, or succeeds; run again, it leaves what running once leaves."""
    call = CALLS[name]
    direct, faulty = _opened(bao, bao.address), _opened(bao, proxy.address)
    faulty.current("warm/up")
    path = _prepared(direct)
    proxy.watch()
    assert call.do(faulty, path)
    count = len(proxy.requests)
    for at in range(1, count + 1):
        path = _prepared(direct)
        proxy.spoil(fault, at)
        with suppress(StepError):
            assert call.do(faulty, path)
        proxy.watch()
        assert call.do(faulty, path)
        served = direct.current(path)
        assert served is not None
        assert (served.id, served.credential.username) == (str(call.version), call.login)
        assert (direct.staged(path, "r3") is not None) is call.staged
    direct.close()
    faulty.close()
