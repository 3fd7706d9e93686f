"""access: who reads a secret, by the audit logs of its backend, and who may read it, by its policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.text import Text

from rotator.core.errors import RotatorError
from rotator.core.reads import LogKind, is_declared, is_of
from rotator.core.rights import Rights, Unseen
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    Name,
    Names,
    Since,
    Tags,
    argument,
    complete_backends,
    option,
    period,
)
from rotator.faces.cli.render.console import QUIET, indented, table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.signals import Signals
from rotator.faces.wording import at, plural

if TYPE_CHECKING:
    from rotator.access.declared_rights import Problem
    from rotator.access.ingest import Ingest, Taken
    from rotator.config.model import SecretSettings
    from rotator.core.reads import Holder, Reader

app = typer.Typer()
_access = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _access,
    name="access",
    help="Show who reads a secret, and check who may.",
    rich_help_panel=Panel.INSPECT,
)

# So many secrets of one problem are named.
_NAMED: Final = 5
_LEAKING: Final = "the log itself leaks"


class LeakingLog(RotatorError):
    """An audit log holds values or tokens in plain text."""

    kind = "leaking-log"


@command(_access, "ingest")
def ingest(
    ctx: typer.Context,
    logs: Annotated[
        list[str],
        argument(
            "FILE",
            "Audit logs, also compressed by gzip; - for standard input; unix:PATH or tcp:127.0.0.1:PORT to"
            " listen for the server's socket device until SIGTERM.",
        ),
    ],
    *,
    kind: Annotated[
        LogKind,
        typer.Option(
            "--from",
            show_default=False,
            help="What wrote the log: the file or socket device of Vault or OpenBao, CloudTrail (files in S3,"
            " or an export of CloudTrail Lake), or the log of the agent.",
        ),
    ],
    backend: Annotated[
        str | None,
        option(
            "--backend",
            "BACKEND",
            "Only this backend's secrets. Default: those of all backends of its kind.",
            complete_backends,
        ),
    ] = None,
) -> None:
    """Count who reads which version of which secret, by audit logs.

    Only reads of secrets in the configuration are counted, for 400 days. No value is stored. A log is
    recognized by its first line: the same file twice, renamed or compressed, changes nothing, and a line
    that was not written completely is counted the next time.

    Exit codes: 0 counted, 1 a log holds values or tokens in plain text, 2 usage or configuration.

    Examples:
        rotator access ingest /var/log/vault/audit.log --from vault
        rotator access ingest cloudtrail/*.json.gz --from cloudtrail
        rotator access ingest /var/log/rotator-agent.log --from agent
        rotator access ingest unix:/run/rotator/audit.sock --from openbao
    """
    from rotator.access.log_files import is_socket  # noqa: PLC0415 # only here

    call: Invocation = ctx.obj
    found: list[dict[str, Any]] = []
    call.data["logs"] = found
    with call.open_app() as opened:
        work = opened.ingest(kind, backend)
        for name in logs:
            try:
                taken = _listen(work, name) if is_socket(name) else work.file(name)
            except RotatorError as error:
                call.fail(error)
                continue
            found.append(_taken(taken))
            call.print(_line(taken))
            if taken.leaks:
                call.fail(_leaking(taken), code=exit_codes.FAILED)
        _ = opened.reads.prune()


@command(_access, "show")
def show(
    ctx: typer.Context,
    name: Name,
    *,
    since: Since = "30d",
    by: Annotated[
        str | None,
        option(
            "--by",
            "IDENTITY",
            "Only reads by this identity: its name, the last part of it, or a pattern with `*`.",
        ),
    ] = None,
) -> None:
    """Show who read a secret, which version, and who is behind.

    An identity is behind if it still reads an older version, or has not read since the current version
    was published. It shows what `ingest` has counted.

    Examples:
        rotator access show app-db
        rotator access show app-db --since 90d
        rotator access show app-db --by approle/web --since 2026-01-01
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        (chosen,) = opened.names(only=[name], forgotten=True)
        after, _ = period(since, None, opened.clock.now())
        found = [
            one for one in opened.readers(chosen, after) if by is None or is_of(by, one.identity)
        ]
        record = opened.journal.secret(chosen)
        entry = opened.settings.secrets.get(chosen)
    current = record.version if record is not None else None
    call.data |= {
        "secret": chosen,
        "version": current,
        "readers": [_reader(one, entry) for one in found],
    }
    if not found:
        call.print(
            f"{chosen}: no reads are counted. Count them: rotator docs see-who-reads",
        )
        return
    behind = sum(one.is_behind for one in found)
    call.print(
        f"{chosen}  version {current or '-'}  {plural(len(found), 'reader')}, {behind} behind"
    )
    rows = [
        (
            call.screen.sign("warn" if one.is_behind else "good"),
            one.identity,
            one.address,
            one.version or "unknown",
            str(one.count),
            at(one.first),
            at(one.last),
            one.why if _may_read(one, entry) is not False else f"{one.why} (not declared)".strip(),
        )
        for one in found
    ]
    head = ("", "identity", "address", "last version", "reads", "first", "last", "")
    call.print(table(call.screen, head, rows))


@command(_access, "login")
def login(
    ctx: typer.Context,
    login: Annotated[str, argument("LOGIN", "A login name on a target.")],
    *,
    moment: Annotated[
        str | None,
        option("--at", "TIME", "Who had it by then: 12h, 2026-01-31T12:00Z. Default: now."),
    ] = None,
) -> None:
    """Show who had a login at a time: the identities that had read its version by then.

    Examples:
        rotator access login app_1f0c
        rotator access login app_1f0c --at 2026-01-31T12:00Z
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        now = opened.clock.now()
        _, until = period(None, moment, now)
        found = [
            one for one in opened.reads.holders(login, until or now) if opened.sees(one.secret)
        ]
    call.data |= {"login": login, "holders": [_holder(one) for one in found]}
    if not found:
        call.print(f"{login}: no read of its versions is counted by then.")
        return
    rows = [
        (
            one.secret,
            one.version,
            one.identity,
            one.address,
            str(one.count),
            at(one.first),
            at(one.last),
        )
        for one in found
    ]
    head = ("secret", "version", "identity", "address", "reads", "first", "last")
    call.print(table(call.screen, head, rows))


@command(_access, "check")
def check(
    ctx: typer.Context,
    names: Names = None,
    *,
    tags: Tags = None,
    excepted: Annotated[
        list[str] | None,
        option(
            "--except",
            "IDENTITY",
            "Leave this identity out, such as an administrator's: its name, the last part of it, or a"
            " pattern with `*`. May be repeated.",
        ),
    ] = None,
) -> None:
    """Compare the rights that backends really give with the declared readers.

    Reads the policies of everybody who can log in, and changes nothing. It lists who may read, write or
    delete a secret without being declared, who is declared and may not read it, and rights that reach
    beyond secrets or never expire. `rotator policy BACKEND --for access-check` prints the rights that this
    needs.

    Exit codes: 0 rights are as declared, 1 something differs, 3 something could not be checked.

    Examples:
        rotator access check
        rotator access check app-db
        rotator access check --tag prod --except 'ldap-*' --json
    """
    call: Invocation = ctx.obj
    from rotator.access.declared_rights import problems  # noqa: PLC0415 # only here

    found: dict[str, Rights] = {}
    unseen: list[Unseen] = []
    with call.open_app() as opened:
        chosen = opened.names(only=names or (), tags=tags or (), everything=not (names or tags))
        secrets = [opened.settings.secrets[name] for name in chosen]
        for backend in opened.settings.backends:
            kept = [one.name for one in secrets if one.paths(backend)]
            if not kept:
                continue
            try:
                rights = opened.rights(backend, kept)
            except RotatorError as error:
                call.fail(error)
                continue
            if rights is None:
                what = f"backend {backend}: it shows no rights"
                rights = Rights(
                    unseen=(Unseen(what=what, remedy="Look at it with its own tools."),)
                )
            found[backend] = rights
            unseen += rights.unseen
        for one in secrets:
            if one.kept_by_target:
                what = f"{one.name}: its target keeps it"
                unseen.append(Unseen(what=what, remedy="Look at the rights on the target."))
    differing = problems(secrets, found, excepted or ())
    call.data |= {
        "secrets": len(secrets),
        "backends": {name: len(one.identities) for name, one in found.items()},
        "problems": [_problem(one) for one in differing],
        "not_checked": [{"what": one.what, "remedy": one.remedy} for one in unseen],
        "notes": sorted({note for one in found.values() for note in one.notes}),
    }
    _show_rights(call, differing, unseen)
    if differing:
        call.add_code(exit_codes.FAILED)
    elif unseen:
        call.add_code(exit_codes.STUCK)


def _show_rights(call: Invocation, differing: list[Problem], unseen: list[Unseen]) -> None:
    for one in differing:
        named = ", ".join(one.secrets[:_NAMED])
        if len(one.secrets) > _NAMED:
            named += f" and {len(one.secrets) - _NAMED} more"
        what = one.what.replace("{secrets}", named)
        place = f" ({one.place})" if one.place else ""
        call.print(Text.assemble(call.screen.sign("bad"), f" {one.identity} {what}{place}."))
        call.print(indented(Text.assemble(("Next: ", "bold"), one.remedy)))
    for one in unseen:
        call.print(Text.assemble(call.screen.sign("warn"), f" Not checked: {one.what}."))
        call.print(indented(Text.assemble(("Next: ", "bold"), one.remedy)))
    for note in cast("list[str]", call.data["notes"]):
        call.print(Text(note, style=QUIET))
    if not differing:
        call.print(
            "What could be checked is as declared." if unseen else "The rights are as declared."
        )


def _listen(work: Ingest, name: str) -> Taken:
    with Signals() as signals:
        return work.socket(name, should_stop=lambda: signals.is_leaving)


def _line(taken: Taken) -> str:
    parts = [
        f"{taken.name}: {plural(taken.lines, 'new line')}",
        f"{plural(taken.reads, 'read')} of {plural(len(taken.secrets), 'secret')}",
    ]
    if taken.before:
        parts.append(f"{plural(taken.before, 'line')} counted before")
    if taken.bad:
        parts.append(f"{plural(taken.bad, 'line')} not understood")
    if taken.is_torn:
        parts.append("the last line is not complete yet")
    return ", ".join(parts)


def _leaking(taken: Taken) -> LeakingLog:
    return LeakingLog(
        f"{_LEAKING}: {plural(taken.leaks, 'line')} of {taken.name} with values or tokens in plain text,"
        f" the first is line {taken.first_leak}.",
        safety="rotator kept none of them. Every reader of the log can log in with them.",
        hint="Turn off log_raw and audit_non_hmac_response_keys, remove the log from where it was shipped"
        " to, and replace what leaked: rotator docs leaked-password",
    )


def _taken(taken: Taken) -> dict[str, Any]:
    return {
        "log": taken.name,
        "lines": taken.lines,
        "reads": taken.reads,
        "secrets": sorted(taken.secrets),
        "counted_before": taken.before,
        "not_understood": taken.bad,
        "torn": taken.is_torn,
        "leaks": taken.leaks,
        "first_leak": taken.first_leak or None,
    }


def _problem(one: Problem) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "backend": one.backend,
        "identity": one.identity,
        "secrets": list(one.secrets),
        "what": one.what.replace("{secrets}", ", ".join(one.secrets)),
        "remedy": one.remedy,
        "place": one.place or None,
        "policy": one.policy or None,
        "rule": one.rule or None,
        "may": list(one.verbs),
    }


def _may_read(one: Reader, entry: SecretSettings | None) -> bool | None:
    """Return whether the configuration declares a reader; None where it declares none at all."""
    if entry is None or not (entry.consumers or entry.readers):
        return None
    return is_declared(one.identity, entry.consumers, entry.readers)


def _reader(one: Reader, entry: SecretSettings | None) -> dict[str, Any]:
    return {
        "identity": one.identity,
        "address": one.address,
        "version": one.version or None,
        "reads": one.count,
        "first": one.first.isoformat(),
        "last": one.last.isoformat(),
        "behind": one.is_behind,
        "why": one.why or None,
        "declared": _may_read(one, entry),
    }


def _holder(one: Holder) -> dict[str, Any]:
    return {
        "secret": one.secret,
        "version": one.version,
        "identity": one.identity,
        "address": one.address,
        "reads": one.count,
        "first": one.first.isoformat(),
        "last": one.last.isoformat(),
    }
