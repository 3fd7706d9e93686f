"""A MariaDB for the tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.testing.mariadb import ScratchMariaDB


@pytest.fixture(scope="session")
def mariadb() -> Iterator[ScratchMariaDB]:
    """One whose general log holds every statement, and its binary log every change."""
    from rotator.testing.mariadb import PACKAGES, ScratchMariaDB, is_installed

    if not is_installed():
        pytest.skip(f"no MariaDB server: apt-get install {PACKAGES}")
    logs = ("--general-log=1", "--general-log-file=general.log", "--log-bin=binlog")
    with ScratchMariaDB(*logs) as server:
        yield server
