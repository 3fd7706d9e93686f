"""Local users of the console: names, hashes of passwords (argon2id) and groups, in a file of mode 0600."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from rotator import trusted_files
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rotator.core.secret import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHORTEST: Final = 12
_LONGEST: Final = 1024
_WHAT: Final = "the file of the console's users"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A local user. What they may do is in the section `roles` of the configuration."""

    name: str
    groups: tuple[str, ...] = ()


class LocalUsers:
    """The users in a file. It is read at each sign-in: a change needs no restart."""

    def __init__(self, file: Path) -> None:
        """The file need not exist yet."""
        self._file: Path = file
        self._hasher: PasswordHasher = PasswordHasher()
        # As long as a password is checked for a user, it is checked for nobody.
        self._nobody: str = self._hasher.hash(secrets.token_hex(16))

    def signed_in(self, name: str, password: Secret) -> User | None:
        """Return the user whose password this is; None for any other. Takes the same time for both."""
        entry = self._read().get(name)
        hashed = entry["hash"] if entry is not None else self._nobody
        given = password.reveal()
        try:
            _ = self._hasher.verify(hashed, given[:_LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        if entry is None:
            return None
        return User(name=name, groups=tuple(entry.get("groups", ())))

    def names(self) -> list[User]:
        """Return the users, by name."""
        found = sorted(self._read().items())
        return [User(name=name, groups=tuple(one.get("groups", ()))) for name, one in found]

    def add(self, name: str, password: Secret, groups: Sequence[str] = ()) -> bool:
        """Write a user, or another password of one; return whether the user is new.

        Raises `UsageError` for a name or a password that cannot be used.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "invalid user name.", hint="Use letters, digits and . _ @ -, at most 64 of them."
            )
        length = len(password.reveal())
        if not _SHORTEST <= length <= _LONGEST:
            raise UsageError(
                f"the password must have {_SHORTEST} to {_LONGEST} characters.",
                hint="A passphrase of several words is easy to type.",
                safety="Nothing was changed.",
            )
        users = self._read()
        is_new = name not in users
        users[name] = {"hash": self._hasher.hash(password.reveal()), "groups": list(groups)}
        self._write(users)
        return is_new

    def remove(self, name: str) -> None:
        """Remove a user. Raises `UsageError` where there is none."""
        users = self._read()
        if users.pop(name, None) is None:
            raise UsageError(f"no user of the console is called {name!r}.")
        self._write(users)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = trusted_files.read(self._file, _WHAT, secret=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsageError(f"cannot read {self._file} ({error.strerror}).") from error
        try:
            data = json.loads(content)
            users = cast("dict[str, dict[str, Any]]", data["users"])
            for one in users.values():
                _ = str(one["hash"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{self._file} is not a file of the console's users.",
                hint="Move it away, and add the users again: rotator web add-user NAME",
            ) from None
        return users

    def _write(self, users: dict[str, dict[str, Any]]) -> None:
        text = json.dumps({"version": 1, "users": users}, indent=2, sort_keys=True) + "\n"
        new = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        try:
            trusted_files.require_folder(self._file.parent, _WHAT)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                _ = file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _ = new.replace(self._file)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise UsageError(f"cannot write {self._file} ({error.strerror}).") from error
