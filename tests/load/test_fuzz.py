"""A small sample of `make fuzz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.load.fuzz import bugs, parsers

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLE = {"config": 40, "export": 300, "lambda": 2_000, "valkey": 2_000}


@pytest.mark.parametrize("name", ["config", "vault", "aws", "lambda", "valkey", "log", "export"])
def test_spoilt_data_ends_in_a_value_or_in_one_of_our_errors(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same inputs in every run; `make fuzz` tries others."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert bugs(name, parsers(tmp_path)[name], 1, _SAMPLE.get(name, 700)) == []
