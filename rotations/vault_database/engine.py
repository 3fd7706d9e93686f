"""One database secrets engine of a Vault or OpenBao, by the login of a configured backend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from rotations.vault_database.errors import Failure, kind
from rotator.api import Denied, StepError, Transient, Unknown, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotations.vault_database.options import TargetOptions
    from rotator.api import CallsServer, LinkedResources, Secret, ServerResponse, TriesLogins

_NOTHING: Final = "rotator's request changed nothing."


class LockedOut(Denied):
    """The database refuses the engine's own login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A static role: whose password it is, on which connection, how often the engine changes it.

    `period` is in seconds; `schedule` a cron line of HashiCorp Vault's; None where it has none.
    """

    name: str
    login: str
    connection: str
    period: int | None
    schedule: str | None


class Engine:
    """The engine's API. Safe to use from threads. No connection is made before the first call."""

    def __init__(self, name: str, options: TargetOptions) -> None:
        """`name`: the target's, for messages."""
        self.name: str = name
        self.mount: str = options.mount.strip("/")
        self.through: str = options.through
        self._others: LinkedResources | None = None

    def use(self, others: LinkedResources) -> None:
        """Be told where the rest of the configuration is."""
        self._others = others

    @property
    def others(self) -> LinkedResources:
        """The rest of the configuration. Raises `UsageError` where only a file is being read."""
        if self._others is None:
            raise UsageError("the configuration is only read: nothing is connected to.")
        return self._others

    @property
    def where(self) -> str:
        """The engine's name in a message."""
        return f"the database engine at {self.mount!r} of {self._server.where}"

    @property
    def _server(self) -> CallsServer:
        return self.others.server(self.through)

    def logins(self, target: str) -> TriesLogins:
        """Return the database on which logins are tried."""
        return self.others.logins(target)

    # -- static roles --------------------------------------------------------------------------

    def credentials(self, role: str) -> dict[str, Any]:
        """Return what consumers read of a static role."""
        return self._read("static-creds", role)

    def role(self, name: str) -> Role:
        """Return how a static role is set up."""
        found = self._read("static-roles", name)
        period = str(found.get("rotation_period"))
        return Role(
            name=name,
            login=str(found.get("username")),
            connection=str(found.get("db_name")),
            period=int(period) or None if re.fullmatch(r"[0-9]{1,10}", period) else None,
            schedule=str(schedule) if (schedule := found.get("rotation_schedule")) else None,
        )

    def roles(self) -> list[str]:
        """Return the names of all static roles."""
        path = f"{self.mount}/static-roles"
        answer = self._server.call("LIST", path, capability="list")
        if answer.status == 404:  # noqa: PLR2004 # how an empty list is answered
            return []
        return [str(one) for one in _items(answer.data.get("keys"))]

    def rotate_role(self, name: str) -> None:
        """Have the engine draw, set and keep another password."""
        self._write("rotate-role", name, f"to rotate static role {name!r}")

    # -- connections ---------------------------------------------------------------------------

    def root_login(self, connection: str) -> str:
        """Return the login by which the engine works on a database."""
        found = self._read("config", connection)
        details = found.get("connection_details")
        login = details.get("username") if isinstance(details, dict) else None
        if not isinstance(login, str) or not login:
            raise Denied(
                f"connection {connection!r} of {self.where} has no username, so it has no root"
                " password of its own.",
                hint="Configure its `username` and `password` as separate fields, not in the URL.",
                safety="Nothing was changed.",
            )
        return login

    def rotate_root(self, connection: str) -> None:
        """Have the engine change the password of its own login."""
        self._write("rotate-root", connection, f"to rotate the root login of {connection!r}")

    def keep(self, connection: str, password: Secret) -> None:
        """Tell the engine by which password its login gets in; it is not tried yet."""
        path = f"{self.mount}/config/{connection}"
        body = {"password": password.reveal(), "verify_connection": False}
        answer = self._server.call("POST", path, body, capability="update")
        if answer.status not in (200, 204):
            raise self._failed(
                answer, "config", connection, f"to keep a password for {connection!r}"
            )

    def connects(self, connection: str) -> None:
        """Have the engine connect anew with what it keeps. Raises `LockedOut` when it is refused."""
        self._write("reset", connection, f"to reconnect {connection!r}")

    # -- rights --------------------------------------------------------------------------------

    def missing(self, wanted: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, list[str]]]:
        """Yield the paths on which the login lacks capabilities, with those that it lacks."""
        try:
            answer = self._server.call(
                "POST", "sys/capabilities-self", {"paths": list(wanted)}, capability="update"
            )
        except (Denied, Unknown):
            return  # a token without the policy `default`; the work itself will tell
        for path, needed in wanted.items():
            may = _items(answer.data.get(path))
            lacks = [one for one in needed if one not in may and "root" not in may]
            if lacks:
                yield path, lacks

    # -- below ---------------------------------------------------------------------------------

    def _read(self, what: str, name: str) -> dict[str, Any]:
        path = f"{self.mount}/{what}/{name}"
        answer = self._server.call("GET", path, capability="read")
        if answer.status == 200:  # noqa: PLR2004 # found
            return dict(answer.data)
        if answer.status == 404 or kind(answer) is Failure.NO_ROLE:  # noqa: PLR2004 # not there
            raise self._absent(what, name)
        raise Transient(
            f"{self.where} could not read {what}/{name}.", hint="rotator retries automatically."
        )

    def _write(self, what: str, name: str, doing: str) -> None:
        path = f"{self.mount}/{what}/{name}"
        answer = self._server.call("POST", path, capability="update")
        if answer.status not in (200, 204):
            raise self._failed(answer, what, name, doing)

    def _absent(self, what: str, name: str) -> Denied:
        static = what in ("static-creds", "static-roles", "rotate-role")
        noun, folder = ("static role", "static-roles") if static else ("connection", "config")
        return Denied(
            f"{self.where} has no {noun} {name!r}.",
            hint=f"List them: bao list {self.mount}/{folder}. The secret's `path` must name one.",
            safety="Nothing was changed.",
        )

    def _failed(self, answer: ServerResponse, what: str, name: str, doing: str) -> StepError:
        """Return the error for a refusal; the database's own words stay where they are."""
        head = f"{self.where} was asked {doing}, and"
        match kind(answer):
            case Failure.NO_ROLE | Failure.NO_CONNECTION:
                return self._absent(what, name)
            case Failure.NOT_ALLOWED:
                return Denied(
                    f"{head} the connection does not allow this role.",
                    hint="Add the role to `allowed_roles` of the connection: bao read"
                    f" {self.mount}/config/…",
                    safety=_NOTHING,
                )
            case Failure.UNREACHABLE:
                return Transient(
                    f"{head} it could not reach the database.",
                    hint="The engine continues automatically when the database is back, and rotator"
                    " checks again.",
                )
            case Failure.LOCKED_OUT:
                return LockedOut(
                    f"{head} the database rejected the engine's own login: its password"
                    " differs from the one that the engine stores.",
                    hint="No password can be rotated through this connection until this is fixed."
                    " Set a password for that login on the database with another admin,"
                    f" configure it in the engine (bao write {self.mount}/config/CONNECTION"
                    " password=-), then rotate the root login again. Or let rotator repair it:"
                    " set `recover: true` on its secret.",
                )
            case Failure.NO_LOGIN:
                return Denied(
                    f"{head} the login does not exist on the database.",
                    hint="Create it there, or correct the role: bao read"
                    f" {self.mount}/static-roles/{quote(name)}",
                    safety=_NOTHING,
                )
            case Failure.NO_RIGHT:
                return Denied(
                    f"{head} its own login on the database lacks a right, or the database is"
                    " read-only.",
                    hint="Allow the connection's login to change passwords (PostgreSQL: CREATEROLE"
                    " and ADMIN OPTION on the role), and point the connection at the primary server.",
                    safety=_NOTHING,
                )
            case Failure.REFUSED:
                return Denied(
                    f"{head} the database rejected the password that the engine generated.",
                    hint="Set a `password_policy` on the role or its connection that satisfies the"
                    " database.",
                    safety=_NOTHING,
                )
            case Failure.ELSE:
                return Unknown(
                    f"{head} it failed; the engine's log shows why.",
                    hint="Whether the password was changed is unknown: rotator checks, and asks"
                    " again if it was not.",
                )


def _items(found: object) -> list[Any]:
    """Return a list of an answer; an empty one where it is something else."""
    return cast("list[Any]", found) if isinstance(found, list) else []
