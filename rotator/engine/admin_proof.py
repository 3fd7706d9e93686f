"""Where a secret is the admin of a target: the proof that a login can do what an admin does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rotator.core.errors import Denied
from rotator.core.model import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Check, Credential, Finding


class AdminProof(Protocol):
    """Proves it on each target whose admin the secret is."""

    def prove(
        self, login: Credential, ctx: StepContext, *, over: Credential | None = None
    ) -> tuple[Check, ...]:
        """As `login`, create a scratch login, log in as it, and drop it. An ensure.

        `over`: a login whose password `login` must be able to change. Raises `Denied` for a missing
        right, with its remedy.
        """
        ...

    def clear(self, ctx: StepContext) -> None:
        """Drop the scratch login that an interrupted proof may have left."""
        ...

    def renew(self) -> None:
        """Let go of the idle sessions of this process, which are of the former login."""
        ...


def require_no_errors(findings: Iterable[Finding]) -> None:
    """Raise `Denied` for what `doctor` reports as an error."""
    for one in findings:
        if one.severity is Severity.ERROR:
            raise Denied(f"{one.message.rstrip('.')}.", hint=one.remedy)
