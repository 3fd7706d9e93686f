"""What requests sends through: connections whose requests end in time as a whole."""

from __future__ import annotations

from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from rotator.backends.limited_http import Limited


class LimitedAdapter(HTTPAdapter):
    """An adapter for a session of requests."""

    def init_poolmanager(self, *args: Any, **given: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **given)
        pools: Any = {"http": _HttpPool, "https": _HttpsPool}
        self.poolmanager.pool_classes_by_scheme = pools


class _Https(Limited, HTTPSConnection):
    """Over TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls: type[Any] = Limited


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls: type[Any] = _Https
