"""The shape of the sections for the daemon: `daemon`, `partners`, `notifications`."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rotator.config.errors import wrong
from rotator.config.types import Duration, Every, Name, Positive, Reference
from rotator.core.daemon_settings import (
    ON_DEMAND,
    BreakerSettings,
    DaemonSettings,
    Dispatch,
    Limits,
    Topic,
)

_LIMITS: Final = Limits()
_BREAKER: Final = BreakerSettings()
_DAEMON: Final = DaemonSettings()
_LISTEN: Final = re.compile(r"none|(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}")


class Strict(BaseModel):
    """Nothing is guessed: no unknown key, no number for a text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _check_listen(text: str) -> str:
    if not _LISTEN.fullmatch(text):
        raise wrong("invalid address.", "Write `127.0.0.1:9464`, or `none` to disable the server.")
    return text


def _check_url(text: str) -> str:
    if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", text):
        raise wrong(
            "expected an encrypted (https) URL (value redacted).",
            "Write `https://HOST/PATH`; plain http is accepted only for this machine.",
        )
    return text


class LimitsDocument(Strict):
    """How much the daemon does at once."""

    total: int = Field(
        default=_LIMITS.total, ge=1, le=1000, description="Maximum concurrent rotations in total."
    )
    per_target: int = Field(
        default=_LIMITS.per_target,
        ge=1,
        le=1000,
        description="Maximum on one target; below `total`, in case one hangs.",
    )
    per_backend: int = Field(
        default=_LIMITS.per_backend,
        ge=1,
        le=1000,
        description="Maximum concurrent rotations in one backend.",
    )


class BreakerDocument(Strict):
    """When a target or backend that is away is left alone, but for one try from time to time."""

    failures: int = Field(
        default=_BREAKER.failures,
        ge=1,
        le=1000,
        description="Consecutive transient failures that open the circuit breaker.",
    )
    wait: Positive = Field(
        default=_BREAKER.wait, description="Wait after the breaker opens; doubles each time."
    )
    longest: Positive = Field(default=_BREAKER.longest, description="Maximum wait.")


class LeaksDocument(Strict):
    """Keys of the sources that may report leaked passwords. One without a key cannot."""

    github: Reference | None = Field(
        default=None, description="Secret of GitHub's webhook for secret scanning alerts."
    )
    gitlab: Reference | None = Field(
        default=None, description="Token that GitLab sends as `X-Gitlab-Token`."
    )
    scanner: Reference | None = Field(
        default=None,
        description="Bearer token for posted reports of gitleaks and trufflehog.",
    )


class ReportsDocument(Strict):
    """Where consumers report the version that they use, by their tokens, and scanners leaked passwords."""

    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        default="none",
        description="Address, such as `0.0.0.0:9465`; `none` disables it.",
    )
    certificate: str | None = Field(
        default=None,
        min_length=1,
        description="TLS certificate file (PEM). Required, except on loopback.",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description="File with the private key of the certificate (PEM).",
    )
    leaks: LeaksDocument = Field(
        default=LeaksDocument(),
        description="Sources that may report leaked passwords; off without a key.",
    )


class DaemonDocument(Strict):
    """How `rotator daemon` works."""

    dispatch: Dispatch = Field(
        default=_DAEMON.dispatch,
        description="What runs the jobs: `threads` of the daemon, or `procrastinate`: any number of"
        " `rotator worker` processes, with a queue in the journal's PostgreSQL database.",
    )
    limits: LimitsDocument = Field(
        default=LimitsDocument(), description="How many jobs run concurrently."
    )
    catch_up: Duration = Field(
        default=_DAEMON.catch_up,
        description="After a longer pause, overdue work is spread over this time.",
    )
    verify_every: Every = Field(
        default=_DAEMON.verify_every,
        description="How often to try each current credential; `never` disables it, and the daily list of logins.",
    )
    checkpoint_every: Positive = Field(
        default=_DAEMON.checkpoint_every, description="How often to sign the journal."
    )
    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        default=_DAEMON.listen,
        description="Address of /healthz, /readyz and /metrics; `none` disables it.",
    )
    reports: ReportsDocument = Field(
        default=ReportsDocument(), description="Reports of consumers: which version they use."
    )
    shutdown: Positive = Field(
        default=_DAEMON.shutdown,
        description="How long SIGTERM waits for running steps.",
    )
    breaker: BreakerDocument = Field(
        default=BreakerDocument(),
        description="Circuit breaker: what happens when a host is unavailable.",
    )


class PartnersDocument(Strict):
    """Secrets that the daemon never rotates within `apart` of each other, such as both of a pair."""

    apart: Positive = Field(description="Minimum time between rotations in the group.")
    secrets: list[Name] = Field(min_length=2, description="Names of the secrets.")


class NotificationDocument(Strict):
    """Who is told. Never of a secret's value."""

    type: Literal["webhook", "apprise"] = Field(
        description="`webhook`: CloudEvents as JSON, signed; `apprise`: mail and chat services."
    )
    url: Annotated[str, AfterValidator(_check_url)] | None = Field(
        default=None, description="webhook: URL of the receiver: https://HOST/PATH."
    )
    secret: Reference | None = Field(
        default=None,
        description="webhook: reference to the signing key. apprise: reference to the service's URL in"
        " Apprise's format, such as `file:slack-url`.",
    )
    events: list[Topic] = Field(
        default=[one for one in Topic if one not in ON_DEMAND],
        description="Topics to send. Default: all except `checkpoint`.",
    )
