"""The shape of `agent.yaml`. It holds no secret: tokens and passwords are references."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from rotator.agent.formats import Format, FormatOptions, check_template
from rotator.core.errors import UsageError

_MODE: Final = re.compile(r"0?[0-7]{3}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
# Names of objects, namespaces and keys (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/).
_OBJECT_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_NAMESPACE: Final = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SECRET_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}")
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
    database: str | None = field(
        default=None,
        metadata=_help(
            "Database through which the new login is tried. Default: the secret's `dbname`."
        ),
    )
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
class KubernetesOptions:
    """A Secret object, and the workloads of its namespace that use it."""

    secret: str = field(metadata=_help("Name of the Secret object.", reference=False))
    namespace: str | None = field(
        default=None,
        metadata=_help("Namespace. Default: that of `kubernetes:` at the top of this file."),
    )
    keys: dict[str, str] = field(
        default_factory=lambda: {"username": "{username}", "password": "{password}"},
        metadata=_help(
            "Keys of the Secret, as templates. Default: username and password.", reference=False
        ),
    )
    files: dict[str, FileOptions] = field(
        default_factory=dict[str, FileOptions],
        metadata=_help("Further keys of the Secret, each a whole file in a format."),
    )
    type: str | None = field(
        default=None, metadata=_help("Type of a Secret that is created. Default: Opaque.")
    )
    force: bool = field(
        default=False, metadata=_help("Take over keys that another field manager owns.")
    )
    deployments: tuple[str, ...] = field(default=(), metadata=_help("Deployments to restart."))
    statefulsets: tuple[str, ...] = field(default=(), metadata=_help("StatefulSets to restart."))
    daemonsets: tuple[str, ...] = field(default=(), metadata=_help("DaemonSets to restart."))
    restart: Literal["auto", "always", "never"] = field(
        default="auto",
        metadata=_help(
            "auto: where the pod template has the Secret in its environment or mounted by `subPath`."
        ),
    )
    every: timedelta = field(
        default=timedelta(minutes=10),
        metadata=_help("Shortest time between two restarts of a workload."),
    )
    wait: timedelta = field(
        default=timedelta(minutes=10),
        metadata=_help("How long a rollout may take before it is reported as failed."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        named = [self.secret, *self.deployments, *self.statefulsets, *self.daemonsets]
        if not all(_OBJECT_NAME.fullmatch(name) for name in named):
            raise UsageError("invalid name of a Kubernetes object.")
        _check_namespace(self.namespace)
        if not all(_SECRET_KEY.fullmatch(key) for key in (*self.keys, *self.files)):
            raise UsageError("invalid key of a Secret.", hint="Use letters, digits, `_`, `.`, `-`.")
        if self.keys.keys() & self.files.keys() or not (self.keys or self.files):
            raise UsageError("each key of the Secret must be in one of `keys` and `files`.")
        for template in self.keys.values():
            check_template(template)
        listed = (self.deployments, self.statefulsets, self.daemonsets)
        if any(len(set(names)) != len(names) for names in listed):
            raise UsageError("a workload is listed twice.")
        if self.every < timedelta(0) or self.wait < timedelta(seconds=1):
            raise UsageError("`every` must not be negative, and `wait` must be 1s or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The Kubernetes API. Without options: that of the pod in which the agent runs."""

    kubeconfig: Path | None = field(
        default=None,
        metadata=_help(
            "A kubeconfig file with a token or a client certificate. Default: the pod's."
        ),
    )
    context: str | None = field(
        default=None, metadata=_help("Context of the kubeconfig. Default: its current-context.")
    )
    namespace: str | None = field(
        default=None, metadata=_help("Namespace. Default: the context's, or the pod's.")
    )
    timeout: timedelta = field(
        default=timedelta(seconds=15), metadata=_help("Longest time of a network operation.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_namespace(self.namespace)
        if self.context is not None and self.kubeconfig is None:
            raise UsageError("`context` needs `kubeconfig`.")
        if not timedelta(0) < self.timeout <= timedelta(minutes=5):
            raise UsageError("`timeout` must be above 0s, and at most 5m.")


def _check_namespace(name: str | None) -> None:
    if name is not None and not _NAMESPACE.fullmatch(name):
        raise UsageError("invalid `namespace`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """A file, a folder of files that change together, or a Secret object of Kubernetes."""

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
    kubernetes: KubernetesOptions | None = field(
        default=None, metadata=_help("In place of `file`: a Secret object, and its workloads.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if sum(1 for way in (self.file, self.folder, self.kubernetes) if way is not None) != 1:
            raise UsageError("expected either `file` or `folder`, or `kubernetes`.")
        if self.kubernetes is not None:
            defaults = (None, FormatOptions(), {}, None, None, "0600", None, ())
            if defaults != (
                self.format,
                self.options,
                self.files,
                self.owner,
                self.group,
                self.mode,
                self.reload,
                self.check,
            ):
                raise UsageError("`kubernetes` takes no other option of a sink beside it.")
            return
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
        default=(), metadata=_help("Files, folders and Secret objects to keep up to date.")
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
    kubernetes: ClusterOptions = field(
        default_factory=ClusterOptions,
        metadata=_help("Kubernetes API, for the sinks of that name."),
    )
    secrets: dict[str, SecretOptions] = field(
        default_factory=dict[str, SecretOptions], metadata=_help("The secrets, by name.")
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.refresh < timedelta(milliseconds=50):
            raise UsageError("`refresh` must be 50ms or more.")
        sinks = [sink for secret in self.secrets.values() for sink in secret.sinks]
        paths = [sink.path for sink in sinks if sink.kubernetes is None]
        if len(set(paths)) != len(paths):
            raise UsageError("two sinks have the same path.")
        chosen = [sink.kubernetes for sink in sinks if sink.kubernetes is not None]
        objects = {(one.namespace or self.kubernetes.namespace, one.secret) for one in chosen}
        if len(objects) != len(chosen):
            raise UsageError(
                "two sinks have the same Secret object.",
                hint="Each secret needs an object of its own.",
            )


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
