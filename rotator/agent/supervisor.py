"""Runs a command with the current values, and restarts or signals it when one changes.

The main thread waits for signals and does nothing that blocks. Values are read in other threads. The
command is no child that dies with its parent: where this process is killed, the command continues.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from rotator.agent.formats import FormatOptions, check_variable, fill_from, render
from rotator.agent.private_folder import PrivateFolder, runtime_folder
from rotator.client import SourceError
from rotator.core.consumers import instance_name
from rotator.core.errors import RotatorError, UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from rotator.agent.sources import Consumer
    from rotator.client import Login

_log = logging.getLogger("rotator.agent")
OnChange: TypeAlias = Literal["restart", "ignore"] | signal.Signals

# A thread of this process wakes the main thread.
_WAKE: Final = signal.SIGRTMIN + 1
_PASSED_ON: Final = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTERM,
        signal.SIGALRM,
        signal.SIGWINCH,
        signal.SIGCONT,
    }
)
_WAITED_FOR: Final = frozenset({*_PASSED_ON, signal.SIGCHLD, _WAKE})
# si_code of a signal that the kernel sent, such as the one for Ctrl-C: the command has it too.
_FROM_KERNEL: Final = 0x80
_POLL: Final = 0.5
_CHECK_TIMEOUT: Final = 60.0
_RETRY: Final = 5.0
_LONGEST_RETRY: Final = 60.0
# Seconds that a command must run before the next replica of the host restarts.
_SETTLE: Final = 3.0
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    """How the command gets the values, and what a change does. Times are in seconds."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    formats: tuple[str, ...] = ()
    on_change: OnChange = "restart"
    check: tuple[str, ...] = ()
    debounce: float = 2.0
    splay: float = 5.0
    kill_after: float = 30.0


class Supervisor:
    """Runs one command. `run` returns its exit code."""

    def __init__(
        self,
        consumer: Consumer,
        command: Sequence[str],
        options: ExecOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet. Raises `UsageError` for options that cannot be meant."""
        self._consumer: Consumer = consumer
        self._command: list[str] = list(command)
        self._options: ExecOptions = options
        self._clock: Callable[[], float] = clock
        self._names: list[str] = list(consumer.credentials)
        for name in options.variables:
            check_variable(name)
        if not options.variables and not options.formats and len(self._names) > 1:
            raise UsageError(
                "several secrets need --env or --file.",
                hint=f"Example: --env DATABASE_URL='postgresql://{{{self._names[0]}.username}}:{{{self._names[0]}.password:url}}@db/shop'",
            )
        self._folder: PrivateFolder | None = None
        self._child: int | None = None
        self._check: int | None = None
        self._check_until: float = 0.0
        self._running: dict[str, str] = {}
        self._candidate: dict[str, Login] = {}
        self._checked: dict[str, str] = {}
        self._act_at: float | None = 0.0
        self._retry: float = _RETRY
        self._kill_at: float | None = None
        self._restarting: bool = False
        self._leaving: int | None = None
        self._lock: int | None = None
        self._settled_at: float = 0.0

    def run(self) -> int:
        """Run the command until it ends. Call it in the main thread."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        # One that arrives after the last wait must not end this process.
        _ = signal.signal(_WAKE, lambda _number, _frame: None)
        try:
            self._consumer.follow_daemon()
            for name in self._names:
                threading.Thread(target=self._read_first, args=(name,), daemon=True).start()
            while (code := self._turn()) is None:
                pass
            return code
        finally:
            self._consumer.close()
            if self._folder is not None:
                self._folder.remove()
            _ = signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # -- values --------------------------------------------------------------------------------

    def _read_first(self, name: str) -> None:
        credential, pause, reported = self._consumer.credentials[name], 1.0, ""
        while not self._consumer.closed.is_set():
            try:
                _ = credential.current()
            except SourceError as error:
                if str(error) != reported:
                    reported = str(error)
                    _log.warning("%s: the command waits for its value: %s", name, error)
                _ = self._consumer.closed.wait(pause)
                pause = min(pause * 2, 30.0)
            else:
                _ = credential.on_change(lambda _login: os.kill(os.getpid(), _WAKE))
                os.kill(os.getpid(), _WAKE)
                return

    def _values(self) -> dict[str, Login] | None:
        """Return the current values without waiting; None until each was read once."""
        credentials = self._consumer.credentials
        if any(credential.health().version is None for credential in credentials.values()):
            return None
        return {name: credential.current() for name, credential in credentials.items()}

    def _environment(self, logins: Mapping[str, Login]) -> dict[str, str]:
        """Return the environment of a command. What this process needed for the backend is not in it."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in self._consumer.environ.used
        }
        variables = dict(self._options.variables)
        if not variables and not self._options.formats:
            ((secret, login),) = logins.items()
            places = {"PGHOST": "host", "PGPORT": "port", "PGDATABASE": "dbname"}
            # The place that the environment names may be a pooler's: the target's own is not mixed with it.
            own_place = (
                login if inherited.keys() & places else self._consumer.completed(secret, login)
            )
            variables = {"PGUSER": "{username}", "PGPASSWORD": "{password}"}
            for variable, key in places.items():
                if key in own_place.fields:
                    variables[variable] = f"{{{key}}}"
        completed = {name: self._consumer.completed(name, login) for name, login in logins.items()}
        made = {name: fill_from(text, completed).reveal() for name, text in variables.items()}
        if bad := [name for name, value in made.items() if "\0" in value]:
            raise UsageError(f"the variable {bad[0]} cannot hold the NUL character of its value.")
        if self._folder is not None:
            made["ROTATOR_SECRETS_DIR"] = str(self._folder.path)
            if "pgpass" in self._options.formats and len(logins) == 1:
                made["PGPASSFILE"] = str(self._folder.path / f"{_file_name(*logins)}.pgpass")
        return {**inherited, **made}

    def _format_options(self, name: str) -> FormatOptions:
        scheme = self._consumer.scheme(name)
        return FormatOptions() if scheme is None else FormatOptions(scheme=scheme)

    def _write_folder(self, logins: Mapping[str, Login]) -> None:
        if not self._options.formats:
            return
        contents: dict[str, Secret] = {
            f"{_file_name(name)}.{format_}": render(
                self._consumer.completed(name, login), format_, self._format_options(name)
            )
            for name, login in logins.items()
            for format_ in self._options.formats
        }
        if self._folder is None:
            self._folder = PrivateFolder()
        self._folder.write(contents)

    # -- one turn ------------------------------------------------------------------------------

    def _turn(self) -> int | None:
        """Wait for a signal or a moment, and act; return the exit code once all is over."""
        received = signal.sigtimedwait(_WAITED_FOR, _POLL)
        if received is not None and received.si_signo in _PASSED_ON:
            self._pass_on(received)
        ended = self._reap()
        if self._leaving is not None and self._child is None:
            return 128 + self._leaving if ended is None else ended
        if ended is not None:
            if not self._restarting:
                return ended
            self._restarting, self._kill_at = False, None
            return self._start()
        now = self._clock()
        if self._check is not None and now > self._check_until:
            _kill(self._check, signal.SIGKILL)
        if self._kill_at is not None and self._child is not None and now > self._kill_at:
            self._kill_at = None
            _kill(self._child, signal.SIGKILL)
        if self._lock is not None and not self._restarting and now > self._settled_at:
            os.close(self._lock)
            self._lock = None
        if self._restarting or self._check is not None or self._leaving is not None:
            return None
        self._acknowledge()
        return self._follow(now)

    def _pass_on(self, received: signal.struct_siginfo) -> None:
        number = received.si_signo
        if self._child is None:
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                self._leaving = number
            return
        if number in (signal.SIGTERM, signal.SIGINT):
            # The command ends: it is not started again.
            self._restarting = False
            self._leaving = number
        if received.si_code != _FROM_KERNEL:
            _kill(self._child, number)

    def _reap(self) -> int | None:
        """Collect ended processes; return the exit code of the command if it is one of them."""
        ended: int | None = None
        while True:
            # As PID 1 this process inherits orphans of the command.
            awaited = [-1] if os.getpid() == 1 else [self._child, self._check]
            collected = False
            for pid in awaited:
                if pid is None:
                    continue
                try:
                    gone, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue
                if gone == 0:
                    continue
                collected = True
                code = _exit_code(status)
                if gone == self._child:
                    self._child, ended = None, code
                elif gone == self._check:
                    self._check = None
                    self._note_check(code)
            if not collected:
                return ended

    # -- changes -------------------------------------------------------------------------------

    def _follow(self, now: float) -> int | None:
        """Act on the current values: start the command, or let it have a change."""
        values = self._values()
        if values is None:
            return None
        versions = {name: login.version for name, login in values.items()}
        if versions == self._running:
            self._candidate = {}
            return None
        if versions != {name: login.version for name, login in self._candidate.items()}:
            # Several secrets of one command often change together: one restart is enough.
            self._candidate = values
            wait = self._options.debounce if self._running else 0.0
            if self._running and self._options.on_change == "restart":
                wait += random.uniform(0.0, self._options.splay)  # noqa: S311 # spread
            self._act_at, self._retry = now + wait, _RETRY
        if self._act_at is None or now < self._act_at:
            return None
        try:
            return self._act(now)
        except RotatorError as error:
            if not self._running:
                raise
            _log.warning("the command keeps its old value: %s", error)
            self._delay(now)
            return None

    def _act(self, now: float) -> int | None:
        versions = {name: login.version for name, login in self._candidate.items()}
        if self._running and self._options.on_change != "restart":
            self._write_folder(self._candidate)
            self._running = versions
            if isinstance(self._options.on_change, signal.Signals) and self._child is not None:
                _kill(self._child, self._options.on_change)
            return None
        if self._options.check and self._checked != versions:
            self._check = _spawn(self._options.check, self._environment(self._candidate))
            self._check_until = now + _CHECK_TIMEOUT
            return None
        if not self._running:
            return self._start()
        if not self._has_turn():
            return None
        _log.info("the command is restarted: a value changed")
        self._restarting, self._kill_at = True, now + self._options.kill_after
        if self._child is not None:
            _kill(self._child, signal.SIGTERM)
        return None

    def _start(self) -> int | None:
        """Start the command with the candidate; return an exit code where it cannot be started."""
        self._write_folder(self._candidate)
        try:
            self._child = _spawn(self._command, self._environment(self._candidate))
        except OSError as error:
            _log.error("the command %r could not be started: %s", self._command[0], error.strerror)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        self._running = {name: login.version for name, login in self._candidate.items()}
        self._candidate = {}
        self._settled_at = self._clock() + _SETTLE
        return None

    def _note_check(self, code: int) -> None:
        if code == 0:
            self._checked = {name: login.version for name, login in self._candidate.items()}
            return
        _log.warning("the check failed with exit code %d: the command keeps its old value", code)
        self._delay(self._clock())

    def _delay(self, now: float) -> None:
        self._act_at = now + self._retry
        self._retry = min(self._retry * 2, _LONGEST_RETRY)

    def _has_turn(self) -> bool:
        """Whether no other replica of this user and host restarts now."""
        if self._lock is not None:
            return True
        key = "\0".join(sorted(self._names))
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        file = runtime_folder() / f".rotator-restart-{os.geteuid()}-{digest}"
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _acknowledge(self) -> None:
        daemon = self._consumer.daemon
        if daemon is None or self._child is None or self._clock() < self._settled_at:
            return
        if self._options.on_change == "ignore" and not self._options.formats:
            # The command may still use what it was started with.
            return
        for name, version in self._running.items():
            level = "used" if self._checked.get(name) == version else "loaded"
            instance = instance_name(socket.gethostname(), str(os.getpid()))
            daemon.acknowledge(name, version, level, instance=instance, kind="exec")


def _spawn(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start a program, with no signal blocked. The password is in its environment only."""
    return os.posix_spawnp(
        argv[0], list(argv), dict(environ), setsigmask=[], setsigdef=list(_PASSED_ON)
    )


def _kill(pid: int, number: int) -> None:
    # It is not reaped yet, so that the number is still its own.
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _file_name(secret: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in secret)
