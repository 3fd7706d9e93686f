"""The proof that the next login can do no more: at any depth, by each option, also where there is no old one."""

from __future__ import annotations

import json

import pytest

from rotations.postgresql import effective_rights
from rotator.core.model import Kind, Outcome, Step
from tests.postgresql.conftest import Harness


def test_a_waiting_login_with_more_than_the_group_is_not_published(harness: Harness):
    """Before the first rotation there is no other login to compare it with."""
    first, dba = f"{harness.group}_a", f"dba_{harness.group}"
    mark = json.dumps({"secret": "pair", "rotation": "an-earlier-one"})
    harness.sql(f"CREATE ROLE {dba} NOLOGIN; CREATE ROLE {first}_deep NOLOGIN IN ROLE {dba}")
    harness.sql(f"CREATE ROLE {first} NOLOGIN IN ROLE {first}_deep")
    harness.sql(f"COMMENT ON ROLE {first} IS 'managed by rotator {mark}'")
    users = (first, f"{harness.group}_b")
    secret = harness.secret("alternating-users", name="pair", users=users, group=harness.group)
    result = harness.engine.rotate(secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert f"rights of {dba}" in result.error.what
    assert harness.backend.current(secret.path) is None
    assert harness.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", first) == [(False,)]


def test_the_evidence_is_in_the_journal(harness: Harness):
    """How many rights there are, and a digest of them: the same for each login of the secret."""
    secret = harness.secret("new-user", group=harness.group)
    details: list[str] = []
    for _ in range(3):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
        (checks,) = (
            event.data["checks"]
            for event in harness.journal.history(harness.journal.rotations(secret.name, 1)[0].id)
            if event.kind is Kind.FINISHED and event.step is Step.VERIFY
        )
        assert isinstance(checks, list)
        details += [
            one["detail"] for one in checks if isinstance(one, dict) and one["name"] == "rights"
        ]  # type: ignore[misc] # a JSON text
    assert "1 may act as, 1 rights of (sha256 " in details[0]
    assert [one.partition(";")[0] for one in details] == [details[0].partition(";")[0]] * 3
    assert repr(harness.group) in details[0]


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ("", {"rights of", "may act as"}),
        ("WITH INHERIT FALSE", {"may act as"}),
        ("WITH SET FALSE", {"rights of"}),
        ("WITH INHERIT FALSE, SET FALSE", set()),
        ("WITH ADMIN TRUE", {"rights of", "may act as", "may grant"}),
    ],
)
def test_what_is_reached_follows_the_options_of_each_grant(
    harness: Harness, granted: str, expected: set[str]
):
    """Through a role between, which is reached plainly."""
    login, between, far = (f"{harness.group}_{one}" for one in ("l", "m", "n"))
    harness.sql(f"CREATE ROLE {far}; CREATE ROLE {between}; CREATE ROLE {login} IN ROLE {between}")
    harness.sql(f"GRANT {far} TO {between} {granted}")
    with harness.server.connect(harness.dbname) as admin:
        found = effective_rights.read(admin, [login])[login]  # type: ignore[arg-type] # of another kind
    assert {kind for kind, role in found if role == far} == expected
    assert {kind for kind, role in found if role == between} == {"rights of", "may act as"}
