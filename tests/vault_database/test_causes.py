"""What keeps the engine as a whole from work, and what keeps one secret: each with its cause and cure."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotations.vault_database import PLUGIN
from rotations.vault_database.options import SecretOptions, TargetOptions
from rotator.api import Denied, Secret, StepError, Unavailable, time_limit
from rotator.backends.vault import PLUGIN as VAULT
from rotator.backends.vault.options import AuthOptions, VaultOptions
from tests.servers.openbao import ScratchOpenBao
from tests.vault_database.sandboxes import MOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def own_bao() -> Iterator[ScratchOpenBao]:
    """A server that a test may seal."""
    with ScratchOpenBao(durable=True) as started:
        started.call("POST", f"sys/mounts/{MOUNT}", type="database")
        started.policy("nothing", 'path "secret/data/none" { capabilities = ["read"] }')
        yield started


class _Others:
    """The rest of a configuration: one backend, and no database."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def server(self, _: str) -> Any:
        return self._backend


def _served(bao: ScratchOpenBao, token: str, mount: str, folder: Path) -> Any:
    options = VaultOptions(
        address=bao.address, timeout=timedelta(seconds=1), auth=AuthOptions(token="env:T")
    )
    backend: Any = VAULT.open("vault", options, lambda _: Secret(token), folder)
    target = PLUGIN.target("t", TargetOptions(through="vault", mount=mount), lambda: None)  # type: ignore[arg-type,return-value]
    target.use(_Others(backend))  # type: ignore[arg-type]
    return target.backend("static-role", SecretOptions(logs_in_on="main"))


@pytest.mark.parametrize(
    ("trouble", "error", "said", "cure"),
    [
        ("sealed", Unavailable, "is sealed", "bao operator unseal"),
        ("revoked token", Unavailable, "rejected rotator's token", "bao token create"),
        ("no policy", Denied, "does not allow read", "rotator policy"),
        ("no mount", Unavailable, "no secrets engine at 'elsewhere'", "bao secrets enable"),
        ("no role", Denied, "no static role 'nosuch'", f"bao list {MOUNT}/static-roles"),
    ],
)
@pytest.mark.parametrize(
    "do",
    [
        lambda served: served.current("nosuch"),
        lambda served: served.request_rotation("nosuch", "r1", expect=None),
    ],
    ids=["read", "rotate"],
)
def test_a_fault_of_the_engine_is_told_from_one_of_a_secret(
    own_bao: ScratchOpenBao,
    tmp_path: Path,
    trouble: str,
    error: type[StepError],
    said: str,
    cure: str,
    do: Callable[[Any], object],
):
    """All secrets wait for the first kind; the second parks its own secret."""
    token = own_bao.root_token
    if trouble == "revoked token":
        token = own_bao.token("nothing")
        own_bao.call("POST", "auth/token/revoke", token=token)
    if trouble == "no policy":
        # Without the policy `default` it may not even look at itself.
        token = own_bao.token("nothing", no_default_policy=True)
    mount = "elsewhere" if trouble == "no mount" else MOUNT
    served = _served(own_bao, token, mount, tmp_path)
    if trouble == "sealed":
        own_bao.seal()
    try:
        with pytest.raises(error, match=said) as raised:
            do(served)
    finally:
        if trouble == "sealed":
            own_bao.unseal()
    assert isinstance(raised.value, Unavailable) == (error is Unavailable)
    assert cure in raised.value.hint


def test_an_engine_that_is_frozen_takes_no_longer_than_the_step(
    own_bao: ScratchOpenBao, tmp_path: Path
):
    """Several calls of one step share its time."""
    served = _served(own_bao, own_bao.root_token, MOUNT, tmp_path)
    own_bao.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(StepError), time_limit(0.3):
            served.request_rotation("app", "r1", expect=None)
        assert time.monotonic() - begun < 0.7
    finally:
        own_bao.resume()
