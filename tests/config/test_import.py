"""The configuration costs nothing before a file is read."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_configuration_imports_neither_yaml_nor_pydantic():
    """Commands that read no file do not pay for what reads it."""
    code = "import sys, rotator.config; print(*sorted({'yaml', 'pydantic', 'psycopg'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == []
