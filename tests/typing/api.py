"""Uses of every public type of `rotator.api`: `make lint` checks that they are valid, or are not.

Nothing here runs. A line with `pyright: ignore` must be rejected by that rule: where it no longer is,
the comment itself is an error.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
# ruff: noqa: D101

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

from rotator import api
from rotator.api import Credential, Evidence, Secret, StepContext, Version

_LOGIN = Credential(username="app", password=Secret("made up"))
_VERSION = Version(id="1", credential=_LOGIN)


# -- a rotation with every ability -----------------------------------------------------------------


class Rotation:
    overlaps: bool = True

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        name = api.successor("app", ctx.entropy, limit=api.POSTGRESQL_NAME_BYTES)
        return api.candidate(name, current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        ctx.require_time()

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        return api.passed(new.username, [api.Check(name="logs in", ok=True, detail="")])

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        return bool(credential.password.reveal())

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        api.require_not_current(old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        ctx.log.info("withdrawn", login=new.username)


class AbleRotation(Rotation):
    def sessions(self, login: str, ctx: StepContext) -> list[api.Session]:
        return [api.Session(login=login, client="10.0.0.1", application="app", since=None)]

    def close_login(self, login: Credential, ctx: StepContext) -> None: ...

    def explain(self, current: Credential | None, ctx: StepContext) -> list[api.Planned]:
        return [api.Planned(step=api.Step.CREATE, text="CREATE ROLE")]

    def examine(self, current: Credential | None, ctx: StepContext) -> list[api.Finding]:
        return [api.Finding(severity=api.Severity.OK, subject="admin", message="it may")]

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        return api.next_of_pair(("a", "b"), current)

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        return False

    def rejection(self, credential: Credential, ctx: StepContext) -> api.Rejection | None:
        return api.Rejection(cause="locked", text="it is locked") or api.UNEXPLAINED

    def moment(self, ctx: StepContext) -> str:
        return ctx.clock.now().isoformat()

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        _ = api.password_of_nobody(ctx)
        return self.moment(ctx)

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[api.Session]:
        return []

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[api.Entrance]:
        def attempt(address: str, credential: api.Credential, ctx: api.StepContext) -> bool:
            return api.Entrance(address=address, current=True, leaked=False, why="").current is True

        found = api.on_each_node(["db:5432"], str.upper)
        if isinstance(found[0], api.StepError):
            raise api.own_login("PostgreSQL at db:5432", "main", found[0].what)
        return api.try_entrances(["db:5432"], attempt, leaked, current, ctx, may_lock=False)

    def repair(self, current: Credential, ctx: StepContext) -> None: ...

    def keys(self, ctx: StepContext) -> list[str]:
        return [ctx.secret]

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:
        assert_type(current, Credential | None)
        return Credential(username=ctx.secret, password=Secret(ctx.secret))

    def expire(self, login: Credential, ctx: StepContext) -> None:
        assert_type(ctx.lasts, timedelta | None)
        assert_type(ctx.login_base, str)


rotation: api.Rotation = Rotation()
counts: api.CountsSessions = AbleRotation()
closes: api.ClosesLogins = AbleRotation()
contains: api.Contains = AbleRotation()
draws: api.DrawsKeys = AbleRotation()
explains: api.Explains = AbleRotation()
examines: api.Examines = AbleRotation()
turns: api.TakesTurns = AbleRotation()
locks: api.LocksAccounts = AbleRotation()
expires: api.ExpiresLogins = AbleRotation()
rejections: api.ExplainsRejections = AbleRotation()
repairs: api.Repairs = AbleRotation()


class _ByAdmin(api.LoginStrategy[api.LoginOptions]):
    def __init__(self, shared: str, options: api.LoginOptions) -> None:
        super().__init__(options)
        self._shared: str = shared

    def create(self, new: Credential, ctx: StepContext) -> None: ...

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        return Evidence()

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        return True

    def _end(self, login: Credential, step: api.EndStep, ctx: StepContext) -> None: ...

    def _set(self, login: Credential, ctx: StepContext) -> None: ...

    def _exists(self, name: str, ctx: StepContext) -> bool:
        return True


class FreshLogin(api.NewLogin[api.LoginOptions], _ByAdmin): ...


class Pair(api.AlternatingLogins[api.LoginOptions], _ByAdmin): ...


_NAMES: api.LoginNames = api.LoginOptions()


class FreshKey(api.NewKey[api.LoginOptions], _ByAdmin): ...


class OneLogin(api.SingleLogin[api.LoginOptions], _ByAdmin): ...


class InPlace(_ByAdmin, api.PasswordInPlace[api.LoginOptions]): ...


_OPTIONS = api.LoginOptions(username="app", users=("a", "b"), prefix="app", longest_name=63)
fresh: api.Rotation = FreshLogin("shared", _OPTIONS)
pair: api.Rotation = Pair("shared", _OPTIONS)
one_login: api.Rotation = OneLogin("shared", _OPTIONS)
in_place: api.Rotation = InPlace("shared", _OPTIONS)
Pair("shared", "options")  # pyright: ignore[reportArgumentType]


class WithoutWithdraw:
    overlaps: bool = True

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        return _LOGIN


unfinished: api.Rotation = WithoutWithdraw()  # pyright: ignore[reportAssignmentType]
not_able: api.CountsSessions = Rotation()  # pyright: ignore[reportAssignmentType]


class Delegated(api.DelegatedRotation):
    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        return Evidence()

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        return True


delegated: api.Rotation = Delegated()
api.DelegatedRotation()  # pyright: ignore[reportAbstractUsage]


# -- a backend with every ability ------------------------------------------------------------------


class Backend:
    def current(self, path: str) -> Version | None:
        return _VERSION

    def read(self, path: str, version: str) -> Version | None:
        return None

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        return None

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        return new

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        return "2"

    def discard(self, path: str, rotation_id: str) -> None: ...

    def restore(self, path: str, *, expect: str, to: str) -> str:
        return "3"


class AbleBackend(Backend):
    where: str = "a server"

    def get_value(self, path: str, field: str) -> Secret | None:
        return None

    def put_value(self, path: str, field: str, value: Secret) -> None: ...

    def previous(self, path: str) -> Version | None:
        return None

    def rotates_itself(self, path: str) -> bool:
        return False

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        return "2"

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, capability: str
    ) -> api.ServerResponse:
        return api.ServerResponse(status=200, data=api.json_object("{}"))

    def reseal(self) -> int:
        return 0

    def rotation_ids(self, path: str) -> set[str]:
        return set()

    def served(self, path: str) -> str | None:
        return None

    def offer(self, path: str, rotation_id: str, *, expect: str) -> None: ...

    def retract(self, path: str, rotation_id: str) -> None: ...

    def next(self, path: str) -> api.NextVersion | None:
        return None

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[api.Finding]:
        return []

    def rights(self, paths: Sequence[str]) -> api.Rights:
        name = api.login_name("approle", "web")
        held = api.HeldRight(
            identity=name, place="", path="app", verb=api.Verb.READ, policy="web", rule="app"
        )
        wide = api.WideRight(identity=name, place="", policy="web", rule="*", why="", remedy="")
        unseen = api.Unseen(what="tokens", remedy="look")
        return api.Rights(held=(held,), wide=(wide,), unseen=(unseen,), identities=(name,))


backend: api.SecretBackend = Backend()
values: api.KeepsValues = AbleBackend()
previous: api.KeepsPrevious = AbleBackend()
on_request: api.RotatesOnRequest = AbleBackend()
server: api.CallsServer = AbleBackend()
reseals: api.Reseals = AbleBackend()
rights: api.ListsRights = AbleBackend()
tells: api.TellsRotations = AbleBackend()
restores: api.DetectsRestores = AbleBackend()
offers: api.OffersNext = AbleBackend()
backend_examines: api.ExaminesBackend = AbleBackend()


class PublishesWithoutExpect(Backend):
    def publish(self, path: str, rotation_id: str) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "2"


overwrites: api.SecretBackend = PublishesWithoutExpect()  # pyright: ignore[reportAssignmentType]


class DelegatedKeeper(api.DelegatedBackend):
    def current(self, path: str) -> Version | None:
        return None

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        return "1"


delegated_backend: api.SecretBackend = DelegatedKeeper()
delegated_requests: api.RotatesOnRequest = DelegatedKeeper()


# -- targets and plugins ---------------------------------------------------------------------------


class Target:
    through: str = "vault"

    def rotation(self, strategy: str, options: object) -> api.Rotation:
        return Rotation()

    def close(self) -> None: ...

    def examine(self, ctx: StepContext) -> list[api.Finding]:
        return []

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        return True

    def set_password(self, credential: Credential, ctx: StepContext) -> None: ...

    def backend(self, strategy: str, options: object) -> api.SecretBackend:
        return Backend()

    def marked(self, ctx: StepContext) -> list[api.MarkedLogin]:
        return []

    def logins(self, ctx: StepContext) -> list[api.FoundLogin]:
        return [api.FoundLogin(login="app", sessions=2, is_of="shop".__eq__)]

    def use(self, others: api.LinkedResources) -> None:
        assert_type(others.server("vault"), api.CallsServer)
        assert_type(others.logins("db"), api.TriesLogins)
        assert_type(others.passwords("db"), api.SetsPasswords)
        assert_type(others.resolve("env:NAME"), Secret)

    def rights(
        self, strategy: str, path: str, options: object, *, of: str
    ) -> tuple[api.Right, ...]:
        return (api.Right(path="database/rotate/app", capabilities=("update",), why="rotate"),)


target: api.Target = Target()
target_examines: api.ExaminesTarget = Target()
tries: api.TriesLogins = Target()
sets: api.SetsPasswords = Target()
keeps: api.KeepsSecrets = Target()
lists: api.ListsMarked = Target()
lists_logins: api.ListsLogins = Target()
links: api.UsesLinkedResources = Target()
works_through: api.WorksThrough = Target()


@dataclass(frozen=True, kw_only=True)
class Options:
    url: str = ""


class RotationPlugin:
    info: api.PluginInfo = api.PluginInfo(
        name="mine",
        summary="mine",
        strategies=(
            api.StrategyInfo(
                name="new-user",
                summary="a fresh login",
                overlaps=True,
                abilities=api.abilities_of_rotation(AbleRotation),
                optional_abilities=(api.CountsSessions,),
            ),
        ),
        target_options=Options,
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> api.Target:
        for login in api.admin_logins(admin):
            assert_type(login, Credential)
        return Target()

    def grants(
        self, options: object, *, engine: str, admin: str, login: str | None
    ) -> tuple[str, ...]:
        return ()


class BackendPlugin:
    info: api.PluginInfo = api.PluginInfo(
        name="mine", summary="mine", abilities=api.abilities_of_backend(AbleBackend)
    )
    policies: tuple[str, ...] = ("rotator",)

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> api.SecretBackend:
        return Backend()

    def policy(self, options: object, access: api.Access, *, of: str) -> str:
        return ", ".join(access.rotated)


rotation_plugin: api.RotationPlugin = RotationPlugin()
writes_grants: api.WritesGrants = RotationPlugin()
backend_plugin: api.BackendPlugin = BackendPlugin()
writes_policy: api.WritesPolicy = BackendPlugin()
made_of_parts: api.RotationPlugin = api.Plugin(
    name="mine",
    summary="mine",
    strategies={"new-user": Rotation},
    optional_strategies={"new-user": AbleRotation},
    has_optional=bool,
    needs_admin=False,
)
wrong_kind: api.BackendPlugin = RotationPlugin()  # pyright: ignore[reportAssignmentType]


# -- values ----------------------------------------------------------------------------------------


def of_a_secret(secret: Secret) -> None:
    assert_type(secret.reveal(), str)
    mask: str = api.MASK
    assert_type(api.scrub(mask), str)
    Secret(7)  # pyright: ignore[reportArgumentType]
    len(secret)  # pyright: ignore[reportArgumentType]
    secret + "more"  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


def of_frozen_values() -> None:
    Credential("app", Secret("made up"))  # pyright: ignore[reportCallIssue]
    Credential(username="app", password="made up")  # pyright: ignore[reportArgumentType]
    _LOGIN.username = "other"  # pyright: ignore[reportAttributeAccessIssue]
    _VERSION.id = "2"  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(Evidence(checks=(api.Check(name="a", ok=True),)).ok, bool)


def of_a_context(ctx: StepContext, clock: api.Clock, entropy: api.Entropy, log: api.Log) -> None:
    assert_type(ctx.current, Credential | None)
    assert_type(ctx.new_password(), Secret)
    assert_type(ctx.seconds_left(), float)
    assert_type(ctx.clock, api.Clock)
    assert_type(clock.now(), datetime)
    assert_type(entropy.below(6), int)
    log.warning("away", host="db")
    log.warning("away", "db")  # noqa: PLE1205 # pyright: ignore[reportCallIssue]
    ctx.current = None  # pyright: ignore[reportAttributeAccessIssue]


def of_helpers(ctx: StepContext) -> None:
    assert_type(api.fit("name", 63), str)
    assert_type(api.is_local("localhost"), bool)
    assert_type(api.split_address("db:5432", 5432), tuple[str, int])
    assert_type(api.same_login(None, "app"), str)
    assert_type(api.counted_rights([("table", "SELECT")]), str)
    assert_type(api.PasswordPolicy(length=40).generate(ctx.entropy), Secret)
    api.require_pair(("a", "b"))
    api.require_program(Path("/usr/bin/env"), "the program")
    api.agree_within(lambda: True, "app", "db", ctx, wanted=True)
    raise api.not_ours("role", "app", ctx)


def of_a_limit() -> None:
    with api.time_limit(1.0):
        assert_type(api.seconds_left(5.0), float)
    assert_type(api.call_within(1.0, lambda: "answer"), str)


def of_http() -> None:
    api.require_http_url("https://web.example.org")
    server = api.HttpServer(url="https://web.example.org", ca=None, target="main")
    headers = {"Authorization": api.basic_auth(_LOGIN)}
    answer = server.send("GET", "/", headers, None, seconds=5.0, doing="asking", changes=False)
    assert_type(answer, api.HttpAnswer)
    assert_type(answer.status, int)


def of_a_mark() -> None:
    assert_type(api.version_mark("7"), str)


# -- errors ----------------------------------------------------------------------------------------


def of_errors() -> None:
    errors: list[api.RotatorError] = [
        api.UsageError("no such option.", hint="Remove it."),
        api.Unavailable("the admin is rejected."),
        api.InUse(
            "it has sessions.",
            sessions=[api.Session(login="app", client="10.0.0.1", application="app")],
        ),
        api.Unprovable("it accepts everything.", safety="Nothing was changed."),
    ]
    steps: list[api.StepError] = [
        api.Transient("away."),
        api.Refused("no."),
        api.Denied("no right."),
        api.Conflict("somebody else wrote."),
        api.Unknown("the answer was lost."),
    ]
    assert_type(errors[0].secret, str | None)
    no_step: list[api.StepError] = [api.UsageError("no.")]  # pyright: ignore[reportAssignmentType]
    api.Transient()  # pyright: ignore[reportCallIssue]
    _ = no_step, steps, api.TooLarge, datetime(2026, 1, 1, tzinfo=UTC)
