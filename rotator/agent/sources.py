"""Opens the backend that an application host may read, and gives each secret a `Credential`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rotator import plugins, references
from rotator.agent.connection import known_fields, scheme_of
from rotator.agent.settings import AgentOptions, SecretOptions
from rotator.client import Credential, Login, SourceError
from rotator.client.daemon import Daemon, DaemonError
from rotator.config import agent_file
from rotator.config import load as load_settings
from rotator.core.contracts.backend import OffersNext
from rotator.core.errors import Denied, RotatorError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.config import BackendSettings, Settings
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.model import Credential as BackendCredential

_log = logging.getLogger("rotator.agent")
# Seconds of one long request to the daemon, and until the next one after an error.
_WAIT = 25.0
_AFTER_AN_ERROR = 5.0


class BackendSource:
    """Reads a secret by the same backend code, and the same authentication, as rotator itself."""

    def __init__(self, backend: SecretBackend, path: str, *, refresh: float) -> None:
        """`refresh` is in seconds."""
        self.refresh: float = refresh
        self._backend: SecretBackend = backend
        self._path: str = path

    def __repr__(self) -> str:
        return f"the secret at {self._path!r}"

    def read(self) -> Login:
        """Return the published version. Raises `SourceError`."""
        try:
            version = self._backend.current(self._path)
        except RotatorError as error:
            raise SourceError(f"{self!r} could not be read: {error.what}") from None
        if version is None:
            raise SourceError(f"{self!r} has no published version.")
        return _login(version.credential, version.id)

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none. Raises `SourceError`."""
        if not isinstance(self._backend, OffersNext):
            return None
        try:
            found = self._backend.next(self._path)
        except Denied:
            # Its policy does not include the next version.
            return None
        except RotatorError as error:
            raise SourceError(f"{self!r} could not be read: {error.what}") from None
        if found is None:
            return None
        return _login(found.credential, found.version, found.rotation_id)


class UsedVariables(Mapping[str, str]):
    """An environment that notes which variables were read, so that no child inherits a secret of ours."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Nothing was read yet."""
        self._environ: Mapping[str, str] = environ
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.used.add(name)
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """The secrets of this host, by name, and the daemon that hears of them."""

    options: AgentOptions
    credentials: Mapping[str, Credential]
    environ: UsedVariables
    base: Path
    daemon: Daemon | None = None
    sources: Mapping[str, BackendSource] = field(default_factory=dict[str, BackendSource])
    # Of `rotator.yaml`, which names the targets.
    settings: Settings | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    def resolve(self, reference: str) -> str:
        """Return what a reference names. Raises `UsageError`."""
        return _resolver(self.base, self.environ).secret(reference).reveal()

    def read(self, name: str) -> Login:
        """Return the value that the backend has now, past the cache. Raises `SourceError`."""
        return self.sources[name].read()

    def completed(self, name: str, login: Login) -> Login:
        """Return the login with what is known of its target beside its value."""
        if self.settings is None:
            return login
        return Login(
            username=login.username,
            password=login.password,
            version=login.version,
            fields=known_fields(self.settings, name, login),
        )

    def scheme(self, name: str) -> str | None:
        """Return how an address of the secret's target begins; None where that is not known."""
        return None if self.settings is None else scheme_of(self.settings, name)

    def follow_daemon(self) -> None:
        """Read a secret again as soon as the daemon announces another version, in a thread."""
        if self.daemon is not None:
            threading.Thread(target=self._follow, args=(self.daemon,), daemon=True).start()

    def close(self) -> None:
        """End the threads."""
        self.closed.set()
        for credential in self.credentials.values():
            credential.close()
        if self.daemon is not None:
            self.daemon.close()

    def _follow(self, daemon: Daemon) -> None:
        following: dict[str, str] = dict.fromkeys(self.credentials, "")
        while not self.closed.is_set():
            known = {name: _version(credential) for name, credential in self.credentials.items()}
            try:
                news = daemon.news(known, following, _WAIT)
            except DaemonError:
                _ = self.closed.wait(_AFTER_AN_ERROR)
                continue
            changed = [name for name, at in news.versions.items() if at != known[name]]
            following = {name: news.following.get(name, "") for name in known}
            for name in changed:
                try:
                    _ = self.credentials[name].refresh()
                except SourceError:
                    # Its own thread reads it again, and reports the error.
                    continue
            self._prepare(following)
            # A replica of the backend may lag behind the daemon.
            if any(_version(self.credentials[name]) == known[name] for name in changed):
                _ = self.closed.wait(1.0)

    def _prepare(self, following: Mapping[str, str]) -> None:
        """Keep the next versions that are announced in memory, for the socket alone."""
        for name, rotation in following.items():
            credential = self.credentials[name]
            kept = credential.following
            if not rotation:
                if kept is not None:
                    credential.forget_next()
            elif kept is None or kept.rotation != rotation:
                try:
                    _ = credential.read_next()
                except SourceError as error:
                    _log.warning("%s: the next version is not read yet: %s", name, error)


def _login(credential: BackendCredential, version: str, rotation: str | None = None) -> Login:
    return Login(
        username=credential.username,
        password=credential.password,
        version=version,
        fields=credential.fields,
        rotation=rotation,
    )


def open_agent(path: Path, names: Sequence[str] | None = None) -> Consumer:
    """Open the secrets of `agent.yaml`, or the named ones. Raises `ConfigError` and `UsageError`."""
    file = agent_file.load(path, AgentOptions)
    chosen = file.options.secrets
    for name in names or ():
        if name not in chosen:
            raise unknown_secret(name, chosen)
    if names is not None:
        chosen = {name: chosen[name] for name in names}
    environ = UsedVariables(os.environ)
    backend = _opened(file.backend, file.base, environ)
    refresh = file.options.refresh.total_seconds()
    daemon = None
    if (options := file.options.daemon) is not None:
        token = _resolver(file.base, environ).secret(options.token)
        try:
            daemon = Daemon(options.url, token=token, ca_file=options.ca_file)
        except ValueError as error:
            raise UsageError(f"daemon: {error}") from None
    sources = {
        name: BackendSource(backend, secret.path or name, refresh=refresh)
        for name, secret in chosen.items()
    }
    return Consumer(
        options=file.options,
        credentials={name: Credential(source) for name, source in sources.items()},
        sources=sources,
        environ=environ,
        base=file.base,
        daemon=daemon,
    )


def open_settings(path: Path, names: Sequence[str]) -> Consumer:
    """Open the named secrets of a `rotator.yaml`. Raises `ConfigError` and `UsageError`."""
    settings = load_settings(path)
    environ = UsedVariables(os.environ)
    options = AgentOptions()
    backends: dict[str, SecretBackend] = {}
    credentials: dict[str, Credential] = {}
    for name in names:
        secret = settings.secrets.get(name)
        if secret is None:
            raise unknown_secret(name, settings.secrets)
        if secret.kept_by_target:
            raise UsageError(f"the target of {name} keeps its password: it cannot be read here.")
        if secret.backend not in backends:
            chosen = settings.backends[secret.backend]
            backends[secret.backend] = _opened(chosen, settings.base, environ)
        source = BackendSource(
            backends[secret.backend], secret.path, refresh=options.refresh.total_seconds()
        )
        credentials[name] = Credential(source)
    declared = {name: SecretOptions() for name in names}
    return Consumer(
        options=AgentOptions(secrets=declared),
        credentials=credentials,
        environ=environ,
        base=settings.base,
        settings=settings,
    )


def unknown_secret(name: str, known: Mapping[str, object]) -> UsageError:
    """Return the error for a secret that the file does not name."""
    return UsageError(
        f"there is no secret {name!r}.",
        hint=plugins.near(name, list(known)) or "Add it under `secrets:` of the file.",
    )


def _version(credential: Credential) -> str:
    return credential.health().version or ""


def _resolver(base: Path, environ: Mapping[str, str]) -> references.Resolver:
    def no_backend(_name: str) -> SecretBackend:
        raise UsageError("a reference here is env:NAME or file:PATH.")

    return references.Resolver(no_backend, base, environ)


def _opened(settings: BackendSettings, base: Path, environ: Mapping[str, str]) -> SecretBackend:
    file = getattr(settings.options, "path", None)
    # The embedded backend creates a file that is missing: an application must not.
    if settings.type == "local" and not (base / Path(str(file)).expanduser()).is_file():
        raise UsageError(
            f"the file of the embedded backend does not exist: {base / str(file)}.",
            hint="Set `path` to the file that rotator writes.",
        )
    plugin = plugins.backend_plugin(settings.type)
    return plugin.open(settings.name, settings.options, _resolver(base, environ).secret, base)
