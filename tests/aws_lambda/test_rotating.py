"""AWS rotates by our function, with its own rules kept strictly, over a real PostgreSQL."""

from __future__ import annotations

import time

import psycopg
import pytest

from rotator.core.errors import NotDue
from rotator.journal.log import verify_log
from rotator.testing.secrets_manager import CURRENT, PENDING
from tests.aws_lambda.worlds import APP_PASSWORD, Client, World


def _old_and_new(world: World) -> tuple[dict[str, str], dict[str, str]]:
    old = world.served()
    assert world.rotate() == []
    return old, world.served()


def test_a_login_changes_its_own_password(either: World):
    """As AWS's single-user template does, without an admin; keys that are not ours are kept."""
    either.secret()
    for _ in range(3):
        old, new = _old_and_new(either)
        assert new["username"] == "app"
        assert {**new, "password": ""} == {**old, "password": ""}
        assert either.accepts(new)
        assert not either.accepts(old)
        assert either.stages()[either.current_id()] == [CURRENT, PENDING]


def test_two_users_take_turns_and_the_old_one_is_closed_by_the_sweep(either: World):
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


@pytest.mark.parametrize(("is_pair", "calls"), [(True, 34), (False, 19)])
def test_secrets_manager_is_asked_for_no_value_twice(world: World, *, is_pair: bool, calls: int):
    """What a version holds never changes: within an invocation only what is current is read again."""
    world.secret(masterarn=world.master() if is_pair else None)
    world.rotate()
    world.sweep()
    before = len(world.aws.requests)
    assert world.rotate() == []
    # AWS's own call is the first.
    assert world.aws.requests[before] == "RotateSecret"
    assert len(world.aws.requests) - before - 1 == calls


def test_a_new_user_each_time(either: World):
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


def test_a_sweep_looks_once_whether_the_old_login_is_used(either: World):
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


def test_the_next_rotation_ends_the_one_before(either: World):
    """Where nobody sweeps."""
    either.secret(masterarn=either.master())
    first, second = _old_and_new(either)
    _, third = _old_and_new(either)
    assert not either.accepts(first)
    assert either.accepts(second)
    assert either.accepts(third)
    assert verify_log(either.lines)[0].damage == []


def test_an_old_credential_keeps_its_grace_period(either: World):
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


def test_every_step_may_come_again_in_any_order(either: World):
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


def test_both_spellings_of_a_step_are_known(world: World):
    """AWS's documentation has both."""
    world.secret()
    world.aws.steps = lambda: ["create_secret", "set_secret", "test_secret", "finish_secret"]
    old, new = _old_and_new(world)
    assert world.accepts(new)
    assert not world.accepts(old)


def test_a_value_that_is_visible_late_is_waited_for(world: World):
    """As AWS's sometimes is, right after createSecret."""
    world.secret()
    world.aws.late = 0.5
    _, new = _old_and_new(world)
    assert world.accepts(new)


def test_turning_rotation_on_without_rotating_only_tries(either: World):
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


def test_the_token_of_a_rotation_by_another_role_is_given_back(world: World):
    """RotationToken: AWS refuses PutSecretValue without it; it is nowhere to be read."""
    world.secret()
    token = "0123456789-rotation-token-0123456789"
    world.aws.secret(world.name).rotation_token = token
    _, new = _old_and_new(world)
    assert world.accepts(new)
    assert token not in world.said()


def test_a_login_that_cannot_do_its_work_is_undone_at_once(either: World):
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


def test_what_a_template_left_half_done_is_taken_over(world: World):
    """The password was set, the test failed for good: only the pending one logs in."""
    world.secret()
    kept, token = world.aws.secret(world.name), "11111111-2222-4333-8444-555555555555"
    pending = {**world.served(), "password": "set-by-the-template-1"}
    import json

    world.aws.answer(
        "PutSecretValue",
        {
            "SecretId": world.name,
            "SecretString": json.dumps(pending),
            "ClientRequestToken": token,
            "VersionStages": [PENDING],
        },
    )
    with world.server.connect() as admin:
        admin.execute(b"ALTER ROLE app PASSWORD 'set-by-the-template-1'")
    assert PENDING in kept.versions[token].stages
    status, _ = world.aws.answer("RotateSecret", {"SecretId": world.name})
    assert status == 400, "AWS tells that a previous rotation is not complete, and tries it again"
    world.aws.wait()
    assert world.aws.failures == []
    assert world.served()["password"] == "set-by-the-template-1"
    assert world.current_id() == token


def test_a_pair_of_the_templates_is_taken_over(either: World):
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


def test_a_clone_that_is_somebody_elses_is_left_alone(world: World):
    """A name alone is no proof."""
    world.secret(masterarn=world.master())
    with world.server.connect() as admin:
        admin.execute(b"CREATE ROLE app_clone LOGIN PASSWORD 'of-somebody-else'")
    (error,) = world.rotate()
    assert type(error).__name__ == "Conflict"
    assert world.accepts({"username": "app_clone", "password": "of-somebody-else"})
    assert world.accepts(world.served())


def test_the_log_is_a_journal_that_can_be_verified(world: World):
    """Every line; without one of them, or with another word in one, no more."""
    world.secret(masterarn=world.master())
    for _ in range(3):
        assert world.rotate() == []
        world.sweep()
    around = [
        f"2026-11-24T10:00:0{number % 10}.000Z {line}\n" for number, line in enumerate(world.lines)
    ]
    report, heads = verify_log(["START RequestId: 1\n", *around, "END RequestId: 1\n"])
    assert report.damage == []
    assert report.rotations == 3
    assert report.events > 40
    kept = world.aws.secret(world.name).tags["rotator-journal"]
    assert heads[world.name].text() == kept
    for number in range(1, len(around) - 1):
        assert not verify_log(around[:number] + around[number + 1 :])[0].ok
    for number, line in enumerate(around):
        changed = line.replace("app", "apq", 1)
        if changed != line:
            assert not verify_log([*around[:number], changed, *around[number + 1 :]])[0].ok
    assert verify_log(around[:-1])[1][world.name].text() != kept


def test_the_last_words_of_a_killed_invocation_are_no_damage(world: World):
    """Its lines are there, the end of the chain was not kept; another went on from before them."""
    world.secret()
    assert world.rotate() == []
    whole = len(world.lines)
    kept = dict(world.aws.secret(world.name).tags)
    assert world.rotate() == []
    cut_off = world.lines[: whole + 3]
    world.aws.secret(world.name).tags = kept
    del world.lines[whole:]
    assert world.rotate() == []
    assert verify_log(cut_off + world.lines[whole:])[0].damage == []
    # Two invocations' words are no accident.
    both = verify_log([*cut_off, *world.lines[whole:], cut_off[-1].replace("request-", "r")])[0]
    assert both.damage == []
    forged = [line.replace('"request": "request-5"', '"request": "x"') for line in cut_off[-1:]]
    damage = verify_log([*cut_off[:-1], *forged, *world.lines[whole:]])[0].damage
    assert forged[0] == cut_off[-1] or damage


@pytest.mark.parametrize("journal", ["log", "postgresql"])
def test_a_journal_that_cannot_be_written_stops_it_before_any_effect(world: World, journal: str):
    """Nothing on the target, nothing in the secret."""
    world.secret(masterarn=world.master())
    if journal == "log":
        world.aws.denied["TagResource"] = "no"
    else:
        world.environ["ROTATOR_JOURNAL"] = "postgresql://rotator@127.0.0.1:1/rotator"
    before = world.served()
    (error,) = world.rotate()
    assert type(error).__name__ in ("NotAllowed", "JournalError")
    assert world.logins() == {"app"}
    assert world.served() == before
    assert "PutSecretValue" not in world.aws.requests


def test_no_secret_is_in_any_text(either: World):
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


def test_boto3_asks_for_it_and_reads_it_as_its_documentation_says(world: World):
    """RotateSecret answers at once; DescribeSecret and GetSecretValue tell the rest."""
    import boto3

    arn = world.secret(masterarn=world.master())
    client = boto3.client(
        "secretsmanager", region_name="eu-central-1", endpoint_url=world.aws.endpoint
    )
    try:
        before = client.get_secret_value(SecretId=world.name)
        answer = client.rotate_secret(SecretId=arn)
        assert answer["ARN"] == arn
        world.aws.wait()
        after = client.get_secret_value(SecretId=world.name)
        assert after["VersionId"] == answer["VersionId"] != before["VersionId"]
        about = client.describe_secret(SecretId=world.name)
        assert about["RotationEnabled"] is True
        assert about["LastRotatedDate"].timestamp() > before["CreatedDate"].timestamp()
        stages = about["VersionIdsToStages"]
        assert CURRENT in stages[after["VersionId"]]
        assert stages[before["VersionId"]] == ["AWSPREVIOUS"]
        previous = client.get_secret_value(SecretId=world.name, VersionStage="AWSPREVIOUS")
        assert previous["SecretString"] == before["SecretString"]
    finally:
        client.close()


def test_a_login_that_is_still_used_holds_up_the_next_rotation(either: World):
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


def test_sessions_are_ended_where_the_function_is_told_so(either: World):
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
