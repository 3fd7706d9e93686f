"""Where a host is."""

from __future__ import annotations

import ipaddress


def is_local(host: str) -> bool:
    """Return whether the host is this machine, so that nothing crosses a network.

    `localhost`, an address of loopback, or the path of a socket; any other name may lead elsewhere.
    """
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
