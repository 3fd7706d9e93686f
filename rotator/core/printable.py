"""Text of others, made harmless for a screen: a terminal obeys what it is sent."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return the text with every character that prints nothing as its escape: `\x1b`, `\u202e`.

    Those are the control characters, which set a terminal's title or clear its screen, the marks that
    turn the direction of writing round, zero-width characters and lone surrogates. `lines`: line ends
    stay, as in a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or (lines and one == "\n") else _escape(one) for one in text
    )


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()
