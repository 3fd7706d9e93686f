"""Users that cannot be saved: found before the first change, by the rotation, the plan and the doctor alike."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotations.valkey.nodes import Node
from rotations.valkey.wire import ErrorReply, WireConnection
from rotator.api import Severity, StepError, Unavailable
from rotator.testing.fakes import step_context
from tests.servers.valkey import ScratchValkey
from tests.valkey.harness import Harness, harness_on
from tests.valkey.sandboxes import STRATEGIES, acl_of, logs_in, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rotator.api import Credential
    from rotator.engine import ManagedSecret

_SAVE: Final = ("ACL", "SAVE")
_REWRITE: Final = ("CONFIG", "REWRITE")


@contextmanager
def _folder_in_its_place(file: Path) -> Generator[None]:
    """As a file that is mounted directly: it cannot be replaced by renaming another one."""
    kept = file.read_bytes()
    file.unlink()
    file.mkdir()
    (file / "in-the-way").touch()
    try:
        yield
    finally:
        shutil.rmtree(file)
        file.write_bytes(kept)


@contextmanager
def _folder_gone(file: Path) -> Generator[None]:
    """No new file can be made beside it."""
    aside = file.parent.with_name(f"{file.parent.name}-aside")
    file.parent.rename(aside)
    try:
        yield
    finally:
        aside.rename(file.parent)


@contextmanager
def _mounted_alone(file: Path) -> Generator[None]:
    """The very case that people report: a bind mount of the file."""
    mounted = subprocess.run(["/bin/mount", "--bind", file, file], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", file], check=True)


_BROKEN: Final[dict[str, Callable[[Path], Any]]] = {
    "a folder in its place": _folder_in_its_place,
    "its folder gone": _folder_gone,
    "mounted directly": _mounted_alone,
}


@pytest.fixture(scope="module")
def saving(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchValkey]:
    """A server whose ACL file has a folder of its own."""
    folder = tmp_path_factory.mktemp("users")
    with ScratchValkey(program) as server:
        file = folder / "users.acl"
        server.users_file.rename(file)
        server.configuration.write_text(
            server.configuration.read_text().replace(str(server.users_file), str(file))
        )
        server.restart()
        yield server


@pytest.fixture
def kept(saving: ScratchValkey, tmp_path: Path) -> Iterator[Harness]:
    """An application on it."""
    with harness_on([saving], tmp_path) as made:
        yield made


def _file(server: ScratchValkey) -> Path:
    return Path(server.run("CONFIG GET", "aclfile")["aclfile"])


def _adopted(harness: Harness, strategy: str, **options: Any) -> tuple[ManagedSecret, Any, Any]:
    secret = harness.secret(strategy, **options)
    harness.adopt(secret)
    served = harness.serves(secret)
    ctx = step_context(secret=secret.name, current=served, adopted=frozenset({harness.name}))
    return secret, secret.rotation, ctx


@pytest.mark.parametrize("broken", _BROKEN)
def test_a_file_that_cannot_be_saved_is_found_before_the_first_change(kept: Harness, broken: str):
    """Every strategy waits, with the cure; nothing on the server has changed, and it goes on when mended."""
    (server,) = kept.servers
    file = _file(server)
    secrets = [kept.secret(one) for one in STRATEGIES]
    secret, rotation, ctx = _adopted(kept, "dual-password")
    before = server.run("ACL LIST")
    with _BROKEN[broken](file):
        for one in secrets:
            with pytest.raises(Unavailable, match="cannot save its users") as raised:
                one.rotation.create(one.rotation.propose(ctx.current, ctx), ctx)
            assert "mount its folder" in raised.value.hint
            assert "nothing was changed" in raised.value.safety
        with pytest.raises(Unavailable, match="cannot save its users"):
            rotation.explain(ctx.current, ctx)
        found = rotation.examine(ctx.current, ctx)
        assert any("cannot save" in one.message and one.severity == "error" for one in found)
        assert not any("users survive a restart" in one.message for one in found)
        assert server.run("ACL LIST") == before
    found = rotation.examine(ctx.current, ctx)
    assert any("ACL SAVE succeeded" in one.message and one.severity is Severity.OK for one in found)
    assert kept.engine.rotate(secret).old_refused


def test_a_configuration_that_cannot_be_rewritten_is_found_before_the_first_change(
    program: str, tmp_path: Path
):
    """persist: rewrite is tried as an ACL file is."""
    with ScratchValkey(program, aclfile=False) as server, harness_on([server], tmp_path) as harness:
        _, rotation, ctx = _adopted(harness, "single-user", persist="rewrite")
        before = server.run("ACL LIST")
        with _folder_in_its_place(server.configuration):
            with pytest.raises(Unavailable, match="cannot save its users in its configuration"):
                rotation.create(rotation.propose(ctx.current, ctx), ctx)
            found = rotation.examine(ctx.current, ctx)
            assert any("cannot save" in one.message for one in found)
        assert server.run("ACL LIST") == before


class _DiskFull:
    """A disk that fills up: from the n-th save of a node on, saving fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        real = WireConnection.call

        def call(link: WireConnection, *command: Any) -> Any:
            if command in (_SAVE, _REWRITE):
                self.left -= 1
                if self.left < 0:
                    raise ErrorReply("ERR There was an error trying to save the ACLs.")
            return real(link, *command)

        monkeypatch.setattr(WireConnection, "call", call)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_disk_that_fills_up_in_the_middle_leaves_the_served_login_valid(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """The check before has worked, the save after the change has not: all is as it was, at once."""
    (server,) = harness.servers
    _, rotation, ctx = _adopted(harness, strategy)
    new = rotation.propose(ctx.current, ctx)
    before = acl_of(server, harness.name, "rotator:")
    disk = _DiskFull(monkeypatch, after=1)
    with pytest.raises(Unavailable, match="cannot save its users"):
        rotation.create(new, ctx)
    assert logs_in([server], ctx.current)
    assert not logs_in([server], new)
    assert acl_of(server, harness.name, "rotator:") == before
    disk.left = 100
    rotation.create(new, ctx)
    assert logs_in([server], new)
    disk.left = 0
    rotation.withdraw(new, ctx)
    assert logs_in([server], ctx.current)
    assert not logs_in([server], new)
    assert usable([server], harness.name) == {harness.name}
    said = [facts for level, event, facts in ctx.log.lines if event == "not saved"]
    assert any("restart" in str(one["why"]) for one in said)


def test_an_old_login_is_not_called_revoked_before_that_is_saved(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    """A restart would bring it back: the target waits, and says so."""
    (server,) = harness.servers
    _, rotation, ctx = _adopted(harness, "dual-password")
    new = rotation.propose(ctx.current, ctx)
    rotation.create(new, ctx)
    old, disk = ctx.current, _DiskFull(monkeypatch, after=0)
    after = replace(ctx, current=new)
    with pytest.raises(Unavailable, match="a restart of the node would restore it"):
        rotation.revoke(old, after)
    assert not logs_in([server], old)
    disk.left = 100
    rotation.revoke(old, after)
    server.restart()
    assert logs_in([server], new)
    assert not logs_in([server], old)


def test_a_node_whose_save_fails_puts_the_other_nodes_back(
    harness_of_two: Harness, monkeypatch: pytest.MonkeyPatch
):
    """In place there is no overlap: the first node must not keep the new password meanwhile."""
    harness = harness_of_two
    _, rotation, ctx = _adopted(harness, "single-user")
    new = rotation.propose(ctx.current, ctx)
    # Two checks, the first node's save, and then the second's fails.
    _ = _DiskFull(monkeypatch, after=3)
    with pytest.raises(Unavailable, match="cannot save its users"):
        rotation.create(new, ctx)
    assert logs_in(harness.servers, ctx.current)
    assert not logs_in(harness.servers, new)


@pytest.mark.parametrize("trouble", ["cannot be saved", "no free connection", "probe fails"])
def test_in_place_the_served_password_is_refused_for_milliseconds_whatever_happens(
    saving: ScratchValkey, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
):
    """What would fail afterwards is tried before, on the connection that is used afterwards."""
    with harness_on([saving], tmp_path) as harness:
        _, rotation, ctx = _adopted(
            harness,
            "single-user",
            probes=("GET other:x",) if trouble == "probe fails" else ("GET cache:one",),
        )
        gaps = _Gaps(monkeypatch, ctx.current)
        admin = saving.client()
        if trouble == "cannot be saved":
            _ = _DiskFull(monkeypatch, after=1)
        if trouble == "no free connection":
            assert rotation.probe(ctx.current, ctx)
            admin.config_set("maxclients", admin.info("clients")["connected_clients"])
        try:
            with pytest.raises(StepError, match=r"save|free connection|could not do"):
                rotation.create(rotation.propose(ctx.current, ctx), ctx)
        finally:
            admin.config_set("maxclients", 10_000)
            admin.close()
        assert logs_in([saving], ctx.current)
        assert gaps.longest < 0.2


class _Gaps:
    """How long the served password was not among the user's, as the commands of the plugin say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, served: Credential) -> None:
        self.longest = 0.0
        real, since = Node.let_in_only, [0.0]

        def let_in_only(node: Node, user: Any, password: Any, ctx: Any) -> None:
            real(node, user, password, ctx)
            if password != served.password:
                since[0] = time.monotonic()
            else:
                self.longest = max(self.longest, time.monotonic() - since[0])

        monkeypatch.setattr(Node, "let_in_only", let_in_only)
