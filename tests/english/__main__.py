"""`python -m tests.english`: print idioms, and exit with 1 if there are any."""

from __future__ import annotations

import sys
from itertools import chain

from tests.english.words import helps, idioms, messages, pages

found = idioms(chain(helps(), messages(), pages()))
sys.stdout.writelines(f"{one}\n" for one in found)
sys.exit(1 if found else 0)
