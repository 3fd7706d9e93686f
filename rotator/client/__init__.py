"""The client library: an application's current login, kept up to date while it rotates.

    from rotator.client import Credential
    from rotator.client.sources import VaultSource

    credential = Credential(VaultSource("apps/shop", address="https://vault.example.org:8200"))

Hand `credential` to the adapter of your driver: `rotator.client.psycopg`, `.sqlalchemy`, `.pymysql`,
`.redis`, `.django`. It imports the standard library, and the one package that you use.
"""

from typing import TYPE_CHECKING, Any

from rotator.client.credential import Credential
from rotator.client.login import Health, Login, Refused, ServesNext, Source, SourceError
from rotator.client.refusals import Refusal

if TYPE_CHECKING:
    from rotator.client.agent import Agent
    from rotator.client.daemon import Daemon, DaemonError

__all__ = [
    "Agent",
    "Credential",
    "Daemon",
    "DaemonError",
    "Health",
    "Login",
    "Refusal",
    "Refused",
    "ServesNext",
    "Source",
    "SourceError",
]


def __getattr__(name: str) -> Any:
    """Import what needs a daemon when it is first used: the others do not pay for it."""
    if name == "Agent":
        from rotator.client.agent import Agent  # noqa: PLC0415 # as above

        return Agent
    if name not in {"Daemon", "DaemonError"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rotator.client import daemon  # noqa: PLC0415 # as above

    return getattr(daemon, name)
