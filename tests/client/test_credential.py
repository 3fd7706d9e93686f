"""The cache behind an application's logins: what is tried, what never is, and what a change does."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from rotator.client import Credential, Login, Refusal, Refused, SourceError
from rotator.core.secret import Secret


class Denied(Exception):
    """The server refused a login."""


class Broken(Exception):
    """The server could not be reached."""


@dataclass
class World:
    """A backend and a server: `served` is what the backend serves, `accepted` what the server takes."""

    served: str = "1"
    accepted: set[str] = field(default_factory=lambda: {"1"})
    pending: str | None = None
    reads: int = 0
    tried: list[str] = field(default_factory=list)
    now: float = 0.0
    is_away: bool = False
    refresh: float = 300.0
    # What happens while the client sleeps: at which time, and what.
    later: list[tuple[float, str]] = field(default_factory=list)
    accepted_later: list[tuple[float, str]] = field(default_factory=list)

    def read(self) -> Login:
        self.reads += 1
        if self.is_away:
            raise SourceError("the backend is unreachable.")
        return self._login(self.served)

    def _login(self, version: str) -> Login:
        return Login(username="app", password=Secret(f"password-{version}"), version=version)

    def connect(self, login: Login) -> str:
        self.tried.append(login.version)
        if login.version not in self.accepted:
            raise Denied
        return f"connected with {login.version}"

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, version in self.later:
            if self.now >= at:
                self.served = version
        for at, version in self.accepted_later:
            if self.now >= at:
                self.accepted.add(version)

    def credential(self, **options) -> Credential:
        return Credential(self, clock=lambda: self.now, sleep=self.sleep, **options)


class Ahead(World):
    """A backend that serves the next version too."""

    def next(self) -> Login | None:
        return None if self.pending is None else self._login(self.pending)


def refused(error: BaseException) -> Refusal | None:
    return Refusal.PASSWORD if isinstance(error, Denied) else None


def unclear(error: BaseException) -> Refusal | None:
    return Refusal.LOGIN if isinstance(error, Denied) else None


def test_a_cached_login_is_used_without_reading_again():
    world = World()
    credential = world.credential()
    for _ in range(100):
        assert credential.connect(world.connect, refusal_of=refused) == "connected with 1"
    assert world.reads == 1


def test_a_refusal_reads_again_and_tries_the_version_that_is_served_now():
    world = World()
    credential = world.credential()
    credential.current()
    world.served, world.accepted = "2", {"2"}
    assert credential.connect(world.connect, refusal_of=refused) == "connected with 2"
    assert world.tried == ["1", "2"]


def test_a_refused_version_is_never_sent_twice_while_the_next_one_is_awaited():
    world = World(accepted={"2"}, later=[(1.0, "2")])
    credential = world.credential()
    assert credential.connect(world.connect, refusal_of=refused) == "connected with 2"
    assert world.tried == ["1", "2"]
    assert 1.0 <= world.now < 1.2


def test_the_next_version_is_tried_before_anything_is_awaited():
    world = Ahead(accepted={"2"}, pending="2")
    credential = world.credential()
    assert credential.connect(world.connect, refusal_of=refused) == "connected with 2"
    assert (world.tried, world.now) == (["1", "2"], 0.0)
    # And the second connection of this process is not refused at all, although 1 is still served.
    assert credential.connect(world.connect, refusal_of=refused) == "connected with 2"
    assert world.tried == ["1", "2", "2"]


def test_of_a_rotation_in_place_one_login_is_refused():
    """However often the application connects before the new version is published."""
    world = Ahead()
    credential = world.credential()
    for number in range(1, 20):
        following = str(number + 1)
        world.pending = following
        assert credential.connect(world.connect, refusal_of=unclear)
        world.accepted = {following}
        for _ in range(10):
            world.now += 0.5
            assert credential.connect(world.connect, refusal_of=unclear).endswith(following)
        world.served, world.pending = following, None
        assert credential.refresh().version == following
    assert credential.health().refused == 19


def test_the_rotation_after_it_may_begin_before_the_source_serves_the_version_that_is_used():
    """No login with the older password in between; then the newer next version is still known."""
    world = Ahead(accepted={"2"}, pending="2")
    credential = world.credential()
    _ = credential.connect(world.connect, refusal_of=refused)
    world.pending = "3"
    assert credential.read_next() is not None
    assert credential.connect(world.connect, refusal_of=refused) == "connected with 2"
    world.served = "2"
    _ = credential.refresh()
    assert credential.following is not None
    assert credential.following.version == "3"
    assert world.tried == ["1", "2", "2"]


@pytest.mark.parametrize("following", ["3", None])
def test_the_version_after_it_may_be_announced_while_a_login_with_the_next_one_is_under_way(
    following: str | None,
):
    """What the server then accepts is used on: the version that is still served is not sent again."""
    world = Ahead(accepted={"2"}, pending="2")
    credential = world.credential()

    def slow(login: Login) -> str:
        if login.version == "2":
            world.pending = following
            _ = credential.read_next()
        return world.connect(login)

    assert credential.connect(slow, refusal_of=unclear) == "connected with 2"
    assert credential.connect(world.connect, refusal_of=unclear) == "connected with 2"
    assert world.tried == ["1", "2", "2"]


def test_a_connection_with_the_accepted_next_version_is_not_outdated():
    """Nor is one with the current version; both are what a pool may hand out."""
    world = Ahead(accepted={"2"}, pending="2")
    credential = world.credential()
    assert credential.is_outdated("2")
    _ = credential.connect(world.connect, refusal_of=refused)
    assert not credential.is_outdated("2")
    world.served, world.pending = "2", None
    _ = credential.refresh()
    assert not credential.is_outdated("2")
    assert credential.is_outdated("1")


def test_after_an_undone_rotation_the_current_version_is_used_again():
    """Its next version is refused once, then forgotten."""
    world = Ahead(accepted={"2"}, pending="2")
    credential = world.credential()
    _ = credential.connect(world.connect, refusal_of=unclear)
    world.accepted, world.pending, world.now = {"1"}, None, 10.0
    assert credential.connect(world.connect, refusal_of=unclear) == "connected with 1"
    assert credential.following is None
    assert world.tried == ["1", "2", "2", "1"]


def test_two_next_versions_of_one_number_are_two():
    """An undone rotation's has the number that the one after it gets."""

    class Twice(Ahead):
        rotation: str = "r-1"

        def next(self) -> Login | None:
            password = Secret(f"password-{self.rotation}")
            return Login(username="app", password=password, version="2", rotation=self.rotation)

        def connect(self, login: Login) -> str:
            self.tried.append(login.rotation or login.version)
            if (login.rotation or login.version) not in self.accepted:
                raise Denied
            return login.version

    world = Twice(accepted=set())
    credential = world.credential(patience=0.0)
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    world.rotation, world.accepted = "r-2", {"r-2"}
    assert credential.connect(world.connect, refusal_of=refused) == "2"
    assert world.tried == ["1", "r-1", "r-2"]


def test_patience_ends_with_the_drivers_own_error():
    world = World(accepted=set())
    credential = world.credential(patience=5.0)
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    assert world.tried == ["1"]
    assert world.now == pytest.approx(5.0)


def test_without_patience_one_fresh_version_is_tried():
    world = World(served="1", accepted=set())
    credential = world.credential(patience=0)
    credential.current()
    world.served = "2"
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    assert (world.tried, world.now) == (["1", "2"], 0.0)


def test_a_refused_version_rests_a_minute_then_two_then_at_most_fifteen():
    world = World(accepted=set())
    credential = world.credential(patience=0)
    tries = []
    while world.now < 4000:
        before = len(world.tried)
        with pytest.raises((Denied, Refused)):
            credential.connect(world.connect, refusal_of=refused)
        if len(world.tried) > before:
            tries.append(world.now)
        world.now += 10
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == [60, 120, 240, 480, 900, 900, 900]


def test_a_login_that_was_refused_for_an_unknown_cause_is_tried_again_within_two_seconds():
    """A connection limit, say: no account is locked, and the outage ends with its cause."""
    world = World(accepted=set())
    credential = world.credential(patience=0)
    tries = []
    while world.now < 60:
        before = len(world.tried)
        with pytest.raises((Denied, Refused)):
            credential.connect(world.connect, refusal_of=unclear)
        if len(world.tried) > before:
            tries.append(world.now)
        world.now += 0.01
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert max(gaps) < 1.7
    assert len(tries) <= 80
    world.accepted = {"1"}
    world.now += 1.7
    assert credential.connect(world.connect, refusal_of=unclear)
    assert credential.connect(world.connect, refusal_of=unclear)


def test_one_call_waits_for_the_end_of_an_overload():
    world = World(accepted=set(), accepted_later=[(3.0, "1")])
    credential = world.credential(patience=5)
    assert credential.connect(world.connect, refusal_of=unclear)
    assert 3.0 <= world.now < 4.8
    assert set(world.tried) == {"1"}


def test_a_server_that_locks_accounts_is_asked_once_a_minute():
    world = World(accepted=set())
    credential = world.credential(patience=0, locks_accounts=True)
    for _ in range(590):
        with pytest.raises((Denied, Refused)):
            credential.connect(world.connect, refusal_of=unclear)
        world.now += 0.1
    assert world.tried == ["1"]


def test_of_many_threads_one_tries_a_refused_version_again():
    world = World(accepted=set())
    credential = world.credential(patience=0)
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    world.now += 60
    entered, leave = threading.Event(), threading.Event()

    def connect(login: Login) -> str:
        entered.set()
        assert leave.wait(10)
        return world.connect(login)

    def attempt() -> None:
        with pytest.raises(Denied):
            credential.connect(connect, refusal_of=refused)

    first = threading.Thread(target=attempt)
    first.start()
    assert entered.wait(10)
    for _ in range(20):
        with pytest.raises(Refused):
            credential.connect(world.connect, refusal_of=refused)
    leave.set()
    first.join(10)
    assert world.tried == ["1", "1"]


def test_an_attempt_that_the_network_ended_leaves_the_next_one_to_another():
    world = World(accepted=set())
    credential = world.credential(patience=0)
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    world.now += 60

    def connect(_login: Login) -> None:
        raise Broken

    with pytest.raises(Broken):
        credential.connect(connect, refusal_of=refused)
    world.accepted = {"1"}
    assert credential.connect(world.connect, refusal_of=refused)


def test_a_refusal_that_lasts_reads_the_backend_once_a_second():
    world = World(accepted=set())
    credential = world.credential(patience=0)
    while world.now < 100:
        with pytest.raises((Denied, Refused)):
            credential.connect(world.connect, refusal_of=unclear)
        world.now += 0.02
    # The first seconds look for the version that a rotation is about to publish.
    assert world.reads < 251 + 100


@pytest.mark.parametrize("level", ["", "seen", "told", "USED"])
def test_an_unknown_level_is_refused(level: str):
    with pytest.raises(ValueError, match="is none of read, loaded, used"):
        World().credential().ack(level)


def test_an_acknowledgement_without_a_daemon_does_nothing():
    world = World()
    world.credential().ack()
    assert world.reads == 0


def test_a_login_is_compared_by_what_it_holds():
    world = World()
    assert world._login("1") == world._login("1") != world._login("2")
    assert world._login("1") != "1"


def test_a_version_that_was_refused_is_tried_at_once_when_it_is_served_anew():
    """After a rollback, for one: the version that is served changed, so what was known is over."""
    world = World(accepted={"2"}, served="1")
    credential = world.credential(patience=0)
    with pytest.raises(Denied):
        credential.connect(world.connect, refusal_of=refused)
    for served in ("2", "1"):
        world.served, world.accepted = served, {served}
        credential.refresh()
        assert credential.connect(world.connect, refusal_of=refused)


def test_an_error_that_is_no_refusal_is_raised_at_once():
    world = World()

    def connect(_login: Login) -> None:
        raise Broken

    with pytest.raises(Broken):
        world.credential().connect(connect, refusal_of=refused)
    assert world.reads == 1


def test_an_unreachable_backend_leaves_the_cached_login_in_use():
    world = World(refresh=10)
    credential = world.credential()
    credential.current()
    world.is_away = True
    for _ in range(360):
        world.now += 10
        assert credential.connect(world.connect, refusal_of=refused) == "connected with 1"
    _settle(credential)
    health = credential.health()
    assert health.is_stale
    assert health.age == pytest.approx(3600)
    assert "unreachable" in (health.error or "")


def test_the_first_read_has_nothing_to_fall_back_to():
    world = World(is_away=True)
    with pytest.raises(SourceError, match="unreachable"):
        world.credential().connect(world.connect, refusal_of=refused)


def test_a_stale_login_is_used_while_it_is_read_again_in_the_background():
    world = World(refresh=10)
    credential = world.credential()
    credential.current()
    world.served, world.now = "2", 11
    assert credential.current().version == "1"
    _settle(credential)
    assert credential.current().version == "2"


def test_one_read_at_a_time_serves_all_threads():
    world = World()
    held, begun = threading.Event(), threading.Event()
    plain = world.read

    def read() -> Login:
        begun.set()
        assert held.wait(10)
        return plain()

    world.read = read
    credential = world.credential()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(credential.current().version))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    held.set()
    for thread in threads:
        thread.join(10)
    assert (found, world.reads) == (["1"] * 20, 1)


def test_subscribers_hear_of_each_change_once_and_not_after_they_left():
    world = World()
    credential = world.credential()
    heard: list[str] = []
    leave = credential.on_change(lambda login: heard.append(login.version))
    for served in ("1", "2", "2", "3"):
        world.served = served
        credential.refresh()
    leave()
    world.served = "4"
    credential.refresh()
    credential.close()
    assert heard == ["2", "3"]


def test_a_watched_credential_is_read_without_anybody_asking():
    """By the real clock, since the watching thread waits by it."""
    world = World()
    credential = Credential(world, refresh=0.05)
    credential.current()
    changed = threading.Event()
    credential.on_change(lambda _login: changed.set())
    world.served = "2"
    assert changed.wait(10)
    credential.close()


def test_asyncio_awaits_the_next_version_too():
    world = World(accepted={"2"})
    credential = Credential(world, patience=10)

    async def connect(login: Login) -> str:
        if len(world.tried) == 1:
            world.served = "2"
        return world.connect(login)

    async def both() -> str:
        asyncio.get_running_loop().call_later(0.05, lambda: setattr(world, "served", "2"))
        return await credential.connect_async(connect, refusal_of=refused)

    assert asyncio.run(both()) == "connected with 2"
    assert world.tried == ["1", "2"]


def test_nothing_that_is_printed_holds_the_password():
    world = World()
    credential = world.credential()
    login = credential.current()
    shown = f"{login} {login!r} {credential!r} {credential.health()}"
    assert "password-1" not in shown


def _settle(credential: Credential) -> None:
    """Wait until no read is in flight."""
    with credential._changed:
        assert credential._changed.wait_for(lambda: not credential._is_reading, 10)
