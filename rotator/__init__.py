"""rotator: rotate database credentials without an outage, and be able to prove it."""

__version__ = "0.1.0"
