"""What plugin and backend authors test with: contract suites, fakes, the crash harness, real servers.

    from rotator.testing import RotationSuite, Sandbox

The suites need pytest; nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.testing.backend_suite import BackendSuite
    from rotator.testing.crash import Effects, Sandbox, assert_survives_crashes
    from rotator.testing.delegated_suite import DelegatedSuite
    from rotator.testing.fakes import ManualClock, SeededEntropy, step_context
    from rotator.testing.rotation_suite import RotationSuite

__all__ = [
    "BackendSuite",
    "DelegatedSuite",
    "Effects",
    "ManualClock",
    "RotationSuite",
    "Sandbox",
    "SeededEntropy",
    "assert_survives_crashes",
    "step_context",
]

_HOMES: Final = {
    "BackendSuite": "backend_suite",
    "Effects": "crash",
    "DelegatedSuite": "delegated_suite",
    "ManualClock": "fakes",
    "RotationSuite": "rotation_suite",
    "SeededEntropy": "fakes",
    "Sandbox": "crash",
    "assert_survives_crashes": "crash",
    "step_context": "fakes",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
