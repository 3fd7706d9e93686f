"""The sections `roles`, `approval` and `requests`: their shape, and what they are as settings."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo

from rotator.config.daemon_sections import Strict
from rotator.config.errors import wrong
from rotator.config.model import RequestSettings
from rotator.config.types import REFERENCE, Name, Positive, check_reference
from rotator.core.access import (
    ACTIONS,
    REQUEST_LASTS,
    Access,
    ApprovalRule,
    Grant,
    Permission,
    Role,
    Selector,
)
from rotator.core.requests import LONGEST

if TYPE_CHECKING:
    from rotator.config.document import Document
    from rotator.config.positions import Positions

_RULE: Final = ApprovalRule(actions=())
# What the DER form of an Ed25519 public key begins with (RFC 8410); its 32 bytes follow.
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
_RAW: Final = 32


def _check_key(text: str, info: ValidationInfo) -> str:
    _ = info
    check_reference(text, ())
    return text


def _check_public(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if not raw.startswith(_SPKI) or len(raw) != len(_SPKI) + _RAW:
        raise wrong(
            "expected an Ed25519 public key.", "Paste the line that `rotator keygen FILE` prints."
        )
    return text


def _check_action(action: Permission) -> Permission:
    if action not in ACTIONS:
        raise wrong(
            "this cannot need an approval.", f"One of: {', '.join(f'`{one}`' for one in ACTIONS)}."
        )
    return action


def _check_expiry(value: object) -> object:
    if value > LONGEST:  # pyright: ignore[reportOperatorIssue] # a duration, by the validators before
        raise wrong("a request cannot wait for longer than 30 days.", "Lower it.")
    return value


_PlainReference = Annotated[
    str,
    AfterValidator(_check_key),
    Field(pattern=REFERENCE),
]
_Expiry = Annotated[Positive, AfterValidator(_check_expiry)]
_Glob = Annotated[str, Field(min_length=1, max_length=128)]


class RoleDocument(Strict):
    """Who has a role. Without `tags` and `names` it is over all secrets."""

    role: Role = Field(
        description="`viewer`, `operator` (rotate, roll back, revoke, park, open an incident), `approver`,"
        " `breaker` (kill, break glass), `auditor` or `admin`."
    )
    subjects: list[_Glob] = Field(
        default=[],
        description="Names of users, as they were authenticated: `alice`, or only by one method: `os:alice`,"
        " `oidc:alice@example.org`.",
    )
    groups: list[_Glob] = Field(
        default=[],
        description="Names of groups, of the operating system or of the identity provider: `dba`,"
        " `oidc:dba`.",
    )
    tags: list[Name] = Field(default=[], description="Only secrets with one of these tags.")
    names: list[_Glob] = Field(
        default=[], description="Only secrets with a name like one of these: `shop-*`."
    )


class ApprovalWhereDocument(Strict):
    """Which secrets a rule is about."""

    tag: Name | None = Field(default=None, description="Only secrets with this tag.")
    name: _Glob | None = Field(default=None, description="Only secrets with a name like this.")


class ApprovalDocument(Strict):
    """Which actions need an approval."""

    actions: list[Annotated[Permission, AfterValidator(_check_action)]] = Field(
        alias="for",
        min_length=1,
        description="`rotate`, `rollback`, `revoke-now`, `park`, `unpark`, `incident`, `kill`.",
    )
    where: ApprovalWhereDocument = Field(
        default=ApprovalWhereDocument(), description="Which secrets it is about. Default: all."
    )
    by: int = Field(default=_RULE.by, ge=1, le=10, description="How many approvers must agree.")
    not_self: bool = Field(
        default=_RULE.not_self, description="Whether the requester's own approval does not count."
    )
    expires: _Expiry = Field(
        default=_RULE.expires,
        description="How long a request may wait for approvals and an engine.",
    )


class RequestsDocument(Strict):
    """Requests of those who have no access to targets and backends."""

    expires: _Expiry = Field(
        default=REQUEST_LASTS, description="How long a request may wait for an engine."
    )
    key: _PlainReference | None = Field(
        default=None,
        description="Reference (`file:PATH` or `env:NAME`) to the private key with which this machine signs"
        " requests. Not needed where `journal.signing_key` can be read.",
    )
    writers: dict[Name, Annotated[str, AfterValidator(_check_public)]] = Field(
        default={},
        description="Public keys whose requests engines accept, by the name of their writer, such as"
        " `console`.",
    )


def access(source: Positions, document: Document) -> Access:
    """Return roles and approval rules; a rule that nobody can fulfil is a problem."""
    grants: list[Grant] = []
    for number, one in enumerate(document.roles or []):
        if not one.subjects and not one.groups:
            source.problem(
                ("roles", number), "nobody has this role.", "Set `subjects` or `groups`."
            )
        where = Selector(tags=tuple(one.tags), names=tuple(one.names))
        grants.append(
            Grant(
                role=one.role,
                subjects=tuple(one.subjects),
                groups=tuple(one.groups),
                where=where,
            )
        )
    rules = tuple(
        ApprovalRule(
            actions=tuple(one.actions),
            where=Selector(
                tags=(one.where.tag,) if one.where.tag else (),
                names=(one.where.name,) if one.where.name else (),
            ),
            by=one.by,
            not_self=one.not_self,
            expires=one.expires,
        )
        for one in document.approval or []
    )
    can_approve = {one.role for one in grants} & {Role.APPROVER, Role.ADMIN}
    if rules and not can_approve:
        source.problem(
            ("approval",),
            "nobody can approve: no subject or group has the role `approver`.",
            "Give it to somebody under `roles`.",
            at_key=True,
        )
    return Access(grants=None if document.roles is None else tuple(grants), rules=rules)


def requests(document: Document) -> RequestSettings:
    """Return how requests are signed, and whose are accepted."""
    given = document.requests or RequestsDocument()
    pem = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n"
    return RequestSettings(
        expires=given.expires,
        key=given.key,
        writers={name: pem.format(one) for name, one in given.writers.items()},
    )
