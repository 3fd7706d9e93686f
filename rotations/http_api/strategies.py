"""Three strategies over requests of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rotations.http_api.client import Api, unknown_placeholder, value_at, value_in
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
    AlternatingLogins,
    Check,
    Conflict,
    Credential,
    Denied,
    Evidence,
    LoginStrategy,
    NewKey,
    NewLogin,
    PasswordInPlace,
    Refused,
    Secret,
    Transient,
    Unknown,
    UsageError,
    not_ours,
    passed,
    require_not_current,
)

if TYPE_CHECKING:
    from rotator.api import EndStep, StepContext

_MARK: Final = "rotator:"


class HttpLogin(LoginStrategy[SecretOptions]):
    """What all strategies have in common."""

    needs: ClassVar[tuple[str, ...]]
    draws: ClassVar[bool] = False

    def __init__(self, api: Api, options: SecretOptions) -> None:
        super().__init__(options)
        self._api: Api = api
        self._require_requests()

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Create the login, or update one of ours that exists."""
        self._set(new, ctx)

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

    def _set(self, login: Credential, ctx: StepContext) -> None:
        name = login.username
        exists = self._exists(name, ctx)
        if exists and not self._requests("update"):
            # Half of a creation that was cut off: nobody has this login yet.
            require_not_current(name, ctx)
            self._end(login, "withdraw", ctx)
            exists = False
        key = "update" if exists else "create"
        if not self._requests(key):
            raise Denied(
                f"{self._api} has no login {name!r}, and there are no requests that create one.",
                hint="Create it by hand, or add `create` to the target.",
            )
        self._send(key, name, ctx, login.password)

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        if self._exists(login.username, ctx):
            self._send(step if self._requests(step) else "revoke", login.username, ctx)

    def _send(self, key: str, name: str, ctx: StepContext, password: Secret | None = None) -> None:
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
        mark = value_at(answer, (options.mark or options.exists).take or "")
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
        if self.draws is not options.draws and options.create:
            raise UsageError(
                f"strategy {self.name} does not fit `create` of the target.",
                hint="With `key_value` in its last request the server draws the key: strategy new-key.",
            )
        if self.draws:
            if options.keys is None:
                raise UsageError(
                    f"strategy {self.name} requires `keys`, and the target has no such request."
                )
            _require_known((options.keys, *options.create), known - {LOGIN, PASSWORD})
        sets = (*options.create, *options.update)
        others = [*options.revoke, *options.withdraw, options.exists]
        others += [options.mark] if options.mark is not None else []
        _require_known(sets, known)
        _require_known(others, known - {PASSWORD})
        _require_known((options.test,), known - {ADMIN, ADMIN_PASSWORD})


class NewUser(NewLogin[SecretOptions], HttpLogin):
    """A fresh login per rotation."""

    needs = ("create", "revoke")


class NewKeys(NewKey[SecretOptions], HttpLogin):
    """A fresh key per rotation, which the server draws."""

    needs = ("create", "revoke")
    draws = True

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Raise `Denied`: no key can be set."""
        NewKey.create(self, new, ctx)

    def keys(self, ctx: StepContext) -> list[str]:
        """Return the ids of the keys with the secret's mark."""
        request, values, doing = self._api.options.keys, self._values("", ctx), "listing keys"
        assert request is not None  # noqa: S101 # required when it was configured
        answer = self._api.ask(request, values, ctx, doing=doing)
        if answer.status in request.absent:
            return []
        self._api.require_ok(request, answer, doing=doing)
        items = value_at(answer, request.take or "")
        if items is None:
            return []
        found = items if isinstance(items, list) else [None]
        names = [value_in(one, request.key_id) if request.key_id else one for one in found]
        if not all(isinstance(one, str) for one in names):
            raise Denied(
                f"{self._api}: {doing}: the answer has no list of ids in the configured place.",
                hint="Correct `take` and `key_id` of `keys`.",
            )
        return [str(one) for one in names if self._is_ours(str(one), ctx)]

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:  # noqa: ARG002 # the contract's
        """Send the requests of `create`; the answer to the last one has the key."""
        *first, last = self._requests("create")
        values, doing = self._values("", ctx), "the request of `create` that draws a key"
        for number, request in enumerate(first, start=1):
            before = f"request {number} of `create`"
            answer = self._api.ask(request, values, ctx, doing=before, changes=True)
            self._api.require_ok(request, answer, doing=before)
        answer = self._api.ask(last, values, ctx, doing=doing, changes=True)
        self._api.require_ok(last, answer, doing=doing)
        found = [value_at(answer, path or "") for path in (last.key_id, last.key_value)]
        if not all(isinstance(one, str) and one for one in found):
            raise Unknown(
                f"{self._api}: {doing}: the answer has no key in the configured place.",
                hint="Correct `key_id` and `key_value` of the last request of `create`.",
            )
        return Credential(username=str(found[0]), password=Secret(str(found[1])))

    def _is_ours(self, name: str, ctx: StepContext) -> bool:
        try:
            return self._exists(name, ctx)
        except Conflict:
            return False


class AlternatingUsers(AlternatingLogins[SecretOptions], HttpLogin):
    """Two fixed logins that take turns."""

    needs = ("update", "revoke")


class SingleUser(HttpLogin, PasswordInPlace[SecretOptions]):
    """One login whose password changes in place (no overlap)."""

    needs = ("update",)

    @property
    def _can_end(self) -> bool:
        return bool(self._requests("revoke"))


STRATEGIES: Final[dict[str, type[HttpLogin]]] = {
    one.name: one for one in (NewUser, NewKeys, AlternatingUsers, SingleUser)
}


def _require_known(requests: tuple[Request, ...] | list[Request], known: frozenset[str]) -> None:
    for one in requests:
        if unknown := one.names - known:
            raise unknown_placeholder(min(unknown), known)
