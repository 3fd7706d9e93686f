"""The nouns: credentials, versions, events, policies. Frozen values without behaviour of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from rotator.core.passwords import PasswordPolicy
from rotator.core.secret import Secret
from rotator.core.windows import ALWAYS, Recurring, Windows

# What a journal event may hold. Mappings come back as plain dicts.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A login and its password, with whatever else the backend keeps beside them.

    `fields` holds the backend's other keys (host, port, a whole connection URL, …). They may be
    as secret as the password, so they are not shown; every writer keeps the ones it does not know.
    """

    username: str
    password: Secret
    fields: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a secret as the backend holds it.

    `id` is the backend's own name for it; `rotation_id` names the rotation that wrote it, None when
    somebody else did.
    """

    id: str
    credential: Credential
    rotation_id: str | None = None
    created: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a verification, and whether it passed."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The checks of a verification. The journal keeps them unchanged, so no secret is in them."""

    checks: tuple[Check, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check was as it must be."""
        return all(check.ok for check in self.checks)


class Severity(StrEnum):
    """How much a finding of `doctor` matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of `doctor`: what was checked, the result, and the remedy for a problem."""

    severity: Severity
    subject: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a target rejects a login, as its error number or its catalog shows it.

    `cause`: one word that programs compare, such as `password`, `host`, `expired`, `locked`. `text`:
    the same as a clause that follows a colon. `hint`: the remedy, which can be pasted. All are empty
    where nothing shows the cause.
    """

    cause: str = ""
    text: str = ""
    hint: str = ""

    @property
    def because(self) -> str:
        """The end of a sentence about what was rejected."""
        return f": {self.text}" if self.text else ""


# Nothing shows the cause.
UNEXPLAINED: Final = Rejection()


class Step(StrEnum):
    """A step of a rotation."""

    STAGE = "stage"
    PREPARE = "prepare"
    CREATE = "create"
    VERIFY = "verify"
    PUBLISH = "publish"
    COPY = "copy"
    DRAIN = "drain"
    REVOKE = "revoke"
    RESTORE = "restore"
    WITHDRAW = "withdraw"
    DISCARD = "discard"
    FENCE = "fence"
    # Of a secret that another system rotates.
    CHECK = "check"
    REQUEST = "request"
    AWAIT = "await"
    PROVE = "prove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One thing that a rotation would do, in words or as the statement it would send."""

    step: Step
    text: str


class Kind(StrEnum):
    """What an event of the journal says."""

    REQUESTED = "requested"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    WAITING = "waiting"
    ROLLBACK_REQUESTED = "rollback-requested"
    REVOKE_REQUESTED = "revoke-requested"
    ENDED = "ended"
    ADOPTED = "adopted"
    PARKED = "parked"
    UNPARKED = "unparked"
    CHECKED = "checked"
    SCHEDULED = "scheduled"
    DELEGATED = "delegated"
    FOLLOWED = "followed"
    RETIRE_REQUESTED = "retire-requested"
    RETIRED = "retired"
    RENAMED = "renamed"
    ACKNOWLEDGED = "acknowledged"
    KEY_ROTATED = "key-rotated"
    CONSUMERS_READY = "consumers-ready"
    LEAKED = "leaked"
    PROVEN = "proven"
    INCIDENT_CLOSED = "incident-closed"
    REVEALED = "revealed"
    LEASE_REQUESTED = "lease-requested"
    LEASE_ISSUED = "lease-issued"
    LEASE_JOINED = "lease-joined"
    LEASE_RENEWING = "lease-renewing"
    LEASE_RENEWED = "lease-renewed"
    LEASE_RELEASED = "lease-released"
    LEASE_ENDING = "lease-ending"
    LEASE_FAILED = "lease-failed"
    LEASE_ENDED = "lease-ended"
    LOGINS_LISTED = "logins-listed"


class Outcome(StrEnum):
    """How a rotation ended, or how far it got."""

    DONE = "done"
    UNDONE = "undone"
    ROLLED_BACK = "rolled-back"
    PARKED = "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event before it is written: what the engine says."""

    kind: Kind
    rotation_id: str | None = None
    step: Step | None = None
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as the journal holds it, `seq` counting from 1 in its secret's chain.

    `hash` and `prev_hash` are lower-case hex SHA-256; the first event's `prev_hash` is 64 zeros.
    """

    secret: str
    seq: int
    at: datetime
    actor: str
    fence: int
    kind: Kind
    rotation_id: str | None
    step: Step | None
    data: Mapping[str, Json]
    prev_hash: str
    hash: str


# What stands for the id of a rotation while a plan or a look is made for none.
NO_ROTATION: Final = "<new>"
# No lock lasts longer, unless a policy has steps that do.
LONGEST_LOCK: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The right to work on one secret. A higher `fence` has overtaken a lower one."""

    secret: str
    holder: str
    fence: int
    expires: datetime


class PrepareThen(StrEnum):
    """What to do when consumers have not read the next version after `wait`."""

    PROCEED = "proceed"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Consumers read the next version before the target changes: how long to wait for them, what then."""

    wait: timedelta = timedelta(minutes=2)
    then: PrepareThen = PrepareThen.PROCEED


class DrainThen(StrEnum):
    """What to do when the old login still has sessions after the drain's `wait`."""

    HOLD = "hold"
    TERMINATE = "terminate"


class IncidentMode(StrEnum):
    """How a leaked password is replaced.

    `move`: consumers get the new credential first, for a limited time. `kill`: the leaked password is
    made invalid first, and consumers fail until they have the new one. `map`: nothing is replaced until
    an operator decides.
    """

    MAP = "map"
    MOVE = "move"
    KILL = "kill"


class AfterReveal(StrEnum):
    """What happens after somebody has read the value of a secret.

    `due`: it is due at once. `now`: it is rotated at once, also outside its windows.
    """

    OFF = "off"
    DUE = "due"
    NOW = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a secret is rotated.

    `every`: the period, None when it is only rotated on demand. `grace`: how long the old
    credential stays valid after publish; `until_acknowledged` ends it as soon as every consumer uses the
    new one. `drain_wait` and `drain_then`: how long after the grace
    period the old login's sessions are waited for, and what happens then. `prepare`: consumers read
    the next version before a password is replaced in place; None where they do not. `attempts` at a step
    make a cycle, `cycles` of them are made before the secret is parked. `backoff` doubles from
    one attempt to the next up to `backoff_cap`. `proposals`: how many candidates are tried when
    the target refuses one. `step_timeout`: the deadline of one step. `on_leak`: what happens when a
    program, and no operator, reports that a password leaked. `after_reveal`: what happens after
    `rotator get --reveal`. `owner`: who answers for the secret. `basis`: why it is rotated so.

    `cron` takes the place of `every`. `jitter` delays each secret by a part of it that is its own.
    A rotation begins only while `windows` are open.
    """

    every: timedelta | None = None
    cron: Recurring | None = None
    jitter: timedelta = timedelta(0)
    windows: Windows = ALWAYS
    grace: timedelta = timedelta(hours=24)
    until_acknowledged: bool = False
    drain_wait: timedelta = timedelta(days=7)
    drain_then: DrainThen = DrainThen.HOLD
    drain_poll: timedelta = timedelta(minutes=1)
    prepare: Prepare | None = None
    attempts: int = 4
    cycles: int = 3
    backoff: timedelta = timedelta(seconds=1)
    backoff_cap: timedelta = timedelta(minutes=5)
    proposals: int = 3
    step_timeout: timedelta = timedelta(seconds=30)
    on_leak: IncidentMode = IncidentMode.MAP
    after_reveal: AfterReveal = AfterReveal.OFF
    owner: str = ""
    basis: str = ""
    password: PasswordPolicy = field(default_factory=PasswordPolicy)
