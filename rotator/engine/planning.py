"""Plans a rotation: what it would do, step by step. Changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotator.core.consumers import Gate
from rotator.core.contracts.rotation import DrawsKeys, Explains, TakesTurns
from rotator.core.delegated import DelegatedRotation
from rotator.core.durations import write, write_grace
from rotator.core.model import NO_ROTATION, Credential, Planned, Prepare, Step
from rotator.core.state_machine import DELEGATED, FORWARD
from rotator.engine.delegated import is_delegated
from rotator.engine.results import Plan, UnprovenSecond
from rotator.engine.rotation_request import prepares_for

if TYPE_CHECKING:
    from rotator.engine.context import SecretContext
    from rotator.engine.steps import ManagedSecret

# What a plan shows in the place of the rotation's id.
_NOT_BEGUN: Final = "(its id)"
# How plugins named the steps of another system before it had steps of its own.
_DELEGATED: Final = {Step.CREATE: Step.REQUEST, Step.VERIFY: Step.PROVE}
# What an admin proves.
_ROUND: Final = "create a scratch login, log in as it, drop it"


def plan(access: SecretContext) -> Plan:
    """Return what a rotation would do. Raises what would prevent it from beginning."""
    secret, record = access.secret, access.record()
    current = secret.backend.current(secret.path)
    credential = current.credential if current else None
    ctx = access.steps(_NOT_BEGUN, record).context(credential)
    delegated = is_delegated(secret)
    require_no_second(access, credential)
    steps: list[Planned] = []
    if isinstance(secret.rotation, Explains) and not (
        delegated and not isinstance(secret.rotation, DelegatedRotation)
    ):
        steps = secret.rotation.explain(credential, ctx)
    complete = _delegated_steps if delegated else _with_engine_steps
    return Plan(
        secret=secret.name,
        login=credential.username if credential else None,
        steps=tuple(complete(secret, steps, has_old=credential is not None)),
        open_rotation=record.open_rotation if record else None,
        next_due=record.next_due if record else None,
    )


def require_no_second(access: SecretContext, current: Credential | None) -> None:
    """Raise `UnprovenSecond` where a second login exists that the next rotation could not take."""
    rotation = access.secret.rotation
    if current is not None and isinstance(rotation, TakesTurns):
        ctx = access.steps(NO_ROTATION, access.record()).context(current)
        if (name := rotation.unmanaged(current, ctx)) is not None:
            raise UnprovenSecond(access.name, name)


def _gates(secret: ManagedSecret) -> str:
    """Return what of the consumers the drain waits for."""
    listed = [
        f"{one.instances} of {one.name} ({one.gate.value})"
        for one in secret.consumers
        if one.gate is not Gate.OFF
    ]
    return f", and for consumers: {', '.join(listed)}" if listed else ""


def _prepare(secret: ManagedSecret) -> str:
    """Return what happens before the target changes."""
    prepare = secret.policy.prepare or Prepare()
    counted = [one for one in secret.consumers if one.gate is not Gate.OFF]
    listed = ", ".join(f"{one.instances} of {one.name}" for one in counted) or "nobody"
    return (
        f"let consumers read it in {secret.backend_name} as the next version, and wait for {listed}"
        f" to have read it (at most {write(prepare.wait)}, then {prepare.then.value})"
    )


def _with_engine_steps(
    secret: ManagedSecret, steps: list[Planned], *, has_old: bool
) -> list[Planned]:
    """Return the steps of the plugin with those of the engine between them."""
    policy = secret.policy
    grace = write_grace(policy.grace, until_acknowledged=policy.until_acknowledged)
    kept = f"in {secret.backend_name}, at {secret.path}, unseen by consumers"
    draws = isinstance(secret.rotation, DrawsKeys)
    own = {
        **({} if draws else {Step.STAGE: f"keep the new credential {kept}"}),
        **({Step.PREPARE: _prepare(secret)} if prepares_for(secret) and has_old else {}),
        Step.PUBLISH: f"make it current in {secret.backend_name}, only if nobody else wrote there; read it back",
        Step.DRAIN: f"wait {grace} (grace), then until the old login has no sessions"
        f" (at most {write(policy.drain_wait)}, then {policy.drain_then.value})"
        f"{_gates(secret)}"
        if secret.rotation.overlaps
        else "nothing: the old password stopped working when the new one was set",
    }
    if secret.copies:
        listed = ", ".join(map(str, secret.copies))
        own[Step.COPY] = f"write it to {listed} too, and read it back"
    if draws:
        own[Step.CREATE] = "end keys that nobody knows because an answer of the target was lost"
    after = {Step.REVOKE: "log in with the old credential and require that it is refused"}
    if draws:
        after[Step.CREATE] = f"keep the key that the target drew {kept}, before anything else"
    if secret.admin_proof is not None:
        if has_old:
            own[Step.CREATE] = f"first, as the present admin: {_ROUND}"
        after[Step.VERIFY] = f"as the new admin: {_ROUND}"
    planned: list[Planned] = []
    of_old = (Step.DRAIN, Step.REVOKE)
    for step in (one for one in FORWARD if has_old or one not in of_old):
        planned += [Planned(step=step, text=own[step])] if step in own else []
        planned += [planned_step for planned_step in steps if planned_step.step is step]
        planned += [Planned(step=step, text=after[step])] if step in after else []
    return planned


def _delegated_steps(
    secret: ManagedSecret, steps: list[Planned], *, has_old: bool
) -> list[Planned]:
    """Return the steps where another system rotates on request, and the result is proven."""
    steps = [replace(one, step=_DELEGATED.get(one.step, one.step)) for one in steps]
    own = {planned.step for planned in steps}
    asked = f"ask {secret.backend_name} to rotate {secret.path}, once; a lost answer is looked for"
    tried = (
        f"log in on {secret.target_name} with what is served then; where it is refused, ask again,"
        f" at most {secret.policy.proposals} times in all"
    )
    checked = f"log in on {secret.target_name} with what is served now, and with a wrong password"
    waits = f"wait until {secret.backend_name} serves another version"
    texts = {Step.CHECK: checked, Step.REQUEST: asked, Step.AWAIT: waits, Step.PROVE: tried}
    if has_old:
        texts[Step.REVOKE] = "log in with the old credential and write down whether it is refused"
    added = [Planned(step=step, text=text) for step, text in texts.items() if step not in own]
    planned = [one for one in (*steps, *added) if one.step in DELEGATED]
    return sorted(planned, key=lambda one: DELEGATED.index(one.step))
