"""One node, through one connection of the admin: what it is, its users, its sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotations.valkey.errors import TOO_OLD, brief, translated
from rotations.valkey.options import DEFAULT, Endpoint
from rotations.valkey.users import User, Users, hash_of
from rotations.valkey.wire import ErrorReply, NotRespError, number, pairs, texts
from rotator.api import Session, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rotations.valkey.options import Persist
    from rotations.valkey.users import Mark
    from rotations.valkey.wire import Reply, WireConnection
    from rotator.api import Secret, StepContext

# Access control lists: Redis 6.0.
_SINCE: Final = 6
_ANYBODY: Final = "0.0.0.0"  # noqa: S104 # what a node says that does not know its own address
_CLUSTER_FIELDS: Final = 3
_LAST_PORT: Final = 65_535
_HOST: Final = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
# What is shown of a version, in characters.
_VERSION: Final = 40
_POSITION: Final = re.compile(r"[0-9]{1,18}")
_SAVE: Final = ("ACL", "SAVE")
_REWRITE: Final = ("CONFIG", "REWRITE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One line of CLIENT LIST."""

    id: str
    user: str
    address: str
    name: str
    age: int
    idle: int
    flags: str
    library: str

    @staticmethod
    def parse(line: str) -> Client:
        """Read it: no value holds a blank."""
        facts = _facts(line, " ")
        return Client(
            id=facts.get("id", ""),
            user=facts.get("user", ""),
            address=facts.get("addr", "?"),
            name=facts.get("name", ""),
            age=number(facts.get("age") or "0"),
            idle=number(facts.get("idle") or "0"),
            flags=facts.get("flags", ""),
            library=facts.get("lib-name", ""),
        )

    @property
    def position(self) -> int:
        """Its place in the order in which the node accepted connections since it started.

        Raises `NotRespError` where the node does not number them.
        """
        if _POSITION.fullmatch(self.id) is None:
            raise NotRespError
        return int(self.id)

    @property
    def is_machinery(self) -> bool:
        """Whether a replica or a Sentinel is behind it: their password is in a configuration."""
        return "S" in self.flags or self.name.startswith("sentinel-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where a node keeps its users over a restart, and by which command. None: others see to it."""

    name: str
    command: tuple[str, str] | None = None

    @property
    def reads_quotes(self) -> bool:
        """Whether a quote in a name or pattern is read again as it was written."""
        return self.command != _REWRITE


class Node:
    """One node. `ours`: the ids or addresses of this process's own connections to a place."""

    def __init__(
        self, link: WireConnection, persist: Persist, ours: Callable[[Endpoint], frozenset[str]]
    ) -> None:
        """Nothing is asked yet."""
        self.link: WireConnection = link
        self.place: Endpoint = link.place
        self._persist: Persist = persist
        self._ours: Callable[[Endpoint], frozenset[str]] = ours
        self._store: Store | None = None
        self.info: Mapping[str, str] = {}

    def __str__(self) -> str:
        return f"{self.product} at {self.place}"

    # -- what it is ----------------------------------------------------------------------------

    def look(self) -> None:
        """Ask what it is. Raises `Unavailable` where it has no users, `Transient` while it loads."""
        said = self._ask("reading its version", "INFO")
        lines = (line.partition(":") for line in _lines(said) if not line.startswith("#"))
        self.info = {key: value for key, _, value in lines if key}
        version = self.info.get("redis_version", "0").partition(".")[0]
        if not re.fullmatch(r"[0-9]{1,4}", version) or int(version) < _SINCE:
            raise Unavailable(
                f"{self} does not support users.", hint=TOO_OLD, safety="Nothing was changed."
            )
        if self.info.get("loading", "0") != "0":
            raise Transient(f"{self} is still loading its data.")
        self.link.run_id = self.run_id

    @property
    def product(self) -> str:
        """The server's name and version, as people say them."""
        if "valkey_version" in self.info:
            return f"Valkey {self.info['valkey_version'][:_VERSION]}"
        return f"Redis {self.info.get('redis_version', '')[:_VERSION]}".strip()

    @property
    def run_id(self) -> str:
        """What tells it from every other, however it was reached."""
        return self.info.get("run_id", str(self.place))

    @property
    def is_replica(self) -> bool:
        """Whether it takes its data from another node."""
        return self.info.get("role") == "slave"

    @property
    def primary(self) -> str:
        """Where a replica takes its data from."""
        return f"{self.info.get('master_host')}:{self.info.get('master_port')}"

    @property
    def is_clustered(self) -> bool:
        """Whether it is one of a cluster."""
        return self.info.get("cluster_enabled") == "1"

    def peers(self) -> list[Endpoint]:
        """Return the nodes that it knows: its cluster's, or its replicas; those that are down too."""
        if self.is_clustered:
            said = self._ask("reading its cluster", "CLUSTER", "NODES")
            with translated(str(self), "reading its cluster"):
                found = [_cluster_place(line) for line in _lines(said)]
            return [one for one in found if one is not None]
        lines = [
            value
            for key, value in self.info.items()
            if key.startswith("slave") and key.removeprefix("slave").isdecimal()
        ]
        with translated(str(self), "reading its replicas"):
            return [place_of(facts) for facts in map(_facts, lines)]

    # -- its users -----------------------------------------------------------------------------

    def users(self) -> Users:
        """Return all users as they are now."""
        said = texts(self._ask("reading its users", "ACL", "LIST"))
        with translated(str(self), "reading its users"):
            return Users(said)

    def is_read_only(self, command: str, sub: str) -> bool:
        """Return whether a command can change nothing."""
        names = [command, f"{command}|{sub}"] if sub else [command]
        said = self._ask("checking what a command does", "COMMAND", "INFO", *names)
        known = [one for one in said if isinstance(one, list)] if isinstance(said, list) else []
        return command == "ping" or any("readonly" in texts(one[2]) for one in known if one[2:])

    def let_in(self, name: str, password: Secret, ctx: StepContext) -> None:
        """Let one more password in."""
        self._send(ctx, "ACL", "SETUSER", name, f"#{hash_of(password)}")

    def shut_out(self, name: str, password: Secret, ctx: StepContext) -> None:
        """Take one password back; the others stay."""
        self._send(ctx, "ACL", "SETUSER", name, f"!{hash_of(password)}")

    def let_in_only(self, user: User, password: Secret, ctx: StepContext) -> None:
        """Let one password in and no other: in one command, so that it is let in all the time."""
        wanted = hash_of(password)
        if user.nopass or user.hashes != frozenset({wanted}):
            self._send(ctx, "ACL", "SETUSER", user.name, "resetpass", f"#{wanted}")

    def make(self, name: str, like: User, password: Secret, mark: Mark, ctx: StepContext) -> None:
        """Make a user with the rules of another, or make it anew. Nobody sees it half made.

        Its mark goes before it: what one sees, the other explains.
        """
        self._send(ctx, "ACL", "SETUSER", mark.name, *mark.rules)
        self._send(ctx, "ACL", "SETUSER", name, "reset", "on", *like.rules, f"#{hash_of(password)}")

    def close(self, name: str, ctx: StepContext) -> None:
        """Let nobody in as this user any more. Open sessions go on."""
        self._send(ctx, "ACL", "SETUSER", name, "off", "resetpass")

    def drop(self, name: str, mark: Mark | None, ctx: StepContext) -> None:
        """Remove a user, and its mark with it. Their sessions end."""
        marks = [mark.name] if mark is not None else []
        self._send(ctx, "ACL", "DELUSER", name, *marks)

    # -- what survives a restart ---------------------------------------------------------------

    def save(self, ctx: StepContext, users: Users | None = None) -> Store:
        """Keep what is in force over a restart; return by what. Raises `Unavailable` where it cannot.

        `users`: those that are in force, where they were just read.

        Called before the first change it proves that the change can be kept: the servers have no
        other way to ask. They write a new file and rename it, so a failed try leaves the old one.
        """
        store = self.store()
        if store.command is None:
            return store
        self._require_readable(store, users or self.users())
        ctx.require_time()
        try:
            _ = self.link.call(*store.command)
        except ErrorReply as error:
            with translated(str(self), "saving its users", self.link.user, *store.command):
                if error.code != "ERR":
                    raise
            raise Unavailable(
                f"{self} cannot save its users in its {store.name}: {brief(error)}.",
                hint="A file that is mounted directly cannot be replaced: mount its folder"
                " instead. Otherwise check the folder's owner and mode, whether it is"
                " read-only, and the free disk space; the node's log names the reason. Then"
                f" try: {' '.join(store.command)}",
            ) from error
        except OSError:
            with translated(str(self), "saving its users", effect=True):
                raise
        return store

    def store(self) -> Store:
        """Return where its users are kept. Raises `Unavailable` where a restart loses them."""
        if self._store is None:
            self._store = self._find_store()
        return self._store

    def _find_store(self) -> Store:
        if self._persist == "none":
            return Store(name="left to others (persist: none)")
        facts = pairs(self._ask("reading its ACL file setting", "CONFIG", "GET", "aclfile"))
        if facts.get("aclfile"):
            return Store(name=f"ACL file {facts['aclfile']}", command=_SAVE)
        if self._persist == "rewrite" and self.info.get("config_file"):
            return Store(name=f"configuration file {self.info['config_file']}", command=_REWRITE)
        here = self.info.get("config_file")
        rewrite = (
            "persist: rewrite (CONFIG REWRITE into its configuration file), or " if here else ""
        )
        raise Unavailable(
            f"{self} does not save users: it has no ACL"
            f" file{'' if here else ' and no configuration file'}, so a restart would restore"
            " the old password and remove the current one.",
            hint="Set `aclfile /path/users.acl` in its configuration and restart it once; or set,"
            f" on the target, {rewrite}persist: none, if another tool saves its users or they"
            " may be lost.",
            safety="Nothing was changed.",
        )

    def _require_readable(self, store: Store, users: Users) -> None:
        """Refuse to save what would keep the server from starting again."""
        found = users.unreadable(quotes=not store.reads_quotes)
        if found is not None:
            raise Unavailable(
                f"{self}: the name or a pattern of user {found!r} contains a quote or a"
                " bracket that the server writes but cannot read back: once saved, the server"
                " would not start.",
                hint="Change that pattern; if it is a quote outside a selector, an ACL file"
                " (`aclfile`) is sufficient.",
            )

    # -- who uses it ---------------------------------------------------------------------------

    def clients(self, user: str) -> list[Client]:
        """Return the connections of a user, ours excepted."""
        return self._theirs(self.all_clients(), user)

    def all_clients(self) -> list[Client]:
        """Return all connections, ours too."""
        lines = _lines(self._ask("reading its sessions", "CLIENT", "LIST"))
        with translated(str(self), "reading its sessions"):
            return list(map(Client.parse, lines))

    def clients_until(self, position: int | None, user: str) -> list[Client]:
        """Return the connections of a user that are not later than a position; None for all."""
        clients = self._theirs(self.all_clients(), user)
        with translated(str(self), "reading its sessions"):
            return [client for client in clients if position is None or client.position <= position]

    def newest_position(self) -> int:
        """Return the position of the newest connection; each later one has a higher position."""
        clients = self.all_clients()
        with translated(str(self), "reading its sessions"):
            return max((client.position for client in clients), default=0)

    def started_after(self, moment: datetime, ctx: StepContext) -> bool:
        """Return whether it started after a moment of rotator's clock."""
        with translated(str(self), "reading its uptime"):
            uptime = timedelta(seconds=number(self.info.get("uptime_in_seconds", "")))
        # The node counts whole seconds.
        return ctx.clock.now() - uptime - timedelta(seconds=1) > moment

    def is_ours(self, client: Client) -> bool:
        """Return whether a connection is one of this process."""
        return bool({client.id, client.address} & self._ours(self.place))

    def _theirs(self, clients: list[Client], user: str) -> list[Client]:
        return [client for client in clients if client.user == user and not self.is_ours(client)]

    def session(self, client: Client, ctx: StepContext, *, among: int) -> Session:
        """Return a connection as people are told of it. `among` how many nodes this is one."""
        names = client.name or client.library or "?"
        return Session(
            login=client.user,
            client=client.address.rpartition(":")[0] or "?",
            application=f"{names} at {self.place}" if among > 1 else names,
            since=ctx.clock.now() - timedelta(seconds=client.age),
        )

    def end(self, client: Client, ctx: StepContext) -> None:
        """End a connection. Gone already is success."""
        ctx.require_time()
        self.end_connection(client.id)

    def end_connection(self, number: str) -> None:
        """End a connection by its id: what it has sent and the node has not read is never done."""
        _ = self._ask("ending a connection", "CLIENT", "KILL", "ID", number)

    def machinery(self, user: str) -> str | None:
        """Return what of replication or of the Sentinels logs in as this user; None when nothing does."""
        facts = pairs(self._ask("reading its replication settings", "CONFIG", "GET", "master*"))
        if facts.get("masterauth") and (facts.get("masteruser") or DEFAULT) == user:
            return "replication, by `masterauth` of its configuration"
        if found := next((one for one in self.clients(user) if one.is_machinery), None):
            return "replication" if "S" in found.flags else "a Sentinel, by `sentinel auth-pass`"
        return None

    # ------------------------------------------------------------------------------------------

    def _ask(self, doing: str, *command: str) -> Reply:
        with translated(str(self), doing, self.link.user, *command):
            return self.link.call(*command)

    def _send(self, ctx: StepContext, *command: str) -> None:
        ctx.require_time()
        doing = f"{command[0]} {command[1]} {command[2]!r}"
        with translated(str(self), doing, self.link.user, *command, effect=True):
            _ = self.link.call(*command)


def _lines(said: Reply) -> list[str]:
    """Return the lines of a text. A user's name may hold what Python takes for the end of one."""
    return [line for one in str(said).split("\n") if (line := one.removesuffix("\r"))]


def _facts(line: str, between: str = ",") -> dict[str, str]:
    """Return what a line says by `name=value`."""
    parts = (one.partition("=") for one in line.split(between))
    return {name: value for name, _, value in parts}


def place_of(facts: Mapping[str, str]) -> Endpoint:
    """Return where a node is said to be. Raises `NotRespError` where that is no place."""
    host, port = facts.get("ip", ""), number(facts.get("port", ""))
    # What begins with a slash would be a file of this machine.
    if not _HOST.fullmatch(host) or port > _LAST_PORT:
        raise NotRespError
    return Endpoint(host=host, port=port)


def _cluster_place(line: str) -> Endpoint | None:
    """Return where a node of CLUSTER NODES is: `id ip:port@bus[,hostname] flags ...`."""
    fields = line.split(" ")
    if len(fields) < _CLUSTER_FIELDS or {"noaddr", "handshake", "myself"} & set(
        fields[2].split(",")
    ):
        return None
    address, *names = fields[1].split(",")
    host, _, port = address.partition("@")[0].rpartition(":")
    name = names[0] if names and "=" not in names[0] else ""
    if not name and host in ("", _ANYBODY):
        return None
    return place_of({"ip": name or host, "port": port})
