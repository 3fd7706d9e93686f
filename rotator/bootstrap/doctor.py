"""`doctor`: examines everything that rotations need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rotator.bootstrap import findings, fleet_findings, journal_findings
from rotator.bootstrap.admin_findings import of_admin
from rotator.bootstrap.journal_integrity import JournalIntegrity
from rotator.bootstrap.orphans import Orphans
from rotator.core import durations
from rotator.core.contracts.backend import ExaminesBackend
from rotator.core.contracts.plugin import ExaminesTarget, TriesLogins
from rotator.core.contracts.rotation import Examines
from rotator.core.errors import RotatorError, StepError, Unavailable
from rotator.core.model import Credential, Finding, Severity
from rotator.engine.delegated import is_delegated
from rotator.engine.steps import require_wrong_password_rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap.wiring import Wiring
    from rotator.config.model import SecretSettings
    from rotator.engine import ManagedSecret
    from rotator.engine.steps import Steps


class Doctor:
    """Examines backends, targets, secrets, the journal and notifications."""

    def __init__(self, parts: Wiring) -> None:
        self._parts: Wiring = parts

    def examine(self, names: Sequence[str]) -> list[Finding]:
        """Examine everything that a rotation of these secrets needs; change nothing."""
        found: list[Finding] = []
        chosen = [self._parts.settings.secrets[name] for name in names]
        backends = [secret.backend for secret in chosen if not secret.kept_by_target]
        backends += [copy.backend for secret in chosen for copy in secret.copies]
        away: set[str] = set()
        for name in dict.fromkeys(backends):
            try:
                found += self._backend(name, names)
            except RotatorError as error:
                away.add(name)
                found.append(findings.of_error(f"backend {name}", error))
        for secret in chosen:
            if secret.kept_by_target:
                found += findings.guarded(
                    f"target {secret.target}", partial(self._own_store, secret)
                )
        if set(names) >= set(self._parts.settings.secrets):
            used = {secret.target for secret in chosen}
            for name in self._parts.settings.targets:
                if name not in used:
                    found += self.examine_target(name)
        for name in names:
            check = self._secret
            if self._parts.settings.secrets[name].backend in away:
                # The backend's findings are reported once; the target can be examined nevertheless.
                check = self._target_of
            found += findings.guarded(f"secret {name}", partial(check, name))
        for name in dict.fromkeys(secret.target for secret in chosen):
            found += of_admin(self._parts, name)
        orphans = Orphans(self._parts)
        for name in dict.fromkeys(secret.target for secret in chosen):
            found += findings.guarded(f"target {name}", partial(orphans.examine, name))
        found += findings.guarded(
            "journal", lambda: fleet_findings.states(self._parts, names, found)
        )
        found += findings.guarded("journal", lambda: fleet_findings.leases(self._parts, names))
        found += findings.guarded("journal", lambda: journal_findings.journal(self._parts, away))
        found += fleet_findings.crowded(self._parts)
        found += fleet_findings.notifications(self._parts)
        return findings.once(found)

    def examine_new(self, target: str, secret: str | None) -> list[Finding]:
        """Examine a target that no secret is rotated on yet, and the first secret there."""
        found = self.examine_target(target)
        if secret is not None and not any(finding.severity is Severity.ERROR for finding in found):
            found += findings.guarded(f"secret {secret}", lambda: self._secret(secret))
        return findings.once(found)

    def examine_target(self, name: str) -> list[Finding]:
        """Examine a target apart from its secrets: can its admin log in and rotate there?"""
        return findings.guarded(f"target {name}", lambda: self._target(name))

    def _target(self, name: str) -> list[Finding]:
        target = self._parts.target(name)
        found = (
            target.examine(self._parts.context_without_secret())
            if isinstance(target, ExaminesTarget)
            else []
        )
        if isinstance(target, TriesLogins) and all(
            finding.severity is not Severity.ERROR for finding in found
        ):
            require_wrong_password_rejected(
                name, target, self._parts.context_without_secret(), entropy=self._parts.entropy
            )
            found.append(findings.ok(f"target {name}", "refuses a wrong password"))
        return found

    def _backend(self, name: str, names: Sequence[str]) -> list[Finding]:
        backend = self._parts.backend(name)
        chosen = [self._parts.settings.secrets[secret] for secret in names]
        paths = {path: secret.policy.every for secret in chosen for path in secret.paths(name)}
        if not isinstance(backend, ExaminesBackend):
            _ = [backend.current(path) for path in paths]
            return [findings.ok(f"backend {name}", "can be read")]
        try:
            return backend.examine(paths)
        except Unavailable:
            raise
        except StepError:
            # One path's fault does not concern the others.
            checks = {
                path: partial(backend.examine, {path: every}) for path, every in paths.items()
            }
        subject = f"backend {name}"
        return [
            finding
            for path, check in checks.items()
            for finding in findings.guarded(f"{subject}, {path}", check)
        ]

    def _own_store(self, secret: SecretSettings) -> list[Finding]:
        """Examine a target that keeps this secret itself."""
        backend = self._parts.keeper(secret)
        if isinstance(backend, ExaminesBackend):
            return backend.examine({secret.path: secret.policy.every})
        _ = backend.current(secret.path)
        return [findings.ok(f"target {secret.target}", f"{secret.path} can be read")]

    def _target_of(self, name: str) -> list[Finding]:
        """Examine the target of a secret whose backend is away: would rotations work there?"""
        secret = self._parts.secret(name)
        if not isinstance(secret.rotation, Examines):
            return []
        steps = self._parts.engine.steps(secret)
        found = secret.rotation.examine(None, steps.context(None))
        return [finding for finding in found if finding.subject.startswith("target ")]

    def _plan(self, secret: ManagedSecret) -> list[Finding]:
        """Plan a rotation. Returns nothing; raises what prevents it."""
        _ = self._parts.engine.plan(secret)
        return []

    def _secret(self, name: str) -> list[Finding]:
        secret, subject = self._parts.secret(name), f"secret {name}"
        found: list[Finding] = []
        current = secret.backend.current(secret.path)
        credential = current.credential if current else None
        steps = self._parts.engine.steps(secret)
        if isinstance(secret.rotation, Examines):
            found += secret.rotation.examine(credential, steps.context(credential))
        if any(finding.severity is Severity.ERROR for finding in found):
            planned = findings.guarded(subject, lambda: self._plan(secret))
            remedies = {finding.remedy for finding in found}
            return [*found, *(finding for finding in planned if finding.remedy not in remedies)]
        steps.control(credential.username if credential else None)
        found.append(findings.ok(f"target {secret.target_name}", "refuses a wrong password"))
        record = self._parts.journal.secret(name)
        found += findings.guarded(subject, lambda: self._copies(secret, credential, steps))
        if credential is None:
            message = "nothing is published yet: the first rotation creates its login"
            found.append(findings.ok(subject, message))
        elif not secret.rotation.probe(credential, steps.context(credential)):
            why = steps.rejection(credential)
            message = f"the target rejects login {credential.username!r} with what the backend serves{why.because}"
            remedy = (
                why.hint or f"Put the valid password into the backend, or: rotator rotate {name}"
            )
            if is_delegated(secret):
                remedy = f"Request another one: rotator rotate {name}"
            found.append(findings.error(subject, message, remedy))
        else:
            found.append(findings.ok(subject, f"login {credential.username!r} works"))
        found += findings.guarded(subject, lambda: self._second(secret, credential))
        chosen = self._parts.entry(name)
        restored = JournalIntegrity(self._parts).put_back(chosen, secret.backend)
        if restored is not None:
            message = f"{restored.where}: {restored}"
            remedy = f"Put its newest copy back. If that is lost and the login works: rotator adopt {name}"
            found.append(findings.error(subject, message, remedy))
        elif current is not None and (record is None or record.version != current.id):
            message = f"the journal does not know version {current.id}, which the backend serves"
            remedy = f"Take it over: rotator adopt {name}"
            if record is not None and is_delegated(secret):
                message += ": it rotated automatically"
                remedy = f"Record that: rotator verify {name}"
            found.append(findings.warning(subject, message, remedy))
        found += findings.guarded(subject, lambda: self._plan(secret))
        if secret.rotation.overlaps and secret.policy.grace.total_seconds() < 3600:  # noqa: PLR2004 # an hour
            message = f"its grace period is {durations.write(secret.policy.grace)}: consumers that cache a credential longer are refused"
            found.append(findings.warning(subject, message, "Set `grace` to an hour or more."))
        return found

    def _second(self, secret: ManagedSecret, credential: Credential | None) -> list[Finding]:
        """Return nothing; raises where a second login exists that the next rotation could not take."""
        self._parts.engine.require_no_second(secret, credential)
        return []

    def _copies(
        self, secret: ManagedSecret, credential: Credential | None, steps: Steps
    ) -> list[Finding]:
        """Report copies that cannot be written, or do not hold what the backend serves."""
        steps.copies.check(credential)
        found: list[Finding] = []
        for stale in steps.copies.stale(credential) if credential is not None else ():
            message = f"the copy {stale} does not hold what the backend serves"
            remedy = "The next rotation writes it."
            found.append(findings.warning(f"secret {secret.name}", message, remedy))
        return found
