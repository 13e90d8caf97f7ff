"""The worker's protocol with a dummy contender in a separate process, and the measurement of several."""

import sys

import pytest
import torch

from benchmarks.contenders import CONTENDERS, load_contender
from benchmarks.contenders.base import Contender, Task, Unsupported
from benchmarks.harness.options import Options
from benchmarks.harness.worker_process import WorkerError, WorkerProcess, measure_contenders, prepare_contender
from benchmarks.report.pages import ROOT

HERE = Options(threads=1)


class Counter(Contender):
    """Its images show the number of steps as grey. It prints to standard output, and some layer names make it fail."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        print("a stray line\n{}")
        if task.layer == "absent":
            raise Unsupported("it never learnt that")
        if task.layer == "not installed":
            import a_module_that_is_nowhere  # noqa: F401  # pyright: ignore
        self.count = 0

    def step(self) -> None:
        print("another", file=sys.__stdout__, flush=True)
        if self.task.layer == "broken":
            raise ValueError("it broke")
        if self.task.layer == "dying":
            import os

            os._exit(7)
        self.count += 1

    def images(self) -> torch.Tensor:
        return torch.full((len(self.task.units), 3, 2, 2), self.count / 10)


COUNTER = f"{__name__}:Counter"


def test_a_worker_answers_requests() -> None:
    """One process answers all requests: prints do not disturb it, an error is reported and the process continues."""
    with WorkerProcess("counter", HERE) as worker:
        with pytest.raises(WorkerError, match=r"counter, steps: RuntimeError: nothing has been built yet"):
            worker.run_steps(1)
        built = worker.build(Task(units=(3, 4)), COUNTER)
        assert built["seconds"] > 0
        assert built["import"] > 0
        assert worker.run_steps(3) > 0
        assert torch.equal(worker.read_images(), torch.full((2, 3, 2, 2), 0.3))
        assert 0 < worker.read_memory()["now"] <= worker.read_memory()["peak"]
        with pytest.raises(Unsupported, match="it never learnt that"):
            worker.build(Task(layer="absent"), COUNTER)
        with pytest.raises(Unsupported, match="a_module_that_is_nowhere"):
            worker.build(Task(layer="not installed"), COUNTER)
        worker.build(Task(layer="broken"), COUNTER)
        with pytest.raises(WorkerError, match=r"ValueError: it broke\n(.|\n)*a stray line"):
            worker.run_steps(1)
        assert worker.run_steps(0) >= 0  # the worker still answers
        worker.build(Task(layer="dying"), COUNTER)
        with pytest.raises(WorkerError, match=r"counter died at 'steps', exit 7"):
            worker.run_steps(1)


def test_a_worker_s_peak_is_its_own() -> None:
    """getrusage would include the parent's memory at the fork."""
    ballast = torch.ones(400 * 2**18)  # 400 MiB
    with WorkerProcess("counter", HERE) as worker:
        assert worker.read_memory()["peak"] < 300 * 2**20
    assert ballast[-1] == 1


def test_a_measurement_gives_the_reason_of_who_cannot_run() -> None:
    times = measure_contenders(
        {"cannot": ("nowhere:Nobody", Task()), "runs": (COUNTER, Task())}, HERE, rounds=2, images=8
    )
    assert list(times) == ["cannot", "runs"]
    assert times["cannot"] == "No module named 'nowhere'"
    assert isinstance(times["runs"], list)
    assert len(times["runs"]) == 2
    assert min(times["runs"]) > 0


def test_a_failure_is_a_reason_for_peers_and_an_error_for_featureviz() -> None:
    def fails(name: str) -> WorkerProcess:
        worker = object.__new__(WorkerProcess)
        worker.name = name
        worker.build = lambda task, contender="": (_ for _ in ()).throw(WorkerError(f"{name}: broke\nlog"))  # pyright: ignore
        return worker

    assert prepare_contender(fails("lucent"), Task()) == "fails: lucent: broke"
    with pytest.raises(WorkerError, match="featureviz fast: broke"):
        prepare_contender(fails("featureviz fast"), Task())


def test_a_step_of_featureviz_moves_the_images() -> None:
    tool = load_contender("featureviz")(Task(layer="features.2", units=(0, 1), size=32, input=64, weights=""))
    before = tool.images()
    tool.step()
    after = tool.images()
    assert after.shape == (2, 3, 32, 32)
    assert 0 <= float(after.min()) < float(after.max()) <= 1
    assert not torch.equal(before, after)


def test_the_module_of_every_contender_exists() -> None:
    for place in CONTENDERS.values():
        module, _, name = place.partition(":")
        assert name
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
