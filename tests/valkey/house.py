"""An application's user on real servers, and everything to rotate it with."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotations.valkey import PLUGIN
from rotations.valkey.options import SecretOptions, TargetOptions
from rotator import world
from rotator.api import Credential, Secret
from rotator.backends.local import LocalBackend
from rotator.backends.sealing import Keys, new_key
from rotator.core.model import Policy
from rotator.engine import Engine, ManagedSecret
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ListLog
from tests.valkey.worlds import admin_of, digest, make_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rotator.testing.valkey import ScratchValkey

QUICK: Final = Policy(
    grace=timedelta(0),
    attempts=1,
    backoff=timedelta(milliseconds=1),
    step_timeout=timedelta(seconds=10),
)
FIRST: Final = "there-before-us"
_numbers = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class House:
    """`servers` are the nodes of one target; `name` is a user on each of them."""

    servers: list[ScratchValkey]
    name: str
    engine: Engine
    journal: SqlJournal
    backend: LocalBackend
    log: ListLog
    close: list[Callable[[], None]]

    def secret(
        self,
        strategy: str,
        *,
        policy: Policy = QUICK,
        admin: Callable[[], Credential] | Credential | None = None,
        username: str | None = None,
        probes: tuple[str, ...] = ("GET cache:one",),
        **target: Any,
    ) -> ManagedSecret:
        who = admin or admin_of(self.servers[0])
        name = username or self.name
        first = self.servers[0]
        place = {"host": first.host, "port": first.port, **target}
        opened = PLUGIN.target(name, TargetOptions(**place), who if callable(who) else lambda: who)
        self.close.append(opened.close)
        options = SecretOptions(
            username=name,
            users=(name, f"{name}_b") if strategy == "alternating-users" else (),
            prefix=name,
            probes=probes,
        )
        return ManagedSecret(
            name=f"secret of {self.name}",
            path=self.name,
            backend_name="local",
            backend=self.backend,
            target_name="cache",
            rotation=opened.rotation(strategy, options),
            plugin="valkey",
            strategy=strategy,
            policy=policy,
        )

    def adopt(self, secret: ManagedSecret, username: str = "", password: str = FIRST) -> None:
        first = Credential(username=username or self.name, password=Secret(password))
        self.engine.adopt(secret, first=first)

    def serves(self, secret: ManagedSecret) -> Credential:
        current = self.backend.current(secret.path)
        assert current is not None
        return current.credential


@contextmanager
def house_on(servers: list[ScratchValkey], folder: Path) -> Iterator[House]:
    """Make a user on all nodes that rotator knows nothing of yet."""
    name = f"app{next(_numbers):04}"
    for server in servers:
        make_user(server, name, "on", f"#{digest(FIRST)}")
        if server.has_aclfile:
            server.run("ACL SAVE")
    clock, entropy, log = world.SystemClock(), world.SystemEntropy(), ListLog()
    journal = SqlJournal(f"sqlite:///{folder}/{name}.db", clock=clock, actor="test")
    backend = LocalBackend("local", folder / f"{name}-secrets.db", Keys([new_key()]))
    engine = Engine(journal=journal, clock=clock, entropy=entropy, log=log, holder=world.holder)
    made = House(
        servers=servers,
        name=name,
        engine=engine,
        journal=journal,
        backend=backend,
        log=log,
        close=[journal.close, backend.close],
    )
    try:
        yield made
    finally:
        for close in made.close:
            close()
