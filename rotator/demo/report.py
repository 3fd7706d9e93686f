"""What the demo has seen: numbers and findings, ready to be shown or written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Scene:
    """One part of the demo. `ok`: it went as it must."""

    title: str
    said: str
    ok: bool
    seconds: float = 0.0

    def data(self) -> dict[str, object]:
        """Return it as JSON-ready data."""
        return {
            "title": self.title,
            "said": self.said,
            "ok": self.ok,
            "seconds": round(self.seconds, 2),
        }


@dataclass(slots=True, kw_only=True)
class ClientReport:
    """What one application met. `longest_gap`: seconds from a refused login to the next good one."""

    strategy: str
    logins: int = 0
    failures: int = 0
    longest_gap: float = 0.0
    held_ended: int = 0
    held_moved: int = 0
    last_failure: str = ""


@dataclass(slots=True, kw_only=True)
class DemoReport:
    """The whole demo."""

    server: str = ""
    seconds: float = 0.0
    scenes: list[Scene] = field(default_factory=list[Scene])
    clients: list[ClientReport] = field(default_factory=list[ClientReport])
    rotations: int = 0
    old_refused: int = 0
    old_revoked: int = 0
    resumed: int = 0
    rolled_back: int = 0
    undone: int = 0
    audit_events: int = 0
    audit_checkpoints: int = 0
    audit_ok: bool = False
    orphans: list[str] = field(default_factory=list[str])
    password_in_server_log: bool = True

    @property
    def ok(self) -> bool:
        """Whether everything went as it must."""
        overlapping = [one for one in self.clients if one.strategy != "single-user"]
        return (
            all(scene.ok for scene in self.scenes)
            and all(one.failures == 0 and one.logins > 0 for one in overlapping)
            and self.old_refused == self.old_revoked > 0
            and self.audit_ok
            and not self.password_in_server_log
        )

    def data(self) -> dict[str, object]:
        """Return it as JSON-ready data; the keys are documented in docs/reference/cli.md."""
        return {
            "server": self.server,
            "seconds": round(self.seconds, 1),
            "rotations": self.rotations,
            "client_logins": {one.strategy: one.logins for one in self.clients},
            "client_failures": {one.strategy: one.failures for one in self.clients},
            "longest_gap_milliseconds": {
                one.strategy: round(one.longest_gap * 1000, 1) for one in self.clients
            },
            "old_refused": self.old_refused,
            "old_revoked": self.old_revoked,
            "resumed": self.resumed,
            "rolled_back": self.rolled_back,
            "undone": self.undone,
            "audit_events": self.audit_events,
            "audit_checkpoints": self.audit_checkpoints,
            "audit_ok": self.audit_ok,
            "orphans": self.orphans,
            "password_in_server_log": self.password_in_server_log,
            "scenes": [one.data() for one in self.scenes],
        }
