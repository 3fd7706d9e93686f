"""All nodes of a target: found, reached by pooled connections of the admin, and tried by a login."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotations.valkey.errors import brief, is_refusal, translated, unreachable
from rotations.valkey.nodes import Node, place_of
from rotations.valkey.options import Endpoint
from rotations.valkey.wire import ErrorReply, Limit, NoTlsError, NotRespError, WireConnection, pairs
from rotator.api import Transient, Unavailable, admin_logins

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from rotations.valkey.options import TargetOptions
    from rotations.valkey.wire import Reply
    from rotator.api import Credential, StepContext

_IDLE: Final = 8
# The servers recommend no larger clusters.
_MOST_NODES: Final = 1_000
_GONE: Final = (
    "If a node is permanently gone, remove it from `nodes`, the cluster (CLUSTER FORGET) or"
    " the Sentinels (SENTINEL RESET)."
)


@dataclass(slots=True, kw_only=True)
class Nodes:
    """The nodes of a target: those that answer, and why the others do not."""

    up: list[Node] = field(default_factory=list[Node])
    down: dict[Endpoint, Transient] = field(default_factory=dict[Endpoint, Transient])

    def require_all(self, then: str) -> None:
        """Raise `Transient` for the nodes that are down. `then` says what that means here."""
        said = " ".join(error.what for error in self.down.values())
        refused = [one for one in self.down.values() if isinstance(one, Unavailable)]
        if refused:
            raise Unavailable(f"{said} {then}", hint=refused[0].hint)
        if self.down:
            hints = dict.fromkeys(one.hint for one in self.down.values() if one.hint)
            raise Transient(f"{said} {then}", hint=" ".join([*hints, _GONE]))


class Server:
    """One target. Safe to use from threads."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.name: str = name
        self.options: TargetOptions = options
        self._admin: Callable[[], Credential] = admin
        self._idle: dict[Endpoint, list[WireConnection]] = {}
        self._open: set[WireConnection] = set()
        # Logged in as the login that is being rotated, so that its next password can be tried at once.
        self._ready: dict[tuple[Endpoint, str], WireConnection] = {}
        # By a node's run id: connections that we gave up on before a command was answered.
        self._given_up: dict[str, set[str]] = {}
        self._tls: dict[str, ssl.SSLContext | None] = {}
        self._guard: threading.Lock = threading.Lock()

    @contextmanager
    def nodes(
        self, ctx: StepContext, *, also: Credential | None = None, each: float | None = None
    ) -> Generator[Nodes]:
        """Lend a connection of the admin to each node, until the step's time is up.

        `also`: what the admin logs in by where its own credential is refused and that is another
        one of the same user, as when it rotates itself. `each`: the seconds that one node may take
        to answer first, so that a node that is away does not hold up the others.
        """
        found = Nodes()
        try:
            self._find(found, also, Limit(ctx.seconds_left()), each)
            yield found
        except BaseException:
            for node in found.up:
                self._hang_up(node.link)
            raise
        for node in found.up:
            self._give(node.link)

    def log_in(
        self, place: Endpoint, credential: Credential, ctx: StepContext
    ) -> WireConnection | None:
        """Log in to one node: the connection, or None when these credentials are refused.

        Raises `Transient` or `Unavailable` when that is not known.
        """
        return self._log_in(place, credential, Limit(ctx.seconds_left()))

    def make_ready(self, place: Endpoint, credential: Credential, ctx: StepContext) -> bool:
        """Log in and keep the connection, for `log_in` to use; False when that is refused."""
        link = self.log_in(place, credential, ctx)
        if link is not None:
            self.keep_ready(link)
        return link is not None

    def keep_ready(self, link: WireConnection) -> None:
        """Keep a connection of the login that is being rotated."""
        with self._guard:
            self._open.add(link)
            before = self._ready.pop((link.place, link.user), None)
            self._ready[link.place, link.user] = link
        if before is not None:
            self._hang_up(before)

    def close_ready(self, user: str) -> None:
        """Close the connections that were kept for a login."""
        with self._guard:
            names = [one for one in self._ready if one[1] == user]
            links = [self._ready.pop(one) for one in names]
        for link in links:
            self._hang_up(link)

    def close(self) -> None:
        """Close the idle connections of the admin."""
        with self._guard:
            idle, self._idle = self._idle, {}
            ready, self._ready = self._ready, {}
        for link in [*ready.values(), *(one for links in idle.values() for one in links)]:
            self._hang_up(link)

    # -- finding nodes -------------------------------------------------------------------------

    def _find(
        self, found: Nodes, also: Credential | None, limit: Limit, each: float | None
    ) -> None:
        """Reach every node that somebody knows, and whom those know in turn."""
        sentinels = self._from_sentinels(limit if each is None else limit.within(each))
        todo, seen = [*self.options.named(), *sentinels], set[Endpoint]()
        runs = set[str]()
        while todo:
            place = todo.pop(0)
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > _MOST_NODES:
                raise Unavailable(
                    f"target {self.name!r}: its nodes report more than {_MOST_NODES} other nodes.",
                    hint="List the nodes in `nodes`, and set discover: false.",
                    safety="Nothing was changed.",
                )
            try:
                node = self._reach(place, also, limit if each is None else limit.within(each))
            except Transient as error:
                found.down[place] = error
                continue
            node.link.limit = limit
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
        raise Unavailable(
            f"{found.up[0]} is a read-only replica of {found.up[0].primary}, and the"
            " configuration names no primary.",
            hint="Set `host` to the primary and list replicas in `nodes`; or set the `sentinels`.",
            safety="Nothing was changed.",
        )

    def _from_sentinels(self, limit: Limit) -> Iterable[Endpoint]:
        """Ask the first Sentinel that answers for the primary and its replicas."""
        failed: list[str] = []
        for place in self.options.sentinel_places():
            try:
                return self._ask_sentinel(place, limit)
            except Unavailable:
                raise
            except Transient as error:
                failed.append(error.what)
        if failed:
            raise Transient(
                f"no Sentinel answered: {'; '.join(failed)}", safety="Nothing was changed."
            )
        return []

    def _ask_sentinel(self, place: Endpoint, limit: Limit) -> list[Endpoint]:
        where, service = f"Sentinel at {place}", str(self.options.service)
        try:
            link = self._connect(place, limit)
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
        with translated(where, "reading the nodes"):
            return [place_of(pairs(one)) for one in found]

    def _told(self, link: WireConnection, where: str, what: str, service: str) -> Reply:
        """Ask; log in as the admin where a Sentinel tells nothing to strangers."""
        try:
            return link.call("SENTINEL", what, service)
        except ErrorReply as error:
            if error.code == "NOAUTH":
                admin = self._admin()
                with translated(where, "logging in as the admin"):
                    link.log_in(admin.username, admin.password)
                    return link.call("SENTINEL", what, service)
            if "No such master" in error.text:
                raise Unavailable(
                    f"{where} does not monitor a primary named {service!r}.",
                    hint="`service` is the name in `sentinel monitor NAME ...`.",
                ) from error
            raise unreachable(where, error) from error

    # -- the admin's connections ---------------------------------------------------------------

    def _reach(self, place: Endpoint, also: Credential | None, limit: Limit) -> Node:
        """Return a node that has said what it is. One that hung up while idle is called again."""
        while True:
            with self._guard:
                links = self._idle.get(place)
                link = links.pop() if links else None
            if link is not None:
                link.limit = limit
            node = Node(
                link or self._log_in_admin(place, also, limit), self.options.persist, self._ours
            )
            try:
                node.look()
                self._end_given_up(node)
            except BaseException as error:
                self._hang_up(node.link)
                cause = error.__cause__
                hung_up = isinstance(cause, OSError) and not isinstance(cause, TimeoutError)
                if link is None or not hung_up:
                    raise
                continue
            return node

    def _log_in_admin(
        self, place: Endpoint, also: Credential | None, limit: Limit
    ) -> WireConnection:
        tried, link = [], None
        for admin in admin_logins(self._admin):
            tried.append(admin)
            link = self._log_in(place, admin, limit)
            if link is not None:
                break
        if link is None and also is not None and any(_is_another(also, one) for one in tried):
            link = self._log_in(place, also, limit)
        if link is None:
            name = tried[0].username
            raise Unavailable(
                f"Valkey or Redis at {place} rejects the admin login {name!r}:"
                " unknown user, disabled user, or wrong password.",
                hint=f"Store the valid password where `admin` of target {self.name!r} points; or,"
                f" on each node, as nodes do not share users: ACL SETUSER {name} on"
                " >PASSWORD, then ACL SAVE.",
            )
        try:
            with translated(f"Valkey or Redis at {place}", "reading rotator's connection id"):
                link.identify()
        except BaseException:
            link.close()
            raise
        with self._guard:
            self._open.add(link)
        return link

    def _log_in(
        self, place: Endpoint, credential: Credential, limit: Limit
    ) -> WireConnection | None:
        # An empty password would let in as a user that needs none.
        if not credential.password.reveal():
            return None
        where = f"Valkey or Redis at {place}"
        with self._guard:
            link = self._ready.pop((place, credential.username), None)
            if link is not None:
                self._open.discard(link)
        if link is not None:
            link.limit = limit
        try:
            while True:
                ready, link = link, link or self._connect(place, limit)
                try:
                    link.log_in(credential.username, credential.password)
                except OSError as error:
                    self._hang_up(link)
                    if ready is None:
                        if isinstance(error, ConnectionResetError) and self._wants_tls(
                            place, limit
                        ):
                            raise NotRespError(speaks_tls=True) from error
                        raise
                    link = None
                    continue
                return link
        except ErrorReply as error:
            if link is not None:
                self._hang_up(link)
            if is_refusal(error):
                return None
            raise unreachable(where, error) from error
        except (OSError, ssl.SSLError) as error:
            raise unreachable(where, error) from error

    def _wants_tls(self, place: Endpoint, limit: Limit) -> bool:
        """Return whether a node that hung up on us speaks TLS. Nothing secret is sent."""
        if self.options.tls(place.host) != "disable" or place.host.startswith("/"):
            return False
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            WireConnection(place, context, limit.within(1)).close()
        except OSError:
            return False
        return True

    def _ours(self, place: Endpoint) -> frozenset[str]:
        """Return how a node knows our own connections: by id, or by address where it returns none."""
        with self._guard:
            return frozenset(
                link.id if link.id and link.place == place else link.address for link in self._open
            )

    def _end_given_up(self, node: Node) -> None:
        """End the connections on which a command was never answered: it must not be done late."""
        with self._guard:
            ids = self._given_up.pop(node.run_id, set())
        for number, one in enumerate(sorted(ids), start=1):
            try:
                node.end_connection(one)
            except BaseException:
                with self._guard:
                    left = sorted(ids)[number - 1 :]
                    self._given_up.setdefault(node.run_id, set()).update(left)
                raise

    def _give(self, link: WireConnection) -> None:
        with self._guard:
            idle = self._idle.setdefault(link.place, [])
            if len(idle) < _IDLE:
                idle.append(link)
                return
        self._hang_up(link)

    def _hang_up(self, link: WireConnection) -> None:
        with self._guard:
            self._open.discard(link)
            if link.is_waiting and link.id:
                self._given_up.setdefault(link.run_id, set()).add(link.id)
        link.close()

    def _connect(self, place: Endpoint, limit: Limit) -> WireConnection:
        with self._guard:
            # Made once for each host: to read the system's authorities takes longer than a login.
            if place.host not in self._tls:
                self._tls[place.host] = self._context(place.host)
            tls = self._tls[place.host]
        try:
            link = WireConnection(place, tls, limit.within(self.options.connect_timeout))
        except TimeoutError:
            if tls is not None and _speaks_plainly(place, limit.within(1)):
                raise NoTlsError from None
            raise
        link.limit = limit
        return link

    def _context(self, host: str) -> ssl.SSLContext | None:
        options, mode = self.options, self.options.tls(host)
        if mode == "disable":
            return None
        authorities = options.sslrootcert
        try:
            context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
            context.check_hostname = mode == "verify-full"
            if mode == "require":
                context.verify_mode = ssl.CERT_NONE
            if options.sslcert is not None:
                context.load_cert_chain(options.sslcert, options.sslkey)
        except (OSError, ssl.SSLError) as error:
            names = [str(one) for one in (authorities, options.sslcert, options.sslkey) if one]
            raise Unavailable(
                f"target {self.name!r}: cannot read a certificate or key ({brief(error)}):"
                f" {', '.join(names)}.",
                hint="Check `sslrootcert`, `sslcert` and `sslkey`: each must be a PEM file that"
                " rotator may read, and the key must belong to the certificate.",
            ) from error
        return context


def _speaks_plainly(place: Endpoint, limit: Limit) -> bool:
    """Return whether a node answers without TLS, which it takes for the beginning of a command."""
    try:
        link = WireConnection(place, None, limit)
    except OSError:
        return False
    try:
        _ = link.call("PING")
    except ErrorReply:
        return True
    except OSError:
        return False
    finally:
        link.close()
    return True


def _is_another(one: Credential, than: Credential) -> bool:
    return one.username == than.username and one.password != than.password
