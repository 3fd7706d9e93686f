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
        raise wrong("this is no address.", "Write `127.0.0.1:9464`, or `none` for no server.")
    return text


def _check_url(text: str) -> str:
    if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", text):
        raise wrong(
            "this is no address that is encrypted (it is not repeated).",
            "Write `https://HOST/PATH`; plain http is taken on this machine only.",
        )
    return text


class LimitsDocument(Strict):
    """How much the daemon does at once."""

    total: int = Field(default=_LIMITS.total, ge=1, le=1000, description="Secrets at once, in all.")
    per_target: int = Field(
        default=_LIMITS.per_target,
        ge=1,
        le=1000,
        description="Secrets at once on one target. Below `total`, so that a target that hangs"
        " delays no other.",
    )
    per_backend: int = Field(
        default=_LIMITS.per_backend, ge=1, le=1000, description="Secrets at once in one backend."
    )


class BreakerDocument(Strict):
    """When a target or backend that is away is left alone, but for one try from time to time."""

    failures: int = Field(
        default=_BREAKER.failures,
        ge=1,
        le=1000,
        description="After so many failures in a row that may pass.",
    )
    wait: Positive = Field(default=_BREAKER.wait, description="How long; doubles each time.")
    longest: Positive = Field(default=_BREAKER.longest, description="The longest such wait.")


class DaemonDocument(Strict):
    """How `rotator daemon` works."""

    dispatch: Dispatch = Field(
        default=_DAEMON.dispatch,
        description="Who does the work: `threads` of the daemon, or `procrastinate`: any number of"
        " `rotator worker` by a queue in the journal's PostgreSQL database.",
    )
    limits: LimitsDocument = Field(
        default=LimitsDocument(), description="How much is done at once."
    )
    catch_up: Duration = Field(
        default=_DAEMON.catch_up,
        description="What was missed for longer than this while no daemon ran is spread over as"
        " much time.",
    )
    verify_every: Every = Field(
        default=_DAEMON.verify_every,
        description="How often each secret's current credential is tried; `never` for not at all.",
    )
    checkpoint_every: Positive = Field(
        default=_DAEMON.checkpoint_every, description="How often the journal is signed."
    )
    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        default=_DAEMON.listen,
        description="Where /healthz, /readyz and /metrics are served; `none` for nowhere.",
    )
    shutdown: Positive = Field(
        default=_DAEMON.shutdown,
        description="How long SIGTERM waits for the steps that are under way.",
    )
    breaker: BreakerDocument = Field(
        default=BreakerDocument(), description="What happens when a host is away."
    )


class PartnersDocument(Strict):
    """Secrets that the daemon never rotates within `apart` of each other, such as both of a pair."""

    apart: Positive = Field(description="How far apart, at least.")
    secrets: list[Name] = Field(min_length=2, description="The names of the secrets.")


class NotificationDocument(Strict):
    """Who is told. Never of a secret's value."""

    type: Literal["webhook", "apprise"] = Field(
        description="`webhook`: CloudEvents as JSON, signed; `apprise`: mail and chat services."
    )
    url: Annotated[str, AfterValidator(_check_url)] | None = Field(
        default=None, description="webhook: where to send it: https://HOST/PATH."
    )
    secret: Reference | None = Field(
        default=None,
        description="webhook: reference to the key of the signature. apprise: reference to the"
        " service's URL, such as `file:slack-url`, as Apprise writes it.",
    )
    events: list[Topic] = Field(
        default=[one for one in Topic if one not in ON_DEMAND],
        description="Of what. Default: everything but `checkpoint`.",
    )
