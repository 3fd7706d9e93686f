"""Three strategies over requests of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rotations.http_api.client import Api, unknown_placeholder
from rotations.http_api.options import (
    ADMIN,
    ADMIN_PASSWORD,
    BUILT_IN,
    LOGIN,
    MARK,
    PASSWORD,
    Request,
    SecretOptions,
)
from rotator.api import (
    Check,
    Credential,
    Denied,
    Evidence,
    Refused,
    Transient,
    UsageError,
    candidate,
    next_of_pair,
    not_ours,
    passed,
    password_of_nobody,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.api import Secret, StepContext

_MARK: Final = "rotator:"


class HttpLogin:
    """What all strategies have in common."""

    overlaps: bool = True
    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def __init__(self, api: Api, options: SecretOptions) -> None:
        self._api: Api = api
        self._options: SecretOptions = options
        self._require_requests()
        self._check(options)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Create the login, or update one of ours that exists."""
        self._set(new, new.password, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Send the request `test` as the login."""
        if not self.probe(new, ctx):
            raise Refused(f"{self._api} rejects login {new.username!r}.")
        return passed(new.username, [Check(name="logs in", ok=True)])

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Send the request `test` once."""
        test, login = self._api.options.test, credential.username
        values = self._values(login, ctx) | {PASSWORD: credential.password.reveal()}
        doing = f"trying login {login!r}"
        answer = self._api.ask(test, values, ctx, doing=doing, login=credential)
        if answer.status in test.rejected:
            return False
        if answer.status in test.ok:
            return True
        raise Transient(
            f"{self._api}: whether login {login!r} is accepted is unknown (status {answer.status}).",
            hint="Add the status to `ok` or `rejected` of the request `test`.",
        )

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Send the requests of `revoke`."""
        require_not_current(old.username, ctx)
        self._end(old.username, "revoke", ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Send the requests of `withdraw`, or else those of `revoke`."""
        require_not_current(new.username, ctx)
        self._end(new.username, "withdraw", ctx)

    def _set(self, new: Credential, password: Secret, ctx: StepContext) -> None:
        name = new.username
        exists = self._exists(name, ctx)
        if exists and not self._requests("update"):
            # Half of a creation that was cut off: nobody has this login yet.
            require_not_current(name, ctx)
            self._end(name, "withdraw", ctx)
            exists = False
        key = "update" if exists else "create"
        if not self._requests(key):
            raise Denied(
                f"{self._api} has no login {name!r}, and there are no requests that create one.",
                hint="Create it by hand, or add `create` to the target.",
            )
        self._send(key, name, ctx, password)

    def _end(self, name: str, key: str, ctx: StepContext) -> None:
        if self._exists(name, ctx):
            self._send(key if self._requests(key) else "revoke", name, ctx, None)

    def _send(self, key: str, name: str, ctx: StepContext, password: Secret | None) -> None:
        values = self._values(name, ctx)
        if password is not None:
            values[PASSWORD] = password.reveal()
        for number, request in enumerate(self._requests(key), start=1):
            doing = f"request {number} of `{key}` for login {name!r}"
            answer = self._api.ask(request, values, ctx, doing=doing, changes=True)
            self._api.require_ok(request, answer, doing=doing)

    def _exists(self, name: str, ctx: StepContext) -> bool:
        """Return whether a login exists. Raises `Conflict` where it is somebody else's."""
        options, values = self._api.options, self._values(name, ctx)
        doing = f"looking up login {name!r}"
        answer = self._api.ask(options.exists, values, ctx, doing=doing)
        if answer.status in options.exists.absent:
            return False
        self._api.require_ok(options.exists, answer, doing=doing)
        if options.mark is not None:
            answer = self._api.ask(options.mark, values, ctx, doing=doing)
            if answer.status not in options.mark.absent:
                self._api.require_ok(options.mark, answer, doing=doing)
        mark = answer.at((options.mark or options.exists).take or "")
        if mark not in {f"{_MARK}{one}" for one in ctx.names} and name not in ctx.adopted:
            raise not_ours(f"login {name!r} of {self._api}", name, ctx, pair=self._options.users)
        return True

    def _values(self, name: str, ctx: StepContext) -> dict[str, str]:
        return {**self._options.values, LOGIN: name, MARK: f"{_MARK}{ctx.secret}"}

    def _requests(self, key: str) -> tuple[Request, ...]:
        found: tuple[Request, ...] = getattr(self._api.options, key)
        return found

    def _require_requests(self) -> None:
        """Refuse a target without the requests of this strategy, or with unknown placeholders."""
        for key in self.needs:
            if not self._requests(key):
                raise UsageError(
                    f"strategy {self.name} requires `{key}`, and the target has no such requests."
                )
        known = BUILT_IN | set(self._options.values)
        options = self._api.options
        sets = (*options.create, *options.update)
        others = [*options.revoke, *options.withdraw, options.exists]
        others += [options.mark] if options.mark is not None else []
        _require_known(sets, known)
        _require_known(others, known - {PASSWORD})
        _require_known((options.test,), known - {ADMIN, ADMIN_PASSWORD})

    def _check(self, options: SecretOptions) -> None:
        """Raise `UsageError` for options that do not fit the strategy."""


class NewUser(HttpLogin):
    """A fresh login per rotation."""

    name = "new-user"
    needs = ("create", "revoke")

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name."""
        base = self._options.prefix or ctx.secret
        name = successor(base, ctx.entropy, limit=self._options.longest_name)
        return candidate(name, current, ctx)


class AlternatingUsers(HttpLogin):
    """Two fixed logins that take turns."""

    name = "alternating-users"
    needs = ("update", "revoke")

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)


class SingleUser(HttpLogin):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False
    name = "single-user"
    needs = ("update",)

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        return candidate(same_login(current, self._options.username), current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Do nothing for the same login: its old password became invalid when the new one was set."""
        ctx.require_time()
        if ctx.current is None or ctx.current.username != old.username:
            super().revoke(old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the served password again; without one, drop or disable the login as the target does."""
        ctx.require_time()
        if ctx.current is not None and ctx.current.username == new.username and not ctx.fenced:
            self._set(new, ctx.current.password, ctx)
        elif ctx.current is None and self._requests("revoke"):
            self._end(new.username, "withdraw", ctx)
        elif self._exists(new.username, ctx):
            self._set(new, password_of_nobody(ctx), ctx)


STRATEGIES: Final[Mapping[str, type[HttpLogin]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, SingleUser)
}


def _require_known(requests: tuple[Request, ...] | list[Request], known: frozenset[str]) -> None:
    for one in requests:
        if unknown := one.names - known:
            raise unknown_placeholder(min(unknown), known)
