"""Entries of an LDAP directory that log in: two passwords on one, two entries taking turns, or in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.ldap.directory import PASSWORD_MODIFY, Directory, Session
from rotations.ldap.options import SecretOptions, TargetOptions
from rotations.ldap.strategies import STRATEGIES
from rotator.api import Finding, Plugin, Severity, StepError

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


def _examine(directory: Directory, ctx: StepContext) -> list[Finding]:
    """Log in as the admin, and check whether the server can set passwords."""
    subject = str(directory)

    def act(session: Session) -> bool:
        root = session.entry("", "supportedExtension") or {}
        return PASSWORD_MODIFY.encode() in root.get("supportedextension", [])

    try:
        sets_passwords = directory.act(act, ctx, doing="logging in as the admin")
    except StepError as error:
        finding = Finding(
            severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
        )
        return [finding]
    if not sets_passwords:
        message = "the server does not list the operation that sets passwords (RFC 3062)"
        remedy = "Use a server that has it, or show `supportedExtension` of the root to the admin."
        return [Finding(severity=Severity.WARNING, subject=subject, message=message, remedy=remedy)]
    return [Finding(severity=Severity.OK, subject=subject, message="the admin logs in")]


PLUGIN: Final = Plugin(
    name="ldap",
    summary="OpenLDAP, and other directories with the password modify operation of RFC 3062.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Directory,
    engines=("openldap",),
    in_place="single-user",
    examine=_examine,
)
