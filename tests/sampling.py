"""Large tables of cases: a part of them in `make test`, all of them in `make test-all`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence


def sampled(cases: Sequence[Any], *, of: int, first: int = 0) -> list[Any]:
    """Return all cases as pytest's parameters; all but each `of`th, counted from `first`, are slow."""
    return [case if number % of == first % of else _slow(case) for number, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    if hasattr(case, "marks"):
        return pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
