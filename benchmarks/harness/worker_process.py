"""Starts workers (``benchmarks.harness.worker``), sends them requests, and measures several contenders in turns."""

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
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Seconds, interleave

WARMUP, WARMUP_FEATUREVIZ = 2, 20  # steps; the first 16 of featureviz redirect gradients and take longer
ROOT = Path(__file__).parents[2]
REASONS = ("Unsupported", "ModuleNotFoundError", "ImportError")  # errors that a table shows as a reason


class WorkerError(RuntimeError):
    """An error in a worker; its text ends with the last lines that the worker printed."""


@final
class WorkerProcess:
    """One contender in its own process, with the threads and devices of ``options``; use it in a ``with`` block."""

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "stderr"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.harness.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, cwd=ROOT, env=_make_environment(name, options, Path(self._folder.name)),
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def import_module(self, module: str) -> float:
        """Import ``module``; returns the seconds."""
        return self._ask("import", module=module)["seconds"]

    def build(self, task: Task, contender: str = "") -> dict[str, float]:
        """Build the contender with its network: ``{"seconds", "import"}``; importing the tool is not in "seconds"."""
        fields = vars(task) | {"units": list(task.units)}
        return self._ask("build", contender=contender or self.name, task=fields, threads=self.options.threads)

    def run_steps(self, count: int) -> float:
        """Run ``count`` steps; returns the seconds by the worker's own clock."""
        return self._ask("steps", count=count)["seconds"]

    def read_images(self) -> Tensor:
        """The images at this step, ``[N,3,H,W]``."""
        path = Path(self._folder.name) / "images.npy"
        self._ask("images", path=str(path))
        return torch.from_numpy(np.load(path))

    def read_memory(self) -> dict[str, int]:
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
            raise WorkerError(f"{self.name} died at {do!r}, exit {self._process.wait()}:\n{self._read_log_end()}")
        answer = json.loads(line)
        if answer.get("kind") in REASONS:
            raise Unsupported(answer["error"])
        if "error" in answer:
            raise WorkerError(f"{self.name}, {do}: {answer['kind']}: {answer['error']}\n{self._read_log_end()}")
        return answer

    def _read_log_end(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def _make_environment(name: str, options: Options, folder: Path) -> dict[str, str]:
    peers = [] if options.peers is None or is_featureviz(name) else [str(options.peers.resolve())]
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    changes = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *peers, *inherited]), "OMP_NUM_THREADS": str(options.threads),
        "MPLBACKEND": "agg", "TORCHINDUCTOR_CACHE_DIR": str(folder / "kernels"),  # no kernels of an earlier run
    }  # fmt: skip
    if options.device == "cpu":
        changes["CUDA_VISIBLE_DEVICES"] = ""  # some tools use a GPU whenever there is one
    # An installed tool has its bytecode. featureviz runs from its sources and must keep the bytecode it compiles.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | changes


def is_featureviz(name: str) -> bool:
    """Whether a contender is featureviz itself, in any of its settings."""
    return name.startswith("featureviz")


def prepare_contender(worker: WorkerProcess, task: Task) -> str | None:
    """Build the contender and run its warm-up; returns the reason if it cannot. An error of featureviz is raised."""
    try:
        worker.build(task)
        worker.run_steps(WARMUP_FEATUREVIZ if is_featureviz(worker.name) else WARMUP)
    except (Unsupported, WorkerError) as error:
        return explain_absence(worker.name, error)
    return None


def explain_absence(name: str, error: Unsupported | WorkerError) -> str:
    """The reason that a table shows instead of a figure; an error of featureviz is raised again."""
    if isinstance(error, Unsupported):
        return str(error)
    if is_featureviz(name):
        raise error
    return f"fails: {str(error).splitlines()[0]}"


def measure_contenders(
    entries: Mapping[str, tuple[str, Task]], options: Options, *, rounds: int, images: int = 32
) -> dict[str, Seconds | str]:
    """Milliseconds per image-step for each label's (contender, task), one value a round, or the reason for none.

    Each contender has its own process, and only one of them works at a time. In a round each runs as many steps as
    move about ``images`` images. The warm-up before the first round is not measured.
    """
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        absent: dict[str, str] = {}
        for label, (name, task) in entries.items():
            worker = stack.enter_context(WorkerProcess(name, options))
            reason = prepare_contender(worker, task)
            if reason is None:
                workers[label] = worker
            else:
                absent[label] = reason

        def measure(label: str) -> float:
            n = len(entries[label][1].units)
            steps = max(1, images // n)
            return 1000 * workers[label].run_steps(steps) / (steps * n)

        sides = {label: lambda label=label: measure(label) for label in workers}
        times: dict[str, Seconds | str] = {**interleave(sides, rounds), **absent}
    return {label: times[label] for label in entries}
