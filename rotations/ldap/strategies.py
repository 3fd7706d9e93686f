"""Three strategies on entries that exist: their passwords change, and nothing else of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rotations.ldap.directory import (
    PASSWORD,
    PPOLICY_CONTROL,
    Directory,
    Session,
    is_same_entry,
)
from rotations.ldap.options import SecretOptions
from rotations.ldap.passwords import SALT_BYTES, hashed, matches
from rotator.api import (
    AlternatingLogins,
    Check,
    Conflict,
    Credential,
    Evidence,
    LoginStrategy,
    PasswordInPlace,
    Planned,
    Refused,
    Rejection,
    Secret,
    Step,
    UsageError,
    not_ours,
    passed,
    password_of_nobody,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import EndStep, StepContext

_MARK: Final = "rotator:"
_LOCKED: Final = "pwdAccountLockedTime"
_POLICY: Final = "pwdPolicySubentry"


class LdapLogin(LoginStrategy[SecretOptions]):
    """What all strategies have in common. Satisfies `LocksAccounts`, `Explains` and `ExplainsRejections`."""

    def __init__(self, directory: Directory, options: SecretOptions) -> None:
        self._directory: Directory = directory
        super().__init__(options)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Set the password of an entry of ours."""
        self._set(new, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in, read what a login must be able to read, and compare its groups with the current one's."""

        def work(session: Session) -> list[Check]:
            checks = [Check(name="logs in", ok=True)]
            works = session.who_am_i()
            detail = "" if works else "the server lets it do nothing: must it change its password?"
            checks.append(Check(name="may work", ok=works, detail=detail))
            return checks + [
                Check(name=f"reads {dn}", ok=session.entry(dn, "1.1") is not None)
                for dn in self._options.probes
            ]

        checks = self._directory.log_in(new.username, new.password, ctx, work)
        if checks is None:
            raise Refused(f"{self._directory} rejects login {new.username!r}.")
        return passed(new.username, [*checks, *self._compared(new.username, ctx)])

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once."""
        accepted = self._directory.log_in(
            credential.username, credential.password, ctx, lambda _: True
        )
        return accepted is not None

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Return whether a password policy could lock the entry; unless its own one says no, it could."""
        dn = self._directory.dn_of(login)

        def act(session: Session) -> bool:
            root = session.entry("", "supportedControl") or {}
            if PPOLICY_CONTROL.encode() not in root.get("supportedcontrol", []):
                return False
            entry = session.entry(dn, _POLICY) or {}
            policies = entry.get(_POLICY.lower(), [])
            # The policy that holds for all others is in the server's configuration.
            policy = session.entry(policies[0].decode(), "pwdLockout") if policies else None
            return policy is None or policy.get("pwdlockout", [b"FALSE"]) != [b"FALSE"]

        return self._directory.act(act, ctx, doing=f"reading the password policy of {login!r}")

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Return why it is rejected, as the entry shows it."""
        dn = self._directory.dn_of(credential.username)

        def act(session: Session) -> Rejection | None:
            entry = session.entry(dn, _LOCKED, PASSWORD)
            if entry is None:
                return Rejection(cause="missing", text="there is no such entry")
            if entry.get(_LOCKED.lower()):
                hint = f"Delete the attribute {_LOCKED} of {dn}."
                return Rejection(cause="locked", text="the password policy locked it", hint=hint)
            return None

        return self._directory.act(act, ctx, doing=f"reading entry {dn!r}")

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the changes of a rotation, in words."""
        dn_of = self._directory.dn_of
        new = self.propose(current, ctx)
        planned = [
            Planned(step=Step.CREATE, text=f"{self._creates(current)} {dn_of(new.username)}"),
            Planned(step=Step.VERIFY, text=f"bind as {dn_of(new.username)}"),
        ]
        ending = self._ends(current) if current is not None else ""
        if current is not None and ending:
            planned.append(Planned(step=Step.REVOKE, text=f"{ending} {dn_of(current.username)}"))
        return planned

    def _creates(self, current: Credential | None) -> str:
        _ = current
        return "set the password (RFC 3062) of"

    def _ends(self, old: Credential) -> str:
        _ = old
        return f"delete {PASSWORD} of"

    def _set(self, login: Credential, ctx: StepContext) -> None:
        dn = self._directory.dn_of(login.username)

        def act(session: Session) -> None:
            self._require_ours(session, login.username, ctx)
            session.set_password(dn, login.password)

        self._directory.act(act, ctx, doing=f"setting the password of {login.username!r}")

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        _ = step
        dn = self._directory.dn_of(login.username)

        def act(session: Session) -> None:
            if self._is_ours(session, login.username, ctx):
                session.keep_passwords(dn, [])

        self._directory.act(act, ctx, doing=f"ending login {login.username!r}")

    def _exists(self, name: str, ctx: StepContext) -> bool:
        act = partial(self._is_ours, name=name, ctx=ctx)
        return self._directory.act(act, ctx, doing=f"checking login {name!r}")

    def _require_ours(self, session: Session, name: str, ctx: StepContext) -> None:
        if not self._is_ours(session, name, ctx):
            raise Conflict(
                f"{self._directory} has no entry {self._directory.dn_of(name)!r}.",
                hint=f"Create it, with `{_MARK}{ctx.secret}` in"
                f" {self._directory.options.mark}, or correct the options.",
            )

    def _is_ours(self, session: Session, name: str, ctx: StepContext) -> bool:
        """Return whether there is such an entry. Raises `Conflict` where it is somebody else's."""
        dn, mark = self._directory.dn_of(name), self._directory.options.mark
        current = ctx.current.username if ctx.current is not None else name
        if name != current and is_same_entry(dn, self._directory.dn_of(current)):
            raise Conflict(f"logins {name!r} and {current!r} are the same entry.")
        entry = session.entry(dn, mark)
        if entry is None:
            return False
        marks = [one.decode(errors="replace") for one in entry.get(mark.lower(), [])]
        owners = [one.removeprefix(_MARK) for one in marks if one.startswith(_MARK)]
        if name in ctx.adopted or ctx.names & set(owners):
            return True
        owner = owners[0] if owners else None
        what = f"login {name!r} on {self._directory}"
        raise not_ours(what, name, ctx, pair=self._options.users, owner=owner)

    def _compared(self, new: str, ctx: StepContext) -> list[Check]:
        base, current = self._directory.options.groups, ctx.current
        if base is None or current is None or current.username == new:
            return []
        both = self._directory.dn_of(new), self._directory.dn_of(current.username)

        def act(session: Session) -> list[set[str]]:
            return [session.groups(base, dn) for dn in both]

        ours, theirs = self._directory.act(act, ctx, doing=f"comparing the groups of {new!r}")
        differing = ", ".join(sorted(ours ^ theirs))
        return [Check(name="same groups", ok=not differing, detail=differing)]


class AlternatingUsers(AlternatingLogins[SecretOptions], LdapLogin):
    """Two fixed entries that take turns."""

    def _check(self) -> None:
        super()._check()
        first, second = map(self._directory.options.dn_of, self._options.users)
        if is_same_entry(first, second):
            raise UsageError("`users` names one entry twice.")


class SingleUser(LdapLogin, PasswordInPlace[SecretOptions]):
    """One entry whose password changes in place (no overlap)."""

    def _ends(self, old: Credential) -> str:
        _ = old
        return ""


class DualPassword(SingleUser):
    """One entry that accepts two passwords for a while."""

    overlaps: bool = True
    name = "dual-password"

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Add the new password to the current one."""
        if not self._is_served(new, ctx):
            self._set(new, ctx)
            return

        def act(session: Session, dn: str) -> None:
            values = self._values(session, dn)
            if ctx.fenced:
                session.keep_passwords(dn, [self._hashed(new.password, ctx)])
            elif not any(matches(one, new.password) for one in values):
                session.add_password(dn, self._hashed(new.password, ctx))

        self._change(act, new, ctx, f"adding a password to {new.username!r}")

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Leave the current password only."""
        served = ctx.current
        if served is None or served.username != old.username:
            super().revoke(old, ctx)
            return

        def act(session: Session, dn: str) -> None:
            values = self._values(session, dn)
            if not (len(values) == 1 and matches(values[0], served.password)):
                session.keep_passwords(dn, [self._hashed(served.password, ctx)])

        self._change(act, served, ctx, f"leaving one password of {old.username!r}")

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Remove the new password; where it is not known any more, leave the current one only."""
        served = ctx.current
        if served is None or not self._is_served(new, ctx):
            super().withdraw(new, ctx)
            return

        def act(session: Session, dn: str) -> None:
            values = self._values(session, dn)
            if ctx.fenced:
                session.keep_passwords(dn, [self._hashed(password_of_nobody(ctx), ctx)])
                return
            added = [one for one in values if matches(one, new.password)]
            if not new.password.reveal() or not values or len(added) == len(values):
                session.keep_passwords(dn, [self._hashed(served.password, ctx)])
                return
            for one in added:
                session.remove_password(dn, one)

        self._change(act, new, ctx, f"removing the new password of {new.username!r}")

    def _change(
        self,
        act: Callable[[Session, str], None],
        login: Credential,
        ctx: StepContext,
        doing: str,
    ) -> None:
        dn = self._directory.dn_of(login.username)

        def run(session: Session) -> None:
            self._require_ours(session, login.username, ctx)
            act(session, dn)

        self._directory.act(run, ctx, doing=doing)

    def _values(self, session: Session, dn: str) -> list[bytes]:
        return (session.entry(dn, PASSWORD) or {}).get(PASSWORD.lower(), [])

    def _hashed(self, password: Secret, ctx: StepContext) -> bytes:
        return hashed(password, self._directory.options.hash, ctx.entropy.token(SALT_BYTES))

    @staticmethod
    def _is_served(login: Credential, ctx: StepContext) -> bool:
        return ctx.current is not None and ctx.current.username == login.username

    def _creates(self, current: Credential | None) -> str:
        return super()._creates(current) if current is None else f"add a value of {PASSWORD} to"

    def _ends(self, old: Credential) -> str:
        _ = old
        return f"leave one value of {PASSWORD} of"


STRATEGIES: Final[dict[str, type[LdapLogin]]] = {
    one.name: one for one in (DualPassword, AlternatingUsers, SingleUser)
}
