"""What the commands for incidents share: which secrets are meant, and how they are contained."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING, Final, TypeVar

from rich.text import Text

from rotator.core.access import Permission
from rotator.core.commands import leak_commands
from rotator.core.daemon_settings import Topic
from rotator.core.errors import Busy, RotatorError, UsageError
from rotator.core.history import MAPPED, PROVEN
from rotator.core.identifiers import new_id
from rotator.core.incident_timeline import (
    Timeline,
    chain,
    every_timeline,
    present_names,
    timelines,
)
from rotator.engine import Contained, Exposure, LeakReport, Mode
from rotator.faces.cli import exit_codes
from rotator.faces.cli.batch import sign_new_entries, warn_of_stop
from rotator.faces.cli.options import SHORT
from rotator.faces.cli.passwords import ask_password
from rotator.faces.cli.pool import Pool
from rotator.faces.cli.render import incidents as shown
from rotator.faces.cli.render.progress import Progress
from rotator.faces.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from rotator.bootstrap import App
    from rotator.core.model import Event, Policy
    from rotator.core.secret import Secret
    from rotator.engine import ManagedSecret
    from rotator.faces.cli.invocation import Invocation

# So many secrets are replaced at once without a number from the operator.
MOST: Final = 25
# So many secrets with a report are looked at.
LISTED: Final = 1_000
WITHIN: Final = timedelta(minutes=10)
_SIGTERM: Final = 15
# In seconds: between two tries while another process works on a secret, and beyond the time of a step.
_GLANCE: Final = 0.2
_MARGIN: Final = 35.0
# What a containment waits for in one piece: so long no other process can work on its secret.
_SHORT_WAIT: Final = timedelta(seconds=1)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an operator reports, and how many secrets it may concern.

    `mode`: None for that of each secret's policy.
    """

    reason: str
    mode: Mode | None = Mode.MOVE
    within: timedelta = WITHIN
    id: str | None = None
    approved_by: str = ""
    most: int = MOST
    dry_run: bool = False

    def of(
        self, id_: str, one: Exposure, version: str | None, policy: Policy, known: str | None
    ) -> LeakReport:
        """Return it for one secret. Where a policy asks for `kill` and that is not possible: `move`."""
        mode = self.mode or policy.on_leak
        if self.mode is None and mode is Mode.KILL and not one.fences:
            mode = Mode.MOVE
        return LeakReport(
            id=id_,
            reason=self.reason,
            mode=mode,
            within=self.within,
            version=version,
            approved_by=self.approved_by,
            served=one.version,
            known=known,
        )


def open_incident(
    call: Invocation,
    pick: Callable[[App], dict[str, str | None]],
    report: Report,
    *,
    timeout: timedelta | None,
    parallel: int,
) -> None:
    """Show what the leaked passwords open, then contain them. `pick` returns secrets and versions."""
    with opened_to_contain(call, parallel) as (opened, contain):
        versions = pick(opened)
        records = {name: opened.journal.secret(name) for name in versions}
        known = {name: one.incident for name, one in records.items() if one is not None}
        mapped = _mapped(call, opened, versions, parallel)
        for one in mapped:
            call.print(*shown.of_exposure(call.screen, one, opened.clock.now(), report.within))
        lent = {one.secret: opened.journal.leases.count(one.secret) for one in mapped}
        call.print(*(shown.of_leases(name, count) for name, count in lent.items() if count))
        call.data["exposures"] = [
            {**shown.exposure_data(one), "open_leases": lent[one.secret]} for one in mapped
        ]
        if report.dry_run or not mapped:
            return
        if len(mapped) > report.most:
            raise UsageError(
                f"{plural(len(mapped), 'secret')} would be replaced, and --max is {report.most}.",
                hint=f"If all of them leaked: --max {len(mapped)}",
                safety="Nothing was changed.",
            )
        id_ = report.id or f"inc-{opened.clock.now():%Y%m%d}-{new_id(opened.entropy)[-6:]}"
        leaks = {
            one.secret: report.of(
                id_,
                one,
                versions[one.secret],
                opened.secret(one.secret).policy,
                known.get(one.secret),
            )
            for one in mapped
        }
        begun = Opening(call, opened, parallel).open(leaks)
        ids = sorted({incident for incident, _ in begun.values()})
        call.data["incident"] = ids[0] if len(ids) == 1 else id_
        for incident in ids:
            recorded = [name for name, one in begun.items() if one == (incident, Mode.MAP)]
            if recorded:
                call.print(
                    Text(
                        f"Incident {incident} is recorded for {', '.join(recorded)}; nothing was replaced."
                    ),
                    Text(leak_commands(incident)),
                )
        replaced = {name: mode for name, (_, mode) in begun.items() if mode is not Mode.MAP}
        if replaced:
            is_kill = all(mode is Mode.KILL for mode in replaced.values())
            contain([*replaced], timeout or (SHORT if is_kill else report.within + SHORT))


@contextmanager
def opened_to_contain(
    call: Invocation, parallel: int
) -> Generator[tuple[App, Callable[[Sequence[str], timedelta], None]]]:
    """Open the application, and give a function that contains secrets for a limited time.

    Notices are sent as a daemon would send them: each at once, while the work continues.
    """
    from rotator.dispatch.worker import notice_of  # noqa: PLC0415 # imports the engine
    from rotator.logs import get_log  # noqa: PLC0415 # structlog takes 30 ms
    from rotator.notify import Notifier  # noqa: PLC0415

    progress = Progress(call.screen, quiet=call.as_json)
    stop = threading.Event()
    notifiers: list[Notifier] = []

    def observe(event: Event) -> None:
        progress.observe(event)
        notice = notice_of(event)
        # break_glass.py sends that notice.
        if notice is not None and notice[0] is not Topic.BREAK_GLASS:
            for one in notifiers:
                one.tell(notice[0], event.secret, notice[1])

    with call.open_app(observe, stop.is_set) as opened:
        if opened.settings.notifications:
            notifiers.append(Notifier(opened.settings.notifications, opened.resolve, get_log()))

        def contain(names: Sequence[str], allowed: timedelta) -> None:
            free = WhenFree(opened, stop, call.warn)
            pool: Pool[Contained] = Pool(
                names, lambda name: free.contain(name, allowed), parallel, stop
            )
            _contain(call, opened, pool, progress, names)

        for one in notifiers:
            one.start()
        try:
            yield opened, contain
        finally:
            for one in notifiers:
                one.close()


class WhenFree:
    """Works on secrets as soon as no other process does. Used by many threads at once."""

    def __init__(
        self, opened: App, stop: threading.Event, warn: Callable[[Text], None] = lambda _text: None
    ) -> None:
        self._opened: App = opened
        self._stop: threading.Event = stop
        self._warn: Callable[[Text], None] = warn
        self._told: set[str] = set()

    def do(self, name: str, work: Callable[[ManagedSecret], _Answer]) -> _Answer:
        """Do something with a secret. Waits for the running step of another process, and not longer.

        Raises `Busy` after that: then it is no step that the other one waits for.
        """
        secret, clock = self._opened.secret(name), self._opened.clock
        # A lock outlives the deadline of its step by as much, also that of a process that died.
        ends = clock.monotonic() + secret.policy.step_timeout.total_seconds() + _MARGIN
        while True:
            try:
                return work(secret)
            except Busy as busy:
                if clock.monotonic() >= ends or self._stop.is_set():
                    busy.hint = (
                        "A command that waits, such as `rotator rotate --wait`, may hold it: end that"
                        " command, then run this one again."
                    )
                    raise
            self.tell(name)
            _ = self._stop.wait(_GLANCE)

    def tell(self, name: str) -> None:
        """Report, once, that a secret is waited for."""
        if name not in self._told:
            self._told.add(name)
            text = "another process works on it; the incident takes over after its running step."
            self._warn(Text(f"{name}: {text}"))

    def contain(self, name: str, allowed: timedelta) -> Contained:
        """Contain a secret, for as long as its waits are allowed to last.

        Other processes may work on it in the waits: as an operator who turns `move` into `kill`.
        """
        clock = self._opened.clock
        ends = clock.monotonic() + allowed.total_seconds()
        while True:
            left = ends - clock.monotonic()
            patience = min(_SHORT_WAIT, timedelta(seconds=max(0.0, left)))
            engine = self._opened.engine
            done = self.do(name, lambda one: engine.contain(one, patience=patience))  # noqa: B023 # called at once
            if not done.waits or done.until is None:
                return done
            wait = (done.until - clock.now()).total_seconds()
            if wait > left or self._stop.wait(max(0.0, wait)):
                return done


class Opening:
    """Records incidents, first of the secrets that no other process works on."""

    def __init__(self, call: Invocation, opened: App, parallel: int) -> None:
        self._call: Invocation = call
        self._opened: App = opened
        self._parallel: int = parallel

    def open(self, reports: Mapping[str, LeakReport]) -> dict[str, tuple[str, Mode]]:
        """Record each report; return the incident and the mode of each secret. One failure stops no other."""
        engine, opened = self._opened.engine, self._opened
        stop = threading.Event()
        free = WhenFree(opened, stop, self._call.warn)
        begun: dict[str, tuple[str, Mode]] = {}
        busy: list[str] = []
        for name, report in reports.items():
            try:
                require_mode(opened, name, report.mode)
                begun[name] = engine.open_incident(opened.secret(name), report)
            except Busy:
                free.tell(name)
                busy.append(name)
            except RotatorError as error:
                _ = self._call.fail(error, secret=name)

        def record(name: str) -> tuple[str, Mode]:
            return free.do(name, lambda secret: engine.open_incident(secret, reports[name]))

        pool: Pool[tuple[str, Mode]] = Pool(busy, record, self._parallel, stop)
        for done in pool.run(lambda: None) if busy else ():
            if done.answer is not None:
                begun[done.name] = done.answer
            elif done.error is not None:
                _ = self._call.fail(done.error, secret=done.name)
        if pool.signal is not None:
            raise KeyboardInterrupt
        for name, (incident, _) in begun.items():
            if incident != reports[name].id:
                text = f"another process reported the same leak; this command joins incident {incident}."
                self._call.warn(Text(f"{name}: {text}"))
        return {name: begun[name] for name in reports if name in begun}


def require_mode(opened: App, name: str, mode: Mode) -> None:
    """Require what a mode of an incident needs: `kill` a role of its own, a replacement its approval."""
    kill = mode is Mode.KILL
    permission = Permission.KILL if kill else Permission.INCIDENT
    opened.require(permission, name, approved=mode is not Mode.MAP)


# -- work ----------------------------------------------------------------------------------------


def _mapped(
    call: Invocation, opened: App, versions: dict[str, str | None], parallel: int
) -> list[Exposure]:
    """Return what each password opens, the most exposed first."""
    pool: Pool[Exposure] = Pool(
        list(versions),
        lambda name: opened.engine.exposure(opened.secret(name), versions[name]),
        parallel,
        threading.Event(),
    )
    found: list[Exposure] = []
    for done in pool.run(lambda: None):
        if done.error is not None:
            call.fail(done.error, secret=done.name)
        elif done.answer is not None:
            found.append(done.answer)
    if pool.signal is not None:
        raise KeyboardInterrupt
    return sorted(found, key=lambda one: (*one.rank, one.secret))


def _contain(
    call: Invocation,
    opened: App,
    pool: Pool[Contained],
    progress: Progress,
    names: Sequence[str],
) -> None:
    """Contain each secret, and report how far it got. One failure stops no other."""
    results: list[dict[str, object]] = []
    call.data["results"] = results
    reported: set[str] = set()
    progress.total, progress.listen = len(names), pool.observe
    with progress:
        for done in pool.run(lambda: warn_of_stop(call)):
            reported.add(done.name)
            progress.over(done.name)
            if done.answer is None:
                error = done.error or RotatorError("it was interrupted.")
                code = call.fail(error, secret=done.name, begun=progress.begun(done.name))
                results.append({"secret": done.name, "exit_code": code, "proven": False})
                continue
            line = timelines(chain(opened.journal.events, done.name))[-1]
            code = exit_codes.DONE if done.answer.is_proven else exit_codes.STUCK
            results.append(shown.contained_data(done.answer, line, code))
            call.print(*shown.of_contained(call.screen, done.answer, line, opened.clock.now()))
            call.add_code(code)
            if done.answer.error is not None:
                _ = call.fail(done.answer.error, secret=done.name, code=code)
    if pool.signal is not None:
        call.abandoned = bool(pool.under_way)
        code = exit_codes.TERMINATED if pool.signal == _SIGTERM else exit_codes.INTERRUPTED
        for name in (one for one in names if one not in reported):
            error = exit_codes.Interrupted(
                "interrupted: the leaked password is not proven to be rejected.",
                safety="A daemon or worker continues.",
                hint=f"Continue it: rotator incident resume {name}",
            )
            _ = call.fail(error, secret=name, code=code)
    sign_new_entries(call, opened, "The incident above is not affected.")


# -- which secrets -------------------------------------------------------------------------------


def leaked_values(opened: App, source: str | None, reports: Sequence[Path]) -> list[Secret]:
    """Return the values from a reference, a prompt or the reports of scanners. Raises `UsageError`."""
    values: list[Secret] = []
    if source is not None:
        option = "--value-from"
        values.append(ask_password(source, opened.resolve, "Leaked value: ", option=option))
    for file in reports:
        from rotator.find.foreign import read_report  # noqa: PLC0415 # needs its readers

        found = [one.match.value for one in read_report(file)]
        values += [one for one in found if one.reveal()]
    if not values:
        raise UsageError(
            "the report holds no value to compare: it is redacted, or holds only hashes.",
            hint="Write it without --redact, as JSON.",
            safety="Nothing was changed.",
        )
    return values


def by_value_of(
    call: Invocation, opened: App, names: Sequence[str], values: Sequence[Secret]
) -> dict[str, str | None]:
    """Return the secrets with a version that has one of the values; compared in memory."""
    found: dict[str, str | None] = {}
    unread = 0
    pool: Pool[str | None] = Pool(
        names,
        lambda name: opened.engine.find_version(opened.secret(name), *values),
        8,
        threading.Event(),
    )
    for done in pool.run(lambda: None):
        if done.error is not None:
            unread += 1
            call.fail(done.error, secret=done.name, code=exit_codes.STUCK)
        elif done.answer is not None:
            found[done.name] = done.answer
    if pool.signal is not None:
        raise KeyboardInterrupt
    if not found:
        some = f" {plural(unread, 'secret')} could not be compared." if unread else ""
        error = RotatorError(
            f"no version of a managed secret has this value.{some}",
            hint="Look for it in files and history: rotator find PATH --git --known",
            safety="Nothing was changed.",
        )
        _ = call.fail(error, code=exit_codes.STUCK if unread else exit_codes.FAILED)
    return found


def by_login(
    opened: App, login: str, target: str | None, only: Sequence[str]
) -> dict[str, str | None]:
    """Return the secrets that have or had a login, and the version it belonged to."""
    found: dict[str, str | None] = {}
    for name in only or list(opened.settings.secrets):
        if target is not None and opened.settings.secrets[name].target != target:
            continue
        record = opened.journal.secret(name)
        if record is None:
            continue
        if record.login == login:
            found[name] = None
            continue
        for rotation in opened.journal.rotations(name):
            if login in (rotation.old_login, rotation.new_login):
                is_new = rotation.new_login == login
                version = rotation.new_version if is_new else rotation.old_version
                if version is None:
                    # It was never published: no consumer had it, and it is not the current one.
                    continue
                found[name] = version
                break
    if not found:
        lent = [one for one in opened.journal.leases.open() if opened.sees(one.secret)]
        if any(one.login == login for one in lent):
            raise UsageError(
                f"{login!r} is the login of a lease. It is not replaced, but ended.",
                hint=f"End it, with its sessions: rotator lease revoke --login {quote(login)} --reason 'WHY'",
                safety="Nothing was changed.",
            )
        where = f" on target {target}" if target else ""
        raise UsageError(
            f"no managed secret has or had the login {login!r}{where}.",
            hint="See which logins are managed: rotator status",
            safety="Nothing was changed.",
        )
    return found


def open_ones(opened: App, subjects: Sequence[str]) -> list[str]:
    """Return the secrets that are in an incident; all of them where no subject is given."""
    records = {
        one.name: one
        for name in present_names(opened.journal, opened.agenda.leaked(LISTED))
        if opened.sees(name)
        and (one := opened.journal.secret(name)) is not None
        and one.incident is not None
    }
    if not subjects:
        return [name for name, one in records.items() if one.incident_state not in (PROVEN, MAPPED)]
    names: list[str] = []
    for subject in subjects:
        members = [name for name, one in records.items() if subject in (name, one.incident)]
        if not members:
            raise UsageError(
                f"{subject!r} is neither a secret in an incident nor the id of an open incident.",
                hint="See them: rotator incident list --all",
                safety="Nothing was changed.",
            )
        names += members
    return list(dict.fromkeys(names))


def incidents_of(opened: App) -> list[Timeline]:
    """Return the incidents of the secrets that the actor may see, the newest report first."""
    lines = every_timeline(opened.journal, opened.agenda.leaked(LISTED))
    return [line for line in lines if opened.sees(line.secret)]


def timelines_of(opened: App, subject: str) -> list[Timeline]:
    """Return the newest incident of a secret, or what happened to each secret in an incident."""
    if opened.journal.secret(subject) is not None:
        _ = opened.names(only=[subject], forgotten=True)
        (name,) = present_names(opened.journal, [subject])
        if own := timelines(chain(opened.journal.events, name)):
            return own[-1:]
    found = [line for line in incidents_of(opened) if line.incident == subject]
    if not found:
        raise UsageError(
            f"{subject!r} is neither a secret that was in an incident nor the id of an incident.",
            hint="See them: rotator incident list --all",
            safety="Nothing was changed.",
        )
    return found
