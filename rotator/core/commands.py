"""Commands that hints name: each can be pasted as it is printed."""

from __future__ import annotations

from shlex import quote


def unpark_command(*names: str) -> str:
    """Return the command that lets automatic work on secrets go on."""
    return f"rotator unpark {' '.join(names)} --reason mended"


def leak_commands(subject: str) -> str:
    """Return the commands that decide about a leak that is only recorded, one on each line."""
    name = quote(subject)
    return (
        f"Replace the password: rotator incident resume {name} --mode move\n"
        f"Make it invalid first: rotator incident resume {name} --mode kill"
    )


def end_leases_command(name: str) -> str:
    """Return the command that ends all leases of a secret."""
    return f"rotator lease revoke --secret {quote(name)} --reason 'WHY'"


def close_command(name: str) -> str:
    """Return the command that ends the watch over a leaked password."""
    return f"rotator incident close {quote(name)} --reason 'WHY'"
