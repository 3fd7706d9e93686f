"""Users with everything that an ACL can say, drawn at random, rotated, and compared by an oracle of its own.

The oracle reads ACL GETUSER, where the plugin reads ACL LIST.
"""

from __future__ import annotations

import itertools
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rotations.valkey import PLUGIN
from rotations.valkey.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.fakes import SeededEntropy, step_context
from tests.servers.valkey import ScratchValkey, is_installed
from tests.valkey.sandboxes import PROGRAMS, STRATEGIES, admin_of, digest

if TYPE_CHECKING:
    from collections.abc import Generator

_FIRST: Final = "there-before-us"
_numbers = itertools.count(1)

# Each kind of rule, by a few of its forms: https://valkey.io/topics/acl/
KINDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "no rule": ((),),
    "all": (("allkeys", "allchannels", "+@all"), ("~*", "&*", "allcommands")),
    "keys": (("~a:*",), ("~a:*", "~b[1-3]?", "~x\\*y"), ("~it's",), ('~q"uote',)),
    "keys to read": (("%R~r:*",), ("%R~r:*", "%RW~rw:*")),
    "keys to write": (("%W~w:*",), ("%W~w:*", "%R~w:*")),
    "channels": (("&news:*",), ("&a", "&b:*"), ("allchannels",), ("resetchannels",)),
    "categories": (("+@read",), ("+@all", "-@dangerous"), ("+@read", "-@slow", "+@pubsub")),
    "commands": (("+get", "+set"), ("+@read", "-get"), ("+@all", "-flushall", "-keys")),
    "subcommands": (("+config|get",), ("+client", "-client|kill"), ("+@admin", "-config|set")),
    "sanitize": (("sanitize-payload",), ("skip-sanitize-payload",)),
    "selectors": (
        ("(~s:* +get)",),
        ("(%R~s:* +@read)", "(~t:* +@write -set)"),
        ("(allkeys +ping)",),
    ),
}


def draw(chance: random.Random) -> list[str]:
    """Draw the rules of a user: any number of kinds, one form of each."""
    names = chance.sample([*KINDS], chance.randint(1, len(KINDS)))
    rules: list[str] = []
    for name in names:
        form = chance.choice(KINDS[name])
        # A server refuses a pattern after the one that stands for all.
        if {"allkeys", "~*"} & {*rules} and any(one[:1] in "~%" for one in form):
            continue
        if {"allchannels", "&*"} & {*rules} and any(one[:1] == "&" for one in form):
            continue
        rules += form
    return rules


def seen(server: ScratchValkey, name: str) -> dict[str, Any] | None:
    """Return all that makes a user what it is but its name and passwords, by ACL GETUSER."""
    client = server.client()
    try:
        raw = client.connection_pool.get_connection("ACL")
        raw.send_command("ACL", "GETUSER", name)
        told = raw.read_response()
    finally:
        client.close()
    return None if told is None else _plain(told)


def _plain(told: Any) -> dict[str, Any]:
    facts = dict(zip(told[::2], told[1::2], strict=True))
    found = {key: one for key, one in facts.items() if key != "passwords"}
    found["flags"] = sorted(found.get("flags") or ())
    # Redis 7.0 lists a command's rules in another order each time.
    found["commands"] = sorted(str(found.get("commands")).split(" "))
    found["keys"], found["channels"] = (
        sorted(str(found.get(one) or "").split(" ")) for one in ("keys", "channels")
    )
    if isinstance(found.get("selectors"), list):
        found["selectors"] = [_plain([*one, "flags", []]) for one in found["selectors"]]
    return found


@dataclass(slots=True, kw_only=True)
class Profiles:
    """A server, and users on it."""

    servers: list[ScratchValkey]
    differences: list[str] = field(default_factory=list[str])

    def turn(self, strategy: str, rules: list[str]) -> None:
        """Make a user with these rules, rotate it, undo a second rotation, and compare each time."""
        name = f"p{next(_numbers)}"
        for server in self.servers:
            server.run("ACL SETUSER", name, "reset", "on", f"#{digest(_FIRST)}", *rules)
        before = [seen(server, name) for server in self.servers]
        first = self.servers[0]
        admin = admin_of(first)
        place = TargetOptions(
            host=first.host, port=first.port, nodes=tuple(one.place for one in self.servers[1:])
        )
        target = PLUGIN.target("t", place, lambda: admin)
        options = SecretOptions(
            username=name,
            users=(name, f"{name}_b") if strategy == "alternating-users" else (),
            prefix=name,
        )
        rotation = target.rotation(strategy, options)
        served = Credential(username=name, password=Secret(_FIRST))
        said = f"{strategy} {rules}"
        try:
            for number in range(3):
                ctx = step_context(
                    secret=name,
                    rotation_id=f"{name}-{number}",
                    current=served,
                    adopted=frozenset({name}),
                    entropy=SeededEntropy(number),
                    end_sessions=True,
                )
                new = rotation.propose(served, ctx)
                rotation.create(new, ctx)
                assert rotation.verify(new, ctx).ok
                self._compare(new.username, before, f"{said}: created")
                if number == 1:
                    rotation.withdraw(new, ctx)
                    self._compare(served.username, before, f"{said}: withdrawn")
                    continue
                after = step_context(
                    secret=name,
                    rotation_id=f"{name}-{number}",
                    current=new,
                    adopted=frozenset({name}),
                    end_sessions=True,
                )
                rotation.revoke(served, after)
                served = new
                self._compare(served.username, before, f"{said}: revoked")
        finally:
            target.close()
            for server in self.servers:
                names = [
                    one
                    for one in server.run("ACL USERS")
                    if one.startswith((f"{name}", "rotator:"))
                ]
                server.run("ACL DELUSER", *names)

    def _compare(self, name: str, before: list[Any], when: str) -> None:
        for server, wanted in zip(self.servers, before, strict=True):
            found = seen(server, name)
            if found != wanted:
                self.differences.append(f"{when} at {server.place}: {wanted} became {found}")


def run(servers: list[ScratchValkey], count: int, seed: int) -> Profiles:
    """Draw so many users, and rotate each by one of the strategies in turn."""
    chance, profiles = random.Random(seed), Profiles(servers=servers)
    for number in range(count):
        profiles.turn(STRATEGIES[number % len(STRATEGIES)], draw(chance))
    return profiles


@contextmanager
def servers() -> Generator[dict[str, ScratchValkey]]:
    """Start every server that is to be had here, by its name: for `make profiles`."""
    with ExitStack() as stack:
        yield {
            program: stack.enter_context(ScratchValkey(program))
            for program in PROGRAMS
            if is_installed(program)
        }


def try_one(server: ScratchValkey, seed: int) -> list[str]:
    """Rotate one user by every strategy; return what has changed."""
    rules, profiles = draw(random.Random(seed)), Profiles(servers=[server])
    for strategy in STRATEGIES:
        profiles.turn(strategy, rules)
    return profiles.differences
