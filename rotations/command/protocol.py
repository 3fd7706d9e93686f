"""What rotator and the program send to each other: one JSON object each way. See docs/reference/command.md."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from rotations.command.process import MOST_BYTES, Output, TooLate, TooMuch, run
from rotator.api import (
    Check,
    Conflict,
    Denied,
    InUse,
    Refused,
    Session,
    StepError,
    TooLarge,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    json_object,
    require_program,
    scrub,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rotations.command.options import SecretOptions, TargetOptions
    from rotator.api import Credential, StepContext

VERSION: Final = 1
WHAT: Final = "the program"
# Actions after which something may have changed.
_EFFECTS: Final = frozenset({"create", "revoke", "withdraw"})
_KINDS: Final[Mapping[str, type[StepError]]] = {
    one.kind: one for one in (Transient, Unavailable, Unknown, Denied, Conflict)
}
_ALSO: Final[Mapping[str, Mapping[str, type[StepError]]]] = {
    "create": {Refused.kind: Refused},
    "verify": {Refused.kind: Refused},
    "revoke": {InUse.kind: InUse},
}
_LONGEST_TEXT: Final = 500
_LONGEST_LINE: Final = 160
_LINES: Final = 3
_MOST_CHECKS: Final = 50
_MOST_SESSIONS: Final = 1000


class Program:
    """The program of one target, as all of its rotations use it."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        self.options: TargetOptions = options
        self._name: str = name
        self._admin: Callable[[], Credential] = admin

    def ask(
        self,
        action: str,
        login: Credential,
        ctx: StepContext,
        *,
        strategy: str,
        options: SecretOptions,
    ) -> dict[str, Any]:
        """Run the program for one action and return its answer. Raises what it reports as an error."""
        ctx.require_time()
        self.require_trusted()
        # Alive until the output was searched for it.
        admin = self._admin()
        seconds = ctx.seconds_left()
        request = {
            "protocol": VERSION,
            "action": action,
            "strategy": strategy,
            "secret": ctx.secret,
            "names": sorted(ctx.names),
            "rotation_id": ctx.rotation_id,
            "seconds": round(seconds, 3),
            "login": _login(login),
            "current": None if ctx.current is None else _login(ctx.current),
            "adopted": login.username in ctx.adopted,
            "end_sessions": ctx.end_sessions,
            "admin": _login(admin) if admin.username else None,
            "target": dict(self.options.settings),
            "options": dict(options.settings),
        }
        output = self._run(action, json.dumps(request).encode(), seconds)
        return self._answer(action, output)

    def require_trusted(self) -> None:
        """Raise `Unavailable` unless only root and we can change the program, and we can run it."""
        path = self.options.program
        try:
            require_program(path, WHAT)
        except UsageError as error:
            raise Unavailable(error.what, hint=error.hint) from error
        except OSError as error:
            raise Unavailable(
                f"{WHAT} {path} cannot be read ({error.strerror}).",
                hint=f"Install it, or correct `program` of target {self._name!r}.",
            ) from error

    def _run(self, action: str, request: bytes, seconds: float) -> Output:
        path = self.options.program
        try:
            return run(path, request, seconds)
        except TooLate as error:
            raise self.fault(action, f"did not end within {seconds:.1f} s", error.errors) from None
        except TooMuch as error:
            raise self.fault(
                action, f"wrote more than {MOST_BYTES // 2**20} MiB", error.errors
            ) from None
        except OSError as error:
            raise Unavailable(
                f"{WHAT} {path} cannot be started ({error.strerror}).",
                hint="Check its first line (`#!`) and the permissions of its interpreter.",
            ) from error

    def _answer(self, action: str, output: Output) -> dict[str, Any]:
        try:
            answer = json_object(output.answer)
        except TooLarge as error:
            raise self.fault(
                action, f"wrote JSON that is too large: {error}", output.errors
            ) from None
        except ValueError:
            wrote = "nothing" if not output.answer.strip() else "no JSON object"
            how = f"{_ended(output.status)} and wrote {wrote}"
            raise self.fault(action, how, output.errors) from None
        if "error" in answer:
            raise self._error(action, answer, output)
        if output.status != 0:
            how = f"{_ended(output.status)} after it had answered"
            raise self.fault(action, how, output.errors)
        if answer.get("ok") is not True:
            raise self.fault(action, 'wrote neither `"ok": true` nor an `error`', output.errors)
        return answer

    def _error(self, action: str, answer: dict[str, Any], output: Output) -> StepError:
        kinds = {**_KINDS, **_ALSO.get(action, {})}
        kind = kinds.get(str(answer["error"]))
        if kind is None:
            how = f"answered with an error that is none of {', '.join(sorted(kinds))}"
            return self.fault(action, how, output.errors)
        what = text(answer.get("message")) or f"{WHAT} reported the error {kind.kind!r}"
        hint = text(answer.get("hint"))
        if kind is InUse:
            return InUse(what, sessions=self.sessions(action, "", answer, output.errors), hint=hint)
        return kind(what, hint=hint)

    def checks(self, answer: Mapping[str, Any]) -> Sequence[Check]:
        """Return the checks of an answer to `verify`."""
        found = answer.get("checks", [])
        if not isinstance(found, list) or len(found) > _MOST_CHECKS:
            raise self.fault("verify", f"answered with more than {_MOST_CHECKS} checks, or no list")
        checks = list[Check]()
        for one in cast("list[object]", found):
            if not isinstance(one, dict) or not isinstance(one.get("ok"), bool):
                raise self.fault("verify", "answered with a check without `ok`")
            given = cast("dict[str, Any]", one)
            name = text(given.get("name")) or "check"
            checks.append(Check(name=name, ok=given["ok"], detail=text(given.get("detail"))))
        return checks

    def sessions(
        self, action: str, login: str, answer: Mapping[str, Any], errors: bytes = b""
    ) -> list[Session]:
        """Return the sessions of an answer."""
        found = answer.get("sessions", [] if action == "revoke" else None)
        if not isinstance(found, list):
            raise self.fault(action, "answered without a list `sessions`", errors)
        sessions = list[Session]()
        for one in cast("list[object]", found)[:_MOST_SESSIONS]:
            if not isinstance(one, dict):
                raise self.fault(action, "answered with a session that is no object", errors)
            given = cast("dict[str, Any]", one)
            sessions.append(
                Session(
                    login=login or text(given.get("login")),
                    client=text(given.get("client")),
                    application=text(given.get("application")),
                    since=_moment(given.get("since")),
                )
            )
        return sessions

    def fault(self, action: str, how: str, errors: bytes = b"") -> StepError:
        """Return the error for a program that did not do what the protocol demands."""
        what = f"{WHAT} {self.options.program} {how} (action {action})"
        lines = last_lines(errors)
        hint = (
            f"Its error output ends with: {lines}."
            if lines
            else "It wrote nothing to its error output."
        )
        if action in _EFFECTS:
            safety = "Whether it changed something is unknown, so rotator will run it again."
            return Unknown(f"{what}.", hint=hint, safety=safety)
        return Transient(f"{what}.", hint=hint)


def last_lines(errors: bytes) -> str:
    """Return the last lines of what a program wrote, printable and without secrets, quoted."""
    # Masked as a whole before it is cut: half of a password would not be recognized.
    lines = [line for line in scrub(errors.decode(errors="replace")).splitlines() if line.strip()]
    return "; ".join(
        repr(_cut(_printable(line.strip()), _LONGEST_LINE)) for line in lines[-_LINES:]
    )


def text(given: object) -> str:
    """Return a text of the program's for a message: masked, printable, short; empty for anything else."""
    if not isinstance(given, str):
        return ""
    return _cut(_printable(" ".join(scrub(given).split())), _LONGEST_TEXT)


def _login(one: Credential) -> dict[str, str | None]:
    # An empty password: nobody knows it any longer.
    return {"username": one.username, "password": one.password.reveal() or None}


def _printable(given: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in given)


def _cut(given: str, longest: int) -> str:
    return given if len(given) <= longest else f"{given[: longest - 1]}…"


def _ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _moment(given: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
