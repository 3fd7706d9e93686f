"""A MariaDB for the tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.testing.mariadb import ScratchMariaDB


@pytest.fixture(scope="session")
def mariadb() -> Iterator[ScratchMariaDB]:
    """One whose general log holds every statement."""
    from rotator.testing.mariadb import PACKAGES, ScratchMariaDB, is_installed

    if not is_installed():
        pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
    with ScratchMariaDB("--general-log=1", "--general-log-file=general.log") as server:
        yield server
