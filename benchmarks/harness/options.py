"""The options of a run of suites."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from benchmarks.contenders.base import Task


class Skipped(Exception):
    """A suite cannot be measured on this machine; its reason is printed and no result is written."""


@final
@dataclass(frozen=True)
class Options:
    """``quick`` only shows that a suite runs; ``peers`` is the folder that ``setup_peers`` filled."""

    quick: bool = False
    peers: Path | None = None
    weights: str = ""
    device: str = "cpu"
    threads: int = os.cpu_count() or 1

    def make_task(self, **changes: Any) -> Task:
        return Task(**({"weights": self.weights} if self.weights else {}), **changes)

    def choose_rounds(self, count: int) -> int:
        """The number of rounds: ``count``, or 2 in a quick run."""
        return 2 if self.quick else count


def describe_task(task: Task) -> dict[str, Any]:
    """A task as a result stores it, with the name of the weights' file instead of its path."""
    return asdict(task) | {"units": list(task.units), "weights": Path(task.weights).name or "random, seed 0"}
