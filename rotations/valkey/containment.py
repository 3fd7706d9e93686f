"""Contains a leaked password: another one in its place, no earlier session, and a proof by address."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rotations.valkey.login import Login, cut_off, require_ours
from rotator.api import (
    Denied,
    InUse,
    StepError,
    Transient,
    Unknown,
    password_of_nobody,
    try_entrances,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rotations.valkey.nodes import Client, Node
    from rotations.valkey.options import Endpoint
    from rotations.valkey.server import Server
    from rotations.valkey.users import User
    from rotator.api import Credential, Entrance, Session, StepContext

# The longest that one node may take to answer first: a leaked password is valid until its turn.
_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
_POLLS: Final = 100


class ContainedLogin(Login):
    """A login whose leaked password can be contained. Satisfies `Contains`."""

    def moment(self, ctx: StepContext) -> str:
        """Return the newest connection of each node."""
        with self._server.nodes(ctx) as nodes:
            nodes.require_all("Which sessions began there before now is unknown.")
            return _Moment.now(nodes.up, ctx).to_json()

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Replace the user's passwords on each node that is up, then save its users.

        Raises for the nodes that are down once the others reject the leaked password. What cannot be
        saved is logged: the next step requires it.
        """
        name = leaked.username
        self._server.close_ready(name)
        with self._server.nodes(ctx, each=_SECONDS) as nodes:
            failed: list[StepError] = []
            users = _fenceable(nodes.up, name, ctx, failed)
            password = password_of_nobody(ctx)
            fenced = _on_each(
                list(users), lambda node: node.let_in_only(users[node], password, ctx), failed
            )
            moment = _Moment.now(fenced, ctx)
            for node in fenced:
                self._keep(node, ctx, must=False)
            for error in failed:
                raise error
            nodes.require_all(
                f"The leaked password of {name!r} is still valid there; the nodes that are up"
                " reject it."
            )
        return moment.to_json()

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """End the connections of `login` that each node accepted before the moment."""
        moment, failed = _Moment.from_json(before), list[StepError]()
        ended, left = list["Session"](), list["Session"]()
        self._server.close_ready(login)
        with self._server.nodes(ctx, each=_SECONDS) as nodes:
            among = len(nodes.up)

            def end(node: Node) -> None:
                gone, stay = _end_on(node, login, moment, ctx)
                ended.extend(node.session(client, ctx, among=among) for client in gone)
                left.extend(node.session(client, ctx, among=among) for client in stay)

            _ = _on_each(nodes.up, end, failed)
            if left:
                raise InUse(
                    f"login {login!r} still has {len(left)} session(s) that began before the change.",
                    sessions=left,
                )
            for error in failed:
                raise error
            nodes.require_all(f"Whether {login!r} has earlier sessions there is unknown.")
        return ended

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Try the passwords at each node, and at the further addresses of the target."""
        for name in {leaked.username, current.username if current else leaked.username}:
            self._server.close_ready(name)
        places = {str(place): place for place in _places(self._server, ctx)}

        def attempt(address: str, credential: Credential, within: StepContext) -> bool:
            link = self._server.log_in(places[address], credential, within)
            if link is not None:
                link.close()
            return link is not None

        return try_entrances(list(places), attempt, leaked, current, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """Now, by the newest connection of each node, and by rotator's clock.

    `newest` has the run id of each node: a node that restarts gets another one, and counts its connections
    from the start.
    """

    at: datetime
    newest: Mapping[str, int]

    @staticmethod
    def now(nodes: Sequence[Node], ctx: StepContext) -> _Moment:
        at = ctx.clock.now()
        return _Moment(at=at, newest={node.run_id: node.newest_position() for node in nodes})

    @staticmethod
    def from_json(text: str) -> _Moment:
        fields = json.loads(text)
        return _Moment(at=datetime.fromisoformat(fields["at"]), newest=fields["newest"])

    def to_json(self) -> str:
        return json.dumps({"at": self.at.isoformat(), "newest": dict(self.newest)})

    def last_before(self, node: Node, ctx: StepContext) -> int | None:
        """Return the position of the last connection before it; None where all count as earlier."""
        position = self.newest.get(node.run_id)
        if position is None and node.started_after(self.at, ctx):
            return 0
        return position


def _fenceable(
    nodes: Sequence[Node], name: str, ctx: StepContext, failed: list[StepError]
) -> dict[Node, User]:
    """Return the user on each node that has it. Raises where a fence must not begin on any node."""
    users: dict[Node, User] = {}
    many = len(nodes) > 1 or any(node.is_clustered for node in nodes)

    def look(node: Node) -> None:
        all_of_node = node.users()
        user = all_of_node.get(name)
        if user is None:
            return
        require_ours(all_of_node.mark(ctx.names, name), name, node, ctx)
        if name == node.link.user:
            raise _own_login(node, name, ctx)
        if many and (machinery := node.machinery(name)):
            raise cut_off(node, machinery, name)
        users[node] = user

    _ = _on_each(nodes, look, failed)
    return users


def _on_each(
    nodes: Sequence[Node], do: Callable[[Node], None], failed: list[StepError]
) -> list[Node]:
    """Do it on each node, and return those where it succeeded: one that is slow does not keep others from it."""
    done: list[Node] = []
    for node in nodes:
        try:
            do(node)
        except (Transient, Unknown) as error:
            failed.append(error)
        else:
            done.append(node)
    return done


def _end_on(
    node: Node, login: str, moment: _Moment, ctx: StepContext
) -> tuple[list[Client], list[Client]]:
    """End the earlier connections on one node; return those that ended, and those that are left."""
    all_of_node = node.users()
    if all_of_node.get(login) is not None:
        require_ours(all_of_node.mark(ctx.names, login), login, node, ctx)
    last = moment.last_before(node, ctx)
    seen, left = dict[str, "Client"](), list["Client"]()
    for _ in range(_POLLS):
        left = node.clients_until(last, login)
        if not left:
            return list(seen.values()), []
        for client in left:
            seen[client.id] = client
            node.end(client, ctx)
        ctx.clock.sleep(_POLL_SECONDS)
    ids = {client.id for client in left}
    return [client for client in seen.values() if client.id not in ids], left


def _places(server: Server, ctx: StepContext) -> list[Endpoint]:
    """Return where the target accepts logins: its nodes, also those that are down, and further addresses."""
    try:
        with server.nodes(ctx, each=_SECONDS) as nodes:
            places = [*(node.place for node in nodes.up), *nodes.down]
    except StepError as error:
        ctx.log.warning("not all nodes are known", target=server.name, why=error.what)
        places = server.options.named()
    return [*places, *server.options.further_places()]


def _own_login(node: Node, name: str, ctx: StepContext) -> Denied:
    return Denied(
        f"{node}: rotator itself logs in as {name!r}, so it cannot make that login's password invalid"
        " before it has another one.",
        hint="Replace it at once:"
        f" rotator incident open {ctx.secret} --reason 'WHY' --mode move --within 0s",
        safety="Nothing was changed.",
    )
