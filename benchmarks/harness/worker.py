"""A process that holds one contender and answers requests, one line of JSON each.

``python -m benchmarks.harness.worker`` reads requests from standard input and writes answers to standard output.
Whatever a tool prints goes to standard error. Heavy packages are imported when a request needs them, so that their
import can be timed.

    {"do": "import", "module": "lucent"}                   -> {"seconds": 1.2}
    {"do": "build", "contender": NAME, "task": {...}}      -> {"seconds": ..., "import": ...}
    {"do": "steps", "count": 4}                            -> {"seconds": ...}, the device synchronised
    {"do": "images", "path": "x.npy"}                      -> {}
    {"do": "memory"}                                       -> {"peak": bytes, "now": bytes}
    {"do": "quit"}                                         -> {}

An error is answered by {"error": text, "kind": its class}; the worker then waits for the next request.
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
from typing import Any, final


@final
class Worker:
    """One contender and the requests that it answers."""

    def __init__(self) -> None:
        self.contender: Any = None  # benchmarks.contenders.base.Contender; importing it here would import torch

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        handlers: dict[str, Callable[..., dict[str, Any]]] = {
            "import": self.import_module, "build": self.build, "steps": self.run_steps, "images": self.save_images,
            "memory": self.read_memory, "quit": dict,
        }  # fmt: skip
        return handlers[request.pop("do")](**request)

    def import_module(self, module: str) -> dict[str, Any]:
        start = time.perf_counter()
        import_module(module)
        return {"seconds": time.perf_counter() - start}

    def build(self, contender: str, task: dict[str, Any], threads: int = 1) -> dict[str, Any]:
        start = time.perf_counter()
        from benchmarks.contenders import load_contender

        build = load_contender(contender)
        import torch
        import torchvision  # noqa: F401 - the network needs it, some tools import it: no tool's time shall include it

        from benchmarks.contenders.base import Task

        torch.set_num_threads(threads)
        imported = time.perf_counter() - start
        self.contender = None  # frees the memory of the contender before
        start = time.perf_counter()
        self.contender = build(Task(**{**task, "units": tuple(task["units"])}))
        return {"seconds": time.perf_counter() - start, "import": imported}

    def run_steps(self, count: int) -> dict[str, Any]:
        from benchmarks.harness.rounds import time_steps

        return {"seconds": time_steps(self._require_contender().step, count)}

    def save_images(self, path: str) -> dict[str, Any]:
        import numpy as np

        np.save(path, self._require_contender().images().numpy())
        return {}

    def read_memory(self) -> dict[str, Any]:
        """Bytes. On Linux from /proc, because the peak of getrusage includes the memory of the parent process."""
        status = Path("/proc/self/status")
        if not status.is_file():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            return {"peak": peak, "now": peak}
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return {name: 1024 * int(fields[key].split()[0]) for name, key in (("peak", "VmHWM"), ("now", "VmRSS"))}

    def _require_contender(self) -> Any:
        if self.contender is None:
            raise RuntimeError("nothing has been built yet")
        return self.contender


def main() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the tools warn about old names
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        is_last = request["do"] == "quit"
        try:
            answer = worker.answer(request)
        except Exception as error:  # a tool may raise anything; the parent process decides
            answer = {"error": str(error), "kind": type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)
        if is_last:
            return


if __name__ == "__main__":
    main()
