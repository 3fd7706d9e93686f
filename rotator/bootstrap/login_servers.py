"""The servers on which `rotator find --try` logs in: configured targets, and hosts that were allowed."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from rotator import plugins
from rotator.core.contracts.rotation import LocksAccounts
from rotator.core.deadline import time_limit
from rotator.core.errors import Denied, RotatorError, StepError, Transient, UsageError
from rotator.core.identifiers import successor
from rotator.core.model import Credential
from rotator.core.net import is_local
from rotator.core.observations import Observation, ObservationKind
from rotator.core.traceback_frames import forget_variables
from rotator.find.login_attempts import (
    Answer,
    LoginAttempts,
    Means,
    Outcome,
    Place,
    Unanswered,
)
from rotator.find.model import split_host
from rotator.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.contracts.plugin import RotationPlugin, Target
    from rotator.core.contracts.rotation import Rotation
    from rotator.core.secret import Secret
    from rotator.find.model import Candidate

T = TypeVar("T")

# Of one login, its connection included.
SECONDS: Final = 5.0
_HOUR: Final = timedelta(hours=1)
_STRATEGIES: Final = ("single-user", "dual-password")
# One login goes to one server: not to its replicas, and not twice because TLS is only preferred.
_ALONE: Final[Mapping[str, object]] = {"readers": (), "nodes": (), "discover": False}
_TRIED_TWICE: Final = ("prefer", "allow")
_NO_ADMIN: Final = "rotator has no admin on this host, so it cannot check the account there"
# Causes of a rejection that follow an accepted password.
_AUTHENTICATED: Final = ("database", "connect")


def try_candidates(
    parts: Wiring,
    candidates: Sequence[Candidate],
    *,
    allowed: Sequence[str],
    known: Mapping[str, tuple[str, str]],
) -> list[Outcome]:
    """Log in with each candidate, and return the outcomes in their order. `allowed`: further hosts. `known`: secret and login of known values."""
    policy = parts.settings.default_policy

    def record(server: str, login: str, answer: Answer) -> None:
        get_log().info("login tried", server=server, login=login, answer=answer.name.lower())

    means = Means(
        places=_Servers(parts, allowed, known),
        refused=_RefusedLogins(parts),
        unknown_login=lambda: successor("rotator_control", parts.entropy),
        wrong_password=lambda: policy.password.generate(parts.entropy),
        record=record,
    )
    return LoginAttempts(means, candidates).outcomes()


class _RefusedLogins:
    """Refused logins as observations beside the journal."""

    def __init__(self, parts: Wiring) -> None:
        self._parts: Wiring = parts
        self._guard: threading.Lock = threading.Lock()
        kept = parts.observations.all(ObservationKind.REFUSED_LOGIN)
        now = parts.clock.now()
        for one in kept:
            if one.until is None or one.until <= now:
                _ = parts.observations.remove(one.kind, one.subject)

    def until(self, account: str) -> datetime | None:
        now = self._parts.clock.now()
        with self._guard:
            kept = self._parts.observations.all(ObservationKind.REFUSED_LOGIN)
        found = next((one.until for one in kept if one.subject == account), None)
        return found if found is not None and found > now else None

    def expect(self, account: str) -> None:
        now = self._parts.clock.now()
        kind = ObservationKind.REFUSED_LOGIN
        with self._guard:
            _ = self._parts.observations.put(
                Observation(kind=kind, subject=account, at=now, until=now + _HOUR)
            )

    def clear(self, account: str) -> None:
        with self._guard:
            _ = self._parts.observations.remove(ObservationKind.REFUSED_LOGIN, account)


class _Servers:
    """Finds the server of a candidate by host and port, by the name of a target, or by its login."""

    def __init__(
        self, parts: Wiring, allowed: Sequence[str], known: Mapping[str, tuple[str, str]]
    ) -> None:
        self._parts: Wiring = parts
        self._known: Mapping[str, tuple[str, str]] = known
        self._allowed: list[tuple[str, int | None]] = [split_host(one) for one in allowed]
        self._servers: dict[str, _Server] = {}
        self._targets: list[_Server] = list(self._configured())
        self._logins: set[tuple[str, str]] = {
            (secret.target, record.login)
            for name, secret in parts.settings.secrets.items()
            if (record := parts.journal.secret(name)) is not None and record.login is not None
        }

    def of(self, candidate: Candidate) -> Place | str:
        """Return where a candidate is to be tried, or why it is not."""
        account, known = candidate.match.account, self._known.get(candidate.known or "")
        if not candidate.match.value.reveal():
            return "its report does not contain the value"
        login = account.login
        server: _Server | str = "the text names neither a host nor a known login"
        if account.hosts:
            server = self._by_host(account.hosts, account.engine)
        elif known is None:
            server = self._by_login(login, account.engine)
        if isinstance(server, str) and known is not None:
            target = self._parts.settings.secrets[known[0]].target
            server = next((one for one in self._targets if one.target == target), server)
            login = known[1] if not account.hosts else login or known[1]
        if isinstance(server, str):
            return server
        login = login or server.default_login
        if login is None:
            return "the text names no login"
        return Place(server=server, login=login, database=account.database)

    def _configured(self) -> Iterator[_Server]:
        for name, target in self._parts.settings.targets.items():
            plugin = plugins.rotation_plugin(target.plugin)
            options = target.options
            admin = self._parts.admin_of(name)
            yield _Server(self._parts, f"target {name}", plugin, options, admin, target=name)
            for reader in cast("Sequence[str]", getattr(options, "readers", ())):
                host, port = split_host(reader)
                replica = replace(
                    cast("Any", options), host=host, port=port or getattr(options, "port", 0)
                )
                yield _Server(
                    self._parts, f"replica {reader} of target {name}", plugin, replica, admin
                )

    def _by_host(self, hosts: Sequence[str], engine: str | None) -> _Server | str:
        places = [split_host(one) for one in hosts]
        for host, port in places:
            found = [
                one
                for one in self._targets
                if one.is_at(host, port) and (engine is None or one.has_engine(engine))
            ]
            if port is None and len(found) > 1:
                usual = [one for one in found if one.has_usual_port]
                found = usual or found
            if len(found) > 1 and len({one.address for one in found}) > 1:
                names = ", ".join(one.name for one in found)
                return f"several targets are at its host: {names}"
            if found:
                return found[0]
        for host, port in places:
            if any(_same_host(host, one) and of in (None, port) for one, of in self._allowed):
                return self._by_allowance(host, port, engine)
        return "its host is no configured target: name it with --allow-host to try it"

    def _by_allowance(self, host: str, port: int | None, engine: str | None) -> _Server | str:
        plugin = plugins.rotation_plugin_for(engine) if engine is not None else None
        if plugin is None:
            return (
                "its host is allowed, but the text does not name an engine that a plugin supports"
            )
        given: dict[str, object] = {"host": host, **({"port": port} if port is not None else {})}
        try:
            options = plugin.info.target_options(**given)
        except (UsageError, TypeError, ValueError):
            return "its host is allowed, but the plugin does not accept its name"

        def admin() -> Credential:
            raise Denied(_NO_ADMIN + ".")

        server = _Server(self._parts, f"host {host}", plugin, options, admin)
        return self._servers.setdefault(server.address, server)

    def _by_login(self, login: str | None, engine: str | None) -> _Server | str:
        fitting = [
            one
            for one in self._targets
            if one.target is not None and (engine is None or one.has_engine(engine))
        ]
        served = [
            one for one in fitting if login is not None and (one.target, login) in self._logins
        ]
        chosen = served or fitting
        if len(chosen) == 1 and (login is not None or chosen[0].default_login is not None):
            return chosen[0]
        if len(chosen) > 1:
            return "the text names no host, and several targets could be meant"
        return "the text names no host" if chosen else "no configured target has its engine"


class _Server:
    """One server, reached through its plugin with the options of its target."""

    def __init__(  # what a target is
        self,
        parts: Wiring,
        name: str,
        plugin: RotationPlugin,
        options: object,
        admin: Callable[[], Credential],
        *,
        target: str | None = None,
    ) -> None:
        self._parts: Wiring = parts
        self.name: str = name
        self.target: str | None = target
        self._plugin: RotationPlugin = plugin
        self._host: str | None = getattr(options, "host", None)
        self._port: int | None = getattr(options, "port", None)
        own = {one.name for one in fields(cast("Any", options))}
        given = {key: value for key, value in _ALONE.items() if key in own}
        if getattr(options, "sentinels", ()):
            given = {}
        options = replace(cast("Any", options), **given)
        # The modes of TLS that remain to be tried; the first one that works stays.
        modes: tuple[str | None, ...] = (None,)
        if _is_tried_twice(options):
            modes = ("require", "disable")
        self._ways: list[object] = [
            options if mode is None else replace(cast("Any", options), sslmode=mode)
            for mode in modes
        ]
        self._admin: Callable[[], Credential] = admin
        self._made: Target | None = None

    @property
    def address(self) -> str:
        """Its host and port, or the name of a target that has none."""
        if self._host is None:
            return self.name
        host = (
            "localhost" if is_local(self._host) and not self._host.startswith("/") else self._host
        )
        return f"{host}:{self._port}".lower()

    @property
    def default_login(self) -> str | None:
        """The login of a password that stands without one: `requirepass` of Valkey and Redis."""
        return "default" if self.has_engine("redis") else None

    @property
    def has_usual_port(self) -> bool:
        """Whether it listens where its kind of server usually does."""
        defaults = {one.name: one.default for one in fields(self._plugin.info.target_options)}
        return defaults.get("port") == self._port

    def has_engine(self, engine: str) -> bool:
        """Return whether an engine, as a text names it, is that of this server."""
        return engine in (self._plugin.info.name, *self._plugin.info.engines)

    def is_at(self, host: str, port: int | None) -> bool:
        """Return whether a host and port are those of this server, or its target has that name."""
        if self.target is not None and host == self.target and port in (None, self._port):
            return True
        if self._host is None or not _same_host(host, self._host):
            return False
        return port is None or port == self._port

    def attempt(self, login: str, password: Secret, database: str | None) -> Answer:
        """Log in once."""
        while True:
            try:
                return self._attempt(login, password, database)
            except Unanswered as error:
                # A server without TLS, or with rules for it, answers before it asks for a password.
                if error.is_away or len(self._ways) == 1:
                    raise
                del self._ways[0]
                self._made = None

    def may_lock(self, login: str) -> bool:
        """Return whether a refused login may lock the account."""
        rotation = self._rotation(login, None)
        if not isinstance(rotation, LocksAccounts):
            return False
        try:
            return self._bounded(
                lambda: rotation.may_lock(login, self._parts.context_without_secret(SECONDS))
            )
        except Transient as error:
            raise Unanswered(error.what.rstrip("."), is_away=True) from error
        except StepError:
            return True

    def _attempt(self, login: str, password: Secret, database: str | None) -> Answer:
        rotation = self._rotation(login, database)
        credential = Credential(username=login, password=password)
        try:
            accepted = self._bounded(
                lambda: rotation.probe(credential, self._parts.context_without_secret(SECONDS))
            )
        except RotatorError as error:
            if error.cause in _AUTHENTICATED:
                del self._ways[1:]
                return Answer.WITHOUT_DATABASE
            reason = error.what.rstrip(".")
            raise Unanswered(reason, is_away=isinstance(error, Transient)) from None
        except Exception as error:  # noqa: BLE001 # a fault of a plugin is that of its server alone
            forget_variables(error)
            raise Unanswered(f"its plugin failed with {type(error).__name__}") from None
        del self._ways[1:]
        return Answer.ACCEPTED if accepted else Answer.REJECTED

    def _rotation(self, login: str, database: str | None) -> Rotation:
        info = self._plugin.info
        own = {one.name for one in fields(info.secret_options)}
        given: dict[str, object] = {"username": login} if "username" in own else {}
        if database is not None and "login_dbname" in own:
            given["login_dbname"] = database
        names = [one.name for one in info.strategies]
        strategy = next((one for one in _STRATEGIES if one in names), names[0])
        try:
            if self._made is None:
                self._made = self._plugin.target(self.name, self._ways[0], self._admin)
                self._parts.close_at_end(self._made)
            return self._made.rotation(strategy, info.secret_options(**given))
        except RotatorError as error:
            raise Unanswered(error.what.rstrip(".")) from None

    def _bounded(self, work: Callable[[], T]) -> T:
        """Return what `work` returns. Raises `Transient` after some seconds, also where it goes on."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                with time_limit(SECONDS):
                    answers.append(work())
            except BaseException as error:  # noqa: BLE001 # raised again by the thread that waits
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(SECONDS + 1)
        if errors:
            raise errors[0]
        if not answers:
            raise Transient(f"{self.name} did not answer within {SECONDS:.0f} seconds.")
        return answers[0]


def _is_tried_twice(options: object) -> bool:
    """Return whether the driver repeats a refused login without TLS, or with it."""
    tls: object = getattr(options, "tls", None)
    mode: object = None
    if callable(tls):
        with suppress(TypeError):
            mode = cast("Callable[[], Sequence[object]]", tls)()[0]
    return mode in _TRIED_TWICE


def _same_host(one: str, other: str) -> bool:
    if one.lower().rstrip(".") == other.lower().rstrip("."):
        return True
    sockets = one.startswith("/") or other.startswith("/")
    return not sockets and is_local(one) and is_local(other)
