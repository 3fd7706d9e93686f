"""How the agent reaches the Kubernetes API: as a pod by its service account, or by a kubeconfig file."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from rotator import trusted_files
from rotator.config.parsing import NotYamlError, parse
from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from rotator.agent.settings import ClusterOptions

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DEFAULT_NAMESPACE: Final = "default"
_LONGEST_TOKEN: Final = 1 << 16
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# What kubectl knows and this file's reader does not, with what to use in its place.
_NOT_SUPPORTED: Final = {
    "exec": "Use a token of a service account: kubectl create token NAME",
    "auth-provider": "Use a token of a service account: kubectl create token NAME",
    "username": "Use a token or a client certificate.",
    "password": "Use a token or a client certificate.",
    "as": "Give the rights to the user itself.",
    "as-groups": "Give the rights to the user itself.",
    "proxy-url": "Use an address that is reachable without a proxy.",
    "insecure-skip-tls-verify": "Set `certificate-authority`: a password is sent over this connection.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An API server, and who the agent is there. `token` is read for each request."""

    host: str
    port: int
    path: str
    namespace: str
    is_tls: bool = True
    server_name: str | None = None
    token: Callable[[], Secret | None] = field(default=lambda: None, repr=False)
    context: Callable[[], ssl.SSLContext] = field(default=ssl.create_default_context, repr=False)


def open_access(
    options: ClusterOptions,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """Return the access that the options name. Raises `UsageError`."""
    if options.kubeconfig is not None:
        return _by_kubeconfig(options.kubeconfig, options.context, options.namespace)
    return _in_a_pod(options.namespace, environ, service_account)


# -- in a pod ------------------------------------------------------------------------------------


def _in_a_pod(namespace: str | None, environ: Mapping[str, str], folder: Path) -> Access:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not port.isdecimal() or not (folder / "token").exists():
        raise UsageError(
            "this is no pod with a service account, and no `kubeconfig` is set.",
            hint="Set `automountServiceAccountToken: true` for the pod, or `kubernetes: {kubeconfig: FILE}`.",
        )
    own = folder / "namespace"
    if namespace is None and own.exists():
        namespace = own.read_text(encoding="utf-8").strip()
    return Access(
        host=host,
        port=int(port),
        path="",
        namespace=namespace or _DEFAULT_NAMESPACE,
        # Kubernetes replaces both files while the pod runs.
        token=lambda: _token_in(folder / "token"),
        context=lambda: _context(ca_file=folder / "ca.crt"),
    )


def _token_in(file: Path) -> Secret:
    try:
        with file.open(encoding="ascii") as opened:
            text = opened.read(_LONGEST_TOKEN).strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the token in {file} could not be read: {type(error).__name__}."
        ) from None
    return _token(text, str(file))


def _token(text: str, where: str) -> Secret:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"the token in {where} is empty, or no HTTP header can hold it.")
    return Secret(text)


# -- kubeconfig ----------------------------------------------------------------------------------


def _by_kubeconfig(file: Path, context_name: str | None, namespace: str | None) -> Access:
    """https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ ."""
    what = f"the kubeconfig {file}"
    try:
        text = trusted_files.read(file, "the kubeconfig", secret=True).decode()
        data = parse(text).data
    except OSError as error:
        raise UsageError(f"{what} could not be read: {error.strerror}.") from None
    except (UnicodeDecodeError, NotYamlError):
        raise UsageError(f"{what} is not valid YAML.") from None
    config = _mapping(data)
    name = context_name or _text(config, "current-context")
    if name is None:
        raise UsageError(
            f"{what} has no current-context.", hint="Set `kubernetes: {context: NAME}`."
        )
    context = _named(config, "contexts", "context", name, what)
    cluster = _named(config, "clusters", "cluster", _text(context, "cluster"), what)
    user = _named(config, "users", "user", _text(context, "user"), what)
    for key, remedy in _NOT_SUPPORTED.items():
        if cluster.get(key) or user.get(key):
            raise UsageError(f"{what} uses `{key}`, which rotator does not support.", hint=remedy)
    host, port, path, is_tls = _address(_text(cluster, "server"), what)
    authority = _content(cluster, "certificate-authority", file, what)
    certificate = _content(user, "client-certificate", file, what)
    key = _content(user, "client-key", file, what)
    if (certificate is None) is not (key is None):
        raise UsageError(f"{what} has only one of client-certificate and client-key.")

    def made() -> ssl.SSLContext:
        made = _context(ca_data=authority)
        if certificate is not None and key is not None:
            _present(made, certificate, key)
        return made

    if is_tls:
        # An invalid certificate is an error of the configuration: it is reported at the start.
        try:
            _ = made()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{what} has an invalid certificate or key: {type(error).__name__}."
            ) from None
    return Access(
        host=host,
        port=port,
        path=path,
        namespace=namespace or _text(context, "namespace") or _DEFAULT_NAMESPACE,
        is_tls=is_tls,
        server_name=_text(cluster, "tls-server-name"),
        token=_user_token(user, file, what),
        context=made,
    )


def _user_token(user: Mapping[str, object], file: Path, what: str) -> Callable[[], Secret | None]:
    if (token := _text(user, "token")) is not None:
        secret = _token(token, what)
        return lambda: secret
    if (name := _text(user, "tokenFile")) is not None:
        path = file.parent / name
        return lambda: _token_in(path)
    return lambda: None


def _address(server: str | None, what: str) -> tuple[str, int, str, bool]:
    try:
        parts = urlsplit(server or "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    is_tls = parts.scheme == "https"
    is_valid = host and "@" not in parts.netloc and not parts.query
    if not is_valid or not (is_tls or (parts.scheme == "http" and host in _LOOPBACK)):
        raise UsageError(f"{what}: `server` is not an https:// address.")
    return host, port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls


def _named(
    config: Mapping[str, object], section: str, key: str, name: str | None, what: str
) -> Mapping[str, object]:
    entries = config.get(section)
    for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
        if name is not None and _mapping(entry).get("name") == name:
            return _mapping(_mapping(entry).get(key))
    raise UsageError(f"{what} has no {key} {name!r}.", hint=f"See its `{section}:`.")


def _content(owner: Mapping[str, object], key: str, file: Path, what: str) -> bytes | None:
    """Return what `KEY-data` holds, or the file that `KEY` names."""
    try:
        if (data := _text(owner, f"{key}-data")) is not None:
            return base64.b64decode(data, validate=True)
        if (name := _text(owner, key)) is not None:
            is_secret = key == "client-key"
            return trusted_files.read(file.parent / name, f"the {key}", secret=is_secret)
    except (OSError, binascii.Error) as error:
        raise UsageError(f"{what}: `{key}` could not be read: {type(error).__name__}.") from None
    return None


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _text(owner: Mapping[str, object], key: str) -> str | None:
    value = owner.get(key)
    return value if isinstance(value, str) and value else None


# -- TLS -----------------------------------------------------------------------------------------


def _context(*, ca_file: Path | None = None, ca_data: bytes | None = None) -> ssl.SSLContext:
    """Return a context that verifies the server; without an authority, by those of the system."""
    context = ssl.create_default_context(
        cafile=None if ca_file is None else str(ca_file),
        cadata=None if ca_data is None else ca_data.decode("ascii"),
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Let a context present a client certificate. OpenSSL reads it from a file: this one is in memory."""
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        _ = file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
