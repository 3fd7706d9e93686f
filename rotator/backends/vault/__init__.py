"""HashiCorp Vault and OpenBao: key-value secrets, version 2."""

from rotator.backends.vault.backend import PLUGIN

__all__ = ["PLUGIN"]
