"""SQL scripts: passwords of statements, options of foreign servers, connection strings."""

from __future__ import annotations

import re
from typing import Final

from rotator.find.fields import Group
from rotator.find.reading import NestedReader, Reading, connections, of_groups

_SET: Final = re.compile(
    r"^[ \t]*(?:\\set[ \t]+|set[ \t]+@)(?P<name>\w{1,80})[ \t]*(?::?=)?[ \t]*'(?P<value>[^'\n]{1,300})'",
    re.IGNORECASE | re.MULTILINE,
)


def sql(text: str, nested: NestedReader) -> Reading:
    """Read statements that set a password, and variables that hold one."""
    _ = nested
    group = Group()
    for found in _SET.finditer(text):
        group.add(found["name"], found["value"], *found.span("value"))
    reading = of_groups(text, [group])
    reading.matches += connections(text, 0, len(text))
    return reading
