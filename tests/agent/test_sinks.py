"""Files and folders: whole at every moment, with their owner and mode, and a service that reads them."""

from __future__ import annotations

import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.agent import files
from rotator.agent.errors import SinkError
from rotator.agent.reload import run
from rotator.agent.sinks import Sink
from rotator.core.errors import UsageError
from tests.load.opens import try_kind

if TYPE_CHECKING:
    from tests.agent.conftest import Host

_NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def _sink(host: Host, text: str) -> Sink:
    consumer = host.consumer(f"secrets:\n  shop:\n    sinks: [{text}]\n")
    return Sink("shop", consumer.options.secrets["shop"].sinks[0], consumer.resolve)


def _login(host: Host):
    consumer = host.consumer("secrets: {shop: {}}\n")
    return consumer.credentials["shop"].current()


def _files(folder: Path) -> set[str]:
    ours = {"agent.yaml", "rotator.key", "secrets.db", "secrets.db-wal", "secrets.db-shm"}
    return {file.name for file in folder.iterdir()} - ours


def test_a_file_has_its_mode_and_content_and_leaves_nothing_beside(host: Host):
    host.publish("shop", "first-Kq83zx")
    sink = _sink(host, "{file: db.env, format: env, mode: '0640'}")
    assert sink.apply(_login(host)) == "read"
    file = host.folder / "db.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert 'DB_PASSWORD="first-Kq83zx"' in file.read_text()
    assert _files(host.folder) == {"db.env"}


def test_an_unchanged_file_is_not_touched(host: Host):
    host.publish("shop", "first-Kq83zx")
    sink = _sink(host, "{file: db.json, format: json}")
    sink.apply(_login(host))
    before = (host.folder / "db.json").stat()
    sink.apply(_login(host))
    after = (host.folder / "db.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    (host.folder / "db.json").chmod(0o644)
    sink.apply(_login(host))
    assert stat.S_IMODE((host.folder / "db.json").stat().st_mode) == 0o600


def test_the_mode_is_set_before_the_file_has_content_or_its_name(host: Host, monkeypatch):
    host.publish("shop", "first-Kq83zx")
    sink = _sink(host, "{file: db.json, format: json, mode: '0640'}")
    seen: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and not seen:
            seen.append(stat.S_IMODE(status.st_mode))
            assert not (host.folder / "db.json").exists()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    sink.apply(_login(host))
    assert seen == [0o640]


def test_a_folder_changes_as_a_whole(host: Host):
    host.publish("a", "first-Kq83zx")
    sink = _sink(
        host,
        "{folder: db, files: {user: {format: template, options: {template: '{username}'}}, db.json: {format: json}}}",
    )
    sink.apply(_login(host))
    link = host.folder / "db"
    assert link.is_symlink()
    assert (link / "user").read_text() == "a"
    first = link.resolve()
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    sink.apply(_login(host))
    assert link.resolve() == first
    host.publish("b", "second-Kq83zx")
    sink.apply(_login(host))
    assert (link / "user").read_text() == "b"
    assert json.loads((link / "db.json").read_text())["password"] == "second-Kq83zx"
    assert _files(host.folder) == {"db", link.resolve().name}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_reader_never_sees_half_a_file_or_a_mixed_pair(tmp_path: Path, kind: str):
    """`make opens` does it a million times."""
    opens, wrong, seen, _gone, _seconds = try_kind(kind, tmp_path, 2000, 60)
    assert wrong == []
    assert opens >= 2000
    assert seen > 5


# -- errors --------------------------------------------------------------------------------------


def _failure(sink: Sink, host: Host) -> SinkError:
    with pytest.raises(SinkError) as raised:
        sink.apply(_login(host))
    assert "s3cret" not in str(raised.value)
    assert raised.value.hint
    return raised.value


def test_a_missing_folder_is_named(host: Host):
    host.publish("shop", "s3cret-value")
    error = _failure(_sink(host, "{file: nowhere/db.env, format: env}"), host)
    assert "its folder does not exist" in error.what
    assert "mkdir" in error.hint


def test_a_symbolic_link_in_place_of_the_file_is_refused(host: Host):
    host.publish("shop", "s3cret-value")
    (host.folder / "other").write_text("other")
    (host.folder / "db.env").symlink_to("other")
    error = _failure(_sink(host, "{file: db.env, format: env}"), host)
    assert "is a symbolic link" in error.what
    assert (host.folder / "other").read_text() == "other"


def test_a_fifo_or_folder_in_place_of_the_file_is_refused(host: Host):
    host.publish("shop", "s3cret-value")
    os.mkfifo(host.folder / "db.env")
    assert "not a regular file" in _failure(_sink(host, "{file: db.env, format: env}"), host).what
    (host.folder / "dir").mkdir()
    assert "it is a folder" in _failure(_sink(host, "{file: dir, format: env}"), host).what
    text = "{folder: dir, files: {a: {format: json}}}"
    assert "not a symbolic link" in _failure(_sink(host, text), host).what


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("EBUSY", "mount point"),
        ("ENOSPC", "disk is full"),
        ("EROFS", "read-only"),
        ("EACCES", "not writable"),
        ("EPERM", "owner, group or mode"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_of_the_system_keeps_the_old_file_whole(host, monkeypatch, number, words, call):
    import errno

    host.publish("shop", "s3cret-one")
    sink = _sink(host, "{file: db.json, format: json}")
    sink.apply(_login(host))
    host.publish("shop", "s3cret-two")

    def fail(*_arguments):
        raise OSError(getattr(errno, number), "injected")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    login = _login(host)
    with pytest.raises(SinkError, match=words) as raised:
        sink.apply(login)
    assert raised.value.safety == "The old file is unchanged."
    monkeypatch.undo()
    assert json.loads((host.folder / "db.json").read_text())["password"] == "s3cret-one"
    assert _files(host.folder) == {"db.json"}
    assert "s3cret" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_bind_mounted_file_is_named_with_its_remedy(host: Host):
    host.publish("shop", "s3cret-value")
    file = host.folder / "db.env"
    (host.folder / "outside").write_text("old")
    file.write_text("")
    mount, unmount = ["mount", "--bind", host.folder / "outside", file], ["umount", file]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no bind mounts here")
    try:
        error = _failure(_sink(host, "{file: db.env, format: env}"), host)
    finally:
        subprocess.run(unmount, check=True)
    assert "mount point" in error.what
    assert "Mount the folder" in error.hint
    assert (host.folder / "outside").read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_full_disk_keeps_the_old_file_whole(host: Host):
    full = host.folder / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full]
    unmount = ["umount", full]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs here")
    try:
        host.publish("shop", "s3cret-one")
        sink = _sink(host, "{file: full/db.json, format: json}")
        sink.apply(_login(host))
        host.publish("shop", "s3cret-two", filler="x" * 100_000)
        assert "disk is full" in _failure(sink, host).what
        assert json.loads((full / "db.json").read_text())["password"] == "s3cret-one"
        assert _files(full) == {"db.json"}
    finally:
        subprocess.run(unmount, check=True)


@_NOT_ROOT
def test_a_folder_that_is_not_writable_is_named(host: Host):
    host.publish("shop", "s3cret-value")
    (host.folder / "closed").mkdir(mode=0o500)
    error = _failure(_sink(host, "{file: closed/db.env, format: env}"), host)
    assert "not writable" in error.what


def test_an_unknown_user_is_refused(host: Host):
    with pytest.raises(UsageError, match="no user 'nobody-here'"):
        _sink(host, "{file: db.env, format: env, owner: nobody-here}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_is_given_to_its_owner(host: Host):
    host.publish("shop", "first-Kq83zx")
    _sink(host, "{file: db.env, format: env, owner: '12345', group: '54321', mode: '0440'}").apply(
        _login(host)
    )
    status = (host.folder / "db.env").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o440)


def test_leftovers_of_a_crash_are_removed(host: Host):
    host.publish("shop", "first-Kq83zx")
    (host.folder / ".db.env.0123456789abcdef.rotator-tmp").write_text("old password")
    (host.folder / ".db.0123456789abcdef").mkdir()
    _sink(host, "{file: db.env, format: env}").apply(_login(host))
    _sink(host, "{folder: db, files: {a: {format: json}}}").apply(_login(host))
    assert len(_files(host.folder)) == 3


# -- reload and check ----------------------------------------------------------------------------


def _program(host: Host, name: str, text: str) -> str:
    file = host.folder / name
    file.write_text(f"#!{sys.executable}\n{text}\n")
    file.chmod(0o700)
    return str(file)


def test_a_command_runs_once_per_change_without_the_secret(host: Host):
    host.publish("shop", "s3cret-value")
    log = host.folder / "log"
    text = f"import json, os, sys\nopen({str(log)!r}, 'a').write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')"
    program = _program(host, "reload.py", text)
    sink = _sink(
        host, f"{{file: db.env, format: env, reload: {{command: [{program}, a b, $HOME]}}}}"
    )
    assert sink.apply(_login(host)) == "loaded"
    assert sink.apply(_login(host)) == "loaded"
    (line,) = log.read_text().splitlines()
    arguments, environ = json.loads(line)
    assert arguments == ["a b", "$HOME"]
    assert environ["ROTATOR_SECRET"] == "shop"
    assert environ["ROTATOR_VERSION"] == "1"
    assert "s3cret" not in line
    assert set(environ) <= {
        "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR", "ROTATOR_SECRET", "ROTATOR_VERSION",
    }  # fmt: skip


def test_a_reload_that_failed_is_repeated_also_by_another_process(host: Host):
    host.publish("shop", "first-Kq83zx")
    program = _program(
        host,
        "reload.py",
        "import os, sys\nsys.exit(not os.path.exists('/nowhere') and not os.path.exists(sys.argv[0] + '.ok'))",
    )
    text = f"{{file: db.env, format: env, reload: {{command: [{program}]}}}}"
    with pytest.raises(SinkError, match="failed with exit code 1"):
        _sink(host, text).apply(_login(host))
    assert (host.folder / ".db.env.rotator-reload").exists()
    with pytest.raises(SinkError):
        _sink(host, text).apply(_login(host))
    Path(f"{program}.ok").touch()
    assert _sink(host, text).apply(_login(host)) == "loaded"
    assert not (host.folder / ".db.env.rotator-reload").exists()


def test_a_check_proves_the_use(host: Host):
    host.publish("shop", "first-Kq83zx")
    assert _sink(host, "{file: db.env, format: env, check: ['true']}").apply(_login(host)) == "used"
    host.publish("shop", "second-Kq83zx")
    with pytest.raises(SinkError, match="the check 'false' failed"):
        _sink(host, "{file: db.env, format: env, check: ['false']}").apply(_login(host))


def test_a_program_that_does_not_exist_or_hangs_is_named(monkeypatch):
    with pytest.raises(SinkError, match="could not be started"):
        run(["/nowhere/program"], {}, "reload")
    monkeypatch.setattr("rotator.agent.reload._TIMEOUT", 0.2)
    with pytest.raises(SinkError, match="did not end"):
        run(["sleep", "60"], {}, "check")


def test_a_signal_reaches_the_process_of_the_pid_file(host: Host):
    host.publish("shop", "first-Kq83zx")
    sleep = ["sleep", "60"]
    child = subprocess.Popen(sleep)
    try:
        (host.folder / "pid").write_text(f"{child.pid}\n")
        text = "{file: db.env, format: env, reload: {signal: TERM, pid_file: pid}}"
        assert _sink(host, text).apply(_login(host)) == "loaded"
        assert child.wait(10) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("content", ["", "-1", "0", "1", "x"])
def test_a_pid_file_without_a_process_is_refused(host: Host, content: str):
    host.publish("shop", "first-Kq83zx")
    (host.folder / "pid").write_text(content)
    text = "{file: db.env, format: env, reload: {signal: HUP, pid_file: pid}}"
    assert "number of a process" in _failure(_sink(host, text), host).what


def test_an_address_is_asked_and_redirects_are_not_followed(host: Host):
    host.publish("shop", "first-Kq83zx")
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(302 if self.path == "/away" else 204)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        sink = _sink(host, f"{{file: a, format: env, reload: {{http: '{url}/reload'}}}}")
        assert sink.apply(_login(host)) == "loaded"
        sink = _sink(host, f"{{file: b, format: env, reload: {{http: '{url}/away'}}}}")
        with pytest.raises(SinkError, match="status 302"):
            sink.apply(_login(host))
        server.shutdown()
    assert asked == ["/reload", "/away"]


# -- the agent -----------------------------------------------------------------------------------


def test_the_agent_follows_a_rotation_and_one_bad_sink_stops_no_other(host: Host):
    host.publish("shop", "first-Kq83zx")
    agent = host.agent("""
        secrets:
          shop:
            sinks:
              - {file: nowhere/db.env, format: env}
              - {file: db.json, format: json}
    """)
    agent.start()
    try:
        file = host.folder / "db.json"
        _wait(lambda: file.exists() and "first-Kq83zx" in file.read_text())
        host.publish("shop", "second-Kq83zx")
        _wait(lambda: "second-Kq83zx" in file.read_text())
        assert not agent.wait_until_ready(0)
        assert "its folder does not exist" in agent.errors()["shop"]
        (host.folder / "nowhere").mkdir()
        assert agent.wait_until_ready(10)
    finally:
        agent.stop()


def test_the_backend_may_be_away_for_an_hour(host: Host, monkeypatch):
    host.publish("shop", "first-Kq83zx")
    agent = host.agent("secrets: {shop: {sinks: [{file: db.json, format: json}]}}\n")
    assert agent.run_once(5) == {}
    credential = agent.consumer.credentials["shop"]
    now = [time.monotonic()]
    monkeypatch.setattr(credential, "_clock", lambda: now[0])
    (host.folder / "secrets.db").rename(host.folder / "away")
    monkeypatch.setattr(credential._source, "_backend", _Away())
    for _ in range(60):
        now[0] += 60
        assert agent.run_once(0) == {}
        assert credential.current().password.reveal() == "first-Kq83zx"
    _wait(lambda: credential.health().is_stale)
    agent.stop()


class _Away:
    def current(self, path: str):
        from rotator.core.errors import Unavailable

        raise Unavailable("the backend is unreachable.")


def _wait(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def test_sync_folder_names_a_missing_one():
    with pytest.raises(FileNotFoundError):
        files.sync_folder(Path("/nowhere/at/all"))
