"""find --fix: valid passwords into the backend, and references in their place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from rotator import trusted_files
from rotator.core.errors import RotatorError, UsageError
from rotator.core.model import Credential
from rotator.core.printable import printable
from rotator.find.patch import ChangedFile, Head, patch_text
from rotator.find.replacement import Change, rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotator.bootstrap import App
    from rotator.faces.cli.invocation import Invocation
    from rotator.find.login_attempts import Outcome
    from rotator.find.model import Candidate

_REASON: Final = "found by a search for hard-coded passwords"
_TARGET: Final = "target "
_HISTORY: Final = (
    "Git history is not rewritten: clones, forks and caches keep the old values anyway, and a rotation makes"
    " them worthless."
)
STANDARD_OUTPUT: Final = "-"


@dataclass(slots=True)
class _Fixes:
    """What was changed, and what was left and why."""

    files: list[ChangedFile] = field(default_factory=list[ChangedFile])
    changes: list[tuple[str, Change]] = field(default_factory=list["tuple[str, Change]"])
    left: list[tuple[str, str]] = field(default_factory=list["tuple[str, str]"])


def fix(
    call: Invocation,
    found: Sequence[tuple[Candidate, Outcome]],
    root: Path,
    *,
    patch: str | None,
    branch: str | None,
) -> None:
    """Adopt, replace, and write the patch or the branch. Files of the working tree stay as they are."""
    fixes = _Fixes()
    head = Head(root if root.is_dir() else root.parent) if branch is not None else None
    if head is not None and branch is not None:
        head.require_new(branch)
    if patch not in (None, STANDARD_OUTPUT) and Path(str(patch)).exists():
        raise UsageError(f"{patch} exists already.", hint="Choose another name for the patch.")
    present = [(one, outcome) for one, outcome in found if one.commit is None]
    secrets = {
        one.match.value.reveal(): _secret_of(one.known)
        for one, _ in present
        if one.known is not None
    }
    secrets |= _adopted(call, present, fixes)
    files = dict.fromkeys(one.file for one, _ in present if one.match.value.reveal() in secrets)
    for file in files:
        _rewrite(file, secrets, head, fixes)
    notes = [
        f"{printable(file)}:{one.line}: {one.reference}, secret {one.secret}"
        for file, one in fixes.changes
    ]
    if fixes.files and head is not None and branch is not None:
        commit = head.create_branch(branch, fixes.files)
        call.data["branch"], call.data["commit"] = branch, commit
        call.print(f"Branch {branch} has the changes as commit {commit[:12]}.")
    text = patch_text(fixes.files, notes) if patch is not None else ""
    if not text:
        patch = None
    if patch == STANDARD_OUTPUT:
        call.data["patch"] = text
    elif patch is not None:
        _write(Path(patch), text)
        call.data["patch_file"] = patch
        call.print(f"{patch} has the changes. Apply them: git apply {quote(patch)}")
    _report(call, fixes)
    if patch == STANDARD_OUTPUT and not call.as_json:
        call.write(text)


def _secret_of(known: str) -> str:
    return known.rpartition(" (")[0]


def _adopted(
    call: Invocation, found: Sequence[tuple[Candidate, Outcome]], fixes: _Fixes
) -> dict[str, str]:
    """Adopt valid passwords of secrets whose backend holds nothing; return the secret of each value."""
    wanted = [(one, out) for one, out in found if one.known is None and out.verdict.is_valid]
    adopted: dict[str, str] = {}
    if not wanted:
        return adopted
    with call.open_app() as app:
        for one, outcome in wanted:
            value = one.match.value.reveal()
            if value in adopted:
                continue
            login, target = (
                one.match.account.login or "",
                (outcome.server or "").removeprefix(_TARGET),
            )
            name = _unadopted(app, target, login)
            if name is None:
                shown = one.without_value(login)
                add = f"rotator add NAME --target {quote(target)} --username {quote(shown)}"
                reason = f"no secret without a value is configured for login {shown} on target {target}: {add}"
                fixes.left.append((one.place, reason))
                continue
            try:
                first = Credential(username=login, password=one.match.value)
                _ = app.engine.adopt(app.secret(name), first=first, reason=_REASON)
            except RotatorError as error:
                _ = call.fail(error, secret=name)
                continue
            adopted[value] = name
            call.print(
                f"{name}: login {one.without_value(login)} is adopted, and its backend holds the password."
            )
        if adopted:
            _ = app.checkpoint()
    call.data["adopted"] = sorted(adopted.values())
    return adopted


def _unadopted(app: App, target: str, login: str) -> str | None:
    """Return the secret of this login that nobody has adopted yet."""
    fitting = [
        name
        for name, secret in app.settings.secrets.items()
        if secret.target == target
        and login in _logins(secret.options)
        and ((record := app.journal.secret(name)) is None or record.version is None)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _logins(options: object) -> Iterable[str]:
    users: tuple[str, ...] = getattr(options, "users", ())
    return (*users, getattr(options, "username", None) or getattr(options, "base", ""))


def _rewrite(file: str, secrets: dict[str, str], head: Head | None, fixes: _Fixes) -> None:
    path = Path(file)
    name = file
    before: bytes | None
    if head is not None:
        absolute = Path(os.path.realpath(path))
        if head.root not in absolute.parents:
            fixes.left.append((file, "it is outside of the repository"))
            return
        name = str(absolute.relative_to(head.root))
        before = head.content(name)
        if before is None:
            fixes.left.append(
                (file, "it is not in the commit that is checked out: use --patch for it")
            )
            return
    else:
        before = path.read_bytes()
    try:
        text = before.decode()
    except UnicodeDecodeError:
        fixes.left.append((file, "it is not UTF-8"))
        return
    rewritten = rewrite(name, text, secrets)
    fixes.changes += [(file, one) for one in rewritten.changes]
    fixes.left += [(f"{file}:{line}", reason) for line, reason in rewritten.left]
    if rewritten.changes:
        fixes.files.append(ChangedFile(path=name, before=before, after=rewritten.text.encode()))


def _report(call: Invocation, fixes: _Fixes) -> None:
    call.data["changes"] = [
        {
            "file": printable(file),
            "line": one.line,
            "secret": one.secret,
            "reference": one.reference,
            "sink": one.sink or None,
        }
        for file, one in fixes.changes
    ]
    call.data["left"] = [
        {"place": printable(place), "reason": reason} for place, reason in fixes.left
    ]
    for file, one in fixes.changes:
        call.print(f"  {printable(file)}:{one.line}: {one.reference} (secret {one.secret})")
    for place, reason in fixes.left:
        call.print(f"  {printable(place)}: not replaced, {reason}")
    if not fixes.changes:
        call.print("Nothing was replaced.")
        return
    for secret in sorted({one.secret for _, one in fixes.changes}):
        changes = [one for _, one in fixes.changes if one.secret == secret]
        templates = sorted({one.template for one in changes if one.template})
        if templates:
            options = " ".join(f"--env {quote(one)}" for one in templates)
            call.print(
                f"Start the application with its password: rotator exec {secret} {options} -- COMMAND"
            )
        for sink in sorted({one.sink for one in changes if one.sink}):
            call.print(
                f"Let an agent write what the file refers to, by this sink of {secret}: {sink}"
            )
        call.print(f"Then replace the password that was written down: rotator rotate {secret}")
    call.print(_HISTORY)


def _write(file: Path, text: str) -> None:
    what = "the patch"
    if not trusted_files.create(file, what, secret=True):
        raise UsageError(f"{file} exists already.", hint="Choose another name for the patch.")
    _ = file.write_text(text)
