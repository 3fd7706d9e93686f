"""Lambda's Runtime API on loopback, and the real runtime client (awslambdaric) as a process under it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.loopback import PatientServer
from tests.servers.secrets_manager import FUNCTION


class InvocationError(Exception):
    """What the function answered with: AWS sees its type and its text."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        super().__init__(f"{payload.get('errorType')}: {payload.get('errorMessage')}")


class Killed(Exception):  # what happened
    """The function's process died in the middle."""


@dataclass(slots=True)
class _Invocation:
    event: object
    request: str = field(default_factory=lambda: str(uuid.uuid4()))
    answered: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: dict[str, Any] | None = None


class Runtime:
    """A function: its process is started when it is first called, and kept warm."""

    def __init__(
        self,
        handler: str = "rotator.faces.aws_lambda.handler",
        *,
        environ: dict[str, str],
        task_root: Path | None = None,
        log: Path,
        seconds: float = 60.0,
    ) -> None:
        """`task_root`: where the function's zip was unpacked; None for this checkout."""
        self._handler, self._root, self._log, self._seconds = handler, task_root, log, seconds
        self._waiting: queue.Queue[_Invocation] = queue.Queue()
        self._running: dict[str, _Invocation] = {}
        self._server = PatientServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._environ = environ
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._server.shutdown()
        self._server.server_close()

    def kill(self) -> None:
        """End the process by SIGKILL, wherever it is."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def __call__(self, event: object) -> object:
        """Invoke it. Raises `InvocationError`, or `Killed` when its process is gone."""
        self._start()
        process, invocation = self.process, _Invocation(event)
        self._waiting.put(invocation)
        while not invocation.answered.wait(0.01):
            if process is None or process.poll() is not None:
                self._forget(invocation)
                raise Killed
        if invocation.error is not None:
            raise InvocationError(invocation.error)
        return invocation.result

    def _start(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.starts += 1
        # A killed process's request may still wait on the old one.
        self._waiting = queue.Queue()
        environ = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "rotator",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIATESTING",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            **self._environ,
        }
        command = [sys.executable, "-m", "awslambdaric", self._handler]
        if self._root is not None:
            # Nothing of this environment but the runtime client itself, as on Lambda.
            environ["LAMBDA_TASK_ROOT"] = str(self._root)
            client = self._root.parent / "client"
            first = f"import sys; sys.path[:0] = [{str(self._root)!r}, {str(client)!r}];"
            run = f"sys.argv = ['awslambdaric', {self._handler!r}];"
            module = "import runpy; runpy.run_module('awslambdaric', run_name='__main__')"
            command = [sys.executable, "-S", "-c", first + run + module]
        else:
            environ["LAMBDA_TASK_ROOT"] = str(Path(__file__).parents[2])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    # -- the Runtime API -----------------------------------------------------------------------

    def next(self) -> _Invocation | None:
        """Return what is to be done next, None when the server ends."""
        with suppress(queue.Empty):
            invocation = self._waiting.get(timeout=30)
            self._running[invocation.request] = invocation
            return invocation
        return None

    def deadline(self) -> int:
        return int((time.time() + self._seconds) * 1000)

    def ended(self, request: str, *, result: object = None, error: Any = None) -> None:
        invocation = self._running.pop(request, None)
        if invocation is not None:
            invocation.result, invocation.error = result, error
            invocation.answered.set()

    def failed_to_start(self, error: Any) -> None:
        invocation = self.next()
        if invocation is not None:
            self.ended(invocation.request, error=error)

    def _forget(self, invocation: _Invocation) -> None:
        self._running.pop(invocation.request, None)
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()


def _handler(runtime: Runtime) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm: ClassVar[bool] = True

        def do_GET(self) -> None:
            invocation = runtime.next()
            if invocation is None:
                self._answer(500, b"")
                return
            content = json.dumps(invocation.event).encode()
            self._answer(
                200,
                content,
                **{
                    "Lambda-Runtime-Aws-Request-Id": invocation.request,
                    "Lambda-Runtime-Deadline-Ms": str(runtime.deadline()),
                    "Lambda-Runtime-Invoked-Function-Arn": FUNCTION,
                    "Lambda-Runtime-Trace-Id": "Root=1-1-1",
                },
            )

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"] or 0)
            content = self.rfile.read(size)
            if len(content) < size:  # its process was killed in the middle of the answer
                return
            try:
                data = json.loads(content or b"null")
            except ValueError:  # as above
                return
            parts = self.path.split("/")
            if parts[-2:] == ["init", "error"]:
                runtime.failed_to_start(data)
            elif parts[-1] == "error":
                runtime.ended(parts[-2], error=data)
            else:
                runtime.ended(parts[-2], result=data)
            self._answer(202, b"")

        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            with suppress(OSError):
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    return Handler
