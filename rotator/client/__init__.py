"""The client library: an application's current login, kept up to date while it rotates.

    from rotator.client import Credential
    from rotator.client.sources import VaultSource

    credential = Credential(VaultSource("apps/shop", address="https://vault.example.org:8200"))

Hand `credential` to the adapter of your driver: `rotator.client.psycopg`, `.sqlalchemy`, `.pymysql`,
`.redis`, `.django`. It imports the standard library, and the one package that you use.
"""

from rotator.client.credential import (
    Credential,
    Health,
    Login,
    Refused,
    ServesNext,
    Source,
    SourceError,
)

__all__ = ["Credential", "Health", "Login", "Refused", "ServesNext", "Source", "SourceError"]
