"""Programs that hang, flood, print secrets, answer rubbish or leave processes: an error for each, in time."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotations.command import PLUGIN, SecretOptions, TargetOptions
from rotator.api import (
    Conflict,
    Credential,
    Denied,
    InUse,
    Refused,
    Secret,
    StepContext,
    StepError,
    Transient,
    Unavailable,
    Unknown,
)
from rotator.testing.fakes import step_context

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.api import Rotation

_SECONDS = 1.0
_NEW = Credential(username="shop", password=Secret("new-Vq8tz3mx"))
_CURRENT = Credential(username="web", password=Secret("current-Vq8tz3mx"))
_ADMIN = Credential(username="root", password=Secret("admin-Vq8tz3mx"))


def _rotation(folder: Path, script: str, *, strategy: str = "new-user") -> Rotation:
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    options = TargetOptions(program=program, counts_sessions=True)
    return PLUGIN.target("mine", options, lambda: _ADMIN).rotation(strategy, SecretOptions())


def _ctx(seconds: float = _SECONDS) -> StepContext:
    ctx = step_context(secret="app", current=_CURRENT)
    return replace(ctx, deadline=ctx.clock.monotonic() + seconds)


def _error(rotation: Rotation, ctx: StepContext | None = None) -> StepError:
    begun = time.monotonic()
    with pytest.raises(StepError) as caught:
        rotation.create(_NEW, ctx or _ctx())
    assert time.monotonic() - begun < _SECONDS + 1
    shown = f"{caught.value} {caught.value.hint} {caught.value!r} {caught.value.__cause__!r}"
    assert not any(one.password.reveal() in shown for one in (_NEW, _CURRENT, _ADMIN))
    assert not any(half in shown for half in ("Vq8t", "z3mx"))
    return caught.value


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("sleep 60", "did not end within 1.0 s"),
        ("cat > /dev/null; sleep 60 & wait", "did not end within 1.0 s"),
        ("trap '' TERM; exec sleep 60", "did not end within 1.0 s"),
        ("exec 0<&- ; sleep 60", "did not end within 1.0 s"),
        ("exec 1>&- 2>&- ; sleep 60", "did not end within 1.0 s"),
        ("yes", "wrote more than 1 MiB"),
        ("yes >&2", "wrote more than 1 MiB"),
        ("cat; exit 0", "wrote neither"),
        ("cat >&2; exit 1", "ended with exit status 1 and wrote nothing"),
        ("cat; echo rubbish; exit 1", "ended with exit status 1 and wrote no JSON object"),
        ("kill -9 $$", "was ended by signal 9 and wrote nothing"),
        ("exit 0", "ended with exit status 0 and wrote nothing"),
        ("echo '[1]'", "wrote no JSON object"),
        ("echo '{\"ok\": true'", "wrote no JSON object"),
        ("echo '{\"ok\": true} {}'", "wrote no JSON object"),
        ("echo '{\"ok\": NaN}'", "wrote no JSON object"),
        ("printf '\\377\\376'", "wrote no JSON object"),
        (
            "awk 'BEGIN {while (i++ < 100000) printf \"[\"}'",
            "wrote JSON that is too large",
        ),
        ("echo '{\"ok\": 1}'", "wrote neither"),
        ("echo '{\"ok\": true}'; exit 3", "ended with exit status 3 after it had answered"),
        ('echo \'{"error": "tired"}\'', "answered with an error that is none of"),
        ("echo '{\"error\": {}}'", "answered with an error that is none of"),
        ('echo \'{"error": "in-use"}\'', "answered with an error that is none of"),
    ],
)
def test_a_program_that_breaks_the_protocol_is_an_unknown_result(
    tmp_path: Path, script: str, shown: str
):
    """What it did is not known, so the engine runs the step again."""
    error = _error(_rotation(tmp_path, script))
    assert isinstance(error, Unknown)
    assert shown in error.what
    assert "(action create)" in error.what
    assert str(tmp_path) in error.what


def test_a_program_that_closes_its_input_may_answer(tmp_path: Path):
    """Not every action needs the whole request."""
    _rotation(tmp_path, "exec 0<&-; echo '{\"ok\": true}'").create(_NEW, _ctx())


def test_a_process_that_holds_the_output_open_is_not_waited_for_and_is_killed(tmp_path: Path):
    """It belongs to the process group of the program."""
    held = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {held}; echo '{{\"ok\": true}}'"
    begun = time.monotonic()
    _rotation(tmp_path, script).create(_NEW, _ctx(30))
    assert time.monotonic() - begun < 15
    with suppress(ProcessLookupError):
        for _ in range(500):
            os.kill(int(held.read_text()), 0)
            if (_stat(int(held.read_text()))) == "Z":
                break
            time.sleep(0.01)
        else:
            pytest.fail("the process is still there")


def _stat(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]


def test_the_end_of_the_error_output_is_shown_masked(tmp_path: Path):
    """As lines that a terminal can show, without the request that the program repeats."""
    script = "printf 'first\\nbad \\033[31m thing\\n' >&2; sed 's/.*\"login\"/login/; s/current.*//' >&2; exit 1"
    error = _error(_rotation(tmp_path, script))
    assert "bad ?[31m thing" in error.hint
    assert "\x1b" not in str(error)
    assert '"password": "***"' in error.hint


def test_a_long_line_is_masked_before_it_is_cut(tmp_path: Path):
    """Half of a password would not be recognized."""
    for length in range(148, 160):
        script = f"printf '%{length}s' '' | tr ' ' x >&2; printf 'new-Vq8tz3mx' >&2; exit 1"
        error = _error(_rotation(tmp_path, script))
        assert "xxx" in error.hint


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("denied", Denied),
        ("transient", Transient),
        ("unavailable", Unavailable),
        ("unknown", Unknown),
        ("conflict", Conflict),
        ("refused", Refused),
    ],
)
def test_an_error_that_the_program_reports_has_its_kind(
    tmp_path: Path, kind: str, expected: type[StepError]
):
    """With its message and its hint, masked; the exit status does not matter."""
    answer = f'{{"error": "{kind}", "message": "no new-Vq8tz3mx here", "hint": "ask Ann"}}'
    error = _error(_rotation(tmp_path, f"echo '{answer}'; exit 1"))
    assert type(error) is expected
    assert error.what == "no *** here."
    assert error.hint == "ask Ann"


def test_open_sessions_are_reported_by_a_revoke(tmp_path: Path):
    """With who is logged in."""
    answer = '{"error": "in-use", "message": "busy", "sessions": [{"login": "shop", "client": "10.0.0.1"}]}'
    with pytest.raises(InUse) as caught:
        _rotation(tmp_path, f"echo '{answer}'").revoke(_NEW, _ctx())
    assert [one.client for one in caught.value.sessions] == ["10.0.0.1"]


def test_sessions_are_listed(tmp_path: Path):
    """Clients, applications, and since when."""
    answer = '{"ok": true, "sessions": [{"client": "10.0.0.1", "application": "web", "since": "2026-01-02T03:04:05+00:00"}]}'
    rotation = _rotation(tmp_path, f"echo '{answer}'")
    [found] = rotation.sessions("shop", _ctx())  # pyright: ignore[reportAttributeAccessIssue]
    assert (found.login, found.client, found.application) == ("shop", "10.0.0.1", "web")
    assert found.since is not None


@pytest.mark.parametrize("answer", ['{"ok": true}', '{"ok": true, "accepted": "yes"}'])
def test_a_verification_without_a_verdict_is_no_success(tmp_path: Path, answer: str):
    """Nor is it a rejection."""
    rotation = _rotation(tmp_path, f"echo '{answer}'")
    with pytest.raises(Transient, match="without `accepted`"):
        rotation.verify(_NEW, _ctx())
    with pytest.raises(Transient, match="without `accepted`"):
        rotation.probe(_NEW, _ctx())


def test_a_failed_check_refuses_the_login(tmp_path: Path):
    """It authenticates, and cannot do its work."""
    answer = '{"ok": true, "accepted": true, "checks": [{"name": "reads orders", "ok": false, "detail": "no"}]}'
    rotation = _rotation(tmp_path, f"echo '{answer}'")
    assert rotation.probe(_NEW, _ctx())
    with pytest.raises(Refused, match="reads orders"):
        rotation.verify(_NEW, _ctx())


def test_a_program_sees_no_secret_in_its_arguments_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor does anybody who lists processes."""
    monkeypatch.setenv("DATABASE_PASSWORD", "of-somebody-Vq8tz3mx")
    seen = tmp_path / "seen"
    script = f"{{ echo \"$@\"; env; tr '\\0' ' ' < /proc/$$/cmdline; pwd; }} > {seen}; echo '{{\"ok\": true}}'"
    _rotation(tmp_path, script).create(_NEW, _ctx(10))
    text = seen.read_text()
    assert "PATH=" in text
    assert "Vq8tz3mx" not in text
    assert "DATABASE_PASSWORD" not in text


@pytest.mark.parametrize(
    ("mode", "shown"), [(0o722, "can be written by others"), (0o600, "is not executable")]
)
def test_a_program_that_others_can_change_is_not_started(tmp_path: Path, mode: int, shown: str):
    """Everything of the target waits, and `doctor` reports the same."""
    rotation = _rotation(tmp_path, f"touch {tmp_path}/ran; echo '{{\"ok\": true}}'")
    (tmp_path / "program").chmod(mode)
    error = _error(rotation)
    assert isinstance(error, Unavailable)
    assert shown in error.what
    assert "chmod" in error.hint
    assert not (tmp_path / "ran").exists()
    options = TargetOptions(program=tmp_path / "program")
    [finding] = PLUGIN.target("mine", options, lambda: _ADMIN).examine(_ctx())
    assert finding.severity == "error"
    assert shown in finding.message


@pytest.mark.parametrize("content", [None, "#!/nowhere/at/all\n", "\x7fELF no program"])
def test_a_program_that_cannot_be_started_changed_nothing(tmp_path: Path, content: str | None):
    """It is missing, its interpreter is, or it is no program."""
    rotation = _rotation(tmp_path, "")
    program = tmp_path / "program"
    program.unlink()
    if content is not None:
        program.write_text(content)
        program.chmod(0o700)
    error = _error(rotation)
    assert isinstance(error, Unavailable)
    assert error.hint


def test_the_served_login_is_never_given_to_a_revoke(tmp_path: Path):
    """Whatever the engine asks for."""
    rotation = _rotation(tmp_path, f"touch {tmp_path}/ran; echo '{{\"ok\": true}}'")
    with pytest.raises(Conflict):
        rotation.revoke(_CURRENT, _ctx())
    with pytest.raises(Conflict):
        rotation.withdraw(_CURRENT, _ctx())
    assert not (tmp_path / "ran").exists()
