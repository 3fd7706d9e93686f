"""The chain of a secret's leases: apart from the secret's own, so that neither waits for the other.

Its name is also what the logins of leases are marked with on the target.
"""

from __future__ import annotations

from typing import Final

# No secret can be called so.
_PREFIX: Final = "(leases) "


def chain_of(secret: str) -> str:
    """Return the name of the chain of a secret's leases."""
    return _PREFIX + secret


def is_secret(chain: str) -> bool:
    """Return whether a chain is that of a secret itself: leases, targets and the journal have others."""
    return not chain.startswith("(")


def secret_of(chain: str) -> str | None:
    """Return the secret whose leases a chain records; None for any other chain."""
    return chain.removeprefix(_PREFIX) if chain.startswith(_PREFIX) else None
