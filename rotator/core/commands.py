"""Commands that hints name: each can be pasted as it is printed."""

from __future__ import annotations


def unpark_command(*names: str) -> str:
    """Return the command that lets automatic work on secrets go on."""
    return f"rotator unpark {' '.join(names)} --reason mended"
