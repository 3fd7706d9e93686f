"""The parts of the console: the journal without its key, the configuration without its secrets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rotator import system
from rotator.bootstrap.requests import requests_of
from rotator.core.access import Permission, Subject
from rotator.faces.web.live_fleet import LiveFleet
from rotator.faces.web.presenting import window_policies
from rotator.faces.web.references import plain_resolver
from rotator.faces.web.sessions import SessionFile, Sessions, Throttle
from rotator.faces.web.users import LocalUsers
from rotator.journal.browsing import Browser
from rotator.journal.consumers import SqlConsumers
from rotator.journal.observations import SqlObservations
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.logs import get_log
from rotator.secret_state import Overview

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.config import Settings
    from rotator.core.access import Access, Actor
    from rotator.core.model import Policy
    from rotator.core.ports import Clock, Log
    from rotator.core.secret import Secret
    from rotator.core.web_settings import WebSettings
    from rotator.faces.web.live_fleet import View
    from rotator.requests import Requests

_MOST_VISIBLE: Final = 64


class Console:
    """What the pages and the API work with."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """Open the journal and read the state of every secret. Raises `JournalError`, `UsageError`."""
        self.settings: Settings = settings
        self.web: WebSettings = settings.web
        self.clock: Clock = clock or system.SystemClock()
        self.log: Log = get_log()
        self.resolve: Callable[[str], Secret] = plain_resolver(settings.base)
        self._session_file: SessionFile = SessionFile(self.web.sessions)
        self.sessions: Sessions = Sessions(self._session_file, self.clock, self.web.session)
        self.throttle: Throttle = Throttle(self._session_file, self.clock)
        url, password = settings.journal.url, settings.journal.password
        if self.web.journal_url is not None:
            url, password = self.web.journal_url, self.web.journal_password
        self.journal: SqlJournal = SqlJournal(
            url,
            clock=self.clock,
            actor=str(system.actor("web")),
            password=self.resolve(password) if password is not None else None,
            base=settings.base,
        )
        self.browser: Browser = Browser(self.journal)
        self.registry: SqlConsumers = SqlConsumers(self.journal, self.clock)
        self.overview: Overview = Overview(
            journal=self.journal,
            observations=SqlObservations(self.journal),
            secrets=settings.secrets,
            now=self.clock.now,
            default_policy=settings.default_policy,
            is_dead=system.is_dead,
            registry=self.registry,
        )
        self.access: Access = settings.access
        self.requests: Requests = requests_of(settings, self.journal)
        self.users: LocalUsers = LocalUsers(self.web.users)
        try:
            self.fleet: LiveFleet = LiveFleet(self.overview, self.browser, self.log)
        except BaseException:
            self.journal.close()
            raise
        self.agenda: SqlWorklist = SqlWorklist(self.journal)
        self.tags: tuple[str, ...] = tuple(
            sorted({tag for one in settings.secrets.values() for tag in one.tags})
        )
        # The secrets that declare consumers.
        self.consuming: frozenset[str] = frozenset(
            name for name, one in settings.secrets.items() if one.consumers
        )
        self.window_policies: Sequence[Policy] = window_policies(settings.secrets)
        # Held while a report is written.
        self.reporting: threading.Lock = threading.Lock()
        self._visible: dict[tuple[int, Actor], frozenset[str] | None] = {}

    def close(self) -> None:
        """Give back every connection."""
        self.fleet.close()
        self.journal.close()
        self._session_file.close()

    def has_local_users(self) -> bool:
        """Return whether somebody can sign in with a password."""
        return self.web.oidc is None or self.web.users.exists()

    def can_request(self) -> bool:
        """Return whether engines may accept a request of the console; without a key it only reads."""
        return self.settings.requests.key is not None or not self.journal.has_key()

    def open_requests(self, visible: frozenset[str] | None) -> int:
        """Return how many requests wait, of those that somebody may see."""
        return sum(visible is None or one.secret in visible for one in self.requests.open())

    @property
    def view(self) -> View:
        """How the fleet is."""
        return self.fleet.view

    def subject(self, name: str) -> Subject:
        """Return what rules know of a secret, also of one that only the journal knows."""
        known = self.settings.secrets.get(name)
        return Subject(name=name, tags=known.tags if known is not None else ())

    def may(self, actor: Actor, permission: Permission, name: str | None = None) -> bool:
        """Return whether an actor may do this to a secret; without one: to any secret at all."""
        subject = None if name is None else self.subject(name)
        return self.access.may(actor, permission, subject)

    def visible(self, actor: Actor) -> frozenset[str] | None:
        """Return the secrets that an actor may see; None for all."""
        key = (self.view.number, actor)
        if key not in self._visible:
            if len(self._visible) >= _MOST_VISIBLE:
                self._visible.clear()
            self._visible[key] = self._looked_up(actor)
        return self._visible[key]

    def _looked_up(self, actor: Actor) -> frozenset[str] | None:
        if self.access.covers_all(actor, Permission.VIEW):
            return None
        return frozenset(name for name in self.view.names if self.may(actor, Permission.VIEW, name))
