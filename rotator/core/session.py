"""Who is still logged in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One open session of a login on a target: who still uses the old credential."""

    login: str
    client: str
    application: str = ""
    since: datetime | None = None
