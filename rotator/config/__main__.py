"""`python -m rotator.config` prints the JSON Schema of `rotator.yaml`.

`python -m rotator.config docs/reference/configuration.md` writes the tables in that file anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rotator.config import schema, tables

if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.stdout.write(schema.text())
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(tables.fill(file.read_text(encoding="utf-8")), encoding="utf-8")
