"""featureviz on the standard workload, as ``fv.render`` would do it with its defaults."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

import featureviz as fv
from benchmarks.contenders.base import MEAN, STD, Contender, Task
from featureviz.transform import robust

CAPACITY = 4096  # steps; a row of scores each


def wrapped(task: Task) -> fv.TappedModel:
    """The task's network, on the GPU where the worker sees one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return fv.wrap(task.network(), mean=MEAN, std=STD, size=task.input).on(device)


def ascent(task: Task, model: fv.TappedModel | None = None, **options: Any) -> fv.Ascent:
    """What ``fv.render`` builds for the task, ready to step."""
    image = fv.FourierImage(len(task.units), task.size, seed=task.seed)
    given = {"transforms": robust(), "optimizer": fv.Adam(task.lr), "runtime": fv.Runtime(compile=False)} | options
    goal = fv.Channel(task.layer, list(task.units))
    return fv.Ascent(model or wrapped(task), goal, image, seed=task.seed, **{"steps": CAPACITY, **given})


class Ours(Contender):
    """What all of them do once ``ascent`` is built: abstract, for the final classes below."""

    ascent: fv.Ascent

    def step(self) -> None:
        self.ascent.step()

    def images(self) -> Tensor:
        return self.ascent.images()


@final
class Featureviz(Ours):
    """The library with its defaults."""

    notes: ClassVar[str] = "one batch, one view, network cut at the layer and folded, weights frozen"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ascent = ascent(task)


@final
class FeaturevizFast(Ours):
    """The library with its preset ``fv.fast()``."""

    notes: ClassVar[str] = "the same with what the preset adds"

    STEPS = 256  # that its schedule is laid out for; it is held until the last quarter of them

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        preset = fv.fast(self.STEPS)["optimizer"]
        share = CAPACITY / self.STEPS
        self.ascent = ascent(task, optimizer=fv.Scheduled(preset, lambda done: preset.schedule(min(1.0, share * done))))


@final
class FeaturevizCompiled(Ours):
    """The same with the network compiled; compiling is part of the first step that is not redirected."""

    notes: ClassVar[str] = "the same with the network compiled, as in large galleries"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ascent = ascent(task, runtime=fv.Runtime(compile=True))
