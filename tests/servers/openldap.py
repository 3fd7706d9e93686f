"""A real OpenLDAP in a scratch folder, on free ports of loopback, with and without TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rotator.api import UsageError
from rotator.testing.certificates import make_certificates
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ldap3 import Connection

PACKAGE: Final = "slapd"
BASE: Final = "dc=example,dc=org"
SERVICES: Final = f"ou=services,{BASE}"
GROUPS: Final = f"ou=groups,{BASE}"
_ROOT: Final = f"cn=root,{BASE}"
_SCHEMAS: Final = Path("/etc/ldap/schema")
_MODULES: Final = Path("/usr/lib/ldap")
_PATIENCE: Final = 30.0


class ScratchOpenLdap(Scratch):
    """A server as long as the `with` block lasts. `policies`: with the overlay ppolicy.

    Nobody reads passwords but the admins.
    """

    def __init__(self, *, policies: bool = False) -> None:
        """Nothing is started yet. Raises `UsageError` where there is no server to start."""
        self._program: Path = _program()
        self._policies: bool = policies
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.folder: Path = Path(tempfile.mkdtemp(prefix="rotator-slapd-"))
        self.password: str = f"root-of-{self.folder.name}"
        self.admin: str = _ROOT
        self.plain: str = f"ldap://127.0.0.1:{free_port()}"
        self.tls: str = f"ldaps://127.0.0.1:{free_port()}"

    @property
    def authority(self) -> Path:
        """The certificate of its authority."""
        return self.folder / "ca.crt"

    def connect(self, dn: str = _ROOT, password: str | None = None) -> Connection | None:
        """Return a connection of somebody; None where it rejects the login."""
        import ldap3

        server = ldap3.Server(self.plain, get_info=ldap3.NONE, connect_timeout=5)
        link: Any = ldap3.Connection(
            server, dn, password or self.password, check_names=False, receive_timeout=5
        )
        if link.bind():
            return link
        link.unbind()
        return None

    def run(self, act: Callable[[Any], object]) -> None:
        """Call `act` with a connection of the admin, and require success of what it did last."""
        link: Any = self.connect()
        try:
            _ = act(link)
            assert link.result["result"] == 0, link.result["description"]
        finally:
            link.unbind()

    def add(self, dn: str, classes: list[str], values: Mapping[str, object]) -> None:
        """Add an entry."""
        self.run(lambda link: link.add(dn, classes, dict(values)))

    def entries(self, base: str, query: str) -> dict[str, dict[str, list[bytes]]]:
        """Return entries with their attributes."""
        link: Any = self.connect()
        try:
            link.search(base, query, attributes=["*", "+"])
            return {one["dn"]: dict(one["raw_attributes"]) for one in link.response}
        finally:
            link.unbind()

    def log_text(self) -> str:
        """Return what the server has written."""
        return (self.folder / "log").read_text(errors="replace")

    def _begin(self) -> None:
        self._guard = Guard(self.folder)
        make_certificates(self.folder)
        (self.folder / "data").mkdir()
        configuration = self.folder / "slapd.conf"
        _ = configuration.write_text("\n".join(self._lines()) + "\n")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # In the foreground, with the lines of its statements.
                [self._program, "-f", configuration, "-h", f"{self.plain} {self.tls}", "-d", "256"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._guard.watch(self._process.pid)
        self._wait()
        self.add(BASE, ["dcObject", "organization"], {"o": "example", "dc": "example"})
        for dn in (SERVICES, GROUPS):
            self.add(dn, ["organizationalUnit"], {})

    def _lines(self) -> list[str]:
        schemas = [
            f"include {_SCHEMAS}/{one}.schema" for one in ("core", "cosine", "inetorgperson")
        ]
        modules = ["back_mdb", "pw-sha2", *(["ppolicy"] if self._policies else [])]
        return [
            *schemas,
            f"modulepath {_MODULES}",
            *(f"moduleload {one}" for one in modules),
            f"TLSCACertificateFile {self.authority}",
            f"TLSCertificateFile {self.folder}/server.crt",
            f"TLSCertificateKeyFile {self.folder}/server.key",
            "database mdb",
            f"suffix {BASE}",
            f"rootdn {_ROOT}",
            f"rootpw {self.password}",
            f"directory {self.folder}/data",
            "dbnosync",
            f'access to attrs=userPassword by dn.base="cn=admin,{BASE}" write by anonymous auth',
            f'access to * by dn.base="cn=admin,{BASE}" write by users read by anonymous auth',
            *(["overlay ppolicy"] if self._policies else []),
        ]

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        parts = urlsplit(self.plain)
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > end:
                raise UsageError(f"slapd did not start: {self.log_text()[-800:]}")
            with suppress(OSError), socket.create_connection((parts.hostname, parts.port), 1):
                return
            time.sleep(0.02)

    def _remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            _ = self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()


def is_installed() -> bool:
    """Return whether there is a server to start."""
    try:
        _ = _program()
    except UsageError:
        return False
    return True


def _program() -> Path:
    found = shutil.which("slapd", path="/usr/sbin:/usr/bin:/usr/local/libexec")
    if found is None or not _SCHEMAS.is_dir():
        raise UsageError("there is no OpenLDAP here.", hint=f"apt-get install {PACKAGE}")
    return Path(found)
