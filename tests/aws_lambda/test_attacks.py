"""What an attacker, an impatient operator and a bad day do to a secret that the function rotates."""

from __future__ import annotations

import itertools
import json
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotations.postgresql import strategies
from rotator.backends.aws import aws_driven
from rotator.core.errors import Transient
from rotator.faces.aws_lambda import sweeper
from rotator.faces.aws_lambda.state_tag import Phase, StateTag
from rotator.journal.log import verify_log
from tests.servers.secrets_manager import CURRENT, PENDING, STEPS

if TYPE_CHECKING:
    from tests.aws_lambda.sandboxes import Sandbox


@pytest.fixture(params=["log", pytest.param("postgresql", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """With the journal that has no other memory than tags; with each kind of it in `make test-all`."""
    if request.param == "postgresql":
        sandbox.keep_journal_in(sandbox.server)
    return sandbox


TOKEN = "11111111-2222-4333-8444-555555555555"


class Kill(BaseException):
    """The function's process dies."""


def _clean(sandbox: Sandbox) -> None:
    """Take AWSPENDING away, as AWS does after a rotation that ended, and operators do."""
    for version in sandbox.aws.secret(sandbox.name).versions.values():
        version.stages.discard(PENDING)


def _by_hand(sandbox: Sandbox, **changes: object) -> None:
    _clean(sandbox)
    sandbox.aws.by_hand(sandbox.name, json.dumps({**sandbox.served(), **changes}))


def _role(sandbox: Sandbox, name: str, password: str) -> dict[str, str]:
    with sandbox.server.connect() as admin:
        admin.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}';"
            f"GRANT {name} TO master WITH ADMIN OPTION".encode()
        )
    return {"username": name, "password": password}


def _pair(sandbox: Sandbox) -> None:
    """Rotate twice, so that both logins of a pair are under our care."""
    sandbox.secret(masterarn=sandbox.master())
    for _ in range(2):
        assert sandbox.rotate() == []
        assert sandbox.sweep()["ended"] == 1


def _dies_after_create(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotate once, by a function that dies once the password is set; AWS gives up."""

    def dead(*_: object) -> None:
        raise Kill

    def call(event: dict[str, Any]) -> None:
        try:
            sandbox.call(event)
        except Kill:
            raise RuntimeError from None

    kept = sandbox.aws.secret(sandbox.name)
    kept.function = call
    with monkeypatch.context() as patch:
        patch.setattr(strategies.SingleUser, "verify", dead)
        assert sandbox.rotate() != []
    kept.function = sandbox.call
    assert not sandbox.accepts(sandbox.served())


# -- who may write the secret, and nothing else ------------------------------------------------------


@pytest.mark.parametrize("before", [None, {}, {"username": "nobody_there"}])
def test_writing_a_login_into_the_secret_gives_nobody_its_rights(
    either: Sandbox, before: dict[str, str] | None
):
    """Only who knows the password of what is current may have it rotated; whatever was current before."""
    _pair(either)
    _role(either, "payroll", "unknown-to-the-attacker")
    evil = {**either.served(), "username": "payroll", "password": "junk"}
    if before is not None:
        _clean(either)
        value = {**evil, **before} if before else {}
        either.aws.by_hand(either.name, json.dumps(value))
    _clean(either)
    either.aws.by_hand(either.name, json.dumps(evil))
    logins = either.logins()
    (error, *_) = either.rotate()
    assert "rejects login 'payroll'" in str(error)
    assert either.logins() == logins
    assert either.accepts({"username": "payroll", "password": "unknown-to-the-attacker"})


def test_a_login_that_was_written_into_the_secret_for_a_while_is_not_closed(either: Sandbox):
    """AWSPREVIOUS names it; that makes it nobody's to revoke."""
    _pair(either)
    victim = _role(either, "victim", "victims-password-1")
    good = either.served()
    _by_hand(either, **victim)
    _by_hand(either, **good)
    either.sweep()
    assert either.accepts(victim)
    either.rotate()
    either.sweep()
    assert either.accepts(victim)
    assert either.accepts(either.served())


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("group", "dba"),
        ("users", ["app", "dba_login"]),
        ("username", "dba_login"),
        ("valid_days", 9999),
        ("password_encryption", "md5"),
        ("sslcert", "/etc/passwd"),
    ],
)
def test_who_writes_the_value_gets_no_other_rights_by_it(
    sandbox: Sandbox, strategy: str, option: str, value: object
):
    """What chooses groups, logins and limits comes from where only operators write."""
    with sandbox.server.connect() as admin:
        admin.execute(b"CREATE ROLE dba NOLOGIN; GRANT dba TO master WITH ADMIN OPTION")
        # It holds nothing by itself, as is advised: so nothing that it owns is in the way.
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    try:
        ours = {"strategy": strategy, "options": {option: value, "prefix": "app"}}
        sandbox.secret(masterarn=sandbox.master(), rotator=ours)
        before = sandbox.served()
        (error, *_) = sandbox.rotate()
        tag = f"rotator-option-{option.replace('_', '-')}"
        assert f"sets the option {option!r}" in str(error)
        assert tag in str(error)
        assert "ROTATOR_OPTIONS" in str(error)
        assert sandbox.served() == before
        assert sandbox.logins() == {"app"}
        with sandbox.server.connect() as admin:
            found = "SELECT FROM pg_auth_members WHERE roleid = 'dba'::regrole AND member <> 'master'::regrole"
            assert admin.execute(found).fetchall() == []
    finally:
        with sandbox.server.connect() as admin:
            admin.execute(b"DROP ROLE dba")


def test_what_the_operator_says_may_stay_in_the_value(sandbox: Sandbox):
    """While a secret moves from the one to the other."""
    ours = {"strategy": "new-user", "options": {"group": "app_owner"}}
    sandbox.secret(masterarn=sandbox.master(), rotator=ours)
    sandbox.tag(group="app_owner")
    with sandbox.server.connect() as admin:
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    assert sandbox.rotate() == []
    assert sandbox.served()["username"].startswith("app_owner_")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"rotator-option-groop": "x"}, "Did you mean `group`"),
        ({"rotator-option-valid-days": "many"}, "is no number"),
        ({"rotator-strategy": "new-usr"}, "no strategy 'new-usr'"),
    ],
)
def test_a_tag_that_makes_no_sense_is_named(sandbox: Sandbox, tags: dict[str, str], said: str):
    """With what would be right."""
    sandbox.secret(masterarn=sandbox.master())
    sandbox.aws.secret(sandbox.name).tags |= tags
    (error, *_) = sandbox.rotate()
    assert said in str(error)
    assert sandbox.logins() == {"app"}


@pytest.mark.parametrize(
    "key", ["ssl", "masterarn", "dbname", "rotator", "host", "port", "engine", "extra"]
)
def test_what_is_pending_says_what_is_current_says(sandbox: Sandbox, key: str):
    """But for login and password: else the rotation after it would go elsewhere, or in the clear."""
    sandbox.secret(masterarn=sandbox.master())
    evil = {**sandbox.served(), "username": "app_clone", "password": "x" * 20, key: "other"}
    sandbox.aws.answer(
        "PutSecretValue",
        {
            "SecretId": sandbox.name,
            "SecretString": json.dumps(evil),
            "ClientRequestToken": TOKEN,
            "VersionStages": [PENDING],
        },
    )
    sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name})
    sandbox.aws.wait()
    assert f"another {key!r}" in str(sandbox.aws.failures[0])
    assert sandbox.served()["username"] == "app"
    assert sandbox.logins() == {"app"}


@pytest.mark.parametrize(
    ("child", "master", "said"),
    [
        ({"ssl": False}, {}, "switches TLS off"),
        ({"ssl": False}, {"ssl": True}, "switches TLS off"),
        ({}, {"port": 1}, "port"),
    ],
)
def test_the_admins_password_goes_only_where_its_own_secret_says(
    sandbox: Sandbox, child: dict[str, Any], master: dict[str, Any], said: str
):
    """And as it says: whoever writes the application's secret does not choose that."""
    sandbox.secret(masterarn=sandbox.master(**master), **child)
    (error, *_) = sandbox.rotate()
    assert type(error).__name__ == "Conflict"
    assert said in str(error)
    _clean(sandbox)
    sandbox.secret(masterarn=sandbox.master(ssl="false"), ssl=False)
    assert sandbox.rotate() == []


# -- AWS's orders ------------------------------------------------------------------------------------


_ORDERS = tuple(itertools.permutations(STEPS))


@pytest.mark.parametrize(
    "orders", [_ORDERS[1::5], pytest.param(_ORDERS, marks=pytest.mark.slow)], ids=["some", "all"]
)
@pytest.mark.parametrize("journal", ["log", "postgresql"])
@pytest.mark.parametrize("masterarn", [False, True])
def test_in_whatever_order_the_steps_come_what_is_current_logs_in(
    sandbox: Sandbox,
    journal: str,
    masterarn: bool,  # noqa: FBT001 # a parameter of pytest's
    orders: tuple[tuple[str, ...], ...],
    monkeypatch: pytest.MonkeyPatch,
):
    """One order after the other; each ends when AWS comes with the right one at last."""
    monkeypatch.setattr(aws_driven, "_LATE", ())
    if journal == "postgresql":
        sandbox.keep_journal_in(sandbox.server)
    sandbox.secret(masterarn=sandbox.master() if masterarn else None)
    with closing(sandbox.function()) as sandbox.warm:
        for order in orders:
            failed = _in_order(sandbox, order)
            assert not [one for one in failed if isinstance(one, AssertionError)], failed
            sandbox.aws.steps = lambda: list(STEPS)
            if any(PENDING in one and CURRENT not in one for one in sandbox.stages().values()):
                sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name})
                sandbox.aws.wait()
            sandbox.sweep()
            served = sandbox.served()
            assert sandbox.accepts(served), order
            assert sandbox.logins() == {served["username"]}, order


def _in_order(sandbox: Sandbox, order: tuple[str, ...]) -> list[BaseException]:
    """Have AWS rotate once with its steps in this order; what is current logs in after each."""

    def call(event: dict[str, Any]) -> None:
        try:
            sandbox.call(event)
        finally:
            assert sandbox.accepts(sandbox.served()), (order, event)

    sandbox.aws.secret(sandbox.name).function = call
    sandbox.aws.steps = lambda: list(order)
    return sandbox.rotate()


def test_a_password_that_was_replaced_by_hand_is_not_brought_back(either: Sandbox):
    """Perhaps somebody knew it. AWSPENDING was left beside it, so AWS asks for it again."""
    either.secret()
    assert either.rotate() == []
    leaked = either.served()
    with either.server.connect() as admin:
        admin.execute(b"ALTER ROLE app PASSWORD 'by-the-operator-1'")
    either.aws.by_hand(either.name, json.dumps({**leaked, "password": "by-the-operator-1"}))
    either.aws.answer("RotateSecret", {"SecretId": either.name})
    either.aws.wait()
    assert "was current before" in str(either.aws.failures[0])
    assert not either.accepts(leaked)
    assert either.served()["password"] == "by-the-operator-1"
    assert either.rotate() == [], "and the next rotation is not blocked"
    assert either.accepts(either.served())


def test_a_value_that_was_corrected_by_hand_is_taken_over(either: Sandbox):
    """The same login, with another field: as our own texts advise."""
    _pair(either)
    _by_hand(either, note="edited by hand")
    assert either.sweep()["failed"] == []
    assert either.rotate() == []
    assert either.served()["note"] == "edited by hand"
    either.sweep()
    assert either.logins() == {either.served()["username"]}


def test_an_edit_during_the_grace_period_blocks_nothing(either: Sandbox):
    """The old login of the rotation before may have to wait for the next one; it does not stay."""
    either.secret(masterarn=either.master())
    assert either.rotate() == []
    either.aws.by_hand(either.name, json.dumps({**either.served(), "note": "edited by hand"}))
    assert either.sweep()["failed"] == []
    assert either.accepts(either.served())
    for _ in range(2):
        assert either.rotate() == []
        assert either.served()["note"] == "edited by hand"
        assert either.sweep()["ended"] == 1
        assert either.logins() == {either.served()["username"]}


def test_a_current_login_that_does_not_log_in_is_not_rotated(either: Sandbox):
    """AWS's rule; and the last good login is not closed for it."""
    either.environ["ROTATOR_GRACE"] = "1h"
    either.secret(masterarn=either.master())
    first = either.served()
    assert either.rotate() == []
    either.environ["ROTATOR_GRACE"] = "0s"
    with either.server.connect() as admin:
        admin.execute(b"ALTER ROLE app_clone PASSWORD 'other-than-in-the-secret'")
    _by_hand(either, note="so that it is a version of somebody else")
    assert either.rotate() != []
    assert either.accepts(first)
    assert either.logins() == {"app", "app_clone"}


def test_before_the_old_login_goes_what_is_current_is_tried_again(
    either: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A day has passed since it was published: somebody may have changed its password."""
    from rotator.engine import steps

    monkeypatch.setattr(steps, "_A_WHILE", timedelta(0))
    either.secret(masterarn=either.master())
    first = either.served()
    assert either.rotate() == []
    with either.server.connect() as admin:
        admin.execute(b"ALTER ROLE app_clone PASSWORD 'other-than-in-the-secret'")
    with pytest.raises(Transient, match="NOT safe"):
        either.sweep()
    assert either.accepts(first)


def test_other_names_than_the_templates_take_turns(either: Sandbox):
    """`users` among the operator's options."""
    either.secret(masterarn=either.master())
    either.tag(users="app app_green", group="app_owner")
    with either.server.connect() as admin:
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    for expected in ("app_green", "app", "app_green"):
        assert either.rotate() == []
        assert either.served()["username"] == expected
        assert either.sweep()["ended"] == 1
        assert either.logins() == {expected}


# -- bad days ----------------------------------------------------------------------------------------


def test_the_grace_period_counts_from_when_it_was_published(either: Sandbox):
    """Not from LastRotatedDate, which is still last month's when the sweep comes at once."""
    _pair(either)
    either.environ["ROTATOR_GRACE"] = "24h"
    kept, old = either.aws.secret(either.name), either.served()
    kept.rotated = time.time() - 30 * 86400
    swept: list[Any] = []

    def call(event: dict[str, Any]) -> None:
        either.call(event)
        if event["Step"] == "finishSecret":
            swept.append(either.sweep())

    kept.function = call
    assert either.rotate() == []
    assert swept[0]["waiting"] == 1
    assert either.accepts(old)


def test_what_aws_has_given_up_half_way_is_ended_by_the_sweep(
    either: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """The password was set and never published: until then nobody can log in with what is current."""
    either.secret()
    assert either.rotate() == []
    _dies_after_create(either, monkeypatch)
    assert either.sweep()["ended"] == 0, "AWS may still come back to it"
    monkeypatch.setattr(sweeper, "_GIVEN_UP", timedelta(0))
    assert either.sweep()["ended"] == 1
    assert either.accepts(either.served())
    assert either.rotate() == []


def test_where_the_label_of_a_half_done_rotation_was_removed_the_next_one_mends_it(
    either: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """As AWS advises. Only the version without a label has the password that works."""
    either.secret()
    assert either.rotate() == []
    _dies_after_create(either, monkeypatch)
    _clean(either)
    assert either.rotate() == []
    assert either.accepts(either.served())


def test_a_login_of_a_rotation_that_was_cancelled_is_not_left_behind(either: Sandbox):
    """Its label is gone, so nobody comes back to it."""
    either.environ |= {"ROTATOR_STRATEGY": "new-user", "ROTATOR_OPTIONS": '{"group": "app_owner"}'}
    either.secret(masterarn=either.master())
    with either.server.connect() as admin:
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    either.aws.steps = lambda: ["createSecret", "setSecret"]
    assert either.rotate() == []
    assert len(either.logins()) == 2
    _clean(either)
    assert either.sweep()["ended"] == 1
    assert either.logins() == {"app"}
    assert either.accepts(either.served())


def test_what_was_asked_for_too_early_does_not_keep_the_sweep_away(either: Sandbox):
    """AWSPENDING of a version without a value would stand there until the next rotation."""
    either.environ["ROTATOR_GRACE"] = "1h"
    either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    assert [type(one).__name__ for one in either.rotate()] == ["NotDue"]
    either.environ["ROTATOR_GRACE"] = "0s"
    assert either.sweep()["ended"] == 1
    assert not either.accepts(old)


def test_a_person_may_end_the_grace_period_at_once(either: Sandbox):
    """By the sweep's own event, for one secret."""
    either.environ["ROTATOR_GRACE"] = "24h"
    arn = either.secret(masterarn=either.master())
    old = either.served()
    assert either.rotate() == []
    assert either.sweep()["waiting"] == 1
    assert either.sweep(SecretId=arn, now=True)["ended"] == 1
    assert not either.accepts(old)
    assert either.accepts(either.served())


def test_a_password_is_not_set_where_there_is_no_time_left_to_publish_it(either: Sandbox):
    """single-user: between the two nobody can log in."""
    either.secret()
    either.seconds = 6.0
    before = either.served()
    (error, *_) = either.rotate()
    assert "no time left for step create" in str(error)
    assert either.accepts(before)
    either.seconds = 60.0
    either.aws.answer("RotateSecret", {"SecretId": either.name})
    either.aws.wait()
    assert either.accepts(either.served())
    assert either.served() != before


def test_a_sweep_that_hangs_does_not_close_what_was_published_meanwhile(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """The next rotation waits until it is certain that the sweep does nothing more."""
    sandbox.secret(masterarn=sandbox.master())
    assert sandbox.rotate() == []
    reached, gate = threading.Event(), threading.Event()
    close = strategies.AlternatingUsers.revoke

    def hanging(*given: Any) -> None:
        if threading.current_thread() is sweeping:
            reached.set()
            assert gate.wait(60)
        close(*given)

    monkeypatch.setattr(strategies.AlternatingUsers, "revoke", hanging)
    sweeping = threading.Thread(target=sandbox.sweep)
    sweeping.start()
    assert reached.wait(30)
    sandbox.seconds = 20.0
    failed = sandbox.rotate()
    sandbox.seconds = 60.0
    assert "a sweep is closing" in str(failed[0])
    assert sandbox.served()["username"] == "app_clone"
    gate.set()
    sweeping.join()
    sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name})
    sandbox.aws.wait()
    assert sandbox.accepts(sandbox.served())
    assert sandbox.served()["username"] == "app"
    assert verify_log(sandbox.lines)[0].damage == []


def test_a_sweep_leaves_alone_what_aws_began_to_rotate_while_it_looked(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """It says that it is busy, then looks again: one of the two sees the other."""
    sandbox.secret(masterarn=sandbox.master())
    old = sandbox.served()
    assert sandbox.rotate() == []
    keep = aws_driven.AwsDrivenBackend.keep_tags

    def begun(backend: Any, path: str, tags: Any) -> None:
        keep(backend, path, tags)
        memory = StateTag.parse(tags["rotator-state"])
        if memory is not None and memory.busy_until is not None:
            sandbox.aws.secret(sandbox.name).function = lambda _event: None
            sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name})
            sandbox.aws.wait()

    monkeypatch.setattr(aws_driven.AwsDrivenBackend, "keep_tags", begun)
    with pytest.raises(Transient, match="AWS has started another rotation"):
        sandbox.sweep()
    assert sandbox.accepts(old)


@pytest.mark.parametrize(
    "memory",
    [
        StateTag(),
        StateTag(rotation=TOKEN),
        StateTag(
            rotation="r" * 36,
            old="o" * 36,
            before="b" * 36,
            earlier="e" * 36,
            state=Phase.PUBLISHING,
            at=datetime(2026, 11, 25, 23, 59, 59, 123000, UTC),
            busy_until=datetime(2027, 1, 1, tzinfo=UTC),
        ),
        StateTag(
            rotation="r" * 64,
            old="o" * 64,
            before="b" * 64,
            state=Phase.PUBLISHING,
            at=datetime(2026, 11, 25, 23, 59, 59, 123000, UTC),
            busy_until=datetime(2027, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_what_is_remembered_is_read_as_it_was_written(memory: StateTag):
    """In one tag, of 256 characters at most."""
    assert StateTag.parse(memory.text()) == memory
    assert len(memory.text()) <= 256


def test_ids_that_somebody_chose_too_long_leave_the_earliest_out():
    """What a rotation goes on from is kept."""
    ids = {key: key[0] * 64 for key in ("rotation", "old", "before", "earlier")}
    memory = StateTag(**ids, state=Phase.PUBLISHED, at=datetime(2026, 11, 25, tzinfo=UTC))
    assert StateTag.parse(memory.text()) == replace(memory, earlier=None)
    assert len(memory.text()) <= 256


@pytest.mark.parametrize(
    "text", [None, "", "x", "a b c d e f g", "- - - - ended - 1e400", "1 2 3", "- - - ended - -"]
)
def test_a_tag_of_another_shape_is_no_memory(text: str | None):
    """Somebody may have written it."""
    assert StateTag.parse(text) is None
