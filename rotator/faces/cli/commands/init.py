"""init: write a first configuration, or add a tested target to one."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from rotator.config import load, target_url
from rotator.core.contracts.backend import KeepsValues
from rotator.core.contracts.plugin import WritesGrants
from rotator.core.errors import RotatorError, UsageError
from rotator.core.model import Credential
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.config_entries import completed, write
from rotator.faces.cli.invocation import DEFAULT_CONFIG, Invocation
from rotator.faces.cli.options import argument, complete_backends, option
from rotator.faces.cli.passwords import PROMPT, STDIN, ask_password
from rotator.faces.cli.render import json_output, messages
from rotator.references import parse

if TYPE_CHECKING:
    from collections.abc import Generator

    from rotator.bootstrap import App
    from rotator.config import Settings
    from rotator.config.target_url import TargetUrl
    from rotator.core.model import Finding
    from rotator.core.secret import Secret

    Entry = dict[str, object]

app = typer.Typer()

_MAIN: Final = "main"
_EMBEDDED: Final = "local"
# Superusers, which rotator does not need to be.
_OWNERS: Final = ("postgres", "root", "default")
_ADMIN: Final = "rotator_admin"
# The files that `initialise` writes next to the configuration; SQLite adds suffixes.
_MADE: Final = ("rotator.key", "rotator.db", "rotator-secrets.db")
_FIELD: Final = "password"
# The option of a secret for the database of its login.
_DATABASE: Final = "login_dbname"
_GRANTS: Final = "Minimum rights of an admin, to be granted by an administrator of the server:"
_REACHED: Final = "Check the host, the port, and whether such a server is running there."
_UNCHANGED: Final = "Nothing was written."


class _NotUsable(RotatorError):
    """A new target, or its first secret, cannot be rotated."""

    kind = "not-usable"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The place of the admin's password. `backend` and `path` are set if it must be stored there."""

    backend: str | None
    path: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A target to add to a configuration, with a first secret if `secret` is set."""

    url: TargetUrl
    name: str
    source: str
    secret: str | None
    login: str | None
    strategy: str | None
    backend: str | None


@command(app, "init", Panel.PREPARE)
def init(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, argument("FOLDER", "Folder for the files. Default: the current one.")
    ] = None,
    *,
    target: Annotated[
        str | None,
        option(
            "--target",
            "URL",
            "Server and login of the admin, without a password: postgresql://ADMIN@HOST:PORT/DATABASE, mysql://, mariadb://, valkey://, redis://. Options of the target follow a question mark: ?sslmode=require.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the target.")
    ] = _MAIN,
    password_from: Annotated[
        str | None,
        typer.Option(
            "--password-from",
            metavar="REFERENCE",
            show_default=False,
            help="Source of the admin's password: env:NAME, file:PATH, BACKEND:PATH#FIELD,"
            " - (standard input) or prompt. Default: prompt.",
        ),
    ] = None,
    secret: Annotated[
        str | None, option("--secret", "NAME", "Also write an entry for a first secret.")
    ] = None,
    username: Annotated[
        str | None,
        option("--username", "LOGIN", "Login of that secret. Default: the name of the secret."),
    ] = None,
    strategy: Annotated[
        str | None, option("--strategy", "STRATEGY", "Rotation strategy of that secret.")
    ] = None,
    backend: Annotated[
        str | None,
        option("--backend", "BACKEND", "Backend that stores that secret.", complete_backends),
    ] = None,
) -> None:
    """Write a commented rotator.yaml, the key of the embedded backend and a signing key.

    With --target, rotator connects as the admin, runs the checks of `rotator doctor`, prints the
    minimum rights of an admin, and adds the target to rotator.yaml. It stores the admin's password in
    the embedded backend. If a check fails, nothing is written.

    Examples:
        rotator init
        rotator init --target postgresql://rotator_admin@db.example.org/shop
        rotator init --target mysql://root@127.0.0.1 --secret shop --username shop
        rotator init --target valkey://admin@cache --password-from env:ADMIN --name cache
    """
    call: Invocation = ctx.obj
    if folder is not None and call.shared.config is not None:
        raise UsageError("FOLDER and --config cannot be combined.", safety=_UNCHANGED)
    config = call.config if folder is None else folder / DEFAULT_CONFIG
    if target is None:
        if {password_from, secret, username, strategy, backend} != {None}:
            raise UsageError(
                "--password-from, --secret, --username, --strategy and --backend need --target.",
                hint="Add a secret to a configuration: rotator add NAME",
                safety=_UNCHANGED,
            )
        _write_example(call, config)
        return

    url = target_url.parse(target)
    if secret is None and {username, strategy, backend} != {None}:
        raise UsageError("--username, --strategy and --backend need --secret.", safety=_UNCHANGED)
    asks = password_from is None and sys.stdin.isatty() and not call.as_json
    if secret is None and asks:
        secret = input("First secret, by name (Enter for none): ").strip() or None
        if secret is not None:
            username = input(f"Its login [{secret}]: ").strip() or secret
    wanted = _Wanted(
        url=url,
        name=name,
        source=password_from or PROMPT,
        secret=secret,
        login=username or secret,
        strategy=strategy,
        backend=backend,
    )
    _add_target(call, config, wanted)


def _write_example(call: Invocation, config: Path) -> None:
    from rotator.bootstrap import initialise  # noqa: PLC0415
    from rotator.config.template import commented_example  # noqa: PLC0415

    before = _files(config.parent)
    initialise(config, commented_example())
    _report_files(call, config, before)
    call.print("", f"Edit {config}: add a target and a secret. Then:")
    call.print("  rotator check    # validate the configuration")
    call.print("  rotator doctor   # check the systems it names")
    call.print("  rotator plan     # preview a rotation")


def _report_files(call: Invocation, config: Path, before: set[Path]) -> None:
    written = sorted(str(one) for one in _files(config.parent) - before)
    folder = str(config.parent.resolve())
    call.data |= {"folder": folder, "config": str(config), "files": written}
    call.print(*(f"written: {one}" for one in written))


def _add_target(call: Invocation, config: Path, wanted: _Wanted) -> None:
    from rotator.bootstrap import App  # noqa: PLC0415
    from rotator.config.editing import preview  # noqa: PLC0415

    before = _files(config.parent)
    with _first_files(config):
        settings = load(config)
        if wanted.name in settings.targets:
            raise UsageError(
                f"the target `{wanted.name}` already exists.",
                hint="Choose another name: --name NAME",
                safety=_UNCHANGED,
            )
        place = _place(settings, wanted)
        question = f"Password of {wanted.url.username}: "
        with App(settings) as app:
            password = ask_password(wanted.source, app.resolve, question)
        admins = {wanted.name: Credential(username=wanted.url.username, password=password)}
        sections = _sections(config, wanted, place)
        added = preview(config, sections, load)
        grants = _grants(added, wanted)
        call.data |= {"target": wanted.name, "grants": grants, "next": _next(wanted)}
        with App(added, admins=admins) as app:
            found = app.examine_new(wanted.name, wanted.secret)
            call.data["findings"] = json_output.of_findings(found)
            bad = [one for one in found if one.severity.value == "error"]
            call.print(*messages.of_findings(call.screen, (one for one in found if one not in bad)))
            if grants:
                call.print("", _GRANTS, *(f"  {line}" for line in grants), "")
            for one in bad[:-1]:
                _ = call.fail(_not_usable(one))
            if bad:
                raise _not_usable(bad[-1])
            _keep(app, place, password)
            write(call, config, sections)
    _report_files(call, config, before)
    if place.backend is not None:
        call.print(f"The admin's password is stored in backend {place.backend}, not in {config}.")
    call.print(f"Next: {_next(wanted)}")


def _not_usable(one: Finding) -> _NotUsable:
    return _NotUsable(
        f"{one.subject}: {one.message.removesuffix('.')}.",
        hint=one.remedy or _REACHED,
        safety=_UNCHANGED,
    )


def _grants(settings: Settings, wanted: _Wanted) -> tuple[str, ...]:
    url = wanted.url
    admin = _ADMIN if url.username in _OWNERS else url.username
    if not isinstance(url.plugin, WritesGrants):
        return ()
    options = settings.targets[wanted.name].options
    return url.plugin.grants(options, engine=url.engine, admin=admin, login=wanted.login)


def _next(wanted: _Wanted) -> str:
    if wanted.secret is None:
        return f"rotator add NAME --target {wanted.name}"
    login = quote(wanted.login or wanted.secret)
    adopt = f"rotator adopt {wanted.secret} --username {login} --password-from prompt"
    return f"{adopt} && rotator rotate {wanted.secret}"


def _place(settings: Settings, wanted: _Wanted) -> _Place:
    """Return the place of the admin's password. A reference into a backend is used unchanged."""
    scheme = "" if wanted.source in (PROMPT, STDIN) else parse(wanted.source).scheme
    if scheme in settings.backends:
        return _Place(backend=None, path="", reference=wanted.source)
    embedded = (one.name for one in settings.backends.values() if one.type == _EMBEDDED)
    backend = next(embedded, None)
    if backend is not None:
        path = f"admin/{wanted.name}"
        return _Place(backend=backend, path=path, reference=f"{backend}:{path}#{_FIELD}")
    if scheme:
        return _Place(backend=None, path="", reference=wanted.source)
    raise UsageError(
        "the configuration has no embedded backend for the admin's password.",
        hint="Give its source: --password-from env:NAME, file:PATH or BACKEND:PATH#FIELD.",
        safety=_UNCHANGED,
    )


def _sections(config: Path, wanted: _Wanted, place: _Place) -> dict[str, dict[str, Entry]]:
    """Return the entries of the target and of its first secret."""
    from rotator.config.editing import preview  # noqa: PLC0415

    url = wanted.url
    admin: Entry = {"username": url.username, "password": place.reference}
    target: Entry = {"plugin": url.plugin.info.name, **url.options, "admin": admin}
    sections = {"targets": {wanted.name: target}}
    if wanted.secret is None:
        return sections
    entry: Entry = {"target": wanted.name}
    entry |= {"backend": wanted.backend} if wanted.backend else {}
    entry |= {"strategy": wanted.strategy} if wanted.strategy else {}
    entry = completed(preview(config, sections, load), wanted.secret, entry, wanted.login)
    options = url.plugin.info.secret_options
    if url.database is not None and _DATABASE in (one.name for one in dataclasses.fields(options)):
        entry["options"] = {**cast("Entry", entry.get("options", {})), _DATABASE: url.database}
    return {**sections, "secrets": {wanted.secret: entry}}


def _keep(app: App, place: _Place, password: Secret) -> None:
    """Store the admin's password if it is not stored yet. Nothing is overwritten."""
    if place.backend is None:
        return
    backend = app.backend(place.backend)
    if not isinstance(backend, KeepsValues):
        raise UsageError(
            f"backend {place.backend!r} cannot store single values.", safety=_UNCHANGED
        )
    kept = backend.get_value(place.path, _FIELD)
    if kept is None:
        backend.put_value(place.path, _FIELD, password)
    elif kept != password:
        raise UsageError(
            f"backend {place.backend!r} already holds another password at {place.path!r}.",
            hint=f"Use it: --password-from {place.reference}. Or choose another name: --name NAME",
            safety=_UNCHANGED,
        )


@contextmanager
def _first_files(config: Path) -> Generator[None]:
    """Write a first configuration if there is none; remove it if the target is not added."""
    if config.exists():
        yield
        return
    from rotator.bootstrap import initialise  # noqa: PLC0415
    from rotator.config.template import commented_example  # noqa: PLC0415

    folder, is_new = config.parent, not config.parent.exists()
    before = _files(folder)
    try:
        initialise(config, commented_example(target=False))
        yield
    except BaseException:
        for one in _files(folder) - before:
            if one.name.startswith((config.name, *_MADE)):
                one.unlink(missing_ok=True)
        if is_new and folder.is_dir() and not _files(folder):
            folder.rmdir()
        raise


def _files(folder: Path) -> set[Path]:
    return set(folder.iterdir()) if folder.is_dir() else set()
