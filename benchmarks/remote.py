"""The other end of ``benchmarks.worker``: a contender in a process of its own, and races between several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders.base import Task, Unsupported
from benchmarks.options import Options
from benchmarks.rounds import Seconds, interleaved

WARMUP, WARMUP_OURS = 2, 20  # steps; featureviz' first 16 redirect gradients and take longer
ROOT = Path(__file__).parents[1]
ABSENT = ("Unsupported", "ModuleNotFoundError", "ImportError")  # not an error, but a reason for the table


class WorkerError(RuntimeError):
    """What went wrong in a worker, with the end of what it printed."""


@final
class Remote:
    """One contender in a process of its own, with the threads and devices of ``options``; a context."""

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "stderr"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, cwd=ROOT, env=_environment(name, options, Path(self._folder.name)),
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def load(self, module: str) -> float:
        """Seconds of importing ``module``."""
        return self._ask("import", module=module)["seconds"]

    def build(self, task: Task, contender: str = "") -> dict[str, float]:
        """``{"seconds", "import"}`` of building it; the network included, its tool's import apart."""
        given = vars(task) | {"units": list(task.units)}
        return self._ask("build", contender=contender or self.name, task=given, threads=self.options.threads)

    def steps(self, count: int) -> float:
        """Seconds of ``count`` steps, by the worker's own clock."""
        return self._ask("steps", count=count)["seconds"]

    def images(self) -> Tensor:
        """``[N,3,H,W]`` as they are now."""
        path = Path(self._folder.name) / "images.npy"
        self._ask("images", path=str(path))
        return torch.from_numpy(np.load(path))

    def memory(self) -> dict[str, int]:
        """``{"peak", "now"}``: resident bytes."""
        return self._ask("memory")

    def _ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.name} died at {do!r}, exit {self._process.wait()}:\n{self._tail()}")
        answer = json.loads(line)
        if answer.get("kind") in ABSENT:
            raise Unsupported(answer["error"])
        if "error" in answer:
            raise WorkerError(f"{self.name}, {do}: {answer['kind']}: {answer['error']}\n{self._tail()}")
        return answer

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def _environment(name: str, options: Options, folder: Path) -> dict[str, str]:
    peers = [] if options.peers is None or ours(name) else [str(options.peers.resolve())]
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    given = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *peers, *inherited]), "OMP_NUM_THREADS": str(options.threads),
        "MPLBACKEND": "agg", "TORCHINDUCTOR_CACHE_DIR": str(folder / "kernels"),  # none from an earlier run
    }  # fmt: skip
    if options.device == "cpu":
        given["CUDA_VISIBLE_DEVICES"] = ""  # tools that take a GPU when they see one see none
    # As installed, each tool has its bytecode; ours, run from its sources, keeps what the first import compiles.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | given


def ours(name: str) -> bool:
    return name.startswith("featureviz")


def started(worker: Remote, task: Task) -> str | None:
    """Build and warm up; why that is not possible, if it is not. What fails in featureviz itself ends the run."""
    try:
        worker.build(task)
        worker.steps(WARMUP_OURS if ours(worker.name) else WARMUP)
    except (Unsupported, WorkerError) as error:
        return why(worker.name, error)
    return None


def why(name: str, error: Unsupported | WorkerError) -> str:
    """What a table says in the place of a figure; an error of featureviz itself is raised."""
    if isinstance(error, Unsupported):
        return str(error)
    if ours(name):
        raise error
    return f"fails: {str(error).splitlines()[0]}"


def race(
    entries: Mapping[str, tuple[str, Task]], options: Options, *, rounds: int, images: int = 32
) -> dict[str, Seconds | str]:
    """Milliseconds per image-step of (contender, task) by label, one a round, or why there are none.

    Each has a process of its own, one of which works at a time. In a round each does so many steps that about
    ``images`` images move; steps before the first are not counted.
    """
    with ExitStack() as stack:
        ready: dict[str, Remote] = {}
        absent: dict[str, str] = {}
        for label, (name, task) in entries.items():
            worker = stack.enter_context(Remote(name, options))
            reason = started(worker, task)
            if reason is None:
                ready[label] = worker
            else:
                absent[label] = reason

        def side(label: str) -> float:
            n = len(entries[label][1].units)
            steps = max(1, images // n)
            return 1000 * ready[label].steps(steps) / (steps * n)

        sides = {label: lambda label=label: side(label) for label in ready}
        taken: dict[str, Seconds | str] = {**interleaved(sides, rounds), **absent}
    return {label: taken[label] for label in entries}
