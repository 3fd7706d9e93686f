"""Users of RabbitMQ: a new one each time, two taking turns, or in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.rabbitmq.broker import Broker
from rotations.rabbitmq.options import SecretOptions, TargetOptions
from rotations.rabbitmq.rights import tags_of
from rotations.rabbitmq.strategies import STRATEGIES
from rotator.api import Finding, Plugin, Severity, StepError

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


def _examine(broker: Broker, ctx: StepContext) -> list[Finding]:
    """Ask the management API who the admin is."""
    subject = str(broker)
    try:
        tags = broker.get(ctx, "whoami", take=tags_of) or []
    except StepError as error:
        finding = Finding(
            severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
        )
        return [finding]
    if "administrator" not in tags:
        message = "the admin has no tag `administrator`, so it cannot change users"
        remedy = "Give it the tag: rabbitmqctl set_user_tags USER administrator"
        return [Finding(severity=Severity.ERROR, subject=subject, message=message, remedy=remedy)]
    return [Finding(severity=Severity.OK, subject=subject, message="the admin can change users")]


PLUGIN: Final = Plugin(
    name="rabbitmq",
    summary="RabbitMQ, by its management API.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Broker,
    in_place="single-user",
    examine=_examine,
)
