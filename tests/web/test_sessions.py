"""What a restart of the console, another process and a look into its file do to sessions."""

from __future__ import annotations

import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.access import Actor
from rotator.core.errors import UsageError
from rotator.faces.web.sessions import SessionFile, Sessions, Throttle
from rotator.testing.fakes import ManualClock
from tests.web.conftest import PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.web.conftest import Site

DANA = Actor(subject="dana", method="oidc", face="web", host="10.0.0.7", groups=("dba",))
HOURS = timedelta(hours=8)


class Process:
    """A console's part that knows who is signed in."""

    def __init__(self, file: Path, clock: ManualClock) -> None:
        self.file = SessionFile(file)
        self.sessions = Sessions(self.file, clock, HOURS)
        self.throttle = Throttle(self.file, clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def process(tmp_path: Path, clock: ManualClock) -> Iterator[Process]:
    made = Process(tmp_path / "sessions.db", clock)
    yield made
    made.file.close()


@pytest.fixture
def restarted(tmp_path: Path, clock: ManualClock, process: Process) -> Iterator[Process]:
    """Another process over the same file."""
    made = Process(tmp_path / "sessions.db", clock)
    yield made
    made.file.close()


def test_a_session_outlives_the_process_until_its_time(
    process: Process, restarted: Process, clock: ManualClock
):
    """With its actor, its groups and the token of forms that are open."""
    id_ = process.sessions.begin(DANA)
    before, after = process.sessions.find(id_), restarted.sessions.find(id_)
    assert before is not None
    assert before == after
    assert before.actor == DANA
    clock.advance(HOURS)
    assert restarted.sessions.find(id_) is None


def test_the_file_is_private_and_opens_no_session(process: Process, tmp_path: Path):
    """Neither what the cookie holds nor the token of a form can be found in it."""
    id_ = process.sessions.begin(DANA)
    found = process.sessions.find(id_)
    assert found is not None
    process.file.close()
    files = [*tmp_path.iterdir()]
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    content = b"".join(one.read_bytes() for one in files)
    assert b"dana" in content
    assert id_.encode() not in content
    assert found.token.encode() not in content


def test_failed_sign_ins_count_over_a_restart(
    process: Process, restarted: Process, clock: ManualClock
):
    """Ten from one address; five minutes later it may try again."""
    for _ in range(10):
        process.throttle.failed("10.0.0.9", "dana")
    wait = restarted.throttle.wait("10.0.0.9", "another")
    assert wait is not None
    assert restarted.throttle.wait("10.0.0.8", "dana") is None
    clock.advance(wait)
    assert restarted.throttle.wait("10.0.0.9", "dana") is None


def test_a_file_that_others_can_read_is_refused(tmp_path: Path):
    """It names who is signed in."""
    file = tmp_path / "sessions.db"
    file.touch(mode=0o644)
    with pytest.raises(UsageError, match="sessions"):
        SessionFile(file)


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path):
    """A console with a read-only folder needs another one for this file."""
    (tmp_path / "no-folder").touch()
    with pytest.raises(UsageError) as caught:
        SessionFile(tmp_path / "no-folder" / "sessions.db")
    assert "web.sessions" in caught.value.hint


def test_signing_out_everywhere_ends_every_browser_of_this_user_alone(site: Site):
    """The other browser's next request leads to the sign-in."""
    first, second, other = site.browser("viewer"), site.browser("viewer"), site.browser("admin")
    token = second.token("/")
    assert second.post("/sign-out", {"token": token, "everywhere": "1"}).status_code == 303
    assert first.get("/").status_code == 303
    assert other.get("/").status_code == 200


def test_a_command_ends_sessions_at_once(site: Site):
    """Of one user, of a removed one, after another password, or of everybody."""
    viewer, admin = site.browser("viewer"), site.browser("admin")
    assert "1 session ended" in site.cli("web", "sign-out", "password:viewer").out
    assert viewer.get("/").status_code == 303
    viewer = site.browser("viewer")
    (site.cli.folder / "new").touch(mode=0o600)
    (site.cli.folder / "new").write_text(f"{PASSPHRASE}-2")
    site.cli("web", "add-user", "viewer", "--password-from", "file:new")
    assert viewer.get("/").status_code == 303
    operator = site.browser("operator")
    site.cli("web", "remove-user", "operator")
    assert operator.get("/").status_code == 303
    assert admin.get("/").status_code == 200
    site.cli("web", "sign-out", "--all")
    assert admin.get("/").status_code == 303
    site.cli("web", "sign-out", code=2)
