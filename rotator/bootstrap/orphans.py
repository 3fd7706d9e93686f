"""Finds orphans: logins on a target that bear rotator's mark and that the journal does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.bootstrap import findings
from rotator.core.contracts.plugin import ListsMarked
from rotator.core.errors import StepError
from rotator.core.history import text, texts
from rotator.core.lease_chain import chain_of
from rotator.core.model import Kind
from rotator.core.observations import Observation, ObservationKind

if TYPE_CHECKING:
    from rotator.bootstrap.wiring import Wiring
    from rotator.core.model import Finding, Json

# The newest rotations and events of a secret that are read: enough to mean all of them.
_MANY: Final = 10_000


class Orphans:
    """Compares the marked logins of targets with the journal and the backends."""

    def __init__(self, parts: Wiring) -> None:
        self._parts: Wiring = parts

    def examine(self, name: str) -> list[Finding]:
        """Return the orphans of a target. `rotator status` shows them from then on."""
        target = self._parts.target(name)
        if not isinstance(target, ListsMarked):
            return []
        configured = [
            secret.name for secret in self._parts.settings.secrets.values() if secret.target == name
        ]
        ctx = self._parts.engine.steps(self._parts.secret(configured[0])).context(None)
        records = {record.name: record for record in self._parts.journal.secrets()}
        served = {record.login for record in records.values()}
        names = list(dict.fromkeys([*configured, *records]))
        # The daemon itself ends those of leases that no lease accounts for.
        lent = [chain_of(one) for one in names]
        # None where the backend cannot be read: it may serve any login.
        known: dict[str, set[str] | None] = {}
        orphans: list[Observation] = []
        for account in target.marked(ctx):
            if not account.can_login or account.login in served:
                continue
            if any(map(account.is_of, lent)):
                continue
            owner = next((secret for secret in names if account.is_of(secret)), None)
            if owner is None:
                continue
            if owner not in known:
                known[owner] = self.accounted_for(owner)
            accounted_for = known[owner]
            if accounted_for is None or account.login in accounted_for:
                continue
            data: dict[str, Json] = {
                "what": f"login {account.login!r} bears the mark of secret {owner}, and the journal does not know it.",
                "hint": f"If nothing uses it, on {name}: {account.remove}",
            }
            orphans.append(
                Observation(
                    kind=ObservationKind.ORPHAN,
                    subject=f"{name}/{account.login}",
                    at=self._parts.clock.now(),
                    data=data,
                )
            )
        self._parts.observations.replace(ObservationKind.ORPHAN, f"{name}/", orphans)
        return [
            findings.error(
                f"target {name}", f"orphan: {orphan.data['what']}", f"{orphan.data['hint']}"
            )
            for orphan in orphans
        ]

    def accounted_for(self, name: str) -> set[str] | None:
        """Return the logins that are no orphans; None where the backend cannot be read."""
        try:
            return self._known_logins(name) | self._served(name)
        except StepError:
            # The examination of that secret reports it.
            return None

    def _served(self, name: str) -> set[str]:
        """Return the login that the backend serves, made by us or not: an application may use it."""
        secret = self._parts.secret(name)
        current = secret.backend.current(secret.path)
        return {current.credential.username} if current is not None else set()

    def _known_logins(self, name: str) -> set[str]:
        """Return the logins of a secret that the journal accounts for: in use, left, or proven dead."""
        journal = self._parts.journal
        record = journal.secret(name)
        if record is None:
            return set()
        logins = {*record.adopted, *((record.login,) if record.login else ())}
        for rotation in journal.rotations(name, _MANY):
            if rotation.ended_at is None:
                logins |= {login for login in (rotation.old_login, rotation.new_login) if login}
            elif rotation.old_refused and rotation.old_login:
                logins.add(rotation.old_login)
        for event in journal.events(name, _MANY):
            if event.kind is Kind.RETIRED:
                logins |= {text(event.data, "login") or "", *texts(event.data, "logins_left")}
        if record.renamed_to is not None:
            logins |= self._known_logins(record.renamed_to)
        return logins
