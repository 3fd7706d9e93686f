"""How often a rotation calls Secrets Manager, and what a warm process may remember between its steps."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from rotations.postgresql import strategies
from rotator.backends.aws import aws_driven
from rotator.core.errors import Refused
from rotator.journal.log import verify_log
from tests.aws_lambda.sandboxes import ADMIN_PASSWORD
from tests.servers.secrets_manager import CURRENT, PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.faces.aws_lambda.function import Function
    from tests.aws_lambda.sandboxes import Sandbox

_READ, _TAG = "GetSecretValue", "TagResource"
_ALWAYS = {"DescribeSecret": 4, "PutSecretValue": 1, "UpdateSecretVersionStage": 1}


@pytest.fixture
def warm(sandbox: Sandbox) -> Iterator[Function]:
    """One process, for every step."""
    with closing(sandbox.function()) as function:
        sandbox.warm = function
        yield function


def _refuse(*_: object) -> None:
    raise Refused("the new login lacks a right.")


def _rotated(sandbox: Sandbox) -> Counter[str]:
    """Rotate once; return the calls by operation, without AWS's own."""
    before = len(sandbox.aws.requests)
    assert sandbox.rotate() == []
    first, *calls = sandbox.aws.requests[before:]
    assert first == "RotateSecret"
    return Counter(calls)


@pytest.mark.parametrize(
    ("is_pair", "reads", "most"),
    [
        pytest.param(True, [5, 6, 6, 6], 16, id="alternating-users"),
        pytest.param(False, [5, 5, 5, 5], 13, id="single-user"),
    ],
)
def test_a_warm_process_calls_secrets_manager_no_oftener_than_the_budget(
    sandbox: Sandbox, warm: Function, *, is_pair: bool, reads: list[int], most: int
):
    """From the first rotation on: each version is read once, and the tags are written twice."""
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    for expected in reads:
        calls = _rotated(sandbox)
        assert calls == {**_ALWAYS, _READ: expected, _TAG: 2}
        assert calls.total() <= most
        sandbox.sweep()


@pytest.mark.parametrize(
    ("is_pair", "reads", "tags"),
    [
        pytest.param(True, [13, 17, 17, 17], 4, id="alternating-users"),
        pytest.param(False, [6, 6, 6, 6], 2, id="single-user"),
    ],
)
def test_a_new_process_for_each_step_reads_again_what_it_needs(
    sandbox: Sandbox, *, is_pair: bool, reads: list[int], tags: int
):
    """It keeps nothing on disk, so the next one has the tags and the labels only."""
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    for expected in reads:
        assert _rotated(sandbox) == {**_ALWAYS, _READ: expected, _TAG: tags}
        sandbox.sweep()


@pytest.mark.parametrize(("is_pair", "most"), [(True, 16), (False, 13)])
def test_the_budget_holds_with_a_journal_in_a_database(
    sandbox: Sandbox, *, is_pair: bool, most: int
):
    """There are no tags; the rest is the same."""
    sandbox.keep_journal_in(sandbox.server)
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    with closing(sandbox.function()) as sandbox.warm:
        for _ in range(3):
            calls = _rotated(sandbox)
            assert calls[_TAG] == 0
            assert calls.total() <= most
            sandbox.sweep()


@pytest.mark.parametrize("processes", ["ABBB", "AABB", "AAAB", "ABAB", "AABA"])
@pytest.mark.parametrize("is_pair", [True, False])
def test_another_process_may_do_any_step(sandbox: Sandbox, processes: str, *, is_pair: bool):
    """What the one before it remembers is not needed, and not believed once another wrote the tags."""
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    with ExitStack() as stack:
        functions = {
            name: stack.enter_context(closing(sandbox.function())) for name in {*processes}
        }
        for _ in range(2):
            turns = iter(processes)

            def step(event: dict[str, Any], turns: Iterator[str] = turns) -> None:
                functions[next(turns)].handle(event, sandbox.context())

            sandbox.aws.secret(sandbox.name).function = step
            old = sandbox.served()
            assert sandbox.rotate() == []
            assert sandbox.accepts(sandbox.served())
            assert sandbox.sweep()["ended"] == int(is_pair)
            assert not sandbox.accepts(old)
    report, heads = verify_log(sandbox.lines)
    assert report.damage == []
    assert heads[sandbox.name].text() == sandbox.aws.secret(sandbox.name).tags["rotator-journal"]


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("is_pair", [True, False])
def test_a_rotation_whose_warm_process_is_gone_is_undone_by_the_sweep(
    sandbox: Sandbox, done: int, *, is_pair: bool
):
    """AWS gave it up, and somebody removed its label: the tags name it, whatever it had done."""
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    assert sandbox.rotate() == []
    sandbox.sweep()
    old, before = sandbox.served(), sandbox.logins()
    steps = sandbox.aws.steps
    with closing(sandbox.function()) as sandbox.warm:
        sandbox.aws.steps = lambda: steps()[:done]
        assert sandbox.rotate() == []
    sandbox.warm = None
    assert sandbox.accepts(sandbox.served())
    if not is_pair and done > 1:
        # The password is set and published by setSecret.
        assert sandbox.served() != old
        return
    for version in sandbox.aws.secret(sandbox.name).versions.values():
        version.stages.discard(PENDING)
    assert sandbox.sweep()["ended"] == 1
    assert sandbox.served() == old
    assert sandbox.accepts(old)
    assert sandbox.logins() == before
    assert verify_log(sandbox.lines)[0].damage == []


def test_an_admins_new_password_is_read_where_the_remembered_one_is_rejected(
    sandbox: Sandbox, warm: Function
):
    """Its secret was rotated between two steps."""
    sandbox.secret(masterarn=sandbox.master())

    def step(event: dict[str, Any]) -> None:
        if event["Step"] == "setSecret":
            with sandbox.server.connect() as admin:
                admin.execute(f"ALTER ROLE master PASSWORD '{ADMIN_PASSWORD}-2'".encode())
            sandbox.master(password=f"{ADMIN_PASSWORD}-2")
        warm.handle(event, sandbox.context())

    sandbox.aws.secret(sandbox.name).function = step
    assert sandbox.rotate() == []
    assert sandbox.served()["username"] == "app_clone"
    assert sandbox.accepts(sandbox.served())


@pytest.mark.parametrize("is_pair", [True, False])
def test_a_value_written_just_before_the_password_is_set_stops_it(
    sandbox: Sandbox, warm: Function, monkeypatch: pytest.MonkeyPatch, *, is_pair: bool
):
    """What is current is read again at that moment, not remembered from the beginning of the step."""
    _ = warm
    sandbox.secret(masterarn=sandbox.master() if is_pair else None)
    before = sandbox.served()
    forget, created = aws_driven.AwsDrivenBackend.forget_labels, list[object]()

    def edited(backend: Any) -> None:
        if "note" in sandbox.served():
            edit = {key: value for key, value in sandbox.served().items() if key != "note"}
            sandbox.aws.by_hand(sandbox.name, json.dumps(edit))
        forget(backend)

    monkeypatch.setattr(aws_driven.AwsDrivenBackend, "forget_labels", edited)
    for strategy in (strategies.SingleUser, strategies.AlternatingUsers):
        monkeypatch.setattr(strategy, "create", lambda *given: created.append(given))
    (error, *_) = sandbox.rotate()
    assert "somebody else wrote" in str(error)
    assert created == []
    assert sandbox.accepts(before)


@pytest.mark.parametrize("fails", [True, False])
def test_no_value_is_remembered_once_a_rotation_is_over(
    sandbox: Sandbox, warm: Function, monkeypatch: pytest.MonkeyPatch, *, fails: bool
):
    """Neither after its last step nor after one that failed."""
    sandbox.secret(masterarn=sandbox.master())
    backend, held = warm._wiring.backend, list[int]()
    if fails:
        monkeypatch.setattr(strategies.AlternatingUsers, "verify", _refuse)
    step = sandbox.call

    def watched(event: dict[str, Any]) -> None:
        try:
            step(event)
        finally:
            held.append(sum(len(one.values) for one in backend._rotations.values()))

    sandbox.aws.secret(sandbox.name).function = watched
    assert bool(sandbox.rotate()) is fails
    assert held == ([2, 3, 0] if fails else [2, 3, 3, 0])
    assert not backend._kept.values


def test_values_of_a_rotation_that_does_not_go_on_are_forgotten_after_a_while(
    sandbox: Sandbox, warm: Function, monkeypatch: pytest.MonkeyPatch
):
    """At the next invocation, whichever secret that is for."""
    arn = sandbox.secret(masterarn=sandbox.master())
    steps = sandbox.aws.steps
    sandbox.aws.steps = lambda: steps()[:2]
    assert sandbox.rotate() == []
    backend = warm._wiring.backend
    assert [*backend._rotations] == [arn]
    now = aws_driven.time.time
    monkeypatch.setattr(aws_driven.time, "time", lambda: now() + 901)
    backend.begin("another", "t" * 32)
    assert [*backend._rotations] == ["another"]


def test_what_was_published_without_a_last_word_is_not_undone_after_an_edit(sandbox: Sandbox):
    """The tags name it as begun only; that it was current is seen by its label."""
    sandbox.secret(masterarn=sandbox.master())
    old = sandbox.served()

    def step(event: dict[str, Any]) -> None:
        if event["Step"] == "finishSecret":
            sandbox.aws.denied["TagResource"] = "no"
        sandbox.warm.handle(event, sandbox.context())

    sandbox.aws.secret(sandbox.name).function = step
    with closing(sandbox.function()) as sandbox.warm:
        assert len(sandbox.rotate()) == 1
    sandbox.warm = None
    published = sandbox.served()
    assert published["username"] == "app_clone"
    sandbox.aws.denied.clear()
    for version in sandbox.aws.secret(sandbox.name).versions.values():
        version.stages.discard(PENDING)
    sandbox.aws.by_hand(sandbox.name, json.dumps({**old, "note": "went back by hand"}))
    assert sandbox.sweep()["ended"] == 0
    assert sandbox.accepts(published)
    assert sandbox.accepts(old)
    assert CURRENT in sandbox.stages()[sandbox.current_id()]
