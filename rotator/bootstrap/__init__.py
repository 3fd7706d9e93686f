"""Builds the application from its settings: the only place that names concrete classes."""

from rotator.bootstrap.access_policy import policy
from rotator.bootstrap.app import App, load_settings, open_app
from rotator.bootstrap.setup import initialise, journal_revision, upgrade_journal

__all__ = [
    "App",
    "initialise",
    "journal_revision",
    "load_settings",
    "open_app",
    "policy",
    "upgrade_journal",
]
