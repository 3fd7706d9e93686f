"""Cleans up behind a program that was killed: ends its scratch server, removes its scratch folder."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Final

# Each line names the process to end from now on; the end of the input means that the program is gone.
# SIGQUIT is PostgreSQL's immediate shutdown, which frees its shared memory; SIGKILL also ends a process
# that is frozen.
_SCRIPT: Final = """
process=
while read -r line; do
  [ "$line" = release ] && exit
  process=$line
done
if [ -n "$process" ]; then
  kill -QUIT "$process"
  tries=0
  while kill -0 "$process" && [ "$tries" -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
  kill -KILL "$process"
fi
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"""


class Guard:
    """A shell that waits until this program is gone, however it ends, unless it is released first.

    It reads a pipe whose other end only this program holds, so no signal to the program reaches it.
    """

    def __init__(self, folder: Path) -> None:
        """Guard a folder."""
        self._shell: subprocess.Popen[bytes] = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "guard", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Not in our process group, whose signals are not for the guard.
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Guard this process too, in place of the one before."""
        self._write(str(pid))

    def forget_process(self) -> None:
        """Guard the folder alone: the process has ended."""
        self._write("")

    def release(self) -> None:
        """End the guard; process and folder are the caller's again."""
        self._write("release")
        if self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.close()
        _ = self._shell.wait()

    def _write(self, line: str) -> None:
        stdin = self._shell.stdin
        if stdin is None or stdin.closed:
            return
        # A guard that somebody killed guards nothing; the server itself still works.
        with contextlib.suppress(OSError):
            _ = stdin.write(f"{line}\n".encode())
            stdin.flush()
