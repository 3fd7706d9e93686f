"""A real MariaDB server in a scratch folder: Debian's, on a free port of loopback."""

from __future__ import annotations

import os
import shutil
from typing import ClassVar, Final

from rotator.api import UsageError
from tests.servers.mysql_like import MySqlLikeServer, cache_folder, server_user

# Debian's, with what they need of others.
PACKAGES: Final = "mariadb-server-core mariadb-client-core"
_PROGRAMS: Final = ("mariadbd", "mariadb-install-db", "my_print_defaults")


class ScratchMariaDB(MySqlLikeServer):
    """A MariaDB as long as the `with` block lasts."""

    product: ClassVar[str] = "MariaDB"

    def _command(self) -> list[str]:
        if not is_installed():
            raise UsageError("there is no MariaDB server here.", hint=f"apt-get install {PACKAGES}")
        # Debian's package of the programs has no plugins; `.ci/run` unpacks some.
        plugins = cache_folder() / "mariadb"
        return [
            str(_program("mariadbd")),
            "--no-defaults",
            f"--user={server_user()}",
            *([f"--plugin-dir={plugins}"] if plugins.is_dir() else []),
        ]

    def _initialise(self) -> None:
        self._run_program(
            [
                str(_program("mariadb-install-db")),
                "--no-defaults",
                f"--datadir={self._data}",
                f"--tmpdir={self._tmp}",
                "--auth-root-authentication-method=normal",
                f"--user={server_user()}",
            ]
        )


def is_installed() -> bool:
    """Return whether Debian's server is here."""
    return all(_program(one) for one in _PROGRAMS)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
