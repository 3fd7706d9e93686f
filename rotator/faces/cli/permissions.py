"""Which permission a command needs. What is not here changes nothing and shows nothing of a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rotator.core.access import Permission

# By the full name of the command. Opening or continuing an incident asks again, by its mode.
NEEDS: Final[Mapping[str, Permission]] = {
    **dict.fromkeys(
        (
            *("status", "history", "plan", "doctor", "consumers", "requests", "get"),
            *("incident list", "incident show", "lease list"),
        ),
        Permission.VIEW,
    ),
    **dict.fromkeys(("rotate", "resume", "verify"), Permission.ROTATE),
    **dict.fromkeys(("lease issue", "lease renew"), Permission.LEASE),
    "lease revoke": Permission.END_LEASE,
    "rollback": Permission.ROLLBACK,
    "revoke": Permission.REVOKE,
    "park": Permission.PARK,
    "unpark": Permission.UNPARK,
    **dict.fromkeys(
        ("incident open", "incident resume", "incident close", "incident reopen"),
        Permission.INCIDENT,
    ),
    **dict.fromkeys(
        (
            *("report", "audit verify", "audit export", "audit show", "audit countersign"),
            *("access show", "access login", "access check"),
        ),
        Permission.AUDIT,
    ),
    **dict.fromkeys(
        (
            *("adopt", "import", "rename", "retire", "reseal", "discover", "find"),
            *("notify test", "audit acknowledge", "audit rotate-key", "access ingest"),
        ),
        Permission.MANAGE,
    ),
}
# These ask for themselves: what is requested and decided on is checked for each secret.
# Of these, a rule can want an approval first.
APPROVED: Final = ("rotate", "rollback", "revoke", "park", "unpark")
OWN: Final = ("request", "approve", "refuse")
# No role limits these. They show nothing of a managed secret, or run as a service or an application with the
# rights of the user who starts them. docs/how-to/roles.md says so.
FREE: Final = (
    *("init", "add", "check", "demo", "docs", "deploy", "plugins", "policy", "keygen"),
    *("db upgrade", "db status", "daemon", "worker", "exec", "agent run", "agent init"),
    *("web run", "web users", "web add-user", "web remove-user", "web sign-out"),
)
