"""The suites, one a module. ``run(options)`` measures and ``make_table(result)`` formats.

``run`` returns ``{"settings": {"rounds": ...}, "groups": {title: rounds.make_group(...)}}``. The command adds machine,
versions, commit and date when it writes the result. The first line of the module's docstring says what it measures. A
suite that cannot be measured raises ``Skipped``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

SUITES = (
    "step", "overhead", "peers", "time_to_activation", "tradeoff", "scaling", "memory", "latency", "gallery", "gpu",
)  # fmt: skip


def load_suite(name: str) -> Any:
    """The module of the suite ``name``."""
    if name not in SUITES:
        raise ValueError(f"no suite is called {name!r}; there are {', '.join(SUITES)}")
    return import_module(f"benchmarks.suites.{name}")


def read_title(name: str) -> str:
    """The first line of the suite's docstring: what it measures."""
    return str(load_suite(name).__doc__).splitlines()[0]
