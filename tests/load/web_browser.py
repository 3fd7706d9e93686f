"""`make browser`: the web console in Debian's Chromium, and its API by schemathesis.

Starts a console over a small journal. In Chromium every page is checked by axe at 360 and 1,280 pixels, light
and dark; nothing may be wider than the window or refused by the policy for scripts. Then the keyboard alone
signs in and asks for a rotation, a page without JavaScript is read, and a step shows itself.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2 as httpx

from rotator.core.model import Kind, NewEvent
from rotator.journal import chain
from rotator.journal.sql import SqlJournal
from rotator.system import SystemClock
from tests.load.programs import end_in_order, scratch_folder
from tests.load.web import PHRASE, prepared, sign_in

_VENV: Final = Path(__file__).parents[2] / ".venv" / ".browser"
SECONDS: Final = timedelta(seconds=60)
_SCRIPT: Final = Path(__file__).with_name("web_in_chromium.py")


def main() -> None:
    """Run both, and exit with 1 where one finds something."""
    with scratch_folder("rotator-web-browser-") as folder:
        config, url = prepared(folder, 60)
        _make_varied(folder, config)
        command = [sys.executable, "-m", "rotator", "web", "run", "-c", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            assert process.stderr is not None
            assert process.stderr.readline()
            seen = subprocess.run(
                [
                    _VENV / "bin" / "python",
                    _SCRIPT,
                    url,
                    PHRASE,
                    str(_VENV / "package"),
                    str(folder),
                ],
                check=False,
            )
            tried = _schemathesis(url, folder)
        finally:
            process.kill()
            _ = process.wait()
    sys.exit(1 if seen.returncode or tried else 0)


def _schemathesis(url: str, folder: Path) -> int:
    """Try the API with what its document permits and what it does not; return the exit code.

    It writes what it finds into `folder`.
    """
    with httpx.Client(base_url=url, trust_env=False) as client:
        sign_in(client, url)
        token = client.get("/api/v1/session").json()["token"]
        cookie = "; ".join(f"{key}={value}" for key, value in client.cookies.items())
    headers = {"Cookie": cookie, "Origin": url, "X-CSRF-Token": token}
    given = [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        *(_VENV / "bin" / "schemathesis", "run", f"{url}/api/v1/openapi.json", *given),
        *("--checks", checks, "--max-examples", "30", "--seed", "1", "--no-color"),
        *("--request-timeout", "10", "--phases", "examples,coverage,fuzzing"),
    ]
    return subprocess.run(command, check=False, cwd=folder).returncode


def _make_varied(folder: Path, config: Path) -> None:
    """Write a leak, parked secrets and roles, and give the console a key for requests."""
    journal = SqlJournal(f"sqlite:///{folder}/rotator.db", clock=SystemClock(), actor="browser")
    leak = {
        "incident": "INC-7",
        "version": "2",
        "login": "app_1",
        "mode": "map",
        "reason": "in a log",
    }
    for name, event in (
        ("secret-000001", NewEvent(kind=Kind.LEAKED, data=leak)),
        ("secret-000002", NewEvent(kind=Kind.PARKED, data={"reason": "the vendor works on it"})),
    ):
        lock = journal.acquire(name, "browser", SECONDS)
        _ = journal.append(lock, [event], SECONDS)
        journal.release(lock)
    journal.close()
    key = chain.new_signing_key()
    file = folder / "console-key"
    file.touch(mode=0o600)
    _ = file.write_text(key.reveal())
    public = "".join(chain.public_key(key).splitlines()[1:-1])
    more = (
        f'requests: {{key: "file:console-key", writers: {{console: "{public}"}}}}\n'
        'roles: [{role: admin, subjects: ["password:load"]}]\n'
    )
    _ = config.write_text(config.read_text() + more)


if __name__ == "__main__":
    end_in_order()
    main()
