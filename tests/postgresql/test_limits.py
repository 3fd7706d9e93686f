"""Nothing is changed whose proof is known to fail; what cannot be proven is put back at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotator.api import Credential, Secret, StepError
from rotator.core.model import Outcome

if TYPE_CHECKING:
    from tests.postgresql.conftest import House

_FIRST = "there-before-us"


def _adopted(house: House, attributes: str = "", **options: object):
    """Return a single-user secret whose login is there, with these attributes."""
    house.sql(f"CREATE ROLE {house.name}_app LOGIN PASSWORD '{_FIRST}' {attributes}")
    secret = house.secret("single-user", username=f"{house.name}_app", **options)
    house.adopt(secret, f"{house.name}_app", _FIRST)
    return secret


def _password(house: House) -> str:
    return house.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{house.name}_app'")[0][0]


def test_a_used_up_limit_of_the_login_is_seen_before_anything_is_sent(house: House):
    """B08: the application's pool holds every connection; plan and doctor say the same."""
    secret = _adopted(house, "CONNECTION LIMIT 2")
    served = house.serves(secret)
    before = _password(house)
    with ExitStack() as pool:
        for _ in range(2):
            pool.enter_context(house.connect(served))
        result = house.engine.rotate(secret)
        assert result.error is not None
        assert "connection limit" in str(result.error)
        assert "CONNECTION LIMIT 3" in str(result.error)
        assert _password(house) == before
        found = secret.rotation.examine(served, house.engine.steps(secret).context(served))  # pyright: ignore[reportAttributeAccessIssue]
        assert any("connection limit" in one.message for one in found)
        # The password was accepted before the limit was looked at.
        assert house.engine.check(secret).accepted
    assert house.logs_in(served)
    assert house.engine.rotate(secret).outcome is Outcome.DONE


def test_a_used_up_limit_of_the_database_is_seen_before_anything_is_sent(house: House):
    """Also for a login that is to be made: it could not be proven."""
    secret = house.secret(group=house.group)
    before = house.roles()
    house.sql(f"ALTER DATABASE {house.dbname} CONNECTION LIMIT 0", dbname="postgres")
    result = house.engine.rotate(secret)
    assert result.error is not None
    assert f'ALTER DATABASE "{house.dbname}" CONNECTION LIMIT' in str(result.error)
    assert house.roles() == before


@pytest.mark.parametrize("trouble", ["probe", "privilege"])
def test_work_that_the_login_cannot_do_is_seen_before_its_password_changes(
    house: House, trouble: str
):
    """It is tried with the current password first: nobody is outside for it."""
    options = {
        "probe": {"probes": ("SELECT 1 FROM nowhere",)},
        "privilege": {"privileges": ("table public.orders: SELECT",)},
    }[trouble]
    secret = _adopted(house, **options)
    before = _password(house)
    result = house.engine.rotate(secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.kind == "refused"
    assert _password(house) == before


def test_a_password_that_cannot_be_proven_is_put_back_within_the_step(house: House):
    """The database closes right after the change: the current password is set again by `create` itself."""
    secret = _adopted(house)
    served = house.serves(secret)
    ctx = house.engine.steps(secret).context(served)
    ctx = replace(ctx, adopted=frozenset({served.username}))
    new = secret.rotation.propose(served, ctx)
    with pytest.MonkeyPatch.context() as patch:
        real = secret.rotation._require_able  # pyright: ignore[reportAttributeAccessIssue]

        def then_close(*given: object) -> None:
            real(*given)
            house.sql(f"REVOKE CONNECT ON DATABASE {house.dbname} FROM PUBLIC")

        patch.setattr(secret.rotation, "_require_able", then_close)
        with pytest.raises(StepError, match="may not connect"):
            secret.rotation.create(new, ctx)
    house.sql(f"GRANT CONNECT ON DATABASE {house.dbname} TO PUBLIC")
    assert house.logs_in(served)
    assert not house.logs_in(new)


def test_a_limit_that_is_used_up_in_between_proves_the_password(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    """It is looked at after authentication, so that refusal is an acceptance."""
    from rotations.postgresql import preflight

    monkeypatch.setattr(preflight, "require_ready", lambda *_, **__: None)
    secret = _adopted(house, "CONNECTION LIMIT 1")
    with house.connect(house.serves(secret)):
        assert house.engine.rotate(secret).outcome is Outcome.DONE
    assert house.logs_in(house.serves(secret))


def test_withdrawing_what_changed_nothing_writes_nothing(house: House):
    """The server keeps the very same verifier."""
    secret = _adopted(house)
    served = house.serves(secret)
    before = _password(house)
    ctx = house.engine.steps(secret).context(served)
    new = secret.rotation.propose(served, ctx)
    secret.rotation.withdraw(new, ctx)
    assert _password(house) == before


def test_an_expired_login_is_named_with_its_date(house: House):
    """B20: adopt and rotate say when it expired, and how to let it in again."""
    house.sql(f"CREATE ROLE {house.name}_app LOGIN PASSWORD '{_FIRST}' VALID UNTIL '2026-01-01'")
    secret = house.secret("single-user", username=f"{house.name}_app")
    with pytest.raises(Exception, match="expired on 2026-01-01") as caught:
        house.adopt(secret, f"{house.name}_app", _FIRST)
    assert "VALID UNTIL" in str(caught.value)


def test_the_groups_own_password_that_is_alive_again_is_found(house: House):
    """B15: a restored dump brings back what was revoked; doctor names it while another is served."""
    house.sql(f"ALTER ROLE {house.group} LOGIN PASSWORD '{_FIRST}'")
    secret = house.secret(group=house.group)
    house.adopt(secret, house.group, _FIRST)
    assert house.engine.rotate(secret).outcome is Outcome.DONE
    served = house.serves(secret)

    def found() -> list[str]:
        ctx = house.engine.steps(secret).context(served)
        findings = secret.rotation.examine(served, ctx)  # pyright: ignore[reportAttributeAccessIssue]
        return [one.remedy for one in findings if "can log in" in one.message]

    assert not found()
    house.sql(f"ALTER ROLE {house.group} LOGIN PASSWORD '{_FIRST}'")
    assert len(found()) == 1
    house.sql(found()[0])
    assert not house.logs_in(Credential(username=house.group, password=Secret(_FIRST)))
