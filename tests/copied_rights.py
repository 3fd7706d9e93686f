"""What holds for each plugin of ours that copies rights from the current login to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from rotator.api import Credential, Secret
from rotator.core.errors import RotatorError, StepError

if TYPE_CHECKING:
    from rotator.testing.rotation_suite import RotationHarness

# What somebody could write for a login's name: those that have all rights, and those that are no names.
_HOSTILE: Final = (
    *(
        "root",
        "postgres",
        "default",
        "admin_of_sandboxes",
        "admin-of-sandboxes",
        "mariadb.sys",
        "mysql.sys",
    ),
    *("pg_read_all_data", "pg_execute_server_program", "PUBLIC", "public", "current_user", "none"),
    *(
        "x' OR '1'='1",
        'x"; GRANT pg_monitor TO PUBLIC; --',
        "x`@`%",
        "x on nopass +@all ~*",
        "%",
        "_",
    ),
    *("", " ", "x\0y", "x\ny", "x\u202ey", "Ω" * 40, "x" * 300),
)


class CopiesRights:
    """Mixed into a contract suite."""

    def test_nothing_is_copied_from_a_login_of_somebody_else(self, place: RotationHarness) -> None:
        """A writer of the backend may name any login there, and must not get its rights."""
        theirs = place.foreign()
        before = place.state()
        new = place.propose(theirs)
        with pytest.raises(StepError):
            place.rotation.create(new, place.ctx(theirs))
        assert place.state() == before
        assert place.lets_in(theirs)

    def test_the_evidence_counts_the_rights(self, place: RotationHarness) -> None:
        """With a digest of them, where the next login is another one."""
        old = place.create()
        new = place.create(old)
        evidence = place.rotation.verify(new, place.ctx(old))
        if new.username != old.username:
            assert any("(sha256 " in one.detail for one in evidence.checks)

    def test_no_name_that_is_written_there_gets_anybody_a_right(
        self, place: RotationHarness
    ) -> None:
        """It is refused before anything is sent; or what is made is proven to be within its bounds."""
        before, usable = place.state(), place.usable()
        for name in _HOSTILE:
            evil = Credential(username=name, password=Secret("written-by-somebody-1+"))
            try:
                new = place.propose(evil)
                place.rotation.create(new, place.ctx(evil))
            except RotatorError:
                assert place.state() == before, name
                continue
            # Where there is no such login the next one is as the first one of all.
            evidence = place.rotation.verify(new, place.ctx(evil))
            assert any("(sha256 " in one.detail for one in evidence.checks), name
            place.rotation.withdraw(new, place.ctx())
            assert place.usable() == usable, name
