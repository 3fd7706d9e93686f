"""find: search files and Git history for hard-coded database passwords."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rotator import trusted_files
from rotator.core.errors import RotatorError, UsageError
from rotator.core.printable import printable
from rotator.core.secret import Secret
from rotator.faces.cli import exit_codes, find_fix, find_kill
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.render.console import line
from rotator.faces.wording import plural
from rotator.find import foreign, sarif
from rotator.find.files import LARGEST, Tree
from rotator.find.history import Repository
from rotator.find.known import KnownValues
from rotator.find.login_attempts import NOT_TRIED, Outcome, Verdict, is_current
from rotator.find.scan import Report, Scan
from rotator.find.suppression import Fingerprints, baseline_text, read_baseline

if TYPE_CHECKING:
    from rotator.find.known import KeptVersion
    from rotator.find.model import Candidate, Cause, Unread

app = typer.Typer()

# Places of one cause that are printed; --json lists all.
_MOST_PLACES: Final = 10
_MEGABYTE: Final = 1_000_000


@dataclass(slots=True)
class _Finding:
    """A candidate with its outcome and its fingerprint."""

    candidate: Candidate
    outcome: Outcome
    fingerprint: str | None

    @property
    def is_valid(self) -> bool:
        """Whether somebody can log in with it."""
        return self.outcome.verdict.is_valid


@command(app, "find", Panel.INSPECT)
def find(
    ctx: typer.Context,
    paths: Annotated[list[Path], argument("PATH", "Files and folders to search.")],
    *,
    git: Annotated[
        bool, typer.Option("--git", help="Also search all commits of the Git repository at PATH.")
    ] = False,
    since: Annotated[
        str | None, option("--since", "REV", "With --git: only commits after this one.")
    ] = None,
    known: Annotated[
        bool,
        typer.Option(
            "--known",
            help="Also search for the values of managed secrets, in every version that the backends hold.",
        ),
    ] = False,
    attempt: Annotated[
        bool,
        typer.Option(
            "--try",
            help="Also log in with each candidate, once, at the target that it names. Needs the configuration.",
        ),
    ] = False,
    allowed: Annotated[
        list[str] | None,
        option(
            "--allow-host",
            "HOST[:PORT]",
            "With --try: also log in at this host, which is no configured target. Repeatable.",
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="With --try or --known: store valid passwords in the backend, and replace them in the files by references. Needs --patch or --branch.",
        ),
    ] = False,
    patch: Annotated[
        str | None,
        option(
            "--patch",
            "FILE",
            "With --fix: write the changes as a patch for git apply; - prints it.",
        ),
    ] = None,
    branch: Annotated[
        str | None,
        option(
            "--branch",
            "NAME",
            "With --fix: commit the changes on a new branch. The working tree stays as it is.",
        ),
    ] = None,
    kill: Annotated[
        bool,
        typer.Option(
            "--kill",
            help="With --try or --known: open an incident for each managed secret that is valid, in mode kill. Its password is made invalid first.",
        ),
    ] = False,
    reports: Annotated[
        list[Path] | None,
        option(
            "--from",
            "FILE",
            "Also include a report of gitleaks, trufflehog, detect-secrets, GitHub or GitLab.",
        ),
    ] = None,
    weak: Annotated[
        bool,
        typer.Option("--weak", help="Also list well-known example values, such as changeme."),
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all-folders",
            help="Also search installed packages and caches: node_modules, virtual environments.",
        ),
    ] = False,
    largest: Annotated[
        int,
        typer.Option(
            "--max-size",
            metavar="MB",
            min=1,
            max=1000,
            show_default=False,
            help="Largest file to read, in megabytes. Default: 5.",
        ),
    ] = LARGEST // _MEGABYTE,
    baseline: Annotated[
        Path | None, option("--baseline", "FILE", "Omit the candidates of this baseline.")
    ] = None,
    write_baseline: Annotated[
        Path | None,
        option(
            "--write-baseline", "FILE", "Write the fingerprints of all candidates into a baseline."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        option(
            "--key",
            "FILE",
            "File with the key of the fingerprints. Default: the baseline's name with .key, created with mode 0600.",
        ),
    ] = None,
    sarif_file: Annotated[
        Path | None, option("--sarif", "FILE", "Also write the report as SARIF 2.1.0.")
    ] = None,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient",
            help="Exit with 0 although candidates were not tried or files were not read.",
        ),
    ] = False,
) -> None:
    """Search files and Git history for hard-coded database passwords.

    Files are read by their structure: a candidate needs a value and a key, an argument or a syntax that
    proves its role. No value is printed, logged or stored. A comment `rotator:allow REASON` on the same
    line, or on the line above, excludes a candidate.

    It changes no file that it reads, and without --try it attempts no login: `valid` then means that --known
    found the current value of a managed secret, and every other candidate is `not-tried`. With --try, each
    candidate is tried once, with the TLS of its target; an account has at most one refused login an hour, and
    none where that may lock it. A password counts as valid only if the server also refuses a wrong one.

    With --fix, the password of a managed secret is replaced in the files by a reference: a variable, or a
    Secret object in Kubernetes. A valid password of a secret whose backend holds nothing yet is adopted first.
    The result is a patch or a branch; Git history is not rewritten. With --kill, valid passwords of managed
    secrets are replaced at once, by an incident in mode `kill`.

    Exit code 0: nothing valid. 1: a candidate is valid. 2: wrong usage. 3: candidates were not tried or
    servers did not answer, or files were not read.

    Examples:
        rotator find .
        rotator find . --git --since origin/main
        rotator find /var/log/shop --known
        rotator find . --git --try
        rotator find . --try --fix --branch no-passwords
        rotator find . --git --try --kill
        rotator find . --baseline .rotator-baseline.json --sarif find.sarif
    """
    call: Invocation = ctx.obj
    _require_usable(
        paths,
        {
            "--since": (since is not None, git, "--git"),
            "--allow-host": (bool(allowed), attempt, "--try"),
            "--patch": (patch is not None, fix, "--fix"),
            "--branch": (branch is not None, fix, "--fix"),
            "--kill": (kill, attempt or known, "--try or --known"),
        },
    )
    if fix and not ((attempt or known) and (patch is None) != (branch is None)):
        raise UsageError(
            "--fix needs --try or --known, and either --patch FILE or --branch NAME.",
            hint="Example: rotator find PATH --try --fix --patch fix.patch",
        )
    fingerprints = _fingerprints(baseline, write_baseline, key)
    accepted = read_baseline(baseline) if baseline is not None else frozenset[str]()
    versions = _kept_versions(call) if known or attempt else []
    scan = Scan(_known_values(call, versions) if known else None)
    size = largest * _MEGABYTE
    scan.tree(paths, Tree(everything=everything, largest=size))
    for path in paths if git else ():
        repository = Repository(path if path.is_dir() else path.parent)
        commits = repository.commits(since)
        scan.report.commits += len(commits)
        scan.history(repository.blobs(commits, largest=size))
    for report in reports or ():
        scan.add(foreign.read_report(report))
    report = scan.report
    findings = [
        _Finding(
            _known_as(one, versions), NOT_TRIED, fingerprints.of(one) if fingerprints else None
        )
        for one in report.candidates
    ]
    chosen = [one for one in findings if one.fingerprint not in accepted]
    _judge(call, chosen, versions, attempt=attempt, allowed=allowed or [])
    listed = [one for one in chosen if weak or not one.candidate.is_weak or one.is_valid]
    _answer(call, report, listed, in_baseline=len(findings) - len(chosen), weak=weak)
    if fix:
        found = [(one.candidate, one.outcome) for one in chosen]
        find_fix.fix(call, found, paths[0], patch=patch, branch=branch)
    if kill:
        find_kill.kill(call, [one.candidate for one in chosen if one.is_valid])
    if write_baseline is not None:
        marks = {one.fingerprint for one in findings if one.fingerprint is not None}
        _write(write_baseline, baseline_text(marks))
    if sarif_file is not None:
        _write_sarif(sarif_file, report, listed)
    call.add_code(_code(report, listed, lenient=lenient))


def _require_usable(paths: list[Path], options: dict[str, tuple[bool, bool, str]]) -> None:
    """Refuse missing paths, and options without the one that they apply to."""
    for name, (is_given, applies, other) in options.items():
        if is_given and not applies:
            raise UsageError(f"{name} applies to {other}.", hint=f"Add {other}, or omit {name}.")
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise UsageError(f"{path} does not exist.", hint="Give files or folders that exist.")


def _write_sarif(file: Path, report: Report, listed: list[_Finding]) -> None:
    document = sarif.document(
        [one.candidate for one in listed],
        report.unread,
        outcomes=[one.outcome for one in listed],
        fingerprints=[one.fingerprint for one in listed],
    )
    _write(file, json.dumps(document, indent=2) + "\n")


def _answer(
    call: Invocation, report: Report, listed: list[_Finding], *, in_baseline: int, weak: bool
) -> None:
    call.data |= {
        "candidates": [_data(one) for one in listed],
        "allowed": [
            {"place": printable(one.place), "reason": printable(reason)}
            for one, reason in report.allowed
        ],
        "in_baseline": in_baseline,
        "weak": report.weak,
        "unread": [
            {"file": printable(one.file), "cause": one.cause.value, "detail": one.detail}
            for one in report.unread
        ],
        "skipped": [printable(one) for one in report.skipped],
        "files": report.files,
        "lines": report.lines,
        "commits": report.commits,
        "blobs": report.blobs,
    }
    for one in listed:
        _show(call, one)
    _summary(call, report, listed, in_baseline, weak=weak)


def _judge(
    call: Invocation,
    findings: list[_Finding],
    versions: list[KeptVersion],
    *,
    attempt: bool,
    allowed: list[str],
) -> None:
    """Set the outcomes. A current value is valid, also where its server cannot be asked."""
    if not attempt:
        for one in findings:
            if is_current(one.candidate):
                one.outcome = Outcome(verdict=Verdict.VALID)
        return
    known = {one.name: (one.secret, one.account.login or "") for one in versions}
    with call.open_app() as app:
        candidates = [one.candidate for one in findings]
        outcomes = app.try_candidates(candidates, allowed=allowed, known=known)
    for one, outcome in zip(findings, outcomes, strict=True):
        one.outcome = outcome
        if outcome.verdict.is_open and is_current(one.candidate):
            reason = f"it is served now, and it was not tried: {outcome.reason}"
            one.outcome = replace(outcome, verdict=Verdict.VALID, reason=reason)


def _code(report: Report, listed: list[_Finding], *, lenient: bool) -> int:
    if any(one.is_valid for one in listed):
        return exit_codes.FAILED
    is_open = any(one.outcome.verdict.is_open for one in listed)
    if (is_open or report.incomplete) and not lenient:
        return exit_codes.STUCK
    return exit_codes.DONE


def _data(finding: _Finding) -> dict[str, Any]:
    candidate, outcome = finding.candidate, finding.outcome
    match, account = candidate.match, candidate.match.account
    return {
        "file": printable(candidate.file),
        "line": candidate.line,
        "column": candidate.column,
        "commit": candidate.commit,
        "form": match.form,
        "role": _shown(candidate, match.role),
        "login": _shown(candidate, account.login),
        "hosts": [_shown(candidate, one) for one in account.hosts],
        "database": _shown(candidate, account.database),
        "engine": account.engine,
        "weak": candidate.is_weak,
        "secret": candidate.known,
        "fingerprint": finding.fingerprint,
        "verdict": outcome.verdict.value,
        "reason": _shown(candidate, outcome.reason),
        "server": outcome.server,
    }


def _shown(candidate: Candidate, text: str | None) -> str | None:
    """Return a name for a report, without the password."""
    return None if text is None else printable(candidate.without_value(text))


def _show(call: Invocation, finding: _Finding) -> None:
    candidate, outcome = finding.candidate, finding.outcome
    match, account = candidate.match, candidate.match.account
    hosts = ", ".join(_shown(candidate, one) or "" for one in account.hosts)
    verdict = outcome.verdict.value if outcome != NOT_TRIED else ""
    if outcome.reason:
        verdict += f" ({_shown(candidate, outcome.reason)})"
    parts = [
        _shown(candidate, match.role) or "",
        f"login {_shown(candidate, account.login)}" if account.login else "",
        f"at {hosts}" if hosts else "",
        f"database {_shown(candidate, account.database)}" if account.database else "",
        f"value of {candidate.known}" if candidate.known and match.form != "known" else "",
        verdict,
    ]
    sign = call.screen.sign("bad" if finding.is_valid else "warn")
    call.print(line(sign, printable(candidate.place), ", ".join(part for part in parts if part)))


def _summary(
    call: Invocation, report: Report, listed: list[_Finding], in_baseline: int, *, weak: bool
) -> None:
    searched = plural(report.files, "file")
    if report.commits:
        searched += f", {plural(report.commits, 'commit')}"
    hidden = [
        f"{report.weak} well-known example values not listed (--weak)"
        if report.weak and not weak
        else "",
        f"{len(report.allowed)} allowed by comments" if report.allowed else "",
        f"{in_baseline} in the baseline" if in_baseline else "",
        f"{plural(len(report.skipped), 'folder')} of packages not searched (--all-folders)"
        if report.skipped
        else "",
    ]
    unread = f" {len(report.unread)} not read:" if report.unread else ""
    call.print(f"{plural(len(listed), 'candidate')} in {searched}.{unread}")
    by_cause: dict[Cause, list[Unread]] = {}
    for one in report.unread:
        by_cause.setdefault(one.cause, []).append(one)
    for cause, places in by_cause.items():
        names = [printable(one.file) for one in places[:_MOST_PLACES]]
        more = (
            f" and {len(places) - _MOST_PLACES} more (--json)" if len(places) > _MOST_PLACES else ""
        )
        call.print(f"  {len(places)} {cause}: {', '.join(names)}{more}")
    for part in hidden:
        if part:
            call.print(f"  {part}")


def _fingerprints(
    baseline: Path | None, write_baseline: Path | None, key: Path | None
) -> Fingerprints | None:
    file = write_baseline or baseline
    if key is None and file is None:
        return None
    key = key or Path(f"{file}.key")
    what = "the key of the fingerprints"
    if write_baseline is not None and trusted_files.create(key, what, secret=True):
        _ = key.write_text(Fingerprints.new_key().reveal() + "\n")
    try:
        return Fingerprints(Secret(trusted_files.read(key, what, secret=True).decode().strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{what} cannot be read: {key}.",
            hint="Give its file with --key, or write a new baseline.",
        ) from error


def _kept_versions(call: Invocation) -> list[KeptVersion]:
    """Return the values of all kept versions. A backend that cannot be read is an error of its secrets."""
    with call.open_app() as opened:
        versions, failures = opened.kept_versions()
    for name, error in failures:
        _ = call.fail(error, secret=name)
    return versions


def _known_values(call: Invocation, versions: list[KeptVersion]) -> KnownValues:
    values = KnownValues(versions)
    counted = Counter(one.secret for one in versions)
    call.print(f"Searching for {values.versions} values of {len(counted)} secrets.")
    for secret, version in values.short:
        error = RotatorError(f"the {version} value of {secret} is too short to be searched.")
        _ = call.fail(error, code=exit_codes.STUCK)
    return values


def _known_as(candidate: Candidate, versions: list[KeptVersion]) -> Candidate:
    """Return the candidate with the name of the managed secret whose value it has."""
    if candidate.known is not None:
        return candidate
    same = [one for one in versions if one.value == candidate.match.value]
    # A value may be that of several: the one with this login, and the newest.
    same.sort(
        key=lambda one: (one.account.login != candidate.match.account.login, not one.is_current)
    )
    return replace(candidate, known=same[0].name) if same else candidate


def _write(file: Path, text: str) -> None:
    try:
        _ = file.write_text(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
