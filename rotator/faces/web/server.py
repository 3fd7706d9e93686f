"""Runs the console until SIGTERM."""

from __future__ import annotations

import signal
import ssl
from typing import TYPE_CHECKING, Final

import uvicorn

from rotator import trusted_files
from rotator.config import load
from rotator.core.errors import UsageError
from rotator.faces.web.app import build
from rotator.faces.web.console import Console
from rotator.faces.web.guard import Origin
from rotator.system import tell_systemd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.config import Settings
    from rotator.core.web_settings import WebSettings

_MOST_CONNECTIONS: Final = 1_000
_LAST_WORDS: Final = 3


class _Server(uvicorn.Server):
    """Tells when it listens."""

    told: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[object] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # as the library calls it
        """Take the port."""
        await super().startup(sockets)  # pyright: ignore[reportArgumentType] # as above
        if self.started:
            self.told()


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing more."""


def _require_certificate(web: WebSettings) -> None:
    """Raise `UsageError` where the files of TLS cannot be used."""
    if web.certificate is None or web.key is None:
        return
    try:
        _ = trusted_files.read(web.key, "the key of the console's certificate", secret=True)
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            web.certificate, web.key
        )
    except OSError as error:  # also what OpenSSL says
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            f"cannot use the console's certificate {web.certificate} with the key {web.key} ({why}).",
            hint="Set `web.certificate` and `web.key` to PEM files that belong together.",
        ) from error


def serve(config: Path, begun: Callable[[str, Settings], None]) -> None:
    """Serve until SIGTERM or SIGINT. `begun` is called once it listens, with its URL."""
    settings = load(config)
    web = settings.web
    _require_certificate(web)
    console = Console(settings)
    try:
        host, _, port = web.listen.rpartition(":")
        server = _Server(
            uvicorn.Config(
                build(console),
                host=host.strip("[]"),
                port=int(port),
                ssl_certfile=web.certificate,
                ssl_keyfile=web.key,
                log_config=None,
                access_log=False,
                server_header=False,
                # The address of a client is that of its connection, whatever a header says.
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_LAST_WORDS,
                lifespan="on",
                ws="none",
            )
        )

        def told() -> None:
            console.log.info("console", url=Origin(web).main, secrets=len(settings.secrets))
            tell_systemd("READY=1")
            begun(Origin(web).main, settings)

        server.told = told
        for number in (signal.SIGTERM, signal.SIGINT):
            # Once it has stopped, uvicorn sends itself again what stopped it.
            _ = signal.signal(number, _ignore)
        try:
            server.run()
        except SystemExit as error:
            raise UsageError(
                f"nothing can listen on {web.listen}.",
                hint="Another process has it, or the address is not this machine's: set web.listen.",
            ) from error
    finally:
        console.close()
