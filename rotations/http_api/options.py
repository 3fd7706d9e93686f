"""What a configuration contains about an HTTP API that keeps logins: requests with placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from rotator.api import LoginOptions, UsageError, require_http_url

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
LOGIN: Final = "login"
PASSWORD: Final = "password"  # noqa: S105 # a placeholder's name
MARK: Final = "mark"
ADMIN: Final = "admin"
ADMIN_PASSWORD: Final = "admin_password"  # noqa: S105 # as above
BUILT_IN: Final = frozenset({LOGIN, PASSWORD, MARK, ADMIN, ADMIN_PASSWORD})
_SECRETS: Final = frozenset({PASSWORD, ADMIN_PASSWORD})
_PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_OK: Final = (200, 201, 202, 204)


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. A placeholder is `{name}`; in the body it is a whole value."""

    method: Method = field(default="GET", metadata=_help("Method."))
    path: str = field(metadata=_help("Path below `url`; placeholders are percent-encoded."))
    headers: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help("Headers, such as `X-Api-Key: '{admin_password}'`."),
    )
    body: dict[str, Any] | None = field(
        default=None, metadata=_help("JSON body. A text that is a placeholder becomes its value.")
    )
    basic: bool = field(
        default=False,
        metadata=_help("Send the admin's login by HTTP Basic, or in `test` the rotated login."),
    )
    ok: tuple[int, ...] = field(default=_OK, metadata=_help("Statuses that mean success."))
    absent: tuple[int, ...] = field(
        default=(404,), metadata=_help("exists, mark: statuses that mean that there is none.")
    )
    rejected: tuple[int, ...] = field(
        default=(401,), metadata=_help("test: statuses that mean that the login is rejected.")
    )
    take: str | None = field(
        default=None,
        metadata=_help(
            "mark: where the answer has the mark, such as `data.0.description`. keys: where it has the list."
        ),
    )
    key_id: str | None = field(
        default=None,
        metadata=_help(
            "new-key: where the answer of the last request of `create`, or each item of `keys`, has the"
            " key's id. Without it each item of `keys` is an id."
        ),
    )
    key_value: str | None = field(
        default=None,
        metadata=_help(
            "new-key: where the answer of the last request of `create` has the key's value."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be sent safely."""
        if not self.path.startswith("/") or any(one in self.path for one in "#\r\n \\"):
            raise UsageError("`path` must begin with / and contain no blank and no #.")
        if "{" in _PLACEHOLDER.sub("", self.path):
            raise UsageError("`path` has a brace that begins no placeholder.")
        if secret := _SECRETS & set(_PLACEHOLDER.findall(self.path)):
            raise UsageError(
                f"`path` contains {{{min(secret)}}}.",
                hint="Servers and proxies log URLs: send secrets in a header or in the body.",
            )
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable():
                raise UsageError("a header has an invalid name or value.")
        for text in _texts(self.body):
            if _PLACEHOLDER.search(text) and not _PLACEHOLDER.fullmatch(text):
                raise UsageError(
                    "`body` has a placeholder inside a longer text.",
                    hint="A placeholder must be the whole value. Add the longer text to `values`"
                    " of the secret's options.",
                )

    @property
    def names(self) -> frozenset[str]:
        """The names of its placeholders."""
        texts = (self.path, *self.headers.values(), *_texts(self.body))
        return frozenset(name for text in texts for name in _PLACEHOLDER.findall(text))

    def filled_path(self, values: Mapping[str, str]) -> str:
        """Return the path; no value adds a segment or a parameter."""
        return _PLACEHOLDER.sub(lambda found: quote(values[found[1]], safe=""), self.path)

    def filled_headers(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the headers."""
        return {
            name: _PLACEHOLDER.sub(lambda found: values[found[1]], text)
            for name, text in self.headers.items()
        }

    def filled_body(self, values: Mapping[str, str]) -> object:
        """Return the body with each placeholder replaced by a JSON text."""
        return _filled(self.body, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The API, and the requests by which its logins are created and revoked."""

    url: str = field(
        metadata=_help(
            "Base URL, such as `https://api.example.org`. HTTPS, except on this machine."
        )
    )
    ca: Path | None = field(
        default=None, metadata=_help("Certificate authority file. Default: the system's.")
    )
    exists: Request = field(metadata=_help("Request that finds out whether a login exists."))
    mark: Request | None = field(
        default=None,
        metadata=_help("Request that reads a login's mark, with `take`. Default: `exists`."),
    )
    create: tuple[Request, ...] = field(
        default=(), metadata=_help("Requests that create a login that does not exist, and mark it.")
    )
    keys: Request | None = field(
        default=None,
        metadata=_help("new-key: request that lists keys, with `take`; also those of others."),
    )
    update: tuple[Request, ...] = field(
        default=(),
        metadata=_help(
            "alternating-users, single-user: requests that set the password of a login that exists."
        ),
    )
    revoke: tuple[Request, ...] = field(
        default=(), metadata=_help("Requests after which a login is rejected.")
    )
    withdraw: tuple[Request, ...] = field(
        default=(), metadata=_help("Requests that undo `create`. Default: `revoke`.")
    )
    test: Request = field(metadata=_help("Request that logs in with the rotated login."))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        require_http_url(self.url)
        if (self.mark or self.exists).take is None:
            raise UsageError(
                "neither `mark` nor `exists` has `take`, so rotator could not know its logins.",
                hint="Name the field of the answer that holds what `create` sends as {mark}.",
            )
        for key in ("create", "update"):
            found: tuple[Request, ...] = getattr(self, key)
            if key == "create" and self.draws:
                continue
            if found and not any(PASSWORD in one.names for one in found):
                raise UsageError(f"no request of `{key}` contains {{password}}.")
        if not self.test.basic and PASSWORD not in self.test.names:
            raise UsageError("`test` neither has `basic: true` nor contains {password}.")
        if self.draws and (
            self.create[-1].key_id is None
            or any(one.key_value is not None for one in self.create[:-1])
        ):
            raise UsageError(
                "only the last request of `create` may have `key_value`, and it needs `key_id`.",
                hint="rotator stores the key before it sends anything else.",
            )
        if self.keys is not None and self.keys.take is None:
            raise UsageError("`keys` has no `take`, so rotator could not find the list.")

    @property
    def draws(self) -> bool:
        """Whether the server draws the keys."""
        return any(one.key_value is not None for one in self.create)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions(LoginOptions):
    """One login that is rotated. Which options matter depends on the strategy."""

    values: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help("Further placeholders of the requests, such as `role: reader`. No secrets."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        LoginOptions.__post_init__(self)
        if taken := BUILT_IN & set(self.values):
            raise UsageError(f"`values` must not contain `{min(taken)}`.")


def _texts(body: object) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for one in body.values():
            yield from _texts(one)
    elif isinstance(body, (list, tuple)):
        for one in body:
            yield from _texts(one)


def _filled(body: object, values: Mapping[str, str]) -> object:
    if isinstance(body, str):
        found = _PLACEHOLDER.fullmatch(body)
        return values[found[1]] if found else body
    if isinstance(body, Mapping):
        return {key: _filled(one, values) for key, one in body.items()}
    if isinstance(body, (list, tuple)):
        return [_filled(one, values) for one in body]
    return body
