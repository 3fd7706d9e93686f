"""The contract of a plugin, on a strict stand-in of IAM; what its limits and delays lead to; moto."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotations.aws_iam import PLUGIN, SecretOptions, TargetOptions
from rotations.aws_iam.service import Iam
from rotator.api import (
    Conflict,
    Credential,
    Denied,
    DrawsKeys,
    InUse,
    Refused,
    Secret,
    Transient,
    Unavailable,
    Unknown,
)
from rotator.testing.crash import Effects, Sandbox, assert_survives_crashes
from rotator.testing.fakes import ManualClock, step_context
from rotator.testing.rotation_suite import RotationSuite
from tests.servers.iam_keys import IamKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotations.aws_iam.strategies import NewKeys
    from rotator.api import StepContext

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def shared_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each client once for all processes of the harness: making one takes longer than a rotation."""
    made: dict[tuple[str, ...], Any] = {}
    new = Iam._new_client

    def client(iam: Iam, service: str, chosen: Credential) -> Any:
        url = str(iam._options.endpoint)
        key = (service, url, chosen.username, chosen.password.reveal())
        if key not in made:
            made[key] = new(iam, service, chosen)
        return made[key]

    monkeypatch.setattr(Iam, "_new_client", client)


@pytest.fixture(scope="module")
def server() -> Iterator[IamKeys]:
    """An IAM of our own."""
    with IamKeys() as service:
        yield service


@pytest.fixture
def iam(server: IamKeys) -> Iterator[IamKeys]:
    """The same, as it was at first, with a user `shop`."""
    clock = ManualClock()
    server.now, server.late, server.throttle, server.lose = clock.now, timedelta(0), 0, ""
    server.denied.clear()
    server.calls.clear()
    server.add_user("shop")
    yield server
    for key in server.keys("shop"):
        del server._keys[key]  # as deleted by hand


def _admin(iam: IamKeys) -> Credential:
    return Credential(username=iam.admin_id, password=Secret(iam.admin_value))


def _target(iam: IamKeys) -> TargetOptions:
    return TargetOptions(endpoint=iam.url, sts_endpoint=iam.url)


class TestContract(RotationSuite):
    """With crashes around each change."""

    sample = 6

    @pytest.fixture(params=[True, False], ids=["kept inactive", "deleted"])
    def make_sandbox(
        self, request: pytest.FixtureRequest, server: IamKeys, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], Sandbox]:
        """Return what makes a user of a sandbox's own."""
        changes = Effects("change")
        monkeypatch.setattr(Iam, "_change", changes.through(Iam._change))
        return lambda: _sandbox(server, changes, keep_inactive=request.param)


def test_crashes_are_survived_where_aws_applies_changes_late(server: IamKeys):
    """The engine's own tries of a key are late, too."""

    def sandbox() -> Sandbox:
        made = _sandbox(server, Effects("change"), keep_inactive=True)
        server.late = timedelta(seconds=2)
        return made

    assert assert_survives_crashes(sandbox, sample=3) > 0


def _sandbox(iam: IamKeys, changes: Effects, *, keep_inactive: bool) -> Sandbox:
    user = f"u{next(_numbers)}"
    iam.add_user(user)
    iam.late, iam.throttle, iam.lose = timedelta(0), 0, ""
    iam.denied.clear()

    def foreign() -> Credential:
        key, value = iam.add_key(user)
        return Credential(username=key, password=Secret(value))

    sandbox = Sandbox.of(
        PLUGIN,
        "new-key",
        target_options=_target(iam),
        secret_options=SecretOptions(
            user=user, keep_inactive=keep_inactive, unused_for=timedelta(seconds=40)
        ),
        admin=_admin(iam),
        accepts=lambda one: iam.accepts(one.username, one.password.reveal()),
        usable=lambda: set(iam.keys(user, active=True)),
        state=lambda: iam.state(user),
        foreign=foreign,
        open_session=iam.use,
        close_sessions=lambda: iam.forget_uses(user),
        tapped=(changes,),
    )
    iam.now = sandbox.clock.now
    return sandbox


def _keys(iam: IamKeys, admin: Credential | None = None, **given: Any) -> NewKeys:
    target = PLUGIN.target("aws", _target(iam), lambda: admin or _admin(iam))
    found: Any = target.rotation("new-key", SecretOptions(**({"user": "shop"} | given)))
    return found


def _ctx(iam: IamKeys, current: Credential | None = None, **changed: Any) -> StepContext:
    clock: Any = getattr(iam.now, "__self__")  # noqa: B009 # the clock whose method it is
    return replace(step_context(secret="app", clock=clock), current=current, **changed)


def _drawn(iam: IamKeys, current: Credential | None = None) -> Credential:
    return _keys(iam).draw(current, _ctx(iam, current))


def test_a_third_key_is_refused_before_anything_is_sent(iam: IamKeys):
    """With what is known of the key that is in the way, and how to end it."""
    old = _drawn(iam)
    other, _ = iam.add_key("shop")
    iam.use(other)
    iam.calls.clear()
    with pytest.raises(Denied, match=f"{other}, last used 2026-") as raised:
        _keys(iam).draw(old, _ctx(iam, old))
    assert "aws iam delete-access-key --user-name shop" in raised.value.hint
    assert "CreateAccessKey" not in iam.calls
    assert "TagUser" not in iam.calls
    [finding] = _keys(iam).examine(old, _ctx(iam, old))
    assert (finding.severity, finding.remedy) == ("error", raised.value.hint)


def test_a_key_made_by_hand_is_never_ended(iam: IamKeys):
    """Before the first rotation, between two, and while one is under way."""
    before, _ = iam.add_key("shop")
    assert _keys(iam).keys(_ctx(iam)) == []
    old = _drawn(iam)
    ctx = _ctx(iam, old)
    assert _keys(iam).keys(ctx) == [old.username]
    with pytest.raises(Conflict):
        _keys(iam).withdraw(Credential(username=before, password=Secret("")), ctx)
    del iam._keys[before]
    later, _ = iam.add_key("shop", created=iam.now() + timedelta(hours=1))
    assert _keys(iam).keys(ctx) == [old.username]
    assert later in iam.keys("shop", active=True)


def test_a_revoked_key_stays_inactive_until_the_next_one_is_drawn(iam: IamKeys):
    """An operator can activate it again; AWS accepts no third key beside it."""
    old = _drawn(iam)
    new = _drawn(iam, old)
    _keys(iam).revoke(old, _ctx(iam, new))
    assert iam.keys("shop", active=True) == [new.username]
    assert old.username in iam.keys("shop")
    newest = _drawn(iam, new)
    assert sorted(iam.keys("shop")) == sorted((new.username, newest.username))


def test_a_revoked_key_that_somebody_activated_again_is_not_deleted(iam: IamKeys):
    """The limit of two keys is then reported."""
    old = _drawn(iam)
    new = _drawn(iam, old)
    _keys(iam).revoke(old, _ctx(iam, new))
    iam._keys[old.username].active = True
    with pytest.raises(Denied, match=old.username):
        _drawn(iam, new)
    assert old.username in iam.keys("shop", active=True)


def test_a_change_that_aws_applies_late_is_waited_for(iam: IamKeys):
    """A new key is tried, and an inactive one too, until several answers agree; not for ever."""
    iam.late = timedelta(seconds=12)
    old = _drawn(iam)
    ctx = _ctx(iam)
    assert _keys(iam).verify(old, ctx).ok
    new = _drawn(iam, old)
    assert _keys(iam).verify(new, ctx).ok
    _keys(iam).revoke(old, replace(_ctx(iam, new), deadline=ctx.deadline + 60))
    assert not _keys(iam).probe(old, _ctx(iam, new))
    iam.late = timedelta(minutes=10)
    newest = _drawn(iam, new)
    with pytest.raises(Refused):
        _keys(iam).verify(newest, _ctx(iam, new))


def test_the_key_of_another_user_is_refused(iam: IamKeys):
    """It authenticates, and it is not what consumers expect."""
    iam.add_user("other")
    key, value = iam.add_key("other")
    with pytest.raises(Refused, match="is user shop"):
        _keys(iam).verify(Credential(username=key, password=Secret(value)), _ctx(iam))


def test_a_key_that_was_used_a_moment_ago_holds_up_its_revoke(iam: IamKeys):
    """AWS reports the last use; what is longer ago does not count."""
    old = _drawn(iam)
    new = _drawn(iam, old)
    iam.use(old.username)
    ctx = _ctx(iam, new)
    [session] = _keys(iam).sessions(old.username, ctx)
    assert (session.client, session.application) == ("s3 in us-east-1", "last use")
    with pytest.raises(InUse):
        _keys(iam).revoke(old, ctx)
    ctx.clock.sleep(901)
    assert _keys(iam).sessions(old.username, _ctx(iam, new)) == []


def test_a_lost_answer_is_unknown_and_is_not_sent_again(iam: IamKeys):
    """A second CreateAccessKey would create a second key."""
    iam.lose = "CreateAccessKey"
    with pytest.raises(Unknown):
        _drawn(iam)
    assert iam.calls.count("CreateAccessKey") == 1
    [orphan] = _keys(iam).keys(_ctx(iam))
    _keys(iam).withdraw(Credential(username=orphan, password=Secret("")), _ctx(iam))
    assert iam.keys("shop") == []


def test_failures_are_told_by_kind(iam: IamKeys):
    """By AWS's code alone."""
    iam.throttle = 1
    with pytest.raises(Transient, match="limits the rate"):
        _drawn(iam)
    iam.denied.add("TagUser")
    with pytest.raises(Denied, match="TagUser for user 'shop'") as denied:
        _drawn(iam)
    assert "iam:TagUser" in denied.value.hint
    with pytest.raises(Denied, match="no user 'nobody'"):
        _keys(iam, user="nobody").keys(_ctx(iam))
    wrong = replace(_admin(iam), password=Secret("wrong-Kq83zx"))
    with pytest.raises(Unavailable, match="SignatureDoesNotMatch"):
        _keys(iam, admin=wrong).keys(_ctx(iam))
    assert iam.keys("shop") == []


def test_a_user_of_another_secret_is_left_alone(iam: IamKeys):
    """Two secrets would end each other's keys."""
    old = _drawn(iam)
    ctx = replace(_ctx(iam), secret="billing")
    with pytest.raises(Conflict, match="belongs to secret 'app'"):
        _keys(iam).draw(None, ctx)
    assert _keys(iam).keys(ctx) == []
    assert iam.keys("shop") == [old.username]


def test_no_value_of_a_key_is_logged_or_shown(iam: IamKeys, caplog: pytest.LogCaptureFixture):
    """Neither by us nor by botocore."""
    caplog.set_level(0)
    old = _drawn(iam)
    ctx = _ctx(iam, old)
    shown = [repr(_keys(iam).verify(old, ctx)), repr(_keys(iam).explain(old, ctx)), repr(old)]
    assert old.password.reveal() not in " ".join([*shown, caplog.text])


def test_a_plan_shows_the_calls(iam: IamKeys):
    """As an operator would make them."""
    old = _drawn(iam)
    texts = [one.text for one in _keys(iam).explain(old, _ctx(iam, old))]
    assert texts[0] == "aws iam create-access-key --user-name shop"
    assert texts[-1].endswith("--status Inactive")


def test_moto_takes_the_same_calls(monkeypatch: pytest.MonkeyPatch):
    """An IAM that others wrote. It accepts any signature, so nothing is rejected there."""
    from moto.server import ThreadedMotoServer  # takes a second

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        options = TargetOptions(endpoint=url, sts_endpoint=url, timeout=timedelta(seconds=60))
        admin = Credential(username="AKIAMOTO", password=Secret("moto-Kq83zx"))
        target = PLUGIN.target("aws", options, lambda: admin)
        shared: Any = target
        iam: Iam = shared._shared
        iam._client("iam").create_user(UserName="shop")
        rotation = target.rotation("new-key", SecretOptions(user="shop", keep_inactive=False))
        assert isinstance(rotation, DrawsKeys)
        ctx = step_context(clock=_RealTime(), timeout=300)
        old = rotation.draw(None, ctx)
        new = rotation.draw(old, replace(ctx, current=old))
        assert sorted(rotation.keys(ctx)) == sorted((old.username, new.username))
        assert rotation.verify(new, replace(ctx, current=old)).ok
        forgotten = replace(old, password=Secret(""))
        rotation.revoke(forgotten, replace(ctx, current=new, end_sessions=True))
        assert rotation.keys(replace(ctx, current=new)) == [new.username]
    finally:
        moto.stop()


class _RealTime(ManualClock):
    """Waits for nothing, at the time of day that moto has."""

    def __init__(self) -> None:
        from datetime import UTC, datetime  # only here is it wanted

        super().__init__()
        self.at = datetime.now(UTC)
