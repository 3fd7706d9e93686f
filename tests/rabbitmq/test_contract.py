"""The contract of a plugin, on a real RabbitMQ; what a user may do, and who is connected."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from amqp import Connection

from rotations.rabbitmq import PLUGIN, SecretOptions, TargetOptions
from rotations.rabbitmq.broker import Broker
from rotator.api import Conflict, Credential, Denied, InUse, Refused, Secret, Transient, Unavailable
from rotator.testing.crash import Effects, Sandbox
from rotator.testing.fakes import step_context
from rotator.testing.rotation_suite import RotationSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.api import Rotation, Session, StepContext
    from tests.servers.rabbitmq import RabbitSession, ScratchRabbitMq

_FOREIGN = "set-by-hand-Kq83zx"
_numbers = itertools.count(1)


def _target(server: ScratchRabbitMq, **changed: Any) -> TargetOptions:
    return TargetOptions(**({"url": server.url, "amqp": server.amqp} | changed))


def _add(server: ScratchRabbitMq, name: str, *tags: str, password: str = "") -> str:
    body: dict[str, object] = {"tags": tags}
    body |= {"password": password} if password else {"password_hash": ""}
    server.call("PUT", "users", name, body=body)
    return name


def _give_rights(server: ScratchRabbitMq, name: str) -> None:
    rights = {"configure": "", "write": "shop.*", "read": ".*"}
    server.call("PUT", "permissions", "/", name, body=rights)
    topic = {"exchange": "amq.topic", "write": "shop.*", "read": ".*"}
    server.call("PUT", "topic-permissions", "/", name, body=topic)
    server.call("PUT", "user-limits", name, "max-connections", body={"value": 9})


@pytest.fixture
def model(rabbit: ScratchRabbitMq) -> Iterator[str]:
    """A user with a right of each kind, whom others are like."""
    yield _make_model(rabbit)
    for user in rabbit.call("GET", "users"):
        if user["name"] != rabbit.admin.username:
            rabbit.call("DELETE", "users", user["name"])


def _make_model(server: ScratchRabbitMq) -> str:
    _give_rights(server, _add(server, "model", "monitoring"))
    return "model"


class TestContract(RotationSuite):
    """All three strategies pass, with crashes around each request."""

    sample = 12

    @pytest.fixture(params=["new-user", "alternating-users", "single-user"])
    def make_sandbox(
        self,
        request: pytest.FixtureRequest,
        rabbit: ScratchRabbitMq,
        model: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[[], Sandbox]:
        """Return what makes users of a sandbox's own."""
        changes = Effects("request")
        for name in ("put", "delete"):
            monkeypatch.setattr(Broker, name, changes.through(getattr(Broker, name)))
        return lambda: _sandbox(rabbit, request.param, model, changes)


def _sandbox(server: ScratchRabbitMq, strategy: str, model: str, changes: Effects) -> Sandbox:
    name = f"r{next(_numbers)}"
    links: list[RabbitSession] = []

    def users() -> list[dict[str, Any]]:
        return [one for one in server.call("GET", "users") if one["name"].startswith(f"{name}_")]

    def foreign() -> Credential:
        _give_rights(server, _add(server, f"{name}_legacy", password=_FOREIGN))
        return Credential(username=f"{name}_legacy", password=Secret(_FOREIGN))

    def accepts(one: Credential) -> bool:
        link = server.connect(one.username, one.password.reveal())
        if link is not None:
            server.close(one.username, link)
        return link is not None

    def close_sessions() -> None:
        while links:
            links.pop().close()

    def close() -> None:
        close_sessions()
        for user in users():
            server.call("DELETE", "users", user["name"])

    sandbox = Sandbox.of(
        PLUGIN,
        strategy,
        target_options=_target(server),
        secret_options=SecretOptions(
            users=(f"{name}_a", f"{name}_b"),
            username=f"{name}_only",
            prefix=f"{name}_x",
            like=model,
        ),
        admin=server.admin,
        close=close,
        accepts=accepts,
        usable=lambda: {one["name"] for one in users() if one["password_hash"]},
        state=lambda: sorted(map(repr, users())),
        foreign=foreign,
        close_sessions=close_sessions,
        tapped=(changes,),
        secret=name,
    )
    sandbox.open_session = lambda login: links.append(
        server.open_session(login, sandbox.password_of(login).reveal())
    )
    return sandbox


def _rotation(
    server: ScratchRabbitMq,
    strategy: str = "new-user",
    admin: Credential | None = None,
    **given: Any,
) -> Rotation:
    target = PLUGIN.target("main", _target(server), lambda: admin or server.admin)
    return target.rotation(strategy, SecretOptions(**given))


def _ctx(current: Credential | None = None, **changed: Any) -> StepContext:
    return replace(step_context(secret="app"), current=current, **changed)


_OLD = Credential(username="old", password=Secret("served-Kq83zx"))
_NEW = Credential(username="new", password=Secret('new-Kq83"\\é/zx'))


@pytest.fixture
def served(rabbit: ScratchRabbitMq, model: str) -> Credential:
    """What is served, with a right of each kind."""
    _add(rabbit, _OLD.username, "monitoring", "rotator:app", password=_OLD.password.reveal())
    _give_rights(rabbit, _OLD.username)
    return _OLD


def test_a_new_user_has_each_right_of_the_old_one(rabbit: ScratchRabbitMq, served: Credential):
    """Tags, permissions, permissions on topics, limits; and nothing of the password is logged."""
    _rotation(rabbit).create(_NEW, _ctx(served))
    evidence = _rotation(rabbit).verify(_NEW, _ctx(served))
    assert evidence.ok
    assert rabbit.call("GET", "users", "new")["tags"] == ["monitoring", "rotator:app"]
    for path in (("users", "new", "permissions"), ("users", "new", "topic-permissions")):
        [ours] = rabbit.call("GET", *path)
        [theirs] = rabbit.call("GET", path[0], "old", path[2])
        assert ours | {"user": "old"} == theirs
    assert rabbit.call("GET", "user-limits", "new")[0]["value"] == {"max-connections": 9}
    assert "Kq83" not in rabbit.log_text()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (("users", "new"), {"password_hash": "", "tags": ["administrator"]}, "tags"),
        (
            ("permissions", "/", "new"),
            {"configure": ".*", "write": ".*", "read": ".*"},
            "permissions",
        ),
        (
            ("topic-permissions", "/", "new"),
            {"exchange": "amq.topic", "write": ".*", "read": ".*"},
            "topics",
        ),
        (("user-limits", "new", "max-channels"), {"value": 3}, "limits"),
    ],
)
def test_rights_never_grow(
    rabbit: ScratchRabbitMq,
    served: Credential,
    path: tuple[str, ...],
    body: dict[str, object],
    kind: str,
):
    """What the other user has beside the rights of the served one is found, and taken by `create`."""
    rotation = _rotation(rabbit, "alternating-users", users=("old", "new"))
    rotation.create(_NEW, _ctx(served))
    if kind == "tags":
        body = body | {"tags": ["administrator", "rotator:app"]}
        body = {key: value for key, value in body.items() if key != "password_hash"}
        body |= {"password": _NEW.password.reveal()}
    rabbit.call("PUT", *path, body=body)
    with pytest.raises(Refused, match=f"rights of old: {kind}"):
        rotation.verify(_NEW, _ctx(served))
    rotation.create(_NEW, _ctx(served))
    assert rotation.verify(_NEW, _ctx(served)).ok


def test_a_user_of_somebody_else_lends_no_rights(rabbit: ScratchRabbitMq, model: str):
    """Whoever writes to the backend could name any user there."""
    _add(rabbit, "powerful", "administrator", password="served-Kq83zx")
    named = Credential(username="powerful", password=Secret("served-Kq83zx"))
    with pytest.raises(Conflict):
        _rotation(rabbit).create(_NEW, _ctx(named))
    assert rabbit.call("GET", "users", "new") is None


def test_a_first_user_needs_a_model(rabbit: ScratchRabbitMq, model: str):
    """Without one it could do nothing."""
    with pytest.raises(Denied, match="no user 'new'"):
        _rotation(rabbit).create(_NEW, _ctx())


def test_a_revoke_ends_connections_where_it_may(rabbit: ScratchRabbitMq, served: Credential):
    """Logins are rejected before the connections are counted."""
    rotation = _rotation(rabbit, "alternating-users", users=("old", "new"))
    rotation.create(_NEW, _ctx(served))
    session = rabbit.open_session("old", _OLD.password.reveal())
    try:
        rotation.revoke(served, _ctx(_NEW, end_sessions=True))
    finally:
        session.close()
    assert rabbit.call("GET", "connections", "username", "old") == []
    assert not rotation.probe(served, _ctx(_NEW))


def test_a_connection_that_is_only_listed_does_not_hold_up_a_revoke_for_ever(
    rabbit: ScratchRabbitMq, served: Credential, monkeypatch: pytest.MonkeyPatch
):
    """It waits as for any other; where connections may be ended, it counts as ended after a while."""
    listed = Broker.connections
    ghost = "127.0.0.1:1 -> 127.0.0.1:5672"
    monkeypatch.setattr(Broker, "connections", lambda *given: [*listed(*given), ghost])
    with pytest.raises(InUse):
        _rotation(rabbit).revoke(served, _ctx(_NEW))
    ctx = _ctx(_NEW, end_sessions=True)
    began = ctx.clock.monotonic()
    _rotation(rabbit).revoke(served, ctx)
    assert ctx.clock.monotonic() - began >= 10 - 1e-6
    assert rabbit.call("GET", "users", "old") is None


def test_a_login_of_rotator_is_no_session_of_the_user(
    rabbit: ScratchRabbitMq, served: Credential, monkeypatch: pytest.MonkeyPatch
):
    """It ends once it is listed, because the server may list for ever what ends before."""
    looks: list[int] = []
    before: list[int] = []
    sessions, close = Broker.sessions, Connection.close

    def late(broker: Broker, user: str, ctx: StepContext) -> list[Session]:
        found = sessions(broker, user, ctx) if looks else []
        looks.append(len(found))
        return found

    def closing(link: Connection) -> None:
        before.extend(looks)
        close(link)

    monkeypatch.setattr(Broker, "sessions", late)
    monkeypatch.setattr(Connection, "close", closing)
    assert _rotation(rabbit).probe(served, _ctx(served))
    assert (before[0], before[-1], looks[-1]) == (0, 1, 0)
    assert rabbit.call("GET", "connections", "username", "old") == []


def test_a_login_without_its_virtual_host_is_refused(rabbit: ScratchRabbitMq, served: Credential):
    """The password is right, so it is no rejection."""
    rotation = _rotation(rabbit, vhost="none")
    rotation.create(_NEW, _ctx(served))
    assert rotation.probe(_NEW, _ctx(served))
    with pytest.raises(Refused, match="opens virtual host none"):
        rotation.verify(_NEW, _ctx(served))


def test_what_the_server_lacks_is_told_apart(rabbit: ScratchRabbitMq, served: Credential):
    """A rejected admin, a user without the tag, an address where nobody listens."""
    wrong = replace(rabbit.admin, password=Secret("wrong-Kq83zx"))
    for admin in (wrong, served):
        with pytest.raises(Unavailable, match="rejected, or has no tag"):
            _rotation(rabbit, admin=admin).create(_NEW, _ctx(served))
    away = PLUGIN.target("main", _target(rabbit, amqp="amqp://127.0.0.1:1"), lambda: rabbit.admin)
    with pytest.raises(Transient, match="is unknown"):
        away.rotation("new-user", SecretOptions()).probe(_NEW, _ctx(served))
    found = PLUGIN.target("main", _target(rabbit), lambda: rabbit.admin).examine(_ctx())
    assert [one.severity for one in found] == ["ok"]
