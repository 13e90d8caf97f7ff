"""A process that holds one contender and does what it is told, by lines of JSON: ``python -m benchmarks.worker``.

Requests come on standard input, answers leave on what was standard output when it started. From then on whatever a
tool prints goes to standard error, where it can do no harm. Nothing heavy is imported before it is asked for.

    {"do": "import", "module": "lucent"}                   -> {"seconds": 1.2}
    {"do": "build", "contender": NAME, "task": {...}}      -> {"seconds": ..., "import": ...}
    {"do": "steps", "count": 4}                            -> {"seconds": ...}, the device waited for
    {"do": "images", "path": "x.npy"}                      -> {}
    {"do": "memory"}                                       -> {"peak": bytes, "now": bytes}
    {"do": "quit"}                                         -> {}

An error answers {"error": text, "kind": its class}; the worker then goes on listening.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from benchmarks.contenders.base import Contender


@final
class Worker:
    """One contender, and what can be asked of it."""

    def __init__(self) -> None:
        self.contender: Contender | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = {"import": self.load, "build": self.build, "steps": self.steps, "images": self.images}
        does: Callable[..., dict[str, Any]] = (asked | {"memory": self.memory, "quit": dict})[request.pop("do")]
        return does(**request)

    def load(self, module: str) -> dict[str, Any]:
        started = time.perf_counter()
        import_module(module)
        return {"seconds": time.perf_counter() - started}

    def build(self, contender: str, task: dict[str, Any], threads: int = 1) -> dict[str, Any]:
        started = time.perf_counter()
        from benchmarks import contenders

        made = contenders.contender(contender)
        import torch
        import torchvision  # noqa: F401 - the network's; some tools import it themselves, and none shall pay for it

        from benchmarks.contenders.base import Task

        torch.set_num_threads(threads)
        imported = time.perf_counter() - started
        self.contender = None  # an earlier one gives its memory back first
        started = time.perf_counter()
        self.contender = made(Task(**{**task, "units": tuple(task["units"])}))
        return {"seconds": time.perf_counter() - started, "import": imported}

    def steps(self, count: int) -> dict[str, Any]:
        from benchmarks.rounds import clock

        return {"seconds": clock(self._built().step, count)}

    def images(self, path: str) -> dict[str, Any]:
        import numpy as np

        np.save(path, self._built().images().numpy())
        return {}

    def memory(self) -> dict[str, Any]:
        """In bytes. On Linux from /proc: what getrusage calls the peak includes that of the process that forked it."""
        status = Path("/proc/self/status")
        if not status.is_file():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            return {"peak": peak, "now": peak}
        told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return {name: 1024 * int(told[key].split()[0]) for name, key in (("peak", "VmHWM"), ("now", "VmRSS"))}

    def _built(self) -> Contender:
        if self.contender is None:
            raise RuntimeError("nothing has been built yet")
        return self.contender


def main() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the tools', of old names
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        last = request["do"] == "quit"
        try:
            answer = worker.answer(request)
        except Exception as error:  # the tool's own, whatever it is; the parent decides what to do about it
            answer = {"error": str(error), "kind": type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)
        if last:
            return


if __name__ == "__main__":
    main()
