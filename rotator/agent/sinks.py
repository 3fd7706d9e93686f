"""Sinks: what always holds the current value. Here a file or folder, and a service that reads it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rotator.agent import files
from rotator.agent.files import Access, group_id, user_id
from rotator.agent.formats import render
from rotator.agent.reload import reload, run
from rotator.agent.settings import SinkOptions, mode_of
from rotator.core.consumers import instance_name
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from rotator.client import Login


# Called with the version, the name of the instance that has it, and the level.
Acknowledge: TypeAlias = Callable[[str, str, str], None]


class KeepsUpToDate(Protocol):
    """What the agent needs of a sink of any kind."""

    @property
    def kind(self) -> str:
        """The kind of consumer, for acknowledgements."""
        ...

    @property
    def name(self) -> str:
        """What it keeps up to date, for errors."""
        ...

    def bring(self, login: Login, acknowledge: Acknowledge) -> None:
        """Bring it to this version, or to a newer one; acknowledge each instance that has it.

        Safe to repeat. Raises `SinkWaits` where it needs more time, and any `RotatorError`.
        """
        ...


class Sink:
    """Writes, reloads, checks: each step is repeated until it succeeds, also after a crash."""

    def __init__(self, secret: str, options: SinkOptions, resolve: Callable[[str], str]) -> None:
        """Nothing is written yet. Raises `UsageError` for an unknown user or group."""
        self._secret: str = secret
        self._options: SinkOptions = options
        self._resolve: Callable[[str], str] = resolve
        self._access: Access = Access(
            mode=mode_of(options.mode), owner=user_id(options.owner), group=group_id(options.group)
        )
        # Its presence means: the file changed, and the service has not read it yet.
        self._settled: tuple[str, str] | None = None
        self._mark: Path = options.path.with_name(f".{options.path.name}.rotator-reload")

    @property
    def path(self) -> Path:
        """The name by which a service opens it."""
        return self._options.path

    @property
    def kind(self) -> str:
        """The kind of consumer, for acknowledgements."""
        reload_options = self._options.reload
        is_pooler = reload_options is not None and reload_options.pgbouncer is not None
        return "pgbouncer" if is_pooler else "file"

    @property
    def name(self) -> str:
        """Its path, for errors."""
        return str(self.path)

    def bring(self, login: Login, acknowledge: Acknowledge) -> None:
        """Bring the file, and the service, to this version, and acknowledge it. Raises as `apply`."""
        level = self.apply(login)
        instance = instance_name(socket.gethostname(), str(self.path))
        acknowledge(login.version, instance, level)

    def apply(self, login: Login) -> str:
        """Bring the file, and the service, to this version; return the level that it reached.

        `used` where the service's check succeeded, `loaded` where it was made to read the file,
        `read` where nothing is known of it. Raises `SinkError` and `UsageError`: the next call tries
        again what is left to do.
        """
        about = {"ROTATOR_SECRET": self._secret, "ROTATOR_VERSION": login.version}
        proven: str | None = None
        changed = self._write(login)
        if self._settled is not None and self._settled[0] == login.version and not changed:
            return self._settled[1]
        self._settled = None
        if self._options.reload is not None and self._mark.exists():
            proven = reload(self._options.reload, about, self._resolve, login)
        if self._options.folder is not None:
            files.remove_old_folders(self._options.folder)
        if self._options.check:
            run(self._options.check, about, "check")
            proven = "used"
        with suppress(OSError):
            self._mark.unlink(missing_ok=True)
        level = proven or ("read" if self._options.reload is None else "loaded")
        self._settled = (login.version, level)
        return level

    def _write(self, login: Login) -> bool:
        options = self._options
        if options.folder is not None:
            contents: Mapping[str, Secret] = {
                name: render(login, file.format, file.options)
                for name, file in options.files.items()
            }
            return files.write_folder(
                options.folder, contents, self._access, before=self._note_change
            )
        content = render(login, options.format or "json", options.options)
        return files.write_file(self.path, content, self._access, before=self._note_change)

    def _note_change(self) -> None:
        if self._options.reload is not None:
            self._mark.touch(mode=0o600)
            files.sync_folder(self._mark.parent)
