"""What holds for each plugin of ours that copies rights from the current login to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.api import StepError

if TYPE_CHECKING:
    from rotator.testing.rotation_suite import Place


class CopiesRights:
    """Mixed into a contract suite."""

    def test_nothing_is_copied_from_a_login_of_somebody_else(self, place: Place) -> None:
        """Whoever may write the backend names any login there, and would get what that one may do."""
        theirs = place.foreign()
        before = place.state()
        new = place.propose(theirs)
        with pytest.raises(StepError):
            place.rotation.create(new, place.ctx(theirs))
        assert place.state() == before
        assert place.lets_in(theirs)

    def test_the_evidence_counts_the_rights(self, place: Place) -> None:
        """With a digest of them, where the next login is another one."""
        old = place.create()
        new = place.create(old)
        evidence = place.rotation.verify(new, place.ctx(old))
        if new.username != old.username:
            assert any("(sha256 " in one.detail for one in evidence.checks)
