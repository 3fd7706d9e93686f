"""References to secrets: `env:NAME`, `file:path`, `backend:path#field`. Never a value itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator import trusted_files
from rotator.core.contracts.backend import KeepsValues
from rotator.core.errors import UsageError
from rotator.core.model import Credential
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rotator.core.contracts.backend import SecretBackend

# The scheme of a managed secret, by its name: `secret:NAME`. Only a target's admin may be one.
OF_SECRET: Final = "secret"  # noqa: S105 # a scheme
FORMS: Final = "env:NAME, file:PATH or BACKEND:PATH#FIELD (such as local:admin/main#password)"
_REFERENCE: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9_-]{0,62}):(?P<path>[^#\s][^#\n]{0,1023}?)(?:#(?P<field>[\w.-]{1,255}))?"
)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where a secret is to be found. `scheme` is `env`, `file` or the name of a backend."""

    scheme: str
    path: str
    field: str = "password"

    def __str__(self) -> str:
        if self.scheme in ("env", "file"):
            return f"{self.scheme}:{self.path}"
        return f"{self.scheme}:{self.path}#{self.field}"


def secret_name(text: str) -> str | None:
    """Return the name in `secret:NAME`; None for a reference to another place."""
    scheme, _, name = text.partition(":")
    return name if scheme == OF_SECRET and name else None


def parse(text: str) -> Reference:
    """Read a reference. Raises `UsageError`, which does not repeat the text: it may be a secret."""
    found = _REFERENCE.fullmatch(text)
    if found is None or (found["scheme"] == "env" and not _VARIABLE.fullmatch(found["path"])):
        raise UsageError(
            "expected a reference, got a literal value (redacted).",
            hint=f"Store the value elsewhere and reference it: {FORMS}.",
        )
    return Reference(scheme=found["scheme"], path=found["path"], field=found["field"] or "password")


class Resolver:
    """Finds what references name. Nothing is kept: each call looks anew."""

    def __init__(
        self, backend: Callable[[str], SecretBackend], base: Path, environ: Mapping[str, str]
    ) -> None:
        """`backend` returns a configured backend by its name; files are relative to `base`."""
        self._backend: Callable[[str], SecretBackend] = backend
        self._base: Path = base
        self._environ: Mapping[str, str] = environ

    def secret(self, text: str) -> Secret:
        """Return the value that a reference names. Raises `UsageError` saying what is missing."""
        reference = parse(text)
        if reference.scheme == "env":
            return self._from_environment(reference)
        if reference.scheme == "file":
            return self._from_file(reference)
        return self._from_backend(reference)

    def credential(self, text: str) -> Credential:
        """Return the login and password that a reference into a backend names."""
        reference = parse(text)
        if reference.scheme in ("env", "file"):
            raise UsageError(
                f"{reference} contains a single value; a login and a password are required.",
                hint="Use a reference to a whole credential in a backend, or set `username` and"
                " `password` separately.",
            )
        found = self._backend(reference.scheme).current(reference.path)
        if found is None:
            raise UsageError(f"backend {reference.scheme!r} has no value at {reference.path!r}.")
        return found.credential

    def _from_environment(self, reference: Reference) -> Secret:
        value = self._environ.get(reference.path)
        if not value:
            raise UsageError(
                f"environment variable {reference.path} is not set.",
                hint=f"Set it in rotator's environment, or change the reference {reference}.",
            )
        return Secret(value)

    def _from_file(self, reference: Reference) -> Secret:
        path = self._base / reference.path
        try:
            secret = _text(trusted_files.read(path, "the secret file", secret=True))
        except OSError as error:
            raise UsageError(
                f"cannot read {path} ({error.strerror}).",
                hint=f"Create it, or change the reference {reference}.",
            ) from error
        if secret is None:
            raise UsageError(
                f"{path} is not valid UTF-8 text.",
                hint=f"Store the secret in it as text, or change the reference {reference}.",
            )
        return secret

    def _from_backend(self, reference: Reference) -> Secret:
        backend = self._backend(reference.scheme)
        if isinstance(backend, KeepsValues):
            # First: what holds a single value need not hold a whole credential.
            kept = backend.get_value(reference.path, reference.field)
            if kept is not None:
                return kept
        found = backend.current(reference.path)
        if found is not None:
            credential = found.credential
            if reference.field == "password":
                return credential.password
            if reference.field == "username":
                return Secret(credential.username)
            if isinstance(value := credential.fields.get(reference.field), str):
                return Secret(value)
        raise UsageError(
            f"backend {reference.scheme!r} has no field {reference.field!r} at {reference.path!r}.",
            hint="Check the path and the field of the reference.",
        )


def _text(read: bytes) -> Secret | None:
    """Return a text without the line break at its end; None where it is none."""
    try:
        return Secret(read.decode().rstrip("\r\n"))
    except UnicodeDecodeError:
        # Its arguments hold the bytes: no other error may come of it.
        return None
