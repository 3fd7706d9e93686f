"""Vault and AWS backends over whatever answers at a port of this machine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rotator.api import Secret
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import AuthOptions, VaultOptions
from rotator.backends.vault.session import VaultClient


def vault(
    port: int, *, seconds: float, token: str, scheme: str = "http", **options: Any
) -> VaultBackend:
    """Return one whose calls end within `seconds`; nothing is sent yet."""
    chosen = VaultOptions(
        address=f"{scheme}://127.0.0.1:{port}",
        timeout=timedelta(seconds=seconds),
        auth=AuthOptions(token="env:T"),
        **options,
    )
    return VaultBackend("vault", chosen, VaultClient(chosen, lambda _: Secret(token)))


def aws(port: int, *, seconds: float) -> AwsBackend:
    """Return one whose calls end within `seconds`; nothing is sent yet."""
    chosen = AwsOptions(
        region="eu-central-1",
        endpoint=f"http://127.0.0.1:{port}",
        timeout=timedelta(seconds=seconds),
    )
    return AwsBackend("aws", chosen, Client(chosen))
