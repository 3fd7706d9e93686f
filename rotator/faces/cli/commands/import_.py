"""import: write entries for secrets that a backend already holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator import plugins
from rotator.core import durations
from rotator.core.errors import Denied, RotatorError, UsageError
from rotator.faces import answers
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.config_entries import options_for
from rotator.faces.cli.config_entries import write as write_entries
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Backend, argument, option

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.core.contracts.plugin import PluginInfo
    from rotator.core.model import Credential, Version

    Entry = dict[str, object]

app = typer.Typer()

_UNCHANGED: Final = "Nothing was changed."
# It needs only the login.
_STRATEGY: Final = "single-user"
# The target's fields in AWS's secret JSON. The options of targets have the same names.
_ABOUT: Final = ("host", "port", "dbname")


@command(app, "import", Panel.CREDENTIALS)
def import_(
    ctx: typer.Context,
    backend: Backend,
    paths: Annotated[list[str], argument("PATH...", "Paths in the backend.")],
    *,
    name: Annotated[
        str | None, option("--name", "NAME", "Name of the secret; for a single path.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the entries into the configuration.")
    ] = False,
) -> None:
    """Read secrets from a backend, and print configuration entries for them.

    With --write the entries are written into the configuration. The target and the backend are not
    changed, and no value is shown. Take the secrets over with `rotator adopt`.

    Examples:
        rotator import aws prod/shop
        rotator import vault apps/shop --name shop
        rotator import vault apps/shop apps/search --write
    """
    call: Invocation = ctx.obj
    if name is not None and len(paths) > 1:
        raise UsageError(
            "--name applies to a single path.",
            hint="Import the paths one by one, or omit --name.",
            safety=_UNCHANGED,
        )
    targets: dict[str, Entry] = {}
    secrets: dict[str, Entry] = {}
    listed: list[answers.Data] = []
    with call.open_app() as app:
        for path in dict.fromkeys(paths):
            try:
                found = _read(app, backend, path)
            except Denied as error:
                error.hint = f"{error.hint} Get a policy that includes the path: rotator policy {backend} --also {path}".strip()
                _ = call.fail(error)
                continue
            except RotatorError as error:
                _ = call.fail(error)
                continue
            called = name or _name(path, {*app.settings.secrets, *secrets})
            target = _target(app, found.credential, backend, targets)
            secrets[called] = {
                "target": target,
                "backend": backend,
                "path": path,
                "strategy": _STRATEGY,
            }
            login = found.credential.username
            if options := _options(app, targets, target, login):
                secrets[called]["options"] = options
            listed.append({"name": called, "path": path, "login": login, "version": found.id})
        policy = app.settings.default_policy
    sections = ({"targets": targets} if targets else {}) | {"secrets": secrets}
    every = durations.write(policy.every) if policy.every else None
    call.data |= {"secrets": listed, "entry": sections, "every": every, "written": False}
    call.data |= (
        {key: one for key, one in listed[0].items() if key != "path"} if len(listed) == 1 else {}
    )
    if not secrets:
        return
    if write:
        write_entries(call, call.config, sections)
        call.data["written"] = True
    if not call.as_json:
        call.write(_told(call, backend, listed, sections, every, written=write))


def _told(
    call: Invocation,
    backend: str,
    listed: list[answers.Data],
    sections: dict[str, dict[str, Entry]],
    every: str | None,
    *,
    written: bool,
) -> str:
    """Return the entries to add as YAML, with the next steps as comments."""
    from rotator.config.parsing import dumped  # noqa: PLC0415

    logins = "".join(
        f"# {one['path']}: login {one['login']}, version {one['version']} in {backend}.\n"
        for one in listed
    )
    entries = "" if written else f"# Add to {call.config}:\n{dumped(sections)}"
    when = (
        f"Once adopted they are rotated every {every}, first {every} after the adoption."
        if every
        else "They are rotated on demand only, because policy `default` has no period."
    )
    names = " ".join(str(one["name"]) for one in listed)
    return (
        f"{logins}{entries}# {when}\n"
        "# single-user needs nothing else, but for a moment neither password is valid. Strategies\n"
        "# without that gap: rotator plugins NAME\n"
        f"# Next: rotator check && rotator doctor {names} && rotator adopt {names}\n"
    )


def _read(app: App, backend: str, path: str) -> Version:
    known = [one.name for one in app.settings.secrets.values() if path in one.paths(backend)]
    if known:
        raise UsageError(
            f"{path!r} in backend {backend!r} is already configured as {known[0]}.",
            hint=f"Take it over: rotator adopt {known[0]}",
            safety=_UNCHANGED,
        )
    found = app.backend(backend).current(path)
    if found is None:
        raise UsageError(f"backend {backend!r} holds nothing at {path!r}.", safety=_UNCHANGED)
    return found


def _name(path: str, taken: set[str]) -> str:
    """Return a name for a path: its last part, or all of it if that name is taken."""
    last = _plain(path.rpartition("/")[2])
    return last if last not in taken else _plain(path)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")


def _target(app: App, credential: Credential, backend: str, added: dict[str, Entry]) -> str:
    """Return the target of a secret: a configured one, or a new one that is put into `added`."""
    fields = credential.fields
    engine = str(fields.get("engine") or "")
    plugin = _plugin(engine) if engine else None
    about = {key: fields[key] for key in _ABOUT if key in fields}
    if isinstance(port := about.get("port"), str) and port.isdecimal():
        about["port"] = int(port)
    for one in app.settings.targets.values():
        same = all(getattr(one.options, key, None) == about.get(key) for key in ("host", "port"))
        if (plugin is None or one.plugin == plugin.name) and (same or not about):
            return one.name
    master = fields.get("masterarn")
    admin = f"{backend}:{master}" if master else {"username": "?", "password": "env:ADMIN_PASSWORD"}
    host = re.sub(r"[^A-Za-z0-9_-]+", "-", str(about.get("host") or "main")).strip("-")
    entry: Entry = {"plugin": plugin.name if plugin else "?", **about, "admin": admin}
    for called in (host, f"{host}-{about.get('port', len(added))}"):
        if called not in app.settings.targets and added.setdefault(called, entry) == entry:
            return called
    called = f"{host}-{len(added)}"
    added[called] = entry
    return called


def _options(app: App, added: dict[str, Entry], target: str, login: str) -> Entry:
    known = app.settings.targets.get(target)
    try:
        plugin = plugins.rotation_plugin(known.plugin if known else str(added[target]["plugin"]))
    except UsageError:
        return {"username": login}
    return options_for(plugin.info, _STRATEGY, login)


def _plugin(engine: str) -> PluginInfo | None:
    try:
        found = plugins.rotation_plugin_for(engine)
    except UsageError:
        return None  # its driver is not installed
    return found.info if found is not None else None
