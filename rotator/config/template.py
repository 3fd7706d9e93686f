"""The file that `rotator init` writes: every option with its default, and what it is for."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from rotator import plugins
from rotator.config.document import (
    BreakerDocument,
    DaemonDocument,
    DrainDocument,
    LimitsDocument,
    PasswordDocument,
    PolicyDocument,
    ReportsDocument,
    RetryDocument,
    WindowsDocument,
)
from rotator.config.types import GracePeriod
from rotator.core import durations
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotator.core.contracts.plugin import PluginInfo

_WIDTH: Final = 100
_COMMENT: Final = 36
# A text that YAML reads as that text without quotes.
# Also for editors that read YAML 1.1, where some words are booleans.
_PLAIN: Final = re.compile(r"(?!(?:on|off|yes|no)$)[A-Za-z][A-Za-z0-9_./:-]*(?<!:)")

_HEAD: Final = """\
# Which credentials rotator rotates, where it stores them, and how. This file contains no secrets,
# only references to them: env:NAME, file:PATH or BACKEND:PATH#FIELD.
# `rotator check` validates it, `rotator doctor` tests it. All keys: rotator docs configuration.
version: 1

# The audit database: the record of every step.
journal:
  url: sqlite:///rotator.db         # or postgresql://USER@HOST/DATABASE, shared by several machines
  # password: env:ROTATOR_JOURNAL_PASSWORD  # of the audit database, PostgreSQL only
  signing_key: local:rotator/audit#private_key  # authenticates events, signs checkpoints

# Where credentials are stored, by name. The name is also the scheme of references.
backends:
"""
_VAULT: Final = """\
  # vault:                           # HashiCorp Vault or OpenBao; keys: rotator docs configuration
  #   type: vault
  #   address: https://vault.example.org:8200
  #   auth: {method: approle, role_id: rotator, secret_id: env:VAULT_SECRET_ID}
  # aws: {type: aws, region: eu-central-1}  # AWS Secrets Manager, with this machine's role
"""
_TARGETS: Final = """
# The systems that accept credentials, by name. To list the other kinds: rotator plugins
# To list the options of one: rotator plugins NAME (command, http, mysql, sql, ...)
targets:
"""
_POLICIES: Final = """\

# How credentials are rotated, by name. A secret without a policy uses `default`. Durations are
# numbers with units: w d h m s ms, such as 1d12h.
policies:
  default:
"""
_EXAMPLES: Final = {
    "windows": (
        '      # allow: [{opens: "0 1 * * 1-5", lasts: 4h}]  # Monday to Friday, 1:00 to 5:00',
        "      # blackouts: [{first: 2026-12-20, last: 2027-01-02}]",
    )
}
# One example for each strategy of the plugin `postgresql`; a test loads them all.
_SECRETS: Final = """\

# Values for secrets that do not set their own; {name} becomes the secret's name.
# defaults: {target: main, backend: local, path: "apps/{name}", strategy: new-user}
# include: secrets.d/*.yaml          # further files with these sections
# The credentials, by name. To add one, uncomment an example and edit it.
secrets:
  # billing:                         # a new login each time; the group owns the objects
  #   target: main
  #   backend: local
  #   path: apps/billing             # path in the backend; default: the secret's name
  #   strategy: new-user
  #   options: {group: billing_owner}
  #   copies: [{backend: local, path: team/billing}]  # written before the old one is revoked
  #   leases: {ttl: 1h, max: 24h, overlap: 5m, share: none, at_end: terminate, limit: 100}
  #   tags: [prod, payments]         # `rotator rotate --tag prod`
  #   readers: ["approle/dba-*"]     # who else may read it
  # shop:                            # two logins that alternate
  #   target: main
  #   backend: local
  #   strategy: alternating-users
  #   options: {users: [shop_a, shop_b]}
  #   policy: {grace: 1h}            # single keys that override `default`, or a policy's name
  # legacy:                          # the password changes in place, without overlap
  #   {target: main, backend: local, strategy: single-user, options: {username: legacy}}
"""


_DAEMON: Final = """\

# Settings of `rotator daemon`.
daemon:
"""
_LAST: Final = """\
# consumers:                         # `rotator docs consumers`; then, in a secret: consumers: [web]
#   web: {instances: 3, gate: hold, token: "file:web-token", identities: [approle/web]}
#   # with single-user also: policy: {prepare: {wait: 2m, then: proceed}}
# partners:                          # never rotated close together
#   shop-pair: {apart: 6h, secrets: [shop, legacy]}
# roles:                             # who may do what: `rotator docs roles`
#   - {role: operator, subjects: [alice], groups: [dba], tags: [prod], names: ["shop-*"]}
# approval: [{for: [kill], where: {tag: prod, name: "*"}, by: 1, not_self: true, expires: 1h}]
# requests: {expires: 1d, key: "file:request-key", writers: {console: PUBLIC-KEY}}
# notifications:                     # recipients of the daemon's notifications
#   - {type: webhook, url: "https://hooks.example.org/rotator", secret: "file:webhook-key"}
#   - {type: apprise, secret: "file:slack-url", events: [parked, refused, unavailable]}
# web: {origin: URL, users: FILE, sessions: FILE, session: 8h}  # rotator docs web-console
#   proxy: {secret: "file:proxy", addresses: [10.0.0.1], user_header: X-U, groups_header: X-G}
#   oidc: {issuer: URL, client_id: ID, client_secret: "file:c", user_claim: email, groups_claim: g}
"""


def commented_example(*, target: bool = True) -> str:
    """Return a valid configuration, with a secret of each strategy to fill in.

    `target`: whether to include a target to edit; without it, the caller adds one to the file.
    Options come from the installed plugins: the parts of PostgreSQL and of the embedded backend
    are left out if their packages are missing.
    """
    local, postgresql = (
        _info(plugins.backend_plugin, "local"),
        _info(plugins.rotation_plugin, "postgresql"),
    )
    head = _HEAD if local else _HEAD.replace("  signing_key:", "  # signing_key:")
    targets = _target(postgresql) if target else _TARGETS
    parts = (_backend(local), targets, _policy(), _daemon(), _SECRETS)
    return "".join((head, *parts))


def _info(find: Callable[[str], Any], name: str) -> PluginInfo | None:
    try:
        return find(name).info
    except UsageError:
        return None


def _backend(info: PluginInfo | None) -> str:
    if info is None:
        return "  # local: {type: local}  # pip install 'credential-rotator[local]'\n"
    return _text(["  local:", "    type: local", *_options(info.target_options, "    ")]) + _VAULT


def _target(info: PluginInfo | None) -> str:
    if info is None:
        return f"{_TARGETS}  # main: {{plugin: postgresql}}  # pip install 'credential-rotator[postgresql]'\n"
    admin = "{username: postgres, password: env:PGPASSWORD}"
    lines = [
        "  main:",
        "    plugin: postgresql",
        "    # Admin credential; or a reference to a whole credential: local:admin/main",
        f"    admin: {admin}",
    ]
    return _TARGETS + _text([*lines, *_options(info.target_options, "    ")])


def _policy() -> str:
    lines = list[str]()
    for name, field in PolicyDocument.model_fields.items():
        inner = {
            "windows": WindowsDocument,
            "drain": DrainDocument,
            "retry": RetryDocument,
            "password": PasswordDocument,
        }
        if name in inner:
            lines.append(_line(f"    {name}:", field.description or ""))
            lines += _model(inner[name], "      ")
            lines += _EXAMPLES.get(name, ())
        elif name == "every":
            # The only value that differs from its default (`never`), so that secrets rotate.
            lines += _lines("    ", name, timedelta(days=30), field.description or "")
        else:
            lines += _lines("    ", name, field.default, field.description or "")
    return _POLICIES + _text(lines)


def _daemon() -> str:
    lines = list[str]()
    for name, field in DaemonDocument.model_fields.items():
        inner = {
            "limits": LimitsDocument,
            "breaker": BreakerDocument,
            "reports": ReportsDocument,
        }
        if name in inner:
            lines.append(_line(f"  {name}:", field.description or ""))
            lines += _model(inner[name], "    ")
        else:
            lines += _lines("  ", name, field.default, field.description or "")
    return _DAEMON + _text(lines) + _LAST


def _model(model: type[BaseModel], indent: str) -> Iterable[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            keys = ", ".join(f'{key}: "file:{key}-key"' for key in type(field.default).model_fields)
            yield _line(f"{indent}# {name}: {{{keys}}}", field.description or "")
        else:
            yield from _lines(indent, name, field.default, field.description or "")


def _options(options: type, indent: str) -> Iterable[str]:
    for one in dataclasses.fields(options) if dataclasses.is_dataclass(options) else ():
        yield from _lines(indent, one.name, one.default, str(one.metadata.get("help", "")))


def _lines(indent: str, name: str, default: object, said: str) -> list[str]:
    """Return an option with its default; commented out where the default is to have none."""
    if default is None or default is dataclasses.MISSING:
        return [_line(f"{indent}# {name}:", said)]
    return [_line(f"{indent}{name}: {_value(default)}", said)]


def _line(option: str, said: str) -> str:
    """Return an option with its comment: beside it where there is room, else above it."""
    beside = f"{option:<{_COMMENT}} # {said}"
    if len(beside) <= _WIDTH or not said:
        return beside if said else option
    indent = " " * (len(option) - len(option.lstrip()))
    words, lines = said.split(), [f"{indent}#"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(f"{indent}#")
        lines[-1] += f" {word}"
    return "\n".join((*lines, option))


def _value(value: object) -> str:
    if isinstance(value, timedelta):
        return durations.write(value)
    if isinstance(value, GracePeriod):
        return str(value)
    if isinstance(value, Enum):
        return _value(value.value)
    if isinstance(value, (str, Path)):
        return str(value) if _PLAIN.fullmatch(str(value)) else json.dumps(str(value))
    return json.dumps(value)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
