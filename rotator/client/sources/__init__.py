"""Where a secret is read: HashiCorp Vault and OpenBao, AWS Secrets Manager, a file, an agent, the embedded backend."""

from rotator.client.sources.agent import AgentSource
from rotator.client.sources.aws import AwsSource
from rotator.client.sources.file import FileSource
from rotator.client.sources.local import LocalSource
from rotator.client.sources.vault import VaultSource

__all__ = ["AgentSource", "AwsSource", "FileSource", "LocalSource", "VaultSource"]
