"""Sandboxes on real servers, for the contract suite and the crash harness."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rotations.valkey import PLUGIN
from rotations.valkey.options import SecretOptions, TargetOptions
from rotations.valkey.users import Mark
from rotator.api import Credential, Secret
from rotator.testing.crash import Effects, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.valkey import ScratchValkey

PROGRAMS: Final = ("valkey", "redis")
STRATEGIES: Final = ("dual-password", "new-user", "alternating-users", "single-user")
# Something of everything that is to be copied.
RULES: Final = (
    "~cache:*",
    "%R~config:*",
    "&news:*",
    "+@read",
    "+@write",
    "+@pubsub",
    "+ping",
    "+select",
    "-@dangerous",
)
SELECTOR: Final = "(~shared:* +get)"
ADMIN_RULES: Final = (
    "+acl|setuser",
    "+acl|deluser",
    "+acl|list",
    "+acl|save",
    "+acl|dryrun",
    "+client|list",
    "+client|kill",
    "+cluster|nodes",
    "+command|info",
    "+config|get",
    "+info",
)
ADMIN: Final = "admin-of-sandboxes"
_PASSWORD: Final = "an-admin-of-the-tests"
# By which scripts and functions run.
_CALLS: Final = ("eval", "evalsha", "fcall")
_numbers = itertools.count(1)


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def admin_of(server: ScratchValkey) -> Credential:
    return Credential(username="default", password=Secret(server.password))


def effects() -> Effects:
    """Let every command of the plugin's admin be a point at which it can die."""
    return Effects("command", of=lambda link: link.user == ADMIN)


@contextmanager
def sandboxes(
    servers: list[ScratchValkey], strategy: str, *tapped: Effects, port: int | None = None
) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes on the nodes of one target, each with users of its own.

    `port`: by which the plugin reaches the first of them, where that is a proxy's.
    """
    first = servers[0]
    admin = Credential(username=ADMIN, password=Secret(_PASSWORD))
    for server in servers:
        server.run("ACL SETUSER", ADMIN, "reset", "on", f">{_PASSWORD}", *ADMIN_RULES)
    sessions: list[Any] = []
    # Those that are not closed yet: one that is must not live on, with all its passwords.
    made: dict[str, Sandbox] = {}
    nodes = tuple(server.place for server in servers[1:])

    def open_session(sandbox: Sandbox, login: str) -> None:
        password = sandbox.password_of(login)
        sessions.append(first.client(login, password.reveal()))
        sessions[-1].get("cache:one")

    def close_sessions() -> None:
        while sessions:
            sessions.pop().close()

    def foreign(name: str) -> Credential:
        password = "set-by-hand-long-ago"
        for server in servers:
            make_user(server, f"{name}_legacy", "on", f">{password}")
        return Credential(username=f"{name}_legacy", password=Secret(password))

    def end(name: str) -> None:
        # Thousands of sandboxes on one server: each would read the users of all that were before it.
        close_sessions()
        made.pop(name, None)
        for server in servers:
            users = [line.split(" ")[1] for line in acl_of(server, f"{name}_")]
            marks = [Mark.make(name, user, "").name for user in users]
            if users:
                server.run("ACL DELUSER", *users, *marks)

    def make() -> Sandbox:
        name = f"w{next(_numbers)}"
        for server in servers:
            make_user(server, f"{name}_like", "off")
        sandbox = Sandbox.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(host=first.host, port=port or first.port, nodes=nodes),
            secret_options=secret_options(strategy, name),
            admin=admin,
            close=lambda: end(name),
            accepts=lambda one: logs_in(servers, one),
            usable=lambda: usable(servers, f"{name}_"),
            state=lambda: [acl_of(server, f"{name}_", "rotator:") for server in servers],
            tapped=tapped,
            secret=name,
        )
        sandbox.open_session = lambda login: open_session(sandbox, login)
        sandbox.close_sessions = close_sessions
        sandbox.foreign = lambda: foreign(name)
        sandbox.plant = lambda: plant(servers)
        made[name] = sandbox
        return sandbox

    try:
        yield make
    finally:
        for sandbox in [*made.values()]:
            sandbox.close()


def plant(servers: list[ScratchValkey]) -> Callable[[], list[str]]:
    """Load functions with the names of commands; return a function that lists the scripts and functions that were called.

    A module cannot take the name of a command that is there.
    """
    names = ("acl", "auth", "client", "cluster", "command", "config", "info", "role")
    register = "".join(
        f"redis.register_function('{one}', function() return 1 end)\n" for one in names
    )
    servers[0].run("FUNCTION LOAD", "REPLACE", "#!lua name=planted\n" + register)

    def called() -> list[str]:
        stats = [(server, server.run("INFO", "commandstats")) for server in servers]
        return [
            f"{name} at {server.port}: {found[name]}"
            for server, found in stats
            for name in sorted(found)
            if name.removeprefix("cmdstat_").split("_")[0] in _CALLS
        ]

    before = called()
    return lambda: [one for one in called() if one not in before]


def secret_options(strategy: str, name: str) -> SecretOptions:
    """Return what a secret of a sandbox says."""
    return SecretOptions(
        like=f"{name}_like",
        users=(f"{name}_a", f"{name}_b") if strategy == "alternating-users" else (),
        username=f"{name}_only",
        prefix=f"{name}_x",
        database=0,
        probes=("GET cache:one",),
    )


def make_user(server: ScratchValkey, name: str, *how: str) -> None:
    """Make a user that may do something of everything."""
    server.run("ACL SETUSER", name, "reset", *how, *RULES, SELECTOR)


def acl_of(server: ScratchValkey, *prefixes: str) -> set[str]:
    """Return the lines of ACL LIST for users whose names start so."""
    starts = tuple(f"user {prefix}" for prefix in prefixes)
    return {line for line in server.run("ACL LIST") if line.startswith(starts)}


def usable(servers: list[ScratchValkey], prefix: str) -> set[str]:
    """Return the users that somebody could get into, on any node."""
    lines = [line.split(" ") for server in servers for line in acl_of(server, prefix)]
    return {
        words[1]
        for words in lines
        if words[2] == "on" and any(one == "nopass" or one.startswith("#") for one in words)
    }


def rules(server: ScratchValkey, name: str) -> list[str]:
    """Return all that a user is but its name and passwords, in an order of ours: Redis has none."""
    (line,) = (one for one in server.run("ACL LIST") if one.startswith(f"user {name} "))
    return sorted(word for word in line.split(" ")[2:] if not word.startswith("#"))


def logs_in(servers: list[ScratchValkey], credential: Credential) -> bool:
    """Return whether it is let in by all nodes; where they do not agree, that is an error of the test."""
    said = {server.lets_in(credential.username, credential.password.reveal()) for server in servers}
    assert len(said) == 1, f"the nodes do not agree on {credential.username}"
    return said.pop()
