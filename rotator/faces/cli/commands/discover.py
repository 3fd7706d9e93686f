"""discover: list the logins of a target, and propose entries for those that nobody manages."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from rotator.core.errors import UsageError
from rotator.faces import answers
from rotator.faces.cli.adoption_csv import TO_FILL_IN
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.config_entries import completed
from rotator.faces.cli.config_entries import write as write_entries
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, complete_backends, complete_targets, option
from rotator.faces.cli.render.console import table
from rotator.faces.wording import plural, relative
from rotator.references import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from rotator.bootstrap import App
    from rotator.bootstrap.discovery import DiscoveredLogin

    Entry = dict[str, object]

app = typer.Typer()

_STATES: Final = {"managed": "good", "orphan": "bad", "configured": "warn", "unmanaged": "warn"}
# In a pattern for references, and the logins that may take its place.
_LOGIN: Final = "{login}"
_PLAIN: Final = re.compile(r"[\w@-][\w.@-]*")
_PROPOSED: Final = "unmanaged"
_ORPHAN: Final = "orphan"


@command(app, "discover", Panel.PREPARE)
def discover(
    ctx: typer.Context,
    target: Annotated[str, argument("TARGET", "Target to list the logins of.", complete_targets)],
    *,
    backend: Annotated[
        str | None,
        option("--backend", "BACKEND", "Backend of the proposed secrets.", complete_backends),
    ] = None,
    strategy: Annotated[
        str | None, option("--strategy", "STRATEGY", "Strategy of the proposed secrets.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the proposed entries into the configuration.")
    ] = False,
    csv_file: Annotated[
        Path | None,
        option(
            "--csv",
            "FILE",
            "Write a new CSV file of the proposed secrets for `adopt --from`.",
        ),
    ] = None,
    password_from: Annotated[
        str | None,
        option(
            "--password-from",
            "REFERENCE",
            "With --csv: where the passwords are, with {login} for the login. env:{login} is in upper case.",
        ),
    ] = None,
) -> None:
    """List the logins of a target: which are managed, which are orphans, and which nobody manages.

    Shows the age of each password and its last use where the server knows them, open sessions, and rights that
    reach beyond the login's own data. Prints configuration entries for logins that nobody manages. A login that
    bears rotator's mark and that the journal does not know is an orphan. The target is not changed; the journal
    records the names for `rotator report`.

    Examples:
        rotator discover main
        rotator discover main --strategy single-user --write
        rotator discover main --write --csv logins.csv --password-from file:/run/secrets/{login}
        rotator adopt --from logins.csv
    """
    call: Invocation = ctx.obj
    if password_from is not None:
        _require_pattern(password_from, csv_file)
    if csv_file is not None and csv_file.exists():
        raise UsageError(
            f"{csv_file} exists already.",
            hint="Name a new file, or remove that one.",
            safety="Nothing was changed.",
        )
    with call.open_app() as opened:
        logins = opened.discover(target)
        known: Entry = {"target": target}
        if backend is not None:
            known["backend"] = backend
        if strategy is not None:
            known["strategy"] = strategy
        proposals = _proposals(opened, logins, known)
        now = opened.clock.now()
    entries = {name: entry for name, (_, entry) in proposals.items()}
    call.data |= {
        "target": target,
        "logins": [_data(login) for login in logins],
        "entry": {"secrets": entries} if entries else {},
        "written": bool(write and entries),
        "csv": str(csv_file) if csv_file is not None and entries else None,
    }
    call.print(_table(call, logins, now))
    for login in logins:
        if login.hint:
            call.print("", f"orphan {_shown(login)}: {login.hint}")
    if entries:
        _propose(call, target, entries, write=write, is_next=csv_file is None)
        if csv_file is not None:
            empty = _write_csv(csv_file, proposals, password_from)
            fill = (
                f"{empty} without a password: fill in the column password_from. " if empty else ""
            )
            call.print(f"written: {csv_file}. {fill}Next: rotator adopt --from {csv_file}")
    else:
        call.print("", "No login is left to propose an entry for.")


def _propose(
    call: Invocation,
    target: str,
    entries: dict[str, Entry],
    *,
    write: bool,
    is_next: bool,
) -> None:
    """Print the proposed entries, or write them where the operator asks for it."""
    from rotator.config.parsing import dumped  # noqa: PLC0415 # only with proposals

    call.print("")
    if write:
        write_entries(call, call.config, {"secrets": entries})
    elif not call.as_json:
        count = plural(len(entries), "login")
        call.write(
            f"# {count} of {target} without an entry. Add to {call.config}, or use --write:\n"
            f"{dumped({'secrets': entries})}"
        )
    if is_next:
        names = " ".join(entries)
        call.print(f"Next: rotator doctor {names} && rotator adopt {names}")


def _proposals(
    opened: App, logins: Iterable[DiscoveredLogin], known: Entry
) -> dict[str, tuple[str, Entry]]:
    """Return the login and the entry of each proposed secret, by its name."""
    proposals: dict[str, tuple[str, Entry]] = {}
    proposed: set[str] = set()
    for login in logins:
        name = login.found.login
        if not _is_proposed(login) or name in proposed:
            continue
        proposed.add(name)
        taken = {*opened.settings.secrets, *proposals}
        secret = _name(name, str(known["target"]), taken)
        proposals[secret] = name, completed(opened.settings, secret, dict(known), name)
    return proposals


def _is_proposed(login: DiscoveredLogin) -> bool:
    """Return whether an application may use it: no superuser, and a password to rotate."""
    found = login.found
    return (
        login.state == _PROPOSED
        and found.can_login
        and found.has_password
        and not found.is_superuser
    )


def _name(login: str, target: str, taken: set[str]) -> str:
    """Return a free name for the secret of a login."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", login).strip("-.") or "login"
    names = [plain, f"{target}-{plain}"]
    names += [f"{target}-{plain}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def _require_pattern(pattern: str, csv_file: Path | None) -> None:
    if csv_file is None:
        raise UsageError("--password-from applies to --csv.", hint="Add --csv FILE.")
    if _LOGIN not in pattern:
        raise UsageError(
            f"--password-from needs {_LOGIN}: each login has its own password.",
            hint=f"Example: --password-from file:/run/secrets/{_LOGIN}",
        )
    _ = parse(pattern.replace(_LOGIN, "login"))


def _write_csv(file: Path, proposals: Mapping[str, tuple[str, Entry]], pattern: str | None) -> int:
    """Write one row for each secret; return how many have no reference to a password."""
    rows = [(name, login, _reference(pattern, login)) for name, (login, _) in proposals.items()]
    with file.open("x", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TO_FILL_IN)
        writer.writerows(rows)
    return sum(not reference for *_, reference in rows)


def _reference(pattern: str | None, login: str) -> str:
    """Return where the password of a login is; empty where its name fits into no path."""
    if pattern is None or not _PLAIN.fullmatch(login):
        return ""
    if pattern.startswith("env:"):
        login = re.sub(r"\W", "_", login).upper()
    return pattern.replace(_LOGIN, login)


# -- output --------------------------------------------------------------------------------------


def _data(login: DiscoveredLogin) -> answers.Data:
    found = login.found
    return {
        "login": found.login,
        "host": found.host or None,
        "state": login.state.value,
        "secret": login.secret,
        "can_login": found.can_login,
        "has_password": found.has_password,
        "superuser": found.is_superuser,
        "rights": list(found.rights),
        "password_set": login.password_set,
        "password_expires": found.password_expires,
        "last_used": found.last_used,
        "sessions": found.sessions,
        "comment": found.comment or None,
        "proposed": _is_proposed(login),
        "hint": login.hint or None,
    }


def _table(call: Invocation, logins: Sequence[DiscoveredLogin], now: datetime) -> RenderableType:
    columns = ("", "login", "state", "password", "last used", "sessions", "rights")
    rows = [
        (
            call.screen.sign(_STATES.get(login.state.value, "good")),
            _shown(login),
            f"{login.state.value}: {login.secret}" if login.secret else login.state.value,
            _password(login, now),
            relative(login.found.last_used, now),
            "-" if login.found.sessions is None else str(login.found.sessions),
            _rights(login),
        )
        for login in logins
    ]
    return table(call.screen, columns, rows)


def _shown(login: DiscoveredLogin) -> str:
    found = login.found
    return f"{found.login}@{found.host}" if found.host else found.login


def _password(login: DiscoveredLogin, now: datetime) -> str:
    found = login.found
    if not found.can_login:
        return "cannot log in"
    if not found.has_password:
        return "none"
    age = f"set {relative(login.password_set, now)}" if login.password_set else "-"
    if found.password_expires is None:
        return age
    expires = relative(found.password_expires, now)
    return f"{age}, expire{'s' if found.password_expires > now else 'd'} {expires}"


def _rights(login: DiscoveredLogin) -> Text:
    found = login.found
    rights = ", ".join((*(("superuser",) if found.is_superuser else ()), *found.rights))
    return Text("; ".join(filter(None, (rights, found.comment))) or "-")
