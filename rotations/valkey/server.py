"""All nodes of a target: found, reached by pooled connections of the admin, and tried by a login."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotations.valkey.failures import is_refusal, translated, unreachable
from rotations.valkey.nodes import Node
from rotations.valkey.options import Place
from rotations.valkey.wire import Link, Said, pairs
from rotator.api import Denied, Transient, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from rotations.valkey.options import TargetOptions
    from rotations.valkey.wire import Reply
    from rotator.api import Credential

_IDLE: Final = 8


@dataclass(slots=True, kw_only=True)
class Nodes:
    """The nodes of a target: those that answer, and why the others do not."""

    up: list[Node] = field(default_factory=list[Node])
    down: dict[Place, Transient] = field(default_factory=dict[Place, Transient])

    def require_all(self, then: str) -> None:
        """Raise `Transient` for the nodes that are down. `then` says what that means here."""
        if self.down:
            said = "; ".join(error.what for error in self.down.values())
            raise Transient(
                f"{said}. {then}",
                hint="Bring the node back; or, if it is gone for good, take it out of `nodes`, the cluster (CLUSTER FORGET) or the Sentinels (SENTINEL RESET).",
            )


class Server:
    """One target. Safe to use from threads."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.name: str = name
        self.options: TargetOptions = options
        self._admin: Callable[[], Credential] = admin
        self._idle: dict[Place, list[Link]] = {}
        self._open: set[Link] = set()
        self._tls: dict[str, ssl.SSLContext | None] = {}
        self._guard: threading.Lock = threading.Lock()

    @contextmanager
    def nodes(self, *, also: Credential | None = None) -> Generator[Nodes]:
        """Lend a connection of the admin to each node.

        `also`: what the admin logs in by where its own credential is refused and that is another
        one of the same user, as when it rotates itself.
        """
        found = Nodes()
        try:
            self._find(found, also)
            yield found
        except BaseException:
            for node in found.up:
                self._hang_up(node.link)
            raise
        for node in found.up:
            self._give(node.link)

    def log_in(self, place: Place, credential: Credential) -> Link | None:
        """Log in to one node: the connection, or None when these credentials are refused.

        Raises `Transient` or `Denied` when it cannot be told.
        """
        # An empty password would let in as a user that needs none.
        if not credential.password.reveal():
            return None
        where = f"Valkey or Redis at {place}"
        try:
            link = self._connect(place)
        except (OSError, ssl.SSLError) as error:
            raise unreachable(where, error) from error
        try:
            link.log_in(credential.username, credential.password)
        except Said as error:
            link.close()
            if is_refusal(error):
                return None
            raise unreachable(where, error) from error
        except OSError as error:
            link.close()
            raise unreachable(where, error) from error
        return link

    def close(self) -> None:
        """Close the idle connections of the admin."""
        with self._guard:
            idle, self._idle = self._idle, {}
        for links in idle.values():
            for link in links:
                self._hang_up(link)

    # -- finding nodes -------------------------------------------------------------------------

    def _find(self, found: Nodes, also: Credential | None) -> None:
        """Reach every node that somebody knows, and whom those know in turn."""
        todo, seen = [*self.options.named(), *self._from_sentinels()], set[Place]()
        runs = set[str]()
        while todo:
            place = todo.pop(0)
            if place in seen:
                continue
            seen.add(place)
            try:
                node = self._reach(place, also)
            except Transient as error:
                found.down[place] = error
                continue
            if node.run_id in runs:
                # One node by two names.
                self._give(node.link)
                continue
            runs.add(node.run_id)
            found.up.append(node)
            if self.options.discover:
                todo += node.peers()
        self._require_primary(found)

    @staticmethod
    def _require_primary(found: Nodes) -> None:
        """Refuse replicas alone: their primary would keep the old password."""
        if not found.up:
            found.require_all("Nothing was changed.")
        if found.down or any(not node.is_replica for node in found.up):
            return
        raise Denied(
            f"{found.up[0]} is a read-only replica of {found.up[0].primary}, and no primary is named.",
            hint="Name the primary as `host`, and replicas in `nodes`; or the `sentinels`.",
            safety="Nothing was changed.",
        )

    def _from_sentinels(self) -> Iterable[Place]:
        """Ask the first Sentinel that answers for the primary and its replicas."""
        failed: list[str] = []
        for place in self.options.sentinel_places():
            try:
                return self._ask_sentinel(place)
            except Transient as error:
                failed.append(error.what)
        if failed:
            raise Transient(
                f"no Sentinel answers: {'; '.join(failed)}", safety="Nothing was changed."
            )
        return []

    def _ask_sentinel(self, place: Place) -> list[Place]:
        where, service = f"Sentinel at {place}", str(self.options.service)
        try:
            link = self._connect(place)
        except (OSError, ssl.SSLError) as error:
            raise unreachable(where, error) from error
        try:
            primary = self._told(link, where, "MASTER", service)
            replicas = self._told(link, where, "REPLICAS", service)
        except OSError as error:
            raise unreachable(where, error) from error
        finally:
            link.close()
        found = [primary, *(replicas if isinstance(replicas, list) else [])]
        return [Place(host=one["ip"], port=int(one["port"])) for one in map(pairs, found)]

    def _told(self, link: Link, where: str, what: str, service: str) -> Reply:
        """Ask; log in as the admin where a Sentinel tells nothing to strangers."""
        try:
            return link.call("SENTINEL", what, service)
        except Said as error:
            if error.code == "NOAUTH":
                admin = self._admin()
                with translated(where, "logging in as the admin"):
                    link.log_in(admin.username, admin.password)
                    return link.call("SENTINEL", what, service)
            if "No such master" in error.text:
                raise Denied(
                    f"{where} watches nothing by the name of {service!r}.",
                    hint="`service` is the name in `sentinel monitor NAME ...`.",
                ) from error
            raise unreachable(where, error) from error

    # -- the admin's connections ---------------------------------------------------------------

    def _reach(self, place: Place, also: Credential | None) -> Node:
        """Return a node that has said what it is. One that hung up while idle is called again."""
        while True:
            with self._guard:
                links = self._idle.get(place)
                link = links.pop() if links else None
            node = Node(link or self._log_in_admin(place, also), self.options.persist, self._ours)
            try:
                node.look()
            except BaseException as error:
                self._hang_up(node.link)
                if not isinstance(error, Unknown):
                    raise
                if link is None:
                    raise Transient(error.what) from error
                continue
            return node

    def _log_in_admin(self, place: Place, also: Credential | None) -> Link:
        admin = self._admin()
        link = self.log_in(place, admin)
        if link is None:
            # The admin's own password may just have been rotated: look once more.
            again = self._admin()
            for other in (again, also):
                if link is None and other is not None and _is_another(other, admin):
                    link = self.log_in(place, other)
        if link is None:
            raise Denied(
                f"Valkey or Redis at {place} refuses the admin login {admin.username!r}.",
                hint=f"Look at `admin` of target {self.name!r}: is the password right, and is that user on this node too? Nodes do not share users.",
            )
        with self._guard:
            self._open.add(link)
        return link

    def _ours(self) -> frozenset[str]:
        with self._guard:
            return frozenset(link.address for link in self._open)

    def _give(self, link: Link) -> None:
        with self._guard:
            idle = self._idle.setdefault(link.place, [])
            if len(idle) < _IDLE:
                idle.append(link)
                return
        self._hang_up(link)

    def _hang_up(self, link: Link) -> None:
        with self._guard:
            self._open.discard(link)
        link.close()

    def _connect(self, place: Place) -> Link:
        with self._guard:
            # Made once for each host: to read the system's authorities takes longer than a login.
            if place.host not in self._tls:
                self._tls[place.host] = self._context(place.host)
            tls = self._tls[place.host]
        return Link(place, tls, connect_timeout=self.options.connect_timeout)

    def _context(self, host: str) -> ssl.SSLContext | None:
        options, mode = self.options, self.options.tls(host)
        if mode == "disable":
            return None
        authorities = options.sslrootcert
        context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
        context.check_hostname = mode == "verify-full"
        if mode == "require":
            context.verify_mode = ssl.CERT_NONE
        if options.sslcert is not None:
            context.load_cert_chain(options.sslcert, options.sslkey)
        return context


def _is_another(one: Credential, than: Credential) -> bool:
    return one.username == than.username and one.password != than.password
