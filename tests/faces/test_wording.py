"""Words that the command line and the pages share."""

from __future__ import annotations

import pytest

from rotator.faces.wording import hint_parts


@pytest.mark.parametrize(
    ("hint", "parts"),
    [
        ("rotator daemon", [("", "rotator daemon")]),
        (
            "Grant it. Then: rotator unpark a && rotator rotate a",
            [("Grant it. Then:", "rotator unpark a && rotator rotate a")],
        ),
        (
            "rotator retries it automatically. To retry now: rotator resume a",
            [("rotator retries it automatically. To retry now:", "rotator resume a")],
        ),
        (
            'As a superuser: ALTER ROLE "a" CREATEROLE',
            [("As a superuser:", 'ALTER ROLE "a" CREATEROLE')],
        ),
        ("Check the host.", [("Check the host.", "")]),
        ("rotator retries it.", [("rotator retries it.", "")]),
        ("See: rotator history a\nOr wait.", [("See:", "rotator history a"), ("Or wait.", "")]),
        ("rotator adopt a, or rotator rotate a", [("", "rotator adopt a, or rotator rotate a")]),
    ],
)
def test_what_can_be_pasted_is_told_from_the_sentence_before_it(
    hint: str, parts: list[tuple[str, str]]
):
    """A page shows the command alone in its box."""
    assert hint_parts(hint) == parts
