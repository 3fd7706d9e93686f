"""Scanners report leaked passwords to the daemon, over a real connection."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.daemon_settings import ReportListener, Topic
from rotator.core.errors import JournalError
from rotator.core.model import Kind, Version
from rotator.engine import Engine, Mode
from rotator.faces.daemon import Daemon
from rotator.faces.http_server import HttpRequest, Server
from rotator.faces.leak_reports import LeakReports
from rotator.testing.fakes import ListLog
from tests.cli.conftest import Cli, bare, cli  # noqa: F401 # fixtures

if TYPE_CHECKING:
    from rotator.bootstrap import App

KEYS = {"github": "github-key-of-the-tests", "gitlab": "gitlab-key-of-the-tests"}
KEYS |= {"scanner": "scanner-key-of-the-tests"}
ALERT = {"number": 7, "secret_type": "postgres", "html_url": "https://github.example/o/shop/7"}


@dataclass
class Api:
    """A running interface over secrets on a server in memory, and its senders."""

    app: App
    address: str
    told: list[tuple[Topic, str, Mapping[str, Any]]]
    log: ListLog
    bodies: list[bytes] = field(default_factory=list)

    def post(self, source: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
        """Send a body; return the status and the answer."""
        self.bodies.append(body)
        with closing(http.client.HTTPConnection(self.address, timeout=10)) as link:
            link.request("POST", f"/v1/leaks/{source}", body, dict(headers))
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())

    def github(self, value: str | None = None, *, action: str = "created", **alert: object):
        """Send a signed webhook; the alert has a value where one is given."""
        found = {**ALERT, **alert, **({"secret": value} if value is not None else {})}
        repository = {"full_name": "o/shop"}
        body = json.dumps({"action": action, "alert": found, "repository": repository}).encode()
        return self.post("github", body, signed(body))

    def gitlab(self, value: str):
        """Send what GitLab sends to revoke a token."""
        rows = [{"type": "database_password", "token": value, "location": "https://g.example/1"}]
        headers = {"X-Gitlab-Token": KEYS["gitlab"]}
        return self.post("gitlab", json.dumps(rows).encode(), headers)

    def gitleaks(self, *values: str):
        """Send a report of gitleaks."""
        rows = [
            {"Secret": one, "File": "a.env", "StartLine": 1, "RuleID": "generic"} for one in values
        ]
        headers = {"Authorization": f"Bearer {KEYS['scanner']}"}
        return self.post("scanner", json.dumps(rows).encode(), headers)

    def trufflehog(self, value: str):
        """Send a finding of trufflehog."""
        source = {"Data": {"Git": {"file": "a.env", "line": 1}}}
        row = {"SourceMetadata": source, "Raw": value, "DetectorName": "Postgres"}
        headers = {"Authorization": f"bearer {KEYS['scanner']}"}
        return self.post("scanner", json.dumps(row).encode(), headers)

    def served(self, name: str) -> Version:
        secret = self.app.secret(name)
        version = secret.backend.current(secret.path)
        assert version is not None
        return version

    def password(self, name: str) -> str:
        return self.served(name).credential.password.reveal()

    def state(self, name: str) -> str | None:
        record = self.app.journal.secret(name)
        assert record is not None
        return record.incident_state


def signed(body: bytes, key: str = KEYS["github"], event: str = "secret_scanning_alert"):
    """Return the headers of a webhook of GitHub."""
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": event}


@pytest.fixture
def api(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:  # noqa: F811 # the fixture
    cli("rotate", "--all")
    for source, key in KEYS.items():
        monkeypatch.setenv(f"KEY_{source.upper()}", key)
    listener = ReportListener(
        listen="127.0.0.1:0", leaks={one: f"env:KEY_{one.upper()}" for one in KEYS}
    )
    with cli.app() as app:
        daemon = replace(app.settings.daemon, reports=listener)
        app.settings = replace(app.settings, daemon=daemon)
        told: list[tuple[Topic, str, Mapping[str, Any]]] = []
        log = ListLog()
        reports = LeakReports(app=lambda: app, tell=lambda *one: told.append(one), log=log)
        server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
        server.start()
        try:
            yield Api(app=app, address=server.address, told=told, log=log)
        finally:
            server.close()


_SENDERS: dict[str, Callable[[Api, str], tuple[int, Any]]] = {
    "github": lambda api, value: api.github(value),
    "gitlab": lambda api, value: api.gitlab(value),
    "gitleaks": lambda api, value: api.gitleaks(value),
    "trufflehog": lambda api, value: api.trufflehog(value),
}


@pytest.mark.parametrize("sender", _SENDERS)
def test_a_reported_value_opens_a_recorded_incident(api: Api, sender: str):
    """Nothing is replaced: an operator decides. The value is in no answer, log or event."""
    value, before = api.password("app"), api.served("app")
    assert _SENDERS[sender](api, value) == (200, {"incidents": 1})
    assert (api.state("app"), api.state("web")) == ("map", None)
    assert api.served("app") == before
    event = api.app.journal.events("app")[-1]
    assert event.kind is Kind.LEAKED
    assert str(event.data["reason"]).startswith("reported by ")
    assert value not in repr([one.data for one in api.app.journal.events("app")])
    assert value not in repr(api.log.lines) + repr(api.told)


def test_a_policy_may_let_a_report_decide(api: Api):
    """Only of the secrets that have such a policy."""
    chosen = api.app.settings.secrets["web"]
    policy = replace(chosen.policy, on_leak=Mode.KILL)
    secrets = {**api.app.settings.secrets, "web": replace(chosen, policy=policy)}
    api.app.settings = replace(api.app.settings, secrets=secrets)
    assert api.gitleaks(api.password("app"), api.password("web"))[1] == {"incidents": 2}
    assert (api.state("app"), api.state("web")) == ("map", "open")


def test_a_value_of_nobody_opens_nothing(api: Api):
    """It is not repeated."""
    assert api.gitleaks("what-nobody-has-771") == (200, {"incidents": 0})
    assert api.told == []


def test_an_alert_without_its_value_is_passed_on(api: Api):
    """GitHub's webhook names the alert only; somebody has to read it there."""
    assert api.github() == (200, {"incidents": 0})
    [(topic, secret, data)] = api.told
    assert (topic, secret) == (Topic.LEAK_REPORTED, "")
    assert "https://github.example/o/shop/7" in str(data["what"])
    assert "rotator incident open --value-from prompt" in str(data["hint"])


@pytest.mark.parametrize(
    ("action", "event"),
    [("resolved", "secret_scanning_alert"), ("created", "push"), ("created", "ping")],
)
def test_what_is_no_new_alert_opens_nothing(api: Api, action: str, event: str):
    """GitHub sends other events to the same address, and each change of an alert."""
    alert = {**ALERT, "secret": api.password("app")}
    content = {"action": action, "alert": alert, "repository": {"full_name": "o/shop"}}
    body = json.dumps(content).encode()
    assert api.post("github", body, signed(body, event=event)) == (200, {"incidents": 0})
    assert (api.state("app"), api.told) == (None, [])


# -- attackers -------------------------------------------------------------------------------------


def _forged(body: bytes) -> Iterator[tuple[str, Mapping[str, str]]]:
    good = signed(body)
    event = {"X-GitHub-Event": "secret_scanning_alert"}
    yield "github", event
    yield "github", event | {"X-Hub-Signature-256": ""}
    yield "github", event | {"X-Hub-Signature-256": "sha256="}
    yield "github", event | {"X-Hub-Signature-256": good["X-Hub-Signature-256"][:-1]}
    yield "github", event | {"X-Hub-Signature-256": good["X-Hub-Signature-256"].upper()}
    yield "github", event | {"X-Hub-Signature-256": "sha256=\xff"}
    yield "github", signed(body + b" ")
    yield "github", signed(body, key="another-key-of-the-tests")
    yield "github", signed(body, key="")
    yield "github", {"Authorization": f"Bearer {KEYS['scanner']}"}
    yield "gitlab", {}
    yield "gitlab", {"X-Gitlab-Token": ""}
    yield "gitlab", {"X-Gitlab-Token": KEYS["gitlab"] + "x"}
    yield "gitlab", {"X-Gitlab-Token": KEYS["scanner"]}
    yield "scanner", {"Authorization": KEYS["scanner"]}
    yield "scanner", {"Authorization": f"Basic {KEYS['scanner']}"}
    yield "scanner", {"Authorization": "Bearer "}


def test_a_report_without_a_valid_key_is_rejected(api: Api):
    """Whatever is forged: nothing is read, compared or told."""
    alert = {**ALERT, "secret": api.password("app")}
    content = {"action": "created", "alert": alert, "repository": {"full_name": "o/shop"}}
    body = json.dumps(content).encode()
    for source, headers in _forged(body):
        status, answer = api.post(source, body, headers)
        assert (status, list(answer)) == (401, ["error"]), (source, headers)
    assert (api.state("app"), api.told) == (None, [])


def test_keys_are_compared_by_a_function_that_takes_the_same_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """Also where the lengths differ: digests of both are compared."""
    compared: list[tuple[int, int]] = []
    works = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return works(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for source, headers in _forged(b"{}"):
        api.post(source, b"{}", headers)
    assert len(compared) == len(list(_forged(b"{}")))
    assert set(compared) == {(32, 32)}


def test_a_replayed_webhook_is_rejected(api: Api):
    """A signature covers no time, so each delivery is accepted once."""
    value = api.password("app")
    assert api.github(value)[0] == 200
    events = api.app.journal.events("app")
    assert api.github(value)[0] == 409
    assert api.app.journal.events("app") == events


@pytest.mark.parametrize("sender", _SENDERS)
def test_a_leak_that_is_known_is_reported_once(api: Api, sender: str):
    """A scanner that runs each week, or a replay after a restart, opens no second incident."""
    value = api.password("app")
    assert api.gitleaks(value)[1] == {"incidents": 1}
    events = api.app.journal.events("app")
    assert _SENDERS[sender](api, value) == (200, {"incidents": 0})
    assert api.app.journal.events("app") == events


def test_an_alert_that_was_a_false_alarm_stays_closed_after_a_restart(api: Api):
    """The id of the alert is that of its incident."""
    value = api.password("app")
    assert api.github(value)[1] == {"incidents": 1}
    api.app.engine.close_incident(api.app.secret("app"), reason="a false alarm")
    fresh = LeakReports(app=lambda: api.app, tell=lambda *_one: None, log=ListLog())
    body = api.bodies[-1]
    headers = {name.lower(): one for name, one in signed(body).items()}
    request = HttpRequest(method="POST", path="/v1/leaks/github", headers=headers, body=body)
    assert json.loads(fresh.answer(request).content) == {"incidents": 0}
    assert api.state("app") is None


_NO_REPORTS = (b"", b"null", b"[1]", b"{}", b'{"alert": 1}', b"\xff\xfe", b"[" * 100_000)


@pytest.mark.parametrize("source", KEYS)
def test_what_is_no_report_is_rejected_with_a_text(api: Api, source: str):
    """From a sender with a valid key, as well."""
    for body in _NO_REPORTS:
        headers = signed(body) | {"X-Gitlab-Token": KEYS["gitlab"]}
        headers |= {"Authorization": f"Bearer {KEYS['scanner']}"}
        status, answer = api.post(source, body, headers)
        assert (status, list(answer)) == (400, ["error"]), body


def test_large_reports_are_rejected(api: Api):
    """By their size, and by the number of their values."""
    assert "1000 values" in api.gitleaks(*(f"value-{number}" for number in range(1001)))[1]["error"]
    body = b"x" * 1_000_001
    with closing(http.client.HTTPConnection(api.address, timeout=10)) as link:
        link.request("POST", "/v1/leaks/scanner", body)
        assert link.getresponse().status == 413


def test_a_source_without_a_key_does_not_exist(api: Api):
    """Off by default, and GET has nothing."""
    daemon = replace(api.app.settings.daemon, reports=ReportListener(listen="127.0.0.1:0"))
    api.app.settings = replace(api.app.settings, daemon=daemon)
    assert api.github(api.password("app"))[0] == 404
    assert api.post("nobody", b"{}", {})[0] == 404


def test_a_report_that_could_not_be_recorded_is_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """The delivery is then accepted a second time."""
    value = api.password("app")
    works = Engine.open_incident

    def fails(*_: object, **__: object) -> None:
        raise JournalError("the journal is away.")

    monkeypatch.setattr(Engine, "open_incident", fails)
    assert api.github(value)[0] == 503
    monkeypatch.setattr(Engine, "open_incident", works)
    assert api.github(value) == (200, {"incidents": 1})


def test_no_text_of_a_report_reaches_a_terminal_unescaped(api: Api):
    """A repository's name may hold anything."""
    api.github(api.password("app"), html_url="https://x/\x1b[2J\r\n" + "y" * 500)
    reason = str(api.app.journal.events("app")[-1].data["reason"])
    assert re.search(r"[\x00-\x1f]", reason) is None
    assert len(reason) < 300


def test_the_daemon_serves_consumers_and_scanners_at_one_address(
    cli: Cli,  # noqa: F811 # the fixture
    monkeypatch: pytest.MonkeyPatch,
):
    """As its configuration says, with a key for each source."""
    monkeypatch.setenv("KEY_SCANNER", KEYS["scanner"])
    reports = "{listen: '127.0.0.1:9465', leaks: {scanner: 'env:KEY_SCANNER'}}"
    cli.config.write_text(cli.config.read_text() + f"\ndaemon: {{reports: {reports}}}\n")
    daemon = Daemon(cli.config)
    headers = {"authorization": f"Bearer {KEYS['scanner']}"}
    try:
        answers = [
            daemon._answer_report(
                HttpRequest(method="POST", path=path, headers=headers, body=b"[]")
            )
            for path in ("/v1/leaks/scanner", "/v1/leaks/github", "/v1/acknowledgements")
        ]
    finally:
        daemon._made.close()
    assert [one.status for one in answers] == [200, 404, 401]


def test_leaks_without_a_listener_are_a_mistake_of_the_configuration(cli: Cli):  # noqa: F811 # the fixture
    """Nobody would hear the scanner."""
    text = cli.config.read_text()
    cli.config.write_text(text + "\ndaemon: {reports: {leaks: {github: 'env:KEY'}}}\n")
    assert "no source can report" in cli("check", code=2).err
