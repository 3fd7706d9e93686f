"""A real MySQL server in a scratch folder, on a free port of loopback.

No stable release of Debian has one: `make mysql` unpacks the package of its unstable suite into a cache
folder. The server runs with the loader and the libraries of that folder, and nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from rotator.api import UsageError
from tests.servers.mysql_like import MySqlLikeServer, cache_folder, server_user

REMEDY: Final = "make mysql, or name the folder of an unpacked server in ROTATOR_TESTING_MYSQL"
_SMALL: Final = (
    "--max-connections=100",
    "--table-open-cache=200",
    "--table-definition-cache=400",
    "--innodb-buffer-pool-size=32M",
    "--innodb-redo-log-capacity=8388608",
)


class ScratchMySQL(MySqlLikeServer):
    """A MySQL as long as the `with` block lasts."""

    product: ClassVar[str] = "MySQL"

    def _command(self) -> list[str]:
        folder = installed()
        if folder is None:
            raise UsageError("there is no MySQL server here.", hint=REMEDY)
        libraries = next(folder.glob("usr/lib/*/libc.so.6")).parent
        loader = next(libraries.glob("ld-linux-*.so.*"))
        return [
            str(loader),
            "--library-path",
            f"{libraries}:{folder / 'usr/lib'}",
            str(folder / "usr/sbin/mysqld"),
            "--no-defaults",
            f"--user={server_user()}",
            f"--basedir={folder / 'usr'}",
            f"--lc-messages-dir={folder / 'usr/share/mysql'}",
            f"--plugin-dir={folder / 'usr/lib/mysql/plugin'}",
            "--secure-file-priv=",
            "--mysqlx=OFF",
            *_SMALL,
        ]

    def _initialise(self) -> None:
        """Copy a data folder that was initialised once: that takes seconds, and 80 MB."""
        cached = Path(self._program[0]).parents[3] / "data"
        try:
            _ = shutil.copytree(cached, self._data)
        except FileNotFoundError:
            self._initialise_anew()
            with suppress(OSError):  # a folder that is read-only, or another process was faster
                fresh = Path(tempfile.mkdtemp(prefix="data-", dir=cached.parent))
                _ = shutil.copytree(self._data, fresh, dirs_exist_ok=True)
                _ = fresh.rename(cached)
        # The server draws an identity of its own.
        (self._data / "auto.cnf").unlink()

    def _initialise_anew(self) -> None:
        self._run_program(
            [
                *self._program,
                f"--datadir={self._data}",
                f"--tmpdir={self._tmp}",
                "--initialize-insecure",
            ]
        )


def installed() -> Path | None:
    """Return the folder of the unpacked server; None without one."""
    given = os.environ.get("ROTATOR_TESTING_MYSQL")
    folder = Path(given) if given else cache_folder() / "mysql"
    return folder if (folder / "usr/sbin/mysqld").is_file() else None
