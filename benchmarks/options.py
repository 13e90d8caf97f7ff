"""What a run of a suite is told."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from benchmarks.contenders.base import Task


class Skipped(Exception):
    """A suite cannot be measured here; the reason is printed, nothing is written."""


@final
@dataclass(frozen=True)
class Options:
    """``quick`` shows that a suite runs, no more; ``peers`` is the folder that setup_peers made."""

    quick: bool = False
    peers: Path | None = None
    weights: str = ""
    device: str = "cpu"
    threads: int = os.cpu_count() or 1

    def task(self, **changes: Any) -> Task:
        return Task(**({"weights": self.weights} if self.weights else {}), **changes)

    def rounds(self, count: int) -> int:
        """How many rounds; 2 when quick."""
        return 2 if self.quick else count


def told(task: Task) -> dict[str, Any]:
    """A task as a result tells it: the weights by their file's name."""
    return asdict(task) | {"units": list(task.units), "weights": Path(task.weights).name or "random, seed 0"}
