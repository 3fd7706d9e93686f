"""The uses that `make lint` checks are of all that `rotator.api` offers."""

from __future__ import annotations

import re
from pathlib import Path

from rotator import api


def test_each_public_name_of_the_api_is_used():
    """A new one needs a line that a type checker accepts, or must not accept."""
    text = Path(__file__).with_name("api.py").read_text()
    used = set(re.findall(r"\bapi\.(\w+)", text))
    imported = re.search(r"^from rotator\.api import (.+)$", text, re.MULTILINE)
    assert imported is not None
    assert used | set(imported[1].split(", ")) == set(api.__all__)
