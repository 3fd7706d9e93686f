"""AWS Secrets Manager."""

from rotator.backends.aws.backend import PLUGIN

__all__ = ["PLUGIN"]
