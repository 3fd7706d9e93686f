"""Who may do what: each route for each role, and what a change must bring with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.requests import EntryKind
from rotator.faces.web.app import rules
from rotator.faces.web.live import Streams
from tests.web.conftest import ORIGIN, PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.conftest import Browser, Site

EVERYBODY = {"viewer", "operator", "approver", "breaker", "auditor", "admin"}
# Whose request is appended, by the action.
MAY_REQUEST = {
    "rotate": {"operator", "admin"},
    "rollback": {"operator", "admin"},
    "revoke-now": {"operator", "breaker", "admin"},
    "park": {"operator", "admin"},
    "unpark": {"operator", "admin"},
    "incident": {"operator", "breaker", "admin"},
    "kill": {"breaker", "admin"},
}
ROUTES = sorted({(one.method, one.path) for one in rules(Streams())})
# What is put in the place of a route's parameters.
FILLED = {"{name}": "app", "{id}": "none", "{decision}": "approve", "{action}": "park"}
PUBLIC = {
    ("GET", "/sign-in/oidc"),
    ("GET", "/sign-in/oidc/callback"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/healthz"),
}
CHANGING = [path for method, path in ROUTES if method == "POST"]
# A stream never ends; its own tests read it.
READING = [path for method, path in ROUTES if method == "GET" and path != "/events"]


def filled(path: str) -> str:
    """Return a path with values for its parameters."""
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


def expected(path: str, user: str) -> int:
    """Return the status with which a page answers a user."""
    if ("GET", path) in PUBLIC:
        return {"/sign-in": 303, "/healthz": 200}.get(path, 404)
    if path == "/report/download":
        # Without dates, only the form is shown again.
        return 400 if user in ("auditor", "admin") else 403
    if "{action}" in path:
        return 200 if user in MAY_REQUEST["park"] else 403
    return 200 if user in EVERYBODY else 403


def test_each_page_answers_each_role_as_its_permissions_say(site: Site):
    """The table: every page, for a user of each role, for one without a role, and for nobody."""
    site.rotate("app")
    found: dict[tuple[str, str], int] = {}
    wanted: dict[tuple[str, str], int] = {}
    for user in (*sorted(EVERYBODY), "nobody"):
        browser = site.browser(user)
        for path in READING:
            found[path, user] = browser.get(filled(path)).status_code
            wanted[path, user] = expected(path, user)
    stranger = site.browser()
    for path in READING:
        found[path, ""] = stranger.get(filled(path)).status_code
        is_public = ("GET", path) in PUBLIC
        refused = 401 if path.startswith("/api/") else 303
        # Without a provider in the configuration, its routes do not exist.
        wanted[path, ""] = (404 if "oidc" in path else 200) if is_public else refused
    assert found == wanted


def form(site: Site, browser: Browser, action: str, **more: str) -> dict[str, str]:
    """Return what the form of an action holds."""
    record = site.console.browser.records(["app"])["app"]
    return {
        "token": token_in(site, browser),
        "seq": str(record.seq),
        "reason": "tests",
        "name": "app",
        **more,
    }


def token_of(site: Site, user: str) -> str:
    """Return the token of a user's newest session."""
    return token_in(site, site.signed_in[user])


def token_in(site: Site, browser: Browser) -> str:
    """Return the token of the session of a browser."""
    found = site.console.sessions.find(browser.cookies["rotator"])
    assert found is not None
    return found.token


def test_each_action_is_taken_from_the_roles_that_allow_it_and_recorded_for_the_others(site: Site):
    """The table of actions and roles: an appended request, or 403 and an entry of the denied attempt."""
    site.rotate("app")
    found: dict[tuple[str, str], int] = {}
    wanted: dict[tuple[str, str], int] = {}
    for user in (*sorted(EVERYBODY), "nobody"):
        browser = site.browser(user)
        for action, roles in MAY_REQUEST.items():
            values = form(site, browser, action) | {"token": token_of(site, user)}
            answer = browser.post(f"/secrets/app/request/{action}", values)
            found[action, user] = answer.status_code
            wanted[action, user] = 303 if user in roles else 403
    assert found == wanted
    allowed = sum(map(len, MAY_REQUEST.values()))
    assert len(site.console.requests.open()) == allowed
    entries = site.console.requests.log.recent(1000)
    denied = [one for one in entries if one.kind is EntryKind.DENIED]
    # Who has no role at all is refused before.
    assert len(denied) == len(MAY_REQUEST) * len(EVERYBODY) - allowed


@pytest.mark.parametrize("path", CHANGING)
def test_a_change_is_refused_without_its_token_from_elsewhere_and_by_another_method(
    site: Site, path: str
):
    """No token, a wrong one, another origin, no origin, and GET: nothing is done."""
    site.rotate("app")
    browser, at = site.browser("admin"), filled(path)
    good = form(site, browser, "park") | {"token": token_of(site, "admin")}
    without = {key: value for key, value in good.items() if key != "token"}
    assert browser.post(at, without).status_code == 403
    assert browser.post(at, good | {"token": "0" * 43}).status_code == 403
    assert browser.post(at, good, origin="https://elsewhere.example.org").status_code == 403
    assert browser.post(at, good, origin="null").status_code == 403
    assert browser.post(at, good, origin=None).status_code == 403
    read = browser.get(at)
    assert read.status_code in (200, 303, 404, 405)
    assert site.console.requests.open() == []
    assert browser.get("/").status_code == 200


def test_another_host_name_is_refused(site: Site):
    """A name that an attacker leads to this address reads nothing (DNS rebinding)."""
    answer = site.browser("admin").get("/", headers={"host": "rotator.attacker.example"})
    assert answer.status_code == 421


def test_a_narrow_role_sees_and_requests_only_its_secrets(site: Site):
    """What a role is not over is absent from every page, and 404 by its name, as if it did not exist."""
    site.rotate("app", "web")
    browser = site.browser("narrow")
    for path in ("/", "/secrets", "/journal", "/consumers", "/leases", "/incidents", "/calendar"):
        assert ">app<" not in browser.get(path).text, path
    assert ">web<" in browser.get("/secrets").text
    assert browser.get("/journal?secret=app").text.count("rotation-requested") == 0
    hidden, absent = browser.get("/secrets/app"), browser.get("/secrets/absent")
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert hidden.text == absent.text
    assert [one["secret"] for one in browser.get("/api/v1/secrets").json()["secrets"]] == ["web"]
    values = {"token": token_of(site, "narrow"), "seq": "0", "reason": "x"}
    assert browser.post("/secrets/app/request/rotate", values).status_code == 404
    assert browser.get("/report/download?since=2020-01-01&until=2020-02-01").status_code == 403


def test_an_unknown_name_is_not_repeated(site: Site):
    """A page of an unknown secret says nothing of what was asked for."""
    answer = site.browser("admin").get("/secrets/no-such-7f3a")
    assert answer.status_code == 404
    assert "7f3a" not in answer.text


def test_without_roles_everybody_who_signs_in_may_only_look(open_site: Callable[..., Any]):
    """A configuration without `roles` lets nobody request anything over the network."""
    site = open_site("")
    site.rotate("app")
    browser = site.browser("admin")
    assert browser.get("/secrets/app").status_code == 200
    assert browser.get("/secrets/app/request/rotate").status_code == 403
    assert browser.get("/report/download").status_code == 403


def test_a_form_of_before_a_change_requests_nothing_and_shows_the_change(site: Site):
    """Between the form and its submission somebody rotated: 409, the events, and no request."""
    site.rotate("app")
    browser = site.browser("operator")
    values = form(site, browser, "rotate") | {"token": token_of(site, "operator")}
    site.cli("park", "app", "--reason", "vendor works on it")
    answer = browser.post("/secrets/app/request/rotate", values)
    assert answer.status_code == 409
    assert "vendor works on it" in answer.text
    assert site.console.requests.open() == []


def test_a_dangerous_action_wants_the_name_and_shows_its_price_first(site: Site):
    """Revoke now and kill: what it costs is on the form, and without the name nothing is requested."""
    site.rotate("app")
    site.rotate("app")
    browser = site.browser("admin")
    for action in ("revoke-now", "kill"):
        page = browser.get(f"/secrets/app/request/{action}").text
        assert "What it costs" in page
        values = form(site, browser, action) | {"token": token_of(site, "admin"), "name": "ap"}
        assert browser.post(f"/secrets/app/request/{action}", values).status_code == 400
    assert (
        "Applications that still log in with the old credential fail."
        in browser.get("/secrets/app/request/revoke-now").text
    )
    assert site.console.requests.open() == []


def test_a_request_needs_a_reason(site: Site):
    """Blanks are no reason."""
    site.rotate("app")
    browser = site.browser("operator")
    values = form(site, browser, "park") | {"token": token_of(site, "operator"), "reason": "  "}
    assert browser.post("/secrets/app/request/park", values).status_code == 400
    assert site.console.requests.open() == []


def test_somebody_else_approves(open_site: Callable[..., Any]):
    """A rule wants an approval: the requester cannot give it, an approver can, and a second one can refuse."""
    from tests.web.conftest import ROLES

    site = open_site(ROLES + "approval: [{for: [rotate]}]\n")
    site.rotate("web")
    operator, approver = site.browser("operator"), site.browser("approver")
    values = {"token": token_of(site, "operator"), "reason": "quarterly"}
    record = site.console.browser.records(["web"])["web"]
    asked = operator.post("/secrets/web/request/rotate", values | {"seq": str(record.seq)})
    assert asked.status_code == 303
    (request,) = site.console.requests.open()
    assert site.console.requests.state(request) == "needs-approval"
    assert "Approve" not in operator.get("/requests").text
    assert operator.post(f"/requests/{request.id}/approve", values).status_code == 403
    assert "Approve" in approver.get("/requests").text
    agreed = {"token": token_of(site, "approver"), "reason": "agreed"}
    assert approver.post(f"/requests/{request.id}/approve", agreed).status_code == 303
    (request,) = site.console.requests.open()
    assert site.console.requests.state(request) == "queued"
    second = site.browser("second")
    assert (
        second.post(
            f"/requests/{request.id}/refuse",
            {"token": token_of(site, "second"), "reason": "not now"},
        ).status_code
        == 303
    )
    assert site.console.requests.open() == []


def test_the_api_appends_a_request_under_the_same_rules(site: Site):
    """JSON: token in a header, `seq`, `confirm` for what is dangerous, the same roles."""
    site.rotate("app")
    browser = site.browser("operator")
    token = browser.get("/api/v1/session").json()["token"]
    seq = site.console.browser.records(["app"])["app"].seq

    def ask(body: dict[str, Any], **headers: str) -> Any:
        more = {"origin": ORIGIN, "x-csrf-token": token, **headers}
        return browser.send("POST", "/api/v1/secrets/app/requests", json=body, headers=more)

    good = {"action": "rotate", "reason": "by a program", "seq": seq}
    assert ask(good).status_code == 201
    assert ask(good, **{"x-csrf-token": "no"}).status_code == 403
    assert ask(good | {"seq": seq - 1}).status_code == 409
    assert ask(good | {"action": "kill", "confirm": "app"}).status_code == 403
    assert ask(good | {"action": "revoke-now"}).status_code == 400
    assert ask(good | {"reason": ""}).status_code == 400
    assert ask(["no object"]).status_code == 400  # pyright: ignore[reportArgumentType] # on purpose
    (request,) = browser.get("/api/v1/requests").json()["requests"]
    assert (request["secret"], request["action"], request["state"]) == ("app", "rotate", "queued")


def test_failed_sign_ins_are_limited_by_address_and_by_name(site: Site):
    """After ten failures from one address even the right password waits; another address does not."""
    browser = site.browser()
    for _ in range(10):
        assert browser.sign_in("viewer", "wrong-t3st-only-phrase").status_code == 401
    waits = browser.sign_in("viewer")
    assert waits.status_code == 429
    assert int(waits.headers["retry-after"]) > 0
    other = site.browser()
    other.address = "127.0.0.2"
    assert other.sign_in("viewer").status_code == 303


def test_a_session_ends_after_its_time_and_by_signing_out(site: Site):
    """Eight hours, or the button; what the cookie holds then opens nothing."""
    browser = site.browser("viewer")
    kept = dict(browser.cookies)
    assert browser.post("/sign-out", {"token": token_of(site, "viewer")}).status_code == 303
    browser.cookies = kept
    assert browser.get("/").status_code == 303
    other = site.browser("viewer")
    session = site.console.sessions.find(other.cookies["rotator"])
    assert session is not None
    assert session.expires is not None
    lasts = session.expires - site.console.clock.now()
    assert 7.9 < lasts.total_seconds() / 3600 <= 8


def test_cookies_are_for_the_server_alone(site: Site, open_site: Callable[..., Any]):
    """HttpOnly and SameSite=Strict; off loopback also Secure, and bound to the host."""
    browser = site.browser()
    values = {"name": "viewer", "password": PASSPHRASE, "token": browser.token("/sign-in")}
    for line in browser.post("/sign-in", values).headers.get_list("set-cookie"):
        assert "HttpOnly" in line
        assert "samesite=strict" in line.lower()
        assert "viewer" not in line
    assert browser.cookies.keys() == {"rotator"}


def test_every_answer_forbids_scripts_of_others_and_caches(site: Site):
    """The policy allows nothing inline; no page is kept by a browser."""
    browser = site.browser("viewer")
    for path in ("/", "/secrets", "/absent", "/api/v1/fleet"):
        headers = browser.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    page = browser.get("/").text
    assert "<script>" not in page
    assert " style=" not in page
    assert " onclick" not in page


def test_a_console_without_a_key_only_reads_and_says_what_to_do(open_site: Callable[..., Any]):
    """Whoever may act reads what is missing; whoever may not is refused as before; nothing is requested."""
    site = open_site(signs=False)
    site.rotate("app")
    browser = site.browser("admin")
    page = browser.get("/secrets/app").text
    assert "This console only reads" in page
    assert "/request/rotate" not in page
    assert "This console only reads" in browser.get("/requests").text
    form_page = browser.get("/secrets/app/request/rotate")
    values = form(site, browser, "rotate") | {"token": token_of(site, "admin")}
    submitted = browser.post("/secrets/app/request/rotate", values)
    for answer in (form_page, submitted):
        assert answer.status_code == 403
        assert "This console only reads" in answer.text
        assert '<code class="command">rotator keygen FILE</code>' in answer.text
        assert "requests.writers" in answer.text
    token = browser.get("/api/v1/session").json()["token"]
    headers = {"origin": ORIGIN, "x-csrf-token": token}
    body = {"action": "rotate", "reason": "x", "seq": int(values["seq"])}
    answer = browser.send("POST", "/api/v1/secrets/app/requests", json=body, headers=headers)
    assert answer.status_code == 403
    assert "only reads" in answer.json()["error"]["what"]
    assert browser.get("/api/v1/secrets/app").json()["actions"] == []
    viewer = site.browser("viewer")
    values = form(site, viewer, "rotate") | {"token": token_of(site, "viewer")}
    denied = viewer.post("/secrets/app/request/rotate", values)
    assert denied.status_code == 403
    assert "may not rotate" in denied.text
    assert "was not recorded" in denied.text
    assert site.console.requests.log.recent(100) == []


def test_a_decision_on_a_console_without_a_key_is_refused_with_what_to_do(
    open_site: Callable[..., Any],
):
    """A request that the command line has appended stays as it is."""
    from tests.web.conftest import ROLES

    site = open_site(ROLES + "approval: [{for: [park]}]\n", signs=False)
    site.rotate("app")
    site.cli("request", "park", "app", "--reason", "vendor")
    (request,) = site.console.requests.open()
    browser = site.browser("approver")
    assert "Approve</button>" not in browser.get("/requests").text
    values = {"token": token_of(site, "approver"), "reason": "agreed"}
    answer = browser.post(f"/requests/{request.id}/approve", values)
    assert (answer.status_code, "This console only reads" in answer.text) == (403, True)
    assert site.console.requests.open() == [request]


def test_the_api_names_what_an_actor_may_request(site: Site):
    """As the page shows it."""
    site.rotate("app")

    def actions(user: str) -> set[str]:
        return set(site.browser(user).get("/api/v1/secrets/app").json()["actions"])

    assert actions("viewer") == set()
    assert {"rotate", "park"} <= actions("operator")
    assert "kill" not in actions("operator")
    assert "kill" in actions("breaker")


@pytest.mark.parametrize(
    ("form_", "kind", "begins"),
    [
        ("html", "text/html", b"<!DOCTYPE html>"),
        ("json", "application/json", b"{"),
        ("csv", "text/csv", b"secret,"),
        ("pdf", "application/pdf", b"%PDF"),
        ("xlsx", "application/vnd.openxmlformats", b"PK"),
    ],
)
def test_a_report_is_downloaded_in_each_form(site: Site, form_: str, kind: str, begins: bytes):
    """As a file with its name, and the same bytes each time of a period that has ended."""
    site.rotate("app")
    browser = site.browser("auditor")
    url = f"/report/download?since=2020-01-01&until=2020-02-01&framework=pci&format={form_}"
    answer = browser.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-disposition"].endswith(f'-2020-02-01.{form_}"')
    assert answer.content.startswith(begins)
    assert browser.get(url).content == answer.content


def test_a_form_whose_package_is_missing_is_refused_with_the_package(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    """And the next download is possible."""
    browser = site.browser("auditor")
    url = "/report/download?since=2020-01-01&until=2020-02-01&format="
    for form_, module in (("pdf", "fpdf"), ("xlsx", "xlsxwriter")):
        monkeypatch.setitem(sys.modules, module, None)
        answer = browser.get(f"{url}{form_}")
        assert answer.status_code == 400
        assert "credential-rotator[report]" in answer.text
    assert browser.get(f"{url}html").status_code == 200
