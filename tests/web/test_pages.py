"""What the pages show is what the command line shows, and never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Cli
    from tests.web.conftest import Site

PAGES = (
    *("/", "/secrets", "/secrets/app", "/calendar", "/consumers", "/leases", "/incidents"),
    *("/journal", "/journal?secret=app", "/report"),
)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_answers(site: Site, path: str):
    """Every page is a whole HTML page, for a viewer."""
    site.rotate("app")
    answer = site.browser("viewer").get(path)
    assert answer.status_code == 200, answer.text
    assert "</html>" in answer.text


def test_the_page_of_a_secret_names_who_answers_for_it(cli: Cli, open_site: Callable[..., Site]):
    """And why it is rotated so; both are text of others."""
    cli.edit("every: 30d,", 'every: 30d, owner: "team <data>", basis: "risk analysis 3",')
    site = open_site()
    site.rotate("app")
    text = site.browser("viewer").get("/secrets/app").text
    assert "<dt>Owner</dt><dd>team &lt;data&gt;</dd>" in text
    assert "<dt>Basis</dt><dd>risk analysis 3</dd>" in text


def test_leases_show_who_holds_which_login_and_no_value(cli: Cli, open_site: Callable[..., Site]):
    """Those of the secrets that the role is over; one whose end fails comes first, with the cause."""
    cli.edit("tags: [prod, billing]}", "tags: [prod], leases: {ttl: 1h, max: 2h}}")
    site = open_site()
    site.rotate("app")
    issue = ("lease", "issue", "app", "--reason", "<b>nightly</b>", "--for")
    web, batch = (cli.json(*issue, who).data for who in ("web", "batch"))
    cli.server.open_door = True
    cli("lease", "revoke", batch["lease"], code=3)
    text = site.browser("viewer").get("/leases").text
    for one in (web, batch):
        assert one["login"] in text
        assert one["lease"] in text
        assert one["fields"]["password"] not in text
    assert text.index(batch["login"]) < text.index(web["login"])
    assert "is still accepted" in text
    assert "&lt;b&gt;nightly" in text
    listed = site.browser("viewer").get("/api/v1/leases?limit=1")
    assert listed.json()["count"] == 2
    assert [one["lease"] for one in listed.json()["leases"]] == [batch["lease"]]
    assert listed.json()["leases"][0]["state"] == "stranded"
    of_web = site.browser("viewer").get("/api/v1/leases?secret=app&holder=web")
    assert [one["login"] for one in of_web.json()["leases"]] == [web["login"]]
    assert web["fields"]["password"] not in of_web.text
    assert site.browser("narrow").get("/api/v1/leases").json()["leases"] == []
    hidden = site.browser("narrow").get("/leases").text
    assert web["login"] not in hidden
    assert "0 leases open" in hidden
