"""The suites, each a module: its first line says what it measures, ``run(options)`` measures, ``table(result)`` tells.

``run`` returns ``{"settings": {"rounds": ...}, "groups": {title: rounds.group(...)}}``; what is common to all, machine,
versions, commit and date, is added where it is written. A suite that cannot be measured raises
``Skipped``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

SUITES = (
    "step", "overhead", "peers", "time_to_activation", "tradeoff", "scaling", "memory", "latency", "gallery", "gpu",
)  # fmt: skip


def suite(name: str) -> Any:
    """The module of that suite."""
    if name not in SUITES:
        raise ValueError(f"no suite is called {name!r}; there are {', '.join(SUITES)}")
    return import_module(f"benchmarks.suites.{name}")


def title(name: str) -> str:
    """What it measures, in a line."""
    return str(suite(name).__doc__).splitlines()[0]
