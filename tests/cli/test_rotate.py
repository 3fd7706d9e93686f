"""plan, rotate, resume, rollback, revoke, park: their answers and exit codes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def test_a_first_rotation_creates_a_login_and_completes(cli: Cli):
    """Without a previous login there is nothing to revoke."""
    result = cli.json("rotate", "app", "--reason", "first").data["results"][0]
    assert result["outcome"] == "done"
    assert result["published"] is True
    assert result["login"] in cli.server.target.usable()


def test_a_rotation_in_its_grace_period_exits_with_0(cli: Cli):
    """Both logins are valid."""
    cli("rotate", "app")
    told = cli("rotate", "app")
    assert "the old credential is in its grace period" in told.out
    assert "stays valid until" in told.out
    assert len(cli.server.target.usable()) == 2


def test_a_second_rotation_during_the_grace_period_is_not_due(cli: Cli):
    """Exit code 4, with a hint."""
    cli("rotate", "app")
    cli("rotate", "app")
    error = cli.json("rotate", "app", code=4).errors[0]
    assert error["kind"] == "not-due"
    assert error["secret"] == "app"
    assert "rotator revoke app" in error["hint"]
    # A leak of the current password is not ended by a revoke alone: the hint names both logins.
    served = cli("get", "app", "--field", "username").out
    assert f"{served!r}, which is served, has leaked" in error["hint"]
    assert "rotator incident open app --reason 'WHY'" in error["hint"]
    assert "the old one is not revoked yet" in error["safety"]


def test_revoke_ends_the_grace_period_and_proves_the_rejection(cli: Cli):
    """One login is left, and the answer states that the other was rejected."""
    cli("rotate", "app")
    cli("rotate", "app")
    told = cli("revoke", "app")
    assert "is revoked: a login attempt with it was rejected" in told.out
    assert len(cli.server.target.usable()) == 1


def test_revoke_exits_with_3_while_sessions_use_the_old_login(cli: Cli):
    """`--terminate` ends the sessions; `status` lists them."""
    old = cli.json("rotate", "app").data["results"][0]["login"]
    cli("rotate", "app")
    cli.server.target.open_session(old)
    told = cli("revoke", "app", code=3)
    assert "rotator revoke app --terminate" in told.out
    status = cli.json("status", "app").data["secrets"][0]
    assert status["state"] == "draining"
    assert status["old_login_sessions"][0]["login"] == old
    assert "is used from 127.0.0.1:0 (app)" in cli("status", "app").out
    assert "was rejected" in cli("revoke", "app", "--terminate").out
    assert cli.server.target.violations == []


def test_rollback_makes_the_old_login_current_again(cli: Cli):
    """The newer login stays valid for its grace period and is then revoked."""
    old = cli.json("rotate", "app").data["results"][0]["login"]
    cli("rotate", "app")
    told = cli("rollback", "app", "--reason", "second thoughts")
    assert f"Login {old} is the current one again." in told.out
    newer = cli.json("history", "app").data["rotations"][0]["new_login"]
    waits = cli("rotate", "app", code=4).err
    assert f"To end only the newer login '{newer}' now: rotator revoke app" in waits
    assert f"If login '{old}', which is served, has leaked" in waits
    assert cli("get", "app", "--field", "username").out == old
    status = cli.json("status", "app").data["secrets"][0]
    assert (status["state"], status["next_try"]) == ("grace", None)
    assert "rolled back" in status["cause"]
    result = cli.json("revoke", "app").data["results"][0]
    assert result["outcome"] == "rolled-back"
    assert result["rolling_back"] is True
    assert cli.server.target.usable() == {old}


def test_an_open_rotation_is_completed_by_the_strategy_that_it_began_with(cli: Cli):
    """Another one would leave the old login valid. The next rotation uses the new strategy."""
    old = cli.json("rotate", "app").data["results"][0]["login"]
    new = cli.json("rotate", "app").data["results"][0]["login"]
    cli.edit("strategy: new-user, tags", "strategy: single-user, options: {base: app}, tags")
    result = cli.json("revoke", "app").data["results"][0]
    assert (result["outcome"], result["old_refused"]) == ("done", True)
    assert cli.server.target.usable() == {new}
    assert old != new
    assert cli.json("rotate", "app").data["results"][0]["login"] == new


def test_rollback_and_revoke_need_an_open_rotation(cli: Cli):
    """Without one both are misuse, with the reason."""
    cli("rotate", "app")
    for command in ("rollback", "revoke"):
        error = cli.json(command, "app", code=2).errors[0]
        assert "no rotation is open" in error["what"]
        assert "rotator history app" in error["hint"]


def test_a_plan_changes_nothing_and_names_every_step(cli: Cli):
    """`plan` and `rotate --dry-run` show the statements and write no event."""
    cli("rotate", "app")
    before, events = cli.server.target.state(), cli.json("audit", "show").data["events"]
    for arguments in (("plan", "app"), ("rotate", "app", "--dry-run")):
        steps = cli.json(*arguments).data["plans"][0]["steps"]
        found = [one["step"] for one in steps]
        assert found[0] == "stage"
        assert found[-1] == "revoke"
        assert "***" in cli(*arguments).out
    assert cli.server.target.state() == before
    assert cli.json("audit", "show").data["events"] == events


def test_rotate_selects_secrets_by_tag_due_or_all(cli: Cli):
    """Only the journal decides what is due."""
    assert "Nothing to do" in cli("rotate", "--due").out
    names = [one["secret"] for one in cli.json("rotate", "--tag", "prod").data["results"]]
    assert sorted(names) == ["app", "web"]
    both = cli.json("rotate", "--tag", "prod", "--tag", "billing").data["results"]
    assert [one["secret"] for one in both] == ["app"]
    told = cli("rotate", "--all", "--parallel", "3", code=4)
    assert "3 secrets:" in told.out


def test_due_with_a_tag_selects_only_secrets_with_the_tag(cli: Cli):
    """A secret that is due and has another tag is left alone."""
    with cli.app() as app:
        for name in ("app", "old"):
            app.engine.schedule(app.secret(name), app.clock.now(), reason="x")
    assert cli.json("plan", "--tag", "billing", "--due").data["plans"][0]["secret"] == "app"
    done = cli.json("rotate", "--tag", "billing", "--due")
    assert [one["secret"] for one in done.data["results"]] == ["app"]


def test_the_worst_of_several_secrets_decides_the_exit_code(cli: Cli):
    """A parked secret outweighs those that are done."""
    cli("park", "app", "--reason", "a freeze")
    told = cli.json("rotate", "--all", code=3)
    codes = {one["secret"]: one["exit_code"] for one in told.data["results"]}
    assert codes == {"app": 3, "web": 0, "old": 0}
    assert [one["kind"] for one in told.errors] == ["parked"]


def test_a_parked_secret_waits_for_an_operator(cli: Cli):
    """Exit code 3 until it is unparked; the reason is shown."""
    cli("park", "app", "--reason", "migration until Friday")
    assert "migration until Friday" in cli("rotate", "app", code=3).err
    assert cli.json("status", "app", code=3).data["secrets"][0]["state"] == "parked"
    cli("unpark", "app", "--reason", "it is over")
    cli("rotate", "app")


def test_a_rejected_candidate_is_undone(cli: Cli):
    """Exit code 1; the current credential is unchanged and the answer states it."""
    cli("rotate", "app")
    before = cli.server.target.usable()
    cli.server.target.refuse_next = 9
    told = cli("rotate", "app", code=1)
    assert "all changes are undone" in told.out
    assert "The application is safe" in told.out
    assert cli.server.target.usable() == before
    error = cli.json("rotate", "app", code=None).errors[0]
    assert error["kind"] == "refused"
    assert error["step"] == "create"


def test_an_unavailable_server_changes_nothing(cli: Cli):
    """Retries are used, the rotation is undone, and the error names the server."""
    cli("rotate", "app")
    cli.server.away = True
    told = cli("rotate", "app", code=None)
    assert told.code in (1, 3)
    assert "127.0.0.1:1 does not answer" in told.out
    cli.server.away = False
    cli("resume", "app", code=None)
    assert len(cli.server.target.usable()) == 1


def test_resume_completes_open_rotations_and_starts_none(cli: Cli):
    """Without a name it selects all open rotations; without any it exits with 0."""
    assert "Nothing to do" in cli("resume").out
    assert "no rotation is open" in cli("resume", "app").out
    cli("rotate", "--all")
    cli("rotate", "app")
    results = cli.json("resume").data["results"]
    assert [one["secret"] for one in results] == ["app"]
    assert results[0]["waiting"]


def test_a_secret_that_another_process_works_on_is_locked(cli: Cli):
    """Exit code 4, and nothing changes."""
    with cli.app() as app:
        app.journal.acquire("app", "somebody-else", timedelta(minutes=5))
        error = cli.json("rotate", "app", code=4).errors[0]
    assert error["kind"] == "busy"
    assert cli.server.target.usable() == set()


def test_an_unexpected_error_of_a_plugin_shows_its_type_only(cli: Cli):
    """With a hint to report it."""
    cli.server.bug = KeyError("hunter2-hunter2")
    told = cli("rotate", "app", code=None)
    assert told.code != 0
    assert "KeyError" in told.out + told.err
    assert "hunter2" not in told.out + told.err


def test_piped_progress_is_one_line_per_step(cli: Cli):
    """Each finished step with its seconds, in order."""
    told = cli("rotate", "app").out
    steps = [line.split()[1] for line in told.splitlines() if " finished in " in line]
    assert steps == ["stage", "create", "verify", "publish"]


def test_a_checkpoint_is_signed_after_a_rotation(cli: Cli):
    """The answer names it, and the journal verifies with signatures."""
    assert cli.json("rotate", "app").data["checkpoint"]["number"] == 2
    audit = cli.json("audit", "verify").data
    assert audit["ok"] is True
    assert audit["signatures_checked"] is True
    assert audit["events_after_last_checkpoint"] == 0
