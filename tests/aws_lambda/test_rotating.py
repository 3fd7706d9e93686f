"""AWS rotates by our function, with its own rules kept strictly, over a real PostgreSQL."""

from __future__ import annotations

import time

import psycopg
import pytest

from rotator.core.errors import NotDue
from rotator.journal.log import verify_log
from tests.aws_lambda.sandboxes import APP_PASSWORD, Client, Sandbox
from tests.servers.secrets_manager import CURRENT, PENDING


def _old_and_new(sandbox: Sandbox) -> tuple[dict[str, str], dict[str, str]]:
    old = sandbox.served()
    assert sandbox.rotate() == []
    return old, sandbox.served()


def test_a_login_changes_its_own_password(either: Sandbox):
    """As AWS's single-user template does, without an admin; keys that are not ours are kept."""
    either.secret()
    for _ in range(3):
        old, new = _old_and_new(either)
        assert new["username"] == "app"
        assert {**new, "password": ""} == {**old, "password": ""}
        assert either.accepts(new)
        assert not either.accepts(old)
        assert either.stages()[either.current_id()] == [CURRENT, PENDING]


def test_two_users_take_turns_and_the_old_one_is_closed_by_the_sweep(either: Sandbox):
    """Until then both log in; what the second makes belongs to the first."""
    either.secret(masterarn=either.master())
    with Client(either) as client:
        for turn, expected in enumerate(["app_clone", "app", "app_clone", "app"]):
            old, new = _old_and_new(either)
            assert new["username"] == expected
            assert either.accepts(new)
            assert either.accepts(old)
            with either.server.connect(
                user=new["username"], password=new["password"], dbname="postgres"
            ) as session:
                session.execute(f"CREATE TABLE made_{turn} (id int)".encode())
                session.execute(b"SELECT * FROM orders")
                for earlier in range(turn):
                    session.execute(f"SELECT * FROM made_{earlier}".encode())
            assert either.sweep()["ended"] == 1
            assert not either.accepts(old)
            assert either.logins() == {expected}
            assert either.sweep()["ended"] == 0
    assert client.logins > 10
    assert client.refused == 0


def test_a_new_user_each_time(either: Sandbox):
    """Named in the secret's own key, which stays; the group comes from the operator, by a tag."""
    ours = {"strategy": "new-user", "options": {"prefix": "app"}}
    either.secret(masterarn=either.master(), rotator=ours)
    either.tag(group="app_owner")
    with either.server.connect() as admin:
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    for _ in range(3):
        old, new = _old_and_new(either)
        assert new["username"].startswith("app_")
        assert new["rotator"] == ours
        assert either.accepts(old)
        assert either.sweep()["ended"] == 1
        assert not either.accepts(old)
        assert either.logins() == {new["username"]}


def test_a_sweep_looks_once_whether_the_old_login_is_used(either: Sandbox):
    """And goes on to the next secret: somebody who stays is no fault that it would have to tell."""
    arn = either.secret(masterarn=either.master())
    old = either.served()
    with either.server.connect("postgres", old["username"], old["password"]) as session:
        assert either.rotate() == []
        begun = time.monotonic()
        assert either.sweep() == {"ended": 0, "waiting": 1, "failed": []}
        assert time.monotonic() - begun < 10
        looks = [said for _, said, _ in either.log.lines if said == "waiting"]
        assert len(looks) == 1
        assert session.execute(b"SELECT 1").fetchall() == [(1,)]
        assert either.sweep(SecretId=arn, now=True)["ended"] == 1
    assert not either.accepts(old)


def test_the_next_rotation_ends_the_one_before(either: Sandbox):
    """Where nobody sweeps."""
    either.secret(masterarn=either.master())
    first, second = _old_and_new(either)
    _, third = _old_and_new(either)
    assert not either.accepts(first)
    assert either.accepts(second)
    assert either.accepts(third)
    assert verify_log(either.lines)[0].damage == []


def test_an_old_credential_keeps_its_grace_period(either: Sandbox):
    """A rotation that is asked for too early is refused, and says until when."""
    either.environ["ROTATOR_GRACE"] = "1h"
    either.secret(masterarn=either.master())
    old, new = _old_and_new(either)
    assert either.sweep()["waiting"] == 1
    (error,) = either.rotate()
    assert type(error).__name__ == "NotDue"
    assert "grace period" in str(error)
    assert either.accepts(old)
    assert either.served() == new


def test_every_step_may_come_again_in_any_order(either: Sandbox):
    """AWS repeats steps, and begins again from the first with the same token."""
    either.secret(masterarn=either.master())
    create, set_, test, finish = "createSecret", "setSecret", "testSecret", "finishSecret"
    either.aws.steps = lambda: [
        *(create, create, set_, create, set_, test, create, set_, set_, test, test, finish),
        *(finish, create, set_, test, finish),
    ]
    for _ in range(3):
        old, new = _old_and_new(either)
        assert either.accepts(new)
        either.sweep()
        assert not either.accepts(old)
        assert either.logins() == {new["username"]}


def test_both_spellings_of_a_step_are_known(sandbox: Sandbox):
    """AWS's documentation has both."""
    sandbox.secret()
    sandbox.aws.steps = lambda: ["create_secret", "set_secret", "test_secret", "finish_secret"]
    old, new = _old_and_new(sandbox)
    assert sandbox.accepts(new)
    assert not sandbox.accepts(old)


def test_a_value_that_is_visible_late_is_waited_for(sandbox: Sandbox):
    """As AWS's sometimes is, right after createSecret."""
    sandbox.secret()
    sandbox.aws.late = 0.5
    _, new = _old_and_new(sandbox)
    assert sandbox.accepts(new)


def test_turning_rotation_on_without_rotating_only_tries(either: Sandbox):
    """RotateImmediately=false: testSecret alone, with a version that holds nothing."""
    either.secret(masterarn=either.master())
    before = either.served()
    assert either.rotate(RotateImmediately=False) == []
    assert either.served() == before
    assert either.logins() == {"app"}
    either.aws.by_hand(
        either.name,
        either.aws.secret(either.name)
        .versions[either.current_id()]
        .value.replace(APP_PASSWORD, "wrong"),
    )  # type: ignore[union-attr]
    (error,) = either.rotate(RotateImmediately=False)
    assert "NOT safe" in str(error)


def test_the_token_of_a_rotation_by_another_role_is_given_back(sandbox: Sandbox):
    """RotationToken: AWS refuses PutSecretValue without it; it is nowhere to be read."""
    sandbox.secret()
    token = "0123456789-rotation-token-0123456789"
    sandbox.aws.secret(sandbox.name).rotation_token = token
    _, new = _old_and_new(sandbox)
    assert sandbox.accepts(new)
    assert token not in sandbox.said()


def test_a_login_that_cannot_do_its_work_is_undone_at_once(either: Sandbox):
    """AWSCURRENT logs in, AWSPENDING is gone, and the next rotation is not blocked by this one."""
    options = {"probes": ["SELECT * FROM payroll"]}
    either.secret(rotator={"strategy": "single-user", "options": options})
    before = either.served()
    (error,) = either.rotate()
    assert type(error).__name__ == "Refused"
    assert "payroll" in str(error)
    assert "authenticated just now" in str(error)
    assert either.served() == before
    assert either.accepts(before)
    assert not any(PENDING in labels for labels in either.stages().values())
    with either.server.connect() as admin:
        admin.execute(b"CREATE TABLE payroll (id int); GRANT SELECT ON payroll TO app")
    _, new = _old_and_new(either)
    assert either.accepts(new)


def test_what_a_template_left_half_done_is_taken_over(sandbox: Sandbox):
    """The password was set, the test failed for good: only the pending one logs in."""
    sandbox.secret()
    kept, token = sandbox.aws.secret(sandbox.name), "11111111-2222-4333-8444-555555555555"
    pending = {**sandbox.served(), "password": "set-by-the-template-1"}
    import json

    sandbox.aws.answer(
        "PutSecretValue",
        {
            "SecretId": sandbox.name,
            "SecretString": json.dumps(pending),
            "ClientRequestToken": token,
            "VersionStages": [PENDING],
        },
    )
    with sandbox.server.connect() as admin:
        admin.execute(b"ALTER ROLE app PASSWORD 'set-by-the-template-1'")
    assert PENDING in kept.versions[token].stages
    status, _ = sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name})
    assert status == 400, "AWS tells that a previous rotation is not complete, and tries it again"
    sandbox.aws.wait()
    assert sandbox.aws.failures == []
    assert sandbox.served()["password"] == "set-by-the-template-1"
    assert sandbox.current_id() == token


def test_a_pair_of_the_templates_is_taken_over(either: Sandbox):
    """`app_clone` is there, made by AWS's template, and AWSPREVIOUS says whose it is."""
    master = either.master()
    with either.server.connect() as admin:
        admin.execute(
            b"CREATE ROLE app_clone LOGIN PASSWORD 'of-the-clone'; GRANT app TO app_clone"
        )
        admin.execute(b"GRANT app_clone TO master WITH ADMIN OPTION")
    either.secret(masterarn=master, username="app_clone", password="of-the-clone")
    either.secret(masterarn=master)
    for expected in ("app_clone", "app"):
        _, new = _old_and_new(either)
        assert new["username"] == expected
        either.sweep()
        assert either.logins() == {expected}


def test_a_clone_that_is_somebody_elses_is_left_alone(sandbox: Sandbox):
    """A name alone is no proof."""
    sandbox.secret(masterarn=sandbox.master())
    with sandbox.server.connect() as admin:
        admin.execute(b"CREATE ROLE app_clone LOGIN PASSWORD 'of-somebody-else'")
    (error,) = sandbox.rotate()
    assert type(error).__name__ == "Conflict"
    assert sandbox.accepts({"username": "app_clone", "password": "of-somebody-else"})
    assert sandbox.accepts(sandbox.served())


@pytest.mark.parametrize("is_warm", [False, True])
def test_the_log_is_a_journal_that_can_be_verified(sandbox: Sandbox, *, is_warm: bool):
    """Every line; without one of them, or with another word in one, no more."""
    sandbox.secret(masterarn=sandbox.master())
    if is_warm:
        sandbox.warm = sandbox.function()
    for _ in range(3):
        assert sandbox.rotate() == []
        sandbox.sweep()
    around = [
        f"2026-11-24T10:00:0{number % 10}.000Z {line}\n"
        for number, line in enumerate(sandbox.lines)
    ]
    report, heads = verify_log(["START RequestId: 1\n", *around, "END RequestId: 1\n"])
    assert report.damage == []
    assert report.rotations == 3
    assert report.events > 40
    kept = sandbox.aws.secret(sandbox.name).tags["rotator-journal"]
    assert heads[sandbox.name].text() == kept
    for number in range(1, len(around) - 1):
        assert not verify_log(around[:number] + around[number + 1 :])[0].ok
    for number, line in enumerate(around):
        changed = line.replace("app", "apq", 1)
        if changed != line:
            assert not verify_log([*around[:number], changed, *around[number + 1 :]])[0].ok
    assert verify_log(around[:-1])[1][sandbox.name].text() != kept


def test_the_last_words_of_a_killed_invocation_are_no_damage(sandbox: Sandbox):
    """Its lines are there, the end of the chain was not kept; another went on from before them."""
    sandbox.secret()
    assert sandbox.rotate() == []
    whole = len(sandbox.lines)
    kept = dict(sandbox.aws.secret(sandbox.name).tags)
    assert sandbox.rotate() == []
    # All that createSecret wrote.
    cut_off = sandbox.lines[: whole + 2]
    sandbox.aws.secret(sandbox.name).tags = kept
    del sandbox.lines[whole:]
    assert sandbox.rotate() == []
    assert verify_log(cut_off + sandbox.lines[whole:])[0].damage == []
    # Two invocations' words are no accident.
    both = verify_log([*cut_off, *sandbox.lines[whole:], cut_off[-1].replace("request-", "r")])[0]
    assert both.damage == []
    forged = [line.replace('"request": "request-5"', '"request": "x"') for line in cut_off[-1:]]
    damage = verify_log([*cut_off[:-1], *forged, *sandbox.lines[whole:]])[0].damage
    assert forged[0] == cut_off[-1] or damage


@pytest.mark.parametrize("journal", ["log", "postgresql"])
def test_a_journal_that_cannot_be_written_stops_it_before_any_effect(
    sandbox: Sandbox, journal: str
):
    """Nothing on the target, nothing in the secret."""
    sandbox.secret(masterarn=sandbox.master())
    if journal == "log":
        sandbox.aws.denied["TagResource"] = "no"
    else:
        sandbox.environ["ROTATOR_JOURNAL"] = "postgresql://rotator@127.0.0.1:1/rotator"
    before = sandbox.served()
    (error,) = sandbox.rotate()
    assert type(error).__name__ in ("NotAllowed", "JournalError")
    assert sandbox.logins() == {"app"}
    assert sandbox.served() == before
    assert "PutSecretValue" not in sandbox.aws.requests


def test_no_secret_is_in_any_text(either: Sandbox):
    """Not in the journal, the log or an exception; not in the server's log either."""
    with either.server.connect() as admin:
        admin.execute(b"ALTER SYSTEM SET log_statement = 'all'")
        admin.execute(b"SELECT pg_reload_conf()")
    either.secret(masterarn=either.master())
    passwords = [APP_PASSWORD]
    for _ in range(2):
        _, new = _old_and_new(either)
        passwords.append(new["password"])
        either.sweep()
    said = either.said() + either.server.log_text()
    assert not [one for one in passwords if one in said]


def test_boto3_asks_for_it_and_reads_it_as_its_documentation_says(sandbox: Sandbox):
    """RotateSecret answers at once; DescribeSecret and GetSecretValue tell the rest."""
    import boto3

    arn = sandbox.secret(masterarn=sandbox.master())
    client = boto3.client(
        "secretsmanager", region_name="eu-central-1", endpoint_url=sandbox.aws.endpoint
    )
    try:
        before = client.get_secret_value(SecretId=sandbox.name)
        answer = client.rotate_secret(SecretId=arn)
        assert answer["ARN"] == arn
        sandbox.aws.wait()
        after = client.get_secret_value(SecretId=sandbox.name)
        assert after["VersionId"] == answer["VersionId"] != before["VersionId"]
        about = client.describe_secret(SecretId=sandbox.name)
        assert about["RotationEnabled"] is True
        assert about["LastRotatedDate"].timestamp() > before["CreatedDate"].timestamp()
        stages = about["VersionIdsToStages"]
        assert CURRENT in stages[after["VersionId"]]
        assert stages[before["VersionId"]] == ["AWSPREVIOUS"]
        previous = client.get_secret_value(SecretId=sandbox.name, VersionStage="AWSPREVIOUS")
        assert previous["SecretString"] == before["SecretString"]
    finally:
        client.close()


def test_a_login_that_is_still_used_holds_up_the_next_rotation(either: Sandbox):
    """AWS is told who, and is not blocked by it: once nobody uses it, the next one comes through."""
    either.secret(masterarn=either.master())
    either.seconds = 12.0
    old = either.served()
    with either.server.connect("postgres", old["username"], old["password"]) as session:
        assert either.rotate() == []
        served = either.served()
        (failed,) = either.rotate()
        assert isinstance(failed, NotDue)
        assert either.served() == served
        assert session.execute(b"SELECT 1").fetchall() == [(1,)]
    either.seconds = 60.0
    assert either.rotate() == []
    assert not either.accepts(old)
    assert either.accepts(either.served())


def test_sessions_are_ended_where_the_function_is_told_so(either: Sandbox):
    """Once the drain is over: the next sweep does not wait."""
    either.environ |= {"ROTATOR_DRAIN_THEN": "terminate", "ROTATOR_DRAIN_WAIT": "0s"}
    either.secret(masterarn=either.master())
    old = either.served()
    with either.server.connect("postgres", old["username"], old["password"]) as session:
        assert either.rotate() == []
        assert either.sweep()["ended"] == 1
        with pytest.raises(psycopg.OperationalError):
            session.execute(b"SELECT 1")
    assert not either.accepts(old)
