"""Three strategies for users of RabbitMQ, with all rights of the user before."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from rotations.rabbitmq import rights
from rotations.rabbitmq.options import SecretOptions
from rotations.rabbitmq.rights import MARK, Rights, User, user_of
from rotator.api import (
    AlternatingLogins,
    Check,
    Conflict,
    Credential,
    Denied,
    Evidence,
    InUse,
    LoginStrategy,
    NewLogin,
    PasswordInPlace,
    Planned,
    Refused,
    Session,
    Step,
    not_ours,
    passed,
)

if TYPE_CHECKING:
    from rotations.rabbitmq.broker import Broker
    from rotator.api import EndStep, StepContext

_POLL_SECONDS: Final = 0.1
# 10 s: the statistics of a connection begin within 5 s, unless configured otherwise.
_LOOKS: Final = 100
_NOTHING: Final = Rights(tags=frozenset(), permissions={}, topics={}, limits={})


class RabbitLogin(LoginStrategy[SecretOptions]):
    """What all strategies have in common. Satisfies `CountsSessions` and `Explains`."""

    drops: bool = False

    def __init__(self, broker: Broker, options: SecretOptions) -> None:
        super().__init__(options)
        self._broker: Broker = broker

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Give the user all rights of the one before, then a password."""
        self._set(new, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in by AMQP, open the virtual host, and compare the rights."""
        opened = self._broker.log_in(new, self._options.vhost, ctx)
        if opened is False:
            raise Refused(f"{self._broker.options.amqp_url} rejects login {new.username!r}.")
        checks = [
            Check(name="logs in", ok=True),
            Check(name=f"opens virtual host {self._options.vhost}", ok=opened is True),
        ]
        source = self._source(new.username, ctx)
        if source is not None and source != new.username:
            ours, theirs = (self._rights(one, ctx) for one in (new.username, source))
            differing = ", ".join(ours.differences(theirs))
            checks.append(Check(name=f"rights of {source}", ok=not differing, detail=differing))
        return passed(new.username, checks)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once by AMQP. A virtual host that does not open comes after the password."""
        return self._broker.log_in(credential, self._options.vhost, ctx) is not False

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the open connections of a user."""
        return self._broker.sessions(login, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the requests of a rotation, in words."""
        new = self.propose(current, ctx)
        source = current.username if current is not None else self._options.like
        planned = [Planned(step=Step.CREATE, text=f"PUT /api/users/{new.username} (password ***)")]
        if source is not None and source != new.username:
            copied = f"give {new.username!r} the tags, permissions and limits of {source!r}"
            planned.append(Planned(step=Step.CREATE, text=copied))
        planned.append(Planned(step=Step.VERIFY, text=f"log in by AMQP as {new.username!r}"))
        if current is not None and current.username != new.username:
            ended = "delete the user" if self.drops else "remove its password"
            text = f"{current.username!r}: reject logins, wait for its connections, {ended}"
            planned.append(Planned(step=Step.REVOKE, text=text))
        return planned

    def _set(self, login: Credential, ctx: StepContext) -> None:
        name, source = login.username, self._source(login.username, ctx)
        exists = self._exists(name, ctx)
        if source is None and not exists:
            raise Denied(
                f"{self._broker} has no user {name!r}, and none whose rights it could receive.",
                hint="Set `like` in the secret's options to a user with these rights.",
            )
        wanted = self._rights(name if source is None else source, ctx)
        tags = [*sorted(wanted.tags), f"{MARK}{ctx.secret}"]
        if not exists:
            # Without a password nobody logs in before it has its rights.
            self._broker.put({"password_hash": "", "tags": tags}, ctx, "users", name)
        if source != name:
            has = self._rights(name, ctx) if exists else _NOTHING
            rights.copy(self._broker, name, has, wanted, ctx)
        body: dict[str, object] = {"password": login.password.reveal(), "tags": tags}
        self._broker.put(body, ctx, "users", name)

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        name = login.username
        user = self._user(name, ctx)
        if user is None:
            return
        if user.has_password:
            body: dict[str, object] = {"password_hash": "", "tags": user.tags}
            self._broker.put(body, ctx, "users", name)
        if step == "withdraw" or ctx.end_sessions:
            self._end_sessions(name, ctx)
        elif found := self.sessions(name, ctx):
            raise InUse(f"login {name!r} still has open connections.", sessions=found)
        if self.drops:
            self._broker.delete(ctx, "users", name)

    def _end_sessions(self, name: str, ctx: StepContext) -> None:
        """Close the connections of a user, and see them gone.

        RabbitMQ may list for ever one whose end it noted before its start. It was closed here, too, and
        has no statistics, so it has ended.
        """
        if not self._broker.connections(name, ctx):
            return
        self._broker.delete(ctx, "connections", "username", name)
        for look in itertools.count():
            left = self._broker.connections(name, ctx)
            if look >= _LOOKS:
                left = [one for one in left if self._broker.has_statistics(one, ctx)]
            if not left:
                return
            ctx.clock.sleep(_POLL_SECONDS)

    def _exists(self, name: str, ctx: StepContext) -> bool:
        return self._user(name, ctx) is not None

    def _user(self, name: str, ctx: StepContext) -> User | None:
        """Return a user of ours, None where there is none. Raises `Conflict` where it is not ours."""
        user = self._broker.get(ctx, "users", name, take=user_of)
        if user is None:
            return None
        owners = {one.removeprefix(MARK) for one in user.tags if one.startswith(MARK)}
        if name not in ctx.adopted and not owners & ctx.names:
            what = f"user {name!r} on {self._broker}"
            owner = min(owners) if owners else None
            raise not_ours(what, name, ctx, pair=self._options.users, owner=owner)
        return user

    def _source(self, name: str, ctx: StepContext) -> str | None:
        """Return the user whose rights this one has; its own name where they stay as they are."""
        if ctx.current is None:
            return self._options.like
        if ctx.current.username != name:
            # Whoever writes to the backend could name any user there, and get its rights.
            _ = self._user(ctx.current.username, ctx)
        return ctx.current.username

    def _rights(self, name: str, ctx: StepContext) -> Rights:
        user = self._broker.get(ctx, "users", name, take=user_of)
        if user is None:
            raise Conflict(
                f"{self._broker} has no user {name!r}, whose rights are copied.",
                hint="Create it, or correct the secret's options.",
            )
        return rights.read(self._broker, name, user.tags, ctx)


class NewUser(NewLogin[SecretOptions], RabbitLogin):
    """A fresh user per rotation, with all rights of the one before."""

    drops: bool = True


class AlternatingUsers(AlternatingLogins[SecretOptions], RabbitLogin):
    """Two fixed users that take turns."""


class SingleUser(RabbitLogin, PasswordInPlace[SecretOptions]):
    """One user whose password changes in place (no overlap)."""


STRATEGIES: Final[dict[str, type[RabbitLogin]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, SingleUser)
}
