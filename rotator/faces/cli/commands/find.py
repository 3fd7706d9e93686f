"""find: search files and Git history for hard-coded database passwords."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rotator import trusted_files
from rotator.core.errors import RotatorError, UsageError
from rotator.core.printable import printable
from rotator.core.secret import Secret
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.render.console import line
from rotator.find import foreign, sarif
from rotator.find.files import LARGEST, Tree
from rotator.find.history import Repository
from rotator.find.known import KnownValues
from rotator.find.scan import Report, Scan
from rotator.find.suppression import Fingerprints, baseline_text, read_baseline

if TYPE_CHECKING:
    from rotator.find.model import Candidate, Cause, Unread

app = typer.Typer()

# Places of one cause that are printed; --json lists all.
_MOST_PLACES: Final = 10
_MEGABYTE: Final = 1_000_000


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
    reports: Annotated[
        list[Path] | None,
        option(
            "--from", "FILE", "Also include a report of gitleaks, trufflehog or detect-secrets."
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

    It attempts no login and changes no file that it reads. The verdict `valid` means that --known found the
    current value of a managed secret; every other candidate is `not-tried`.

    Exit code 0: no candidates. 1: a candidate is valid. 2: wrong usage. 3: candidates were not tried, or
    files were not read.

    Examples:
        rotator find .
        rotator find . --git --since origin/main
        rotator find /var/log/shop --known
        rotator find . --baseline .rotator-baseline.json --sarif find.sarif
    """
    call: Invocation = ctx.obj
    if since is not None and not git:
        raise UsageError("--since applies to --git.", hint="Add --git, or omit --since.")
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise UsageError(f"{path} does not exist.", hint="Give files or folders that exist.")
    fingerprints = _fingerprints(baseline, write_baseline, key)
    accepted = read_baseline(baseline) if baseline is not None else frozenset[str]()
    values, current = _known_values(call) if known else (None, frozenset[str]())
    scan = Scan(values)
    size = largest * _MEGABYTE
    scan.tree(paths, Tree(everything=everything, largest=size))
    for path in paths if git else ():
        repository = Repository(path if path.is_dir() else path.parent)
        commits = repository.commits(since)
        scan.report.commits += len(commits)
        scan.history(repository.blobs(commits, largest=size))
    for report in reports or ():
        scan.add(foreign.read_report(report))
    _answer(
        call,
        scan.report,
        fingerprints=fingerprints,
        accepted=accepted,
        current=current,
        weak=weak,
        lenient=lenient,
        sarif_file=sarif_file,
        write_baseline=write_baseline,
    )


def _answer(
    call: Invocation,
    report: Report,
    *,
    fingerprints: Fingerprints | None,
    accepted: frozenset[str],
    current: frozenset[str],
    weak: bool,
    lenient: bool,
    sarif_file: Path | None,
    write_baseline: Path | None,
) -> None:
    marks = {id(one): fingerprints.of(one) for one in report.candidates} if fingerprints else {}
    listed = [one for one in report.candidates if weak or not one.is_weak]
    in_baseline = [one for one in listed if marks.get(id(one)) in accepted]
    listed = [one for one in listed if marks.get(id(one)) not in accepted]
    verdicts = {id(one): "valid" if one.known in current else "not-tried" for one in listed}
    data = [_data(one, verdicts[id(one)], marks.get(id(one))) for one in listed]
    call.data |= {
        "candidates": data,
        "allowed": [
            {"place": printable(one.place), "reason": printable(reason)}
            for one, reason in report.allowed
        ],
        "in_baseline": len(in_baseline),
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
        _show(call, one, verdicts[id(one)])
    _summary(call, report, listed, len(in_baseline), weak=weak)
    if write_baseline is not None:
        _write(write_baseline, baseline_text(set(marks.values())))
    if sarif_file is not None:
        document = sarif.document(
            listed,
            report.unread,
            verdicts={i: verdicts[id(one)] for i, one in enumerate(listed)},
            fingerprints={i: marks[id(one)] for i, one in enumerate(listed) if id(one) in marks},
        )
        _write(sarif_file, json.dumps(document, indent=2) + "\n")
    call.add_code(_code(report, listed, verdicts, lenient=lenient))


def _code(
    report: Report, listed: list[Candidate], verdicts: dict[int, str], *, lenient: bool
) -> int:
    if any(verdicts[id(one)] == "valid" for one in listed):
        return exit_codes.FAILED
    if (listed or report.incomplete) and not lenient:
        return exit_codes.STUCK
    return exit_codes.DONE


def _data(candidate: Candidate, verdict: str, fingerprint: str | None) -> dict[str, Any]:
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
        "fingerprint": fingerprint,
        "verdict": verdict,
    }


def _shown(candidate: Candidate, text: str | None) -> str | None:
    """Return a name for a report, without the password."""
    return None if text is None else printable(candidate.without_value(text))


def _show(call: Invocation, candidate: Candidate, verdict: str) -> None:
    match, account = candidate.match, candidate.match.account
    hosts = ", ".join(_shown(candidate, one) or "" for one in account.hosts)
    parts = [
        _shown(candidate, match.role) or "",
        f"login {_shown(candidate, account.login)}" if account.login else "",
        f"at {hosts}" if hosts else "",
        f"database {_shown(candidate, account.database)}" if account.database else "",
        verdict if verdict != "not-tried" else "",
    ]
    sign = call.screen.sign("bad" if verdict == "valid" else "warn")
    call.print(line(sign, printable(candidate.place), ", ".join(part for part in parts if part)))


def _summary(
    call: Invocation, report: Report, listed: list[Candidate], in_baseline: int, *, weak: bool
) -> None:
    searched = f"{report.files} files"
    if report.commits:
        searched += f", {report.commits} commits"
    hidden = [
        f"{report.weak} well-known example values not listed (--weak)"
        if report.weak and not weak
        else "",
        f"{len(report.allowed)} allowed by comments" if report.allowed else "",
        f"{in_baseline} in the baseline" if in_baseline else "",
        f"{len(report.skipped)} folders of packages not searched (--all-folders)"
        if report.skipped
        else "",
    ]
    unread = f" {len(report.unread)} not read:" if report.unread else ""
    call.print(f"{len(listed)} candidates in {searched}.{unread}")
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


def _known_values(call: Invocation) -> tuple[KnownValues, frozenset[str]]:
    """Return the values of all kept versions, and the names of those that are current."""
    with call.open_app() as opened:
        versions, failures = opened.kept_versions()
    for name, error in failures:
        _ = call.fail(error, secret=name)
    values = KnownValues(versions)
    counted = Counter(one.secret for one in versions)
    call.print(f"Searching for {values.versions} values of {len(counted)} secrets.")
    for secret, version in values.short:
        error = RotatorError(f"the {version} value of {secret} is too short to be searched.")
        _ = call.fail(error, code=exit_codes.STUCK)
    return values, frozenset(f"{one.secret} ({one.version})" for one in versions if one.is_current)


def _write(file: Path, text: str) -> None:
    try:
        _ = file.write_text(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
