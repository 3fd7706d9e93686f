"""What `doctor` finds out about all secrets together: schedule, states, notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.bootstrap import findings
from rotator.core import durations
from rotator.core.contracts.rotation import ExpiresLogins
from rotator.core.model import Finding, Severity
from rotator.core.schedule import ROTATION_TAKES, room, timing
from rotator.logs import get_log
from rotator.notify import Notifier
from rotator.secret_state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap.wiring import Wiring


def crowded(parts: Wiring) -> list[Finding]:
    """Return the policies whose windows are too short for the secrets that have them."""
    by_policy: dict[str, list[str]] = {}
    for secret in parts.settings.secrets.values():
        by_policy.setdefault(timing(secret.policy), []).append(secret.name)
    found: list[Finding] = []
    limits, now = parts.settings.daemon.limits, parts.clock.now()
    for names in by_policy.values():
        first = parts.settings.secrets[names[0]]
        targets = len({parts.settings.secrets[name].target for name in names})
        backends = len({parts.settings.secrets[name].backend for name in names})
        parallel = min(limits.total, limits.per_target * targets, limits.per_backend * backends)
        fits = room(first.policy, now, parallel)
        if fits is not None and len(names) > fits:
            message = (
                f"{len(names)} secrets have the policy of {first.name}, and its windows have room for"
                f" {fits} in one period, {parallel} at once and"
                f" {durations.write(ROTATION_TAKES)} each: some will be overdue"
            )
            remedy = "Open the windows for longer, raise `every`, or raise daemon.limits."
            found.append(findings.warning("schedule", message, remedy))
    return found


def leases(parts: Wiring, names: Sequence[str]) -> list[Finding]:
    """Return the leases whose end fails, and the targets on which only the daemon ends one."""
    found: list[Finding] = []
    for one in parts.journal.leases.open():
        if one.is_stranded and one.secret in names:
            message = f"lease {one.id} of {one.holder} is stranded: {one.problem}"
            remedy = one.hint or f"rotator lease revoke {one.id}"
            found.append(findings.error(f"secret {one.secret}", message, remedy))
    for name in names:
        if parts.settings.secrets[name].leases is None:
            continue
        if not isinstance(parts.secret(name).rotation, ExpiresLogins):
            message = "this target cannot end a login by its own clock: only the daemon ends leases"
            remedy = "Keep `rotator daemon` running, and watch `rotator_leases`."
            found.append(findings.warning(f"secret {name}", message, remedy))
    return found


def states(parts: Wiring, names: Sequence[str], found: Sequence[Finding]) -> list[Finding]:
    """Return the problems that `rotator status` shows of these secrets; `found`: by this examination."""
    everything = set(names) >= set(parts.settings.secrets)
    fleet = parts.overview.fleet(None if everything else names)
    rejected = {finding.subject for finding in found if finding.severity is Severity.ERROR}
    accepted = {finding.subject for finding in found if finding.severity is Severity.OK}
    shown: list[Finding] = []
    for secret in fleet.secrets:
        subject = f"secret {secret.name}"
        if secret.state is State.REFUSED and subject in rejected | accepted:
            # This examination is newer than that check.
            if subject not in rejected:
                message = "the last check was rejected; its login works now"
                remedy = f"Record that: rotator verify {secret.name}"
                shown.append(findings.warning(subject, message, remedy))
        elif secret.state is not State.DRIFT and secret.severity is not Severity.OK:
            message = f"{secret.state}: {secret.cause.removesuffix('.')}"
            shown.append(
                Finding(
                    severity=secret.severity, subject=subject, message=message, remedy=secret.hint
                )
            )
    return shown


def notifications(parts: Wiring) -> list[Finding]:
    """Check whether notices can be delivered, without sending one."""
    found: list[Finding] = []
    notifier = Notifier(parts.settings.notifications, parts.resolve, get_log())
    for number, settings in enumerate(parts.settings.notifications, 1):
        subject, why = f"notification {number} ({settings.type})", notifier.unreachable(settings)
        if why is None:
            found.append(findings.ok(subject, "can be reached; no notice was sent"))
        else:
            remedy = "Correct `notifications`, then: rotator notify test"
            found.append(findings.error(subject, f"cannot be used: {why}", remedy))
    return found
