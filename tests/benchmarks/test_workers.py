"""The worker's protocol, with a dummy contender in a process of its own; and the race between several."""

import sys

import pytest
import torch

from benchmarks.contenders import CONTENDERS, contender
from benchmarks.contenders.base import Contender, Task, Unsupported
from benchmarks.options import Options
from benchmarks.readme import ROOT
from benchmarks.remote import Remote, WorkerError, race, started

HERE = Options(threads=1)


class Counter(Contender):
    """Paints its steps grey; prints where it should not. Layer names make it fail."""

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


def test_a_worker_does_what_it_is_told() -> None:
    """One process all along: stray prints do no harm, an error is told and survived."""
    with Remote("counter", HERE) as worker:
        with pytest.raises(WorkerError, match=r"counter, steps: RuntimeError: nothing has been built yet"):
            worker.steps(1)
        built = worker.build(Task(units=(3, 4)), COUNTER)
        assert built["seconds"] > 0
        assert built["import"] > 0
        assert worker.steps(3) > 0
        assert torch.equal(worker.images(), torch.full((2, 3, 2, 2), 0.3))
        assert 0 < worker.memory()["now"] <= worker.memory()["peak"]
        with pytest.raises(Unsupported, match="it never learnt that"):
            worker.build(Task(layer="absent"), COUNTER)
        with pytest.raises(Unsupported, match="a_module_that_is_nowhere"):
            worker.build(Task(layer="not installed"), COUNTER)
        worker.build(Task(layer="broken"), COUNTER)
        with pytest.raises(WorkerError, match=r"ValueError: it broke\n(.|\n)*a stray line"):
            worker.steps(1)
        assert worker.steps(0) >= 0  # goes on listening
        worker.build(Task(layer="dying"), COUNTER)
        with pytest.raises(WorkerError, match=r"counter died at 'steps', exit 7"):
            worker.steps(1)


def test_a_worker_s_peak_is_its_own() -> None:
    """getrusage would count what the parent held when it forked."""
    ballast = torch.ones(400 * 2**18)  # 400 MiB
    with Remote("counter", HERE) as worker:
        assert worker.memory()["peak"] < 300 * 2**20
    assert ballast[-1] == 1


def test_a_race_tells_who_could_not() -> None:
    taken = race({"cannot": ("nowhere:Nobody", Task()), "runs": (COUNTER, Task())}, HERE, rounds=2, images=8)
    assert list(taken) == ["cannot", "runs"]
    assert taken["cannot"] == "No module named 'nowhere'"
    assert isinstance(taken["runs"], list)
    assert len(taken["runs"]) == 2
    assert min(taken["runs"]) > 0


def test_a_failure_is_a_reason_for_others_and_an_error_for_us() -> None:
    def fails(name: str) -> Remote:
        worker = object.__new__(Remote)
        worker.name = name
        worker.build = lambda task, contender="": (_ for _ in ()).throw(WorkerError(f"{name}: broke\nlog"))  # pyright: ignore
        return worker

    assert started(fails("lucent"), Task()) == "fails: lucent: broke"
    with pytest.raises(WorkerError, match="featureviz fast: broke"):
        started(fails("featureviz fast"), Task())


def test_featureviz_climbs() -> None:
    made = contender("featureviz")(Task(layer="features.2", units=(0, 1), size=32, input=64, weights=""))
    before = made.images()
    made.step()
    after = made.images()
    assert after.shape == (2, 3, 32, 32)
    assert 0 <= float(after.min()) < float(after.max()) <= 1
    assert not torch.equal(before, after)


def test_every_contender_has_a_place() -> None:
    for place in CONTENDERS.values():
        module, _, name = place.partition(":")
        assert name
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
