"""What `doctor` reports of the admin of a target: whether rotator rotates it, or nobody has for long."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.bootstrap import findings
from rotator.core.errors import StepError
from rotator.references import parse

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.model import Finding

# Of a password that nobody rotates.
_OLD: Final = timedelta(days=365)


def of_admin(parts: Wiring, target: str) -> list[Finding]:
    """Report an admin that is managed, and one whose password is known to be older than a year."""
    subject = f"target {target}"
    secret = parts.admins_of.secrets.get(target)
    if secret is not None:
        return [findings.ok(subject, f"its admin is the secret {secret}, which rotator rotates")]
    since = _stored(parts, target)
    if since is None or parts.clock.now() - since < _OLD:
        return []
    message = f"its admin's password has been in the backend unchanged since {since:%Y-%m-%d}"
    remedy = "Define it as a secret and set `admin: secret:NAME`, so that rotator rotates it."
    return [findings.warning(subject, message, remedy)]


def _stored(parts: Wiring, target: str) -> datetime | None:
    """Return when the backend got the password of an admin that is not managed; None where that is unknown."""
    admin = parts.settings.targets[target].admin
    named = None if admin is None else admin.reference or admin.password
    if named is None:
        return None
    reference = parse(named)
    if reference.scheme not in parts.settings.backends:
        return None
    with suppress(StepError):  # reported for the target, which cannot be examined then
        version = parts.backend(reference.scheme).current(reference.path)
        return version.created if version is not None else None
    return None
