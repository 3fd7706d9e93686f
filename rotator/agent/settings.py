"""The shape of `agent.yaml`. It holds no secret: tokens and passwords are references."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rotator.agent.formats import Format, FormatOptions
from rotator.core.errors import UsageError

_MODE: Final = re.compile(r"0?[0-7]{3}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_OTHERS_MAY_READ: Final = 0o007


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonOptions:
    """The daemon's interface for consumers: it hears what is in use, and announces new versions."""

    url: str = field(metadata=_help("Its address, such as https://rotator.example.org:8443."))
    token: str = field(metadata=_help("Reference to the token of this consumer."))
    ca_file: Path | None = field(
        default=None, metadata=_help("Certificate authority. Default: the system's.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """A Unix socket that serves the values to applications of this host."""

    path: Path = field(metadata=_help("Path of the socket."))
    mode: str = field(default="0660", metadata=_help("Mode of the socket, in quotes."))
    group: str | None = field(default=None, metadata=_help("Group of the socket."))
    users: tuple[str, ...] = field(
        default=(),
        metadata=_help("Users that may ask, by name or number. Default: root and the agent's own."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _ = mode_of(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBouncerOptions:
    """The admin console of PgBouncer: RELOAD, then RECONNECT."""

    host: str = field(default="127.0.0.1", metadata=_help("Host, or folder of its Unix socket."))
    port: int = field(default=6432, metadata=_help("Port."))
    user: str = field(default="pgbouncer", metadata=_help("One of its `admin_users`."))
    password: str | None = field(default=None, metadata=_help("Reference to that password."))
    wait: timedelta = field(
        default=timedelta(seconds=60),
        metadata=_help("How long one attempt waits for server connections of the old login."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadOptions:
    """How a service reads a changed file: exactly one way."""

    signal: str | None = field(
        default=None, metadata=_help("Signal to send, such as HUP; needs `pid_file` or `process`.")
    )
    pid_file: Path | None = field(
        default=None, metadata=_help("File with the number of the process to signal.")
    )
    process: str | None = field(
        default=None, metadata=_help("Name of the processes to signal, as in /proc/PID/comm.")
    )
    command: tuple[str, ...] = field(
        default=(), metadata=_help("Program and arguments. No shell runs.")
    )
    systemd: str | None = field(default=None, metadata=_help("Unit to reload or restart."))
    http: str | None = field(
        default=None, metadata=_help("Address to send an empty POST to: https://, or of this host.")
    )
    pgbouncer: PgBouncerOptions | None = field(
        default=None, metadata=_help("PgBouncer's admin console.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        ways = (self.signal, self.command, self.systemd, self.http, self.pgbouncer)
        if sum(1 for way in ways if way) != 1:
            raise UsageError("expected one of `signal`, `command`, `systemd`, `http`, `pgbouncer`.")
        if bool(self.signal) is not ((self.pid_file is None) is not (self.process is None)):
            raise UsageError("`signal` needs either `pid_file` or `process`.")
        if self.signal is not None:
            _ = signal_of(self.signal)
        if self.http is not None and not re.match(
            r"https://|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$)", self.http
        ):
            raise UsageError("`http` must be https://, or http:// of this host.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """One file of a folder."""

    format: Format = field(metadata=_help("Format of the file."))
    options: FormatOptions = field(
        default_factory=FormatOptions, metadata=_help("Options of the format.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """A file, or a folder of files that change together."""

    file: Path | None = field(default=None, metadata=_help("File to write."))
    format: Format | None = field(default=None, metadata=_help("Format of the file."))
    options: FormatOptions = field(
        default_factory=FormatOptions, metadata=_help("Options of the format.")
    )
    folder: Path | None = field(
        default=None,
        metadata=_help("In place of `file`: a symbolic link to a folder, replaced as a whole."),
    )
    files: dict[str, FileOptions] = field(
        default_factory=dict[str, FileOptions], metadata=_help("Files of the folder, by name.")
    )
    owner: str | None = field(
        default=None, metadata=_help("Owner, by name or number. Default: the agent's user.")
    )
    group: str | None = field(
        default=None, metadata=_help("Group, by name or number. Default: the agent's group.")
    )
    mode: str = field(default="0600", metadata=_help("Mode of each file, in quotes."))
    reload: ReloadOptions | None = field(
        default=None, metadata=_help("How the service reads a changed file.")
    )
    check: tuple[str, ...] = field(
        default=(),
        metadata=_help("Program that exits with 0 once the service uses the new value."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if (self.file is None) is (self.folder is None):
            raise UsageError("expected either `file` or `folder`.")
        if self.file is not None and self.format is None:
            raise UsageError("`file` needs `format`.")
        if self.folder is not None and (not self.files or self.format is not None):
            raise UsageError("`folder` needs `files`, each with its own `format`.")
        for name in self.files:
            if not _FILE_NAME.fullmatch(name) or name in (".", ".."):
                raise UsageError("invalid name of a file in `files`.")
        if mode_of(self.mode) & _OTHERS_MAY_READ:
            raise UsageError(
                "`mode` lets every user read or write the password.",
                hint="Use 0600, or 0640 with `group`.",
            )

    @property
    def path(self) -> Path:
        """The name by which a service opens it."""
        path = self.file or self.folder
        assert path is not None  # noqa: S101 # `__post_init__` requires one
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """One secret of the backend."""

    path: str | None = field(
        default=None, metadata=_help("Its path in the backend. Default: its name.")
    )
    sinks: tuple[SinkOptions, ...] = field(
        default=(), metadata=_help("Files and folders to keep up to date.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What an application host consumes."""

    refresh: timedelta = field(
        default=timedelta(seconds=30),
        metadata=_help("Longest time between two reads of a secret."),
    )
    daemon: DaemonOptions | None = field(
        default=None, metadata=_help("The daemon's interface for consumers.")
    )
    socket: SocketOptions | None = field(
        default=None, metadata=_help("Unix socket for applications.")
    )
    secrets: dict[str, SecretOptions] = field(
        default_factory=dict[str, SecretOptions], metadata=_help("The secrets, by name.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.refresh < timedelta(milliseconds=50):
            raise UsageError("`refresh` must be 50ms or more.")
        paths = [sink.path for secret in self.secrets.values() for sink in secret.sinks]
        if len(set(paths)) != len(paths):
            raise UsageError("two sinks have the same path.")


def mode_of(text: str) -> int:
    """Return a mode such as 0640 as a number. Raises `UsageError`."""
    if not _MODE.fullmatch(text):
        raise UsageError("invalid `mode`.", hint="Write three octal digits in quotes: '0640'.")
    return int(text, 8)


def signal_of(name: str) -> signal.Signals:
    """Return a signal by its name, such as HUP or SIGHUP. Raises `UsageError`."""
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise UsageError("unknown signal.", hint="Examples: HUP, USR1, TERM.") from None
