"""The application: its parts, wired, with what faces ask of them together.

What examines the parts is imported when it is asked for: most commands do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

from rotator.bootstrap.wiring import Wiring
from rotator.config import load
from rotator.core.contracts.backend import ListsRights
from rotator.core.reads import readers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rotator.access.ingest import Ingest
    from rotator.bootstrap.discovery import DiscoveredLogin
    from rotator.bootstrap.doctor import Doctor
    from rotator.bootstrap.journal_integrity import JournalIntegrity, KeyRotation
    from rotator.config import Settings
    from rotator.core.errors import RotatorError
    from rotator.core.model import Event, Finding
    from rotator.core.reads import LogKind, Reader
    from rotator.core.rights import Rights
    from rotator.find.known import KeptVersion
    from rotator.find.login_attempts import Outcome
    from rotator.find.model import Candidate
    from rotator.journal.checkpoints import Anchor
    from rotator.journal.event_key import EventKey
    from rotator.journal.reads import SqlReads
    from rotator.journal.report import AuditReport
    from rotator.report.model import Period
    from rotator.report.report import Report, ReportOptions


class App(Wiring):
    """Everything that a face needs."""

    # -- doctor --------------------------------------------------------------------------------

    def doctor(self, names: Sequence[str]) -> list[Finding]:
        """Examine everything that a rotation of these secrets needs; change nothing."""
        return self._doctor().examine(names)

    def examine_new(self, target: str, secret: str | None) -> list[Finding]:
        """Examine a target that no secret is rotated on yet, and the first secret there."""
        return self._doctor().examine_new(target, secret)

    def crowded(self) -> list[Finding]:
        """Return the policies whose windows are too short for the secrets that have them."""
        from rotator.bootstrap import fleet_findings  # noqa: PLC0415

        return fleet_findings.crowded(self)

    # -- discover ------------------------------------------------------------------------------

    def discover(self, target: str) -> list[DiscoveredLogin]:
        """Return the logins of a target, and whose they are; the journal records them for the report."""
        from rotator.bootstrap.discovery import Discovery  # noqa: PLC0415

        discovery = Discovery(self)
        logins = discovery.logins(target)
        discovery.record(target, logins)
        return logins

    def looked_at(self, target: str) -> datetime | None:
        """Return when the logins of a target were recorded last; None where they never were."""
        from rotator.bootstrap.discovery import Discovery  # noqa: PLC0415

        return Discovery(self).recorded_at(target)

    # -- find ----------------------------------------------------------------------------------

    def kept_versions(self) -> tuple[list[KeptVersion], list[tuple[str, RotatorError]]]:
        """Return the values of all secrets that are still kept, and which could not be read."""
        from rotator.bootstrap import kept_versions  # noqa: PLC0415

        return kept_versions.kept_versions(self)

    def try_candidates(
        self,
        candidates: Sequence[Candidate],
        *,
        allowed: Sequence[str] = (),
        known: Mapping[str, tuple[str, str]],
    ) -> list[Outcome]:
        """Log in with each candidate, as `login_servers.try_candidates` does."""
        from rotator.bootstrap import login_servers  # noqa: PLC0415

        return login_servers.try_candidates(self, candidates, allowed=allowed, known=known)

    # -- access --------------------------------------------------------------------------------

    @property
    def reads(self) -> SqlReads:
        """The reads of secrets, as audit logs show them."""
        from rotator.journal.reads import SqlReads  # noqa: PLC0415

        return SqlReads(self.journal, self.clock)

    def ingest(self, kind: LogKind, backend: str | None = None) -> Ingest:
        """Return what takes up audit logs of a kind; `backend`: only of this one. Raises `UsageError`."""
        from rotator.access.ingest import Ingest  # noqa: PLC0415
        from rotator.access.log_lines import parser  # noqa: PLC0415

        return Ingest(
            kind,
            parser(kind, self.settings, backend),
            reads=self.reads,
            consumers=self.consumers,
            secrets=self.settings.secrets,
            names_of=self.names_of,
            clock=self.clock,
        )

    def rights(self, backend: str, names: Collection[str]) -> Rights | None:
        """Return who may do what to secrets in a backend; None where it cannot show that."""
        opened = self.backend(backend)
        if not isinstance(opened, ListsRights):
            return None
        secrets = self.settings.secrets
        return opened.rights([path for name in names for path in secrets[name].paths(backend)])

    def names_of(self, name: str) -> list[str]:
        """Return the name of a secret, then those that it had before."""
        record = self.journal.secret(name)
        return [name, *(record.former_names if record is not None else ())]

    def readers(self, name: str, since: datetime | None = None) -> list[Reader]:
        """Return who read a secret, those that are behind first."""
        names, reads = self.names_of(name), self.reads
        record = self.journal.secret(name)
        current = record.version if record is not None else None
        return readers(reads.of(names, since), reads.publications(names), current)

    # -- the journal ---------------------------------------------------------------------------

    def checkpoint(self) -> Anchor | None:
        """Sign what has been written, as `JournalIntegrity.checkpoint` does."""
        return self._integrity().checkpoint()

    def watch_journal(self) -> AuditReport:
        """Check the journal's definitions and records; see `checkpoint` for its events."""
        return self._integrity().watch()

    def verify_journal(
        self,
        public_key: str | None = None,
        *,
        without: Collection[str] = (),
        seen_by_witness: Sequence[Anchor] = (),
    ) -> AuditReport:
        """Check the whole journal, as `JournalIntegrity.verify` does."""
        integrity = self._integrity()
        return integrity.verify(public_key, without=without, seen_by_witness=seen_by_witness)

    def acknowledge(self, reason: str) -> AuditReport:
        """Record that the journal was put back to an older state."""
        return self._integrity().acknowledge(reason)

    def rotate_key(self, reason: str, *, leaked: bool = False) -> KeyRotation:
        """Replace the signing key, as `JournalIntegrity.rotate_key` does."""
        return self._integrity().rotate_key(reason, leaked=leaked)

    def public_key(self) -> str | None:
        """Return the public half of the signing key (PEM), None when there is no such key."""
        return self._integrity().public_key()

    def export_journal(self, folder: Path, form: Literal["jsonl", "csv"]) -> list[Path]:
        """Write the journal into files that an outsider can verify; signed where there is a key."""
        return self._integrity().export(folder, form)

    def write_receipt(self, folder: Path, secrets: Collection[str], report: str) -> list[Path]:
        """Write a report with the events of its secrets into files that an outsider can verify."""
        return self._integrity().write_receipt(folder, secrets, report)

    def report(self, period: Period, **options: Unpack[ReportOptions]) -> Report:
        """Return what the journal proves about a period, as `build` does. The caller closes it."""
        from rotator.report.report import build  # noqa: PLC0415

        return build(self.journal, period, **options)

    def write_pack(self, folder: Path, report: Report) -> list[Path]:
        """Write the evidence pack of a report: with its events and a program that verifies it."""
        from rotator.report.pack import contents, names  # noqa: PLC0415

        return self._integrity().write_evidence(folder, names(report), contents(report))

    def event_key(self) -> EventKey:
        """Return the key that authenticates events. Raises `UsageError` where none is configured."""
        return self._integrity().event_key()

    def _doctor(self) -> Doctor:
        from rotator.bootstrap.doctor import Doctor  # noqa: PLC0415

        return Doctor(self)

    def _integrity(self) -> JournalIntegrity:
        from rotator.bootstrap.journal_integrity import JournalIntegrity  # noqa: PLC0415

        return JournalIntegrity(self)


def open_app(
    config: Path,
    *,
    face: str = "cli",
    observer: Callable[[Event], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    upgrade: bool = False,
) -> App:
    """Read the configuration and open the application."""
    return App(load(config), face=face, observer=observer, should_stop=should_stop, upgrade=upgrade)


def load_settings(config: Path) -> Settings:
    """Read the configuration. Raises `ConfigError`."""
    return load(config)
