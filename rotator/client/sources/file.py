"""A file that an agent, a sink or a mounted secret keeps up to date."""

from __future__ import annotations

import os
from pathlib import Path

from rotator.client.login import Login, SourceError
from rotator.client.sources.values import login_from, parsed


class FileSource:
    """Reads a JSON object from a file that is replaced as a whole, such as a mounted secret.

    `refresh` is short because a look costs one system call. The file's own `version` key names the
    version; without it, its time and its number on the disk do.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        username_field: str = "username",
        password_field: str = "password",  # noqa: S107 # the name of a key
        version_field: str = "version",
        refresh: float = 1.0,
    ) -> None:
        """Nothing is read yet. `refresh` is in seconds."""
        self.refresh: float = refresh
        self._file: Path = Path(file)
        self._names: tuple[str, str] = (username_field, password_field)
        self._version_field: str = version_field

    def __repr__(self) -> str:
        return f"{self._file}"

    def read(self) -> Login:
        """Return what the file holds. Raises `SourceError`."""
        try:
            with self._file.open(encoding="utf-8") as opened:
                text = opened.read()
                status = os.fstat(opened.fileno())
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{self._file} could not be read: {type(error).__name__}.") from None
        data = parsed(text, str(self._file))
        version = data.get(self._version_field) if isinstance(data, dict) else None
        named = str(version) if isinstance(version, str | int) else ""
        return login_from(
            data, named or f"{status.st_mtime_ns}-{status.st_ino}", str(self._file), *self._names
        )
