"""An application's user on real servers, and everything to rotate it with."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rotations.valkey import PLUGIN
from rotations.valkey.options import SecretOptions, TargetOptions
from rotator.api import Credential
from rotator.core.model import Policy
from rotator.engine import ManagedSecret
from tests.harness import FIRST, QUICK, AnyHarness, parts
from tests.valkey.sandboxes import admin_of, digest, make_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.valkey import ScratchValkey

_numbers = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class Harness(AnyHarness):
    """`servers` are the nodes of one target; `name` is a user on each of them."""

    servers: list[ScratchValkey]

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
        name = username or self.name
        first = self.servers[0]
        place = {"host": first.host, "port": first.port, **target}
        options = SecretOptions(
            username=name,
            users=(name, f"{name}_b") if strategy == "alternating-users" else (),
            prefix=name,
            probes=probes,
        )
        return self.managed(
            PLUGIN,
            strategy,
            TargetOptions(**place),
            options,
            admin=admin or admin_of(first),
            name=f"secret of {self.name}",
            path=self.name,
            policy=policy,
        )


@contextmanager
def harness_on(servers: list[ScratchValkey], folder: Path) -> Iterator[Harness]:
    """Make a user on all nodes that rotator knows nothing of yet."""
    name = f"app{next(_numbers):04}"
    for server in servers:
        make_user(server, name, "on", f"#{digest(FIRST)}")
        if server.has_aclfile:
            server.run("ACL SAVE")
    made = Harness(servers=servers, name=name, **parts(folder / name))
    try:
        yield made
    finally:
        made.end()
