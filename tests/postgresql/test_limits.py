"""Nothing is changed whose proof is known to fail; what cannot be proven is put back at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotator.api import Credential, Secret, StepError
from rotator.core.model import Outcome

if TYPE_CHECKING:
    from tests.postgresql.conftest import Harness

_FIRST = "there-before-us"


def _adopted(harness: Harness, attributes: str = "", **options: object):
    """Return a single-user secret whose login is there, with these attributes."""
    harness.sql(f"CREATE ROLE {harness.name}_app LOGIN PASSWORD '{_FIRST}' {attributes}")
    secret = harness.secret("single-user", username=f"{harness.name}_app", **options)
    harness.adopt(secret, f"{harness.name}_app", _FIRST)
    return secret


def _password(harness: Harness) -> str:
    return harness.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{harness.name}_app'")[
        0
    ][0]


def test_a_used_up_limit_of_the_login_is_seen_before_anything_is_sent(harness: Harness):
    """B08: the application's pool holds every connection; plan and doctor say the same."""
    secret = _adopted(harness, "CONNECTION LIMIT 2")
    served = harness.serves(secret)
    before = _password(harness)
    with ExitStack() as pool:
        for _ in range(2):
            pool.enter_context(harness.connect(served))
        result = harness.engine.rotate(secret)
        assert result.error is not None
        assert "connection limit" in str(result.error)
        assert "CONNECTION LIMIT 3" in str(result.error)
        assert _password(harness) == before
        found = secret.rotation.examine(served, harness.engine.steps(secret).context(served))  # pyright: ignore[reportAttributeAccessIssue]
        assert any("connection limit" in one.message for one in found)
        # The password was accepted before the limit was looked at.
        assert harness.engine.check(secret).accepted
    assert harness.logs_in(served)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE


def test_a_used_up_limit_of_the_database_is_seen_before_anything_is_sent(harness: Harness):
    """Also for a login that is to be made: it could not be proven."""
    secret = harness.secret(group=harness.group)
    before = harness.roles()
    harness.sql(f"ALTER DATABASE {harness.dbname} CONNECTION LIMIT 0", dbname="postgres")
    result = harness.engine.rotate(secret)
    assert result.error is not None
    assert f'ALTER DATABASE "{harness.dbname}" CONNECTION LIMIT' in str(result.error)
    assert harness.roles() == before


@pytest.mark.parametrize("trouble", ["probe", "privilege"])
def test_work_that_the_login_cannot_do_is_seen_before_its_password_changes(
    harness: Harness, trouble: str
):
    """It is tried with the current password first: nobody is outside for it."""
    options = {
        "probe": {"probes": ("SELECT 1 FROM nowhere",)},
        "privilege": {"privileges": ("table public.orders: SELECT",)},
    }[trouble]
    secret = _adopted(harness, **options)
    before = _password(harness)
    result = harness.engine.rotate(secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.kind == "refused"
    assert _password(harness) == before


def test_a_password_that_cannot_be_proven_is_put_back_within_the_step(harness: Harness):
    """The database closes right after the change: the current password is set again by `create` itself."""
    secret = _adopted(harness)
    served = harness.serves(secret)
    ctx = harness.engine.steps(secret).context(served)
    ctx = replace(ctx, adopted=frozenset({served.username}))
    new = secret.rotation.propose(served, ctx)
    with pytest.MonkeyPatch.context() as patch:
        real = secret.rotation._require_able  # pyright: ignore[reportAttributeAccessIssue]

        def then_close(*given: object) -> None:
            real(*given)
            harness.sql(f"REVOKE CONNECT ON DATABASE {harness.dbname} FROM PUBLIC")

        patch.setattr(secret.rotation, "_require_able", then_close)
        with pytest.raises(StepError, match="lacks the right to connect"):
            secret.rotation.create(new, ctx)
    harness.sql(f"GRANT CONNECT ON DATABASE {harness.dbname} TO PUBLIC")
    assert harness.logs_in(served)
    assert not harness.logs_in(new)


def test_a_limit_that_is_used_up_in_between_proves_the_password(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    """It is looked at after authentication, so that refusal is an acceptance."""
    from rotations.postgresql import preflight

    monkeypatch.setattr(preflight, "require_ready", lambda *_, **__: None)
    secret = _adopted(harness, "CONNECTION LIMIT 1")
    with harness.connect(harness.serves(secret)):
        assert harness.engine.rotate(secret).outcome is Outcome.DONE
    assert harness.logs_in(harness.serves(secret))


def test_withdrawing_what_changed_nothing_writes_nothing(harness: Harness):
    """The server keeps the very same verifier."""
    secret = _adopted(harness)
    served = harness.serves(secret)
    before = _password(harness)
    ctx = harness.engine.steps(secret).context(served)
    new = secret.rotation.propose(served, ctx)
    secret.rotation.withdraw(new, ctx)
    assert _password(harness) == before


def test_a_password_that_somebody_set_by_hand_outlives_a_withdraw(harness: Harness):
    """It is not the new one, so this rotation has changed nothing."""
    secret = _adopted(harness)
    served = harness.serves(secret)
    ctx = harness.engine.steps(secret).context(served)
    new = secret.rotation.propose(served, ctx)
    harness.sql(f"ALTER ROLE {harness.name}_app PASSWORD 'set-by-hand'")
    secret.rotation.withdraw(new, ctx)
    by_hand = Credential(username=f"{harness.name}_app", password=Secret("set-by-hand"))
    assert harness.logs_in(by_hand)
    harness.sql(f"ALTER ROLE {harness.name}_app PASSWORD '{new.password.reveal()}'")
    secret.rotation.withdraw(new, ctx)
    assert harness.logs_in(served)


def test_an_expired_login_is_named_with_its_date(harness: Harness):
    """B20: adopt and rotate say when it expired, and how to let it in again."""
    harness.sql(
        f"CREATE ROLE {harness.name}_app LOGIN PASSWORD '{_FIRST}' VALID UNTIL '2026-01-01'"
    )
    secret = harness.secret("single-user", username=f"{harness.name}_app")
    with pytest.raises(Exception, match="expired on 2026-01-01") as caught:
        harness.adopt(secret, f"{harness.name}_app", _FIRST)
    assert "VALID UNTIL" in str(caught.value)


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users", "single-user"])
def test_an_undone_rotation_records_why_the_served_login_is_rejected(
    harness: Harness, strategy: str
):
    """Of the login that is served, not of the one that was withdrawn, and with the remedy."""
    login = f"{harness.name}_app"
    harness.sql(f"CREATE ROLE {login} LOGIN PASSWORD '{_FIRST}' IN ROLE {harness.group}")
    secret = harness.secret(
        strategy,
        **{
            "new-user": {"group": harness.group},
            "alternating-users": {"users": (login, f"{login}_b")},
            "single-user": {"username": login},
        }[strategy],
    )
    harness.adopt(secret, login, _FIRST)
    harness.sql(f"ALTER ROLE {login} VALID UNTIL '2020-01-01'")
    assert harness.engine.rotate(secret).outcome is Outcome.UNDONE
    record = harness.journal.secret(secret.name)
    assert record is not None
    assert record.refused is not None
    assert f"rejects login '{login}'" in record.refused
    assert "expired on 2020-01-01" in record.refused
    assert record.refused_hint == f"ALTER ROLE \"{login}\" VALID UNTIL 'infinity'"


def test_the_groups_own_password_that_is_alive_again_is_found(harness: Harness):
    """B15: a restored dump brings back what was revoked; doctor names it while another is served."""
    harness.sql(f"ALTER ROLE {harness.group} LOGIN PASSWORD '{_FIRST}'")
    secret = harness.secret(group=harness.group)
    harness.adopt(secret, harness.group, _FIRST)
    assert harness.engine.rotate(secret).outcome is Outcome.DONE
    served = harness.serves(secret)

    def found() -> list[str]:
        ctx = harness.engine.steps(secret).context(served)
        findings = secret.rotation.examine(served, ctx)  # pyright: ignore[reportAttributeAccessIssue]
        return [one.remedy for one in findings if "can log in" in one.message]

    assert not found()
    harness.sql(f"ALTER ROLE {harness.group} LOGIN PASSWORD '{_FIRST}'")
    assert len(found()) == 1
    harness.sql(found()[0])
    assert not harness.logs_in(Credential(username=harness.group, password=Secret(_FIRST)))
