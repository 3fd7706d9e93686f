"""A real OpenLDAP for the tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers.openldap import PACKAGE, ScratchOpenLdap, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def directory() -> Iterator[ScratchOpenLdap]:
    """A server without password policies."""
    yield from _started(policies=False)


@pytest.fixture(scope="session")
def directory_with_policies() -> Iterator[ScratchOpenLdap]:
    """A server with the overlay ppolicy."""
    yield from _started(policies=True)


def _started(*, policies: bool) -> Iterator[ScratchOpenLdap]:
    if not is_installed():
        pytest.skip(f"no OpenLDAP server: apt-get install {PACKAGE}")
    with ScratchOpenLdap(policies=policies) as server:
        yield server
