"""Nothing that the console writes holds a value, and it can do nothing but read and request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotator.bootstrap import open_app
from rotator.faces.web.app import rules
from rotator.faces.web.live import Streams
from rotator.logs import set_up
from tests.web.conftest import PASSPHRASE, ROLES, Browser

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.web.conftest import Site

PROXY_PHRASE = "pr0xy-shared-31ac"
PATHS = [
    one.path.replace("{name}", "app").replace("{action}", "kill")
    for one in rules(Streams())
    if one.method == "GET" and one.path != "/events"
]


def test_no_value_is_in_a_page_a_cookie_a_log_or_the_api(
    site: Site, capsys: pytest.CaptureFixture[str]
):
    """Values of every version, the admin's password and the phrase of the sign-in are nowhere."""
    site.rotate("app", "web", "old")
    site.rotate("app")
    # Each command before has set up its own.
    set_up(level="debug", human=False)
    with open_app(site.cli.config) as app:
        backend = app.backend("local")
        values = [backend.current(name).credential.password.reveal() for name in ("app", "web")]
    values += ["admin-password", PASSPHRASE, site.cli.folder.joinpath("console-key").read_text()]
    browser = site.browser("admin")
    written = [repr(browser.cookies)]
    for path in PATHS:
        answer = browser.get(path)
        written += [answer.text, repr(answer.headers)]
    wrong = site.browser()
    written += [wrong.sign_in("admin", f"{PASSPHRASE}-x").text, wrong.get("/absent").text]
    said = capsys.readouterr()
    written += [said.out, said.err]
    assert '"signed in"' in said.err
    for value in values:
        assert not any(value in text for text in written)


def test_it_opens_no_backend_and_no_target(site: Site, monkeypatch: pytest.MonkeyPatch):
    """With backends and targets that cannot be opened, every page still answers."""
    from rotator.backends import local
    from tests.cli import memory_plugin

    site.rotate("app")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("opened")

    monkeypatch.setattr(type(local.PLUGIN), "open", refuse, raising=False)
    monkeypatch.setattr(type(memory_plugin.PLUGIN), "target", refuse, raising=False)
    browser = Browser(site.app)
    assert browser.sign_in("admin").status_code == 303
    for path in PATHS:
        assert browser.get(path).status_code < 500, path


def test_what_a_console_has_reads_no_value(site: Site, tmp_path: Path):
    """Its configuration, its keys and the journal, on another machine, give nobody a value."""
    site.rotate("app")
    with open_app(site.cli.config) as app:
        value = app.backend("local").current("app").credential.password.reveal()
    machine = tmp_path / "console"
    machine.mkdir()

    def copy(*, secret: bool) -> None:
        for file in site.cli.folder.iterdir():
            if file.is_file() and file.name.startswith(("rotator.key", "secrets.db")) is secret:
                (machine / file.name).touch(mode=0o600)
                (machine / file.name).write_bytes(file.read_bytes())

    copy(secret=False)
    held = [one.read_bytes() for one in machine.iterdir()]
    assert not any(value.encode() in one for one in held)
    read = ("get", "app", "--reveal", "--reason", "tests", "-c", str(machine / "rotator.yaml"))
    outcome = site.cli(*read, code=None)
    assert outcome.code == 2
    assert "rotator.key" in outcome.err
    assert value not in outcome.out + outcome.err
    # Nothing else was missing.
    copy(secret=True)
    assert value in site.cli(*read).out


def test_text_of_others_is_shown_as_text(site: Site):
    """A reason with markup and control characters is escaped, on the page and in the title."""
    site.rotate("app")
    site.cli("park", "app", "--reason", "<script>alert(1)</script>\u202e\x1b[2J")
    site.console.fleet.refresh()
    browser = site.browser("viewer")
    for path in ("/", "/secrets/app", "/journal?secret=app"):
        text = browser.get(path).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_changed_event_is_named_on_the_page(site: Site):
    """The hashes of the events shown are checked: damage is said where it is seen."""
    import sqlite3

    site.rotate("app")
    browser = site.browser("viewer")
    assert "follow from each other" in browser.get("/journal?secret=app").text
    with sqlite3.connect(site.cli.folder / "rotator.db") as db:
        db.execute("DROP TRIGGER events_no_update")
        db.execute("UPDATE events SET actor = 'nobody' WHERE secret = 'app' AND seq = 2")
    assert "The journal was modified." in browser.get("/journal?secret=app").text


def test_a_proxy_is_believed_only_with_its_secret_and_from_its_address(
    open_site: Callable[..., Any], cli: Any
):
    """Right headers with the secret from the proxy's address sign in; anything less does not."""
    file = cli.folder / "proxy-secret"
    file.touch(mode=0o600)
    file.write_text(PROXY_PHRASE)
    role = '\n  - {role: operator, groups: ["proxy:dba"]}\n'
    site = open_site(ROLES.rstrip() + role + 'web: {proxy: {secret: "file:proxy-secret"}}\n')
    headers = {
        "x-rotator-proxy-secret": PROXY_PHRASE,
        "x-forwarded-user": "erin",
        "x-forwarded-groups": "staff, dba",
    }
    browser = Browser(site.app, headers=headers)
    session = browser.get("/api/v1/session").json()
    assert session["actor"]["subject"] == "erin"
    assert session["actor"]["method"] == "proxy"
    assert session["roles"] == ["operator"]
    assert Browser(site.app, headers=headers, address="127.0.0.9").get("/").status_code == 303
    wrong = headers | {"x-rotator-proxy-secret": f"{PROXY_PHRASE}x"}
    assert Browser(site.app, headers=wrong).get("/").status_code == 303
    del wrong["x-rotator-proxy-secret"]
    assert Browser(site.app, headers=wrong).get("/").status_code == 303
    # The token of one user is not that of another.
    token = session["token"]
    other = Browser(site.app, headers=headers | {"x-forwarded-user": "frank"})
    assert other.post("/requests/none/approve", {"token": token, "reason": "x"}).status_code == 403
