"""The mark of a version, as a server's list of sessions shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core.version_mark import (
    POSTGRESQL_BYTES,
    mark_in,
    version_mark,
    with_mark,
    without_mark,
)


@given(st.text(), st.text(min_size=1))
def test_a_mark_is_found_again_and_the_name_fits(application: str, version: str):
    application = application.encode(errors="ignore").decode()
    version = version.encode(errors="ignore").decode()
    name = with_mark(application, version)
    assert len(name.encode()) <= POSTGRESQL_BYTES
    assert mark_in(name) == version_mark(version)


@pytest.mark.parametrize(
    "name", ["", "web", "web r:12345", "web r:1234567", "r:zzzzzz", "bar:123456"]
)
def test_a_name_without_a_mark_has_none(name: str):
    assert mark_in(name) is None


def test_the_mark_is_at_the_end_of_the_name():
    assert with_mark("web", "7") == f"web r:{version_mark('7')}"
    assert with_mark("", "7") == f"r:{version_mark('7')}"


def test_a_mark_is_found_behind_the_dash_that_valkey_needs():
    """Names of its clients may hold no space: the client library sends a dash in its place."""
    name = with_mark("web", "7").replace(" ", "-")
    assert mark_in(f"{name} at 127.0.0.1:6379") == version_mark("7")
    assert without_mark(name) == "web"
