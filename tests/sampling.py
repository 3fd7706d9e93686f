"""Large tables of cases: a part of them in `make test`, all of them in `make test-all`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def sampled(cases: Sequence[Any], *, of: int, first: int = 0) -> list[Any]:
    """Return all cases as pytest's parameters; all but each `of`th, counted from `first`, are slow."""
    return [case if number % of == first % of else _slow(case) for number, case in enumerate(cases)]


def sampled_pairs(rows: Iterable[Any], columns: Sequence[Any], *, of: int) -> list[Any]:
    """Return each row with each column; the rest is slow but for one pair in `of`, along diagonals.

    So `make test` has each row, and each column, where there are at least `of` columns and rows.
    """
    return [
        pytest.param(row, column, marks=[] if (across + down) % of == 0 else pytest.mark.slow)
        for down, row in enumerate(rows)
        for across, column in enumerate(columns)
    ]


def _slow(case: Any) -> Any:
    if hasattr(case, "marks"):
        return pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
    return pytest.param(case, marks=pytest.mark.slow)
