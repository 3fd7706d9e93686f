"""One strategy: AWS draws a second access key, and the first one is made inactive."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rotations.aws_iam.options import SecretOptions
from rotations.aws_iam.service import ASKED, DRAWN, ENDED, OTHERS, OWNER, Gone, require_free
from rotator.api import (
    Check,
    Credential,
    EndStep,
    Evidence,
    Finding,
    InUse,
    NewKey,
    Planned,
    Refused,
    Session,
    Severity,
    Step,
    StepError,
    Transient,
    not_ours,
    passed,
)

if TYPE_CHECKING:
    from rotations.aws_iam.service import AccessKey, Iam, UserKeys
    from rotator.api import StepContext

# AWS applies a change in one place after the other: so many answers in a row must agree.
_AGREE: Final = 3
_PAUSE: Final = 1.0


class NewKeys(NewKey[SecretOptions]):
    """A second access key, drawn by AWS; the old one is made inactive."""

    def __init__(self, iam: Iam, options: SecretOptions) -> None:
        super().__init__(options)
        self._iam: Iam = iam
        self._user: str = options.user

    def keys(self, ctx: StepContext) -> list[str]:
        """Return the user's keys that are this secret's; not one that a revoke made inactive."""
        found = self._iam.keys(self._user, ctx)
        ended = found.tagged(ENDED)
        return [
            one.id
            for one in found.keys
            if found.is_ours(one, ctx) and (one.active or one.id not in ended)
        ]

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:  # noqa: ARG002 # the contract's
        """Write down which keys there are, then create another one."""
        found = self._iam.keys(self._user, ctx)
        require_free(self._user, self._iam, found, ctx)
        ended = found.tagged(ENDED)
        stay = [one for one in found.keys if one.active or one.id not in ended]
        for key in found.keys:
            if key not in stay:
                # Its way back ends here: AWS accepts two keys, active or not.
                with suppress(Gone):
                    self._iam.delete(self._user, key.id, ctx)
        ours = {one.id for one in stay if found.is_ours(one, ctx)}
        tags = {
            OWNER: ctx.secret,
            DRAWN: ours,
            OTHERS: {one.id for one in stay} - ours,
            ENDED: "",
            ASKED: ctx.clock.now().isoformat(timespec="seconds"),
        }
        self._iam.tag(self._user, tags, ctx)
        name, value = self._iam.create(self._user, ctx)
        return Credential(username=name, password=value)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Authenticate as the user, as often in a row as AWS may answer from different places."""
        if not self._agreed(new, ctx, accepted=True):
            raise Refused(f"{self._iam} rejects the access key {new.username!r}.")
        arn = self._iam.caller(new, ctx) or ""
        is_user = ":user/" in arn and arn.rpartition("/")[2] == self._user
        check = Check(name=f"is user {self._user}", ok=is_user, detail=arn)
        return passed(new.username, [Check(name="authenticates", ok=True), check])

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Authenticate once."""
        return self._iam.caller(credential, ctx) is not None

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the last use of an active key, where that is not long ago."""
        found = self._iam.keys(self._user, ctx)
        if all(one.id != login or not one.active for one in found.keys):
            return []
        used = self._iam.last_used(login, ctx)
        if used is None or ctx.clock.now() - used[0] >= self._options.unused_for:
            return []
        return [Session(login=login, client=used[1], application="last use", since=used[0])]

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:  # noqa: ARG002 # the contract's
        """Return the calls of a rotation."""
        user = f"--user-name {self._user}"
        planned = [
            Planned(step=Step.CREATE, text=f"aws iam create-access-key {user}"),
            Planned(step=Step.VERIFY, text="aws sts get-caller-identity, with the new key"),
        ]
        if current is not None:
            key = f"{user} --access-key-id {current.username}"
            text = f"aws iam update-access-key {key} --status Inactive"
            planned.append(Planned(step=Step.REVOKE, text=text))
            if not self._options.keep_inactive:
                planned.append(Planned(step=Step.REVOKE, text=f"aws iam delete-access-key {key}"))
        return planned

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:  # noqa: ARG002 # the contract's
        """Check the user, and whether it can have one more key."""
        subject = f"IAM user {self._user}"
        try:
            found = self._iam.keys(self._user, ctx)
            require_free(self._user, self._iam, found, ctx)
        except StepError as error:
            finding = Finding(
                severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
            )
            return [finding]
        message = "one more access key can be created"
        return [Finding(severity=Severity.OK, subject=subject, message=message)]

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        found = self._iam.keys(self._user, ctx)
        key = next((one for one in found.keys if one.id == login.username), None)
        if key is None:
            return
        if not found.is_ours(key, ctx):
            raise not_ours(f"access key {key.id!r} of IAM user {self._user!r}", key.id, ctx)
        if step == "revoke" and not ctx.end_sessions and (used := self.sessions(key.id, ctx)):
            raise InUse(f"the access key {key.id!r} was used a moment ago.", sessions=used)
        with suppress(Gone):
            self._make_inactive(found, key, login, step, ctx)
            if step == "withdraw" or not self._options.keep_inactive:
                self._iam.delete(self._user, key.id, ctx)

    def _make_inactive(
        self, found: UserKeys, key: AccessKey, login: Credential, step: EndStep, ctx: StepContext
    ) -> None:
        if key.active:
            if step == "revoke":
                tags = {OWNER: ctx.secret, ENDED: found.tagged(ENDED) | {key.id}}
                self._iam.tag(self._user, tags, ctx)
            self._iam.deactivate(self._user, key.id, ctx)
        if login.password.reveal() and not self._agreed(login, ctx, accepted=False):
            raise Transient(
                f"{self._iam} still accepts the access key {key.id!r}, which is inactive.",
                hint="AWS applies the change everywhere in a while: rotator tries again.",
            )

    def _agreed(self, credential: Credential, ctx: StepContext, *, accepted: bool) -> bool:
        """Wait until AWS answers several times in a row that it accepts a key, or that it rejects it."""
        ends = ctx.clock.monotonic() + self._options.patience.total_seconds()
        in_a_row = 0
        while True:
            in_a_row = in_a_row + 1 if self.probe(credential, ctx) is accepted else 0
            if in_a_row == _AGREE:
                return True
            if in_a_row == 0 and ctx.clock.monotonic() + _PAUSE >= min(ends, ctx.deadline):
                return False
            ctx.clock.sleep(_PAUSE)
