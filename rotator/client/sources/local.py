"""A secret in rotator's embedded backend, for applications on the same machine and of the same user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rotator.client.login import Login, SourceError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from rotator.backends.local import LocalBackend


class LocalSource:
    """Reads the published version at `path` in the file of an embedded backend, and the next one.

    The key opens every secret in that file, an admin's password included: keep it for a single
    machine that runs nothing else, and use another backend or a file sink elsewhere.
    """

    def __init__(
        self, path: str, *, file: str | Path, key_file: str | Path, refresh: float = 5.0
    ) -> None:
        """Nothing is opened yet. `refresh` is in seconds."""
        self.refresh: float = refresh
        self._path: str = path
        self._file: Path = Path(file)
        self._key_file: Path = Path(key_file)
        self._backend: LocalBackend | None = None

    def __repr__(self) -> str:
        return f"{self._path} in {self._file}"

    def read(self) -> Login:
        """Return the published version. Raises `SourceError`."""
        # The extra `local`: imported by those who read it only.
        from rotator.core.errors import RotatorError  # noqa: PLC0415

        try:
            found = self._opened().current(self._path)
        except RotatorError as error:
            raise SourceError(f"{self!r} could not be read: {error.what}") from None
        if found is None:
            raise SourceError(f"{self!r} has no published version.")
        return Login(
            username=found.credential.username,
            password=found.credential.password,
            version=found.id,
            fields=found.credential.fields,
        )

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none. Raises `SourceError`."""
        from rotator.core.errors import RotatorError  # noqa: PLC0415 # as above

        try:
            found = self._opened().next(self._path)
        except RotatorError as error:
            raise SourceError(f"{self!r} could not be read: {error.what}") from None
        if found is None:
            return None
        return Login(
            username=found.credential.username,
            password=found.credential.password,
            version=found.version,
            fields=found.credential.fields,
            rotation=found.rotation_id,
        )

    def _opened(self) -> LocalBackend:
        from rotator.backends.encryption import Keys  # noqa: PLC0415
        from rotator.backends.local import LocalBackend  # noqa: PLC0415

        if self._backend is None:
            # The backend makes a file that is missing: an application must not.
            if not self._file.is_file():
                raise SourceError(f"{self._file} does not exist.")
            self._backend = LocalBackend("client", self._file, Keys([self._key()]))
        return self._backend

    def _key(self) -> Secret:
        from rotator import trusted_files  # noqa: PLC0415

        read = trusted_files.read(self._key_file, "the backend's key", secret=True)
        return Secret(read.decode(errors="replace").strip())
