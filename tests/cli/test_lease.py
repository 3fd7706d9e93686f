"""rotator lease: logins for one holder, printed once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.lease_chain import chain_of

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


@pytest.fixture
def lending(cli: Cli) -> Cli:
    """The secret `app` lends its logins."""
    cli("rotate", "app")
    cli.edit("tags: [prod, billing]}", "tags: [prod], leases: {ttl: 1h, max: 2h, limit: 2}}")
    return cli


def test_issue_prints_a_login_that_works(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web", "--reason", "job").data
    fields = lease["fields"]
    assert lending.server.target.accepts(fields["username"], fields["password"])
    assert lease["holder"] == "web"
    assert lease["purpose"] == "job"
    ends, now = datetime.fromisoformat(lease["ends_at"]), lending.app().clock.now()
    assert timedelta(minutes=59) < ends - now <= timedelta(hours=1)
    # On the screen, and nowhere else.
    said = lending("lease", "list", "app", "--holder", "web").out
    assert fields["username"] in said
    assert fields["password"] not in said
    with lending.app() as app:
        events = app.journal.events(chain_of("app"))
        assert fields["password"] not in json.dumps([dict(one.data) for one in events])
        assert events[0].data["by"]


def test_issue_prints_the_formats_of_get(lending: Cli):
    out = lending("lease", "issue", "app", "--for", "web", "--format", "env", "--ttl", "30m")
    assert out.out.splitlines()[0].startswith("DB_")
    assert "ends" in out.err
    refused = lending("lease", "issue", "app", "--for", "web", "--format", "nothing", code=2)
    assert "there is no format" in refused.err
    assert len(lending.json("lease", "list").data["leases"]) == 1


def test_credential_that_a_format_cannot_hold_is_not_left_behind(lending: Cli):
    before = set(lending.server.target.accounts)
    template = ("--format", "template", "--template", "{nothing}")
    lending("lease", "issue", "app", "--for", "web", *template, code=2)
    assert set(lending.server.target.accounts) == before
    assert lending.json("lease", "list").data["leases"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("app", "--for", "web", "--ttl", "10s"), "from 30s to 2h"),
        (("app", "--for", "web", "--ttl", "0s"), "from 30s to 2h"),
        (("app", "--for", "web", "--ttl", "soon"), "a duration is a number with a unit"),
        (("app", "--for", "web", "--ttl", "-5m"), "a duration is a number with a unit"),
        (("app", "--for", "web", "--format", "url"), "needs a host"),
        (("app", "--for", "web", "--format", "template"), "needs a template"),
        (("app", "--for", "web", "--template", "{username}"), "--format template"),
        (("app", "--for", "web", "--ttl", "3h"), "from 30s to 2h"),
        (("app", "--for", " "), "--for is empty"),
        (("web", "--for", "web"), "no `leases`"),
        (("nobody", "--for", "web"), "nobody"),
    ],
)
def test_wrong_use_ends_with_2_and_makes_nothing(lending: Cli, words: tuple[str, ...], told: str):
    before = lending.server.target.state()
    refused = lending.json("lease", "issue", *words, code=2).errors[0]
    assert told in refused["what"]
    assert lending.server.target.state() == before
    # Not even for a moment.
    assert lending.json("lease", "list", "--all").data["leases"] == []


def test_limit_is_a_usage_error(lending: Cli):
    for _ in range(2):
        lending("lease", "issue", "app", "--for", "web")
    assert "all 2 leases are taken" in lending("lease", "issue", "app", "--for", "x", code=2).err


def test_renewal_says_when_it_is_the_last(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    renewed = lending.json("lease", "renew", lease["lease"], "--ttl", "90m").data
    assert renewed["final"] is False
    last = lending.json("lease", "renew", lease["lease"], "--ttl", "2h").data
    assert last["final"] is True
    assert last["ends_at"] == last["latest"] == lease["latest"]
    assert "any further" in lending("lease", "renew", lease["lease"], "--ttl", "2h").out


def test_revoke_ends_leases_by_id_holder_and_login(lending: Cli):
    first, second = (
        lending.json("lease", "issue", "app", "--for", who).data for who in ("web", "batch")
    )
    (ended,) = lending.json("lease", "revoke", first["lease"]).data["leases"]
    assert ended["state"] == "ended"
    assert first["login"] not in lending.server.target.accounts
    assert lending.json("lease", "revoke", "--for", "nobody").data["leases"] == []
    (ended,) = lending.json("lease", "revoke", "--login", second["login"]).data["leases"]
    assert ended["lease"] == second["lease"]
    assert "No lease is open." in lending("lease", "list").out
    assert len(lending.json("lease", "list", "--all").data["leases"]) == 2
    refused = lending.json("lease", "renew", first["lease"], code=2)
    assert refused.errors[0]["kind"] == "ended"
    assert "rotator lease issue app --for web" in refused.errors[0]["hint"]
    assert "no leases selected" in lending("lease", "revoke", code=2).err
    assert "there is no lease" in lending("lease", "revoke", "x", code=2).err


def test_lease_ends_although_its_entry_is_gone(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending.edit("  app: {", "  other: {")
    (ended,) = lending.json("lease", "revoke", "--all").data["leases"]
    assert ended["state"] == "ended"
    assert lease["login"] not in lending.server.target.accounts


def test_journal_with_leases_is_sound_and_its_chain_is_no_secret(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending("lease", "revoke", lease["lease"])
    lending("audit", "verify")
    for words in (("status",), ("doctor",), ("history",), ("report", "--since", "1h")):
        assert "(leases)" not in lending(*words, code=None).out


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ("{ttl: 29s}", "`ttl` is shorter than 30s"),
        ("{ttl: 2h, max: 1h}", "`ttl` (2h) is longer than `max` (1h)"),
        ("{ttl: 5m}", "`overlap` is not shorter than `ttl`"),
        ("{limit: 0}", "limit"),
        ("{share: all}", "share"),
    ],
)
def test_terms_that_do_not_agree_are_refused(cli: Cli, terms: str, told: str):
    cli.edit("tags: [prod, billing]}", f"leases: {terms}}}")
    assert told in cli("check", code=2).err


def test_strategy_without_logins_of_its_own_lends_none(cli: Cli):
    cli.edit("options: {base: old}}", "options: {base: old}, leases: {}}")
    assert "leases require the strategy `new-user`" in cli("check", code=2).err


def test_policy_of_a_backend_covers_where_leases_are_staged(cli: Cli):
    cli.edit(
        "backends:\n",
        "backends:\n  vault: {type: vault, address: 'http://127.0.0.1:1', auth: {method: token,"
        " token: 'env:T'}}\n",
    )
    cli.edit(
        "app: {target: main, backend: local,", "app: {target: main, backend: vault, leases: {},"
    )
    assert "rotator-pending/leases/app/+" in cli("policy", "vault").out
    assert "leases/" not in cli("policy", "vault", "--for", "consumer").out


def test_stranded_lease_is_shown_by_status_and_doctor(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    assert lending.json("status").data["leases"]["live"] == 1
    doctor = lending("doctor", code=None)
    assert "only the daemon ends leases" in doctor.out
    assert "orphan" not in doctor.out
    lending.server.open_door = True
    refused = lending.json("lease", "revoke", lease["lease"], code=3)
    assert refused.errors[0]["kind"] == "unprovable"
    lending.server.open_door = False
    status = lending("status", code=3)
    assert "1 lease stranded. List the causes: rotator lease list" in status.out
    assert "stranded" in lending("lease", "list").out
    assert "is still accepted" in lending("lease", "list").out
    assert "is stranded" in lending("doctor", code=None).out
    lending("lease", "revoke", lease["lease"])
    assert lending.json("status").data["leases"]["stranded"] == 0


# -- what becomes of leases when their secret goes ---------------------------------------------------


def test_retire_refuses_while_leases_are_open(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    before = lending.server.target.state()
    for more in ((), ("--drop-login", "--remove-value", "--terminate")):
        refused = lending.json("retire", "app", *more, code=2).errors[0]
        assert "1 lease is open, held by web" in refused["what"]
        assert "rotator lease revoke --secret app --reason 'WHY'" in refused["hint"]
        assert refused["safety"] == "Nothing was changed."
    assert lending.server.target.state() == before
    lending("lease", "revoke", "--secret", "app", "--reason", "it is shut down")
    lending("retire", "app", "--drop-login")
    assert lease["login"] not in lending.server.target.accounts
    assert lending.server.target.usable() == set()


def test_retired_secret_lends_nothing(lending: Cli):
    lending("retire", "app")
    before = lending.server.target.state()
    refused = lending.json("lease", "issue", "app", "--for", "web", code=2).errors[0]
    assert "it is retired" in refused["what"]
    assert "rotator adopt app" in refused["hint"]
    assert lending.server.target.state() == before


def test_abandoned_secret_names_the_leased_logins_that_may_be_valid(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending.edit("  main: {plugin: paper", "  other: {plugin: paper")
    lending.write(lending.config.read_text().split("secrets:\n")[0] + "secrets: {}\n")
    refused = lending.json("retire", "app", code=2).errors[0]
    assert "rotator retire app --abandon --reason 'WHY'" in refused["hint"]
    told = lending("retire", "app", "--abandon", "--reason", "the server was scrapped")
    assert f"may be valid: {lease['login']}" in told.out
    (left,) = lending.json("lease", "list", "--all").data["leases"]
    assert left["state"] == "abandoned"
    # Nothing is tried again for ever.
    assert lending.json("status", code=0).data["leases"]["live"] == 0
    events = lending.json("audit", "show", "app").data["events"]
    assert events[-1]["data"]["logins_left"] == [lease["login"]]
    assert lending.json("audit", "verify").data["ok"]


def test_rename_refuses_while_leases_are_open(lending: Cli):
    lending("lease", "issue", "app", "--for", "web")
    lending.edit("  app: {target: main", "  shop: {path: app, options: {base: app}, target: main")
    refused = lending.json("rename", "app", "shop", code=2).errors[0]
    assert "1 lease is open, held by web" in refused["what"]
    assert "rotator lease revoke --secret app" in refused["hint"]
    # The entry has its new name already: its leases end all the same.
    lending("lease", "revoke", "--secret", "app")
    lending("rename", "app", "shop")
    login = lending.json("lease", "issue", "shop", "--for", "web").data["login"]
    lending("lease", "revoke", "--login", login)
    assert lending.json("audit", "verify").data["ok"]


def test_secret_whose_leases_were_removed_ends_them_and_renews_none(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending.edit(", leases: {ttl: 1h, max: 2h, limit: 2}", "")
    refused = lending.json("lease", "renew", lease["lease"], code=2).errors[0]
    assert "no `leases`" in refused["what"]
    assert "The lease still ends at" in refused["safety"]
    assert lending.json("status").data["leases"]["live"] == 1
    lending("lease", "revoke", lease["lease"])
    assert lease["login"] not in lending.server.target.accounts


def test_incident_says_that_leased_logins_are_others_than_the_leaked_one(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    dry = lending.json("incident", "open", "app", "--reason", "leak", "--dry-run").data
    assert dry["exposures"][0]["open_leases"] == 1
    told = lending("incident", "open", "app", "--mode", "kill", "--reason", "leak")
    assert "1 lease is open" in told.out
    assert "rotator lease revoke --secret app --reason 'WHY'" in told.out
    assert lease["login"] in lending.server.target.usable()
    lending("lease", "revoke", "--secret", "app")
    assert lease["login"] not in lending.server.target.accounts


def test_incident_with_the_login_of_a_lease_names_what_ends_it(lending: Cli):
    login = lending.json("lease", "issue", "app", "--for", "web").data["login"]
    refused = lending.json("incident", "open", "--login", login, "--reason", "leak", code=2)
    assert "login of a lease" in refused.errors[0]["what"]
    assert f"rotator lease revoke --login {login}" in refused.errors[0]["hint"]


def test_leases_of_a_parked_secret_are_issued_and_ended(lending: Cli):
    lending("park", "app", "--reason", "freeze")
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending("lease", "revoke", lease["lease"])
    assert lease["login"] not in lending.server.target.accounts


# -- wrong use -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("{id}", "--for", "bob"), "ids of leases cannot be combined"),
        (("{id}", "--all"), "ids of leases cannot be combined"),
        (("--secret", "apq"), "unknown secret `apq`"),
        (("{id}", "nothing"), "there is no lease 'nothing'"),
    ],
)
def test_revoke_that_names_no_lease_or_two_selections_ends_nothing(
    lending: Cli, words: tuple[str, ...], told: str
):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    chosen = [one.format(id=lease["lease"]) for one in words]
    assert told in lending.json("lease", "revoke", *chosen, code=2).errors[0]["what"]
    assert lease["login"] in lending.server.target.usable()


def test_format_that_cannot_hold_a_shared_login_does_not_end_it_for_the_others(lending: Cli):
    lending.edit("limit: 2}", "limit: 2, share: consumer}")
    lease = lending.json("lease", "issue", "app", "--for", "web", "--instance", "a").data
    share = ("lease", "issue", "app", "--for", "web", "--instance", "b")
    lending(*share, "--format", "url", code=2)
    assert lease["login"] in lending.server.target.usable()
    (left,) = lending.json("lease", "list").data["leases"]
    assert left["instances"] == ["a"]


def test_process_that_holds_no_lease_releases_none(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web", "--instance", "a").data
    told = lending("lease", "revoke", lease["lease"], "--instance", "b").out
    assert "is not held by 'b'" in told
    assert "a" in told
    assert lease["login"] in lending.server.target.usable()


def test_end_that_fails_says_that_the_login_may_be_valid(lending: Cli):
    lease = lending.json("lease", "issue", "app", "--for", "web").data
    lending.server.away = True
    failed = lending.json("lease", "revoke", lease["lease"], code=1).errors[0]
    assert f"Login {lease['login']!r} may still be valid" in failed["safety"]
    for more in ((), ("--format", "env")):
        refused = lending.json("lease", "issue", "app", "--for", "batch", *more, code=1).errors[0]
        assert "No lease was issued." in refused["safety"]
    ended = lending.json("lease", "renew", lease["lease"], code=2).errors[0]
    assert ended["kind"] == "ended"
    assert f"{lease['login']!r} may still be valid" in ended["safety"]
    lending.server.away = False
    lending("lease", "revoke", "--all")
    assert lending.json("status").data["leases"]["stranded"] == 0


def test_holder_with_control_characters_is_shown_without_them(lending: Cli):
    lending("lease", "issue", "app", "--for", "web\x1b[31m\nfoo")
    assert "\x1b" not in lending("lease", "list").out
    refused = lending("retire", "app", code=2).err
    assert "\x1b" not in refused
