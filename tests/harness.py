"""A harness around a plugin: the real engine, a journal and a backend, for whole rotations on a real server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator import system
from rotator.api import Credential, Secret
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.core.model import Policy
from rotator.engine import Engine, ManagedSecret
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ListLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.api import RotationPlugin

QUICK: Final = Policy(
    grace=timedelta(0),
    attempts=1,
    backoff=timedelta(milliseconds=1),
    step_timeout=timedelta(seconds=10),
)
# The password of a login that was there before us.
FIRST: Final = "there-before-us"


@dataclass(slots=True, kw_only=True)
class AnyHarness:
    """Everything to rotate with. `name` is what its logins are called, or start with."""

    name: str
    engine: Engine
    journal: SqlJournal
    backend: LocalBackend
    log: ListLog
    close: list[Callable[[], None]]

    def managed(
        self,
        plugin: RotationPlugin,
        strategy: str,
        target_options: object,
        secret_options: object,
        *,
        admin: Callable[[], Credential] | Credential,
        name: str,
        path: str,
        policy: Policy,
    ) -> ManagedSecret:
        """Return a secret that is kept here, on a target of its own."""
        who = admin if callable(admin) else lambda: admin
        opened = plugin.target(name, target_options, who)
        self.close.append(opened.close)
        return ManagedSecret(
            name=name,
            path=path,
            backend_name="local",
            backend=self.backend,
            target_name=name,
            rotation=opened.rotation(strategy, secret_options),
            plugin=plugin.info.name,
            strategy=strategy,
            policy=policy,
        )

    def adopt(
        self, secret: ManagedSecret, username: str | None = None, password: str = FIRST
    ) -> None:
        """Hand over a login that is there, that of the harness unless another is named."""
        first = Credential(username=username or self.name, password=Secret(password))
        self.engine.adopt(secret, first=first)

    def serves(self, secret: ManagedSecret) -> Credential:
        """Return what consumers read."""
        current = self.backend.current(secret.path)
        assert current is not None
        return current.credential

    def end(self) -> None:
        """Let go of everything."""
        for close in self.close:
            close()


def parts(folder: Path) -> dict[str, Any]:
    """Return what a harness is made of, kept in a folder, which is made."""
    folder.mkdir(exist_ok=True)
    clock, entropy, log = system.SystemClock(), system.SystemEntropy(), ListLog()
    journal = SqlJournal(f"sqlite:///{folder}/j.db", clock=clock, actor="test")
    backend = LocalBackend("local", folder / "s.db", Keys([new_key()]))
    engine = Engine(
        journal=journal,
        clock=clock,
        entropy=entropy,
        log=log,
        holder=system.holder,
        leases=journal.leases,
    )
    return {
        "engine": engine,
        "journal": journal,
        "backend": backend,
        "log": log,
        "close": [journal.close, backend.close],
    }
