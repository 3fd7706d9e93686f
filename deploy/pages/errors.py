"""The kinds of errors: their meanings from the classes, what the engine does, and remedies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from deploy.pages import markdown
from rotator.core import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

# A kind that never reaches an answer: every step error is of a kind below it, and open sessions are waited for.
INTERNAL: Final = {"step", "in-use", "already-taken"}
# What the command line itself reports, without a class in the core.
OUTSIDE: Final = {
    "config": "One problem of the configuration, with its place.",
    "system": "The operating system rejected a call: a file, a folder, the disk.",
    "bug": "An error that rotator does not expect.",
    "leaking-log": "`access ingest`: an audit log holds values or tokens in plain text; none of them was kept.",
    "sink": "A sink of `rotator agent` or a file of `rotator exec` failed; what it held before is whole.",
    "not-delivered": "`notify test`: a channel did not accept the notice.",
    "not-accepted": "`verify`: the target rejects what the backend serves.",
    "not-usable": "A check of `init --target` failed: nothing was written.",
    "interrupted": "Ctrl-C or SIGTERM ended the command; the error names what is open.",
}
REMEDIES: Final = {
    "usage": "Correct the command: `rotator COMMAND --help`. Nothing was changed.",
    "config": "Correct the line that the error names; `rotator check` shows all problems at once.",
    "not-permitted": "Ask somebody with a role that allows it ([roles](../how-to/roles.md)). The attempt is recorded.",
    "needs-approval": "Request it: `rotator request ACTION NAME --reason WHY`. In an emergency, with the role breaker: `--break-glass`.",
    "ended": "Take a new lease: `rotator lease issue NAME --for WHO`.",
    "transient": "Run `rotator resume NAME` later. The daemon retries automatically.",
    "unavailable": "Fix the host, login or right that the error names; `rotator doctor` checks it. All its secrets then resume.",
    "unknown": "Run `rotator resume NAME`: rotator finds out what happened before it acts.",
    "refused": "Read why the target rejects new credentials (password rules, a missing right of the group, a failing probe), fix it, rotate again.",
    "denied": "Grant the right that the error names, then `rotator unpark NAME --reason granted`.",
    "current-rejected": "Set the served password on the target, or write the valid one into the backend and run `rotator adopt NAME`. In the grace period: `rotator rollback NAME`.",
    "unprovable": "The target accepts a wrong password: fix its authentication (such as `trust` in pg_hba.conf, or a login without a password).",
    "conflict": "Find out who wrote or owns it. `rotator adopt NAME` if the change is valid; otherwise remove it.",
    "not-due": "Wait, or end the grace period now: `rotator revoke NAME`.",
    "busy": "Wait for the other process; `rotator status` shows it.",
    "lock-lost": "None: the other process continues.",
    "parked": "Fix the cause that `rotator status` names, then `rotator unpark NAME --reason fixed`.",
    "journal": "Restore access to the audit database; rotator changes nothing without it.",
    "no-key": "Name a key that engines accept as `requests.key`: [Roles, requests and approvals](../how-to/roles.md#requests).",
    "journal-broken": "`rotator audit verify` names the damage; see [back up and restore](../how-to/back-up-and-restore.md).",
    "leaking-log": "Turn off `log_raw` and `audit_non_hmac_response_keys`, remove the log, and [replace what leaked](../how-to/leaked-password.md).",
    "sink": "See the message: the folder, its owner and mode, the service or its check; the cluster, its rights or a rollout. The agent tries again every minute.",
    "not-delivered": "Check URL and key of the channel; `rotator doctor`.",
    "not-accepted": "As `current-rejected`.",
    "not-usable": "Fix what each error names, then run `init` again.",
    "interrupted": "`rotator resume NAME` continues.",
    "system": "Fix the file, folder or disk that the error names.",
    "bug": "Report it, with the output of `--debug`, which has no values in it.",
}


def table() -> str:
    """Return a row for each kind that can reach an answer."""
    rows = ((f"`{kind}`", text, REMEDIES[kind]) for kind, text in meanings().items())
    return markdown.table(("kind", "meaning", "what to do"), rows)


def meanings() -> dict[str, str]:
    """Return the meaning of each kind that can reach an answer."""
    return {kind: text for kind, text in _meanings() if kind not in INTERNAL} | OUTSIDE


def _meanings() -> Iterator[tuple[str, str]]:
    for error in _below(errors.RotatorError):
        first = (error.__doc__ or "").partition("\n\n")[0]
        yield error.kind, re.sub(r"\s+", " ", first).strip()


def _below(error: type[errors.RotatorError]) -> Iterator[type[errors.RotatorError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _below(child)
