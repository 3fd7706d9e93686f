"""Writes the least access policy for a backend. Nothing is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator import plugins
from rotator.config import load
from rotator.core.contracts.backend import Access, WritesPolicy
from rotator.core.contracts.plugin import WorksThrough
from rotator.core.errors import UsageError
from rotator.core.leases import kept_at
from rotator.references import parse, secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rotator.config import Settings
    from rotator.config.model import SecretSettings
    from rotator.core.contracts.backend import Right
    from rotator.core.contracts.plugin import Target
    from rotator.core.model import Credential


def policy(
    config: Path,
    backend: str,
    names: Sequence[str],
    *,
    of: str,
    also: Sequence[str] = (),
    following: bool = False,
) -> str:
    """Return the least policy for a backend, in its own language. Nothing is connected to.

    It covers the secrets in `names`, or all of them, and for rotator also what it reads and keeps
    there itself. `also`: further paths, of secrets that are not configured yet. `following`: a
    consumer also reads the next version, which `prepare` shows it. Raises `UsageError` where the backend
    has no such policy.
    """
    settings = load(config)
    chosen = settings.backends.get(backend)
    if chosen is None:
        raise UsageError(
            f"no backend is called {backend!r} in {settings.file}.",
            hint=plugins.near(backend, settings.backends),
        )
    plugin = plugins.backend_plugin(chosen.type)
    if not isinstance(plugin, WritesPolicy):
        raise UsageError(
            f"backend {backend!r} has no policies: anyone who can read its file and key can read all of it.",
            hint="Look at the owner and mode of its files.",
        )
    wanted = [settings.secret(name) for name in names] or settings.secrets.values()
    rotated = [path for secret in wanted for path in secret.paths(backend)]
    rotated += [path for path in also if path not in rotated]
    if of not in plugin.policies:
        raise UsageError(
            f"backend {backend!r} has no policy for {of!r}.",
            hint=f"One of: {', '.join(plugin.policies)}.",
        )
    if following and of != "consumer":
        raise UsageError("`--next` is for the policy of a consumer.", hint="Add: --for consumer")
    called = _rights(settings, backend, wanted, of)
    if of == "consumer":
        following_of = tuple(rotated) if following else ()
        access = Access(rotated=tuple(rotated), called=called, next=following_of)
        return plugin.policy(chosen.options, access, of=of)
    rotated += [kept_at(one.path) for one in wanted if one.leases and one.backend == backend]
    entries = [target.admin for target in settings.targets.values() if target.admin is not None]
    admins = [_of_secret(settings, admin.reference) for admin in entries]
    read = [settings.journal.password, *admins, *(admin.password for admin in entries)]
    access = Access(
        rotated=tuple(rotated),
        kept=tuple(_paths_in(backend, [settings.journal.signing_key])),
        # What is rotated may be read anyway.
        read=tuple(path for path in _paths_in(backend, read) if path not in rotated),
        called=called,
        admins=tuple(path for path in _paths_in(backend, admins) if path not in rotated),
    )
    return plugin.policy(chosen.options, access, of=of)


def _of_secret(settings: Settings, reference: str | None) -> str | None:
    """Return a reference to the place of a secret that is named; any other as it is."""
    name = secret_name(reference or "")
    if name is None:
        return reference
    secret = settings.secret(name)
    return f"{secret.backend}:{secret.path}"


def _rights(
    settings: Settings, backend: str, secrets: Iterable[SecretSettings], of: str
) -> tuple[Right, ...]:
    """Return the rights that targets need which work through this backend's login."""
    rights: list[Right] = []
    targets: dict[str, Target] = {}
    for secret in secrets:
        entry = settings.targets[secret.target]
        if not secret.kept_by_target:
            continue
        if secret.target not in targets:
            plugin = plugins.rotation_plugin(entry.plugin)
            targets[secret.target] = plugin.target(secret.target, entry.options, _no_admin)
        target = targets[secret.target]
        if isinstance(target, WorksThrough) and target.through == backend:
            rights += target.rights(secret.strategy, secret.path, secret.options, of=of)
    return tuple(rights)


def _no_admin() -> Credential:
    raise UsageError("a policy is only written: nothing is connected to.")


def _paths_in(backend: str, texts: Iterable[str | None]) -> list[str]:
    """Return the paths in this backend that references name, each once."""
    references = [parse(text) for text in texts if text]
    return list(dict.fromkeys(one.path for one in references if one.scheme == backend))
