"""import: what to write into the configuration for a secret that a backend holds already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Backend
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.bootstrap import App
    from rotator.core.model import Credential
    from rotator.core.ports import PluginInfo

_PANEL = "Credentials"
# What a secret says of its target, as AWS's JSON has it, and options of targets are called.
_ABOUT: Final = ("host", "port", "dbname")


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "import",
        panel=_PANEL,
        examples="""
        rotator import aws prod/shop
        rotator import vault apps/shop --name shop
        """,
    )(import_)


def import_(
    run: Run,
    backend: Backend,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where it lies in that backend.")],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", show_default=False, help="What to call it."),
    ] = None,
) -> None:
    """Read a secret that is there already, and print the entry to add for it.

    Nothing is written, on the target, in the backend or in the configuration; the value is not
    shown. `rotator adopt` then takes it over.
    """
    from rotator.config.parsing import dumped  # noqa: PLC0415
    from rotator.core import durations  # noqa: PLC0415

    with run.open_app() as app:
        known = [one.name for one in app.settings.secrets.values() if path in one.paths(backend)]
        if known:
            raise UsageError(
                f"{path!r} in backend {backend!r} is in the configuration already, as {known[0]}.",
                hint=f"Take it over as it stands: rotator adopt {known[0]}",
            )
        found = app.backend(backend).current(path)
        if found is None:
            raise UsageError(f"backend {backend!r} holds nothing at {path!r}.")
        called = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", path.rpartition("/")[2]).strip("-.")
        target, added = _target(app, found.credential, backend)
        entry = {
            "target": target,
            "backend": backend,
            "path": path,
            "strategy": "single-user",
            "options": {"username": found.credential.username},
        }
        policy = app.settings.default_policy
    document = ({"targets": {target: added}} if added else {}) | {"secrets": {called: entry}}
    every = durations.write(policy.every) if policy.every else None
    run.data |= {
        "name": called,
        "login": found.credential.username,
        "version": found.id,
        "entry": document,
        "every": every,
    }
    if run.as_json:
        return
    when = (
        f"Once it is adopted it is rotated every {every}, the first time {every} after that."
        if every
        else "It is rotated when somebody asks for it: policy `default` has no period."
    )
    run.write(
        f"# Login {found.credential.username}, version {found.id} in {backend}. Add to {run.config}:\n"
        f"{dumped(document)}"
        f"# {when}\n"
        "# single-user needs nothing else, and has a moment in which neither password works; other\n"
        "# strategies have none: rotator plugins NAME\n"
        f"# Next: rotator check && rotator doctor {called} && rotator adopt {called}\n"
    )


def _target(
    app: App, credential: Credential, backend: str
) -> tuple[str, Mapping[str, object] | None]:
    """Return the target that the secret speaks of: a configured one, or the entry of a new one."""
    fields = credential.fields
    engine = str(fields.get("engine") or "")
    plugin = _plugin(engine) if engine else None
    about = {key: fields[key] for key in _ABOUT if key in fields}
    if isinstance(port := about.get("port"), str) and port.isdecimal():
        about["port"] = int(port)
    for one in app.settings.targets.values():
        same = all(getattr(one.options, key, None) == about.get(key) for key in ("host", "port"))
        if (plugin is None or one.plugin == plugin.name) and (same or not about):
            return one.name, None
    master = fields.get("masterarn")
    admin = f"{backend}:{master}" if master else {"username": "?", "password": "env:ADMIN_PASSWORD"}
    called = re.sub(r"[^A-Za-z0-9_-]+", "-", str(about.get("host") or "main")).strip("-")
    return called, {"plugin": plugin.name if plugin else "?", **about, "admin": admin}


def _plugin(engine: str) -> PluginInfo | None:
    from rotator import plugins  # noqa: PLC0415

    try:
        found = plugins.rotation_plugin_for(engine)
    except UsageError:
        return None  # it is there, but its driver is not
    return found.info if found is not None else None
